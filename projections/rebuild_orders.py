"""Rebuilds that are asked for on a page, and carried out by whoever does upkeep.

An order stands in the database: it outlives the request, and the process that was asked. One worker at a time is at an
order, by a lock of its session; when it dies, another takes the order up and goes on where the rebuild had come to.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final

import msgspec
from psycopg.types.json import Jsonb

from ledger.store.application import Ledger
from projections import rebuild
from projections.feed import Projection
from projections.generations import Connection

_LOCK: Final = 0x5242_4F52  # "RBOR"
#: One that nobody has taken up for so long has nobody to take it up.
NOBODY_SECONDS: Final = 15


class Order(msgspec.Struct, frozen=True, kw_only=True):
    order_id: int
    projection: str
    dry_run: bool
    asked_by: str
    asked_at: datetime
    begun_at: datetime | None
    ended_at: datetime | None
    outcome: dict[str, Any] | None  #: a `rebuild.Difference`
    error: str | None


def place(ledger: Ledger, projection: str, *, dry_run: bool, by: str) -> None:
    """Ask for a rebuild, unless one of the projection is under way. Raises StoreUnavailable."""
    with ledger.reading() as cursor:
        cursor.execute(_PLACE, (projection, dry_run, by))


def newest(ledger: Ledger) -> dict[str, Order]:
    """Return the newest order of each projection. Raises StoreUnavailable."""
    with ledger.reading() as cursor:
        rows = cursor.execute(_NEWEST).fetchall()
    return {row[1]: Order(**dict(zip(Order.__struct_fields__, row, strict=True))) for row in rows}


def progress(ledger: Ledger, projection: Projection) -> tuple[int, int] | None:
    """Return (events built, events in all) of a rebuild that is being built; None if none is."""
    with ledger.reading() as cursor:
        generation = rebuild.begun(cursor.connection, projection)
        return None if generation is None else rebuild.done(cursor.connection, projection, generation)


@contextmanager
def taken(connection: Connection) -> Iterator[Order | None]:
    """Take up the oldest order that nobody is at, for as long as the block lasts; None if there is none."""
    row = connection.execute(_OPEN, (_LOCK,)).fetchone()
    if row is None:
        yield None
        return
    order = Order(**dict(zip(Order.__struct_fields__, row, strict=True)))
    try:
        connection.execute(_BEGIN, (order.order_id,))
        yield order
    finally:
        connection.execute("SELECT pg_advisory_unlock(%s, %s)", (_LOCK, order.order_id))


def end(connection: Connection, order: Order, outcome: dict[str, Any] | None, error: str | None) -> None:
    """Note how an order ended."""
    connection.execute(_END, (None if outcome is None else Jsonb(outcome), error, order.order_id))


_FIELDS: Final = ", ".join(Order.__struct_fields__)
_PLACE: Final = b"""
INSERT INTO rebuild_orders (projection, dry_run, asked_by) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING
"""
_NEWEST: Final = (
    f"SELECT DISTINCT ON (projection) {_FIELDS} FROM rebuild_orders ORDER BY projection, order_id DESC".encode()
)
#: The lock is tried on the one row that comes out, and on those before it that somebody else is at.
_OPEN: Final = f"""
SELECT {_FIELDS} FROM (SELECT * FROM rebuild_orders WHERE ended_at IS NULL ORDER BY order_id OFFSET 0) o
 WHERE pg_try_advisory_lock(%s, order_id::integer) LIMIT 1
""".encode()
_BEGIN: Final = b"UPDATE rebuild_orders SET begun_at = coalesce(begun_at, clock_timestamp()) WHERE order_id = %s"
_END: Final = b"UPDATE rebuild_orders SET ended_at = clock_timestamp(), outcome = %s, error = %s WHERE order_id = %s"
