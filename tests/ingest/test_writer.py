"""Group commit: what shares a transaction, what is recorded, and what one job can do to another (nothing)."""

import threading
from collections.abc import Callable

import pytest

from ledger.domain.events import AnyEvent, StatusCorrected, StatusObserved
from ledger.domain.message import OBSERVATIONS_MAX, Correct, NotInConflict, Person
from ledger.domain.status import Conflict, Outcome, Status, Verdict
from ledger.ingest import writer
from ledger.ingest.writer import BATCH_MAX, Job, Poisoned, QueueFull, Statement
from ledger.store.application import Ledger, StoreUnavailable, StreamMoved, fold
from ledger.store.captures import Capture
from tests.builders import a_receipt, at
from tests.ingest.ledgers import WatchedLedger
from tests.plugins.ledger import PATIENCE_SECONDS, OpenLedger, Pen
from tests.projections import rebuilding
from tests.statements import says, stream_of

StartWriter = Callable[..., Pen]


@pytest.fixture
def watched(database_url: str, open_ledger: OpenLedger) -> WatchedLedger:
    return open_ledger(database_url, type_=WatchedLedger)


class Gate:
    """Holds the writer back before its next append, so that everything submitted meanwhile has to wait."""

    def __init__(self, watched: WatchedLedger) -> None:
        self._reached, self._opened = threading.Event(), threading.Event()
        watched.once_before = self._hold

    def _hold(self) -> None:
        self._reached.set()
        assert self._opened.wait(PATIENCE_SECONDS)

    def wait_until_reached(self) -> None:
        assert self._reached.wait(PATIENCE_SECONDS)

    def open(self) -> None:
        self._opened.set()


def held(pen: Pen, watched: WatchedLedger) -> tuple[Gate, Job]:
    """Make the writer wait in the middle of a first job."""
    gate = Gate(watched)
    first = pen.submit(Job([says(reference="first")]))
    gate.wait_until_reached()
    return gate, first


def events(ledger: Ledger, reference: str = "reference-1") -> list[AnyEvent]:
    return [recorded.event for recorded in ledger.history(stream_of(reference))]


def verdicts(ledger: Ledger, reference: str = "reference-1") -> list[Verdict]:
    return [event.verdict for event in events(ledger, reference) if isinstance(event, StatusObserved)]


def a_correction(to: Outcome = Outcome.DELIVERED, reference: str = "reference-1") -> Statement:
    receipt = a_receipt(received_at=at(9))
    return Statement(stream_of(reference), Correct(to=to, by="operator-1", why="asked", relied_on=(), receipt=receipt))


def a_capture(content: bytes = b"unreadable") -> Capture:
    return Capture(
        account="account-1", provider="provider-1", reason="r", content=content, content_type="", received_at=at(0)
    )


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
    pen = start_writer(shaped_ledger)

    for minute, status in enumerate([Status.SENT, Status.FAILED, Status.DELIVERED]):
        pen.write(*(says(status, minute, reference=f"message-{n}", error_text="no route") for n in range(30)))

    assert rebuilding.differences(shaped_ledger) == []


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
    assert watched.appended == [1, 400, 200]
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


# One job and its neighbours -------------------------------------------------------------------------------------------


def test_a_job_that_cannot_be_recorded_costs_its_neighbours_nothing(
    watched: WatchedLedger, start_writer: StartWriter
) -> None:
    pen = start_writer(watched)
    gate, first = held(pen, watched)

    good = [pen.submit(Job([says(reference=f"good-{n}")])) for n in range(10)]
    bad = pen.submit(Job([says(reference="bad", error_text="a lone surrogate: \ud800")]))
    good += [pen.submit(Job([says(reference=f"good-{n}")])) for n in range(10, 20)]
    gate.open()

    with pytest.raises(Poisoned, match="UnicodeEncodeError"):
        pen.finish(bad)
    assert [len(pen.finish(job).events) for job in [first, *good]] == [1] * 21
    assert events(watched, "bad") == []
    assert [len(events(watched, f"good-{n}")) for n in range(20)] == [1] * 20


def test_a_job_with_one_bad_statement_is_not_recorded_in_part(pen: Pen, ledger: Ledger) -> None:
    with pytest.raises(Poisoned):
        pen.write(says(reference="good"), says(reference="bad", client_reference="\udfff"), captures=[a_capture()])

    assert events(ledger, "good") == []
    with ledger.reading() as cursor:
        assert cursor.execute("SELECT count(*) FROM captures").fetchone() == (0,)


