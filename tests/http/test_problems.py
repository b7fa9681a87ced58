"""What is answered when a request is wrong: the field is named, what it held is not."""

import re
import socket
from typing import Any

import pytest

from ledger.http.problems import PROBLEMS
from tests.http.callbacks import new_wamid
from tests.http.test_api import registered

CANARY = "+15558675309"

SECURITY_HEADERS = {
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
}
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


@pytest.fixture
def whatsapp(service):
    return service.api("meta-main", "whatsapp")


def problem(answer) -> dict[str, Any]:
    """Return a problem, having checked its shape."""
    assert answer.headers["content-type"] == "application/problem+json"
    told = answer.json()
    assert {"type", "title", "status", "detail", "request_id", "code"} <= set(told)
    assert set(told) <= {"type", "title", "status", "detail", "request_id", "code", "errors", "retry_at"}
    assert (told["status"], told["title"]) == PROBLEMS[told["code"]]
    assert told["status"] == answer.status_code
    assert told["type"] == "/problems/" + told["code"].replace("_", "-")
    assert UUID.fullmatch(told["request_id"])
    assert CANARY not in answer.text
    assert CANARY[1:] not in f"{answer.text} {answer.headers}"
    return told


def named(answer) -> list[str]:
    return [error["field"] for error in problem(answer)["errors"]]


REGISTRATIONS: list[tuple[dict[str, Any], str]] = [
    ({}, "channel"),
    ({"channel": CANARY}, "channel"),
    ({"channel": f"{CANARY}'s"}, "channel"),
    ({"channel": f"{CANARY}'\""}, "channel"),
    ({"channel": 5}, "channel"),
    ({"channel": None}, "channel"),
    ({"channel": "sms"}, "channel"),
    ({"channel": "whatsapp", "canary": CANARY}, "canary"),
    ({"channel": "whatsapp", "provider_message_id": ""}, "provider_message_id"),
    ({"channel": "whatsapp", "provider_message_id": CANARY * 60}, "provider_message_id"),
    ({"channel": "whatsapp", "provider_message_id": [CANARY]}, "provider_message_id"),
    ({"channel": "whatsapp", "recipient": {"phone": CANARY}}, "recipient"),
    ({"channel": "whatsapp", "recipient": ""}, "recipient"),
    ({"channel": "whatsapp", "client_reference": CANARY * 60}, "client_reference"),
    ({"channel": "whatsapp", "queued_at": CANARY}, "queued_at"),
    ({"channel": "whatsapp", "queued_at": "2026-11-21T10:00:00"}, "queued_at"),
    ({"channel": "whatsapp", "queued_at": 15558675309}, "queued_at"),
    ({"channel": "whatsapp", "sent_at": "2026-13-21T10:00:00Z"}, "sent_at"),
    ({"channel": "whatsapp", "provider_status": CANARY}, "provider_status"),
    ({"channel": "whatsapp", "failure": CANARY}, "failure"),
    ({"channel": "whatsapp", "failure": {}}, "failure.text"),
    ({"channel": "whatsapp", "failure": {"text": ""}}, "failure.text"),
    ({"channel": "whatsapp", "failure": {"text": "a", "code": CANARY * 9}}, "failure.code"),
    ({"channel": "whatsapp", "failure": {"text": "a", "canary": CANARY}}, "failure.canary"),
    ({"channel": "whatsapp", "conversation": {"part_id": CANARY}}, "conversation.conversation_id"),
    ({"channel": "whatsapp", "conversation": {"conversation_id": 15558675309}}, "conversation.conversation_id"),
    ({"channel": "whatsapp", "metadata": {"a": 15558675309}}, "metadata[...]"),
    ({"channel": "whatsapp", "metadata": {CANARY: CANARY * 60}}, "metadata[...]"),
    ({"channel": "whatsapp", "metadata": {CANARY * 9: "a"}}, "metadata"),
    ({"channel": "whatsapp", "metadata": {str(number): CANARY for number in range(33)}}, "metadata"),
    ({"channel": "whatsapp", "metadata": [CANARY]}, "metadata"),
]


