"""`archive`: old events into files, verified, and out of the log. `restore`: back again."""

import argparse
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from ledger.commands.common import DONE, FOUND, USAGE, CommandFailed, caller, parts, print_json
from ledger.commands.evidence import signing
from ledger.commands.history import find
from ledger.commands.output import progress
from ledger.http.problems import timestamp
from ledger.main import Parts
from ledger.proof import files, notes
from ledger.proof.files import FileBroken, Header, Line
from ledger.store import access_log, archiving
from ledger.store.archiving import NotRestorable, Range
from ledger.store.checkpoints import Checkpoints
from ledger.store.scan import Connection, hash_at

#: Events in one file.
FILE_EVENTS: Final = 100_000
_UNITS: Final = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds"}


def add_to(commands: Any) -> None:
    archive = commands.add_parser("archive", help="write old events to verified files and take them out of the log")
    archive.add_argument("directory", type=Path)
    archive.add_argument("--older-than", type=_age, required=True, metavar="AGE", help="such as 400d, 12h or 0s")
    archive.add_argument("--keep", action="store_true", help="write the files and take nothing out")
    archive.add_argument("--json", action="store_true")
    archive.set_defaults(run=_archive)
    restore = commands.add_parser("restore", help="put messages back into the log from files of `archive`")
    restore.add_argument("path", type=Path, help="a file, or a directory with all of them")
    chosen = restore.add_mutually_exclusive_group(required=True)
    chosen.add_argument("--message", type=int, metavar="ID", help="this message")
    chosen.add_argument("--all", action="store_true", help="every message that is in an archive")
    restore.add_argument("--json", action="store_true")
    restore.set_defaults(run=_restore)


def _age(text: str) -> timedelta:
    told = re.fullmatch(r"([0-9]{1,6})([dhms])", text)
    if told is None:
        raise argparse.ArgumentTypeError("must be a number and d, h, m or s, such as 400d")
    return timedelta(**{_UNITS[told[2]]: int(told[1])})


# Archive --------------------------------------------------------------------------------------------------------------


def _archive(told: argparse.Namespace) -> int:
    cutoff = datetime.now(UTC) - told.older_than
    written: list[Path] = []
    removed = 0
    with parts() as built, signing(built) as (made, connection):
        access_log.record(built.ledger, caller(), "export" if told.keep else "archive", detail=str(told.directory))
        made.due(now=True)
        wanted = archiving.ranges(connection, cutoff)
        events = sum(each.last - each.first + 1 for each in wanted)
        with progress("events") as show:
            for each in wanted:
                for part in _cut(each):
                    path = _write(told.directory, part, connection, made)
                    written.append(path)
                    if not told.keep:
                        archiving.note(connection, part, path.name, files.digest(path), caller())
                    show(min(events, len(written) * FILE_EVENTS), events)
        if not told.keep:
            for partition in range(built.settings.partitions):
                removed += sum(archiving.remove(connection, partition, cutoff))
    if told.json:
        names = [str(path) for path in written]
        print_json({"files": names, "events": events, "removed": removed, "before": timestamp(cutoff)})
    else:
        print("\n".join(map(str, written)) or "nothing new is old enough")
        print(f"{events} events written, {removed} events have left the log")
    return DONE


def _cut(told: Range) -> Iterator[Range]:
    """Divide a range into files. The hash before a later one is read when its turn comes."""
    for first in range(told.first, told.last + 1, FILE_EVENTS):
        yield Range(told.partition, first, min(first + FILE_EVENTS - 1, told.last), told.before)


def _write(directory: Path, told: Range, connection: Connection, made: Checkpoints) -> Path:
    """Write one file, read it back and verify it; only then it has its name."""
    path = directory / files.name_of(told.partition, told.first, told.last)
    note = made.newest(told.partition)
    before = hash_at(connection, told.partition, told.first - 1) if told.first > 1 else bytes(32)
    if note is None or before is None:
        raise CommandFailed(f"partition {told.partition} has no checkpoint that covers position {told.last}")
    origin = notes.split(note)[0].split("\n", 1)[0]
    header = Header(
        partition=told.partition,
        first=told.first,
        last=told.last,
        before=before,
        log=origin.rpartition("/")[0],
        public_key=str(made.public_key(origin)),
        written_at=timestamp(datetime.now(UTC)),
    )
    unfinished = path.with_name(f"{path.name}.unfinished")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        unfinished.unlink(missing_ok=True)
        files.write(unfinished, header, archiving.lines(connection, told.partition, told.first, told.last), note)
        report = files.verify(unfinished, [made.public_key(origin)])
        held = hash_at(connection, told.partition, told.last)
        if report.fault is not None or files.footer(unfinished).hash != held:
            why = report.fault.why if report.fault else "its end is not that of the log"
            raise CommandFailed(f"{path.name} was not verified and nothing was taken out: {why}", FOUND)
        unfinished.replace(path)
    except OSError as error:
        raise CommandFailed(f"{path} cannot be written: {error.strerror or type(error).__name__}") from None
    return path


# Restore --------------------------------------------------------------------------------------------------------------


def _restore(told: argparse.Namespace) -> int:
    with parts() as built, _own(built) as connection:
        if told.all:
            wanted = archiving.all_archived(connection)
        else:
            opened = find(built, told.message)
            wanted = archiving.archived(connection, [opened.stream_id, *opened.message.links])
        access_log.record(built.ledger, caller(), "restore", message_id=told.message, detail=str(told.path))
        count = 0
        try:
            for partition in sorted(set(wanted.values())):
                streams = {stream_id for stream_id, part in wanted.items() if part == partition}
                count += archiving.restore(connection, partition, _found(told.path, partition, streams))
        except (NotRestorable, FileBroken) as error:
            raise CommandFailed(str(error), FOUND) from None
        except OSError as error:
            raise CommandFailed(f"{told.path} cannot be read: {error.strerror or type(error).__name__}") from None
    if told.json:
        print_json({"streams": len(wanted), "events": count})
    else:
        print(f"{count} events of {len(wanted)} streams are back in the log")
    return DONE


@contextmanager
def _own(built: Parts) -> Iterator[Connection]:
    with built.ledger.connect(statement_timeout="600s", idle_in_transaction_session_timeout="600s") as connection:
        yield connection


def _found(path: Path, partition: int, streams: set[UUID]) -> Iterator[tuple[bytes, Line]]:
    """Yield the events of streams from all files of a partition, each with the hash of the position before."""
    paths = sorted(path.glob(f"p{partition:03}-*{files.SUFFIX}")) if path.is_dir() else [path]
    if not paths:
        raise CommandFailed(f"{path} has no files of partition {partition}", USAGE)
    for file in paths:
        told = files.header(file)
        if told.partition != partition:
            continue
        before = told.before
        for page in files.read(file):
            for line in page:
                if line.stream_id in streams:
                    yield before, line
                before = line.hash
