"""`erase`, `erasures`, `hold`, `release`: forgetting people, and not forgetting what a court wants to see."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec

from ledger.commands.common import DONE, FOUND, USAGE, CommandFailed, caller, parts, print_json, print_table
from ledger.commands.history import find
from ledger.commands.output import progress
from ledger.domain.person import Person
from ledger.http.problems import timestamp
from ledger.http.queries import address
from ledger.ingest import erase
from ledger.ingest.erase import Found, Outcome
from ledger.main import Parts
from ledger.store import access_log, holds
from projections.current_status import RECIPIENT, REFERENCE

_TEXT_CHARACTERS_MAX = 512


def add_to(commands: Any) -> None:
    erase_ = commands.add_parser(
        "erase", help="make a person's data unreadable for ever; without --yes only shows what"
    )
    _add_selection(erase_)
    erase_.add_argument("--replay", type=Path, nargs="?", const=Path(), metavar="FILE", help="carry out a list again")
    erase_.add_argument("--yes", action="store_true", help="do it; cannot be undone")
    erase_.add_argument("--by", type=_text, help="who asks for it; required with --yes, and recorded")
    erase_.add_argument("--why", type=_text, help="required with --yes, and recorded; name nobody")
    erase_.add_argument("-o", "--output", type=Path, metavar="FILE", help="write the certificate here")
    erase_.add_argument("--json", action="store_true")
    erase_.set_defaults(run=_erase)
    erasures = commands.add_parser("erasures", help="list erasures with their certificates")
    erasures.add_argument("--json", action="store_true")
    erasures.set_defaults(run=_erasures)
    hold = commands.add_parser(
        "hold", help="keep messages from being erased or archived; without a message lists holds"
    )
    _add_selection(hold)
    hold.add_argument("--by", type=_text, help="who asks for it; required with messages")
    hold.add_argument("--why", type=_text, help="required with messages")
    hold.add_argument("--json", action="store_true")
    hold.set_defaults(run=_hold)
    release = commands.add_parser("release", help="end the hold on messages")
    _add_selection(release)
    release.add_argument("--json", action="store_true")
    release.set_defaults(run=_release)


def _add_selection(command: argparse.ArgumentParser) -> None:
    chosen = command.add_mutually_exclusive_group()
    chosen.add_argument(
        "--recipient", metavar="ADDRESS", help="all messages to this number or address, in all accounts"
    )
    chosen.add_argument("--client-reference", metavar="TEXT", help="all messages with this reference")
    chosen.add_argument("--message", type=int, metavar="ID", help="one message")


def _text(text: str) -> str:
    if not text.isprintable() or not 0 < len(text) <= _TEXT_CHARACTERS_MAX:
        raise argparse.ArgumentTypeError(f"must be one line of 1 to {_TEXT_CHARACTERS_MAX} characters")
    return text


def _selected(built: Parts, told: argparse.Namespace) -> tuple[list[UUID], Person | None]:
    """Return the streams that speak for the chosen messages, and who was asked for."""
    erasing = built.erasing()
    if told.message is not None:
        return [find(built, told.message).stream_id], None
    if told.recipient is not None:
        wanted = address(told.recipient)
        return erasing.found(RECIPIENT, wanted), Person(recipient=wanted)
    if told.client_reference is not None:
        return erasing.found(REFERENCE, told.client_reference), Person(client_reference=told.client_reference)
    raise CommandFailed("say which: --recipient, --client-reference or --message", USAGE)


# Erasing --------------------------------------------------------------------------------------------------------------


def _erase(told: argparse.Namespace) -> int:
    if told.replay is not None:
        return _replay(told)
    if told.yes and not (told.by and told.why):
        raise CommandFailed("--yes needs --by and --why", USAGE)
    with parts() as built:
        leading, person = _selected(built, told)
        eraser = built.eraser()
        found = eraser.look(leading, person)
        did = "erase" if told.yes else "erase-dry-run"
        access_log.record(built.ledger, caller(), did, message_id=told.message, detail=f"{found.messages} messages")
        if not told.yes:
            return _show_found(found, told.json)
        with progress("messages") as show:
            outcome = eraser.erase(found, by=told.by, why=told.why, progress=show)
    return _show_outcome(outcome, told)


def _show_found(found: Found, as_json: bool) -> int:
    shown = {
        "done": False,
        "messages": found.messages,
        "streams": len(found.streams),
        "captures": found.captures,
        "held": found.held,
        "erased_before": found.erased,
    }
    if as_json:
        print_json(shown)
        return DONE
    print(f"{found.messages} messages ({len(found.streams)} streams) and {found.captures} captures would be erased.")
    if found.held:
        print(f"{found.held} messages are held and would stay.")
    if found.erased:
        print(f"{found.erased} messages have been erased before.")
    print("Nothing was done. Repeat with --yes, --by and --why to erase; it cannot be undone.")
    return DONE


def _show_outcome(outcome: Outcome, told: argparse.Namespace) -> int:
    if told.output is not None:
        try:
            told.output.write_text(outcome.certificate, "utf-8")
        except OSError as error:
            raise CommandFailed(
                f"erased; but {told.output} cannot be written: {error.strerror}. `erasures` shows the certificate"
            ) from None
    if told.json:
        print_json({"done": True, **msgspec.to_builtins(outcome)})
    else:
        print(f"Erased {outcome.messages} messages ({outcome.streams} streams) and {outcome.captures} captures.")
        if outcome.held:
            print(f"{outcome.held} messages are held and were left.")
        print(f"Certificate {outcome.erasure_id}: `status-ledger erasures` shows it.")
    return FOUND if outcome.held else DONE


def _replay(told: argparse.Namespace) -> int:
    """Carry out what is on the list outside of the database and not, or not wholly, done in it."""
    with parts() as built:
        path = built.settings.erasures_file if told.replay == Path() else told.replay
        try:
            orders = erase.orders(path)
        except (OSError, msgspec.DecodeError) as error:
            raise CommandFailed(f"{path} is not a list of erasures ({type(error).__name__})", USAGE) from None
        eraser = built.eraser()
        outcomes: list[Outcome] = []
        for order in orders:
            with progress("streams") as show:
                outcome = eraser.replay(order, show)
            if outcome is not None:
                access_log.record(built.ledger, caller(), "erase", detail=f"replay of {order.erasure_id}")
                outcomes.append(outcome)
    if told.json:
        print_json({"orders": len(orders), "replayed": [msgspec.to_builtins(outcome) for outcome in outcomes]})
    else:
        print(f"{len(orders)} erasures on the list, {len(outcomes)} of them carried out again.")
    return DONE


def _erasures(told: argparse.Namespace) -> int:
    with parts() as built:
        known = built.erasing().all()
    if told.json:
        print_json({"items": [{**each._asdict(), "erased_at": timestamp(each.erased_at)} for each in known]})
    else:
        print("\n".join(each.certificate for each in known), end="")
    return DONE


# Holds ----------------------------------------------------------------------------------------------------------------


def _hold(told: argparse.Namespace) -> int:
    if told.message is None and told.recipient is None and told.client_reference is None:
        return _holds(told.json)
    if not (told.by and told.why):
        raise CommandFailed("a hold needs --by and --why", USAGE)
    with parts() as built:
        leading, _ = _selected(built, told)
        streams = built.eraser().streams(leading)
        changed = holds.place(built.ledger, streams, told.by, told.why)
        access_log.record(built.ledger, caller(), "hold", message_id=told.message, detail=f"{len(leading)} messages")
    return _show_changed("held", leading, changed, told.json)


def _release(told: argparse.Namespace) -> int:
    with parts() as built:
        leading, _ = _selected(built, told)
        changed = holds.release(built.ledger, built.eraser().streams(leading))
        access_log.record(built.ledger, caller(), "release", message_id=told.message, detail=f"{changed} streams")
    return _show_changed("released", leading, changed, told.json)


def _show_changed(what: str, leading: Sequence[UUID], changed: int, as_json: bool) -> int:
    if as_json:
        print_json({"messages": len(leading), "streams": changed})
    else:
        print(f"{len(leading)} messages, {changed} streams {what} that were not before")
    return DONE


def _holds(as_json: bool) -> int:
    with parts() as built:
        held = holds.all_(built.ledger)
    if as_json:
        print_json({"items": [{**each._asdict(), "held_at": timestamp(each.held_at)} for each in held]})
    else:
        rows = [(each.message_id, timestamp(each.held_at), each.held_by, each.why) for each in held]
        print_table(("MESSAGE", "SINCE", "BY", "WHY"), rows)
    return DONE
