"""`export`: messages, events and reports as CSV, JSON lines or Parquet, in constant memory, resumable."""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ledger.commands import exported
from ledger.commands.common import DONE, USAGE, CommandFailed, caller, instant, parts
from ledger.commands.exported import Place
from ledger.http import tables
from ledger.http.tables import ParquetFile, ParquetMissing, Record
from ledger.main import Parts
from ledger.store import access_log
from projections.reporting import NotBuilt
from projections.scope import GROUPS, Scope, TooManyGroups

FORMATS: Final = ("csv", "jsonl", "parquet")
LOGS: Final = ("messages", "events")
REPORTS: Final = ("delivery", "failures", "latency", "stuck", "providers")
#: Rows of a Parquet row group, and of one of the files that an export of messages or events is made of.
GROUP_ROWS: Final = 20_000
FILE_ROWS: Final = 500_000


class Progressed(msgspec.Struct, frozen=True, kw_only=True):
    """Where an export has come to: kept beside the output until it is complete."""

    asked: dict[str, str | None]
    rows: int
    written: int  #: bytes of the output that are complete; for Parquet, files
    place: Place


def add_to(commands: Any) -> None:
    out = commands.add_parser("export", help="write messages, events or a report as CSV, JSON lines or Parquet")
    out.add_argument("what", choices=[*LOGS, *REPORTS])
    out.add_argument("--format", choices=FORMATS, default="csv")
    out.add_argument(
        "-o", "--output", type=Path, metavar="PATH", help="file, or directory for Parquet (standard output)"
    )
    out.add_argument("--resume", action="store_true", help="go on with an export that was interrupted")
    out.add_argument("--account")
    out.add_argument("--channel", choices=["whatsapp", "sms", "viber"])
    out.add_argument("--provider")
    out.add_argument("--since", type=instant, metavar="TIME", help="RFC 3339; of messages when they were opened")
    out.add_argument("--until", type=instant, metavar="TIME")
    out.add_argument("--group-by", default="", help=f"of a report, comma-separated: {', '.join(GROUPS)}")
    out.add_argument("--time-zone", default="UTC", type=_zone)
    out.set_defaults(run=_export)


def _zone(text: str) -> ZoneInfo:
    try:
        return ZoneInfo(text)
    except (ZoneInfoNotFoundError, OSError) as error:
        raise ValueError(text) from error


def _export(told: argparse.Namespace) -> int:
    if told.format == "parquet" and told.output is None:
        raise CommandFailed("Parquet needs --output", USAGE)
    if told.resume and (told.output is None or told.what in REPORTS):
        raise CommandFailed("--resume needs --output, and messages or events", USAGE)
    try:
        with parts() as built:
            access_log.record(built.ledger, caller(), "export", account=told.account, detail=told.what)
            return _log(built, told) if told.what in LOGS else _report(built, told)
    except ParquetMissing as missing:
        raise CommandFailed(str(missing)) from None


# Reports --------------------------------------------------------------------------------------------------------------


def _report(built: Parts, told: argparse.Namespace) -> int:
    now = datetime.now(UTC)
    groups = tuple(filter(None, map(str.strip, told.group_by.split(","))))
    if not set(groups) <= set(GROUPS):
        raise CommandFailed(f"--group-by: must be among {', '.join(GROUPS)}", USAGE)
    until = _hour_up(told.until or now)
    scope = Scope(
        accounts=None if told.account is None else (told.account,),
        channel=told.channel,
        provider=told.provider,
        since=(told.since or until - timedelta(days=7)).replace(minute=0, second=0, microsecond=0),
        until=until,
        group_by=groups,
        zone=told.time_zone,
    )
    try:
        records = [tables.flat(item) for item in _items(built, told.what, scope, now)]
    except NotBuilt as error:
        raise CommandFailed(f"{error}: start `status-ledger serve` once, or rebuild") from None
    except TooManyGroups as error:
        raise CommandFailed(f"{error}: ask for a shorter range or fewer groups") from None
    columns = tables.columns_of(records)
    if told.format == "parquet":
        told.output.write_bytes(tables.as_parquet(records, columns))
        return DONE
    written = tables.as_csv(records, columns) if told.format == "csv" else tables.as_json_lines(records)
    with ExitStack() as stack:
        sink = sys.stdout.buffer if told.output is None else stack.enter_context(told.output.open("wb"))
        for chunk in written:
            sink.write(chunk)
        sink.flush()
    return DONE


def _items(built: Parts, what: str, scope: Scope, now: datetime) -> Sequence[msgspec.Struct]:
    reporting = built.reporting
    match what:
        case "delivery":
            return reporting.delivery(scope)[1]
        case "failures":
            return reporting.failures(scope, now)[1]
        case "latency":
            return reporting.latency(scope)[1]
        case "stuck":
            return reporting.stuck(scope, now, limit=1_000_000)[1].oldest
        case _:
            return reporting.providers(scope, now)[1]


def _hour_up(at: datetime) -> datetime:
    hour = at.replace(minute=0, second=0, microsecond=0)
    return hour if hour == at else hour + timedelta(hours=1)


# Messages and events --------------------------------------------------------------------------------------------------


