"""All surfaces, asked about the same 500 random messages, say the same of each."""

import itertools
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, NamedTuple

import httpx
import pytest

from ledger.surfaces.vocabulary import hubspot_wording
from ledger_client import Client
from tests.http.callbacks import meta, meta_failure, meta_status, new_sid, new_wamid, send, twilio
from tests.http.sse import Stream
from tests.plugins.service import Service
from tests.surfaces.inbox import canvas, contact, fields, payload, post, rows

MESSAGES = 500
SEED = 20261125
ACCOUNTS = {"whatsapp": "meta-main", "sms": "twilio-main"}

#: Written down once more, by hand: unified, Intercom, HubSpot, Reach.
WORDS = {
    "UNKNOWN": ("UNKNOWN", "… Send Attempted", "not confirmed by the provider yet", "Queued"),
    "QUEUED": ("SENT", "✓ Sent", "accepted by the provider", "Queued"),
    "SENT": ("SENT", "✓ Sent", "sent", "Sent"),
    "DELIVERED": ("DELIVERED", "✓✓ Delivered", "delivered", "Delivered"),
    "READ": ("READ", "✓✓ Read", "read", "Read"),
    "DELETED": ("DELETED", "⌫ Deleted by Recipient", "deleted by the recipient after delivery", "Deleted"),
    "FAILED": ("FAILED", "✕ Delivery Failed", "failed", "Failed"),
}
CHANNEL_STYLE = {
    "whatsapp": {"UNKNOWN": "unknown", "QUEUED": "sent"},
    "sms": {"UNKNOWN": "queued", "READ": "delivered", "DELETED": "delivered"},
}
NAMES = {"whatsapp": "WhatsApp", "sms": "SMS"}


class Sent(NamedTuple):
    """A message of the test: who may read it, under which id, and the number it went to."""

    channel: str
    message_id: int
    phone: str


@pytest.fixture(scope="module")
def keys(inbox) -> dict[str, str]:
    return {channel: inbox.new_key(account, channel)[1] for channel, account in ACCOUNTS.items()}


@pytest.fixture(scope="module")
def sent(inbox, keys) -> list[Sent]:
    """Have 500 messages go through everything that can happen to one, at random."""
    dice = random.Random(SEED)
    phones = (f"1202{number:07d}" for number in itertools.count(5_550_000))
    with ThreadPoolExecutor(8) as pool:
        seeds = [(dice.random(), next(phones)) for _ in range(MESSAGES)]
        return list(pool.map(lambda told: _live(inbox, keys, *told), seeds))


def _live(service: Service, keys: dict[str, str], seed: float, phone: str) -> Sent:
    dice = random.Random(seed)
    channel = dice.choice(["whatsapp", "sms"])
    provider_id = new_wamid(phone) if channel == "whatsapp" else new_sid()
    words = ["sent", "delivered", "read", "deleted", "failed"] if channel == "whatsapp" else [
        "queued", "sent", "delivered", "undelivered", "failed", "read",
    ]  # fmt: skip
    reports = [dice.choice(words) for _ in range(dice.randint(0, 5))]
    message_id = None
    http = service.client(keys[channel])
    with Client(service.url, keys[channel]) as client:
        before = dice.randint(0, len(reports)) if dice.random() < 0.5 else len(reports)
        for second, word in enumerate(reports[:before]):
            _report(service, http, Sent(channel, 0, phone), provider_id, word=word, second=second)
        if dice.random() < 0.7 or not before:
            message_id = client.register(channel, recipient=f"+{phone}", client_reference=phone).message_id
            match dice.randint(0, 3):
                case 0 if not before:
                    client.fail(message_id, "Phone number is missing.", code="1")
                case 1 if before == len(reports) and not before:
                    pass
                case _:
                    client.hand_off(message_id, provider_id)
        for second, word in enumerate(reports[before:], start=before):
            _report(service, http, Sent(channel, 0, phone), provider_id, word=word, second=second)
        if message_id is None:
            (found,) = client.messages(provider_message_id=provider_id)
            message_id = found.message_id
        contradictory = {"delivered", "read", "deleted"} & {*reports} and {"failed", "undelivered"} & {*reports}
        if contradictory and client.get(message_id).conflict == "open" and dice.random() < 0.5:
            client.correct(message_id, dice.choice(["delivered", "failed"]), by="test", why="By chance.")
    return Sent(channel, message_id, phone)


def _report(service: Service, http: httpx.Client, to: Sent, provider_id: str, *, word: str, second: int) -> None:
    if to.channel == "sms":
        callback = twilio(provider_id, word, To=f"+{to.phone}")
    elif word == "failed":
        callback = meta({**meta_failure(provider_id, second), "recipient_id": to.phone})
    else:
        callback = meta(meta_status(provider_id, word, second, recipient_id=to.phone))
    answer = send(service, callback, client=http)
    assert answer.status_code == 200


def test_the_messages_are_of_every_kind(inbox, keys, sent):
    seen = set()
    for channel in ACCOUNTS:
        with Client(inbox.url, keys[channel]) as client:
            seen |= {(message.channel, message.status) for message in client.messages()}

    assert len(sent) == MESSAGES
    assert {status for _, status in seen} == set(WORDS)
    assert {("sms", "FAILED"), ("sms", "QUEUED"), ("sms", "READ"), ("whatsapp", "DELETED")} <= seen


def test_all_surfaces_say_the_same_of_every_message(inbox, keys, sent):
    everywhere = {channel: _everywhere(inbox, keys[channel], channel) for channel in ACCOUNTS}

    def asked(one: Sent) -> list[str]:
        return _differences(inbox, inbox.client(keys[one.channel]), one, everywhere[one.channel])

    with ThreadPoolExecutor(8) as pool:
        answers = zip(sent, pool.map(asked, sent), strict=True)
        wrong = [f"{one.message_id}: {text}" for one, found in answers for text in found]

    assert wrong[:20] == []


