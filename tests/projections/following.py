"""Read models that tests keep up with the log, and look into."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ledger.store.application import Ledger
from projections import generations, rebuild
from projections.feed import Feed, Projection
from projections.generations import Generation
from projections.rebuild import Difference
from projections.reports import Reports

REPORTS = Reports()
Rows = dict[str, list[tuple[Any, ...]]]


@contextmanager
def a_feed(ledger: Ledger, projections: Sequence[Projection] = (REPORTS,), **options: Any) -> Iterator[Feed]:
    feed = Feed(ledger, projections, **options)
    try:
        yield feed
    finally:
        feed.close()


def follow(ledger: Ledger, *, projection: Projection = REPORTS, page: int = 2_000) -> None:
    """Bring the projection's live generation to the head of the log."""
    with a_feed(ledger, [projection], page=page) as feed:
        feed.drain()


def live(ledger: Ledger, projection: Projection = REPORTS) -> Generation:
    with ledger.connect() as connection, connection.cursor() as cursor:
        found = generations.live(cursor, projection)
    assert found is not None
    return found


def rows(ledger: Ledger, generation: Generation | None = None, projection: Projection = REPORTS) -> Rows:
    """Return every row of every table, sorted by key."""
    generation = generation or live(ledger, projection)
    with ledger.connect() as connection:
        return {
            table.name: connection.execute(
                f"SELECT * FROM {generation.table(table.name)} ORDER BY {', '.join(table.key)}".encode()  # noqa: S608
            ).fetchall()
            for table in projection.tables
        }


def build_all(ledger: Ledger, projection: Projection = REPORTS, *, portion: int = 100_000) -> Generation:
    """Build a new generation to the head of the log, beside the live one."""
    with rebuild.connect(ledger) as connection:
        generation = rebuild.begin(connection, projection, portion=portion)
        while rebuild.build(ledger, connection, projection, generation) is not None:
            pass
        rebuild.catch_up(ledger, connection, projection, generation)
    return generation


def difference(ledger: Ledger, projection: Projection = REPORTS, *, portion: int = 100_000) -> Difference:
    """Rebuild the projection, compare it with the live one, and leave everything as it was."""
    generation = build_all(ledger, projection, portion=portion)
    with rebuild.connect(ledger) as connection:
        found = rebuild.compare(ledger, connection, projection, generation)
        rebuild.discard(connection, projection, generation)
    return found
