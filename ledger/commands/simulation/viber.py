"""Imitates the Viber bot API: one event a request, `delivered` once a device, tokens beyond what a float can hold."""

import hmac
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from ledger.commands.simulation.model import (
    Account,
    Clock,
    Dating,
    Dice,
    Ids,
    Report,
    Request,
    Step,
    Story,
)

CHANNEL: Final = "viber"

_DELIVERED: Final = Step(word="delivered", says="DELIVERED", after=(0.5, 40))
_UNDATED: Final = Step(word="delivered", says="DELIVERED", after=(0.5, 40), clock=Clock.ABSENT)
_SEEN: Final = Step(word="seen", says="READ", after=(1, 200))
_FAILED: Final = Step(
    word="failed", says="FAILED", kind="undelivered", text="message validation failed", after=(0.5, 20)
)
_EXPIRED: Final = Step(word="expired", says=None, after=(60, 200))

STORIES: Final = (
    Story(name="seen", steps=(_DELIVERED, _SEEN), weight=20),
    Story(name="delivered", steps=(_DELIVERED,), weight=8),
    Story(name="delivered to three devices", steps=(_DELIVERED, _DELIVERED, _DELIVERED), weight=2),
    Story(name="two devices, then seen", steps=(_DELIVERED, _DELIVERED, _SEEN), weight=2),
    Story(name="seen only", steps=(_SEEN,)),
    Story(name="failed", steps=(_FAILED,), weight=2),
    Story(name="with time and token swapped", steps=(_UNDATED, _SEEN)),
    Story(name="a word nobody knows", steps=(_EXPIRED,)),
    Story(name="failed, then delivered", steps=(_FAILED, _DELIVERED), in_order=True),
    Story(name="delivered, then failed", steps=(_DELIVERED, _FAILED), in_order=True),
)


def address(story: Story, told: Dice, ids: Ids, number: int) -> tuple[str, str]:
    """Return a user of the bot and a token of 63 bits."""
    return ids.base64("user", number), str(ids.integer("token", number, 63))


def dated(story: Story, step: Step, happened_at: datetime, name: str, told: Dice) -> Dating:
    return Dating(None if step.clock is Clock.ABSENT else happened_at)


def requests(account: Account, reports: Sequence[Report], told: Dice) -> list[Request]:
    return [_signed(account, _body(_callback(report)), (report,), told) for report in reports]


def noise(account: Account, run: datetime, told: Dice) -> list[Request]:
    """The check of a new webhook, an inbound message, and an event that names no message."""
    at = round(run.timestamp() * 1000)
    bodies: tuple[dict[str, Any], ...] = (
        {"event": "webhook", "timestamp": at, "message_token": 241256543215},
        {"event": "message", "timestamp": at, "message_token": 4912661846655238145, "message": {"text": "Добрий день"}},
        {"event": "delivered", "timestamp": at},
    )
    return [_signed(account, _body(body), (), told) for body in bodies]


def forged(account: Account, report: Report, told: Dice) -> list[Request]:
    """Claim a failure under another secret, under none, and in place of what was signed."""
    body = _body({**_callback(report), "event": "failed", "desc": "forged"})
    wrong = hmac.digest(b"a guess", body, "sha256").hex()
    plain = {"Content-Type": "application/json"}
    return [
        Request(body=body, headers={**plain, "X-Viber-Content-Signature": wrong}),
        Request(body=body, headers=plain),
        Request(body=body, query=f"sig={_digest(account, b'{}', told)}", headers=plain),
    ]


def _callback(report: Report) -> dict[str, Any]:
    message, step = report.message, report.step
    at = report.told_at or report.happened_at
    told: dict[str, Any] = {
        "event": step.word,
        "timestamp": round(at.timestamp() * 1000),
        "message_token": int(message.provider_message_id or 0),
        "user_id": message.recipient,
    }
    if step.clock is Clock.ABSENT:  # an official sample has a token here, which is no instant
        told["timestamp"] = 4_977_069_964_384_421_269
    if step.text:
        told["desc"] = step.text
    return told


def _body(told: dict[str, Any]) -> bytes:
    return json.dumps(told, separators=(",", ":"), ensure_ascii=False).encode()


def _signed(account: Account, body: bytes, reports: Sequence[Report], told: Dice) -> Request:
    """Send the signature as a header, in the query as the official Node SDK reads it, or both."""
    digest, place = _digest(account, body, told), told.choice(("header", "query", "both"))
    headers = {"Content-Type": "application/json", "User-Agent": "akka-http/10.1"}
    if place != "query":
        headers["X-Viber-Content-Signature"] = digest
    return Request(query="" if place == "header" else f"sig={digest}", body=body, headers=headers, reports=reports)


def _digest(account: Account, body: bytes, told: Dice) -> str:
    return hmac.digest(told.choice(account.secrets), body, "sha256").hex()
