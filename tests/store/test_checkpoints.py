"""Checkpoints: made when they are due, kept outside of the database first, never against what was published."""

from pathlib import Path

import psycopg
import pytest

from ledger.proof import merkle, notes
from ledger.store.checkpoints import EVENTS, Forked, Store
from ledger.store.scan import connected
from ledger.store.tree import Tree
from tests.plugins.ledger import Pen
from tests.store.evidence import KEY, signed, signing, write


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "elsewhere" / "checkpoints.txt"


def hashes(url: str) -> list[bytes]:
    with psycopg.connect(url) as connection:
        return [row[0] for row in connection.execute("SELECT hash FROM events ORDER BY position")]


def root_of(leaves: list[bytes]) -> bytes:
    frontier = merkle.Frontier()
    frontier.extend(leaves)
    return frontier.root()


def test_a_checkpoint_states_the_log_and_stands_outside_of_the_database(
    database_url: str, pen: Pen, place: Path
) -> None:
    write(pen, messages=5)

    (told,) = signed(database_url, place)

    log = hashes(database_url)
    assert (told.partition, told.position, told.hash, told.root) == (0, 15, log[-1], root_of(log))
    (note,) = notes.several(place.read_text("utf-8"))
    assert notes.checkpoint(notes.opened(note, [KEY])) == told
    with signing(database_url, place) as checkpoints:
        assert checkpoints.newest(0) == note


def test_nothing_is_signed_while_nothing_is_new(database_url: str, pen: Pen, place: Path) -> None:
    assert signed(database_url, place) == []
    write(pen, messages=1)
    assert len(signed(database_url, place)) == 1
    assert signed(database_url, place) == []


def test_one_is_due_every_thousand_events(database_url: str, pen: Pen, place: Path) -> None:
    write(pen, messages=EVENTS // 2 - 1, reports=2)
    with signing(database_url, place) as checkpoints:
        first = checkpoints.due()  # the first one is overdue from the beginning
        write(pen, messages=1, reports=1)
        assert checkpoints.due() == []
        write(pen, messages=EVENTS // 2, reports=3)
        second = checkpoints.due()

    positions = [notes.checkpoint(notes.split(note)[0]).position for note in (*first, *second)]
    assert positions == [998, 1000, 2000]


def test_one_is_due_a_minute_after_the_last_if_there_is_anything_new(database_url: str, pen: Pen, place: Path) -> None:
    write(pen, messages=1)
    signed(database_url, place)
    write(pen, messages=1)

    with signing(database_url, place) as checkpoints:
        assert checkpoints.due() == []
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute("UPDATE checkpoints SET signed_at = signed_at - interval '61 seconds'")
        assert len(checkpoints.due()) == 1


def test_one_process_at_a_time_signs(database_url: str, pen: Pen, place: Path) -> None:
    write(pen, messages=1)

    with connected(database_url) as other, other.transaction(), signing(database_url, place) as checkpoints:
        other.execute("SELECT pg_advisory_xact_lock(%s)", (0x5354_4C43,))
        assert checkpoints.due() == []

    assert len(signed(database_url, place)) == 1


def test_checkpoints_of_one_log_are_consistent(database_url: str, pen: Pen, place: Path) -> None:
    """As a witness would have it proved."""
    trees = []
    for messages in (1, 90, 200):
        write(pen, messages=messages)
        trees += signed(database_url, place)

    with connected(database_url) as connection:
        for old, new in [(0, 1), (1, 2), (0, 2)]:
            before, after = trees[old], trees[new]
            path = Tree(connection, 0).consistency(before.position, after.position)
            assert merkle.is_consistent(before.position, after.position, before.root, after.root, path)


def test_every_event_is_proved_by_a_few_hashes(database_url: str, pen: Pen, place: Path) -> None:
    write(pen, messages=300)
    (told,) = signed(database_url, place)

    log = hashes(database_url)
    with connected(database_url) as connection:
        tree = Tree(connection, 0)
        paths = [tree.inclusion(position, told.position) for position in range(1, len(log) + 1)]

    assert max(map(len, paths)) == 10
    for at, (leaf, path) in enumerate(zip(log, paths, strict=True)):
        assert merkle.is_included(leaf, at, told.position, path, told.root)


def test_the_tree_is_made_again_from_nothing(database_url: str, pen: Pen, place: Path) -> None:
    write(pen, messages=300)
    (told,) = signed(database_url, place)
    with psycopg.connect(database_url, autocommit=True) as connection:
        before = connection.execute("TABLE merkle_nodes").fetchall()
        connection.execute("TRUNCATE merkle_nodes")

    with connected(database_url) as connection:
        tree = Tree(connection, 0)
        with pytest.raises(LookupError):
            tree.root(told.position)
        tree.extend(told.position)
        assert tree.root(told.position) == told.root
        assert connection.execute("TABLE merkle_nodes").fetchall() == before


def test_a_log_that_was_cut_is_not_signed_again(database_url: str, pen: Pen, place: Path) -> None:
    """A restore to an earlier time looks the same: somebody has to say that it was one."""
    write(pen, messages=4)
    signed(database_url, place)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("DELETE FROM checkpoints")
        connection.execute("DELETE FROM events WHERE position > 4")
        connection.execute(
            "DELETE FROM current_status c WHERE NOT EXISTS (SELECT FROM events e WHERE e.stream_id = c.stream_id)"
        )
        connection.execute(
            "UPDATE partition_heads SET position = 4, hash = (SELECT hash FROM events WHERE position = 4)"
        )
    write(pen, messages=1)

    with pytest.raises(Forked, match="position 12"):
        signed(database_url, place)
    with signing(database_url, place) as checkpoints:
        before = checkpoints.log
        after = checkpoints.begin_anew("operator-1", "restored the backup of noon")
        assert after != before == notes.checkpoint(notes.split(notes.several(place.read_text())[0])[0]).log
    (told,) = signed(database_url, place)
    assert told.log == after


def test_a_log_that_was_rewritten_is_not_signed_again(database_url: str, pen: Pen, place: Path) -> None:
    write(pen, messages=4)
    signed(database_url, place)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("UPDATE events SET hash = sha256(hash) WHERE position = 12")
    write(pen, messages=1)

    with pytest.raises(Forked):
        signed(database_url, place)


def test_a_checkpoint_that_cannot_be_kept_outside_is_not_made(database_url: str, pen: Pen, tmp_path: Path) -> None:
    write(pen, messages=1)
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(OSError, match="file"):
        signed(database_url, tmp_path / "file" / "checkpoints.txt")

    with signing(database_url, tmp_path / "checkpoints.txt") as checkpoints:
        assert checkpoints.newest(0) is None


def test_a_directory_gets_a_file_for_each(database_url: str, pen: Pen, tmp_path: Path) -> None:
    place = f"{tmp_path}/objects/"
    for _ in range(2):
        write(pen, messages=1)
        signed(database_url, place)

    files = sorted((tmp_path / "objects").iterdir())
    assert [file.name[-24:] for file in files] == ["p000-000000000000003.txt", "p000-000000000000006.txt"]
    assert Store(place).notes() == [file.read_text("utf-8") for file in files]
