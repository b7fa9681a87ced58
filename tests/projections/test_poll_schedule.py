"""The schedule follows from events alone, live and rebuilt, and the queue is in step with it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import given, settings

from ledger.domain.polling import Why, holds
from ledger.domain.status import Status
from ledger.store.application import Ledger
from projections import generations, poll_schedule, rebuild
from projections.poll_schedule import PollSchedule
from tests.plugins.ledger import OpenLedger, Pen, Shape, steady
from tests.projections.following import build_all, difference, follow, live, rows
from tests.projections.histories import Told, histories
from tests.statements import an_account, says, stream_of

SCHEDULE = PollSchedule()
QUEUE = "SELECT stream_id, why, since, next_at, asked FROM poll_asks ORDER BY stream_id"


def queue(ledger: Ledger) -> list[tuple[Any, ...]]:
    with ledger.reading() as cursor:
        return cursor.execute(QUEUE.encode()).fetchall()


def test_live_rows_equal_rebuilt_rows_and_what_the_messages_say(
    shape: Shape,
    shaped_url: str,
    open_ledger: OpenLedger,
    start_writer: Callable[..., Pen],
    tmp_path: Path,
) -> None:
    ledger = steady(open_ledger(shaped_url, partitions=shape.partitions))
    pen = start_writer(ledger)

    @settings(max_examples=8)
    @given(histories)
    def check(history: list[dict[str, Any]]) -> None:
        account = an_account()
        told = Told(pen, account, tmp_path / "erasures.jsonl")
        for action in history:
            if action["do"] == "follow":
                follow(ledger, projection=SCHEDULE, page=action["page"])
            else:
                told.do(action)
        follow(ledger, projection=SCHEDULE, page=3)
        before = queue(ledger)
        found = difference(ledger, SCHEDULE, portion=150)
        assert not found.differs, found
        assert queue(ledger) == before, "a rebuild touches no queue"
        assert_in_step(ledger)
        assert poll_schedule.mend_queue(ledger) == (0, 0)

    check()


def assert_in_step(ledger: Ledger) -> None:
    """Compare schedule, queue and messages."""
    scheduled = {row[0]: row for row in rows(ledger, projection=SCHEDULE)["poll_schedule"]}
    queued = {stream_id: (why, since) for stream_id, why, since, *_ in queue(ledger)}
    assert queued == {stream_id: (row[7], row[1]) for stream_id, row in scheduled.items() if row[7] is not None}
    for loaded in ledger.load(list(scheduled)) if scheduled else []:
        why = scheduled[loaded.stream_id][7]
        if why in (Why.NO_STATUS, Why.NO_OUTCOME) and not loaded.message.links:
            assert holds(Why(why), loaded.message)


def test_a_message_whose_outcome_comes_within_a_page_never_has_a_row(ledger: Ledger, pen: Pen) -> None:
    pen.write(says(Status.SENT), says(Status.DELIVERED))

    follow(ledger, projection=SCHEDULE)

    assert rows(ledger, projection=SCHEDULE) == {"poll_schedule": []}
    assert queue(ledger) == []


def test_a_rebuild_that_takes_over_loses_nothing_of_what_the_poller_remembers(ledger: Ledger, pen: Pen) -> None:
    pen.write(says(Status.SENT, reference="one"), says(Status.SENT, reference="two"))
    follow(ledger, projection=SCHEDULE)
    with ledger.reading() as cursor:
        cursor.execute("UPDATE poll_asks SET asked = 7, next_at = next_at + interval '3 hours'")
    before = queue(ledger)

    generation = build_all(ledger, SCHEDULE)
    with rebuild.connect(ledger) as connection:
        rebuild.exchange(ledger, connection, SCHEDULE, generation)
    pen.write(says(Status.DELIVERED, reference="two"))
    follow(ledger, projection=SCHEDULE)

    assert live(ledger, SCHEDULE).number == generation.number
    assert queue(ledger) == [row for row in before if row[0] == stream_of("one")]


def test_a_queue_that_disagrees_is_mended(ledger: Ledger, pen: Pen) -> None:
    pen.write(says(Status.SENT, reference="one"), says(Status.SENT, reference="two"))
    follow(ledger, projection=SCHEDULE)
    with ledger.reading() as cursor:
        cursor.execute("DELETE FROM poll_asks WHERE stream_id = %s", (stream_of("one"),))
        cursor.execute("UPDATE poll_asks SET stream_id = %s", (stream_of("nobody"),))

    assert poll_schedule.mend_queue(ledger) == (2, 1)

    assert {row[0] for row in queue(ledger)} == {stream_of("one"), stream_of("two")}
    assert poll_schedule.mend_queue(ledger) == (0, 0)


def test_a_ledger_whose_schedule_nobody_has_followed_has_nothing_to_mend(ledger: Ledger) -> None:
    assert poll_schedule.mend_queue(ledger) == (0, 0)
    with ledger.connect() as connection, connection.cursor() as cursor:
        assert generations.live(cursor, SCHEDULE) is None
