"""`ledger_record` through the recorder: positions, times, races, the rows beside the events."""

import random
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4

import pytest
from eventsourcing.persistence import DatabaseError, IntegrityError, StoredEvent

from ledger.domain.identity import bucket, partition
from ledger.domain.status import Status
from ledger.store.application import Ledger, StreamMoved
from ledger.store.mapper import Entry
from ledger.store.recorder import LedgerRecorder
from ledger.store.rows import NO_LOOKUP, StatusRow
from tests.builders import NOON, events_of, observed
from tests.plugins.ledger import THREADS, Shape
from tests.store import chain


def stored(stream_id: UUID, version: int, topic: str = "topic") -> StoredEvent:
    return StoredEvent(stream_id, version, topic, b"state")


def in_order(events: Sequence[StoredEvent], partitions: int) -> list[StoredEvent]:
    """Group events by ascending partition, as an append wants them."""
    return sorted(events, key=lambda event: partition(event.originator_id, partitions))


def status_row(stream_id: UUID, *, first: int = 0, last: int = 1, status: str = "SENT", **told: Any) -> StatusRow:
    """Return the row of a stream whose events in the append are those from `first`, if it is opened, to `last`."""
    nothing = dict.fromkeys(StatusRow.__struct_fields__)
    defaults: dict[str, Any] = {
        "stream_id": stream_id,
        "first": first,
        "last": last,
        "status": status,
        "last_updated": NOON,
        "account": "account-1",
        "provider": "provider-1",
        "channel": "sms",
        "conflict": "none",
        "state": b"state",
    }
    return StatusRow(**(nothing | defaults | told))


def rows(ledger: Ledger, statement: bytes, *parameters: object) -> list[tuple[Any, ...]]:
    with ledger.reading() as cursor:
        return cursor.execute(statement, parameters).fetchall()


def positions(ledger: Ledger) -> dict[int, list[int]]:
    """Return the positions of every partition that has any, ascending."""
    found: dict[int, list[int]] = {}
    for part, position in rows(ledger, b"SELECT partition, position FROM events ORDER BY partition, position"):
        found.setdefault(part, []).append(position)
    return found


def count_of(ledger: Ledger, events: Sequence[StoredEvent]) -> int:
    """Count what is stored of these events' streams."""
    streams = [event.originator_id for event in events]
    ((found,),) = rows(ledger, b"SELECT count(*) FROM events WHERE stream_id = ANY(%s)", streams)
    return int(found)


def write_concurrently(ledger: Ledger, *, batches: int, seed: int = 1) -> int:
    """Append batches of new streams from several threads at once. Return how many events were written."""

    def write(writer: int) -> int:
        chance, written = random.Random(seed * 1_000 + writer), 0
        for _ in range(batches):
            events = [stored(uuid4(), 1) for _ in range(chance.choice((1, 2, 5, 40)))]
            written += len(ledger.recorder.insert_events(in_order(events, ledger.partitions)) or ())
        return written

    with ThreadPoolExecutor(THREADS) as threads:
        return sum(threads.map(write, range(THREADS)))


# Positions ------------------------------------------------------------------------------------------------------------


def test_positions_are_gapless_in_every_partition_under_concurrent_writers(shaped_ledger: Ledger) -> None:
    before = sum(map(len, positions(shaped_ledger).values()))

    written = write_concurrently(shaped_ledger, batches=12)

    found = positions(shaped_ledger)
    assert sum(map(len, found.values())) == before + written
    assert found == {part: list(range(1, len(taken) + 1)) for part, taken in found.items()}


def test_heads_stand_at_the_last_position(shaped_ledger: Ledger) -> None:
    write_concurrently(shaped_ledger, batches=2)

    told = dict(rows(shaped_ledger, b"SELECT partition, position FROM partition_heads WHERE position > 0"))
    assert told == {part: taken[-1] for part, taken in positions(shaped_ledger).items()}


def test_concurrent_writers_leave_an_unbroken_chain(shaped_ledger: Ledger) -> None:
    write_concurrently(shaped_ledger, batches=6, seed=2)

    chains = chain.by_partition([chain.Link(*row) for row in rows(shaped_ledger, chain.SELECT)])
    assert {part: chain.first_bad(links) for part, links in chains.items()} == dict.fromkeys(chains)


