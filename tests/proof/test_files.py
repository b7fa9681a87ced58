"""The log in files: verified without a database, and every change found in its place."""

import base64
import gzip
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.proof import files
from ledger.proof.chain import ORIGIN
from ledger.proof.files import FileBroken, Header, Line, Report
from ledger.proof.merkle import Frontier
from ledger.proof.notes import Checkpoint
from tests.proof.logs import AT_CHECKPOINT, ATTACKS, Row, a_log
from tests.store.evidence import KEY, SIGNER

LOG = "status-ledger/0123"


def a_note(rows: list[Row]) -> str:
    frontier = Frontier()
    frontier.extend(row.hash for row in rows)
    told = Checkpoint(
        log=LOG,
        partition=0,
        position=len(rows),
        root=frontier.root(),
        hash=rows[-1].hash,
        recorded_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    return SIGNER.sign(told.text(), told.origin)


def write(directory: Path, rows: list[Row], stored: list[Row], size: int) -> Path:
    """Write a log in files of a size, with what is stored in place of its rows."""
    directory.mkdir()
    note = a_note(rows)
    for begin in range(0, len(stored), size):
        part = stored[begin : begin + size]
        header = Header(
            partition=0,
            first=begin + 1,
            last=begin + len(part),
            before=stored[begin - 1].hash if begin else ORIGIN,
            log=LOG,
            public_key=str(KEY),
            written_at="2026-01-01T00:00:00Z",
        )
        lines = [
            Line(
                position=row.position,
                stream_id=row.stream_id,
                version=row.version,
                type=row.type,
                recorded_at=row.recorded_at,
                state=row.state,
                hash=row.hash,
            )
            for row in part
        ]
        files.write(directory / files.name_of(0, header.first, header.last), header, lines, note)
    return directory


def place(report: Report) -> int | None:
    return report.fault.place.position if report.fault else None


randoms = st.integers(0, 1 << 32).map(Random)
few = settings(max_examples=25)


@few
@given(random=randoms, events=st.integers(1, 20), size=st.integers(1, 8))
def test_good_files_have_no_fault(
    tmp_path_factory: pytest.TempPathFactory, random: Random, events: int, size: int
) -> None:
    rows = a_log(random, events)
    directory = write(tmp_path_factory.mktemp("files") / "log", rows, rows, size)

    report = files.verify(directory, [KEY])

    assert (report.fault, report.checked, report.compared) == (None, events, 1)
    assert files.verify(directory, []).compared == 0


@pytest.mark.parametrize("attack", ATTACKS)
@few
@given(random=randoms, events=st.integers(2, 12), size=st.integers(1, 8))
def test_every_attack_on_a_log_is_found_in_its_files(
    tmp_path_factory: pytest.TempPathFactory, attack: str, random: Random, events: int, size: int
) -> None:
    """With a checkpoint that somebody holds: without one, a log that was cut or rewritten whole fits together."""
    rows = a_log(random, events)
    forged, at = ATTACKS[attack](random, rows)
    if not forged:
        return
    frontier = Frontier()
    frontier.extend(row.hash for row in rows)
    held = Checkpoint(
        log=LOG,
        partition=0,
        position=events,
        root=frontier.root(),
        hash=rows[-1].hash,
        recorded_at=datetime(2026, 1, 1, tzinfo=UTC),
    )

    report = files.verify(write(tmp_path_factory.mktemp("files") / "log", rows, forged, size), [KEY], [held])

    if len(forged) < events and at in (AT_CHECKPOINT, len(forged) + 1):
        assert report.checked < events  # the end is missing: files that end earlier may be all that was asked for
        return
    assert report.fault is not None
    if at != AT_CHECKPOINT:
        assert place(report) == at


def text(file: Path) -> list[str]:
    return gzip.decompress(file.read_bytes()).decode().splitlines(keepends=True)


Change = Callable[[list[str]], object]


def edit(number: int, **fields: object) -> Change:
    return lambda lines: lines.__setitem__(number, json.dumps(json.loads(lines[number]) | fields) + "\n")


def join_hashes(lines: list[str]) -> None:
    """Put two hashes into one event and none into the next: one after the other they are what they were."""
    one, other = (base64.b64decode(json.loads(line)["hash"]) for line in lines[1:3])
    edit(1, hash=base64.b64encode(one + other).decode())(lines)
    edit(2, hash="")(lines)


FORGERIES: dict[str, tuple[Change, int]] = {
    "the end dropped": (lambda lines: lines.pop(), 3),
    "the last event dropped": (lambda lines: lines.pop(3), 3),
    "no JSON": (lambda lines: lines.__setitem__(2, "{\n"), 2),
    "no base64": (edit(2, state="?"), 2),
    "another beginning": (edit(0, before="A" * 42 + "E="), 1),
    "another format": (edit(0, format="status-ledger-log.v2"), 0),
    "another range": (edit(0, last=9), 4),
    "another count": (edit(4, events=2), 4),
    "two hashes in one event": (join_hashes, 1),
    "an end behind the end": (lambda lines: lines.append(lines[4]), 3),
    "an event behind the end": (lambda lines: lines.append(lines[3]), 3),
    "a time beyond all": (edit(2, recorded_at=1 << 70), 2),
    "a time beyond the clock's": (edit(2, recorded_at=1 << 63), 2),
    "a version below all": (edit(2, version=-1), 2),
    "a position below all": (edit(2, position=-1), 2),
    "a range below all": (edit(0, first=-5), 0),
    "a partition that cannot be": (edit(0, partition=1 << 40), 0),
    "a member that no one knows": (edit(2, note="x"), 2),
    "hostile nesting": (lambda lines: lines.__setitem__(2, '{"x":' + "[" * 100_000 + "\n"), 2),
    "a broken checkpoint": (lambda lines: lines.__setitem__(4, lines[4].replace("time 2026", "time 2025")), 3),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_file_that_was_tampered_with_is_found(tmp_path: Path, forgery: str) -> None:
    rows = a_log(Random(1), 3)
    (file,) = write(tmp_path / "log", rows, rows, 3).iterdir()
    change, position = FORGERIES[forgery]
    lines = text(file)
    change(lines)
    file.write_bytes(gzip.compress("".join(lines).encode()))

    assert place(files.verify(tmp_path / "log", [KEY])) == position


def test_a_file_that_was_cut_short_is_found(tmp_path: Path) -> None:
    rows = a_log(Random(2), 6)
    _, second, _ = sorted(write(tmp_path / "log", rows, rows, 2).iterdir())
    whole = second.read_bytes()

    for length in range(0, len(whole), 7):
        second.write_bytes(whole[:length])
        report = files.verify(tmp_path / "log", [KEY])
        assert report.fault is not None
        assert report.checked <= 4


def test_a_missing_file_is_found(tmp_path: Path) -> None:
    rows = a_log(Random(3), 6)
    first, second, _ = sorted(write(tmp_path / "log", rows, rows, 2).iterdir())

    second.unlink()
    assert place(files.verify(tmp_path / "log", [KEY])) == 3
    first.unlink()
    assert files.verify(tmp_path / "log", [KEY]).checked == 2  # an archive may begin anywhere


def test_what_is_no_file_of_ours_is_named(tmp_path: Path) -> None:
    (tmp_path / f"p000-x{files.SUFFIX}").write_bytes(b"nothing")

    with pytest.raises(FileBroken):
        files.header(tmp_path / f"p000-x{files.SUFFIX}")
    assert files.verify(tmp_path, []).fault is not None
    with pytest.raises(FileNotFoundError):
        files.verify(tmp_path / "nowhere", [])


def test_files_are_the_same_whenever_they_are_written(tmp_path: Path) -> None:
    rows = a_log(Random(4), 5)
    (one,) = write(tmp_path / "one", rows, rows, 5).iterdir()
    (other,) = write(tmp_path / "other", rows, rows, 5).iterdir()

    assert files.digest(one) == files.digest(other)
