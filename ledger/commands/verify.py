"""`verify`: is the log what it was? In a database, or in files that were written from one.

Runs without the rest of the product, so that it fits into little memory beside it.
"""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from ledger import environment
from ledger.commands.output import DONE, FAILED, FOUND, USAGE, CommandFailed, print_json, progress, reachable
from ledger.config import Settings
from ledger.proof import files, notes
from ledger.proof.chain import Fault, Place
from ledger.proof.notes import Checkpoint, NoteBroken, NoteUntrusted, PublicKey
from ledger.store import checkpoints, verifying
from ledger.store.scan import connected
from ledger.store.verifying import Interrupted, Reached, Report


def add_to(commands: Any) -> None:
    verify = commands.add_parser("verify", help="verify the log; exits 3 if something does not fit")
    verify.add_argument("--from-checkpoint", type=Path, metavar="FILE", help="begin after the checkpoints in this file")
    verify.add_argument("--against", type=Path, metavar="FILE", help="compare with checkpoints that you hold elsewhere")
    verify.add_argument("--message", type=int, metavar="ID", help="only one message, by its proof and its row")
    verify.add_argument("--files", type=Path, metavar="PATH", help="files of `archive`, without any database")
    verify.add_argument("--key", metavar="KEY", help="a trusted public key, or a file with some; default our own")
    verify.add_argument("--resume", type=Path, metavar="FILE", help="go on from the place in FILE, and keep it there")
    verify.add_argument("--json", action="store_true")
    verify.set_defaults(run=_verify)


class _Kept(msgspec.Struct, frozen=True):
    """The file of `--resume`."""

    partitions: dict[str, Reached]


class _Known(msgspec.Struct, kw_only=True):
    """Checkpoints to compare with."""

    checkpoints: list[Checkpoint] = []
    given_up: int = 0  #: of what a restore took back, by somebody's word
    fault: Fault | None = None


def _verify(told: argparse.Namespace) -> int:
    if told.message is not None:
        from ledger.commands.evidence import verify_message  # noqa: PLC0415  # needs what this module does without

        return verify_message(told)
    begun = time.monotonic()
    report, known = _files(told) if told.files is not None else _database(told)
    seconds = time.monotonic() - begun
    if told.json:
        print_json(
            {
                "ok": report.ok,
                "checked": report.checked,
                "first_bad": report.fault.place if report.fault else None,
                "why": report.fault.why if report.fault else None,
                "checkpoints": report.compared,
                "given_up": known.given_up,
                "seconds": round(seconds, 3),
            }
        )
    else:
        print("\n".join(_lines(report, known, seconds)))
    return DONE if report.ok else FOUND


def _lines(report: Report, known: _Known, seconds: float) -> Iterator[str]:
    yield f"{report.checked} events and {report.compared} checkpoints in {seconds:.1f} s"
    if known.given_up:
        yield f"{known.given_up} checkpoints state what a restore has taken back; that was put on record"
    if report.fault is None:
        yield "ok: everything fits together" + ("" if report.compared else "; no checkpoint was there to compare with")
        return
    place = report.fault.place
    event = f", version {place.version} of stream {place.stream_id}" if place.stream_id else ""
    yield f"NOT OK at position {place.position} of partition {place.partition}{event}:"
    yield f"  {report.fault.why}"


# In a database --------------------------------------------------------------------------------------------------------


def _database(told: argparse.Namespace) -> tuple[Report, _Known]:
    settings = environment.settings()
    with environment.database(settings) as url, reachable():
        keys = _keys(told.key) or [_own_key(settings)]
        known = _known(told, settings, url, keys)
        if known.fault is not None:
            return Report(fault=known.fault), known
        begin = _begin(told, keys)
        with progress("events") as show:
            try:
                report = verifying.verify(url, checkpoints=known.checkpoints, begin=begin, progress=show)
            except Interrupted as interrupted:
                _keep(told.resume, {**begin, **interrupted.report.reached})
                raise CommandFailed("stopped" + ("; --resume goes on from here" if told.resume else "")) from None
        if report.ok:
            _keep(told.resume, report.reached)
        return report, known


def _own_key(settings: Settings) -> PublicKey:
    return environment.signer(settings).public_key("status-ledger")


