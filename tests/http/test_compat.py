"""The compatibility API, field for field as the published documents show it, in both styles and on every channel."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.http.callbacks import (
    Callback,
    instant,
    meta,
    meta_failure,
    meta_status,
    new_phone,
    new_sid,
    new_token,
    new_wamid,
    only,
    send,
    twilio,
    viber,
)
from tests.http.test_api import registered

STATUS_FIELDS = {
    "request_id", "message_id", "status", "status_message", "phone_number", "channel_message_id",
    "intercom_conversation_id", "intercom_conversation_part_id", "sent_at", "delivered_at", "read_at",
    "failure_reason", "last_updated",
}  # fmt: skip
LISTED_FIELDS = {
    "message_id", "phone_number", "channel_message_id", "intercom_conversation_id", "intercom_conversation_part_id",
    "sent_at", "delivered_at", "read_at", "message_status",
}  # fmt: skip
LISTED_STATUS_FIELDS = {"message_status", "status_message", "failure_reason", "last_updated"}
ERROR_FIELDS = {"request_id", "error_code", "error"}

STYLES = ("unified", "channel")
ACCOUNTS = {"whatsapp": "meta-main", "sms": "twilio-main", "viber": "viber-main"}
ID_MISSING = "You must supply message_id in your request payload."


def seconds(at: int) -> str:
    """Write an instant after the tests' clock as the documents do."""
    return instant(at)


@pytest.fixture(scope="module")
def clients(service) -> dict[tuple[str, str], Any]:
    """A key for each channel and style."""
    return {
        (channel, style): service.api(account, channel, style)
        for channel, account in ACCOUNTS.items()
        for style in STYLES
    }


@pytest.fixture
def delivered(service, clients) -> Callable[..., int]:
    """Delivers callbacks of one message and returns its id."""

    def deliver(channel: str, *callbacks: Callback, provider_message_id: str) -> int:
        for callback in callbacks:
            assert send(service, callback).status_code == 200
        return only(clients[channel, "unified"], provider_message_id)["message_id"]

    return deliver


def status(client: Any, channel: str, message_id: object, **parameters: str) -> dict[str, Any]:
    answer = client.get(f"/api/v1/{channel}/messages/{message_id}", params=parameters)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    told = answer.json()
    assert set(told) == STATUS_FIELDS
    assert told.pop("request_id") == answer.headers["x-request-id"]
    return told


def error(answer: Any) -> tuple[int, int, str]:
    """Return HTTP status, error code and text, having checked the shape."""
    told = answer.json()
    assert answer.headers["content-type"] == "application/json"
    assert set(told) == ERROR_FIELDS
    assert told["request_id"] == answer.headers["x-request-id"]
    return answer.status_code, told["error_code"], told["error"]


# The documents' examples


def test_a_delivered_whatsapp_message_is_shown_as_documented(clients, delivered):
    wamid, phone = new_wamid(), new_phone()
    message_id = delivered(
        "whatsapp",
        meta(meta_status(wamid, "sent", 0, recipient_id=phone)),
        meta(meta_status(wamid, "delivered", 3, recipient_id=phone)),
        provider_message_id=wamid,
    )

    expected = {
        "message_id": message_id,
        "status": "DELIVERED",
        "status_message": "Your message has been delivered successfully.",
        "phone_number": f"+{phone}",
        "channel_message_id": wamid,
        "intercom_conversation_id": "",
        "intercom_conversation_part_id": "",
        "sent_at": seconds(0),
        "delivered_at": seconds(3),
        "read_at": None,
        "failure_reason": None,
        "last_updated": seconds(3),
    }
    assert expected == status(clients["whatsapp", "unified"], "whatsapp", message_id)
    assert {**expected, "status": "delivered"} == status(clients["whatsapp", "channel"], "whatsapp", message_id)


