"""`checkpoint`, `prove`, `access`: what is signed, what is proved with it, and who has looked at what."""

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from ledger import environment
from ledger.commands.common import DONE, FOUND, USAGE, CommandFailed, caller, instant, parts, print_json, print_table
from ledger.commands.history import find
from ledger.http.problems import timestamp
from ledger.main import Parts
from ledger.proof import bundle, notes
from ledger.proof.bundle import Bundle, NotProved
from ledger.proof.notes import Checkpoint
from ledger.store import access_log, proofs
from ledger.store.checkpoints import Checkpoints, Forked, Store
from ledger.store.scan import Connection
from projections import refold
from projections.current_status import Opened


def add_to(commands: Any) -> None:
    checkpoint = commands.add_parser("checkpoint", help="sign what the log is now, and print it")
    checkpoint.add_argument("--public-key", action="store_true", help="print the keys that verify checkpoints instead")
    checkpoint.add_argument("--after-restore", action="store_true", help="sign under a new name from here on")
    checkpoint.add_argument("--by", help="who says that the log was restored; required with --after-restore")
    checkpoint.add_argument("--why", help="required with --after-restore")
    checkpoint.add_argument("--json", action="store_true")
    checkpoint.set_defaults(run=_checkpoint)
    prove = commands.add_parser("prove", help="write the proof of one message, with the script that verifies it")
    prove.add_argument("message_id", type=int)
    prove.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="a .zip file")
    prove.add_argument("--sealed", action="store_true", help="leave out the keys that open personal data")
    prove.add_argument("--json", action="store_true")
    prove.set_defaults(run=_prove)
    access = commands.add_parser("access", help="list who has read or taken out what")
    access.add_argument("--message", type=int, metavar="ID", help="only what was read about this message")
    access.add_argument("--who", help="only by this API key's id, or user@host")
    access.add_argument("--since", type=instant, metavar="TIME", help="from then on (RFC 3339)")
    access.add_argument("--until", type=instant, metavar="TIME", help="before then")
    access.add_argument("--json", action="store_true")
    access.set_defaults(run=_access)


@contextmanager
def signing(built: Parts) -> Iterator[tuple[Checkpoints, Connection]]:
    """Yield what signs, over a connection of its own; turn what goes wrong into one line."""
    store = Store(built.settings.checkpoints_place)
    with built.ledger.connect(statement_timeout="60s") as connection:
        try:
            yield Checkpoints(connection, environment.signer(built.settings), store), connection
        except Forked as error:
            raise CommandFailed(str(error), FOUND) from None
        except (OSError, notes.NoteBroken) as error:
            raise CommandFailed(f"{built.settings.checkpoints_place}: {error}") from None


# Checkpoints ----------------------------------------------------------------------------------------------------------


def _checkpoint(told: argparse.Namespace) -> int:
    if told.after_restore and not (told.by and told.why):
        raise CommandFailed("--after-restore needs --by and --why", USAGE)
    with parts() as built, signing(built) as (made, _):
        if told.after_restore:
            made.begin_anew(told.by, told.why)
        partitions = built.settings.partitions
        if told.public_key:
            keys = [str(key) for key in made.public_keys(partitions)]
            print_json({"log": made.log, "public_keys": keys}) if told.json else print("\n".join(keys))
            return DONE
        made.due(now=True)
        newest = [note for part in range(partitions) if (note := made.newest(part)) is not None]
    if told.json:
        print_json({"items": [_shown(note) for note in newest]})
    else:
        print("\n".join(newest), end="")
    return DONE


def _shown(note: str) -> dict[str, Any]:
    stated = notes.checkpoint(notes.split(note)[0])
    return {
        "partition": stated.partition,
        "position": stated.position,
        "root": stated.root.hex(),
        "hash": stated.hash.hex(),
        "time": timestamp(stated.recorded_at),
        "origin": stated.origin,
        "note": note,
    }


# Proofs ---------------------------------------------------------------------------------------------------------------


