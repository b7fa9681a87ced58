"""A message that the sender registers has the name under which reports speak of it."""

import pytest

from ledger.domain.observation import Observation
from ledger.domain.status import Channel
from ledger.providers import PROVIDERS
from ledger.wire.contract import Account
from tests.providers.requests import an_account
from tests.providers.webhook_cases import CASES, all_recorded, as_webhook, recorded_account

BATCH = "01FC66621XXXXX119Z8PMV1Q01"
SMS_ID, CHANNELS_ID = "b6aae1b5dfb2427a8f7ea6a717ba3101", "9c1f6a1e-7b0e-4c55-8f54-000000000002"
#: About one of several people whom the sender wrote to as a group: nobody registers such a message.
IN_GROUPS = {"telnyx/group-mms-two-recipients", "meta/group_two_participants"}
RECORDED = {name: payload for name, payload in all_recorded("webhook") if name not in IN_GROUPS}


def registered(account: Account, channel: Channel, message_id: str, recipient: str | None) -> str:
    reference_of = PROVIDERS[account.provider].reference_of
    return message_id if reference_of is None else reference_of(account, channel, message_id, recipient)


def registered_as_reported(account: Account, told: Observation) -> str:
    return registered(account, told.channel or account.channel, told.provider_message_id, told.recipient)


@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_report_joins_the_message_registered_with_its_id_and_recipient(name):
    payload = RECORDED[name]
    account = recorded_account(payload)

    for told in PROVIDERS[payload["provider"]].parse(as_webhook(payload), account).observations:
        assert told.reference == registered_as_reported(account, told)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_report_of_any_shape_joins_the_message_registered_with_its_id_and_recipient(case):
    told = case.parse(case.item(CHANNELS_ID if case.name == "bird channels" else "1001", "sent")).observations[0]

    assert told.reference == registered_as_reported(case.account("secret"), told)


@pytest.mark.parametrize(("provider", "message_id"), [("sinch", BATCH), ("messagebird", SMS_ID)])
def test_recipients_who_share_an_id_are_told_apart_however_their_number_is_written(provider, message_id):
    account = an_account(provider, "secret")

    names = {registered(account, Channel.SMS, message_id, to) for to in ("447700900123", "+447700900123")}

    assert names == {f"{message_id}|+447700900123"}


@pytest.mark.parametrize("provider", ["sinch", "messagebird"])
def test_without_a_recipient_the_id_is_all_there_is(provider):
    assert registered(an_account(provider, "secret"), Channel.SMS, SMS_ID, None) == SMS_ID


def test_an_sms_that_the_conversation_api_sends_is_named_by_its_id():
    account = an_account("sinch", "secret", options={"sms_api": "conversation"})

    assert registered(account, Channel.SMS, BATCH, "+447700900123") == BATCH


@pytest.mark.parametrize("channel", [Channel.WHATSAPP, Channel.VIBER])
def test_an_id_of_the_conversation_api_names_one_message(channel):
    assert registered(an_account("sinch", "secret"), channel, BATCH, "+447700900123") == BATCH


def test_an_id_of_channels_names_one_message_also_on_sms():
    account = an_account("messagebird", "secret")

    assert registered(account, Channel.SMS, CHANNELS_ID, "+447700900123") == CHANNELS_ID


def test_an_account_tells_whether_recipients_share_an_id():
    shared = an_account("standardwebhooks", "secret", options={"shared_ids": True})
    plain = an_account("standardwebhooks", "secret")

    named = [registered(account, Channel.SMS, "m-1", "+447700900123") for account in (shared, plain)]

    assert named == ["m-1|+447700900123", "m-1"]
