"""The ledger as writer and readers use it: loading, history, erasure, and what leaves it when things go wrong."""

from collections.abc import Callable
from itertools import pairwise
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ledger.domain.events import MessageLinked, StatusObserved
from ledger.domain.message import Message
from ledger.domain.status import Channel, Status
from ledger.ingest.register import LocalFailure
from ledger.store.application import Ledger, RecordedEvent, StoreUnavailable, WrongSecret, fold
from ledger.store.captures import Capture
from ledger.store.recorder import connection_string
from ledger.store.sealing import MasterKey, SealBroken
from ledger.wire.contract import Secret
from tests.builders import at
from tests.plugins.ledger import OpenLedger, Pen
from tests.projections import rebuilding
from tests.statements import a_registration, a_sender, an_account, registered, says, stream_of

StartWriter = Callable[..., Pen]

A_CAPTURE = Capture(
    account="account-1", provider="provider-1", reason="r", content=b"", content_type="", received_at=at(0)
)


def erase(ledger: Ledger, stream_id: UUID) -> None:
    """Delete a message's data key: all that makes an erasure final."""
    with ledger.reading() as cursor:
        assert cursor.execute("DELETE FROM message_keys WHERE stream_id = %s", (stream_id,)).rowcount == 1


# Loading --------------------------------------------------------------------------------------------------------------


def test_an_unknown_stream_is_an_unopened_message_with_a_new_key(ledger: Ledger) -> None:
    one, other = ledger.load([uuid4(), uuid4()])

    assert (one.version, one.message) == (other.version, other.message) == (0, Message())
    assert one.key is not None
    assert other.key is not None
    assert one.key.seal(b"", b"") != other.key.seal(b"", b"")


def test_a_recorded_message_loads_as_the_fold_of_its_events(shaped_ledger: Ledger, start_writer: StartWriter) -> None:
    pen, account = start_writer(shaped_ledger), an_account()
    for minute, status in enumerate((Status.SENT, Status.DELIVERED, Status.READ)):
        pen.write(*(says(status, minute, reference=f"message-{n}", account=account) for n in range(20)))
    streams = [stream_of(f"message-{n}", account) for n in range(20)]

    loaded = {each.stream_id: each for each in shaped_ledger.load(streams)}

    assert {stream_id: each.version for stream_id, each in loaded.items()} == dict.fromkeys(streams, 3)
    expected = {stream_id: fold(shaped_ledger.history(stream_id)) for stream_id in streams}
    assert {stream_id: each.message for stream_id, each in loaded.items()} == expected


def test_a_stream_asked_for_twice_is_loaded_once(ledger: Ledger, pen: Pen) -> None:
    pen.write(says())
    new = uuid4()

    loaded = ledger.load([stream_of(), new, stream_of(), new])

    assert sorted(each.version for each in loaded) == [0, 1]


def test_loading_nothing_loads_nothing(ledger: Ledger) -> None:
    assert ledger.load([]) == []


def test_another_master_key_opens_nothing(database_url: str, pen: Pen, open_ledger: OpenLedger) -> None:
    pen.write(says())
    other = open_ledger(database_url, master_key=MasterKey(Secret(bytes(32))))

    with pytest.raises(SealBroken):
        other.load([stream_of()])


def test_a_database_remembers_its_secrets(ledger: Ledger) -> None:
    ledger.require_secrets({"LEDGER_MASTER_KEY": "one", "LEDGER_DEPLOYMENT_SECRET": "two"})

    ledger.require_secrets({"LEDGER_MASTER_KEY": "one", "LEDGER_DEPLOYMENT_SECRET": "two"})
    with pytest.raises(WrongSecret, match="LEDGER_MASTER_KEY"):
        ledger.require_secrets({"LEDGER_MASTER_KEY": "three", "LEDGER_DEPLOYMENT_SECRET": "two"})


# Erasure --------------------------------------------------------------------------------------------------------------


def test_an_erased_message_keeps_its_history_without_the_person(ledger: Ledger, pen: Pen) -> None:
    pen.write(says(Status.FAILED, 1, error_text="no route", client_reference="order-1"))
    before = ledger.history(stream_of())

    erase(ledger, stream_of())

    after = ledger.history(stream_of())
    assert [recorded.hash for recorded in after] == [recorded.hash for recorded in before]
    (event,) = [recorded.event for recorded in after]
    assert isinstance(event, StatusObserved)
    assert event.personal == type(event.personal)()
    assert (event.claim, event.occurred_at) == (Status.FAILED, at(1))


