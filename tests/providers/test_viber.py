"""What is particular to Viber bots: signature in header or query, 64-bit tokens, events that are no statuses."""

import json

import pytest

from ledger.domain.status import FailureKind, Status
from ledger.providers.viber import PROVIDER
from ledger.wire.contract import UNRECOGNISED, Claim, Malformed, Parsed
from tests.providers.webhook_cases import a_webhook, an_account, outcome, sign_viber, viber_callback

TOKEN = "44dafb7e0f40021e-61a47a1e6778d187-f2c5a676a07050b3"
VECTORS = [
    (
        b'{"event":"webhook","timestamp":4977069964384421269,"message_token":1478683725125}',
        "d21b343448c8aee33b8e93768ef6ceb64a6ba6163099973a2b8bd028fea510ef",
    ),
    (
        b'{"event":"delivered","timestamp":1457764197627,"message_token":4912661846655238145,"user_id":"01234567890A="}',
        "31965dc8397d708feb00935093c7eee084d1157dd24dcde99a223cf14351523a",
    ),
]
URL = "https://ledger.example.com/hooks/viber"


def parse(body: bytes | None = None, **changed: object) -> Parsed | Malformed:
    return outcome(PROVIDER, a_webhook(body or json.dumps({**viber_callback(), **changed}).encode()))


def observed(**changed: object):
    parsed = parse(**changed)
    assert isinstance(parsed, Parsed)
    (observation,) = parsed.observations
    return observation


# Signature


@pytest.mark.parametrize(("body", "digest"), VECTORS, ids=["official", "own"])
def test_the_known_signatures_are_accepted_in_header_query_and_both(body, digest):
    account = an_account("viber", TOKEN)
    header = {"X-Viber-Content-Signature": digest}

    assert PROVIDER.authenticate(a_webhook(body, header, URL), account)
    assert PROVIDER.authenticate(a_webhook(body, {}, f"{URL}?sig={digest}"), account)
    assert PROVIDER.authenticate(a_webhook(body, header, f"{URL}?sig={digest}"), account)


@pytest.mark.parametrize(
    ("header", "query", "verdict"),
    [
        (b"GOOD", "?sig=wrong", True),
        (b"wrong", "?sig=GOOD", True),
        (b"\xff", "?x=1&sig=GOOD", True),
        (b"wrong", "?sig=wrong", False),
        (b"", "?sig=", False),
        (b"", "?signature=GOOD", False),
        (b"", "?sig=%FF", False),
    ],
)
def test_either_place_suffices_and_a_wrong_one_does_not_spoil_the_other(header, query, verdict):
    body = b"{}"
    good = (sign_viber(body, b"k").headers.first("x-viber-content-signature") or b"").decode()
    webhook = a_webhook(
        body,
        [("x-viber-content-signature", header.replace(b"GOOD", good.encode()))],
        URL + query.replace("GOOD", good),
    )

    assert verdict is PROVIDER.authenticate(webhook, an_account("viber", "k"))


# Tokens


@pytest.mark.parametrize(
    ("raw", "reference"),
    [
        (b"5741311803571721001", "5741311803571721001"),
        (b'"5741311803571721001"', "5741311803571721001"),
        (b"18446744073709551615", "18446744073709551615"),
        (b"9007199254740993", "9007199254740993"),
    ],
)
def test_a_token_keeps_every_digit(raw, reference):
    parsed = parse(b'{"event":"seen","message_token":' + raw + b"}")

    assert isinstance(parsed, Parsed)
    assert [reference] == [seen.reference for seen in parsed.observations]


@pytest.mark.parametrize(
    "raw",
    [b"5.741311803571721e18", b"1.0", b"1e3", b"true", b"null", b'""', b'" "', b"[]", b"{}", b"99999999999999999999"],
)
def test_a_token_that_is_no_whole_64_bit_number_or_text_is_captured(raw):
    body = b'{"event":"delivered","message_token":' + raw + b"}"

    parsed = parse(body)

    assert isinstance(parsed, Parsed)
    assert ((), [body]) == (parsed.observations, [each.item for each in parsed.unreadable])


# Events


def test_a_failure_after_acceptance_is_undelivered_and_keeps_the_description():
    observation = observed(event="failed", desc="message validation failed", error_code=None)

    assert (Claim(Status.FAILED, FailureKind.UNDELIVERED), "message validation failed", None) == (
        observation.claim,
        observation.error_text,
        observation.error_code,
    )


@pytest.mark.parametrize(
    "event", ["webhook", "message", "subscribed", "unsubscribed", "conversation_started", " Message "]
)
@pytest.mark.parametrize("token", [1, None, 1.5])
def test_an_event_about_no_message_of_ours_is_ignored_whatever_its_token(event, token):
    assert Parsed(ignored=1) == parse(event=event, message_token=token)


def test_an_unknown_event_without_a_token_is_ignored():
    assert Parsed(ignored=1) == parse(b'{"event":"client_status","user_id":"x"}')
    assert Parsed(ignored=1) == parse(event="client_status", message_token=None)


def test_an_unknown_event_about_a_message_is_recorded_verbatim():
    observation = observed(event="Reacted")

    assert (observation.provider_status, observation.claim) == ("Reacted", UNRECOGNISED)


def test_each_device_that_confirms_is_an_observation_of_the_same_message_at_its_own_time():
    first, second = observed(timestamp=1792065601250), observed(timestamp=1792065609875)

    assert first.reference == second.reference
    assert first.occurred_at != second.occurred_at


def test_timestamp_and_token_swapped_leave_no_instant():
    observation = observed(timestamp=4977069964384421269, message_token=1478683725125)

    assert (observation.reference, observation.occurred_at) == ("1478683725125", None)


@pytest.mark.parametrize(
    ("told", "code"), [(7, "7"), ("7", "7"), ("seven", None), (1.5, None), (None, None), (-7, None)]
)
def test_a_code_counts_only_if_it_is_a_number(told, code):
    assert code == observed(event="failed", error_code=told).error_code


@pytest.mark.parametrize("body", [b"[]", b"null", b"5", b'"x"', b'[{"event":"seen","message_token":1}]', b"{"])
def test_anything_but_one_object_is_malformed(body):
    assert isinstance(parse(body), Malformed)
