"""The event store on PostgreSQL: the library's recorder contract over `ledger_record`.

Kept of the library: its contract, its exceptions, its connection handling. Replaced: the table lock (positions are
gapless and taken under a row lock inside one statement), NOTIFY (readers poll heads), its retries (ten attempts of a
pool timeout each must not reach a request) and its table creation (`ledger.store.migrations`).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from threading import Event
from typing import Any, Final
from uuid import UUID

import msgspec
import psycopg
from eventsourcing.persistence import (
    ApplicationRecorder,
    InfrastructureFactory,
    IntegrityError,
    InternalError,
    Notification,
    ProgrammingError,
    StoredEvent,
    Subscription,
)
from eventsourcing.postgres import PostgresDatastore, PostgresFactory
from eventsourcing.utils import Environment
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import DictRow, dict_row, tuple_row

from ledger.domain.identity import partition
from ledger.store import arrays
from ledger.store.fiber import Connection, ConnectionPool
from ledger.store.mapper import Stored
from ledger.store.rows import CAPTURE_COLUMNS, COLUMNS, INDEX_COLUMNS, CaptureRow, StatusRow

#: Applied to every connection. A hang anywhere must end well before a request's own deadline.
SESSION: Final = {
    "statement_timeout": "3s",
    "lock_timeout": "1s",
    "idle_in_transaction_session_timeout": "5s",
    "default_transaction_isolation": "read committed",
    "timezone": "UTC",
}
_CONNECTION: Final[dict[str, str | int]] = {
    "connect_timeout": 2,
    "application_name": "status-ledger",
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
_POOL_TIMEOUT_SECONDS: Final = 0.8
_POLL_SECONDS: Final = 0.1
#: Connections that are opened at once and kept: as many as fibers that write and read all the time.
_KEPT_OPEN: Final = 4


def connection_string(url: str, **limits: str) -> str:
    """Return the URL with our time limits, or those given instead; what the URL itself sets wins."""
    told = conninfo_to_dict(url)
    session = {**SESSION, **limits}
    options = " ".join(f"-c {name}={value.replace(' ', chr(92) + ' ')}" for name, value in session.items())
    merged: dict[str, Any] = {**_CONNECTION, **told}
    merged["options"] = f"{options} {told.get('options') or ''}".strip()
    return make_conninfo(**merged)


class Datastore(PostgresDatastore):
    """The library's datastore over a connection string, with short time-outs and no composite types."""

    def __init__(self, url: str, *, pool_size: int) -> None:
        self.pool_open_timeout = None
        self.schema = "public"
        self.originator_id_type = "uuid"
        self.psycopg_type_adapters = {}
        self.pool = ConnectionPool(
            connection_string(url),
            connection_class=Connection,
            kwargs={"autocommit": True, "row_factory": dict_row},
            min_size=min(_KEPT_OPEN, pool_size),
            max_size=pool_size,
            open=True,
            configure=configure,
            timeout=_POOL_TIMEOUT_SECONDS,
            reconnect_timeout=_POOL_TIMEOUT_SECONDS / 2,
            # No max_waiting: the pool counts callers that have given up as well and, at the bound, stops trying to
            # connect, so that an outage would never end. The number of our threads is the bound.
            name="ledger",
        )

    def register_type_adapters(self) -> None:
        """No composite types are used."""


def configure(connection: psycopg.Connection[Any]) -> None:
    """Let a connection take packed columns as parameters."""
    connection.adapters.register_dumper(arrays.Column, arrays.ColumnDumper)