def test_several_bad_jobs_in_one_batch_are_told_apart(watched: WatchedLedger, start_writer: StartWriter) -> None:
    pen = start_writer(watched)
    gate, first = held(pen, watched)

    jobs = [
        pen.submit(Job([says(reference=f"message-{n}", error_text="\ud800" if n % 3 == 0 else None)]))
        for n in range(16)
    ]
    gate.open()

    pen.finish(first)
    assert [isinstance(pen.end(job).error, Poisoned) for job in jobs] == [n % 3 == 0 for n in range(16)]
    assert [len(events(watched, f"message-{n}")) for n in range(16)] == [n % 3 != 0 for n in range(16)]


def test_a_message_that_cannot_be_opened_costs_its_neighbours_nothing(pen: Pen, ledger: Ledger) -> None:
    pen.write(says(reference="broken"), says(reference="whole"))
    with ledger.reading() as cursor:
        cursor.execute("UPDATE message_keys SET wrapped = '\\x01' WHERE stream_id = %s", (stream_of("broken"),))

    jobs = [pen.submit(Job([says(Status.DELIVERED, 5, reference=name)])) for name in ("whole", "broken", "new")]

    assert [type(pen.end(job).error).__name__ for job in jobs] == ["NoneType", "Poisoned", "NoneType"]


def test_a_refused_correction_costs_its_neighbours_nothing(watched: WatchedLedger, start_writer: StartWriter) -> None:
    pen = start_writer(watched)
    gate, first = held(pen, watched)

    jobs = [pen.submit(Job([statement])) for statement in (says(Status.SENT, 1), a_correction(), says(Status.READ, 2))]
    gate.open()

    pen.finish(first)
    assert [type(pen.end(job).error).__name__ for job in jobs] == ["NoneType", "NotInConflict", "NoneType"]
    assert verdicts(watched) == [Verdict.ADVANCE, Verdict.ADVANCE]


def test_a_refusal_that_does_not_hold_on_the_second_try_is_forgotten(
    watched: WatchedLedger, start_writer: StartWriter, open_ledger: OpenLedger, database_url: str
) -> None:
    """The correction is first decided when there is nothing to correct. Before its batch is appended another writer
    records the contradiction: the batch has lost its race and is decided again."""
    pen, other = start_writer(watched), start_writer(open_ledger(database_url))
    other.write(says(Status.DELIVERED, 1))
    gate, first = held(pen, watched)
    correction, companion = pen.submit(Job([a_correction(Outcome.FAILED)])), pen.submit(Job([says(Status.SENT, 0)]))
    watched.once_before = lambda: other.write(says(Status.FAILED, 2))

    gate.open()

    pen.finish(first)
    pen.finish(companion)
    (event,) = pen.finish(correction).events
    assert isinstance(event, StatusCorrected)
    assert fold(watched.history(stream_of())).conflict is Conflict.SETTLED


# Races ----------------------------------------------------------------------------------------------------------------


def test_a_lost_race_is_decided_again(
    watched: WatchedLedger, start_writer: StartWriter, open_ledger: OpenLedger, database_url: str
) -> None:
    """Between deciding and appending, another writer records a later status: the claim is late now, not an advance."""
    pen, other = start_writer(watched), start_writer(open_ledger(database_url))
    watched.once_before = lambda: other.write(says(Status.READ, 2))

    (event,) = pen.write(says(Status.SENT, 1)).events

    assert isinstance(event, StatusObserved)
    assert event.verdict is Verdict.LATE
    assert verdicts(watched) == [Verdict.ADVANCE, Verdict.LATE]
    assert rebuilding.differences(watched) == []


def test_a_race_lost_to_the_same_observation_is_a_redelivery(
    watched: WatchedLedger, start_writer: StartWriter, open_ledger: OpenLedger, database_url: str
) -> None:
    pen, other = start_writer(watched), start_writer(open_ledger(database_url))
    watched.once_before = lambda: other.write(says(Status.SENT, 1))

    done = pen.write(says(Status.SENT, 1))

    assert (done.events, done.redelivered) == ((), 1)
    assert verdicts(watched) == [Verdict.ADVANCE]


