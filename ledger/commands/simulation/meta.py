"""Imitates the WhatsApp Cloud API: statuses in batches, mixed with inbound messages, signed over the escaped bytes."""

import hmac
import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import groupby
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

CHANNEL: Final = "whatsapp"
#: Statuses in the one request that follows an outage, and in others.
BACKLOG_MAX: Final = 200
BATCH_MAX: Final = 12

_SENT: Final = Step(word="sent", says="SENT")
_DELIVERED: Final = Step(word="delivered", says="DELIVERED", after=(0.5, 40))
_READ: Final = Step(word="read", says="READ", after=(1, 200))
_PLAYED: Final = Step(word="played", says="READ", after=(1, 60))
_DELETED: Final = Step(word="deleted", says="DELETED", after=(5, 90))
_WARNING: Final = Step(word="warning", says=None)
_HELD: Final = Step(word="held_for_quality_assessment", says=None)


def _failed(code: str, details: str) -> Step:
    return Step(word="failed", says="FAILED", kind="failed", code=code, text=details, after=(0.5, 30))


def _at(clock: Clock, step: Step) -> Step:
    return Step(word=step.word, says=step.says, after=step.after, clock=clock)


_UNDELIVERABLE: Final = _failed("131026", "Message undeliverable.")
_EXPERIMENT: Final = _failed("130472", "User's number is part of an experiment.")

STORIES: Final = (
    Story(name="read", steps=(_SENT, _DELIVERED, _READ), weight=30),
    Story(name="delivered", steps=(_SENT, _DELIVERED), weight=20),
    Story(name="read in an open chat", steps=(_SENT, _READ), weight=3),
    Story(name="sent and silent", steps=(_SENT,), weight=2),
    Story(name="failed", steps=(_SENT, _UNDELIVERABLE), weight=2),
    Story(name="failed at once", steps=(_failed("131047", "More than 24 hours have passed since the last reply."),)),
    Story(name="failed twice", steps=(_SENT, _EXPERIMENT, _UNDELIVERABLE)),
    Story(name="played", steps=(_SENT, _DELIVERED, _READ, _PLAYED)),
    Story(name="deleted", steps=(_SENT, _DELIVERED, _DELETED)),
    Story(name="all in one second", steps=(_SENT, _at(Clock.SAME, _DELIVERED), _at(Clock.SAME, _READ)), weight=2),
    Story(name="without times", steps=(_at(Clock.ABSENT, _SENT), _at(Clock.ABSENT, _DELIVERED))),
    Story(name="with a clock that runs ahead", steps=(_SENT, _at(Clock.AHEAD, _DELIVERED))),
    Story(name="a word nobody knows", steps=(_HELD,)),
    Story(name="a warning on the way", steps=(_SENT, _WARNING, _DELIVERED)),
    Story(name="group", steps=(_SENT, _DELIVERED, _READ), way="group", people=4),
    Story(name="to a username", steps=(_SENT, _DELIVERED, _READ), way="username", weight=2),
    Story(name="failed, then delivered", steps=(_SENT, _UNDELIVERABLE, _DELIVERED), in_order=True),
    Story(name="delivered, then failed", steps=(_SENT, _DELIVERED, _UNDELIVERABLE), in_order=True),
    Story(name="delivered, failed, read", steps=(_SENT, _DELIVERED, _EXPERIMENT, _READ), in_order=True),
)


def address(story: Story, told: Dice, ids: Ids, number: int) -> tuple[str, str]:
    """Return recipient and wamid. A wamid contains the recipient's number, or the group's id."""
    phone = f"120255501{told.randrange(100):02d}"
    whom = {"group": "GROUP", "username": f"US.{ids.text('user', number, 16)}"}.get(story.way, phone)
    inner = b"\x1d\x04\x12" + whom.encode() + b"\x15\x02\x00\x11\x18\x12" + ids.text("wamid", number).upper().encode()
    recipient = {"group": f"{ids.integer('group', number, 60)}@g.us", "username": whom}.get(story.way, f"+{phone}")
    return recipient, f"wamid.{b64encode(inner).decode()}"


def dated(story: Story, step: Step, happened_at: datetime, name: str, told: Dice) -> Dating:
    """Count in whole seconds."""
    return Dating(None if step.clock is Clock.ABSENT else happened_at.replace(microsecond=0))


