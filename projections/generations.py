"""Generations of a projection's tables: which one readers use, which one a rebuild fills.

A projection has one live generation for each shape of its tables, so that workers of two versions can run side by side.
Its tables are named `<table>_<generation>`. SQL about them is written with `{table}` in place of the name.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, Protocol

import msgspec
import psycopg
from psycopg.rows import TupleRow

Cursor = psycopg.Cursor[TupleRow]
Connection = psycopg.Connection[TupleRow]

#: Serialises what creates and drops tables.
_LOCK: Final = 0x5354_4C50  # "STLP"


class Table(msgspec.Struct, frozen=True):
    """A read model's table. `key` is its primary key; everything else is compared after a rebuild."""

    name: str
    columns: str  #: as in CREATE TABLE, without the key
    key: tuple[str, ...]
    indexes: tuple[str, ...] = ()  #: statements with `{table}` names
    fillfactor: int = 90
    show: Mapping[str, Callable[[bytes], Any]] = {}  #: how a person reads columns of bytes


class Shaped(Protocol):
    """What this module needs to know of a projection."""

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> int: ...
    @property
    def rules(self) -> str: ...
    @property
    def tables(self) -> Sequence[Table]: ...


class Generation(msgspec.Struct, frozen=True):
    projection: str
    number: int
    rules: str = ""  #: by which its rows were made

    def table(self, name: str) -> str:
        return f"{name}_{self.number}"

    def sql(self, text: str) -> bytes:
        """Return a statement with the names of this generation's tables."""
        return _named(text, self.number)


@lru_cache(512)
def _named(text: str, number: int) -> bytes:
    return re.sub(r"\{(\w+)\}", lambda found: f"{found[1]}_{number}", text).encode()


def live(cursor: Cursor, projection: Shaped) -> Generation | None:
    """Return the generation that readers use; None before there is one."""
    found = cursor.execute(_LIVE, (projection.name, projection.shape)).fetchone()
    return None if found is None else Generation(projection.name, found[0], found[1])


def ensure(connection: Connection, projection: Shaped) -> Generation:
    """Return the live generation. The first one is made empty, and filled by the feed from the first event on."""
    with connection.transaction(), connection.cursor() as cursor:
        found = live(cursor, projection)
        if found is None:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            found = live(cursor, projection) or create(cursor, projection, state="live")
        return found


def create(cursor: Cursor, projection: Shaped, *, state: str) -> Generation:
    """Make the tables of a new generation, with cursors at the beginning of the log. Needs a transaction."""
    cursor.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
    row = cursor.execute(_NEXT, (projection.name, projection.shape, projection.rules, state)).fetchone()
    assert row is not None  # noqa: S101  # the statement returns one row
    generation = Generation(projection.name, row[0], projection.rules)
    for table in projection.tables:
        key = ", ".join(table.key)
        cursor.execute(
            f"CREATE TABLE {generation.table(table.name)} ({table.columns}, PRIMARY KEY ({key}))"
            f" WITH (fillfactor = {table.fillfactor})".encode()
        )
        for index in table.indexes:
            cursor.execute(generation.sql(index))
    cursor.execute(_CURSORS, (projection.name, generation.number))
    return generation


def exchange(cursor: Cursor, projection: Shaped, generation: Generation) -> None:
    """Let readers use this generation from the commit of the transaction on; retire every other of the projection."""
    cursor.execute(_RETIRE, (projection.name, generation.number))
    cursor.execute(_PROMOTE, (projection.name, generation.number))


def drop(connection: Connection, projection: Shaped, generation: Generation) -> None:
    """Remove a generation that nobody uses. Raises LockNotAvailable if somebody still reads it."""
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL lock_timeout = '250ms'")
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        for table in projection.tables:
            cursor.execute(f"DROP TABLE IF EXISTS {generation.table(table.name)}".encode())
        for forget in _FORGET:
            cursor.execute(forget, (projection.name, generation.number))


def of_state(cursor: Cursor, projection: Shaped, state: str) -> list[Generation]:
    """Return the generations in a state, of this shape first, newest first."""
    rows: list[Any] = cursor.execute(_OF_STATE, (projection.name, state, projection.shape)).fetchall()
    return [Generation(projection.name, number, rules) for number, rules in rows]


_LIVE: Final = b"""
SELECT generation, rules FROM projection_generations WHERE projection = %s AND shape = %s AND state = 'live'
"""
_NEXT: Final = b"""
INSERT INTO projection_generations (projection, generation, shape, rules, state)
SELECT %s, coalesce(max(generation), 0) + 1, %s, %s, %s FROM projection_generations
RETURNING generation
"""
_CURSORS: Final = b"""
INSERT INTO projection_cursors (projection, generation, partition)
SELECT %s, %s, partition FROM partition_heads ORDER BY partition
"""
_RETIRE: Final = b"""
UPDATE projection_generations SET state = 'retired', exchanged_at = clock_timestamp()
 WHERE projection = %s AND generation <> %s AND state = 'live'
"""
_PROMOTE: Final = b"""
UPDATE projection_generations SET state = 'live', exchanged_at = clock_timestamp()
 WHERE projection = %s AND generation = %s
"""
_OF_STATE: Final = b"""
SELECT generation, rules FROM projection_generations WHERE projection = %s AND state = %s
 ORDER BY shape = %s DESC, generation DESC
"""
_FORGET: Final = (
    b"DELETE FROM projection_portions WHERE projection = %s AND generation = %s",
    b"DELETE FROM projection_cursors WHERE projection = %s AND generation = %s",
    b"DELETE FROM parked_events WHERE projection = %s AND generation = %s",
    b"DELETE FROM projection_generations WHERE projection = %s AND generation = %s",
)
