"""The executable specification of the status machine: one message, folded from claims.

Transcribed from the specification's model, with nothing but the standard library. It says what the domain must do and
shares no code with it; `test_laws` holds the two against each other. Correct it only when the specification changes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

CHAIN = ("UNKNOWN", "QUEUED", "SENT", "DELIVERED", "READ", "DELETED")
RANK = {s: i for i, s in enumerate(CHAIN)}
STATUSES = (*CHAIN, "FAILED")
SENT, DELIVERED = RANK["SENT"], RANK["DELIVERED"]
NEVER = 1 << 62  # sorts an absent provider time last


@dataclass(frozen=True, order=True)
class Claim:
    key: str  # identity of the observation
    status: str  # what it claims; UNKNOWN = says nothing about the status
    at: int | None = None  # believable provider time, else None
    kind: str = ""  # failed | undelivered, only with FAILED
    reason: str = ""
    closes: bool = False  # the provider says that no further report will come


@dataclass(frozen=True)
class Evidence:
    progress: int = 0  # join: max
    failed: bool = False  # join: or
    closed: bool = False  # join: or
    first_at: tuple = ()  # join: per status, min (absent time = NEVER)
    failures: frozenset = frozenset()  # join: union of (at, kind, reason)

    def join(self, other: Evidence) -> Evidence:
        times = dict(self.first_at)
        for status, at in other.first_at:
            times[status] = min(at, times.get(status, NEVER))
        return Evidence(
            max(self.progress, other.progress),
            self.failed or other.failed,
            self.closed or other.closed,
            tuple(sorted(times.items())),
            self.failures | other.failures,
        )


NOTHING = Evidence()


def lift(c: Claim) -> Evidence:
    at = NEVER if c.at is None else c.at
    if c.status == "UNKNOWN":
        return Evidence(closed=c.closes)
    if c.status == "FAILED":
        return Evidence(0, True, c.closes, (("FAILED", at),), frozenset([(at, c.kind, c.reason)]))
    return Evidence(RANK[c.status], False, c.closes, ((c.status, at),))


def has_conflict(e: Evidence) -> bool:
    return e.failed and e.progress >= DELIVERED


def kinds(e: Evidence) -> frozenset:
    return frozenset(k for _, k, _ in e.failures)


def status_of(e: Evidence) -> str:  # meaningful while has_conflict(e) is false
    return "FAILED" if e.failed else CHAIN[e.progress]


def outcome(status: str) -> str:
    return "failed" if status == "FAILED" else "delivered" if RANK[status] >= DELIVERED else "pending"


def is_terminal(status: str) -> bool:
    return outcome(status) != "pending"


def climbs(a: str, b: str) -> bool:  # a is below or equal to b
    if b == "FAILED":
        return a == "FAILED" or RANK[a] <= SENT
    return a != "FAILED" and RANK[a] <= RANK[b]


@dataclass(frozen=True)
class Message:
    status: str = "UNKNOWN"
    kind: str = ""  # failed | undelivered, fixed together with the outcome
    evidence: Evidence = NOTHING
    keys: frozenset = frozenset()
    conflict: str = "none"  # none | open | settled
    corrections: int = 0


def verdict(msg: Message, c: Claim) -> str:
    if c.key in msg.keys:
        return "redelivered"
    if c.status == "UNKNOWN":
        return "note"
    if c.status == "FAILED":
        return {"delivered": "conflict", "failed": "repeat", "pending": "advance"}[outcome(msg.status)]
    if msg.status == "FAILED":
        return "conflict" if RANK[c.status] >= DELIVERED else "late"
    seen, now = RANK[c.status], RANK[msg.status]
    return "advance" if seen > now else "repeat" if seen == now else "late"


def observe(msg: Message, c: Claim) -> Message:
    v = verdict(msg, c)
    if v == "redelivered":
        return msg  # nothing is appended
    new = replace(msg, evidence=msg.evidence.join(lift(c)), keys=msg.keys | {c.key})
    if v == "advance":
        new = replace(new, status=c.status, kind=c.kind if c.status == "FAILED" else "")
    if v == "conflict":
        new = replace(new, conflict="open")
    return new


def correct(msg: Message, to: str) -> Message:
    """The only way out of an outcome: an explicit, attributed correction of an open conflict."""
    if msg.conflict != "open" or to not in ("delivered", "failed"):
        raise ValueError("only an open conflict can be corrected")
    if to == outcome(msg.status):
        return replace(msg, conflict="settled")
    status = "FAILED" if to == "failed" else CHAIN[msg.evidence.progress]
    kind = min(msg.evidence.failures)[1] if to == "failed" else ""
    return replace(msg, status=status, kind=kind, conflict="settled", corrections=msg.corrections + 1)


def failure_reason(msg: Message) -> str | None:
    """Canonical among the claims of the shown kind: one with a text, then the earliest, then the least."""
    if msg.status != "FAILED":
        return None
    own = [x for x in msg.evidence.failures if x[1] == msg.kind]
    return min(own, key=lambda x: (x[2] == "", x))[2]


def times(msg: Message) -> dict:
    """Times per status; one implied by a later status takes that one's time and is marked inferred."""
    t = dict(msg.evidence.first_at)
    out = {"queued_at": (t["QUEUED"], False) if "QUEUED" in t else None}
    for name, status in (("sent_at", "SENT"), ("delivered_at", "DELIVERED"), ("read_at", "READ")):
        implied = (
            None
            if status == "READ"
            else min(  # a deletion does not prove a reading
                (a for s, a in t.items() if s in RANK and RANK[s] > RANK[status]), default=None
            )
        )
        out[name] = (t[status], False) if status in t else (implied, True) if implied is not None else None
    out["deleted_at"] = (t["DELETED"], False) if "DELETED" in t else None
    out["failed_at"] = (t["FAILED"], False) if "FAILED" in t else None
    return out


UNIFIED = {
    "UNKNOWN": "UNKNOWN",
    "QUEUED": "SENT",
    "SENT": "SENT",
    "DELIVERED": "DELIVERED",
    "READ": "READ",
    "DELETED": "DELETED",
    "FAILED": "FAILED",
}
WORDS = {
    "whatsapp": ("unknown", "sent", "sent", "delivered", "read", "deleted"),
    "viber": ("unknown", "sent", "sent", "delivered", "read", "deleted"),
    "sms": ("queued", "queued", "sent", "delivered", "delivered", "delivered"),
}


def word(msg: Message, channel: str, style: str) -> str:
    if style == "unified":
        return UNIFIED[msg.status]
    if msg.status == "FAILED":
        return msg.kind if channel == "sms" else "failed"
    return WORDS[channel][RANK[msg.status]]


def view(msg: Message) -> tuple:
    """What must not depend on arrival order while the evidence is settled."""
    return (
        msg.status,
        msg.kind,
        failure_reason(msg),
        tuple(sorted(times(msg).items())),
        msg.conflict,
        msg.evidence.closed,
    )
