"""Whatever is done to the log behind the ledger's back is found, and found in its place."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.proof.notes import Checkpoint
from ledger.store import verifying
from ledger.store.application import Ledger
from ledger.store.scan import BLOCK_EVENTS
from ledger.store.verifying import Report, verify
from tests.plugins.ledger import Pen
from tests.store.evidence import signed, write

EVENTS = 24


@dataclass
class Log:
    """A ledger of one partition with some messages, whose log can be forged and is whole again afterwards."""

    url: str
    checkpoints: list[Checkpoint]

    def forged(self, *statements: str, **parameters: Any) -> Report:
        """Return what verification says of the log after statements that somebody with every right may give."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("CREATE TABLE kept AS TABLE events")
            connection.execute("CREATE TABLE kept_heads AS TABLE partition_heads")
            connection.execute("CREATE TABLE kept_rows AS TABLE current_status")
            try:
                connection.execute("DROP INDEX events_position")
                connection.execute("ALTER TABLE events DROP CONSTRAINT events_pkey")
                for statement in statements:
                    connection.execute(statement.encode(), parameters)
                return verify(self.url, checkpoints=self.checkpoints)
            finally:
                connection.execute("TRUNCATE events, partition_heads, current_status")
                connection.execute("INSERT INTO events TABLE kept")
                connection.execute("INSERT INTO partition_heads TABLE kept_heads")
                connection.execute("INSERT INTO current_status TABLE kept_rows")
                connection.execute("DROP TABLE kept, kept_heads, kept_rows")
                connection.execute("ALTER TABLE events ADD PRIMARY KEY (partition, stream_id, version)")
                connection.execute("CREATE UNIQUE INDEX events_position ON events (partition, position)")


