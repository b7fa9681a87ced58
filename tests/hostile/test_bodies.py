"""Bodies, values, paths and cookies that break parsers: signed, to every provider's account, and to the API."""

import gzip
import hashlib
import hmac
import json
from typing import Any

import msgspec
import pytest

from tests.hostile.conftest import Target
from tests.hostile.wire import CLOSE, as_sent, request, status
from tests.http.access_table import COMPAT, KEY, OPEN, READ, ROWS, Row
from tests.http.test_provider_requests import name_of
from tests.providers.hostile import HOSTILE_BODIES, HOSTILE_VALUES
from tests.providers.webhook_cases import CASES, Case
from tests.surfaces.inbox import SECRET

MORE_BODIES = {
    "three million brackets": b"[" * 3_000_000,
    "half a million objects": b'{"a":' * 500_000,
    "three million digits": b"9" * 3_000_000,
    "infinity": b'{"a":Infinity,"b":-Infinity}',
}
BODIES = HOSTILE_BODIES | MORE_BODIES | {f"value: {name}": value for name, value in HOSTILE_VALUES.items()}
BOMB = gzip.compress(b"[" * 50_000_000)
JSON = (b"content-type", b"application/json")


def signed(case: Case, content: bytes) -> Any:
    """Sign any bytes as a provider does."""
    return case.sign(content, b"secret")


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES])
def test_a_hostile_body_that_a_provider_signed_is_taken_or_refused(target: Target, case: Case) -> None:
    answers = {
        name: status(target.service, as_sent(name_of(case), signed(case, body))) for name, body in BODIES.items()
    }

    # What a sender by GET says is in the target: some of it is no HTTP.
    is_get = signed(case, b"").method == "GET"
    again = 503 if case.name == "vonage receipt" else 401  # who has not signed at all is asked to come again
    assert set(answers.values()) <= {200, 401, again, 400 if is_get else 401}, answers
    # Whatever proves who sent it comes before what it says: most of it has been read, and is kept.
    assert list(answers.values()).count(200) > len(BODIES) / 2, answers


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES])
def test_a_compressed_body_is_refused_unread(target: Target, case: Case) -> None:
    bomb = signed(case, BOMB)

    for encoding in (b"gzip", b"x-gzip", b"GZIP", b"deflate", b"br", b"identity, gzip"):
        sent = as_sent(name_of(case), bomb, [CLOSE, (b"content-encoding", encoding)])
        assert status(target.service, sent) == (400 if bomb.method == "GET" else 415)  # the target is no HTTP


# The API --------------------------------------------------------------------------------------------------------------

WRITES = [row for row in ROWS if row.body is not None and row.gate is KEY]
READS = [row for row in ROWS if row.method == "GET" and row.gate in (KEY, COMPAT, READ, OPEN)]
each_write = pytest.mark.parametrize("row", WRITES, ids=lambda row: f"{row.method} {row.path}")
HOSTILE_TEXTS = (
    b"",
    b"%00",
    b"%FF",
    b"%ED%A0%80",
    b"%",
    b"%zz",
    b"%0D%0Aset-cookie:%20x=1",
    b"9" * 5_000,
    b"-1",
    b"9223372036854775808",
    b"1e999",
    b"NaN",
    b"null",
    b"[]",
    b"%F0%9F%98%80",
    b"%D9%A1",  # a digit, though not one of ASCII
    b"%E2%80%AE",
    b"'%3B--",
    b"a" * 30_000,
    b"0001-01-01T00:00:00Z",
    b"9999-12-31T23:59:59Z",
    b"2026-11-26T00:00:00%2B99:99",
)
PARAMETERS = (
    *(
        "limit",
        "cursor",
        "status",
        "provider",
        "provider_message_id",
        "recipient",
        "client_reference",
        "since",
        "until",
    ),
    *(
        "conflict",
        "failure_category",
        "as_of",
        "clock",
        "status_style",
        "country",
        "group_by",
        "time_zone",
        "state",
        "q",
    ),
    *("last_event_id", "seen", "next", "hub.mode"),
)


def path_of(target: Target, row: Row, **told: str) -> bytes:
    place = {
        "message_id": str(target.message_id),
        "endpoint_id": "wh_0123456789abcdef",
        "delivery_id": "0-1",
        "channel": "whatsapp",
        "partition": "0",
        "name": "x",
        "account": "meta",
        **told,
    }
    return row.path.format(**place).encode()