def test_a_message_nobody_has_spoken_of_is_unknown_with_nulls_and_empty_texts(clients):
    message_id = registered(clients["whatsapp", "unified"])

    told = status(clients["whatsapp", "unified"], "whatsapp", message_id)

    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", told.pop("last_updated"))
    assert told == {
        "message_id": message_id,
        "status": "UNKNOWN",
        "status_message": "No status has been reported yet. Ask again in 10 to 30 seconds.",
        "phone_number": None,
        "channel_message_id": "",
        "intercom_conversation_id": "",
        "intercom_conversation_part_id": "",
        "sent_at": None,
        "delivered_at": None,
        "read_at": None,
        "failure_reason": None,
    }


def test_conversations_are_shown(clients):
    told = {"conversation_id": "c-77", "part_id": "p-8"}
    message_id = registered(clients["sms", "unified"], "sms", conversation=told, provider_message_id=new_sid())

    shown = status(clients["sms", "unified"], "sms", message_id)

    assert (shown["intercom_conversation_id"], shown["intercom_conversation_part_id"]) == ("c-77", "p-8")


def test_a_failure_has_its_reason(clients, delivered):
    wamid = new_wamid()
    message_id = delivered("whatsapp", meta(meta_failure(wamid, 4)), provider_message_id=wamid)

    told = status(clients["whatsapp", "channel"], "whatsapp", message_id)

    assert (told["status"], told["failure_reason"]) == ("failed", "The number is not on WhatsApp.")
    assert told["last_updated"] == seconds(4)
    assert (told["sent_at"], told["delivered_at"]) == (None, None)


def test_a_failure_without_any_words_of_the_provider_still_has_a_reason(clients, delivered):
    sid = new_sid()
    message_id = delivered("sms", twilio(sid, "undelivered", ErrorCode="30003"), provider_message_id=sid)

    assert status(clients["sms", "unified"], "sms", message_id)["failure_reason"]


def test_a_recipient_that_is_no_phone_number_is_not_shown_as_one(clients, delivered):
    token = new_token()
    message_id = delivered("viber", viber(token), provider_message_id=token)

    assert status(clients["viber", "unified"], "viber", message_id)["phone_number"] is None


def test_a_time_the_provider_did_not_give_is_ours(clients, delivered):
    sid = new_sid()
    message_id = delivered("sms", twilio(sid, "delivered"), provider_message_id=sid)

    told = status(clients["sms", "channel"], "sms", message_id)

    assert told["delivered_at"] == told["sent_at"] == told["last_updated"]
    assert told["read_at"] is None


# Words

WORDS = [
    ("whatsapp", "sent", "SENT", "sent"),
    ("whatsapp", "delivered", "DELIVERED", "delivered"),
    ("whatsapp", "read", "READ", "read"),
    ("whatsapp", "played", "READ", "read"),
    ("whatsapp", "deleted", "DELETED", "deleted"),
    ("whatsapp", "failed", "FAILED", "failed"),
    ("whatsapp", "accepted", "SENT", "sent"),
    ("whatsapp", "teleported", "UNKNOWN", "unknown"),
    ("sms", "queued", "SENT", "queued"),
    ("sms", "sending", "SENT", "queued"),
    ("sms", "sent", "SENT", "sent"),
    ("sms", "delivered", "DELIVERED", "delivered"),
    ("sms", "read", "READ", "delivered"),
    ("sms", "failed", "FAILED", "failed"),
    ("sms", "canceled", "FAILED", "failed"),
    ("sms", "undelivered", "FAILED", "undelivered"),
    ("sms", "teleported", "UNKNOWN", "queued"),
    ("viber", "delivered", "DELIVERED", "delivered"),
    ("viber", "seen", "READ", "read"),
    ("viber", "failed", "FAILED", "failed"),
    ("viber", "teleported", "UNKNOWN", "unknown"),
]


