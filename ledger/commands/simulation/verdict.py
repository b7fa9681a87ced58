"""Where every message must stand, worked out from the script alone.

The judge shares no code and no table with the ledger: a mistake there cannot be its own excuse here.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from ledger.commands.simulation.model import Message, Sender
from ledger.commands.simulation.script import Line

CHAIN: Final = ("UNKNOWN", "QUEUED", "SENT", "DELIVERED", "READ", "DELETED")
_RANK: Final = {status: rank for rank, status in enumerate(CHAIN)}
_DELIVERED: Final = _RANK["DELIVERED"]
_TIMES: Final = {
    "queued_at": "QUEUED",
    "sent_at": "SENT",
    "delivered_at": "DELIVERED",
    "read_at": "READ",
    "deleted_at": "DELETED",
    "failed_at": "FAILED",
}
#: Stands for a time that must be there and that nobody told.
SOME_TIME: Final = "some time"


class Said(msgspec.Struct, frozen=True):
    """One statement about a message, by its provider or its sender. Equal ones are one."""

    source: str
    word: str
    says: str | None
    kind: str | None = None
    at: datetime | None = None  #: as told
    believed_at: datetime | None = None
    identity: str = ""  #: tells statements apart that say the same
    code: str | None = None
    text: str | None = None


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a message must stand."""

    fields: dict[str, Any]  #: of the answer of `GET /v1/messages/{id}`
    observations: Counter[tuple[str, str, datetime | None, str | None]]
    registrations: int


def statements(line: Line) -> list[Said]:
    """Return everything said about a message, in the order of arrival, without repeats."""
    said = list(_by_the_sender(line.message))
    for report in sorted(line.reports, key=lambda report: report.arrives):
        step = report.step
        said.append(
            Said(
                source="callback",
                word=step.word,
                says=step.says,
                kind=step.kind,
                at=report.told_at,
                believed_at=report.told_believably,
                identity=report.event_id or report.date_text or "",
                code=step.code,
                text=step.text,
            )
        )
    return list(dict.fromkeys(said))


def _by_the_sender(message: Message) -> Sequence[Said]:
    if message.local_failure is not None:
        return [Said("sender", "failed", "FAILED", "failed", text=message.local_failure)]
    if message.sender in (Sender.NEVER, Sender.KEPT):
        return []
    word = message.accepted_as or ("queued" if message.channel == "sms" and message.sent_at is None else "sent")
    if word == "sent":
        return [Said("sender", "sent", "SENT", at=message.sent_at, believed_at=message.sent_at)]
    return [Said("sender", "queued", "QUEUED")]


def judge(line: Line) -> Place:
    """Work out where a message must stand."""
    message, said = line.message, statements(line)
    reached = max((_RANK[told.says] for told in said if told.says in _RANK), default=0)
    failures = [told for told in said if told.says == "FAILED"]
    outcome, conflict = _outcome(said, delivery_wins=message.account.delivery_wins)
    kind = failures[0].kind if outcome == "failed" else None
    status = "FAILED" if outcome == "failed" else CHAIN[reached]
    fields: dict[str, Any] = {
        "status": status,
        "status_detail": kind,
        "conflict": conflict,
        "is_final": outcome is not None,
        "channel": message.channel,
        "provider_message_id": message.provider_message_id,
        "version": len(said) + (conflict == "settled"),
        **{field: _time(message, said, about) for field, about in _TIMES.items()},
    }
    if message.sender is not Sender.NEVER:
        fields["client_reference"] = message.client_reference
    if outcome == "failed":
        counted = _counted([told for told in failures if told.kind == kind])
        fields["failure.code"] = counted.code
        if counted.text is not None:  # where the provider gives no text, the server has one of its own
            fields["failure.text"] = counted.text
    return Place(
        fields=fields,
        observations=Counter((told.source, told.word, told.at, told.code) for told in said),
        registrations=int(message.sender is not Sender.NEVER),
    )


def _outcome(said: Sequence[Said], *, delivery_wins: bool) -> tuple[str | None, str]:
    """Return the outcome and the conflict: the first outcome claimed stands, unless the account's rule corrects it."""
    outcome, conflict = None, "none"
    for told in said:
        if told.says != "FAILED" and _RANK.get(told.says or "", 0) < _DELIVERED:
            continue
        claimed = "failed" if told.says == "FAILED" else "delivered"
        if outcome is None:
            outcome = claimed
        elif claimed != outcome:
            conflict = "open"
            if delivery_wins and claimed == "delivered":
                outcome, conflict = claimed, "settled"
    return outcome, conflict


def _counted(failures: Sequence[Said]) -> Said:
    """Return the failure that counts: one with a code or a text, then the earliest, then the least."""
    telling = [told for told in failures if told.code or told.text] or failures
    return min(telling, key=lambda told: (told.believed_at is None, told.believed_at, told.text or "", told.code or ""))


def _time(message: Message, said: Sequence[Said], about: str) -> datetime | str | None:
    """Return when a status was reached: as told, as told of a later one that proves it, at some time, or never."""
    times = [told.believed_at for told in said if told.says == about and told.believed_at]
    if times:
        return min(times)
    if about == "QUEUED" and message.sender is not Sender.NEVER:
        return message.queued_at or SOME_TIME
    proofs = [told for told in said if about in ("SENT", "DELIVERED") and _RANK.get(told.says or "", 0) > _RANK[about]]
    implied = [told.believed_at for told in proofs if told.believed_at]
    if implied:
        return min(implied)
    return SOME_TIME if proofs or any(told.says == about for told in said) else None