@pytest.mark.parametrize(("body", "field"), REGISTRATIONS)
def test_a_wrong_field_of_a_registration_is_named(whatsapp, body, field):
    answer = whatsapp.post("/v1/messages", json=body)

    assert answer.status_code == 422
    assert [field] == named(answer)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"provider_message_id": 15558675309}, "provider_message_id"),
        ({"provider_message_id": ""}, "provider_message_id"),
        ({"provider_message_id": "a", "sent_at": CANARY}, "sent_at"),
        ({"provider_message_id": "a", "provider_status": CANARY}, "provider_status"),
        ({"failure": {"text": CANARY * 400}}, "failure.text"),
        ({"provider_message_id": "a", "channel": CANARY}, "channel"),
    ],
)
def test_a_wrong_field_of_a_hand_off_is_named(whatsapp, body, field):
    answer = whatsapp.post(f"/v1/messages/{registered(whatsapp)}/handoff", json=body)

    assert answer.status_code == 422
    assert named(answer) == [field]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"by": "a", "why": "b"}, "to"),
        ({"to": CANARY, "by": "a", "why": "b"}, "to"),
        ({"to": "pending", "by": "a", "why": "b"}, "to"),
        ({"to": "failed", "why": CANARY}, "by"),
        ({"to": "failed", "by": "", "why": CANARY}, "by"),
        ({"to": "failed", "by": "a", "why": CANARY * 400}, "why"),
        ({"to": "failed", "by": "a", "why": "b", "relied_on": [CANARY]}, "relied_on[0]"),
        ({"to": "failed", "by": "a", "why": "b", "relied_on": [1, 0]}, "relied_on[1]"),
        ({"to": "failed", "by": "a", "why": "b", "relied_on": [1] * 65}, "relied_on"),
    ],
)
def test_a_wrong_field_of_a_correction_is_named(whatsapp, body, field):
    answer = whatsapp.post(f"/v1/messages/{registered(whatsapp)}/corrections", json=body)

    assert answer.status_code == 422
    assert named(answer) == [field]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        CANARY.encode(),
        b'{"channel": "%s' % CANARY.encode(),
        b"[" * 10_000,
        b'{"channel":' * 5_000,
        b"\xff",
        b'{"channel":"\xff"}',
        b'{"channel":"whatsapp"}{"channel":"whatsapp"}',
        b'{"channel":"\\ud800"}',
        b"\xef\xbb\xbf{}",
    ],
)
def test_a_body_that_is_not_json_is_refused(whatsapp, body):
    answer = whatsapp.post("/v1/messages", content=body, headers={"content-type": "application/json"})

    assert answer.status_code in (400, 422)
    assert problem(answer)["code"] in ("malformed_request", "invalid_field")


@pytest.mark.parametrize("body", [b"[]", b"null", b"5", b'"' + CANARY.encode() + b'"'])
def test_a_body_that_is_no_object_is_refused(whatsapp, body):
    answer = whatsapp.post("/v1/messages", content=body, headers={"content-type": "application/json"})

    assert answer.status_code == 422
    assert named(answer) == ["body"]


def test_the_name_of_an_unknown_field_is_not_repeated_at_length(whatsapp):
    for name in ("x" * 1_000, "`" * 100, f"a` - at `{CANARY * 9}"):
        answer = whatsapp.post("/v1/messages", json={"channel": "whatsapp", name: 1})

        assert answer.status_code == 422
        assert len(answer.content) < 700


@pytest.mark.parametrize("content_type", ["text/plain", "", "application/x-www-form-urlencoded", "application/jsonp"])
def test_a_body_of_another_type_is_refused(whatsapp, content_type):
    answer = whatsapp.post("/v1/messages", content=b"{}", headers={"content-type": content_type})

    assert (answer.status_code, problem(answer)["code"]) == (415, "content_type_unsupported")


def test_a_body_beyond_64_kib_is_refused(whatsapp):
    answer = whatsapp.post("/v1/messages", json={"channel": "whatsapp", "client_reference": "x" * 70_000})

    assert (answer.status_code, problem(answer)["code"]) == (413, "body_too_large")


PARAMETERS = [
    ("/v1/messages", "canary", CANARY),
    ("/v1/messages", "account", "meta-other"),
    ("/v1/messages", "status", CANARY),
    ("/v1/messages", "status", "SENT,NOPE"),
    ("/v1/messages", "conflict", CANARY),
    ("/v1/messages", "clock", CANARY),
    ("/v1/messages", "limit", CANARY),
    ("/v1/messages", "limit", "0"),
    ("/v1/messages", "limit", "201"),
    ("/v1/messages", "limit", "-1"),
    ("/v1/messages", "limit", "1.5"),
    ("/v1/messages", "limit", ""),
    ("/v1/messages", "limit", "٣"),
    ("/v1/messages", "since", CANARY),
    ("/v1/messages", "since", "2026-11-21T10:00:00"),
    ("/v1/messages", "since", "2026-11-21"),
    ("/v1/messages", "until", "yesterday"),
    ("/v1/messages", "until", "0001-01-01T00:00:00+14:00"),
    ("/v1/messages", "cursor", CANARY),
    ("/v1/messages", "cursor", ""),
    ("/v1/messages", "cursor", "f" * 22),
    ("/v1/messages", "cursor", "é"),
    ("/v1/messages", "recipient", CANARY * 60),
    ("/v1/messages", "provider_message_id", "a\0b"),
    ("/v1/messages/1/history", "as_of", CANARY),
    ("/v1/messages/1/history", "cursor", CANARY),
    ("/v1/messages/1/history", "limit", "1000"),
    ("/v1/messages/1/history", "until", "2026-11-21T10:00:00Z"),
    ("/v1/messages/1", "canary", CANARY),
]


