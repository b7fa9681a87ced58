"""Rebuilding beside the live rows: nothing is lost, doubled or seen half-done, and what differs is told."""

from collections.abc import Callable
from threading import Event, Thread
from typing import Any

import pytest

from ledger.domain.status import Status
from ledger.store.application import Ledger
from projections import generations, rebuild, refold
from projections.rebuild import AlreadyRunning, Unapplied
from tests.plugins.ledger import Pen, Shape
from tests.projections.following import REPORTS, a_feed, build_all, difference, follow, live, rows
from tests.statements import a_registration, registered, says, stream_of


def fill(pen: Pen, messages: int = 40, *, start: int = 0) -> None:
    """Write messages that are sent; of every four one is delivered, one read and one failed."""
    for number in range(start, start + messages):
        reference = f"message-{number}"
        pen.write(says(Status.SENT, 1, reference=reference))
        last = (Status.DELIVERED, Status.READ, Status.FAILED, None)[number % 4]
        if last is not None:
            code = {"error_code": "30003"} if last is Status.FAILED else {}
            pen.write(says(last, 2, reference=reference, **code))


def test_a_rebuilt_generation_equals_the_live_one_and_takes_its_place(ledger: Ledger, pen: Pen) -> None:
    fill(pen)
    follow(ledger)
    before, kept = live(ledger), rows(ledger)
    generation = build_all(ledger, portion=20)
    with rebuild.connect(ledger) as connection:
        found = rebuild.compare(ledger, connection, REPORTS, generation)
        assert not found.differs
        assert found.equal == sum(map(len, kept.values())) > 40
        rebuild.exchange(ledger, connection, REPORTS, generation)
        assert live(ledger) == generation != before
        assert rows(ledger) == kept
        assert rebuild.sweep(connection, REPORTS) == 1
    fill(pen, 4, start=100)
    follow(ledger)
    assert not difference(ledger).differs


def test_a_rebuild_goes_on_where_it_was_killed(ledger: Ledger, pen: Pen) -> None:
    fill(pen)
    follow(ledger)
    with rebuild.connect(ledger) as connection:
        generation = rebuild.begin(connection, REPORTS, portion=10)
        events = rebuild.build(ledger, connection, REPORTS, generation)
        assert events is not None
    # That process is gone. Another one finds what it left.
    with rebuild.connect(ledger) as connection:
        assert rebuild.begin(connection, REPORTS, portion=10) == generation
        assert rebuild.done(connection, REPORTS, generation) == (events, 70)
    assert not difference(ledger).differs


def test_what_is_appended_meanwhile_is_in_both(ledger: Ledger, pen: Pen) -> None:
    fill(pen)
    follow(ledger)
    with rebuild.connect(ledger) as connection:
        generation = rebuild.begin(connection, REPORTS, portion=10)
        rebuild.build(ledger, connection, REPORTS, generation)
        fill(pen, 20, start=30)  # messages that were there and are repeated, and new ones
        follow(ledger)
        while rebuild.build(ledger, connection, REPORTS, generation) is not None:
            pass
        assert rebuild.catch_up(ledger, connection, REPORTS, generation) > 0
        assert not rebuild.compare(ledger, connection, REPORTS, generation).differs


def test_it_is_compared_and_exchanged_while_everything_moves(ledger: Ledger, pen: Pen) -> None:
    fill(pen)
    follow(ledger)
    stopping = Event()

    def write() -> None:
        number = 100
        while not stopping.is_set():
            fill(pen, 4, start=number)
            number += 4

    with a_feed(ledger) as feed:
        threads = [Thread(target=write), Thread(target=feed.run, args=(stopping,))]
        for thread in threads:
            thread.start()
        try:
            for _ in range(3):
                generation = build_all(ledger, portion=50)
                with rebuild.connect(ledger) as connection:
                    found = rebuild.compare(ledger, connection, REPORTS, generation)
                    assert not found.differs, found
                    rebuild.exchange(ledger, connection, REPORTS, generation)
                    rebuild.sweep(connection, REPORTS)
        finally:
            stopping.set()
            for thread in threads:
                thread.join()
    follow(ledger)
    assert not difference(ledger).differs


