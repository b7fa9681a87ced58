"""The feed: every event counts once, whoever dies when; a poisoned one is put aside; feeds share the work."""

import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import psycopg
import pytest

from ledger.domain.status import Status
from ledger.store.application import Ledger
from projections import feed as following_feed
from projections.feed import Feed, Progress
from tests.plugins.ledger import PATIENCE_SECONDS, OpenLedger, Pen
from tests.projections.following import REPORTS, a_feed, difference, follow, live, rows
from tests.statements import says

ROOT = Path(__file__).parents[2]


def fill(pen: Pen, messages: int, *, start: int = 0) -> None:
    for number in range(start, start + messages):
        reference = f"message-{number}"
        pen.write(says(Status.SENT, 1, reference=reference), says(Status.DELIVERED, 2, reference=reference))


def progress(ledger: Ledger) -> Progress:
    found = _progress(ledger)
    assert found is not None
    return found


def _progress(ledger: Ledger) -> Progress | None:
    """Nothing is told of a projection that no feed has followed yet."""
    with ledger.connect() as connection, connection.cursor() as cursor:
        return next(iter(following_feed.progress(cursor, [REPORTS])), None)


@contextmanager
def running(feed: Feed) -> Iterator[None]:
    stopping = Event()
    thread = Thread(target=feed.run, args=(stopping,))
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        feed.wake()
        thread.join(PATIENCE_SECONDS)


def until_at_head(ledger: Ledger) -> Progress:
    patience = Event()
    for _ in range(PATIENCE_SECONDS * 50):
        found = _progress(ledger)
        if found is not None and not found.lag_events:
            return found
        patience.wait(0.02)
    raise AssertionError("the feed never reached the head")


def until_moved(ledger: Ledger, position: int) -> None:
    patience = Event()
    for _ in range(PATIENCE_SECONDS * 50):
        if progress(ledger).position > position:
            return
        patience.wait(0.02)
    raise AssertionError("the feed never moved")


def test_progress_tells_position_head_lag_and_age(ledger: Ledger, pen: Pen) -> None:
    follow(ledger)
    fill(pen, 5)
    found = progress(ledger)
    assert (found.position, found.head, found.lag_events, found.parked) == (0, 10, 10, 0)
    assert 0 < found.lag_seconds < PATIENCE_SECONDS
    follow(ledger, page=4)
    found = progress(ledger)
    assert (found.position, found.lag_events, found.lag_seconds, found.trend) == (10, 0, 0.0, "steady")
    assert found.rate > 0


@pytest.mark.parametrize("wakes", [True, False], ids=["woken", "by itself"])
def test_what_is_appended_is_followed(ledger: Ledger, pen: Pen, wakes: bool) -> None:
    with a_feed(ledger) as feed, running(feed):
        for start in range(0, 30, 10):
            fill(pen, 10, start=start)
            if wakes:
                feed.wake()
            assert until_at_head(ledger).position == 2 * (start + 10)
    assert not difference(ledger).differs


def test_a_poisoned_event_is_parked_and_its_neighbours_are_applied(ledger: Ledger, pen: Pen) -> None:
    fill(pen, 20)
    with ledger.connect() as connection:
        connection.execute("UPDATE events SET state = '\\x01' WHERE position = 17")
    follow(ledger, page=16)
    found = progress(ledger)
    assert (found.position, found.parked) == (40, 1)
    assert sum(row[6] for row in rows(ledger)["delivery"]) == 20  # messages: what is left of the ninth is one, too
    with ledger.connect() as connection:
        (parked,) = connection.execute("SELECT partition, position, error FROM parked_events").fetchall()
    assert parked[:2] == (0, 17)
    assert parked[2].startswith("MapperDeserialisationError at ")
    follow(ledger)
    assert progress(ledger).parked == 1


def test_trouble_with_the_database_parks_nothing(ledger: Ledger, pen: Pen) -> None:
    fill(pen, 3)
    follow(ledger)
    fill(pen, 3, start=3)
    table = live(ledger).table("delivery")
    with ledger.connect() as connection:
        connection.execute(f"ALTER TABLE {table} RENAME TO taken_away".encode())
        with a_feed(ledger) as feed, pytest.raises(psycopg.errors.UndefinedTable):
            feed.step()
        connection.execute(f"ALTER TABLE taken_away RENAME TO {table}".encode())
    follow(ledger)
    assert progress(ledger).parked == 0
    assert not difference(ledger).differs


def test_a_feed_survives_the_loss_of_its_connection(ledger: Ledger, pen: Pen) -> None:
    with a_feed(ledger) as feed, running(feed):
        fill(pen, 5)
        until_at_head(ledger)
        with ledger.connect() as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        fill(pen, 5, start=5)
        assert until_at_head(ledger).position == 20
    assert not difference(ledger).differs


def test_feeds_of_several_processes_share_the_work(database_url: str, open_ledger: OpenLedger, pen: Pen) -> None:
    ledgers = [open_ledger(database_url, pool_size=2) for _ in range(3)]
    with ExitStack() as stack:
        for opened, page in zip(ledgers, (7, 11, 3), strict=True):
            stack.enter_context(running(stack.enter_context(a_feed(opened, page=page))))
        fill(pen, 60)
        until_at_head(ledgers[0])
    assert not difference(ledgers[0]).differs


#: Follows for ever, in pages of a few events, so that it is nearly always in the middle of a transaction.
_FOLLOWER = """
import sys
from threading import Event
from tests.builders import NAMES
from tests.plugins.ledger import MASTER_KEY
from ledger.store.application import Ledger
from projections.feed import Feed
from projections.registry import PROJECTIONS
ledger = Ledger(sys.argv[1], partitions=1, names=NAMES, master_key=MASTER_KEY, pool_size=1)
feed = Feed(ledger, PROJECTIONS, page=5)
print("following", flush=True)
while True:
    feed.step()
"""


def test_kill_9_of_a_feed_loses_and_doubles_nothing(database_url: str, ledger: Ledger, pen: Pen) -> None:
    chance = random.Random(7)
    follow(ledger)
    stopping = Event()

    def write() -> None:
        number = 0
        while not stopping.is_set():
            fill(pen, 2, start=number)
            number += 2

    writing = Thread(target=write)
    writing.start()
    killed_within: list[int] = []
    try:
        for _ in range(8):
            process: Any = subprocess.Popen(
                [sys.executable, "-c", _FOLLOWER, database_url], cwd=ROOT, stdout=subprocess.PIPE
            )
            assert process.stdout.readline() == b"following\n"
            before = progress(ledger).position
            until_moved(ledger, before)
            Event().wait(chance.uniform(0, 0.2))
            process.kill()
            process.wait()
            process.stdout.close()
            killed_within.append(progress(ledger).position - before)
    finally:
        stopping.set()
        writing.join()
    assert all(moved > 0 for moved in killed_within), "one was killed before it worked"
    follow(ledger)
    assert progress(ledger).parked == 0
    assert not difference(ledger).differs


def test_the_planted_error_is_found(ledger: Ledger, pen: Pen) -> None:
    """A page applied twice: what the comparison after every kill is there to find."""
    fill(pen, 5)
    follow(ledger)
    with ledger.connect() as connection:
        connection.execute("UPDATE projection_cursors SET position = 5")
    follow(ledger)
    assert difference(ledger).differs