@pytest.fixture(scope="module")
def log(module_ledger: Ledger, tmp_path_factory: pytest.TempPathFactory) -> Log:
    pen = Pen(module_ledger)
    write(pen, messages=EVENTS // 3)
    pen.writer.close()
    url = module_ledger.recorder.datastore.pool.conninfo
    return Log(url, signed(url, tmp_path_factory.mktemp("checkpoints") / "checkpoints.txt"))


def place(report: Report) -> int | None:
    return report.fault.place.position if report.fault else None


def test_a_log_that_nobody_touched_is_whole(log: Log) -> None:
    report = verify(log.url, checkpoints=log.checkpoints)

    assert (report.ok, report.checked, report.compared) == (True, EVENTS, 1)


#: Column -> what it is set to, differently for different amounts.
ALTERED = {
    "state": "set_byte(state, %(n)s %% length(state), get_byte(state, %(n)s %% length(state)) # 1)",
    "type": "'corrected.v1'",
    "stream_id": "gen_random_uuid()",
    "version": "version + 1 + %(n)s",
    "recorded_at": "recorded_at + (1 + %(n)s) * interval '1 microsecond'",
    "hash": "set_byte(hash, %(n)s %% 32, get_byte(hash, %(n)s %% 32) # 1)",
}
#: Each is a database forged and mended; `tests/proof/test_chain.py` has the many.
attacks = settings(max_examples=8)


@attacks
@given(at=st.integers(1, EVENTS), column=st.sampled_from(sorted(ALTERED)), n=st.integers(0, 1_000))
def test_an_altered_event_is_found_in_its_place(log: Log, at: int, column: str, n: int) -> None:
    report = log.forged(f"UPDATE events SET {column} = {ALTERED[column]} WHERE position = %(at)s", at=at, n=n)  # noqa: S608

    assert place(report) == at


@attacks
@given(at=st.integers(1, EVENTS))
def test_a_dropped_event_is_found_in_its_place(log: Log, at: int) -> None:
    assert place(log.forged("DELETE FROM events WHERE position = %(at)s", at=at)) == at


@attacks
@given(at=st.integers(1, EVENTS - 1))
def test_a_dropped_event_is_found_also_if_the_gap_is_closed(log: Log, at: int) -> None:
    report = log.forged(
        "DELETE FROM events WHERE position = %(at)s",
        "UPDATE events SET position = position - 1 WHERE position > %(at)s",
        "UPDATE partition_heads SET position = position - 1",
        at=at,
    )

    assert place(report) == at


@attacks
@given(at=st.integers(1, EVENTS), to=st.integers(1, EVENTS + 1))
def test_a_duplicated_event_is_found_where_it_stands(log: Log, at: int, to: int) -> None:
    """As it is, and put in between at another position with all behind it moved."""
    as_it_is = log.forged("INSERT INTO events SELECT * FROM events WHERE position = %(at)s", at=at)
    between = log.forged(
        "CREATE TEMPORARY TABLE twin AS SELECT * FROM events WHERE position = %(at)s",
        "UPDATE events SET position = position + 1 WHERE position >= %(to)s",
        "UPDATE twin SET position = %(to)s",
        "INSERT INTO events TABLE twin",
        "UPDATE partition_heads SET position = position + 1",
        "DROP TABLE twin",
        at=at,
        to=to,
    )

    assert place(as_it_is) == at + 1
    assert place(between) == (to if to != at else at + 1)  # its own place is not a wrong one


@attacks
@given(one=st.integers(1, EVENTS), other=st.integers(1, EVENTS))
def test_swapped_events_are_found_at_the_first_of_them(log: Log, one: int, other: int) -> None:
    if one == other:
        return
    report = log.forged(
        "UPDATE events SET position = CASE position WHEN %(one)s THEN %(other)s ELSE %(one)s END "
        "WHERE position IN (%(one)s, %(other)s)",
        one=one,
        other=other,
    )

    assert place(report) == min(one, other)


@attacks
@given(at=st.integers(1, EVENTS + 1))
def test_an_inserted_event_is_found_where_it_stands(log: Log, at: int) -> None:
    """Even with a hash that follows from what stands before it."""
    report = log.forged(
        "UPDATE events SET position = position + 1 WHERE position >= %(at)s",
        "INSERT INTO events (partition, position, stream_id, version, type, state, recorded_at, hash) "
        "SELECT 0, %(at)s, '00000000-0000-5000-8000-000000000000', 1, 'observed.v2', '\\x01', '2026-01-01Z', "
        "chain_hash(coalesce((SELECT hash FROM events WHERE position = %(at)s - 1), decode(repeat('00', 32), 'hex')), "
        "'00000000-0000-5000-8000-000000000000', 1, %(at)s, 'observed.v2', "
        "int8send((extract(epoch FROM '2026-01-01Z'::timestamptz) * 1000000)::bigint), '\\x01')",
        "UPDATE partition_heads SET position = position + 1",
        at=at,
    )

    # A good hash only moves the fault to whatever follows: the next event, the checkpoint, the head.
    assert place(report) == {EVENTS: EVENTS, EVENTS + 1: EVENTS + 1}.get(at, at + 1)


@pytest.mark.parametrize("cut", [1, 5, EVENTS])
def test_a_cut_tail_is_found_with_a_checkpoint_and_only_with_one(log: Log, cut: int) -> None:
    left = EVENTS - cut
    forgery = [
        "DELETE FROM events WHERE position > %(left)s",
        "UPDATE partition_heads SET position = %(left)s, hash = coalesce((SELECT hash FROM events WHERE position = "
        "%(left)s), decode(repeat('00', 32), 'hex'))",
    ]

    rows = [
        "DELETE FROM current_status c WHERE NOT EXISTS (SELECT FROM events e WHERE e.stream_id = c.stream_id)",
        "UPDATE current_status c SET version = (SELECT max(version) FROM events e WHERE e.stream_id = c.stream_id)",
    ]

    assert place(log.forged(*forgery, *rows, left=left)) == left + 1
    assert Log(log.url, []).forged(*forgery, *rows, left=left).ok
    assert not Log(log.url, []).forged(*forgery, left=left).ok  # rows that were left as they are give it away


REWRITTEN = """
DO $$ DECLARE link bytea := decode(repeat('00', 32), 'hex'); e events; BEGIN
    FOR e IN SELECT * FROM events ORDER BY position LOOP
        link := chain_hash(link, e.stream_id, e.version, e.position, e.type,
                           int8send((extract(epoch FROM e.recorded_at) * 1000000)::bigint), e.state);
        UPDATE events SET hash = link WHERE position = e.position;
    END LOOP;
    UPDATE partition_heads SET hash = link;
END $$
"""


def test_a_log_that_was_rewritten_whole_is_found_with_a_checkpoint_and_only_with_one(log: Log) -> None:
    forgery = ["UPDATE events SET state = state || '\\x00'::bytea WHERE position = 3", REWRITTEN]

    report = log.forged(*forgery)

    assert place(report) == EVENTS
    assert report.fault is not None
    assert "another hash" in report.fault.why
    assert Log(log.url, []).forged(*forgery).ok


def test_a_head_that_was_moved_is_found(log: Log) -> None:
    assert place(log.forged("UPDATE partition_heads SET position = position + 1")) == EVENTS + 1
    assert place(log.forged("UPDATE partition_heads SET position = position - 1")) == EVENTS
    assert place(log.forged("UPDATE partition_heads SET hash = sha256(hash)")) == EVENTS


def test_the_faulty_event_is_named(log: Log) -> None:
    with psycopg.connect(log.url) as connection:
        stream_id, version = connection.execute("SELECT stream_id, version FROM events WHERE position = 9").fetchone()

    report = log.forged("UPDATE events SET state = '\\x01' WHERE position = 9")

    assert report.fault is not None
    assert (report.fault.place.stream_id, report.fault.place.version) == (str(stream_id), version)


def test_a_key_that_somebody_deleted_is_not_an_erasure(log: Log) -> None:
    with psycopg.connect(log.url, autocommit=True) as connection:
        (row,) = connection.execute("DELETE FROM message_keys WHERE ctid = '(0,3)' RETURNING *").fetchall()
        report = verify(log.url)
        connection.execute("INSERT INTO message_keys VALUES (%s, %s, %s)", row)

    assert report.fault is not None
    assert (report.fault.place.stream_id, report.fault.why[:11]) == (str(row[0]), "the message")
    assert verify(log.url).ok


#: What nobody does by accident: statements, and the position that is named.
FAR_FETCHED = {
    "two hashes in one row and none in the next": (
        [
            "UPDATE events e SET hash = e.hash || n.hash FROM events n WHERE e.position = 7 AND n.position = 8",
            "UPDATE events SET hash = '' WHERE position = 8",
        ],
        7,
    ),
    "a hash that is null": (
        ["ALTER TABLE events ALTER hash DROP NOT NULL", "UPDATE events SET hash = NULL WHERE position = 8"],
        8,
    ),
    "a state that is null": (
        ["ALTER TABLE events ALTER state DROP NOT NULL", "UPDATE events SET state = NULL WHERE position = 8"],
        8,
    ),
    "a type that is null": (
        ["ALTER TABLE events ALTER type DROP NOT NULL", "UPDATE events SET type = NULL WHERE position = 8"],
        8,
    ),
    "a time that never comes": (["UPDATE events SET recorded_at = 'infinity' WHERE position = 8"], 8),
    "a time before all": (["UPDATE events SET recorded_at = '-infinity' WHERE position = 8"], 8),
    "another event before the first": (
        [
            "INSERT INTO events (partition, position, stream_id, version, type, state, recorded_at, hash) "
            "SELECT partition, -3, stream_id, 77, type, state, recorded_at, hash FROM events WHERE position = 8"
        ],
        -3,
    ),
    "a partition of its own": (
        [
            "INSERT INTO events (partition, position, stream_id, version, type, state, recorded_at, hash) "
            "SELECT 77, 1, stream_id, version, type, state, recorded_at, hash FROM events WHERE position = 8"
        ],
        1,
    ),
    "a partition below all": (["UPDATE events SET partition = -1 WHERE position = 24"], 1),
    "no head": (["DELETE FROM partition_heads"], 1),
    "no head and no event": (["DELETE FROM partition_heads", "DELETE FROM events", "DELETE FROM current_status"], 1),
}


@pytest.mark.parametrize("attack", FAR_FETCHED)
def test_what_somebody_may_think_of_is_found(log: Log, attack: str) -> None:
    statements, position = FAR_FETCHED[attack]

    assert place(log.forged(*statements)) == position


# The rows beside the log ------------------------------------------------------------------------------------------

#: What somebody may do to the rows of messages, and which of the messages, in the order of the log, is named.
ROWS = {
    "dropped": (["DELETE FROM current_status WHERE message_id = %(second)s"], 2),
    "inserted": (
        [
            "CREATE TEMPORARY TABLE twin AS SELECT * FROM current_status WHERE message_id = %(first)s",
            "UPDATE twin SET stream_id = gen_random_uuid()",
            "INSERT INTO current_status TABLE twin",
            "DROP TABLE twin",
        ],
        1,
    ),
    "of an earlier state": (["UPDATE current_status SET version = version - 1 WHERE message_id = %(second)s"], 2),
    "of a state to come": (["UPDATE current_status SET version = version + 1 WHERE message_id = %(second)s"], 2),
    "named otherwise": (["UPDATE current_status SET message_id = message_id + 1 WHERE message_id = %(second)s"], 2),
    "exchanged": (
        [
            "UPDATE current_status SET message_id = CASE message_id WHEN %(second)s THEN %(first)s ELSE %(second)s END "
            "WHERE message_id IN (%(first)s, %(second)s)"
        ],
        1,
    ),
}


@pytest.mark.parametrize("attack", ROWS)
def test_a_row_that_is_not_of_its_message_is_found(log: Log, attack: str) -> None:
    statements, named = ROWS[attack]
    with psycopg.connect(log.url) as connection:
        ids = [row[0] for row in connection.execute("SELECT message_id FROM current_status ORDER BY 1 LIMIT 2")]

    report = log.forged(*statements, first=ids[0], second=ids[1])

    assert report.checked == EVENTS
    assert place(report) == ids[named - 1] // 256
    assert verify(log.url, checkpoints=log.checkpoints).ok


# Any number of partitions, long logs, in pieces -----------------------------------------------------------------------


def test_every_partition_is_verified(
    shaped_url: str, shape: Any, open_ledger: Callable[..., Ledger], start_writer: Callable[..., Pen], tmp_path: Path
) -> None:
    write(start_writer(open_ledger(shaped_url, partitions=shape.partitions)), messages=40)
    checkpoints = signed(shaped_url, tmp_path / "checkpoints")

    report = verify(shaped_url, checkpoints=checkpoints)

    assert (report.ok, report.checked) == (True, 120)
    assert report.compared == len(checkpoints) == len({told.partition for told in checkpoints})
    last = checkpoints[-1]
    with psycopg.connect(shaped_url, autocommit=True) as connection:
        connection.execute(
            "UPDATE events SET state = '\\x00' WHERE partition = %s AND position = %s", (last.partition, last.position)
        )
    report = verify(shaped_url)
    assert report.fault is not None
    assert (report.fault.place.partition, report.fault.place.position) == (last.partition, last.position)


@pytest.fixture
def long(database_url: str, pen: Pen) -> str:
    """A log of more than one block."""
    write(pen, messages=BLOCK_EVENTS // 2, reports=3)
    return database_url


def test_a_log_of_several_blocks_is_followed_across_them(long: str, tmp_path: Path) -> None:
    checkpoints = signed(long, tmp_path / "checkpoints")
    told: list[tuple[int, int]] = []

    report = verify(long, checkpoints=checkpoints, progress=lambda done, of: told.append((done, of)))

    events = BLOCK_EVENTS * 3 // 2
    assert (report.ok, report.checked) == (True, events)
    assert told == [(BLOCK_EVENTS, events), (events, events)]


def test_verification_goes_on_from_where_it_came_to(long: str, pen: Pen, tmp_path: Path) -> None:
    first = verify(long)
    write(pen, messages=10)
    checkpoints = signed(long, tmp_path / "checkpoints")

    second = verify(long, checkpoints=checkpoints, begin=first.reached)

    later = sum(each.position > BLOCK_EVENTS * 3 // 2 for each in checkpoints)
    assert later > 0
    assert (second.ok, second.checked, second.compared) == (True, 30, later)
    assert second.reached == verify(long).reached


def test_going_on_looks_whether_the_place_is_still_what_it_was(long: str, pen: Pen) -> None:
    first = verify(long)
    write(pen, messages=10)
    with psycopg.connect(long, autocommit=True) as connection:
        connection.execute("UPDATE events SET hash = sha256(hash) WHERE position = %s", (first.checked,))

    report = verify(long, begin=first.reached)

    assert place(report) == first.checked


def test_verification_that_is_stopped_tells_how_far_it_came(long: str) -> None:
    def stop(_done: int, _of: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(verifying.Interrupted) as stopped:
        verify(long, progress=stop)

    reached = stopped.value.report.reached
    assert reached[0].position == BLOCK_EVENTS
    report = verify(long, begin=reached)
    assert (report.ok, report.checked) == (True, BLOCK_EVENTS // 2)
