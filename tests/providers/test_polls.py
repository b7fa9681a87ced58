"""How providers are asked and what their answers say, written once for all that can be asked.

Answers are made up after the providers' documentation and libraries, each with everything that is documented.
"""

import json
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.domain.status import Channel, Status
from ledger.providers import PROVIDERS
from ledger.wire import asking
from ledger.wire.contract import Fault, Known, Malformed, Parsed, Polling, Secret
from tests.providers.hostile import HOSTILE_BODIES, HOSTILE_VALUES
from tests.providers.requests import an_account

SECRET = "the secret of an API"
UUID = "aaaaaaaa-bbbb-cccc-dddd-0123456789ab"


class Answered(NamedTuple):
    """A question about a message, and a documented answer to it."""

    name: str
    provider: str
    known: dict[str, Any]
    path: str  #: of the question
    body: Any
    reference: str
    status: Status
    code: str | None = None
    authorization: str = "Bearer "


def twilio(**told: Any) -> dict[str, Any]:
    return {
        "sid": "SM1",
        "account_sid": "AC2",
        "status": "undelivered",
        "direction": "outbound-api",
        "to": "whatsapp:+12025550111",
        "error_code": 30003,
        "error_message": "Unreachable",
        "date_updated": "Tue, 18 Aug 2026 20:01:14 +0000",
        "price": None,
        **told,
    }


ANSWERS = (
    Answered(
        "twilio",
        "twilio",
        {"provider_message_id": "SM1", "provider_account": "AC2"},
        "/2010-04-01/Accounts/AC2/Messages/SM1.json",
        twilio(),
        "SM1",
        Status.FAILED,
        "30003",
        "Basic ",
    ),
    Answered(
        "meta",
        "meta",
        {"provider_message_id": "wamid.A", "provider_account": "1065", "channel": Channel.WHATSAPP},
        "/v23.0/1065/message_history",
        {
            "data": [
                {
                    "id": "1",
                    "message_id": "wamid.A",
                    "events": [{"delivery_status": "READ", "occurrence_timestamp": 1792065607}],
                }
            ]
        },
        "wamid.A",
        Status.READ,
    ),
    Answered(
        "infobip",
        "infobip",
        {"provider_message_id": "ib-1"},
        "/sms/3/reports",
        {
            "results": [
                {
                    "messageId": "ib-1",
                    "to": "447700900123",
                    "doneAt": "2026-10-15T13:00:01.250+0100",
                    "status": {"groupName": "UNDELIVERABLE", "name": "UNDELIVERABLE_NOT_DELIVERED"},
                    "error": {"id": 27, "name": "EC_ABSENT_SUBSCRIBER", "permanent": False},
                }
            ]
        },
        "ib-1",
        Status.FAILED,
        "27",
        "App ",
    ),
    Answered(
        "vonage message",
        "vonage",
        {"provider_message_id": UUID, "channel": Channel.WHATSAPP},
        "/v2/reports/records",
        {
            "records": [
                {"message_id": UUID, "direction": "outbound", "status": "delivered", "to": "447700900123"},
            ]
        },
        UUID,
        Status.DELIVERED,
        None,
        "Basic ",
    ),
    Answered(
        "vonage sms",
        "vonage",
        {"provider_message_id": "0A01"},
        "/v2/reports/records",
        {
            "records": [
                {
                    "message_id": "0A01",
                    "direction": "outbound",
                    "status": "failed",
                    "to": "447700900123",
                    "error_code": "6",
                    "error_code_description": "Anti-Spam Rejection",
                    "date_finalized": "2026-10-15T12:00:05+0000",
                },
            ]
        },
        "0A01",
        Status.FAILED,
        "6",
        "Basic ",
    ),
    Answered(
        "telnyx",
        "telnyx",
        {"provider_message_id": "40385f64"},
        "/v2/messages/40385f64",
        {
            "data": {
                "record_type": "message",
                "direction": "outbound",
                "id": "40385f64",
                "type": "SMS",
                "to": [{"phone_number": "+15555550101", "status": "delivery_failed"}],
                "errors": [{"code": "40008", "title": "Undeliverable"}],
            }
        },
        "40385f64",
        Status.FAILED,
        "40008",
    ),
    Answered(
        "plivo",
        "plivo",
        {"provider_message_id": "7b1b"},
        "/v1/Account/ACCOUNT/Message/7b1b/",
        {
            "message_uuid": "7b1b",
            "message_state": "delivered",
            "message_direction": "outbound",
            "message_type": "sms",
            "error_code": "000",
            "to_number": "447700900123",
            "message_time": "2026-10-15 12:00:00+00:00",
        },
        "7b1b",
        Status.DELIVERED,
        None,
        "Basic ",
    ),
    Answered(
        "sinch",
        "sinch",
        {"provider_message_id": "01FC", "recipient": "+447700900123"},
        "/xms/v1/ACCOUNT/batches/01FC/delivery_report/447700900123",
        {
            "type": "recipient_delivery_report_sms",
            "batch_id": "01FC",
            "recipient": "447700900123",
            "status": "Failed",
            "code": 406,
            "at": "2026-10-15T12:00:01.250Z",
        },
        "01FC|+447700900123",
        Status.FAILED,
        "406",
    ),
    Answered(
        "messagebird",
        "messagebird",
        {"provider_message_id": "b6aa", "recipient": "+447700900123"},
        "/messages/b6aa",
        {
            "id": "b6aa",
            "direction": "mt",
            "recipients": {
                "totalCount": 1,
                "items": [
                    {
                        "recipient": 447700900123,
                        "status": "delivered",
                        "statusDatetime": "2026-10-15T12:00:01+00:00",
                    }
                ],
            },
        },
        "b6aa|+447700900123",
        Status.DELIVERED,
        None,
        "AccessKey ",
    ),
)
each_answer = pytest.mark.parametrize("told", [pytest.param(told, id=told.name) for told in ANSWERS])


