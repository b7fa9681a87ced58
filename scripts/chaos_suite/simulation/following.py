"""The database as the feed sees it: its own statements, told apart by the constants that they are.

A read model that counts is followed: one that sets values would hide an event applied twice. Its transaction is real in
what matters: locks, what is seen of it, what is left of it when the process or the database goes away.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Final
from uuid import UUID

import psycopg

from ledger.domain.events import StatusObserved
from ledger.store.application import Ledger, StoreUnavailable
from projections import feed, generations
from projections.feed import Logged
from projections.generations import Cursor, Generation
from scripts.chaos_suite.simulation.loop import Process
from scripts.chaos_suite.simulation.store import SimulatedLedger, Store

#: An error code that the read model cannot cope with.
UNREADABLE: Final = "an error code that the read model does not bear"
_ADD: Final = b"count (%s)"


class Counting:
    """The read model: how many events each stream has."""

    name, shape, rules, tables = "counting", 1, "", ()

    def work(self, ledger: Ledger, cursor: Cursor, generation: Generation) -> "_Counted":
        return _Counted(ledger, cursor)


class _Counted:
    def __init__(self, ledger: Ledger, cursor: Cursor) -> None:
        self._ledger = ledger
        self._cursor = cursor
        self._counts: Counter[UUID] = Counter()

    def take(self, events: Sequence[Logged]) -> None:
        for logged in events:
            event = logged.event(self._ledger)
            if isinstance(event, StatusObserved) and event.error_code == UNREADABLE:
                raise TypeError("not a code")
            self._counts[logged.stream_id] += 1

    def finish(self) -> None:
        self._cursor.execute(_ADD, (self._counts,))


class FollowingLedger(SimulatedLedger):
    """A feed process's way to the store."""

    def connect(self, **limits: str) -> Any:
        self._reach()
        return Connection(self.store, self.process)


class Connection:
    """A connection, its cursor and its transaction in one: the feed has one of each at a time."""

    #: Whether moving the cursor waits for the commit; a planted error lets it not.
    moves_at_once = False

    def __init__(self, store: Store, process: Process) -> None:
        self._store = store
        self._process = process
        self._epoch = store.epoch
        self._writes: list[tuple[Any, ...]] = []
        self._found: list[tuple[Any, ...]] = []
        self.rowcount = 0

    def transaction(self) -> "_Transaction":
        return _Transaction(self)

    def cursor(self, **_: object) -> "_Open":
        return _Open(self)

    def close(self) -> None:
        self.rollback()

    # Statements -------------------------------------------------------------------------------------------------------

    def execute(self, statement: bytes, parameters: tuple[Any, ...] | dict[str, Any] = (), **_: object) -> "Connection":
        self._travel()
        store = self._store
        if store.simulation.chance(store.weather.refused):
            raise psycopg.OperationalError("the statement was refused")
        if statement is generations._LIVE:
            self._found = [(1, "")]
        elif statement is feed._CLAIM_LIVE:
            self._claim()
        elif statement is feed._CLAIM_BESIDE:
            self._found = []  # nothing else follows
        elif statement is feed._PAGE:
            part, after, _until, size = parameters  # type: ignore[misc]
            self._found = [
                (
                    line.position,
                    line.stored.originator_id,
                    line.stored.originator_version,
                    line.stored.topic,
                    line.stored.state,
                    line.recorded_at,
                )
                for line in store.visible(part, after)
            ]
            self._found = self._found[:size]
        elif statement is feed._MOVE:
            assert isinstance(parameters, dict)
            self._write("move", parameters["partition"], parameters["position"])
            if self.moves_at_once:
                self._apply(self._writes.pop())
        elif statement is feed._PASS:
            position, _name, _number, part, before = parameters  # type: ignore[misc]
            self.rowcount = int(store.cursors[part] == before and store.locks.get(part, self) is self)
            if self.rowcount:
                store.locks[part] = self
                self._write("move", part, position)
        elif statement is feed._KEEP_ASIDE:
            self._write("park", parameters[2], parameters[3])  # type: ignore[index]
        elif statement is _ADD:
            self._write("add", parameters[0])  # type: ignore[index]
        else:
            raise AssertionError(f"the feed has a statement that the simulation does not know: {statement!r}")
        return self

    def fetchone(self) -> tuple[Any, ...] | None:
        return self._found[0] if self._found else None

    def fetchall(self) -> list[tuple[Any, ...]]:
        return self._found

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(self._found)

    def _claim(self) -> None:
        store = self._store
        self._found = []
        for part, head in enumerate(store.heads()):
            position = store.cursors[part]
            if position < head and part not in store.locks:
                store.locks[part] = self
                self._found = [(Counting.name, 1, "", part, position, head)]
                return

    def _write(self, *what: Any) -> None:
        self._writes.append(what)

    # Transactions -----------------------------------------------------------------------------------------------------

    def commit(self) -> None:
        store, weather, simulation = self._store, self._store.weather, self._store.simulation
        self._travel()
        if simulation.chance(weather.refused):
            self.rollback()
            raise psycopg.OperationalError("the commit failed")
        for write in self._writes:
            self._apply(write)
        self.rollback()
        if simulation.chance(weather.answer_lost):
            store.count("feed commit answers lost")
            raise psycopg.OperationalError("the answer was lost")

    def rollback(self) -> None:
        """Forget what was not committed, and let locks go."""
        self._writes = []
        for part in [part for part, holder in self._store.locks.items() if holder is self]:
            del self._store.locks[part]

    def _apply(self, write: tuple[Any, ...]) -> None:
        store = self._store
        match write:
            case ("move", part, position):
                store.cursors[part] = position
                store.count("pages")
                store.simulation.note("followed", part, position)
            case ("park", part, position):
                store.parked.add((part, position))
                store.count("events parked")
            case ("add", counts):
                for stream_id, number in counts.items():
                    store.counted[stream_id] = store.counted.get(stream_id, 0) + number

    def _travel(self) -> None:
        try:
            self._store.travel(self._process, self._epoch)
        except StoreUnavailable as error:
            raise psycopg.OperationalError("the connection was lost") from error


class _Open:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __enter__(self) -> Connection:
        return self._connection

    def __exit__(self, *_: object) -> None:
        """Closing a cursor asks the database nothing."""


class _Transaction(_Open):
    def __exit__(
        self,
        type_: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        if type_ is None:
            try:
                self._connection.commit()
            except BaseException:
                self._connection.rollback()
                raise
        else:
            self._connection.rollback()
