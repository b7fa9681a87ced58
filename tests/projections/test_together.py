"""Several projections follow the log together: a page is read once, and none keeps the others waiting."""

from collections.abc import Sequence
from typing import Any

import pytest

from ledger.domain.status import Status
from ledger.store.application import Ledger
from ledger.store.mapper import LedgerMapper
from projections import feed as feeds
from projections.feed import Logged, Projection, Work
from projections.generations import Cursor, Generation, Table
from projections.registry import PROJECTIONS
from projections.status_changes import STATUS_CHANGES
from tests.plugins.ledger import Pen
from tests.projections.following import REPORTS, a_feed, difference, follow
from tests.statements import says


class Picky:
    """A projection that keeps positions, and cannot take one of them."""

    name = "picky"
    shape = 1
    rules = "1"
    tables: Sequence[Table] = (Table(name="picked", columns="partition smallint, position bigint", key=("position",)),)

    def __init__(self, poison: int = 0) -> None:
        self.poison = poison

    def work(self, _ledger: Ledger, cursor: Cursor, generation: Generation) -> Work:
        return PickyWork(self.poison, cursor, generation)


class PickyWork:
    def __init__(self, poison: int, cursor: Cursor, generation: Generation) -> None:
        self._poison, self._cursor, self._generation = poison, cursor, generation

    def take(self, events: Sequence[Logged]) -> None:
        for logged in events:
            if logged.position == self._poison:
                raise LookupError
            self._cursor.execute(self._generation.sql("INSERT INTO {picked} VALUES (0, %s)"), (logged.position,))

    def finish(self) -> None:
        pass


def fill(pen: Pen, messages: int) -> None:
    for number in range(messages):
        reference = f"message-{number}"
        pen.write(says(Status.SENT, 1, reference=reference), says(Status.DELIVERED, 2, reference=reference))


def places(ledger: Ledger, projections: Sequence[Projection]) -> dict[str, tuple[int, int]]:
    """Return position and number of parked events by projection."""
    with ledger.connect() as connection, connection.cursor() as cursor:
        return {each.projection: (each.position, each.parked) for each in feeds.progress(cursor, projections)}


def test_an_event_is_read_once_for_all(ledger: Ledger, pen: Pen, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(pen, 10)
    read: list[int] = []

    def counted(name: str) -> Any:
        real = getattr(LedgerMapper, name)

        def reading(self: LedgerMapper, stream_id: Any, version: int, topic: str, state: bytes) -> Any:
            read.append(version)
            return real(self, stream_id, version, topic, state)

        return reading

    for name in ("opened", "turn"):
        monkeypatch.setattr(LedgerMapper, name, counted(name))
    with a_feed(ledger, PROJECTIONS) as feed:
        assert feed.step() == 20 * len(PROJECTIONS)

    assert len(read) == 20


@pytest.mark.parametrize("page", [1, 7, 2_000])
def test_one_that_is_behind_catches_up_and_then_they_go_on_together(ledger: Ledger, pen: Pen, page: int) -> None:
    fill(pen, 8)
    follow(ledger, projection=STATUS_CHANGES)
    fill(pen, 12)

    with a_feed(ledger, PROJECTIONS, page=page) as feed:
        feed.drain()

    assert len(set(places(ledger, PROJECTIONS).values())) == 1
    for projection in PROJECTIONS:
        assert not difference(ledger, projection).differs


def test_an_event_that_one_cannot_take_is_parked_for_it_alone(ledger: Ledger, pen: Pen) -> None:
    fill(pen, 30)
    projections = (Picky(17), REPORTS)

    with a_feed(ledger, projections, page=16) as feed:
        feed.drain()

    assert places(ledger, projections) == {"picky": (60, 1), "reports": (60, 0)}
    assert not difference(ledger, REPORTS).differs
    with ledger.reading() as cursor:
        kept = cursor.execute("SELECT array_agg(position ORDER BY position) FROM picked_1").fetchone()
    assert kept == ([position for position in range(1, 61) if position != 17],)


def test_after_trouble_they_are_together_again(ledger: Ledger, pen: Pen) -> None:
    fill(pen, 30)
    projections = (Picky(17), REPORTS)
    with a_feed(ledger, projections, page=16) as feed:
        feed.drain()
        fill(pen, 31)  # one more message than before

        assert feed.step() == 2 * 2