def _keys(told: str | None) -> list[PublicKey]:
    if told is None:
        return []
    path = Path(told)
    try:
        lines = path.read_text("utf-8").split() if "+" not in told and path.exists() else [told]
        return [PublicKey(line) for line in lines]
    except (NoteBroken, OSError, UnicodeDecodeError) as error:
        raise CommandFailed(f"--key: {error}", USAGE) from None


def _notes(path: Path, option: str) -> list[str]:
    try:
        return notes.several(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, NoteBroken) as error:
        raise CommandFailed(f"{option}: {path} has no checkpoints ({error})", USAGE) from None


def _known(told: argparse.Namespace, settings: Settings, url: str, keys: list[PublicKey]) -> _Known:
    """Gather checkpoints from the database, from where they are kept outside of it, and from whoever holds some."""
    try:
        found = checkpoints.Store(settings.checkpoints_place).notes()
    except (OSError, UnicodeDecodeError, NoteBroken) as error:
        raise CommandFailed(f"{settings.checkpoints_place} cannot be read ({error})") from None
    if told.against is not None:
        found += _notes(told.against, "--against")
    known = _Known()
    with connected(url) as connection:
        found += [row[0] for row in connection.execute(_NOTES)]
        names = {row[0]: row[1] for row in connection.execute(_NAMES)}
    for note in dict.fromkeys(found):
        try:
            stated = notes.checkpoint(notes.opened(note, keys))
        except NoteUntrusted:
            continue
        except NoteBroken as broken:
            known.fault = Fault(_place(note), f"a checkpoint is broken: {broken}")
            return known
        if stated.log not in names:
            place = Place(partition=stated.partition, position=stated.position)
            known.fault = Fault(place, "a checkpoint is signed with our key for a log that this database is not")
            return known
        taken_back = names[stated.log]
        if taken_back is not None and stated.position > taken_back.get(str(stated.partition), 0):
            known.given_up += 1
        else:
            known.checkpoints.append(stated)
    return known


def _place(note: str) -> Place:
    try:
        stated = notes.checkpoint(notes.split(note)[0])
    except NoteBroken:
        return Place(partition=0, position=0)
    return Place(partition=stated.partition, position=stated.position)


def _begin(told: argparse.Namespace, keys: list[PublicKey]) -> dict[int, Reached]:
    begin: dict[int, Reached] = {}
    if told.from_checkpoint is not None:
        trusted = checkpoints.trusted(_notes(told.from_checkpoint, "--from-checkpoint"), keys)
        if not trusted:
            raise CommandFailed("--from-checkpoint: no trusted key has signed a checkpoint in this file", USAGE)
        for stated in sorted(trusted, key=lambda each: each.position):
            begin[stated.partition] = Reached(position=stated.position, hash=stated.hash)
    if told.resume is not None and told.resume.exists():
        try:
            kept = msgspec.json.decode(told.resume.read_bytes(), type=_Kept)
        except msgspec.DecodeError:
            raise CommandFailed(f"--resume: {told.resume} is not a file that `verify` has written", USAGE) from None
        begin |= {int(partition): reached for partition, reached in kept.partitions.items()}
    return begin


def _keep(path: Path | None, reached: dict[int, Reached]) -> None:
    if path is not None:
        unfinished = path.with_name(f".{path.name}.unfinished")
        unfinished.write_bytes(msgspec.json.encode(_Kept({str(part): told for part, told in reached.items()})))
        unfinished.replace(path)


# In files -------------------------------------------------------------------------------------------------------------


def _files(told: argparse.Namespace) -> tuple[Report, _Known]:
    keys = _keys(told.key)
    held = _notes(told.against, "--against") if told.against is not None else []
    try:
        with progress("events") as show:
            report = files.verify(told.files, keys, checkpoints.trusted(held, keys), show)
    except NoteBroken as broken:
        raise CommandFailed(f"--against: {broken}", FOUND) from None
    except OSError as error:
        raise CommandFailed(f"{told.files} cannot be read ({error.strerror or type(error).__name__})", FAILED) from None
    return Report(checked=report.checked, compared=report.compared, fault=report.fault), _Known()


_NOTES: Final = b"SELECT note FROM checkpoints ORDER BY partition, position"
#: A name that another has followed covers what was there when it did.
_NAMES: Final = b"""
SELECT n.name, (SELECT later.positions FROM log_names later WHERE later.number > n.number ORDER BY later.number LIMIT 1)
  FROM log_names n
"""
