"""What is particular to Twilio: two kinds of request, addresses. Signatures have a file of their own."""

import json
from urllib.parse import urlencode

import pytest

from ledger.domain.status import Channel
from ledger.providers import twilio
from ledger.providers.twilio import PROVIDER
from ledger.wire.contract import Malformed, Parsed
from tests.providers.webhook_cases import (
    BASE_URL,
    a_webhook,
    an_account,
    encode_form,
    outcome,
    sign_twilio_form,
    twilio_event,
    twilio_form,
)

FORM = "application/x-www-form-urlencoded"


def parse_form(**fields: str) -> Parsed | Malformed:
    return outcome(PROVIDER, a_webhook(urlencode(fields).encode(), {"Content-Type": FORM}))


def parse_events(body: object) -> Parsed | Malformed:
    encoded = body if isinstance(body, bytes) else json.dumps(body).encode()
    return outcome(PROVIDER, a_webhook(encoded, {"Content-Type": "application/cloudevents-batch+json"}))


def observed_form(**changed: str):
    parsed = parse_form(**{**twilio_form(), **changed})
    assert isinstance(parsed, Parsed)
    (observation,) = parsed.observations
    return observation


def observed_event(**changed: object):
    event = twilio_event()
    parsed = parse_events([{**event, "data": {**event["data"], **changed}}])
    assert isinstance(parsed, Parsed)
    (observation,) = parsed.observations
    return observation


# Callbacks


def test_a_callback_has_no_instant_and_keeps_the_carriers_date_as_text():
    observation = observed_form(RawDlrDoneDate="2610151204", Timestamp="2026-10-15T12:04:31Z")

    assert (observation.occurred_at, observation.date_text) == (None, "2610151204")


def test_the_older_names_stand_in_for_missing_ones():
    parsed = parse_form(SmsSid="SM2", SmsStatus="sent")

    assert isinstance(parsed, Parsed)
    assert [(seen.reference, seen.provider_status) for seen in parsed.observations] == [("SM2", "sent")]


def test_the_newer_names_win_over_the_older():
    observation = observed_form(SmsSid="SM2", SmsStatus="queued")

    assert (observation.reference, observation.provider_status) == ("SM1", "delivered")


def test_a_blank_newer_name_counts_as_missing():
    observation = observed_form(MessageSid=" ", SmsSid="SM2", MessageStatus="", SmsStatus="read")

    assert (observation.reference, observation.provider_status) == ("SM2", "read")


@pytest.mark.parametrize("word", ["received", "receiving", " RECEIVED "])
def test_an_inbound_message_is_ignored(word):
    assert Parsed(ignored=1) == parse_form(MessageSid="SM1", SmsStatus=word, Body="delivered")
    assert Parsed(ignored=1) == parse_form(**{**twilio_form(), "MessageStatus": word})


@pytest.mark.parametrize(
    "fields", [{"EventType": "CLICK", "MessageSid": "SM1"}, {"event_type": "click", "sms_sid": "SM1"}]
)
def test_a_click_on_a_link_is_ignored(fields):
    assert Parsed(ignored=1) == parse_form(**fields)
    assert Parsed(ignored=1) == parse_events({"event_type": "click", "sms_sid": "SM1"})


def test_an_event_type_beside_a_status_does_not_hide_it():
    assert observed_form(EventType="CLICK").provider_status == "delivered"


@pytest.mark.parametrize("fields", [{}, {"MessageStatus": "sent"}, {"CallSid": "CA1", "CallStatus": "ringing"}])
def test_a_callback_that_names_no_message_is_malformed(fields):
    assert isinstance(parse_form(**fields), Malformed)


def test_the_whole_body_is_the_evidence():
    body = encode_form(twilio_form())

    assert body == observed_form().item


@pytest.mark.parametrize(("told", "code"), [("30003", "30003"), ("", None), (" ", None)])
def test_an_error_code_may_be_blank(told, code):
    assert code == observed_form(ErrorCode=told).error_code


def test_the_channels_text_is_more_detailed_than_the_error_message():
    assert observed_form(ErrorMessage="plain").error_text == "outside the window & closed"
    assert observed_form(ErrorMessage="plain", ChannelStatusMessage=" ").error_text == "plain"


# Addresses


