"""The writer while the database, or the way to it, fails: what was answered is on record, once; the rest may be sent
again; nothing hangs."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import psycopg
import pytest

from ledger.domain.events import StatusCorrected
from ledger.domain.status import Channel, Outcome, Status
from ledger.ingest.register import Correction, LocalFailure
from ledger.ingest.writer import Job
from ledger.store.application import Ledger, StoreUnavailable
from tests.builders import at
from tests.ingest.fault_proxy import Fault, FaultProxy, proxied
from tests.ingest.ledgers import WatchedLedger, a_capture
from tests.plugins.ledger import PATIENCE_SECONDS, OpenLedger, Pen
from tests.projections import rebuilding
from tests.statements import a_registration, a_sender, registered, says, stream_of

StartWriter = Callable[..., Pen]


class Remote(NamedTuple):
    """A writer and its ledger behind a proxy. The fixture `ledger` looks at the same database past it."""

    pen: Pen
    watched: WatchedLedger
    proxy: FaultProxy

    def lose_next_append(self, fault: Fault) -> None:
        self.watched.once_before = lambda: self.proxy.lose(fault)


@pytest.fixture
def remote(database_url: str, open_ledger: OpenLedger, start_writer: StartWriter) -> Iterator[Remote]:
    with proxied(database_url) as proxy:
        watched = open_ledger(proxy.url, type_=WatchedLedger)
        pen = start_writer(watched)
        yield Remote(pen, watched, proxy)
        pen.writer.close()


def positions(ledger: Ledger) -> list[int]:
    with ledger.reading() as cursor:
        return [row[0] for row in cursor.execute("SELECT position FROM events ORDER BY position")]


# A lost answer --------------------------------------------------------------------------------------------------------


@pytest.fixture(params=[Fault.LOSE_ANSWER, Fault.LOSE_REQUEST], ids=lambda fault: fault.name.lower())
def fault(request: pytest.FixtureRequest) -> Fault:
    return request.param


@pytest.mark.parametrize("size", [1, 3, 900])
def test_callbacks_are_recorded_once_whichever_way_the_append_is_lost(
    remote: Remote, ledger: Ledger, fault: Fault, size: int
) -> None:
    """The writer cannot tell the two faults apart: it looks, and writes what is not there."""
    remote.pen.write(says(reference="warm"))
    remote.lose_next_append(fault)

    done = remote.pen.write(*(says(Status.SENT, 1, reference=f"message-{n}") for n in range(size)))

    assert remote.proxy.lost == 1
    assert len(done.streams) == size
    assert (len(done.events), done.redelivered) == ((0, size) if fault is Fault.LOSE_ANSWER else (size, 0))
    assert positions(ledger) == list(range(1, size + 2))
    assert rebuilding.differences(ledger) == []


def test_the_first_append_of_a_connection_may_be_lost_as_well(remote: Remote, ledger: Ledger, fault: Fault) -> None:
    """It is prepared in a round trip of its own."""
    remote.lose_next_append(fault)

    remote.pen.write(says())

    assert remote.proxy.lost == 1
    assert positions(ledger) == [1]


def test_every_job_of_a_batch_is_decided_separately_after_a_lost_answer(remote: Remote, ledger: Ledger) -> None:
    """The batch held a duplicate, a new message, a known one and a capture; each is answered for what it is."""
    remote.pen.write(says(Status.SENT, 1))
    held, release = threading.Event(), threading.Event()
    remote.watched.once_before = lambda: (held.set(), release.wait())
    first = remote.pen.submit(Job([says(reference="first")]))
    held.wait()
    jobs = [
        remote.pen.submit(job)
        for job in (
            Job([says(Status.SENT, 1)]),
            Job([says(Status.DELIVERED, 2)]),
            Job([says(Status.SENT, 3, reference="new")]),
            Job([], [a_capture()]),
        )
    ]
    remote.lose_next_append(Fault.LOSE_ANSWER)

    release.set()

    remote.pen.finish(first)
    assert [remote.pen.finish(job).redelivered for job in jobs] == [1, 1, 1, 0]
    assert remote.proxy.lost == 1
    assert positions(ledger) == [1, 2, 3, 4]


def test_a_registration_whose_answer_was_lost_is_recorded_once(remote: Remote, ledger: Ledger, fault: Fault) -> None:
    told = a_registration(provider_message_id="provider-1")
    remote.lose_next_append(fault)

    job, stream_id = registered(b"registration-1", told)
    done = remote.pen.do(job)

    assert remote.proxy.lost == 1
    assert set(done.streams) == {stream_id}
    assert [type(recorded.event).__name__ for recorded in ledger.history(stream_id)] == [
        "MessageRegistered",
        "StatusObserved",
    ]


def test_a_hand_off_whose_answer_was_lost_links_once(remote: Remote, ledger: Ledger, fault: Fault) -> None:
    job, own = registered(b"registration-1")
    remote.pen.do(job)
    remote.pen.write(says(Status.DELIVERED, 1, reference="provider-1"))
    handed_off, leading = a_sender().hand_off(own, 1, a_registration(provider_message_id="provider-1"), at(2))
    remote.lose_next_append(fault)

    remote.pen.do(handed_off)

    assert remote.proxy.lost == 1
    assert sorted(type(recorded.event).__name__ for recorded in ledger.history(leading)) == [
        "MessageLinked",
        "MessageRegistered",
        "StatusObserved",
        "StatusObserved",
    ]
    assert rebuilding.differences(ledger) == []


def test_a_capture_whose_answer_was_lost_is_kept(remote: Remote, ledger: Ledger, fault: Fault) -> None:
    """It may be counted once too often: its count says how often it came at least once, and is no evidence."""
    remote.lose_next_append(fault)

    remote.pen.write(captures=[a_capture()])

    assert remote.proxy.lost == 1
    with ledger.reading() as cursor:
        assert cursor.execute("SELECT count(*) FROM captures").fetchone() == (1,)


def test_a_correction_whose_answer_was_lost_is_recorded_once(remote: Remote, ledger: Ledger) -> None:
    remote.pen.write(says(Status.FAILED, 1), says(Status.DELIVERED, 2))
    remote.lose_next_append(Fault.LOSE_ANSWER)

    done = remote.pen.do(
        a_sender().correct(stream_of(), Channel.SMS, Correction(to=Outcome.DELIVERED, by="o", why="w"), at(3))
    )

    corrections = [recorded for recorded in ledger.history(stream_of()) if isinstance(recorded.event, StatusCorrected)]
    assert remote.proxy.lost == 1
    assert (done.events, done.redelivered) == ((), 1)  # found on record by the second try
    assert len(corrections) == 1


def test_a_local_failure_whose_answer_was_lost_is_recorded_once(remote: Remote, ledger: Ledger, fault: Fault) -> None:
    job, own = registered(b"registration-1")
    remote.pen.do(job)
    remote.lose_next_append(fault)

    remote.pen.do(a_sender().fail(own, Channel.SMS, LocalFailure("no route"), at(1)))

    assert remote.proxy.lost == 1
    assert len(ledger.history(own)) == 2


# No database ----------------------------------------------------------------------------------------------------------


def test_without_a_database_jobs_end_as_unavailable_and_nothing_is_written(remote: Remote, ledger: Ledger) -> None:
    remote.pen.write(says(reference="before"))
    remote.proxy.down()

    jobs = [remote.pen.submit(Job([says(reference=f"message-{n}")])) for n in range(20)]

    assert [type(remote.pen.end(job).error) for job in jobs] == [StoreUnavailable] * 20
    assert positions(ledger) == [1]


def test_the_writer_goes_on_when_the_database_is_back(remote: Remote, ledger: Ledger) -> None:
    """Senders come back with what was refused; so does this one, until it is taken."""
    remote.pen.write(says(reference="before"))
    remote.proxy.down()
    with pytest.raises(StoreUnavailable):
        remote.pen.write(says(reference="during"))

    remote.proxy.up()

    assert taken(remote.pen, Job([says(reference="during")]))
    assert len(remote.pen.write(says(reference="after")).events) == 1
    assert positions(ledger) == [1, 2, 3]


def test_a_short_absence_is_not_noticed(remote: Remote, ledger: Ledger) -> None:
    """Every connection is cut before the append, and new ones are taken at once."""
    remote.pen.write(says(reference="before"))

    def blink() -> None:
        remote.proxy.down()
        remote.proxy.up()

    remote.watched.once_before = blink

    assert len(remote.pen.write(says()).events) == 1
    assert positions(ledger) == [1, 2]


def taken(pen: Pen, job: Job, attempts: int = 20) -> bool:
    """Send a job again until it is taken, as providers do."""
    for _ in range(attempts):
        try:
            pen.do(Job(job.statements))
        except StoreUnavailable:
            continue
        return True
    return False


def test_a_backend_that_is_killed_before_an_append_costs_nothing(
    database_url: str, open_ledger: OpenLedger, start_writer: StartWriter, ledger: Ledger
) -> None:
    watched = open_ledger(database_url, type_=WatchedLedger)
    pen = start_writer(watched)

    for minute in range(5):
        watched.once_before = lambda: terminate(database_url, b"TRUE")
        assert len(pen.write(says(Status.SENT, minute)).events) == 1

    assert positions(ledger) == [1, 2, 3, 4, 5]
    assert rebuilding.differences(ledger) == []


def test_a_backend_that_is_killed_within_an_append_costs_nothing(
    database_url: str, open_ledger: OpenLedger, start_writer: StartWriter, ledger: Ledger
) -> None:
    """The append waits for a head that somebody else holds; that is where it is killed."""
    pen = start_writer(open_ledger(database_url))
    pen.write(says(reference="before"))

    with psycopg.connect(database_url) as other:
        other.execute("SELECT 1 FROM partition_heads FOR UPDATE")
        job = pen.submit(Job([says()]))
        until = time.monotonic() + PATIENCE_SECONDS
        while not terminate(database_url, b"wait_event_type = 'Lock'"):
            assert time.monotonic() < until, "the append never waited"

    assert len(pen.finish(job).events) == 1
    assert positions(ledger) == [1, 2]


def terminate(url: str, condition: bytes) -> int:
    """Terminate the writer's backends that fulfil a condition, and return how many there were."""
    with psycopg.connect(url, autocommit=True, application_name="killer") as connection:
        statement = b"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
        return connection.execute(
            statement + b" AND application_name = 'status-ledger' AND query LIKE '%ledger_record%' AND " + condition
        ).rowcount
