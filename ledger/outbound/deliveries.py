"""What became of each status change at each destination: handing on, leases, outcomes, the log of attempts.

A delivery is leased by one statement that skips rows another worker has locked. The lease ends by the database's clock,
and every lease has a number: what a worker reports under an older number is not believed. So a worker that dies loses
nothing, and one that wakes up late undoes nothing.

Deliveries of one message to one destination share a lane. Only the oldest pending one of a lane is ever leased.
"""

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

import msgspec

from ledger.outbound import delivery_statements as sql
from ledger.store.application import Ledger
from ledger.store.destinations import NOTICE, Destination, Kind, Reason
from ledger.store.sealing import place
from projections import generations
from projections.status_changes import STATUS_CHANGES

#: Status changes handed on in one transaction.
PAGE: Final = 500
#: Deliveries that one statement of upkeep touches.
ROWS: Final = 2_000
#: A destination that has failed so often in a row is asked with one delivery at a time, after a pause that grows.
PROBED_AFTER: Final = 5
_PAUSE_SECONDS_MAX: Final = 60.0
#: A destination is disabled when it has done nothing but fail for so long, and has failed early and late in that time.
DISABLED_AFTER_HOURS: Final = 120
#: Settled deliveries and their attempts are kept for so long, held and parked ones too.
KEPT_DAYS: Final = 30
_EXCERPT: Final = b"answer"
_WELL_SECONDS: Final = 10.0


class State(StrEnum):
    PENDING = "pending"
    DELIVERED = "delivered"
    PARKED = "parked"  #: given up
    HELD = "held"  #: the destination was disabled when it came