@pytest.mark.parametrize(("path", "name", "value"), PARAMETERS)
def test_a_wrong_parameter_is_named(whatsapp, path, name, value):
    answer = whatsapp.get(path, params={name: value})

    assert (answer.status_code, problem(answer)["code"]) == (400, "invalid_parameter")
    assert named(answer) == [name]
    assert len(value) < 3 or value not in answer.text.replace("2026-11-21T12:00:00Z", "")


def test_a_parameter_given_twice_is_refused(whatsapp):
    answer = whatsapp.get("/v1/messages", params=[("limit", "1"), ("limit", "2")])

    assert (answer.status_code, named(answer)) == (400, ["limit"])


@pytest.mark.parametrize(
    "method_and_path", ["POST /v1/messages", "POST /v1/messages/1/handoff", "POST /v1/messages/1/corrections"]
)
def test_a_parameter_where_none_is_used_is_refused(whatsapp, method_and_path):
    method, path = method_and_path.split()

    answer = whatsapp.request(method, path, params={"status_style": CANARY}, json={})

    assert (answer.status_code, named(answer)) == (400, ["status_style"])


@pytest.mark.parametrize(
    "path", ["/nothing", "/v1", "/v1/", "/v1/nothing", "/v2/messages", f"/{CANARY}", "/v1/messages/", "/v1//messages"]
)
def test_an_unknown_path_is_a_problem_too(whatsapp, path):
    answer = whatsapp.get(path)

    assert (answer.status_code, problem(answer)["code"]) == (404, "not_found")
    assert {name: answer.headers.get(name) for name in SECURITY_HEADERS} == SECURITY_HEADERS


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/v1/messages/1", {"GET", "HEAD"}),
        ("PUT", "/v1/messages", {"GET", "HEAD", "POST"}),
        ("GET", "/v1/messages/1/handoff", {"POST"}),
        ("POST", "/api/v1/sms/messages/1", {"GET", "HEAD"}),
        ("POST", "/livez", {"GET", "HEAD"}),
    ],
)
def test_another_method_is_a_problem_that_names_those_allowed(whatsapp, method, path, allowed):
    answer = whatsapp.request(method, path)

    assert (answer.status_code, problem(answer)["code"]) == (405, "method_not_allowed")
    assert allowed == set(answer.headers["allow"].split(", "))
    assert {name: answer.headers.get(name) for name in SECURITY_HEADERS} == SECURITY_HEADERS


@pytest.mark.parametrize(
    "message_id", ["0", "1", "abc", "-1", "1.0", "99999999999999999999", "9007199254740992", "%00", "1%20", "٣", CANARY]
)
def test_an_id_that_names_nothing_is_not_found(whatsapp, message_id):
    answer = whatsapp.get(f"/v1/messages/{message_id}")

    assert (answer.status_code, problem(answer)["code"]) == (404, "not_found")


@pytest.mark.parametrize("host", ["[", "[::1", "a b", "localhost:99999999", "x" * 300, "\xe9"])
def test_a_strange_host_header_breaks_nothing(whatsapp, host):
    message_id = registered(whatsapp)

    answer = whatsapp.get(f"/v1/messages/{message_id}", headers={"host": host.encode("latin-1")})

    assert answer.status_code in (200, 400)


def test_every_answer_carries_security_headers_and_a_request_id_of_its_own(service, whatsapp):
    message_id = registered(whatsapp)
    paths = [
        f"/v1/messages/{message_id}",
        f"/v1/messages/{message_id}/history",
        "/v1/messages",
        "/v1/messages/1",
        "/v1/messages?limit=x",
        f"/api/v1/whatsapp/messages/{message_id}",
        "/api/v1/whatsapp/messages",
        "/api/v1/whatsapp/messages/",
        "/livez",
        "/readyz",
        "/metrics",
    ]

    answers = [whatsapp.get(path) for path in paths] + [service.client().get("/v1/messages")]

    for answer in answers:
        assert {name: answer.headers.get(name) for name in SECURITY_HEADERS} == SECURITY_HEADERS
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        assert "server" not in answer.headers
        told = answer.json() if "json" in answer.headers["content-type"] else {}
        assert told.get("request_id", answer.headers["x-request-id"]) == answer.headers["x-request-id"]
    request_ids = [answer.headers["x-request-id"] for answer in answers]
    assert len(set(request_ids)) == len(answers)
    assert all(UUID.fullmatch(request_id) for request_id in request_ids)


def test_a_body_cut_off_by_the_caller_is_no_failure_of_ours(service):
    """An aborted upload must not look like a bug: no traceback, no 500 counted."""
    _, secret = service.new_key("meta-main", "whatsapp")
    lines = ["host: x", f"x-octopods-auth: {secret}", "content-type: application/json", "content-length: 50", "", "{"]
    before = service.log()

    for path in ("/v1/messages", "/webhooks/meta-main"):
        with socket.create_connection(service.address) as connection:
            connection.sendall("\r\n".join([f"POST {path} HTTP/1.1", *lines]).encode())
        assert service.client().get("/livez").status_code == 200
    registered(service.client(secret), provider_message_id=new_wamid())

    assert "Traceback" not in service.log()[len(before) :]