@pytest.mark.parametrize("told", WORDS, ids=lambda told: f"{told[0]} {told[1]}")
def test_every_word_in_both_styles(clients, delivered, told):
    channel, word, unified, own = told
    id_ = {"whatsapp": new_wamid, "sms": new_sid, "viber": new_token}[channel]()
    callback = {
        "whatsapp": lambda: meta(meta_status(id_, word)),
        "sms": lambda: twilio(id_, word),
        "viber": lambda: viber(id_, word),
    }[channel]()
    message_id = delivered(channel, callback, provider_message_id=id_)

    for style, expected in (("unified", unified), ("channel", own)):
        client = clients[channel, style]
        assert status(client, channel, message_id)["status"] == expected
        listed = client.get(f"/api/v1/{channel}/messages", params={"limit": "200"}).json()["messages"]
        (found,) = [message for message in listed if message["message_id"] == message_id]
        assert found["message_status"]["message_status"] == expected


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("asked", STYLES)
def test_the_style_asked_for_overrides_the_keys(clients, delivered, style, asked):
    wamid = new_wamid()
    message_id = delivered("whatsapp", meta(meta_status(wamid, "read")), provider_message_id=wamid)
    client = clients["whatsapp", style]

    expected = {"unified": "READ", "channel": "read"}[asked]
    assert status(client, "whatsapp", message_id, status_style=asked)["status"] == expected
    assert client.get("/api/v1/whatsapp/messages/1", params={"status_style": asked}).status_code == (
        404 if asked == "unified" else 400
    )


def test_another_style_is_refused(clients):
    message_id = registered(clients["whatsapp", "unified"])

    for path in (f"/api/v1/whatsapp/messages/{message_id}", "/api/v1/whatsapp/messages"):
        answer = clients["whatsapp", "unified"].get(path, params={"status_style": "pirate"})
        http, code, text = error(answer)
        assert (http, code) == (400, 1)
        assert "pirate" not in text


# Errors


@pytest.mark.parametrize("channel", ACCOUNTS)
@pytest.mark.parametrize(("style", "http"), [("unified", 404), ("channel", 400)])
def test_an_unknown_message_by_style(clients, channel, style, http):
    for message_id in ("0", "1", "9007199254740991", "9999999999999999", "9" * 40):
        answer = clients[channel, style].get(f"/api/v1/{channel}/messages/{message_id}")
        assert error(answer) == (http, 1, "The message does not exist, or this API key did not send it.")


@pytest.mark.parametrize("channel", ACCOUNTS)
@pytest.mark.parametrize("style", STYLES)
def test_a_malformed_id_is_a_missing_one(clients, channel, style):
    for message_id in ("abc", "-1", "1.5", "1e3", "%20", "٣", "0x1", "null", "undefined", ":message_id"):
        answer = clients[channel, style].get(f"/api/v1/{channel}/messages/{message_id}")
        assert error(answer) == (400, 1, ID_MISSING)


@pytest.mark.parametrize("channel", ACCOUNTS)
@pytest.mark.parametrize("style", STYLES)
def test_no_id_at_all_is_a_missing_one(clients, channel, style):
    assert error(clients[channel, style].get(f"/api/v1/{channel}/messages/")) == (400, 1, ID_MISSING)


@pytest.mark.parametrize("path", ["messages/1", "messages", "messages/"])
@pytest.mark.parametrize("channel", ACCOUNTS)
def test_a_missing_or_unknown_key_is_code_2(service, channel, path):
    missing = service.client().get(f"/api/v1/{channel}/{path}")
    unknown = service.client("slk_nobody").get(f"/api/v1/{channel}/{path}")

    assert error(missing) == (400, 2, "You must supply an API key in the X-Octopods-Auth header.")
    assert error(unknown) == (400, 2, "The API key is not known.")


@pytest.mark.parametrize("end", ["rotate", "revoke"])
@pytest.mark.parametrize("path", ["messages/1", "messages", "messages/"])
@pytest.mark.parametrize(("channel", "code"), [("whatsapp", 6), ("viber", 6), ("sms", 5)])
def test_a_deprecated_key_has_the_channels_code(service, channel, code, path, end):
    key, secret = service.new_key(ACCOUNTS[channel], channel)
    client = service.client(secret)
    assert client.get(f"/api/v1/{channel}/messages").status_code == 200

    getattr(service.parts.keys, end)(key.id)

    assert error(client.get(f"/api/v1/{channel}/{path}")) == (400, code, "Deprecated API key.")