def test_events_of_a_batch_keep_their_order(ledger: Ledger) -> None:
    one, other = uuid4(), uuid4()

    ledger.recorder.insert_events([stored(one, 1), stored(other, 1), stored(one, 2), stored(other, 2)])

    recorded = rows(ledger, b"SELECT stream_id, version FROM events ORDER BY position")
    assert recorded == [(one, 1), (other, 1), (one, 2), (other, 2)]


def test_a_notification_id_names_partition_and_position(shaped_ledger: Ledger) -> None:
    events = in_order([stored(uuid4(), 1) for _ in range(50)], shaped_ledger.partitions)

    ids = shaped_ledger.recorder.insert_events(events)

    assert ids is not None
    parts = [(0, id_) if shaped_ledger.partitions == 1 else (id_ & 0xFF, id_ >> 8) for id_ in ids]
    for event, (part, position) in zip(events, parts, strict=True):
        found = rows(
            shaped_ledger, b"SELECT stream_id FROM events WHERE partition = %s AND position = %s", part, position
        )
        assert found == [(event.originator_id,)]


def test_nothing_to_write_is_nothing_written(ledger: Ledger) -> None:
    assert ledger.recorder.insert_events([]) is None
    assert positions(ledger) == {}


def test_nothing_is_written_without_a_head(ledger: Ledger) -> None:
    """A ledger told of more partitions than the database has finds none to lock."""
    mistaken = LedgerRecorder(ledger.recorder.datastore, partitions=256)

    with pytest.raises(DatabaseError, match="query returned no rows"):
        mistaken.insert_events([stored(UUID(bytes=b"\xff" * 16), 1)])

    assert positions(ledger) == {}


# Times ----------------------------------------------------------------------------------------------------------------


def test_recording_times_never_fall_within_a_partition(shaped_ledger: Ledger) -> None:
    write_concurrently(shaped_ledger, batches=6)

    told = rows(shaped_ledger, b"SELECT partition, recorded_at FROM events ORDER BY partition, position")
    assert [later for earlier, later in pairwise(told) if earlier[0] == later[0] and later < earlier] == []


def test_recording_times_go_on_while_the_clock_stands_behind(ledger: Ledger) -> None:
    """The head's time stands for a clock that was an hour ahead when the last event was recorded."""
    rows(ledger, b"UPDATE partition_heads SET recorded_at = now() + interval '1 hour' RETURNING 1")
    ((ahead,),) = rows(ledger, b"SELECT recorded_at FROM partition_heads")

    for _ in range(3):
        ledger.recorder.insert_events([stored(uuid4(), 1), stored(uuid4(), 1)])

    told = [row[0] for row in rows(ledger, b"SELECT recorded_at FROM events ORDER BY position")]
    step = timedelta(microseconds=1)
    assert told == [ahead + step] * 2 + [ahead + 2 * step] * 2 + [ahead + 3 * step] * 2


def test_events_of_one_append_share_their_time_and_later_appends_have_a_later_one(ledger: Ledger) -> None:
    ledger.recorder.insert_events([stored(uuid4(), 1), stored(uuid4(), 1)])
    ledger.recorder.insert_events([stored(uuid4(), 1)])

    (first,), (second,), (third,) = rows(ledger, b"SELECT recorded_at FROM events ORDER BY position")
    assert first == second < third


def test_recording_time_is_the_databases_clock(ledger: Ledger) -> None:
    ((before,),) = rows(ledger, b"SELECT clock_timestamp()")
    ledger.recorder.insert_events([stored(uuid4(), 1)])
    ((after,),) = rows(ledger, b"SELECT clock_timestamp()")

    ((recorded_at,),) = rows(ledger, b"SELECT recorded_at FROM events")
    assert before <= recorded_at <= after
    assert recorded_at.utcoffset() == timedelta(0)


# Races ----------------------------------------------------------------------------------------------------------------


def test_exactly_one_of_many_writers_appends_a_version(shaped_ledger: Ledger) -> None:
    first_events = in_order([stored(uuid4(), 1) for _ in range(5)], shaped_ledger.partitions)
    barrier = threading.Barrier(THREADS)

    def write(_: int) -> bool:
        barrier.wait()
        try:
            shaped_ledger.recorder.insert_events(first_events)
        except IntegrityError:
            return False
        return True

    with ThreadPoolExecutor(THREADS) as threads:
        won = list(threads.map(write, range(THREADS)))

    assert sorted(won) == [False] * (THREADS - 1) + [True]
    assert count_of(shaped_ledger, first_events) == 5