class Claimed(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery that this worker has the lease of."""

    destination_id: str
    partition: int
    position: int
    stream_id: UUID
    version: int  #: of the stream
    tries: int  #: made before, since it was last begun
    attempts: int  #: made before, in all
    resends: int
    fence: int


class Settlement(msgspec.Struct, frozen=True, kw_only=True):
    """How an attempt ended, and what is to be done."""

    outcome: str  #: delivered, or a word for what went wrong
    milliseconds: int = 0
    answer: int | None = None  #: HTTP status
    excerpt: bytes = b""  #: beginning of the answer's body
    message_id: int | None = None
    message_version: int | None = None
    status: str | None = None  #: as told
    retry_seconds: float | None = None  #: None: not tried again
    pause_seconds: float = 0.0  #: the whole destination is left alone for so long
    disables: Reason | None = None
    is_fault: bool = True  #: of the destination; False for what says nothing about its health

    @property
    def is_delivered(self) -> bool:
        return self.outcome == State.DELIVERED


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery as its owner sees it."""

    partition: int
    position: int
    stream_id: UUID
    version: int
    message_id: int | None
    message_version: int | None
    status: str
    state: State
    why: str | None
    attempts: int
    resends: int
    recorded_at: datetime
    next_at: datetime | None
    settled_at: datetime | None


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    number: int
    attempted_at: datetime
    milliseconds: int
    outcome: str
    answer: int | None
    excerpt: bytes


class Deliveries:
    """Every method raises StoreUnavailable."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    # Handing on -------------------------------------------------------------------------------------------------------

    def hand_on(self) -> int:
        """Make deliveries of status changes that have none yet, for every destination; return how many changes."""
        with self._ledger.reading() as cursor:
            changes = generations.live(cursor, STATUS_CHANGES)
            if changes is None:
                return 0
            behind = [row[0] for row in cursor.execute(changes.sql(sql.BEHIND)).fetchall()]
        return sum(self._hand_on(partition) for partition in behind)

    def _hand_on(self, partition: int) -> int:
        with self._ledger.reading() as cursor, cursor.connection.transaction():
            changes = generations.live(cursor, STATUS_CHANGES)
            if changes is None:
                return 0
            cursor.execute(sql.OPEN_POSITION, (partition,))
            at = cursor.execute(sql.LOCK_POSITION, (partition,)).fetchone()
            if at is None:
                return 0  # another worker is at it
            end = cursor.execute(changes.sql(sql.PAGE_END), (partition, at[0], PAGE)).fetchone()
            if end is None or end[0] is None:
                return 0
            span = {"partition": partition, "after": at[0], "until": end[0]}
            cursor.execute(changes.sql(sql.MAKE_DELIVERIES), span)
            cursor.execute(changes.sql(sql.JOIN_LANES), span)
            cursor.execute(sql.MOVE_POSITION, (end[0], partition))
            count: int = end[1]
            return count

    # Working ----------------------------------------------------------------------------------------------------------

    def claim(
        self,
        kind: Kind,
        *,
        limit: int,
        each: int,
        lease_seconds: float,
        busy: Mapping[str, int],
        only: str | None = None,
    ) -> list[Claimed]:
        """Lease up to `limit` due deliveries, at most `each` of a destination less what is `busy` there.

        `only` names the one destination whose deliveries are wanted.
        """
        told = {
            "only": only,
            "kind": kind.value,
            "limit": limit,
            "each": each,
            "lease": lease_seconds,
            "busy_ids": list(busy),
            "busy": list(busy.values()),
            "probed": PROBED_AFTER,
        }
        with self._ledger.reading() as cursor:
            rows = cursor.execute(sql.CLAIM, told, prepare=True).fetchall()
        return [_claimed(row) for row in rows]

    def lease(self, id_: str, seconds: float) -> int | None:
        """Lease a whole destination that has something due; return the number of the lease, None without one."""
        with self._ledger.reading() as cursor:
            row = cursor.execute(sql.LEASE, {"id": id_, "seconds": seconds}).fetchone()
        return row[0] if row else None

    def renew(self, id_: str, lease: int, seconds: float, claimed: Sequence[Claimed]) -> bool:
        """Prolong a lease and those of its deliveries; False if somebody else has the destination now."""
        with self._ledger.reading() as cursor, cursor.connection.transaction():
            held = cursor.execute(sql.RENEW, (seconds, id_, lease)).rowcount == 1
            for each in claimed if held else ():
                cursor.execute(sql.RENEW_DELIVERY, (seconds, *_place(each), each.fence))
        return held

    def end_lease(self, id_: str, lease: int) -> None:
        with self._ledger.reading() as cursor:
            cursor.execute(sql.END_LEASE, (id_, lease))

    def pause(self, id_: str, seconds: float) -> None:
        """Leave a destination alone for some time."""
        with self._ledger.reading() as cursor:
            cursor.execute(sql.PAUSE, (seconds, id_))

    def resume(self, id_: str) -> None:
        """Go on with everything that was held."""
        with self._ledger.reading() as cursor:
            while cursor.execute(sql.RESUME, {"id": id_, "limit": ROWS}).rowcount:
                pass

    def is_held_by(self, claimed: Claimed) -> bool:
        """Tell whether a lease is still good: nobody has taken, settled or forgotten the delivery since, and the
        message has not been erased.
        """
        with self._ledger.reading() as cursor:
            found = cursor.execute(sql.STILL_HELD, (*_place(claimed), claimed.fence)).fetchone()
        return found is not None

    def settle(self, destination: Destination, claimed: Claimed, ended: Settlement) -> list[str]:
        """Write down an attempt, and decide what becomes of delivery and destination.

        Returns what the destination's owner has to be told: failing, disabled, recovered. A lease that has been lost
        changes nothing.
        """
        number = claimed.attempts + 1
        sealed = None
        if ended.excerpt:
            sealed = destination.key.seal(ended.excerpt, _bound(destination, claimed, number))
        told = {
            "id": claimed.destination_id,
            "partition": claimed.partition,
            "position": claimed.position,
            "fence": claimed.fence,
            "state": _state_after(ended),
            "why": None if ended.is_delivered or ended.retry_seconds is not None else ended.outcome,
            "retry": ended.retry_seconds,
            "message_id": ended.message_id,
            "message_version": ended.message_version,
            "status": ended.status,
            "number": number,
            "milliseconds": ended.milliseconds,
            "answer": ended.answer,
            "outcome": ended.outcome,
            "sealed": sealed,
        }
        if ended.is_delivered and claimed.tries == 0 and _is_known_to_be_well(destination):
            with self._ledger.reading() as cursor:
                cursor.execute(sql.SETTLE, told, prepare=True)
            return []
        with self._ledger.reading() as cursor, cursor.connection.transaction():
            cursor.execute(sql.LOCK_DESTINATION, (claimed.destination_id,))
            lane = cursor.execute(sql.SETTLE, told, prepare=True).fetchone()
            if lane is None:
                return []
            cursor.execute(sql.FOLLOW, {"id": claimed.destination_id, "lane": lane[0], "at": lane[1]})
            return self._judge(cursor, claimed.destination_id, ended)

    def _judge(self, cursor: Any, id_: str, ended: Settlement) -> list[str]:
        """Write down what an attempt says about the destination."""
        if ended.is_delivered:
            before = cursor.execute(sql.SUCCEEDED, (PROBED_AFTER, id_)).fetchone()
            if before is None or before[0] is None:
                return []
            cursor.execute(NOTICE, (id_, "recovered", None))
            return ["recovered"]
        if not ended.is_fault:
            return []
        told = {"id": id_, "pause": ended.pause_seconds, "probed": PROBED_AFTER, "most": _PAUSE_SECONDS_MAX}
        failures, is_over = cursor.execute(sql.FAILED, {**told, "hours": DISABLED_AFTER_HOURS}).fetchone()
        notices: list[str] = []
        if failures == PROBED_AFTER:
            cursor.execute(NOTICE, (id_, "failing", ended.outcome))
            notices.append("failing")
        reason = ended.disables or (Reason.FAILING if is_over else None)
        if reason is not None and cursor.execute(sql.DISABLE, (reason.value, id_)).rowcount:
            cursor.execute(NOTICE, (id_, "disabled", reason.value))
            notices.append("disabled")
        return notices

    def drop(self, claimed: Claimed) -> None:
        """Forget a delivery of which nothing has to be told after all."""
        with self._ledger.reading() as cursor:
            cursor.execute(sql.DROP, (*_place(claimed), claimed.fence))

    def drop_erased(self, claimed: Claimed) -> None:
        """Forget a delivery whose message has been erased."""
        with self._ledger.reading() as cursor:
            cursor.execute(sql.DROP_ERASED, _place(claimed))

    def release(self, claimed: Sequence[Claimed]) -> None:
        """Give leases back unused: another worker may have them at once."""
        with self._ledger.reading() as cursor:
            for each in claimed:
                cursor.execute(sql.RELEASE, (*_place(each), each.fence))

    # Asking for it ----------------------------------------------------------------------------------------------------

    def resend(self, id_: str, partition: int, position: int, *, as_new: bool) -> bool:
        """Begin a delivery again, whatever became of it; tell whether there is such a one.

        `as_new` gives it an id of its own, for a receiver that would take the old one for a repetition.
        """
        with self._ledger.reading() as cursor:
            return cursor.execute(sql.RESEND, (int(as_new), id_, partition, position)).rowcount == 1

    def recover(
        self, id_: str, since: datetime, until: datetime | None, *, all_states: bool, seconds_max: float = 3.0
    ) -> tuple[int, bool]:
        """Begin again what was held or parked since a time, and begin what was never handed on.

        `all_states` begins again what was delivered as well. Returns how many there were, and whether that is all:
        what is left when the time is up is left for the next call.
        """
        states = [State.HELD, State.PARKED, *([State.DELIVERED] if all_states else [])]
        told = {"id": id_, "since": since, "until": until, "states": [state.value for state in states], "limit": ROWS}
        total, end = 0, time.monotonic() + seconds_max
        with self._ledger.reading() as cursor:
            begun = cursor.execute(sql.CLOCK).fetchone()
            told["begun"] = begun[0] if begun else None
            changes = generations.live(cursor, STATUS_CHANGES)
            statements = [sql.RECOVER, *([changes.sql(sql.RECOVER_MISSED)] if changes else [])]
            for statement in statements:
                while count := cursor.execute(statement, told).rowcount:
                    total += count
                    if time.monotonic() > end:
                        return total, False
        return total, True

    def newest(
        self, id_: str, states: Sequence[str], *, before: tuple[datetime, int] | None, limit: int
    ) -> list[Delivery]:
        told: dict[str, Any] = {"id": id_, "states": list(states) or None, "limit": limit}
        told |= {"at": before[0] if before else None, "position": before[1] if before else None}
        return self._deliveries(sql.NEWEST, told)

    def get(self, id_: str, partition: int, position: int) -> Delivery | None:
        found = self._deliveries(sql.GET, {"id": id_, "partition": partition, "position": position})
        return found[0] if found else None

    def _deliveries(self, statement: str, told: dict[str, Any]) -> list[Delivery]:
        with self._ledger.reading() as cursor:
            changes = generations.live(cursor, STATUS_CHANGES)
            rows = cursor.execute(changes.sql(statement), told).fetchall() if changes else []
        return [_delivery(row) for row in rows]

    def attempts(self, destination: Destination, partition: int, position: int) -> list[Attempt]:
        """Return every attempt of a delivery in order, with what was answered."""
        with self._ledger.reading() as cursor:
            rows = cursor.execute(sql.ATTEMPTS, (destination.id, partition, position)).fetchall()
        return [
            Attempt(
                number=number,
                attempted_at=attempted_at,
                milliseconds=milliseconds,
                outcome=outcome,
                answer=answer,
                excerpt=destination.key.open(sealed, _bound(destination, (partition, position), number))
                if sealed
                else b"",
            )
            for number, attempted_at, milliseconds, outcome, answer, sealed in rows
        ]

    def counts(self, id_: str) -> dict[str, int]:
        """Return how many deliveries are in each state."""
        with self._ledger.reading() as cursor:
            found = dict(cursor.execute(sql.COUNTS, (id_,)).fetchall())
        return {state.value: found.get(state.value, 0) for state in State}

    # Upkeep -----------------------------------------------------------------------------------------------------------

    def tidy(self) -> int:
        """Hold what waits for destinations that are disabled, and clear away after deleted ones, a page of each.

        Returns how many deliveries that were: 0 when nothing is left to do.
        """
        with self._ledger.reading() as cursor:
            held = cursor.execute(sql.HOLD, (ROWS,)).rowcount
            cleared = cursor.execute(sql.CLEAR_DELETED, (ROWS,)).rowcount
            if not cleared:
                cursor.execute(sql.DELETE_CLEARED)
        return held + cleared

    def purge(self) -> int:
        """Drop what was settled, parked or held long ago, a page of it; return how many deliveries."""
        with self._ledger.reading() as cursor:
            return cursor.execute(sql.PURGE, (KEPT_DAYS, ROWS)).rowcount


def forget(cursor: Any, stream_ids: Sequence[UUID]) -> int:
    """Drop everything about what was sent of messages; return how many deliveries.

    For erasure, in its own transaction: nothing more of them is sent, and a lease that is out finds nothing to send.
    """
    count: int = cursor.execute(sql.FORGET, (list(stream_ids), list(stream_ids))).rowcount
    return count


def _is_known_to_be_well(destination: Destination) -> bool:
    """Tell whether another success says nothing new about a destination: no row that all share is written then."""
    last = destination.last_succeeded_at
    return destination.failures == 0 and last is not None and (datetime.now(UTC) - last).total_seconds() < _WELL_SECONDS


def _state_after(ended: Settlement) -> str:
    if ended.is_delivered:
        return State.DELIVERED.value
    return State.PENDING.value if ended.retry_seconds is not None else State.PARKED.value


def _place(claimed: Claimed) -> tuple[str, int, int]:
    return claimed.destination_id, claimed.partition, claimed.position


def _bound(destination: Destination, where: Claimed | tuple[int, int], number: int) -> bytes:
    partition, position = where if isinstance(where, tuple) else (where.partition, where.position)
    return place(destination.uid, number, _EXCERPT + partition.to_bytes(2, "big") + position.to_bytes(8, "big"))


def _claimed(row: Any) -> Claimed:
    return Claimed(**dict(zip(Claimed.__struct_fields__, row, strict=True)))


def _delivery(row: Any) -> Delivery:
    told = dict(zip(Delivery.__struct_fields__, row, strict=True))
    return Delivery(**{**told, "state": State(told["state"])})
