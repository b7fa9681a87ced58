"""`projections`, `rebuild`: how far read models have come, and making them anew beside the live ones."""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import msgspec
import psycopg
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ledger.commands.common import DONE, FOUND, USAGE, CommandFailed, parts, print_json, print_table
from ledger.main import Parts
from ledger.store import archiving
from projections import feed, generations, rebuild, refold
from projections.feed import Projection
from projections.rebuild import AlreadyRunning, Difference, Unapplied
from projections.registry import PROJECTIONS

#: Written with the events, and so rebuilt in place.
CURRENT_STATUS: Final = "current_status"
ALL: Final = "all"
_NAMES: Final = (CURRENT_STATUS, *(projection.name for projection in PROJECTIONS))
_LOOK_SECONDS: Final = 0.2

Report = Callable[[int, int], None]


def add_to(commands: Any) -> None:
    shown = commands.add_parser("projections", help="show how far the read models have come")
    shown.add_argument("--json", action="store_true")
    shown.set_defaults(run=_projections)
    made = commands.add_parser("rebuild", help="make a read model anew from the events, beside the live one")
    made.add_argument("name", choices=[*_NAMES, ALL], metavar=f"{{{','.join([*_NAMES, ALL])}}}")
    made.add_argument(
        "--dry-run", action="store_true", help="only say what would change; exit code 3 if anything would"
    )
    made.add_argument("--processes", type=int, help="that build side by side (one for each core)")
    made.add_argument("--join", action="store_true", help="help a rebuild that is under way elsewhere, and end with it")
    made.add_argument("--json", action="store_true")
    made.set_defaults(run=_rebuild)


def _projections(told: argparse.Namespace) -> int:
    with parts() as built, built.ledger.connect() as connection, connection.cursor() as cursor:
        for projection in PROJECTIONS:
            generations.ensure(connection, projection)
        found = feed.progress(cursor, PROJECTIONS)
    if told.json:
        print_json({"items": found})
        return DONE
    print_table(
        (
            "projection",
            "generation",
            "state",
            "partition",
            "position",
            "head",
            "lag",
            "seconds",
            "rate",
            "trend",
            "parked",
        ),
        [
            (
                each.projection,
                each.generation,
                each.state,
                each.partition,
                each.position,
                each.head,
                each.lag_events,
                f"{each.lag_seconds:.1f}",
                f"{each.rate:,.0f}/s",
                each.trend,
                each.parked,
            )
            for each in found
        ],
    )
    return DONE


# Rebuilding -----------------------------------------------------------------------------------------------------------


def _rebuild(told: argparse.Namespace) -> int:
    if told.processes is not None and not 1 <= told.processes <= 64:
        raise CommandFailed("--processes must be from 1 to 64", USAGE)
    wanted = [projection for projection in PROJECTIONS if told.name in (projection.name, ALL)]
    with parts() as built:
        with built.ledger.connect() as connection:
            if archiving.all_archived(connection):
                raise CommandFailed("events are in an archive, and a rebuild needs them all: `restore --all` first")
        if told.join:
            return _join(built, wanted)
        found: dict[str, Difference] = {}
        for projection in wanted:
            found[projection.name] = _rebuilt(built, projection, told)
        if told.name in (CURRENT_STATUS, ALL):
            with _progress(CURRENT_STATUS) as report:
                found[CURRENT_STATUS] = refold.run(built.ledger, dry_run=told.dry_run, report=report)
    if told.json:
        print_json(found)
    else:
        _print(found, dry_run=told.dry_run)
    differs = any(difference.differs for difference in found.values())
    return FOUND if told.dry_run and differs else DONE


def _rebuilt(built: Parts, projection: Projection, told: argparse.Namespace) -> Difference:
    ledger = built.ledger
    processes = told.processes or os.cpu_count() or 1
    try:
        with (
            rebuild.alone(ledger, projection),
            rebuild.connect(ledger) as connection,
            _progress(projection.name) as report,
        ):
            generation = rebuild.begin(connection, projection)
            events, total = rebuild.done(connection, projection, generation)
            report(events, total)
            with _helpers(projection, processes - 1 if total - events > rebuild.PORTION else 0):
                while rebuild.build(ledger, connection, projection, generation) is not None:
                    report(*rebuild.done(connection, projection, generation))
                while not rebuild.is_built(connection, projection, generation):
                    report(*rebuild.done(connection, projection, generation))
                    time.sleep(_LOOK_SECONDS)
            report(*rebuild.done(connection, projection, generation))
            rebuild.catch_up(ledger, connection, projection, generation)
            difference = rebuild.compare(ledger, connection, projection, generation)
            if told.dry_run:
                rebuild.discard(connection, projection, generation)
            else:
                rebuild.catch_up(ledger, connection, projection, generation)
                rebuild.exchange(ledger, connection, projection, generation)
            rebuild.sweep(connection, projection)
            return difference
    except (AlreadyRunning, Unapplied) as error:
        raise CommandFailed(f"{error}. What was live still is.") from error
    except psycopg.OperationalError as error:
        raise CommandFailed(f"the database went away ({type(error).__name__}): run it again to go on") from error


@contextmanager
def _helpers(projection: Projection, count: int) -> Iterator[None]:
    """Let other processes build portions too."""
    command = [sys.executable, "-m", "ledger", "rebuild", projection.name, "--join"]
    started = [
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)  # noqa: S603  # ourselves
        for _ in range(count)
    ]
    try:
        yield
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait()


def _join(built: Parts, wanted: list[Projection]) -> int:
    """Build portions of rebuilds that others have begun."""
    with rebuild.connect(built.ledger) as connection:
        for projection in wanted:
            generation = rebuild.begun(connection, projection)
            if generation is None:
                continue
            try:
                while rebuild.build(built.ledger, connection, projection, generation) is not None:
                    pass
            except Unapplied as error:
                raise CommandFailed(str(error)) from error
    return DONE


@contextmanager
def _progress(name: str) -> Iterator[Report]:
    """Yield what shows (events done, events in all) on a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _done, _total: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as shown:
        task = shown.add_task(name, total=None)
        yield lambda done, total: shown.update(task, completed=done, total=total)


def _print(found: dict[str, Difference], *, dry_run: bool) -> None:
    print_table(
        ("read model", "equal", "changed", "only before", "only rebuilt"),
        [(name, told.equal, told.changed, told.only_old, told.only_new) for name, told in found.items()],
    )
    for told in found.values():
        for example in told.examples:
            print(f"\n{example.kind} in {example.table}: {msgspec.json.encode(example.key, enc_hook=str).decode()}")
            for label, row in (("before", example.old), ("rebuilt", example.new)):
                if row is not None:
                    print(f"  {label}: {msgspec.json.encode(row, enc_hook=str).decode()}")
            if example.events:
                print("  events: " + ", ".join(f"{place.position} {place.type}" for place in example.events))
    if any(told.differs for told in found.values()):
        print("\nNothing was changed." if dry_run else "\nThe rebuilt rows are live.")