def test_a_lost_race_writes_nothing_at_all(shaped_ledger: Ledger) -> None:
    """One stream of the batch has moved on; the others, their keys, rows and captures are not written either."""
    taken, free = stored(uuid4(), 1), stored(uuid4(), 1)
    shaped_ledger.recorder.insert_events([taken])
    tables = (b"events", b"partition_heads", b"current_status", b"message_keys", b"captures")
    before = [sorted(rows(shaped_ledger, b"SELECT t::text FROM " + table + b" t")) for table in tables]

    entries = [a_first_entry(shaped_ledger, event.originator_id) for event in (taken, free)]
    entries.sort(key=lambda entry: partition(entry.originator_id, shaped_ledger.partitions))
    keys = [entry.key for entry in entries]
    status_rows = [status_row(entry.originator_id, first=at, last=at) for at, entry in enumerate(entries, start=1)]
    with pytest.raises(StreamMoved):
        shaped_ledger.append(entries, status_rows, keys)

    assert [sorted(rows(shaped_ledger, b"SELECT t::text FROM " + table + b" t")) for table in tables] == before


def a_first_entry(ledger: Ledger, stream_id: UUID) -> Entry:
    (loaded,) = ledger.load([stream_id])
    (event,) = events_of(observed(Status.SENT))
    return Entry(stream_id, 1, event, loaded.key)


def test_positions_of_a_lost_race_are_given_out_again(ledger: Ledger) -> None:
    taken = stored(uuid4(), 1)
    ledger.recorder.insert_events([taken])
    with pytest.raises(IntegrityError):
        ledger.recorder.insert_events([stored(uuid4(), 1), taken])

    assert ledger.recorder.insert_events([stored(uuid4(), 1)]) == [2]


def test_a_batch_that_holds_one_version_twice_is_refused(ledger: Ledger) -> None:
    twice = stored(uuid4(), 1)

    with pytest.raises(IntegrityError):
        ledger.recorder.insert_events([twice, twice])

    assert positions(ledger) == {}


def test_a_lost_race_reported_without_its_code_is_still_one(ledger: Ledger) -> None:
    """A distributed engine says XX000 with the text of a duplicate key; a trigger says so here."""
    with ledger.reading() as cursor:
        cursor.execute("""
            CREATE FUNCTION report() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                RAISE EXCEPTION 'duplicate key value violates unique constraint' USING ERRCODE = 'XX000';
            END $$""")
        cursor.execute("CREATE TRIGGER report BEFORE INSERT ON events EXECUTE FUNCTION report()")

    with pytest.raises(StreamMoved):
        ledger.append([a_first_entry(ledger, uuid4())], [], [])


