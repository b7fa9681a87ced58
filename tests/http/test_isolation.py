"""A key sees its account and channel and nothing else, by whatever it asks: ids, filters, cursors, streams, names.

That every route refuses whom it must is the matrix's matter (`test_access_matrix`); here several tenants of one server
look for one another's messages in every other way there is.
"""

import json
from typing import Any, NamedTuple

import httpx
import pytest

from tests.http.access_table import OPEN, ROWS
from tests.http.access_world import STATIC_NAME
from tests.http.callbacks import new_phone, new_sid, new_wamid, only, send, twilio
from tests.http.test_api import register, registered, shown
from tests.plugins.service import Service, eventually

ABSENT, MALFORMED = "9007199254740991", "none-such"
CHANNELS = ("whatsapp", "sms", "viber")


class Tenant(NamedTuple):
    """A message of one account and channel, and the client that may see it."""

    account: str
    channel: str
    client: httpx.Client
    message_id: int
    sid: str
    phone: str
    reference: str


def a_tenant(service: Service, account: str, channel: str) -> Tenant:
    """Make a message in conflict, so that every operation on it would have an effect."""
    client, sid, phone, reference = service.api(account, channel), new_sid(), new_phone(), new_wamid()
    message_id = registered(client, channel, provider_message_id=sid, recipient=f"+{phone}", client_reference=reference)
    to = f"whatsapp:+{phone}" if channel == "whatsapp" else f"+{phone}"
    for status in ("delivered", "undelivered"):
        assert send(service, twilio(sid, status, account=account, To=to)).status_code == 200
    assert shown(client, message_id)["conflict"] == "open"
    return Tenant(account, channel, client, message_id, sid, phone, reference)


@pytest.fixture(scope="module")
def owner(service) -> Tenant:
    return a_tenant(service, "twilio-main", "sms")


@pytest.fixture(scope="module")
def neighbour(service) -> Tenant:
    """The same account, another channel."""
    return a_tenant(service, "twilio-main", "whatsapp")


@pytest.fixture(scope="module")
def stranger(service) -> Tenant:
    """Another account at the same provider, the same channel."""
    return a_tenant(service, "twilio-other", "sms")


@pytest.fixture(scope="module")
def tenants(owner, neighbour, stranger) -> tuple[Tenant, ...]:
    return owner, neighbour, stranger


@pytest.fixture(scope="module")
def deprecated(service) -> httpx.Client:
    """A key of the owner's account and channel that was rotated."""
    key, secret = service.new_key("twilio-main", "sms")
    service.parts.keys.rotate(key.id)
    return service.client(secret)


def ask(client: httpx.Client, method: str, path: str, **headers: str) -> tuple[Any, ...]:
    """Return an answer without what is different in every answer."""
    with client.stream(method, path, headers=headers) as answer:
        if answer.headers.get("content-type", "").startswith("text/event-stream"):  # has no end
            return answer.status_code, {}, b""
        content = answer.read()
    if "json" in answer.headers.get("content-type", "") and content:
        shown_body = answer.json()
        shown_body.pop("request_id", None)
        content = json.dumps(shown_body).encode()
    kept = {name: value for name, value in answer.headers.items() if name not in ("date", "x-request-id")}
    return answer.status_code, kept, content


#: The compatibility API's errors depend on the style.
STYLED = [
    f"/api/v1/{channel}/messages/{{message_id}}{style}"
    for channel in CHANNELS
    for style in ("", "?status_style=unified", "?status_style=channel")
]


def visible(tenant: Tenant, path: str) -> bool:
    """Tell whether a path speaks of the tenant's channel; the native API's paths name none."""
    return not path.startswith("/api/v1/") or path.startswith(f"/api/v1/{tenant.channel}/")


@pytest.mark.parametrize("path", STYLED)
def test_what_is_not_ones_own_does_not_exist_in_any_style(service, tenants, deprecated, path):
    for asking in tenants:
        absent = ask(asking.client, "get", path.format(message_id=ABSENT))
        assert absent[0] in (400, 404)
        for asked in tenants:
            answer = ask(asking.client, "get", path.format(message_id=asked.message_id))
            assert (answer[0] == 200) if asked is asking and visible(asking, path) else (absent == answer)

    for client, expected in ((deprecated, "Deprecated API key."), (service.client(), "")):
        ids = [ABSENT, MALFORMED, *(str(tenant.message_id) for tenant in tenants)]
        answers = [ask(client, "get", path.format(message_id=id_)) for id_ in ids]
        assert answers[0][0] == 400
        assert expected.encode() in answers[0][2]
        assert all(answers[0] == answer for answer in answers)


@pytest.mark.parametrize(
    ("path", "items"),
    [("/v1/messages", "items"), *((f"/api/v1/{channel}/messages", "messages") for channel in CHANNELS)],
)
def test_a_listing_holds_ones_own_only(service, tenants, deprecated, path, items):
    for asking in tenants:
        answer = asking.client.get(path, params={"limit": "200"}).json()
        seen = {message["message_id"] for message in answer[items]}
        assert (asking.message_id in seen) == visible(asking, path)
        assert not seen & {tenant.message_id for tenant in tenants if tenant is not asking}
    for client in (deprecated, service.client()):
        assert client.get(path).status_code in (400, 401)


@pytest.mark.parametrize(
    "search",
    [
        lambda tenant: {"provider_message_id": tenant.sid},
        lambda tenant: {"recipient": f"+{tenant.phone}"},
        lambda tenant: {"client_reference": tenant.reference},
        lambda tenant: {"client_reference": tenant.reference, "provider": "twilio", "conflict": "open"},
    ],
    ids=["provider_message_id", "recipient", "client_reference", "combined"],
)
def test_a_filter_finds_ones_own_only(tenants, search):
    for asked in tenants:
        for asking in tenants:
            found = asking.client.get("/v1/messages", params=search(asked)).json()["items"]
            assert [message["message_id"] for message in found] == [asked.message_id] * (asking is asked)


