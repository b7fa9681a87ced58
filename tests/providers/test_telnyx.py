"""Telnyx's own rules: the outcome is each recipient's, and a group shares an id."""

import json
from typing import Any

import pytest

from ledger.domain.status import Channel, Status
from ledger.providers import PROVIDERS
from ledger.wire.contract import Parsed
from tests.providers.requests import an_account
from tests.providers.senders_more import configured_ed25519, sign_telnyx, telnyx_event

TELNYX = PROVIDERS["telnyx"]
ACCOUNT = an_account("telnyx", configured_ed25519(b"secret"))
FIRST, SECOND, THIRD = "+15555550101", "+15555550102", "+15555550103"


def parse(event: object) -> Parsed:
    return TELNYX.parse(sign_telnyx(json.dumps(event).encode(), b"secret"), ACCOUNT)


def an_event(*more: tuple[str, str], status: str = "delivered", **message: Any) -> dict[str, Any]:
    event = telnyx_event("40385f64", status, *more)
    event["data"]["payload"] |= message
    return event


def codes(parsed: Parsed) -> list[tuple[str | None, str | None]]:
    return [(seen.recipient, seen.error_code) for seen in parsed.observations]


# Recipients


def test_the_name_of_the_event_tells_no_outcome():
    event = an_event(status="delivery_failed")
    event["data"]["event_type"] = "message.finalized"

    assert [seen.claim.status for seen in parse(event).observations] == [Status.FAILED]


def test_one_recipient_is_named_by_the_id_alone():
    assert [seen.reference for seen in parse(an_event()).observations] == ["40385f64"]


def test_recipients_of_a_group_share_an_id_and_have_a_name_each():
    parsed = parse(an_event((SECOND, "delivery_failed")))

    assert [seen.reference for seen in parsed.observations] == [f"40385f64|{FIRST}", f"40385f64|{SECOND}"]
    assert [seen.claim.status for seen in parsed.observations] == [Status.DELIVERED, Status.FAILED]
    assert {seen.provider_message_id for seen in parsed.observations} == {"40385f64"}


def test_an_error_belongs_to_the_recipient_it_names():
    errors = [{"code": "40008", "meta": {"to": SECOND}}, {"code": "40001", "meta": {"to": THIRD}}]

    parsed = parse(an_event((SECOND, "delivery_failed"), (THIRD, "delivery_failed"), errors=errors))

    assert codes(parsed) == [(FIRST, None), (SECOND, "40008"), (THIRD, "40001")]


def test_an_error_that_names_nobody_belongs_to_those_who_failed():
    parsed = parse(an_event((SECOND, "delivery_failed"), errors=[{"code": "40008", "title": "Undeliverable"}]))

    assert codes(parsed) == [(FIRST, None), (SECOND, "40008")]


def test_an_error_of_a_single_recipient_is_shown_whatever_the_outcome():
    assert codes(parse(an_event(errors=[{"code": "40002"}]))) == [(FIRST, "40002")]


@pytest.mark.parametrize(
    "bad", [None, 5, {}, {"phone_number": SECOND}, {"status": "sent"}, {"status": "sent", "phone_number": ""}]
)
def test_a_bad_member_of_a_group_is_kept_and_the_others_are_read(bad):
    event = an_event((SECOND, "sent"), (THIRD, "sent"))
    event["data"]["payload"]["to"][1] = bad

    parsed = parse(event)

    assert [seen.recipient for seen in parsed.observations] == [FIRST, THIRD]
    assert [json.loads(each.item) for each in parsed.unreadable] == [bad]


def test_a_single_bad_recipient_keeps_the_whole_event():
    event = an_event()
    event["data"]["payload"]["to"] = [{"phone_number": FIRST}]

    assert [json.loads(each.item) for each in parse(event).unreadable] == [event]


def test_a_recipient_may_stand_alone_without_a_list():
    event = an_event()
    event["data"]["payload"]["to"] = event["data"]["payload"]["to"][0]

    assert [seen.recipient for seen in parse(event).observations] == [FIRST]


# Events


@pytest.mark.parametrize("event_type", ["call.initiated", "number_order.complete", "message.received", "fax.sent"])
def test_an_event_about_something_else_is_ignored(event_type):
    event = an_event()
    event["data"]["event_type"] = event_type

    parsed = parse(event)

    assert (parsed.ignored, parsed.observations, parsed.unreadable) == (1, (), ())


def test_an_inbound_message_is_ignored():
    assert parse(an_event(direction="inbound")).ignored == 1


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("SMS", (Channel.SMS, None)),
        ("MMS", (Channel.SMS, "mms")),
        ("RCS", (Channel.SMS, "rcs")),
        ("WHATSAPP", (Channel.WHATSAPP, None)),
        ("PIGEON", (None, "pigeon")),
        (None, (None, None)),
    ],
)
def test_a_message_tells_its_channel(kind, expected):
    (observation,) = parse(an_event(type=kind)).observations

    assert expected == (observation.channel, observation.transport)


def test_the_event_is_known_by_its_id_whatever_the_attempt():
    first, second = an_event(), an_event()
    second["meta"]["attempt"] = 3

    assert [parse(event).observations[0].event_id for event in (first, second)] == ["86f58db9"] * 2


# Keys


@pytest.mark.parametrize("secret", ["", "secret", "AAAA", "!" * 44])
def test_what_is_no_public_key_is_told(secret):
    assert "public key" in TELNYX.check_secret(secret.encode(), ACCOUNT)


def test_a_public_key_is_one():
    assert TELNYX.check_secret(configured_ed25519(b"secret"), ACCOUNT) is None


def test_a_bad_key_among_good_ones_costs_nothing():
    account = an_account("telnyx", "no key", b"AAAA", configured_ed25519(b"secret"))

    assert TELNYX.authenticate(sign_telnyx(b"{}", b"secret"), account)