def _prove(told: argparse.Namespace) -> int:
    with parts() as built:
        opened = find(built, told.message_id)
        proof = _gathered(built, opened, told.message_id, opens=not told.sealed)
        detail = "sealed" if told.sealed else "with data keys"
        access_log.record(
            built.ledger,
            caller(),
            "proof",
            message_id=told.message_id,
            account=opened.message.account,
            detail=detail,
        )
    try:
        bundle.write(proof, told.output)
    except OSError as error:
        raise CommandFailed(f"{told.output} cannot be written: {error.strerror}") from None
    told_of = {"message_id": told.message_id, "events": len(proof.events), "file": str(told.output)}
    if told.json:
        print_json(told_of | {"checkpoints": list(proof.checkpoints.values()), "opens": bool(proof.data_keys)})
    else:
        print(f"{told.output}: {len(proof.events)} events of message {told.message_id}. Unpack it and run verify.py.")
    return DONE


def _gathered(built: Parts, opened: Opened, message_id: int, *, opens: bool) -> Bundle:
    """Return a message's proof, verified as its receiver will."""
    streams = [opened.stream_id, *opened.message.links]
    with signing(built) as (made, connection):
        made.due(now=True)
        signed = _newest(made, built.settings.partitions)
        keys = [key for part, key in enumerate(made.public_keys(built.settings.partitions)) if part in signed]
        try:
            proof = proofs.gather(built.ledger, connection, message_id, streams, signed, opens=opens, keys=keys)
            bundle.check(proof)
        except (NotProved, LookupError) as error:
            raise CommandFailed(f"message {message_id} cannot be proved: {error}", FOUND) from None
    return proof


def _newest(made: Checkpoints, partitions: int) -> dict[int, tuple[Checkpoint, str]]:
    found = {}
    for part in range(partitions):
        note = made.newest(part)
        if note is not None:
            found[part] = notes.checkpoint(notes.split(note)[0]), note
    return found


def verify_message(told: argparse.Namespace) -> int:
    """Verify one message: each event in the chain and under a signed root, and its row against its events."""
    with parts() as built:
        opened = find(built, told.message)
        why = _wrong(built, opened, told.message)
        events = len(built.ledger.history(opened.stream_id))
    place = None
    if why is not None:
        position, bucket = divmod(opened.message_id, 256)
        place = {
            "partition": bucket % built.settings.partitions,
            "position": position,
            "stream_id": str(opened.stream_id),
            "version": 1,
        }
    if told.json:
        print_json({"ok": why is None, "checked": events, "first_bad": place, "why": why})
    else:
        print(f"ok: {events} events of message {told.message}" if why is None else f"NOT OK: {why}")
    return DONE if why is None else FOUND


def _wrong(built: Parts, opened: Opened, message_id: int) -> str | None:
    try:
        _gathered(built, opened, message_id, opens=True)
    except CommandFailed as error:
        if error.code != FOUND:
            raise
        return str(error)
    return _row_differs(built, [opened.stream_id, *opened.message.links])


def _row_differs(built: Parts, streams: Sequence[UUID]) -> str | None:
    """Fold each stream's events again and compare with what its row says."""
    with built.ledger.connect() as connection:
        for stream_id in streams:
            if not refold.is_right(built.ledger, connection, stream_id):
                return f"the row of stream {stream_id} says something else than its events"
    return None


# Access ---------------------------------------------------------------------------------------------------------------


def _access(told: argparse.Namespace) -> int:
    with parts() as built:
        access_log.record(built.ledger, caller(), "access", message_id=told.message)
        lines = list(
            access_log.read(built.ledger, who=told.who, message_id=told.message, since=told.since, until=told.until)
        )
    if told.json:
        print_json({"items": [{**line._asdict(), "at": timestamp(line.at)} for line in lines]})
    else:
        rows = [
            (timestamp(line.at), line.who, line.did, line.message_id or "", line.account or "", line.detail or "")
            for line in lines
        ]
        print_table(("TIME", "WHO", "DID", "MESSAGE", "ACCOUNT", "DETAIL"), rows)
    return DONE