def test_an_erased_message_loads_as_its_erased_events_fold(ledger: Ledger, pen: Pen) -> None:
    """The row was written before the erasure, under the key that is gone."""
    for text in ("b", "a"):
        pen.write(says(Status.FAILED, 1, error_text=text, event_id=text))

    erase(ledger, stream_of())

    (loaded,) = ledger.load([stream_of()])
    assert loaded.key is None
    assert loaded.message == fold(ledger.history(stream_of()))


def test_a_row_of_another_versions_format_loads_as_the_fold_of_its_events(ledger: Ledger, pen: Pen) -> None:
    """The version before kept the folded message as a map. What is written next is in today's format again."""
    pen.write(says(Status.SENT, 1), says(Status.FAILED, 2, error_text="no route"))
    expected = fold(ledger.history(stream_of()))
    with ledger.reading() as cursor:
        cursor.execute("UPDATE current_status SET state = '\\x010000000180'")

    (outdated,) = ledger.load([stream_of()])
    pen.write(says(Status.FAILED, 3))
    (renewed,) = ledger.load([stream_of()])

    assert outdated.message == expected
    assert renewed.message == fold(ledger.history(stream_of()))
    assert outdated.snapshot.sealed_at == 0
    assert renewed.snapshot.sealed_at == 3


# History --------------------------------------------------------------------------------------------------------------


def test_history_is_every_event_with_its_place(ledger: Ledger, pen: Pen) -> None:
    pen.write(says(Status.SENT, 1), says(Status.SENT, 1, reference="other"))
    pen.write(says(Status.DELIVERED, 2))

    history = ledger.history(stream_of())

    assert [(recorded.position, recorded.stream_id) for recorded in history] == [(1, stream_of()), (3, stream_of())]
    assert [event.claim for event in map(observation, history)] == [Status.SENT, Status.DELIVERED]
    assert all(len(recorded.hash) == 32 for recorded in history)
    assert history[0].recorded_at < history[1].recorded_at


def observation(recorded: RecordedEvent) -> StatusObserved:
    assert isinstance(recorded.event, StatusObserved)
    return recorded.event


def test_history_of_an_unknown_stream_is_empty(ledger: Ledger) -> None:
    assert ledger.history(uuid4()) == []


def test_history_of_a_linked_message_interleaves_both_streams(ledger: Ledger, pen: Pen) -> None:
    """In the order of recording, whichever stream an event went to; the hand-over itself is told once."""
    pen.write(says(Status.SENT, 1, reference="provider-1"))
    job, own = registered(b"registration-1")
    pen.do(job)
    pen.write(says(Status.DELIVERED, 2, reference="provider-1"))
    told = a_registration(provider_message_id="provider-1")
    handed_off, leading = a_sender().hand_off(own, 4711, told, at(3))
    pen.do(handed_off)
    pen.write(says(Status.READ, 4, reference="provider-1"))

    history = ledger.history(leading)

    names = [type(recorded.event).__name__ for recorded in history]
    assert names == ["StatusObserved", "MessageRegistered", "StatusObserved", "MessageLinked"] + ["StatusObserved"] * 2
    assert [recorded.stream_id == own for recorded in history] == [False, True, False, False, False, False]
    assert all(earlier.recorded_at <= later.recorded_at for earlier, later in pairwise(history))
    assert [recorded.event.leads for recorded in history if isinstance(recorded.event, MessageLinked)] == [True]


def test_history_of_the_senders_own_stream_ends_with_the_hand_over(ledger: Ledger, pen: Pen) -> None:
    job, own = registered(b"registration-1")
    pen.do(job)
    told = a_registration(provider_message_id="provider-1")
    handed_off, leading = a_sender().hand_off(own, 4711, told, at(3))
    pen.do(handed_off)

    last = ledger.history(own)[-1].event

    assert isinstance(last, MessageLinked)
    assert (last.other, last.leads) == (leading, False)