class Sink(Protocol):
    """Takes records, and tells how much of the output is complete."""

    def write(self, records: Sequence[Record]) -> None: ...
    def settle(self) -> int | None: ...
    def close(self) -> None: ...


class TextSink:
    """A file of lines, or standard output."""

    def __init__(self, path: Path | None, format_: str, columns: Sequence[str], keep: int) -> None:
        self._csv = format_ == "csv"
        self._columns = columns
        self._heading = keep == 0
        self._file: BinaryIO = sys.stdout.buffer if path is None else path.open("r+b" if keep else "wb")
        self._is_own = path is not None
        if keep:
            self._file.truncate(keep)
            self._file.seek(keep)

    def write(self, records: Sequence[Record]) -> None:
        if self._csv:
            chunks = tables.as_csv(records, self._columns, heading=self._heading)
            self._heading = False
        else:
            chunks = tables.as_json_lines(records)
        for chunk in chunks:
            self._file.write(chunk)

    def settle(self) -> int | None:
        self._file.flush()
        if not self._is_own:
            return None
        os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        if self._is_own:
            self._file.close()


class ParquetSink:
    """A directory of files. One that is not complete when an export is interrupted is written anew."""

    def __init__(self, directory: Path, types: Mapping[str, str], keep: int) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        for old in directory.glob("part-*.parquet"):
            if int(old.stem.removeprefix("part-")) >= keep:
                old.unlink()
        self._directory = directory
        self._types = types
        self._number = keep
        self._rows = 0
        self._waiting: list[Record] = []
        self._file: ParquetFile | None = None

    def write(self, records: Sequence[Record]) -> None:
        self._waiting += records
        if len(self._waiting) >= GROUP_ROWS:
            self._group()

    def _group(self) -> None:
        if not self._waiting:
            return
        if self._file is None:
            self._file = ParquetFile(str(self._directory / f"part-{self._number:05d}.parquet"), self._types)
        self._file.write(self._waiting)
        self._rows += len(self._waiting)
        self._waiting = []

    def settle(self) -> int | None:
        """Tell how many files are complete, if one has just been completed."""
        if self._rows < FILE_ROWS:
            return None
        self._end()
        return self._number

    def _end(self) -> None:
        self._group()
        if self._file is not None:
            self._file.close()
            self._file = None
            self._number += 1
            self._rows = 0

    def close(self) -> None:
        self._end()


def _log(built: Parts, told: argparse.Namespace) -> int:
    source = (
        exported.Messages(built, _filters(told)) if told.what == "messages" else exported.Events(built, _filters(told))
    )
    asked = {
        name: _text(getattr(told, name))
        for name in ("what", "format", "account", "channel", "provider", "since", "until")
    }
    kept = _kept(told, asked)
    sink: Sink
    if told.format == "parquet":
        sink = ParquetSink(told.output, source.types, kept.written if kept else 0)
    else:
        sink = TextSink(told.output, told.format, list(source.types), kept.written if kept else 0)
    rows = kept.rows if kept else 0
    try:
        with _progress(told.what, source.total() if sys.stderr.isatty() else 0) as report:
            for records, place, looked_at in source.pages(kept.place if kept else exported.BEGIN):
                sink.write(records)
                rows += len(records)
                written = sink.settle()
                if written is not None and told.output is not None:
                    _keep(told.output, Progressed(asked=asked, rows=rows, written=written, place=place))
                report(looked_at)
    finally:
        sink.close()
    if told.output is not None:
        _beside(told.output).unlink(missing_ok=True)
        print(f"{rows} rows", file=sys.stderr)
    return DONE


def _filters(told: argparse.Namespace) -> exported.Filters:
    return exported.Filters(
        account=told.account, channel=told.channel, provider=told.provider, since=told.since, until=told.until
    )


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _beside(output: Path) -> Path:
    return output.with_name(output.name + ".progress")


def _kept(told: argparse.Namespace, asked: dict[str, str | None]) -> Progressed | None:
    if not told.resume:
        if told.output is not None:
            _beside(told.output).unlink(missing_ok=True)
        return None
    beside = _beside(told.output)
    if not beside.exists():
        raise CommandFailed(f"{beside} is not there: this export is complete, or nothing of it is")
    kept = msgspec.json.decode(beside.read_bytes(), type=Progressed)
    if kept.asked != asked:
        raise CommandFailed(f"{beside} belongs to another export: give the same arguments", USAGE)
    return kept


def _keep(output: Path, progressed: Progressed) -> None:
    fresh = _beside(output).with_suffix(".fresh")
    fresh.write_bytes(msgspec.json.encode(progressed))
    fresh.replace(_beside(output))


class _Report(Protocol):
    def __call__(self, looked_at: int) -> None: ...


class _progress:
    """Shows on a terminal how far an export is."""

    def __init__(self, what: str, total: int) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._shown = Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())
        self._task = self._shown.add_task(what, total=total or None)

    def __enter__(self) -> _Report:
        self._shown.start()
        return lambda looked_at: self._shown.advance(self._task, looked_at)

    def __exit__(self, *_: object) -> None:
        self._shown.stop()