def test_a_race_on_one_stream_costs_the_rest_of_the_batch_nothing(
    watched: WatchedLedger, start_writer: StartWriter, open_ledger: OpenLedger, database_url: str
) -> None:
    pen, other = start_writer(watched), start_writer(open_ledger(database_url))
    gate, first = held(pen, watched)
    jobs = [pen.submit(Job([says(Status.SENT, 1, reference=f"message-{n}")])) for n in range(10)]
    watched.once_before = lambda: other.write(says(Status.SENT, 1, reference="message-5"))

    gate.open()

    pen.finish(first)
    assert [len(pen.finish(job).events) for job in jobs] == [n != 5 for n in range(10)]
    assert watched.appended == [1, 9]


class Beaten(WatchedLedger):
    """Always loses its race."""

    def append(self, *arguments: object, **options: object) -> list[int]:
        raise StreamMoved("another writer appended first")


def test_a_race_that_is_never_won_ends(database_url: str, open_ledger: OpenLedger, start_writer: StartWriter) -> None:
    pen = start_writer(open_ledger(database_url, type_=Beaten))

    with pytest.raises(StoreUnavailable):
        pen.write(says())


def test_accounts_with_the_same_provider_id_have_messages_of_their_own(pen: Pen, ledger: Ledger) -> None:
    pen.write(says(Status.SENT, 1), says(Status.READ, 1, account="account-2"))

    assert [recorded.stream_id for recorded in ledger.history(stream_of())] == [stream_of()]
    assert fold(ledger.history(stream_of())).status is Status.SENT
    assert fold(ledger.history(stream_of(account="account-2"))).status is Status.READ


# Corrections and rules ------------------------------------------------------------------------------------------------


def test_a_correction_settles_an_open_conflict(pen: Pen, ledger: Ledger) -> None:
    pen.write(says(Status.FAILED, 1), says(Status.DELIVERED, 2))

    pen.write(a_correction(Outcome.DELIVERED))

    message = fold(ledger.history(stream_of()))
    assert (message.status, message.conflict, message.corrections) == (Status.DELIVERED, Conflict.SETTLED, 1)
    assert rebuilding.differences(ledger) == []


def test_a_correction_of_a_message_nobody_heard_of_is_refused(pen: Pen, ledger: Ledger) -> None:
    with pytest.raises(NotInConflict):
        pen.write(a_correction())

    assert events(ledger) == []


def test_an_account_may_settle_conflicts_by_rule(pen: Pen, ledger: Ledger) -> None:
    pen.write(says(Status.FAILED, 1, delivery_wins=True))

    done = pen.write(says(Status.DELIVERED, 2, delivery_wins=True))

    assert [type(event).__name__ for event in done.events] == ["StatusObserved", "StatusCorrected"]
    assert fold(ledger.history(stream_of())).status is Status.DELIVERED
    assert rebuilding.differences(ledger) == []


# Erasure --------------------------------------------------------------------------------------------------------------


def test_an_erased_message_takes_nothing_personal_back(pen: Pen, ledger: Ledger) -> None:
    """It is redelivered, it is reported on, it goes on counting; who it was about stays forgotten."""
    pen.write(says(Status.SENT, 1, recipient="+15550100"))
    with ledger.reading() as cursor:
        cursor.execute("DELETE FROM message_keys")

    again = pen.write(says(Status.SENT, 1, recipient="+15550100"))
    failed = pen.write(says(Status.FAILED, 2, recipient="+15550100", error_text="Invalid phone number"))

    assert (again.redelivered, len(failed.events)) == (1, 1)
    message = fold(ledger.history(stream_of()))
    assert (message.status, message.person, message.evidence.failures[0].text) == (Status.FAILED, Person(), "")
    with ledger.reading() as cursor:
        assert cursor.execute("SELECT count(*) FROM message_keys").fetchone() == (0,)
        assert cursor.execute("SELECT recipient_lookup FROM current_status").fetchone() == (None,)


def test_the_row_of_an_erased_message_follows_from_its_erased_events(pen: Pen, ledger: Ledger) -> None:
    """What is reported after the erasure is recorded without its text, so the text may not decide anything either."""
    pen.write(says(Status.SENT, 1))
    with ledger.reading() as cursor:
        cursor.execute("DELETE FROM message_keys")

    pen.write(
        says(Status.FAILED, 2, error_text="Invalid phone number", event_id="one"),
        says(Status.FAILED, 2, error_text="Unknown channel", event_id="two"),
    )

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