def test_a_cursor_opens_no_door(service, owner, neighbour, stranger):
    for _ in range(3):
        registered(owner.client, "sms")
    cursor = owner.client.get("/v1/messages", params={"limit": "1"}).json()["next_cursor"]

    for asking in (neighbour, stranger):
        page = asking.client.get("/v1/messages", params={"cursor": cursor, "limit": "200"}).json()
        assert owner.message_id not in [message["message_id"] for message in page["items"]]
        assert {(message["account"], message["channel"]) for message in page["items"]} <= {
            (asking.account, asking.channel)
        }


def test_a_validator_of_another_key_is_worth_nothing(owner, stranger):
    path = f"/v1/messages/{owner.message_id}"
    tag = owner.client.get(path).headers["etag"]

    absent = ask(stranger.client, "get", f"/v1/messages/{ABSENT}", **{"if-none-match": tag})

    assert absent == ask(stranger.client, "get", path, **{"if-none-match": tag})
    assert absent == ask(stranger.client, "get", path, **{"if-none-match": tag, "prefer": "wait=1"})


def test_an_idempotency_key_of_another_account_opens_a_message_of_ones_own(owner, stranger):
    key = new_wamid()
    first = register(owner.client, "sms", key=key, client_reference="mine").json()

    answer = register(stranger.client, "sms", key=key, client_reference="theirs")

    assert answer.status_code == 201
    assert "idempotent-replayed" not in answer.headers
    assert answer.json()["message_id"] != first["message_id"]
    assert shown(owner.client, first["message_id"])["client_reference"] == "mine"


def test_a_providers_id_registered_by_two_accounts_is_two_messages(service, stranger):
    owner = a_tenant(service, "twilio-main", "sms")

    answer = register(stranger.client, "sms", provider_message_id=owner.sid)

    assert answer.status_code == 201
    assert answer.json()["message_id"] != owner.message_id
    assert answer.json()["status"] == "QUEUED"


def test_a_message_of_another_channel_is_neither_joined_nor_shown(service, owner, neighbour):
    before = shown(owner.client, owner.message_id)
    waiting = registered(neighbour.client, "whatsapp", client_reference="waiting")

    joined = register(neighbour.client, "whatsapp", provider_message_id=owner.sid, client_reference="mallory")
    handed = neighbour.client.post(f"/v1/messages/{waiting}/handoff", json={"provider_message_id": owner.sid})

    for answer in (joined, handed):
        assert (answer.status_code, answer.json()["code"]) == (409, "channel_mismatch")
        assert before["status"] not in answer.text
        assert owner.phone not in answer.text
    assert before == shown(owner.client, owner.message_id)
    assert shown(neighbour.client, waiting)["status"] == "UNKNOWN"


def test_a_callback_of_one_account_never_touches_another_accounts_message(service, stranger):
    owner = a_tenant(service, "twilio-main", "sms")
    before = shown(owner.client, owner.message_id)

    send(service, twilio(owner.sid, "read", account="twilio-other"))

    assert before == shown(owner.client, owner.message_id)
    assert only(stranger.client, owner.sid)["message_id"] != owner.message_id


def _found(answer: httpx.Response) -> httpx.Response | None:
    """A checkpoint is signed a moment after the first event."""
    return answer if answer.status_code == 200 else None


def heard(client: httpx.Client, path: str, last_id: str = "0") -> list[dict[str, Any]]:
    """Return what a stream has told by the time it tells of a message that was made for it to end with."""
    with client.stream("GET", path, headers={"last-event-id": last_id}) as answer:
        assert answer.status_code == 200
        found = []
        for line in answer.iter_lines():
            if line.startswith("data: "):
                found.append(json.loads(line.removeprefix("data: ")))
                if found[-1].get("client_reference") == "the last":
                    return found
    return found


def test_the_tail_tells_of_ones_own_messages_only(tenants, deprecated):
    for asking in tenants:
        registered(asking.client, asking.channel, client_reference="the last")
        told = heard(asking.client, "/v1/events")
        assert {(change["account"], change["channel"]) for change in told} == {(asking.account, asking.channel)}
        assert asking.message_id in {change["message_id"] for change in told}
        assert not {change["message_id"] for change in told} & {
            tenant.message_id for tenant in tenants if tenant is not asking
        }
    assert deprecated.get("/v1/events").status_code == 401


def test_an_id_of_another_keys_stream_opens_no_door(owner, stranger):
    absent = ask(stranger.client, "get", f"/v1/messages/{ABSENT}/events", **{"last-event-id": "0"})

    assert absent == ask(stranger.client, "get", f"/v1/messages/{owner.message_id}/events", **{"last-event-id": "0"})
    assert absent[0] == 404


def test_what_needs_no_key_tells_nothing_about_anybody(service, tenants):
    secrets = [text for tenant in tenants for text in (tenant.sid, tenant.phone, tenant.reference)]

    for row in (row for row in ROWS if row.gate is OPEN):
        asked = row.path.format(partition=0, name=STATIC_NAME)
        answer = eventually(lambda asked=asked: _found(service.client().get(asked)), f"{asked} is answered")
        assert not [secret for secret in secrets if secret in answer.text]


def test_a_route_that_says_that_the_id_is_missing_says_so_to_everybody_with_a_key(service, owner, deprecated):
    for channel in CHANNELS:
        path = f"/api/v1/{channel}/messages/"
        assert owner.client.get(path).json()["error_code"] == 1
        assert deprecated.get(path).json()["error_code"] in (5, 6)
        assert service.client().get(path).json()["error_code"] == 2
