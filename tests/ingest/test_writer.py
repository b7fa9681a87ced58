"""Group commit: what shares a transaction, what a job ends with, and what is bounded."""

import threading
from collections.abc import Callable

import pytest

from ledger.domain.events import StatusObserved
from ledger.domain.message import OBSERVATIONS_MAX
from ledger.domain.status import Status, Verdict
from ledger.ingest import writer
from ledger.ingest.writer import BATCH_MAX, CAPTURED_BYTES, Job, QueueFull
from ledger.store.application import Ledger, StoreUnavailable
from tests.ingest.ledgers import WatchedLedger, a_capture, events, held, verdicts
from tests.plugins.ledger import Pen
from tests.projections import rebuilding
from tests.statements import an_account, says, stream_of

StartWriter = Callable[..., Pen]


# One job --------------------------------------------------------------------------------------------------------------


def test_a_job_is_done_with_its_events_and_streams(pen: Pen) -> None:
    done = pen.write(says(Status.SENT, 1, reference="one"), says(Status.READ, 2, reference="two"))

    assert [event.claim for event in done.events if isinstance(event, StatusObserved)] == [Status.SENT, Status.READ]
    assert done.streams == (stream_of("one"), stream_of("two"))
    assert done.redelivered == 0


def test_a_redelivery_appends_nothing(pen: Pen, ledger: Ledger) -> None:
    pen.write(says(Status.SENT, 1))

    done = pen.write(says(Status.SENT, 1))

    assert (done.events, done.redelivered) == ((), 1)
    assert len(events(ledger)) == 1


def test_the_same_observation_twice_in_one_job_is_recorded_once(pen: Pen, ledger: Ledger) -> None:
    done = pen.write(says(Status.SENT, 1), says(Status.SENT, 1), says(Status.DELIVERED, 2))

    assert (len(done.events), done.redelivered) == (2, 1)
    assert verdicts(ledger) == [Verdict.ADVANCE, Verdict.ADVANCE]


def test_a_job_without_anything_is_done(pen: Pen) -> None:
    assert pen.write().events == ()


def test_captures_are_kept_with_the_statements_of_their_job(watched: WatchedLedger, start_writer: StartWriter) -> None:
    pen = start_writer(watched)

    pen.write(says(), captures=[a_capture(b"one"), a_capture(b"two")])
    pen.write(captures=[a_capture(b"one")])

    with watched.reading() as cursor:
        assert cursor.execute("SELECT sum(times_received) FROM captures").fetchone() == (3,)
    assert watched.appended == [1, 0]


def test_rows_of_all_streams_follow_from_their_events(shaped_ledger: Ledger, start_writer: StartWriter) -> None:
    pen, account = start_writer(shaped_ledger), an_account()
    names = [f"message-{n}" for n in range(30)]

    for minute, status in enumerate([Status.SENT, Status.FAILED, Status.DELIVERED]):
        pen.write(*(says(status, minute, reference=name, account=account, error_text="no route") for name in names))

    assert rebuilding.differences(shaped_ledger, *(stream_of(name, account) for name in names)) == []


# Batches --------------------------------------------------------------------------------------------------------------


def test_jobs_that_wait_share_one_transaction(watched: WatchedLedger, start_writer: StartWriter) -> None:
    pen = start_writer(watched)
    gate, first = held(pen, watched)

    jobs = [pen.submit(Job([says(reference=f"message-{n}")])) for n in range(100)]
    gate.open()

    assert [len(pen.finish(job).events) for job in [first, *jobs]] == [1] * 101
    assert watched.appended == [1, 100]


def test_a_batch_has_a_limit(watched: WatchedLedger, start_writer: StartWriter) -> None:
    pen = start_writer(watched)
    gate, _ = held(pen, watched)

    jobs = [pen.submit(Job([says(reference=f"{n}-{m}") for m in range(200)])) for n in range(3)]
    gate.open()

    assert [len(pen.finish(job).events) for job in jobs] == [200] * 3
    assert sorted(watched.appended) == [1, 200, 400]
    assert BATCH_MAX == 500


def test_a_job_larger_than_a_batch_is_recorded_whole(watched: WatchedLedger, start_writer: StartWriter) -> None:
    pen = start_writer(watched)

    pen.write(*(says(reference=f"message-{n}") for n in range(BATCH_MAX + 100)))

    assert watched.appended == [BATCH_MAX + 100]


def test_jobs_of_a_batch_see_what_those_before_them_led_to(watched: WatchedLedger, start_writer: StartWriter) -> None:
    """Three requests about one message in one transaction: decided one after another, not against the same state."""
    pen = start_writer(watched)
    gate, _ = held(pen, watched)

    statuses = [Status.DELIVERED, Status.SENT, Status.DELIVERED, Status.FAILED]
    jobs = [pen.submit(Job([says(status, minute)])) for minute, status in enumerate(statuses)]
    again = pen.submit(Job([says(Status.SENT, 1)]))
    gate.open()

    assert [len(pen.finish(job).events) for job in jobs] == [1] * 4
    assert pen.finish(again).redelivered == 1
    assert verdicts(watched) == [Verdict.ADVANCE, Verdict.LATE, Verdict.REPEAT, Verdict.CONFLICT]
    assert watched.appended == [1, 4]
    assert rebuilding.differences(watched) == []