class LedgerRecorder(ApplicationRecorder):
    """Appends and reads events. One call of `insert_events` is one transaction."""

    def __init__(self, datastore: Datastore, partitions: int) -> None:
        self.datastore = datastore
        self.partitions = partitions

    @contextmanager
    def connection(self) -> Iterator[psycopg.Connection[DictRow]]:
        """Borrow a connection in autocommit. Database errors leave as the library's exceptions."""
        try:
            with self.datastore.get_connection() as connection:
                yield connection
        except InternalError as error:
            # A distributed engine reports a lost race without its SQLSTATE.
            if "duplicate key value" in str(error):
                raise IntegrityError(str(error)) from error
            raise

    def insert_events(
        self,
        stored_events: Sequence[StoredEvent | Stored],
        *,
        rows: Sequence[StatusRow] = (),
        wrapped: Sequence[bytes | None] | None = None,
        captures: Sequence[CaptureRow] = (),
        **_: Any,
    ) -> Sequence[int] | None:
        """Append events, grouped by ascending partition, with the rows that follow from them.

        `wrapped` has the key of every row whose message this append opens. Returns the notification ids. Raises
        IntegrityError if a stream has moved on: nothing is written then.
        """
        if not stored_events and not captures:
            return None
        partitions = self._partitions_of([event.originator_id for event in stored_events])
        parameters = append_parameters(stored_events, partitions, rows, wrapped or [None] * len(rows))
        if captures:
            parameters.append(arrays.smallints(self._partitions_of([row.capture_id for row in captures])))
            parameters += _packed(CAPTURE_COLUMNS, captures)
        with self.connection() as connection, connection.cursor(row_factory=tuple_row, binary=True) as cursor:
            cursor.execute(APPEND_WITH_CAPTURES if captures else APPEND, parameters, prepare=True)
            row = cursor.fetchone()
        assert row is not None  # noqa: S101  # the function returns one row
        positions: list[int] = row[0] or []
        if self.partitions == 1:
            return positions
        return [position << 8 | part for position, part in zip(positions, partitions, strict=True)]

    def _partitions_of(self, streams: Sequence[Any]) -> list[int]:
        if self.partitions == 1:
            return [0] * len(streams)
        return [partition(stream, self.partitions) for stream in streams]

    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        """Read one stream by version."""
        assert isinstance(originator_id, UUID)  # noqa: S101  # the schema has one id type
        statement = _SELECT_STREAM_DESC if desc else _SELECT_STREAM
        with self.connection() as connection, connection.cursor(row_factory=tuple_row, binary=True) as cursor:
            cursor.execute(
                statement,
                (partition(originator_id, self.partitions), originator_id, gt, lte, limit),
            )
            return [StoredEvent(originator_id, version, type_, state) for version, type_, state in cursor]

    def select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> Sequence[Notification]:
        """Read in the order of positions. Raises ProgrammingError on more than one partition: there is no one order."""
        if self.partitions != 1:
            raise ProgrammingError("a ledger of several partitions has an order per partition only")
        first = None if start is None else start if inclusive_of_start else start + 1
        with self.connection() as connection, connection.cursor(row_factory=tuple_row, binary=True) as cursor:
            cursor.execute(_SELECT_PAGE, (0, first, stop, list(topics) or None, limit))
            return [Notification(*row) for row in cursor]

    def max_notification_id(self) -> int | None:
        """Return the last position of the (single) partition; None for an empty ledger."""
        with self.connection() as connection, connection.cursor(row_factory=tuple_row) as cursor:
            row = cursor.execute("SELECT position FROM partition_heads WHERE partition = 0").fetchone()
        return row[0] if row and row[0] else None

    def subscribe(self, gt: int | None = None, topics: Sequence[str] = ()) -> "PollingSubscription":
        return PollingSubscription(self, gt, topics)


class PollingSubscription(Subscription[LedgerRecorder]):
    """Yields notifications as they are recorded. Polls: nothing on the write path signals readers."""

    def __init__(self, recorder: LedgerRecorder, gt: int | None, topics: Sequence[str]) -> None:
        super().__init__(recorder, gt, topics)
        self._page: Iterator[Notification] = iter(())
        self._stopped = Event()

    def stop(self) -> None:
        super().stop()
        self._stopped.set()

    def __next__(self) -> Notification:
        while not self._stopped.is_set():
            for notification in self._page:
                self._last_notification_id = notification.id
                return notification
            page = self._recorder.select_notifications(
                self._last_notification_id, 500, topics=self._topics, inclusive_of_start=False
            )
            self._page = iter(page)
            if not page:
                self._stopped.wait(_POLL_SECONDS)
        raise StopIteration