def requests(account: Account, reports: Sequence[Report], told: Dice) -> list[Request]:
    """Send most statuses alone, some in small batches, and one large backlog."""
    made: list[Request] = []
    backlog_at = told.randrange(1 + len(reports) // 2)
    start = 0
    while start < len(reports):
        size = 1 if told.chance(0.7) else told.randint(2, BATCH_MAX)
        if start >= backlog_at:
            size, backlog_at = min(BACKLOG_MAX, max(2, len(reports) // 3)), len(reports)
        batch = reports[start : start + size]
        made.append(_signed(account, _body(batch, told), batch, told))
        start += size
    return made


def noise(account: Account, run: datetime, told: Dice) -> list[Request]:
    """An inbound message, an error of the account, a call, and JSON that is none of it."""
    stamp = str(int(run.timestamp()))
    alert = {"errors": [{"code": 130429, "title": "Rate limit hit"}]}
    call = {"statuses": [{"id": "wacid.1", "type": "call", "status": "RINGING", "timestamp": stamp}]}
    bodies = [
        _envelope([{"field": "messages", "value": {"messages": [_inbound(told, stamp)]}}]),
        _envelope([{"field": "messages", "value": alert}]),
        _envelope([{"field": "calls", "value": call}]),
        _envelope([{"field": "account_update", "value": {"event": "VERIFIED_ACCOUNT"}}]),
        b'{"entry": 7}',
    ]
    return [_signed(account, body, (), told) for body in bodies]


def forged(account: Account, report: Report, told: Dice) -> list[Request]:
    """Claim a failure under another secret, under none, under the old header, and in place of what was signed."""
    status = {**_status(report), "status": "failed", "errors": [{"code": 131026}]}
    body = _envelope([{"field": "messages", "value": {"statuses": [status]}}])
    digest = hmac.digest(account.secrets[0], body, "sha1").hex()
    elsewhere = _signed(account, b"{}", (), told).headers
    wrong = hmac.digest(b"a guess", body, "sha256").hex()
    plain = {"Content-Type": "application/json"}
    return [
        Request(body=body, headers={**plain, "X-Hub-Signature-256": f"sha256={wrong}"}),
        Request(body=body, headers=plain),
        Request(body=body, headers={**plain, "X-Hub-Signature": f"sha1={digest}"}),
        Request(body=body, headers=elsewhere),
    ]


def _body(reports: Sequence[Report], told: Dice) -> bytes:
    """Give every run of statuses of one number a change of its own, with inbound messages between the statuses."""
    changes = []
    for number, run in groupby(reports, key=lambda report: report.message.number % 2):
        part = list(run)
        value: dict[str, Any] = {
            "messaging_product": "whatsapp",
            "metadata": {"display_phone_number": f"1202555019{number}", "phone_number_id": f"20000000000000{number}"},
            "statuses": [_status(report) for report in part],
        }
        if len(part) > 1 and told.chance(0.5):
            value["messages"] = [_inbound(told, str(int(part[0].happened_at.timestamp())))]
        changes.append({"field": "messages", "value": value})
    return _envelope(changes)


def _envelope(changes: list[dict[str, Any]]) -> bytes:
    """Write JSON as Meta does: everything beyond ASCII and every slash escaped."""
    told = {"object": "whatsapp_business_account", "entry": [{"id": "100000000000001", "changes": changes}]}
    return json.dumps(told, separators=(",", ":")).replace("/", "\\/").encode()


def _status(report: Report) -> dict[str, Any]:
    message, step = report.message, report.step
    status: dict[str, Any] = {"id": message.provider_message_id, "status": step.word}
    if report.told_at is not None:
        status["timestamp"] = str(int(report.told_at.timestamp()))
    elif message.number % 2:  # milliseconds where seconds belong: no instant
        status["timestamp"] = str(round(report.happened_at.timestamp() * 1000))
    match message.story.way:
        case "group":
            told = {"recipient_type": "group", "recipient_participant_id": message.participant}
            status |= {"recipient_id": message.recipient, **told}
        case "username":
            status["recipient_user_id"] = message.recipient
        case _:
            status["recipient_id"] = message.recipient.removeprefix("+")
    status["biz_opaque_callback_data"] = message.client_reference
    if step.word == "sent":
        status["pricing"] = {"billable": True, "pricing_model": "PMP", "category": "utility", "type": "regular"}
    if step.code is not None:
        error = {"code": int(step.code), "title": "Title", "message": "Title", "error_data": {"details": step.text}}
        status["errors"] = [error]
    return status


def _inbound(told: Dice, stamp: str) -> dict[str, Any]:
    text = {"body": told.choice(("Does it come in another colour?", "Danke schön! \N{WAVING HAND SIGN}", "STOP"))}
    return {"from": "12025550140", "id": "wamid.INBOUND", "timestamp": stamp, "type": "text", "text": text}


def _signed(account: Account, body: bytes, reports: Sequence[Report], told: Dice) -> Request:
    digest = hmac.digest(told.choice(account.secrets), body, "sha256").hex()
    headers: Mapping[str, str] = {
        "Content-Type": "application/json",
        "User-Agent": "facebookexternalua",
        "X-Hub-Signature-256": f"sha256={digest}",
    }
    return Request(body=body, headers=headers, reports=reports)