def test_two_registrations_handed_off_to_one_message_are_both_part_of_it(ledger: Ledger, pen: Pen) -> None:
    """A sender that registered twice, each time under another idempotency key, and sent once."""
    streams = []
    for name in (b"registration-1", b"registration-2"):
        job, own = registered(name, a_registration(client_reference=name.decode()))
        pen.do(job)
        streams.append(own)
    pen.do(a_sender().fail(streams[0], Channel.SMS, LocalFailure("no route"), at(1)))
    for own in streams:
        told = a_registration(provider_message_id="provider-1")
        pen.do(a_sender().hand_off(own, 4711, told, at(2))[0])

    assert rebuilding.differences(ledger) == []
    (loaded,) = ledger.load([stream_of("provider-1")])
    assert loaded.message.links == tuple(streams)
    assert loaded.message.registrations == {b"registration-1", b"registration-2"}
    assert loaded.message.status is Status.FAILED


# Trouble --------------------------------------------------------------------------------------------------------------


def test_a_database_that_is_not_there_is_unavailable_for_reads_and_appends(
    database_url: str, open_ledger: OpenLedger
) -> None:
    ledger = open_ledger(make_conninfo(database_url, dbname="no_such_database"))

    with pytest.raises(StoreUnavailable):
        ledger.load([uuid4()])
    with pytest.raises(StoreUnavailable):
        ledger.history(uuid4())
    with pytest.raises(StoreUnavailable):
        ledger.append([], [], {}, [A_CAPTURE])


def test_a_read_only_database_is_unavailable_for_appends(database_url: str, open_ledger: OpenLedger) -> None:
    """As after a failover, when the old primary comes back as a standby."""
    ledger = open_ledger(make_conninfo(database_url, options="-c default_transaction_read_only=on"))

    assert ledger.load([uuid4()])[0].version == 0
    with pytest.raises(StoreUnavailable):
        ledger.append([], [], {}, [A_CAPTURE])


def test_a_statement_that_takes_too_long_is_given_up(database_url: str, open_ledger: OpenLedger) -> None:
    ledger = open_ledger(make_conninfo(database_url, options="-c statement_timeout=50ms"))

    with pytest.raises(StoreUnavailable), ledger.reading() as cursor:
        cursor.execute("SELECT pg_sleep(60)")


def test_a_lock_that_is_held_too_long_is_given_up(ledger: Ledger, pen: Pen, database_url: str) -> None:
    """Somebody changes the table meanwhile: an append must not wait for the end of it."""
    with psycopg.connect(database_url) as other:
        other.execute("LOCK TABLE events IN ACCESS EXCLUSIVE MODE")

        with pytest.raises(StoreUnavailable):
            pen.write(says())

    assert len(pen.write(says()).events) == 1


# Connections ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("statement_timeout", "3s"),
        ("lock_timeout", "1s"),
        ("idle_in_transaction_session_timeout", "5s"),
        ("transaction_isolation", "read committed"),
        ("TimeZone", "UTC"),
        ("application_name", "status-ledger"),
    ],
)
def test_every_connection_has_our_settings(shared_ledger: Ledger, setting: str, value: str) -> None:
    with shared_ledger.reading() as cursor:
        row = cursor.execute("SELECT current_setting(%s)", (setting,)).fetchone()

    assert row == (value,)


def test_what_the_url_sets_wins(database_url: str) -> None:
    told = make_conninfo(database_url, connect_timeout=7, options="-c statement_timeout=9s")

    merged = conninfo_to_dict(connection_string(told))

    assert merged["connect_timeout"] == "7"
    with psycopg.connect(connection_string(told)) as connection:
        assert connection.execute("SHOW statement_timeout").fetchone() == ("9s",)
        assert connection.execute("SHOW lock_timeout").fetchone() == ("1s",)


@pytest.mark.parametrize("isolation", ["serializable", "repeatable read"])
def test_a_default_isolation_of_the_database_does_not_reach_us(
    database_url: str, open_ledger: OpenLedger, isolation: str
) -> None:
    """Under either, concurrent appends would fail each other all the time."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        statement = sql.SQL("ALTER DATABASE {} SET default_transaction_isolation = {}")
        connection.execute(statement.format(sql.Identifier(connection.info.dbname), sql.Literal(isolation)))

    with open_ledger(database_url).reading() as cursor:
        assert cursor.execute("SHOW transaction_isolation").fetchone() == ("read committed",)