class LedgerFactory(PostgresFactory):
    """Builds the recorder. Named by PERSISTENCE_MODULE in the application's environment."""

    DATABASE_URL = "DATABASE_URL"
    PARTITIONS = "PARTITIONS"
    POOL_SIZE = "POOL_SIZE"

    def __init__(self, env: Environment) -> None:
        InfrastructureFactory.__init__(self, env)
        url, pool_size = env.get(self.DATABASE_URL), env.get(self.POOL_SIZE, "8")
        if url is None:
            raise OSError(f"{self.DATABASE_URL} is not set")
        self.datastore = Datastore(url, pool_size=int(pool_size))

    def application_recorder(self) -> LedgerRecorder:
        assert isinstance(self.datastore, Datastore)  # noqa: S101  # set above
        return LedgerRecorder(self.datastore, int(self.env.get(self.PARTITIONS) or "1"))

    def close(self) -> None:
        self.datastore.close()


def append_parameters(
    events: Sequence[StoredEvent | Stored],
    partitions: Sequence[int],
    rows: Sequence[StatusRow],
    wrapped: Sequence[bytes | None],
) -> list[arrays.Column]:
    """Return the parameters of `ledger_record`, less those for captures."""
    states = [event.state for event in events]
    return [
        arrays.smallints(partitions),
        arrays.uuids([event.originator_id for event in events]),  # type: ignore[misc]  # there is one id type
        arrays.integers([event.originator_version for event in events]),
        arrays.texts([event.topic for event in events]),
        arrays.byteas(states),
        arrays.byteas([sha256(state).digest() for state in states]),
        arrays.integers([row.first for row in rows]),
        arrays.integers([row.last for row in rows]),
        arrays.byteas(wrapped),
        *_packed(COLUMNS, rows),
    ]


def _packed(
    columns: Mapping[str, Callable[[Sequence[Any]], arrays.Column]], rows: Sequence[msgspec.Struct]
) -> list[arrays.Column]:
    """Pack the last fields of rows, which are these columns."""
    values = list(zip(*map(msgspec.structs.astuple, rows), strict=True)) or [()] * len(columns)
    return [pack(column) for pack, column in zip(columns.values(), values[-len(columns) :], strict=True)]


def _append(parameters: int) -> bytes:
    return b"SELECT * FROM ledger_record(" + b", ".join([b"%s"] * parameters) + b")"


#: The one statement that writes events, without and with captures beside them.
APPEND: Final = _append(7 + len(INDEX_COLUMNS) + len(COLUMNS))
APPEND_WITH_CAPTURES: Final = _append(8 + len(INDEX_COLUMNS) + len(COLUMNS) + len(CAPTURE_COLUMNS))
_STREAM: Final = """
SELECT version, type, state FROM events
 WHERE partition = %s AND stream_id = %s
   AND version > coalesce(%s::integer, -1) AND version <= coalesce(%s::integer, 2147483647)
 ORDER BY version {} LIMIT %s
"""
_SELECT_STREAM: Final = _STREAM.format("ASC").encode()
_SELECT_STREAM_DESC: Final = _STREAM.format("DESC").encode()
_SELECT_PAGE: Final = b"""
SELECT stream_id, version, type, state, position FROM events
 WHERE partition = %s AND position >= coalesce(%s::bigint, 0) AND position <= coalesce(%s::bigint, 9223372036854775807)
   AND type = ANY(coalesce(%s::text[], ARRAY[type]))
 ORDER BY position LIMIT %s
"""
