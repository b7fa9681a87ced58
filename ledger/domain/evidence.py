"""Everything ever claimed about one message, merged.

A product of join-semilattices (highest rank, union of failures, either closed, earliest time a status): `join` is
commutative, associative and idempotent, so evidence never depends on the order or the number of deliveries.
"""

from datetime import UTC, datetime
from typing import Final

import msgspec

from ledger.domain.status import RANK, FailureKind, Status

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


class Evidence(msgspec.Struct, frozen=True, omit_defaults=True):
    """Everything ever claimed, merged. A product of join-semilattices."""

    progress: Status = Status.UNKNOWN  #: the highest claim of the delivered branch
    closed: bool = False  #: a provider said that no further report will come
    first_at: dict[Status, datetime | None] = {}  #: earliest believed time of each claimed status
    failures: tuple[Failure, ...] = ()  #: distinct, in `failure_order`

    @property
    def failed(self) -> bool:
        return bool(self.failures)

    @property
    def has_conflict(self) -> bool:
        return bool(self.failures) and RANK[self.progress] >= RANK[Status.DELIVERED]

    def join(self, other: "Evidence") -> "Evidence":
        first_at = dict(self.first_at)
        for status, at in other.first_at.items():
            first_at[status] = earliest(first_at.get(status), at)
        return Evidence(
            progress=self.progress if RANK[self.progress] >= RANK[other.progress] else other.progress,
            closed=self.closed or other.closed,
            first_at=first_at,
            failures=_union(self.failures, other.failures),
        )


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