def a_polling(**told: Any) -> Polling:
    return Polling(**{"base_url": "https://example.com", "secret": Secret(SECRET), "account": "ACCOUNT", **told})


def known_of(told: Answered, **changed: Any) -> Known:
    return Known(**{"channel": Channel.SMS, **told.known, **changed})


def read(told: Answered, body: bytes) -> Parsed | Malformed:
    polls = PROVIDERS[told.provider].polls
    assert polls is not None
    account = an_account(told.provider, "secret", poll=a_polling())
    try:
        return polls.read(body, known_of(told), account)
    except Malformed as malformed:
        return malformed


def test_every_provider_that_can_be_asked_is_here() -> None:
    asked = {name for name, provider in PROVIDERS.items() if provider.polls is not None}

    assert asked == {told.provider for told in ANSWERS}


@each_answer
def test_a_question_goes_where_it_is_documented(told: Answered) -> None:
    polls = PROVIDERS[told.provider].polls
    assert polls is not None

    question = polls.ask(known_of(told), a_polling())

    assert question is not None
    parts = urlsplit(question.target)
    assert parts.path == told.path
    assert told.known["provider_message_id"] in parts.path + json.dumps(parse_qs(parts.query))
    ((name, value),) = question.headers
    assert name == "authorization"
    assert value.reveal().startswith(told.authorization.encode())
    assert SECRET not in repr(question)


@each_answer
@pytest.mark.parametrize("odd", ["../../x", "a/b?c=d#e", "a b", "ä\N{SNOWMAN}", "%2e%2e", "x&id=y"])
def test_no_id_leads_a_question_elsewhere(told: Answered, odd: str) -> None:
    polls = PROVIDERS[told.provider].polls
    assert polls is not None
    plain = polls.ask(known_of(told, provider_message_id="x"), a_polling())

    question = polls.ask(known_of(told, provider_message_id=odd), a_polling())

    assert plain is not None
    assert question is not None
    assert question.target.isascii()
    one, other = urlsplit(question.target), urlsplit(plain.target)
    assert one.path.count("/") == other.path.count("/")
    assert not one.fragment
    assert parse_qs(one.query).keys() == parse_qs(other.query).keys()


@each_answer
def test_an_answer_says_what_a_callback_would(told: Answered) -> None:
    parsed = read(told, json.dumps(told.body).encode())

    assert isinstance(parsed, Parsed)
    (said,) = parsed.observations
    assert (said.reference, said.claim.status, said.error_code) == (told.reference, told.status, told.code)
    assert said.provider_status
    assert said.item


