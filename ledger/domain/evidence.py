"""Everything ever claimed about one message, merged.

A product of join-semilattices (highest rank, union of failures, either closed, earliest time a status): `join` is
commutative, associative and idempotent, so evidence never depends on the order or the number of deliveries.

Where a provider reports the parts of a long message one by one, the message is where the last of them is: SENT once
one of them has left, beyond that once all of them are. The higher of the two never falls when a part climbs, so the
order of reports does not matter here either.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

import msgspec

from ledger.domain.observation import Part
from ledger.domain.status import CHAIN, RANK, FailureKind, Status

#: Earliest believed time of each status claimed.
Times = dict[Status, datetime | None]

_BEYOND_SENT: Final = CHAIN[RANK[Status.SENT] + 1 :]
_BEFORE_ALL: Final = datetime.min.replace(tzinfo=UTC)


class Failure(msgspec.Struct, frozen=True, array_like=True):
    """One claim of failure. `text` is the provider's; it is sealed apart from the rest when stored."""

    at: datetime | None
    kind: FailureKind
    code: str = ""
    text: str = ""

    @property
    def says_something(self) -> bool:
        return bool(self.code or self.text)


def failure_order(failure: Failure) -> tuple[bool, datetime, str, str, str]:
    """Earliest first, those without a time last; the rest makes the order total."""
    return (failure.at is None, failure.at or _BEFORE_ALL, failure.kind, failure.text, failure.code)


class Evidence(msgspec.Struct, frozen=True, array_like=True):
    """Everything ever claimed, merged. A product of join-semilattices."""

    progress: Status = Status.UNKNOWN  #: the highest claim of the delivered branch
    closed: bool = False  #: a provider said that no further report will come
    first_at: Times = {}
    failures: tuple[Failure, ...] = ()  #: distinct, in `failure_order`
    parts: dict[int, dict[int, Times]] = {}  #: number of parts -> part -> its times; for messages reported in parts

    @property
    def failed(self) -> bool:
        return bool(self.failures)

    @property
    def has_conflict(self) -> bool:
        return bool(self.failures) and RANK[self.progress] >= RANK[Status.DELIVERED]

    def wordless(self) -> "Evidence":
        """Return the evidence without the providers' texts. Failures that differed in nothing else are one then."""
        told = {Failure(failure.at, failure.kind, failure.code) for failure in self.failures}
        return msgspec.structs.replace(self, failures=tuple(sorted(told, key=failure_order)))

    def join(self, other: "Evidence") -> "Evidence":
        joined = Evidence(
            progress=_higher(self.progress, other.progress),
            closed=self.closed or other.closed,
            first_at=_earlier(self.first_at, other.first_at),
            failures=_union(self.failures, other.failures),
        )
        if not self.parts and not other.parts:
            return joined
        parts = dict(self.parts)
        for count, told in other.parts.items():
            known = parts.get(count, {})
            parts[count] = known | {part: _earlier(known.get(part, {}), times) for part, times in told.items()}
        progress, first_at = joined.progress, joined.first_at
        for count, told in parts.items():
            if len(told) == count:
                progress = _higher(progress, _least(told))
                first_at = _earlier(first_at, _times_of_all(told))
        return msgspec.structs.replace(joined, progress=progress, first_at=first_at, parts=parts)


def of_part(claim: Status, at: datetime | None, part: Part) -> Evidence:
    """Return what a claim of the delivered branch about one part of several amounts to by itself."""
    parts = {part.count: {part.number: {claim: at}}}
    if RANK[claim] <= RANK[Status.SENT]:
        return Evidence(progress=claim, first_at={claim: at}, parts=parts)
    return Evidence(progress=Status.SENT, first_at={Status.SENT: None}, parts=parts)


def _least(parts: Mapping[int, Times]) -> Status:
    return CHAIN[min(max(RANK[status] for status in times) for times in parts.values())]


def _times_of_all(parts: Mapping[int, Times]) -> Times:
    """Return when the last part reached each status beyond SENT that all have reached and one of them claims."""
    least, found = _least(parts), Times()
    for status in _BEYOND_SENT:
        if RANK[status] <= RANK[least] and any(status in times for times in parts.values()):
            reached = [_reached(times, status) for times in parts.values()]
            known = [at for at in reached if at is not None]
            found[status] = max(known) if len(known) == len(reached) else None
    return found


def _reached(times: Times, status: Status) -> datetime | None:
    """Return the earliest time at which a part had come so far."""
    known = [at for told, at in times.items() if at is not None and RANK[told] >= RANK[status]]
    return min(known, default=None)


def _higher(one: Status, other: Status) -> Status:
    return one if RANK[one] >= RANK[other] else other


def _earlier(one: Times, other: Times) -> Times:
    times = dict(one)
    for status, at in other.items():
        times[status] = earliest(times.get(status), at)
    return times


def earliest(one: datetime | None, other: datetime | None) -> datetime | None:
    if one is None:
        return other
    return one if other is None or one <= other else other


def _union(one: tuple[Failure, ...], other: tuple[Failure, ...]) -> tuple[Failure, ...]:
    if not other:
        return one
    if not one:
        return other
    return tuple(sorted({*one, *other}, key=failure_order))
