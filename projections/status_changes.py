"""Which events changed what readers see: one row a change, for everything that is told to somebody outside.

Shape: `TABLE`. A row says that there is something to tell, and nothing about people; what exactly is told is folded
from the message's own events when it is told. A hand-off has a row in each of the two streams, because the one that
goes on may know more than the sender's stream had told.
"""

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

import msgspec

from ledger.domain.events import MessageLinked
from ledger.domain.status import Status
from ledger.store import arrays
from ledger.store.application import Ledger
from ledger.store.mapper import Turn
from projections.feed import Logged
from projections.generations import Cursor, Generation, Table

TABLE: Final = Table(
    name="status_changes",
    columns="""
        recorded_at timestamptz NOT NULL, position bigint NOT NULL, stream_id uuid NOT NULL, joins uuid, merges uuid,
        version integer NOT NULL, partition smallint NOT NULL, account text NOT NULL, channel text NOT NULL,
        status text NOT NULL
    """,
    key=("partition", "position"),
    indexes=(
        "CREATE INDEX {status_changes}_account ON {status_changes} (account, channel, recorded_at)",
        "CREATE INDEX {status_changes}_joins ON {status_changes} (stream_id) WHERE joins IS NOT NULL",
    ),
    fillfactor=100,
)


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What one event has to tell."""

    account: str
    channel: str
    status: Status  #: UNKNOWN of a hand-off: what it comes to is known when it is told
    joins: UUID | None = None  #: of a stream that is handed off: the one that goes on
    merges: UUID | None = None  #: of the one that goes on: the stream that was handed off to it


class StatusChanges:
    """The projection: see `projections.feed.Projection`."""

    name = "status_changes"
    shape = 1
    rules = "1"
    tables: Sequence[Table] = (TABLE,)

    def work(self, ledger: Ledger, cursor: Cursor, generation: Generation) -> "StatusChangesWork":
        return StatusChangesWork(ledger, cursor, generation)


STATUS_CHANGES: Final = StatusChanges()


class StatusChangesWork:
    """See `projections.feed.Work`."""

    def __init__(self, ledger: Ledger, cursor: Cursor, generation: Generation) -> None:
        self._ledger = ledger
        self._cursor = cursor
        self._generation = generation

    def take(self, events: Sequence[Logged]) -> None:
        found = [(logged, change) for logged in events if (change := self._change(logged)) is not None]
        if not found:
            return
        logs, changes = zip(*found, strict=True)
        columns = [
            arrays.smallints([logged.partition for logged in logs]),
            arrays.bigints([logged.position for logged in logs]),
            arrays.instants([logged.recorded_at for logged in logs]),
            arrays.uuids([logged.stream_id for logged in logs]),
            arrays.integers([logged.version for logged in logs]),
            arrays.texts([change.account for change in changes]),
            arrays.texts([change.channel for change in changes]),
            arrays.texts([change.status.value for change in changes]),
            arrays.uuids([change.joins for change in changes]),
            arrays.uuids([change.merges for change in changes]),
        ]
        self._cursor.execute(self._generation.sql(_INSERT), columns, prepare=True)

    def finish(self) -> None:
        """Everything has been written."""

    def _change(self, logged: Logged) -> Change | None:
        """Return what an event has to tell; None for one that changed no status."""
        turn = logged.turn(self._ledger)
        if turn is not None:
            return None if turn.status_after is turn.status_before else _change(turn, turn.status_after)
        match logged.event(self._ledger):
            case MessageLinked(leads=True) as event:
                return _change(event, Status.UNKNOWN, merges=event.other)
            case MessageLinked() as event:
                return _change(event, Status.UNKNOWN, joins=event.other)
            case _:
                return None


def _change(told: Turn | MessageLinked, status: Status, **links: Any) -> Change:
    return Change(account=told.account, channel=told.channel.value, status=status, **links)


_INSERT: Final = """
INSERT INTO {status_changes} (partition, position, recorded_at, stream_id, version, account, channel, status, joins,
                              merges)
SELECT * FROM unnest(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
"""