def asked(target: Target, method: str, path: bytes, body: bytes = b"", *headers: tuple[bytes, bytes]) -> int:
    key = (b"x-octopods-auth", target.api.headers["x-octopods-auth"].encode())
    return status(target.service, request(method.encode(), path, [CLOSE, key, *headers], body))


@each_write
def test_a_hostile_body_with_a_key_is_refused(target: Target, row: Row) -> None:
    path = path_of(target, row)
    for name, body in (BODIES | {"brackets to the limit": b"[" * 65_536, "one more": b"[" * 65_537}).items():
        answer = asked(target, row.method, path, body, JSON)

        assert answer in (400, 404, 413, 422) or name in ("empty object", "byte order mark"), (name, answer)
        assert answer < 500, name


@each_write
def test_a_hostile_value_in_any_field_is_refused_or_taken(target: Target, row: Row) -> None:
    path = path_of(target, row)
    for field in row.body:
        for name, value in HOSTILE_VALUES.items():
            told = json.dumps({**row.body, field: "<<here>>"}).encode().replace(b'"<<here>>"', value)

            assert asked(target, row.method, path, told[:70_000], JSON) < 500, (field, name)


@each_write
def test_a_compressed_body_with_a_key_is_refused_unread(target: Target, row: Row) -> None:
    bomb = BOMB[:60_000]

    assert asked(target, row.method, path_of(target, row), bomb, JSON, (b"content-encoding", b"gzip")) == 415


@pytest.mark.parametrize("row", READS, ids=lambda row: row.path)
def test_a_hostile_parameter_or_id_is_refused_or_names_nothing(target: Target, row: Row) -> None:
    if row.path.endswith(("/events", "/stream")):
        wanted = [text for text in HOSTILE_TEXTS if text]  # without a parameter they would be followed for ever
        places = [path_of(target, row) + b"?limit=" + text for text in wanted]
    else:
        texts = HOSTILE_TEXTS[1:14]  # every parameter has several, and each its turn
        places = [
            b"%s?%s=%s" % (path_of(target, row), name.encode(), texts[(number + step) % len(texts)])
            for number, name in enumerate(PARAMETERS)
            for step in (0, 5, 9)
        ]
    if row.names:
        places += [path_of(target, row, **{f"{row.names}_id": "<id>"}).replace(b"<id>", text) for text in HOSTILE_TEXTS]

    answers = {place[:200]: asked(target, row.method, place) for place in places}

    assert not {place: answer for place, answer in answers.items() if not 200 <= answer < 500}


# Pages and the Intercom app -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/sign-in", "/sign-out"])
def test_a_hostile_form_is_refused(target: Target, path: str) -> None:
    form = (b"content-type", b"application/x-www-form-urlencoded")
    for name, body in BODIES.items():
        assert asked(target, "POST", path.encode(), body, form) in (400, 403, 413), name


@pytest.mark.parametrize(
    "cookie",
    [
        b"ledger=",
        b"ledger=.",
        b"ledger=\xff.\xff",
        b"ledger=" + b"A" * 30_000,
        b"ledger=e30.e30",
        b"ledger=" + b"W1tb" * 100 + b".00",
        b"ledger=%00.%00",
        b"; ;=;ledger",
        b'ledger="\\377"',
    ],
)
def test_a_hostile_cookie_is_nobodys(target: Target, cookie: bytes) -> None:
    for path in (b"/", b"/messages/1", b"/messages/1/stream", b"/messages/1/proof"):
        assert asked(target, "GET", path, b"", (b"cookie", cookie)) == 303
    assert asked(target, "GET", b"/sign-in", b"", (b"cookie", cookie)) == 200


@pytest.mark.parametrize("kind", ["initialize", "submit", "configure"])
def test_a_hostile_body_that_intercom_signed_is_answered_with_a_canvas(target: Target, kind: str) -> None:
    for name, body in BODIES.items():
        digest = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest().encode()
        answer = asked(target, "POST", f"/surfaces/intercom/{kind}".encode(), body, JSON, (b"x-body-signature", digest))

        assert answer == (200 if len(body) <= 512 * 1024 else 413), name


def test_what_is_sent_here_is_as_hostile_as_it_claims() -> None:
    assert len(gzip.decompress(BOMB)) > 500 * len(BOMB)
    for name in ("three million brackets", "value: deep arrays", "value: NaN", "infinity"):
        with pytest.raises((msgspec.DecodeError, RecursionError)):
            msgspec.json.decode(BODIES[name], type=list[Any])