def test_the_new_key_reads_what_the_rotated_one_could(service, clients, delivered):
    key, _ = service.new_key("meta-main", "whatsapp", "channel")
    wamid = new_wamid()
    message_id = delivered("whatsapp", meta(meta_status(wamid, "read")), provider_message_id=wamid)

    rotated, secret = service.parts.keys.rotate(key.id)

    assert (rotated.account, rotated.channel, rotated.status_style) == ("meta-main", "whatsapp", "channel")
    assert status(service.client(secret), "whatsapp", message_id)["status"] == "read"


def test_a_channel_that_does_not_exist_is_not_served(clients):
    answer = clients["sms", "unified"].get("/api/v1/telegram/messages/1")

    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


# Listing


@pytest.mark.parametrize("channel", ACCOUNTS)
def test_a_listing_has_the_documented_shape(clients, channel):
    registered(clients[channel, "unified"], channel)

    answer = clients[channel, "unified"].get(f"/api/v1/{channel}/messages")

    told = answer.json()
    assert (answer.status_code, set(told)) == (200, {"request_id", "messages", "next_cursor"})
    assert told["request_id"] == answer.headers["x-request-id"]
    for message in told["messages"]:
        assert set(message) == LISTED_FIELDS
        assert set(message["message_status"]) == LISTED_STATUS_FIELDS


def test_a_listing_says_the_same_as_the_status(clients, delivered):
    wamid = new_wamid()
    message_id = delivered("whatsapp", meta(meta_failure(wamid)), provider_message_id=wamid)
    client = clients["whatsapp", "channel"]

    listed = client.get("/api/v1/whatsapp/messages", params={"limit": "200"}).json()["messages"]

    (found,) = [message for message in listed if message["message_id"] == message_id]
    nested = found.pop("message_status")
    alone = status(client, "whatsapp", message_id)
    assert {**found, "status": nested.pop("message_status"), **nested} == alone


def test_a_listing_pages_without_loss(service, clients):
    client = service.api("viber-main", "viber")
    made = [registered(client, "viber") for _ in range(7)][::-1]
    seen: list[int] = []
    parameters = {"limit": "3"}

    while len(seen) < 500:
        page = client.get("/api/v1/viber/messages", params=parameters).json()
        seen += [message["message_id"] for message in page["messages"]]
        if page["next_cursor"] is None:
            break
        parameters["cursor"] = page["next_cursor"]

    assert len(seen) == len(set(seen))
    assert [message_id for message_id in seen if message_id in made] == made


@pytest.mark.parametrize("parameters", [{"limit": "0"}, {"limit": "x"}, {"cursor": "x"}, {"page": "2"}])
def test_a_wrong_parameter_of_a_listing_is_code_1(clients, parameters):
    http, code, text = error(clients["sms", "unified"].get("/api/v1/sms/messages", params=parameters))

    assert (http, code) == (400, 1)
    assert next(iter(parameters)) in text


def test_the_id_in_the_answer_is_the_one_asked_for(service, clients):
    """A message handed off after its first callback has two ids; both keep resolving."""
    client, wamid = clients["whatsapp", "unified"], new_wamid()
    message_id = registered(client)
    send(service, meta(meta_status(wamid, "delivered")))
    early = only(client, wamid)["message_id"]
    client.post(f"/v1/messages/{message_id}/handoff", json={"provider_message_id": wamid})

    for asked in (message_id, early):
        told = status(client, "whatsapp", asked)
        assert (told["message_id"], told["status"]) == (asked, "DELIVERED")


def test_all_surfaces_tell_the_same_status(clients, delivered):
    wamid = new_wamid()
    message_id = delivered(
        "whatsapp", meta(meta_status(wamid, "delivered"), meta_failure(wamid)), provider_message_id=wamid
    )

    native = clients["whatsapp", "unified"].get(f"/v1/messages/{message_id}").json()
    compatible = status(clients["whatsapp", "unified"], "whatsapp", message_id)

    assert native["status"] == compatible["status"] == "DELIVERED"
    assert native["delivered_at"] == compatible["delivered_at"]
    assert native["conflict"] == "open"