# Bounds ---------------------------------------------------------------------------------------------------------------


def test_a_full_queue_refuses_and_takes_again_when_it_is_empty(
    watched: WatchedLedger, start_writer: StartWriter
) -> None:
    pen = start_writer(watched, queue_max=4)
    gate, first = held(pen, watched)
    waiting = pen.submit(Job([says(reference=str(n)) for n in range(3)]))
    assert pen.writer.depth == 4

    with pytest.raises(QueueFull):
        pen.writer.submit(Job([says(reference="one too many")]))

    gate.open()
    pen.finish(first)
    pen.finish(waiting)
    assert pen.writer.depth == 0
    assert len(pen.write(says(reference="one too many")).events) == 1


def test_captures_count_in_the_queue(watched: WatchedLedger, start_writer: StartWriter) -> None:
    pen = start_writer(watched, queue_max=4)
    gate, first = held(pen, watched)

    with pytest.raises(QueueFull):
        pen.writer.submit(Job([says()], [a_capture(bytes([n])) for n in range(3)]))

    gate.open()
    pen.finish(first)


def test_what_is_kept_counts_by_its_size_in_the_queue_and_in_a_batch(
    watched: WatchedLedger, start_writer: StartWriter
) -> None:
    """Megabytes that nobody can read must not become one statement, nor wait without a limit."""
    large = CAPTURED_BYTES * (BATCH_MAX // 2)
    pen = start_writer(watched, queue_max=2 * BATCH_MAX)
    gate, first = held(pen, watched)
    jobs = [pen.submit(Job([], [a_capture(bytes([n]) * large)])) for n in range(3)]

    with pytest.raises(QueueFull):
        pen.writer.submit(Job([], [a_capture(b"x" * large)]))

    assert jobs[0].size == 1 + BATCH_MAX // 2
    gate.open()
    for job in [first, *jobs]:
        pen.finish(job)
    with watched.reading() as cursor:
        assert cursor.execute("SELECT count(DISTINCT xmin::text) FROM captures").fetchone() == (3,)


def test_a_job_larger_than_the_queue_is_taken_by_an_empty_one(
    watched: WatchedLedger, start_writer: StartWriter
) -> None:
    """It could never be recorded otherwise: the provider would send it again for days."""
    pen = start_writer(watched, queue_max=4)
    large = [says(reference=f"message-{n}") for n in range(50)]
    gate, first = held(pen, watched)

    with pytest.raises(QueueFull):
        pen.writer.submit(Job(large))

    gate.open()
    pen.finish(first)
    assert len(pen.write(*large).events) == 50


def test_a_job_that_waited_too_long_is_not_written(pen: Pen, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its requester has been told to come back; any wait is too long here."""
    monkeypatch.setattr(writer, "WAIT_SECONDS_MAX", -1.0)

    with pytest.raises(StoreUnavailable, match="waited too long"):
        pen.write(says())

    assert events(ledger) == []
    assert pen.writer.depth == 0


def test_beyond_its_bound_a_stream_records_only_what_is_new(pen: Pen, ledger: Ledger) -> None:
    """A signed request can be replayed for ever under new event ids; it must not fill the log."""
    pen.write(*(says(Status.SENT, 0, event_id=str(n)) for n in range(OBSERVATIONS_MAX)))
    assert len(events(ledger)) == OBSERVATIONS_MAX

    more = pen.write(*(says(Status.SENT, 0, event_id=f"more-{n}") for n in range(50)))
    new = pen.write(says(Status.DELIVERED, 5), says(Status.SENT, -5), says(Status.SENT, 0, event_id="again"))

    assert (len(more.events), more.redelivered) == (0, 50)
    assert (len(new.events), new.redelivered) == (2, 1)
    assert len(events(ledger)) == OBSERVATIONS_MAX + 2
    assert rebuilding.differences(ledger) == []


# Stopping -------------------------------------------------------------------------------------------------------------


def test_closing_writes_what_waits_and_refuses_the_rest(watched: WatchedLedger, start_writer: StartWriter) -> None:
    pen = start_writer(watched)
    gate, first = held(pen, watched)
    jobs = [pen.submit(Job([says(reference=f"message-{n}") for _ in range(300)])) for n in range(4)]
    closing = threading.Thread(target=pen.writer.close)
    closing.start()

    gate.open()
    closing.join()

    assert [len(pen.finish(job).events) for job in [first, *jobs]] == [1] * 5
    with pytest.raises(QueueFull):
        pen.writer.submit(Job([says()]))


def test_closing_twice_is_closing(pen: Pen) -> None:
    pen.write(says())

    pen.writer.close()
    pen.writer.close()

    with pytest.raises(QueueFull):
        pen.write(says(Status.READ))