def test_opposite_batches_never_deadlock(shaped_ledger: Ledger) -> None:
    """Every writer touches every partition, each in an order of its own before grouping."""
    streams = [UUID(bytes=bytes([first]) + uuid4().bytes[1:]) for first in range(16)]

    def write(writer: int) -> None:
        for version in range(8):
            events = [stored(stream, writer * 100 + version) for stream in streams]
            random.Random(writer).shuffle(events)
            shaped_ledger.recorder.insert_events(in_order(events, shaped_ledger.partitions))

    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(write, range(THREADS)))

    deadlocks = rows(shaped_ledger, b"SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
    assert deadlocks == [(0,)]
    assert count_of(shaped_ledger, [stored(stream, 0) for stream in streams]) == THREADS * 8 * 16


# Rows -----------------------------------------------------------------------------------------------------------------


def test_an_older_row_never_replaces_a_newer_one(shaped_ledger: Ledger) -> None:
    stream_id = uuid4()
    insert = shaped_ledger.recorder.insert_events
    insert([stored(stream_id, 1)], rows=[status_row(stream_id, first=1, status="QUEUED")])
    insert([stored(stream_id, 4), stored(stream_id, 5)], rows=[status_row(stream_id, last=2, status="DELIVERED")])

    insert([stored(stream_id, 3)], rows=[status_row(stream_id, status="SENT")])
    insert([stored(stream_id, 2)], rows=[status_row(stream_id, status="SENT")])

    kept = rows(shaped_ledger, b"SELECT version, status FROM current_status WHERE stream_id = %s", stream_id)
    assert kept == [(5, "DELIVERED")]


def test_lookups_that_are_not_told_again_stay(ledger: Ledger) -> None:
    stream_id, insert = uuid4(), ledger.recorder.insert_events
    told = {"provider_lookup": b"p", "recipient_lookup": b"r", "reference_lookup": b"c"}
    insert([stored(stream_id, 1)], rows=[status_row(stream_id, first=1, **told)])

    insert([stored(stream_id, 2)], rows=[status_row(stream_id, recipient_lookup=b"another")])

    kept = rows(ledger, b"SELECT provider_lookup, recipient_lookup, reference_lookup FROM current_status")
    assert kept == [(b"p", b"another", b"c")]


def test_lookups_of_a_message_that_may_not_be_found_are_taken_away(ledger: Ledger) -> None:
    stream_id, insert = uuid4(), ledger.recorder.insert_events
    insert([stored(stream_id, 1)], rows=[status_row(stream_id, first=1, recipient_lookup=b"r", reference_lookup=b"c")])

    insert([stored(stream_id, 2)], rows=[status_row(stream_id, recipient_lookup=NO_LOOKUP)])

    kept = rows(ledger, b"SELECT provider_lookup, recipient_lookup, reference_lookup FROM current_status")
    assert kept == [(None, None, b"c")]


def test_a_newer_row_replaces_every_derived_column(ledger: Ledger) -> None:
    stream_id, later = uuid4(), NOON + timedelta(hours=1)
    ledger.recorder.insert_events([stored(stream_id, 1)], rows=[status_row(stream_id, first=1)])
    derived = {
        "last_updated": later,
        "sent_at": later,
        "delivered_at": later,
        "read_at": later,
        "failed_at": later,
        "linked_to": uuid4(),
        "status": "READ",
        "conflict": "open",
        "failure_category": "network",
        "provider_lookup": b"p",
        "recipient_lookup": b"r",
        "reference_lookup": b"c",
        "state": b"new state",
    }

    ledger.recorder.insert_events([stored(stream_id, 2)], rows=[status_row(stream_id, **derived)])

    with ledger.reading() as cursor:
        told = cursor.execute("SELECT * FROM current_status").fetchone()
        columns = [column.name for column in cursor.description or ()]
    assert told is not None
    assert dict(zip(columns, told, strict=True)) | derived | {"version": 2} == dict(zip(columns, told, strict=True))


def opened(ledger: Ledger, messages: int = 60) -> dict[UUID, tuple[int, int]]:
    """Open messages with one append. Return message id and position of each."""
    events = in_order([stored(uuid4(), 1) for _ in range(messages)], ledger.partitions)
    opening = [status_row(event.originator_id, first=at, last=at) for at, event in enumerate(events, start=1)]
    ledger.recorder.insert_events(events, rows=opening)
    statement = b"SELECT stream_id, message_id, position FROM current_status JOIN events USING (partition, stream_id)"
    streams = [event.originator_id for event in events]
    return {row[0]: row[1:] for row in rows(ledger, statement + b" WHERE stream_id = ANY(%s)", streams)}


def test_a_message_id_is_position_times_256_plus_bucket(shaped_ledger: Ledger) -> None:
    told = opened(shaped_ledger)

    assert {stream_id: message_id for stream_id, (message_id, _) in told.items()} == {
        stream_id: position * 256 + bucket(stream_id) for stream_id, (_, position) in told.items()
    }
    assert len({message_id for message_id, _ in told.values()}) == 60


def test_a_message_id_locates_its_stream_and_no_other(shaped_ledger: Ledger) -> None:
    told = {message_id: stream_id for stream_id, (message_id, _) in opened(shaped_ledger).items()}

    assert {id_: shaped_ledger.locate(id_) for id_ in told} == told
    neighbours = {id_ + step for id_ in told for step in (-256, -1, 1, 256)} - set(told)
    assert {shaped_ledger.locate(id_) for id_ in neighbours} & set(told.values()) == set()


@pytest.mark.parametrize("id_", [0, -1, 255, 2**53 - 1, 2**63, 2**80, -(2**80)])
def test_an_id_never_given_out_locates_nothing(ledger: Ledger, id_: int) -> None:
    ledger.recorder.insert_events([stored(uuid4(), 1)])

    assert ledger.locate(id_) is None


def test_an_id_of_a_later_event_locates_nothing(ledger: Ledger) -> None:
    """Only the first event of a stream gives its message an id."""
    stream_id = uuid4()
    ledger.recorder.insert_events([stored(stream_id, 1), stored(stream_id, 2)])

    assert ledger.locate(1 * 256 + bucket(stream_id)) == stream_id
    assert ledger.locate(2 * 256 + bucket(stream_id)) is None


def test_opening_time_is_that_of_the_first_event_and_stays(ledger: Ledger) -> None:
    stream_id = uuid4()
    ledger.recorder.insert_events([stored(stream_id, 1)], rows=[status_row(stream_id, first=1)])
    ledger.recorder.insert_events([stored(stream_id, 2)], rows=[status_row(stream_id)])

    told = rows(
        ledger,
        b"SELECT opened_at = recorded_at FROM current_status JOIN events USING (stream_id) WHERE events.version = 1",
    )
    assert told == [(True,)]


# Readers --------------------------------------------------------------------------------------------------------------


@contextmanager
def tailing(ledger: Ledger, part: int, seen: list[int]) -> Iterator[None]:
    """Follow a partition by position as long as the context lasts, then to its end."""
    ended = threading.Event()

    def follow() -> None:
        with ledger.reading() as cursor:
            is_last_round, page = False, [()]
            while page or not is_last_round:
                is_last_round = ended.is_set()
                page = cursor.execute(_PAGE, (part, seen[-1] if seen else 0)).fetchall()
                seen.extend(row[0] for row in page)

    thread = threading.Thread(target=follow)
    thread.start()
    yield
    ended.set()
    thread.join()


_PAGE = b"SELECT position FROM events WHERE partition = %s AND position > %s ORDER BY position LIMIT 50"


@pytest.mark.parametrize("shape", [Shape(1), Shape(4)], ids=str)
def test_a_reader_that_follows_positions_misses_nothing_while_writers_run(shaped_ledger: Ledger) -> None:
    """It never goes back: an event that became visible behind its position would be missing at the end."""
    seen: list[int] = []

    with tailing(shaped_ledger, 0, seen):
        write_concurrently(shaped_ledger, batches=25)

    assert seen == positions(shaped_ledger)[0]


def test_a_stream_is_read_by_version_within_bounds(shaped_ledger: Ledger) -> None:
    stream_id = uuid4()
    shaped_ledger.recorder.insert_events([stored(stream_id, version) for version in range(1, 8)])

    def versions(**bounds: Any) -> list[int]:
        return [event.originator_version for event in shaped_ledger.recorder.select_events(stream_id, **bounds)]

    assert versions() == [1, 2, 3, 4, 5, 6, 7]
    assert versions(gt=3) == [4, 5, 6, 7]
    assert versions(lte=3) == [1, 2, 3]
    assert versions(gt=2, lte=4) == [3, 4]
    assert versions(desc=True, limit=2) == [7, 6]
    assert versions(gt=7) == []


# Upgrades -------------------------------------------------------------------------------------------------------------


def test_a_worker_of_the_version_before_appends_to_the_same_log(ledger: Ledger) -> None:
    """During a rolling upgrade both functions write, to one order and one chain."""
    old, new = uuid4(), uuid4()
    ledger.recorder.insert_events([stored(new, 1)], rows=[status_row(new, first=1)])

    ((taken, _),) = rows(ledger, _APPEND_OF_BEFORE, old, b"state", NOON)
    ledger.recorder.insert_events([stored(new, 2)], rows=[status_row(new)])

    links = [chain.Link(*row) for row in rows(ledger, chain.SELECT)]
    assert taken == [2]
    assert [(link.stream_id, link.version) for link in links] == [(new, 1), (old, 1), (new, 2)]
    assert chain.first_bad(links) is None
    told = dict(rows(ledger, b"SELECT stream_id, message_id FROM current_status"))
    assert told == {new: 256 + bucket(new), old: 2 * 256 + bucket(old)}


_APPEND_OF_BEFORE = b"""
SELECT positions, recorded_at FROM (SELECT %s::uuid AS stream, %s::bytea AS state, %s::timestamptz AS at) told,
    ledger_append(
        '{0}', ARRAY[stream], '{1}', '{observed.v1}', ARRAY[state], '{}', '{}', '{}',
        '{0}', ARRAY[stream], '{1}', '{1}', ARRAY[at], '{NULL}', '{NULL}', '{NULL}', '{NULL}', '{NULL}',
        '{account-1}', '{provider-1}', '{sms}', '{SENT}', '{none}', '{NULL}', '{NULL}', '{NULL}', '{NULL}',
        ARRAY[state], '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}')
"""
