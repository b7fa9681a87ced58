"""What one job can do to another, one writer to another, and an erased message to anybody: nothing."""

from collections.abc import Callable

import pytest

from ledger.domain.events import StatusCorrected, StatusObserved
from ledger.domain.message import NotInConflict, Person
from ledger.domain.status import Conflict, Outcome, Status, Verdict
from ledger.ingest.writer import Job, Poisoned
from ledger.store.application import Ledger, StoreUnavailable, StreamMoved, fold
from tests.ingest.ledgers import WatchedLedger, a_capture, a_correction, events, held, verdicts
from tests.plugins.ledger import OpenLedger, Pen
from tests.projections import rebuilding
from tests.statements import says, stream_of

StartWriter = Callable[..., Pen]


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