@pytest.mark.parametrize(
    ("to", "prefix", "channel", "transport", "recipient"),
    [
        ("+12025550111", "", Channel.SMS, None, "+12025550111"),
        ("12025550111", "", Channel.SMS, None, "+12025550111"),
        ("12345", "", Channel.SMS, None, "12345"),
        ("whatsapp:+12025550118", "whatsapp", Channel.WHATSAPP, None, "+12025550118"),
        ("whatsapp:+12025550118", "", Channel.WHATSAPP, None, "+12025550118"),
        ("whatsapp:US.90001", "whatsapp", Channel.WHATSAPP, None, "whatsapp:US.90001"),
        ("rcs:+12025550122", "rcs", Channel.SMS, "rcs", "+12025550122"),
        ("+12025550122", "rcs", Channel.SMS, "rcs", "+12025550122"),
        ("messenger:1234567890123", "messenger", None, "messenger", "messenger:1234567890123"),
        ("carrierpigeon:+12025550111", "", None, None, "carrierpigeon:+12025550111"),
        ("", "whatsapp", Channel.WHATSAPP, None, None),
        ("", "", None, None, None),
    ],
)
def test_the_prefix_of_an_address_tells_channel_and_transport(to, prefix, channel, transport, recipient):
    seen = observed_form(To=to, ChannelPrefix=prefix)

    assert (channel, transport, recipient, to or None) == (
        seen.channel,
        seen.transport,
        seen.recipient,
        seen.recipient_raw,
    )


def test_a_masked_address_is_never_taken_for_the_recipient():
    assert observed_form(ChannelToAddress="+1202555XXXX").recipient == "+12025550128"
    assert observed_form(ChannelToAddress="+1202555XXXX", To="").recipient is None


@pytest.mark.parametrize(
    ("to", "channel", "transport"),
    [
        ("+12025550128", Channel.SMS, None),
        ("whatsapp:+12025550128", Channel.WHATSAPP, None),
        ("rcs:+12025550128", Channel.SMS, "rcs"),
    ],
)
def test_an_event_tells_its_channel_by_the_address_too(to, channel, transport):
    seen = observed_event(to=to)

    assert (channel, transport, "+12025550128", to) == (
        seen.channel,
        seen.transport,
        seen.recipient,
        seen.recipient_raw,
    )


# Event Streams


def test_a_lone_event_is_read_like_a_batch_of_one():
    assert parse_events([twilio_event()]) == parse_events(twilio_event())


@pytest.mark.parametrize(
    "type_",
    [
        "com.twilio.messaging.inbound-message.received",
        "com.twilio.daptbt.link-shortening.link-clicked",
        "com.twilio.error-logs.error.logged",
        "com.twilio.messaging.messages.sent",
    ],
)
def test_events_about_anything_but_outbound_messages_are_ignored(type_):
    other = {"type": type_, "data": {"messageSid": "SM1", "messageStatus": "DELIVERED"}}

    parsed = parse_events([other, {"type": type_}, twilio_event("SM2")])

    assert isinstance(parsed, Parsed)
    assert ([seen.reference for seen in parsed.observations], parsed.ignored, parsed.unreadable) == (["SM2"], 2, ())


@pytest.mark.parametrize("unnamed", [{"type": None}, {"type": ""}])
def test_an_event_that_does_not_name_its_type_is_read(unnamed):
    parsed = parse_events([{**twilio_event(), **unnamed}])

    assert isinstance(parsed, Parsed)
    assert [seen.reference for seen in parsed.observations] == ["SM1"]


def test_an_event_about_an_inbound_message_is_ignored():
    assert Parsed(ignored=1) == parse_events([twilio_event(status="RECEIVED")])


def test_the_events_own_time_stands_in_for_a_missing_timestamp():
    told = observed_event()

    assert told.occurred_at == observed_event(timestamp=None).occurred_at
    assert told.occurred_at == observed_event(timestamp="2026-10-15T12:04:31").occurred_at


@pytest.mark.parametrize(
    ("told", "code"), [(30005, "30005"), ("30005", "30005"), (None, None), ("", None), (1.5, None)]
)
def test_the_code_of_an_event_is_text(told, code):
    assert code == observed_event(errorCode=told).error_code


def test_an_address_that_a_caller_chooses_is_not_remembered():
    account = an_account("twilio", "secret")
    known = twilio._own_urls.cache_info().currsize

    for number in range(3):
        url = f"{BASE_URL}?made-up={number}"
        assert PROVIDER.authenticate(sign_twilio_form(b"MessageSid=SM1&MessageStatus=sent", b"secret", url), account)

    assert twilio._own_urls.cache_info().currsize == known