class Told(NamedTuple):
    """What those surfaces say that tell of many messages at once, by message id."""

    listed: dict[int, dict[str, Any]]
    compatible: dict[int, dict[str, Any]]
    tail: dict[int, dict[str, Any]]  #: the last change


def _everywhere(service: Service, key: str, channel: str) -> Told:
    http = service.client(key)
    return Told(
        {message["message_id"]: message for message in _pages(http, "/v1/messages", "items")},
        {message["message_id"]: message for message in _pages(http, f"/api/v1/{channel}/messages", "messages")},
        _tail(service, key),
    )


def _pages(http: httpx.Client, path: str, name: str) -> Iterator[dict[str, Any]]:
    cursor: dict[str, str] | None = {}
    while cursor is not None:
        page = http.get(path, params={"limit": "200", **cursor}).json()
        yield from page[name]
        cursor = {"cursor": page["next_cursor"]} if page["next_cursor"] else None


def _tail(service: Service, key: str) -> dict[int, dict[str, Any]]:
    """Return the last change of each message, as the tail tells it from the beginning."""
    head = service.client().get("/readyz").json()["positions"]["0"]
    last: dict[int, dict[str, Any]] = {}
    with Stream(service, "/v1/events", key, "0") as stream:
        while int(stream.last_id or 0) < head:
            event = stream._block()
            if event is not None:
                last[event.data["message_id"]] = event.data
    return last


def _detail(service: Service, message_id: int) -> dict[str, str]:
    """Return the fields of a message in the Inbox App."""
    answer = post(service, "submit", payload(component_id=f"msg:{message_id}"))
    return fields(answer.json()["canvas"])


def _row(service: Service, one: Sent) -> dict[str, Any]:
    """Return the row of a message in the list of what was sent to its recipient."""
    side_bar = canvas(service, "initialize", payload(**contact(f"+{one.phone}")))
    return next(row for row in rows(side_bar) if row["id"] == f"msg:{one.message_id}")


def _plain(message: dict[str, Any]) -> dict[str, Any]:
    """Return a message without what only a single one tells: whether errors recur for its recipient."""
    failure = message["failure"]
    return {**message, "failure": failure and {**failure, "recipient_specific": None}}


def _differences(service: Service, http: httpx.Client, one: Sent, told: Told) -> list[str]:
    id_ = one.message_id
    message = http.get(f"/v1/messages/{id_}").json()
    status, detail = message["status"], message["status_detail"]
    unified, intercom, sentence, reach = WORDS[status]
    in_channel = detail if one.channel == "sms" and status == "FAILED" else status.lower()
    in_channel = CHANNEL_STYLE[one.channel].get(status, in_channel)
    updated = datetime.fromisoformat(message["last_updated"])
    failure = message["failure"]

    opened = service.parts.messages.get(id_)
    assert opened is not None
    history = http.get(f"/v1/messages/{id_}/history", params={"limit": "200"}).json()
    compat = told.compatible[id_]["message_status"]
    compat_channel = http.get(f"/api/v1/{one.channel}/messages/{id_}?status_style=channel").json()
    with Stream(service, f"/v1/messages/{id_}/events", http.headers["x-octopods-auth"]) as stream:
        streamed = stream.next().data
    shown = _detail(service, id_)
    row = _row(service, one) if id_ % 5 == 0 else {"title": intercom, "tertiary_text": None}
    done = [step for step in streamed["timeline"] if step["state"] == "done"]
    last = told.tail[id_]
    when = f"{updated:%d %b %Y, %H:%M:%S} UTC"

    said: dict[str, tuple[Any, Any]] = {
        "list": (_plain(told.listed[id_]), _plain(message)),
        "history": (history["status"], status),
        "last of history": (history["items"][-1]["status_after"], status),
        "compatible": (compat["message_status"], unified),
        "compatible, channel": (compat_channel["status"], in_channel),
        "compatible last_updated": (compat["last_updated"], f"{updated:%Y-%m-%dT%H:%M:%SZ}"),
        "compatible failure": (compat["failure_reason"], failure and failure["text"]),
        "stream": (_plain(streamed["message"]), _plain(message)),
        "stream change": ((streamed["change"]["status"], streamed["change"]["label"]), (status, reach)),
        "timeline": (done[-1]["label"], reach),
        "tail": ((last["status"], last["label"], last["status_detail"]), (status, reach, detail)),
        "inbox": (row["title"], intercom),
        "inbox time": (row["tertiary_text"] or when, when),
        "inbox detail": (shown["Delivery Status"], intercom),
        "inbox detail time": (shown["Last update"], when),
        "inbox reason": (shown.get("Failure reason"), failure and failure["text"]),
        "inbox code": (shown.get("Failure code"), failure and failure["code"]),
        "hubspot": (hubspot_wording(opened.message), f"{NAMES[one.channel]} message {sentence} · last updated {when}"),
    }
    return [f"{place} says {found!r}, not {must!r}" for place, (found, must) in said.items() if found != must]


def test_a_surface_that_differs_would_be_noticed(inbox, keys, sent):
    """The comparison itself: another status in one place is one difference."""
    one = next(one for one in sent if one.channel == "sms")
    told = _everywhere(inbox, keys["sms"], "sms")
    told.tail[one.message_id] = {**told.tail[one.message_id], "status": "SMOKE"}

    found = _differences(inbox, inbox.client(keys["sms"]), one, told)

    assert [text.partition(" ")[0] for text in found] == ["tail"]