@each_answer
def test_null_and_absent_are_the_same_in_an_answer(told: Answered) -> None:
    """Whatever is not the message or its status may be missing, null or odd."""
    text = json.dumps(told.body)
    for name in ("to", "error_code", "date_updated", "direction", "type", "at", "code", "errors", "to_number", "error"):
        body = json.loads(text)
        parents = [body, *body.get("results", ()), *body.get("records", ())] if isinstance(body, dict) else []
        for parent in parents:
            if name in parent and not (told.provider == "sinch" and name == "to"):
                for value in (None, {}, 7.5):
                    parent[name] = value
                    assert isinstance(read(told, json.dumps(body).encode()), Parsed), (name, value)


@each_answer
@pytest.mark.parametrize("body", HOSTILE_BODIES)
def test_a_hostile_answer_is_read_or_refused(told: Answered, body: bytes) -> None:
    assert isinstance(read(told, body), Parsed | Malformed)


@each_answer
@given(body=st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(told: Answered, body: bytes) -> None:
    assert isinstance(read(told, body), Parsed | Malformed)


@each_answer
@given(data=st.data())
def test_an_answer_cut_anywhere_is_refused_or_says_less(told: Answered, data: st.DataObject) -> None:
    text = json.dumps(told.body).encode()

    parsed = read(told, text[: data.draw(st.integers(0, len(text) - 1))])

    assert isinstance(parsed, Malformed)


# Lists ----------------------------------------------------------------------------------------------------------------

bases = pytest.mark.parametrize(
    ("base", "told", "target"),
    [
        ("https://api.example.com", "/a/b.json?Page=1&x=%2F", "/a/b.json?Page=1&x=%2F"),
        ("https://api.example.com", "https://api.example.com/a?b=c", "/a?b=c"),
        ("https://api.example.com", "https://evil.example/a?b=c", "/a?b=c"),
        ("https://api.example.com", "//evil.example/a", "/a"),
        ("https://api.example.com/v1", "/v1/a?b", "/a?b"),
        ("https://api.example.com", "a/b", None),
        ("https://api.example.com", "", None),
        ("https://api.example.com", None, None),
        ("https://api.example.com", 7, None),
        ("https://api.example.com", "/a b", None),
        ("https://api.example.com", "/a\r\nx: y", None),
        ("https://api.example.com", "http://[", None),
        ("https://api.example.com", "/" + "a" * 5_000, None),
    ],
)


@bases
def test_of_a_next_page_only_path_and_query_are_followed(base: str, told: object, target: str | None) -> None:
    assert asking.next_target(told, a_polling(base_url=base)) == target


def test_a_list_is_read_item_by_item() -> None:
    walk = PROVIDERS["twilio"].polls.walk  # type: ignore[union-attr]
    account = an_account("twilio", "secret", poll=a_polling())
    items = [twilio(), twilio(sid="SM2", status="received", direction="inbound"), {"sid": None}, twilio(sid="SM3")]
    body = msgspec.json.encode({"messages": items, "next_page_uri": "/next?Page=1"})

    page = walk.read(body, account)  # type: ignore[union-attr]

    assert [said.reference for said in page.parsed.observations] == ["SM1", "SM3"]
    assert (page.parsed.ignored, len(page.parsed.unreadable)) == (1, 1)
    assert page.next == "/next?Page=1"


def test_too_many_requests_is_known_by_its_code_whatever_the_status() -> None:
    assert PROVIDERS["twilio"].polls.fault(b'{"code": 20429}') == "throttled"  # type: ignore[union-attr]
    fault = PROVIDERS["meta"].polls.fault  # type: ignore[union-attr]
    assert [
        fault(json.dumps({"error": error}).encode())
        for error in ({"code": 4}, {"code": 80007}, {"code": 190}, {"code": 2, "is_transient": True}, {"code": 100})
    ] == ["throttled", "throttled", "refused", "failed", None]
    assert [fault(body) for body in (b"", b"[]", b"{", b'{"error": 7}')] == [None] * 4


@each_answer
@pytest.mark.parametrize("odd", HOSTILE_VALUES.values(), ids=HOSTILE_VALUES)
@pytest.mark.parametrize("around", [b"%s", b'{"code":%s}', b'{"error":%s}', b'{"error":{"code":%s}}'])
def test_an_error_of_any_kind_is_read(told: Answered, odd: bytes, around: bytes) -> None:
    polls = PROVIDERS[told.provider].polls
    assert polls is not None

    assert polls.fault(around % odd) in (None, *Fault)
