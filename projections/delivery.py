"""How far messages come: registered, sent, delivered, read; failed, undelivered, deleted; without any report.

A message counts in the hour in which anything about it was first received, wherever it stands now. So the steps of one
answer are about the same messages, and a share is a share of them.
"""

from typing import Any, Final

import msgspec

from ledger.domain.status import RANK, FailureKind, Outcome, Status, outcome
from projections.counts import Shape
from projections.facts import Facts
from projections.scope import Scope, View

COUNTED: Final = (
    "messages",
    "registered",
    "sent",
    "delivered",
    "read",
    "deleted",
    "failed",
    "undelivered",
    "pending",
    "no_report",
)
_KEY: Final = ("hour", "account", "channel", "provider", "country")
SHAPE: Final = Shape("delivery", _KEY, COUNTED)
#: The same by UTC day: a month of hours is many rows to add up while somebody waits.
DAYS: Final = Shape("delivery_days", _KEY, COUNTED)

_SENT: Final = RANK[Status.SENT]


def counted(facts: Facts) -> tuple[int, ...]:
    """Return what one message adds to each of `COUNTED`."""
    status = facts.status
    failed = status is Status.FAILED
    undelivered = failed and facts.kind is FailureKind.UNDELIVERED
    delivered = outcome(status) is Outcome.DELIVERED
    pending = not failed and not delivered
    return (
        1,
        facts.registered,
        undelivered or (not failed and RANK[status] >= _SENT),
        delivered,
        delivered and facts.read,
        status is Status.DELETED,
        failed and not undelivered,
        undelivered,
        pending,
        pending and not facts.reported,
    )


class Funnel(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of the messages of one group. Rates are shares of them, null where there is nothing to share."""

    group: dict[str, str]
    messages: int  #: anything at all is known of
    registered: int  #: the sender told us
    sent: int  #: left the provider's queue
    delivered: int  #: confirmed by the device; read and deleted ones among them
    read: int  #: opened, where the recipient lets it be known
    deleted: int  #: deleted by the recipient after delivery
    failed: int  #: never left the sending side
    undelivered: int  #: left, and was not delivered
    pending: int  #: without an outcome
    no_report: int  #: pending, and the provider has said nothing at all
    delivery_rate: float | None  #: delivered of messages with an outcome
    read_rate: float | None  #: read of delivered: a lower bound, because readers can hide it


def query(view: View, scope: Scope) -> list[Funnel]:
    """Return the funnel of every group, in the order of groups."""
    return [_funnel(group, counts) for group, counts in view.added(scope, SHAPE.name, DAYS.name, COUNTED)]


def _funnel(group: dict[str, str], counts: Any) -> Funnel:
    told = dict(zip(COUNTED, counts, strict=True))
    decided = told["delivered"] + told["failed"] + told["undelivered"]
    return Funnel(
        group=group,
        **told,
        delivery_rate=_share(told["delivered"], decided),
        read_rate=_share(told["read"], told["delivered"]),
    )


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 6) if whole else None