def test_a_difference_is_told_row_by_row_with_the_events_behind_it(ledger: Ledger, pen: Pen) -> None:
    fill(pen, 4)
    follow(ledger)
    generation = live(ledger)
    stream_id = stream_of("message-0")
    with ledger.connect() as connection:
        facts = generation.table("message_facts")
        connection.execute(f"UPDATE {facts} SET channel = 'viber' WHERE stream_id = %s".encode(), (stream_id,))  # noqa: S608
        connection.execute(f"DELETE FROM {facts} WHERE stream_id = %s".encode(), (stream_of("message-1"),))  # noqa: S608
    found = difference(ledger)
    assert (found.changed, found.only_new, found.only_old) == (1, 1, 0)
    changed = next(example for example in found.examples if example.kind == "changed")
    assert (changed.old, changed.new) == ({"channel": "viber"}, {"channel": "sms"})
    assert [place.type for place in changed.events] == ["observed.v2", "observed.v2"]


def test_an_event_that_cannot_be_applied_stops_a_rebuild_and_is_named(ledger: Ledger, pen: Pen) -> None:
    fill(pen, 4)
    follow(ledger)
    before = rows(ledger)
    with ledger.connect() as connection:
        connection.execute("UPDATE events SET state = '\\x01' WHERE position = 5")
    with pytest.raises(Unapplied) as stopped:
        build_all(ledger)
    assert stopped.value.position == 5
    assert rows(ledger) == before


def test_two_do_not_rebuild_the_same_at_once(ledger: Ledger) -> None:
    with rebuild.alone(ledger, REPORTS), pytest.raises(AlreadyRunning), rebuild.alone(ledger, REPORTS):
        pass
    with rebuild.alone(ledger, REPORTS):
        pass


def test_a_rebuild_by_other_rules_is_begun_anew(ledger: Ledger, pen: Pen, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(pen, 4)
    with rebuild.connect(ledger) as connection:
        first = rebuild.begin(connection, REPORTS)
        monkeypatch.setattr(type(REPORTS), "rules", "another catalogue")
        assert rebuild.begin(connection, REPORTS) != first
        rebuild.sweep(connection, REPORTS)
        with connection.cursor() as cursor:
            left = generations.of_state(cursor, REPORTS, "building")
        assert [generation.rules for generation in left] == ["another catalogue"]


# The table that is written with the events ----------------------------------------------------------------------------


def spoil(ledger: Ledger) -> None:
    with ledger.connect() as connection:
        connection.execute(
            "UPDATE current_status SET status = 'QUEUED' WHERE stream_id = %s", (stream_of("message-0"),)
        )
        connection.execute("UPDATE current_status SET state = '\\x00' WHERE stream_id = %s", (stream_of("message-1"),))
        connection.execute("DELETE FROM current_status WHERE stream_id = %s", (stream_of("message-2"),))


@pytest.mark.parametrize("shape", [Shape(1), Shape(16, hash_partitions=16)], ids=str)
def test_current_status_is_made_anew_from_the_events(
    shape: Shape,
    shape_template: Callable[[Shape], str],
    make_database: Callable[..., str],
    open_ledger: Any,
    start_writer: Callable[..., Pen],
) -> None:
    ledger = open_ledger(make_database(shape_template(shape)), partitions=shape.partitions)
    pen = start_writer(ledger)
    fill(pen, 8)
    job, _ = registered(b"registration-001", a_registration())
    pen.do(job)
    assert not refold.run(ledger, dry_run=True).differs
    spoil(ledger)
    found = refold.run(ledger, dry_run=True)
    assert (found.equal, found.changed, found.only_new, found.only_old) == (6, 2, 1, 0)
    assert refold.run(ledger, dry_run=False) == found
    found = refold.run(ledger, dry_run=True)
    assert (found.equal, found.differs) == (9, False)


def test_current_status_is_made_anew_while_callbacks_arrive(ledger: Ledger, pen: Pen) -> None:
    fill(pen, 30)
    stopping = Event()

    def write() -> None:
        minute = 10
        while not stopping.is_set():
            for number in range(30):
                pen.write(says(Status.READ, minute, reference=f"message-{number}"))
            minute += 1

    thread = Thread(target=write)
    thread.start()
    try:
        for _ in range(5):
            with ledger.connect() as connection:
                connection.execute("UPDATE current_status SET failure_category = 'spoiled'")
            assert refold.run(ledger, dry_run=False).changed > 0
    finally:
        stopping.set()
        thread.join()
    assert not refold.run(ledger, dry_run=True).differs
