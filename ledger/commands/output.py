"""What commands print, and how they end. Apart from `ledger.commands.common` for those that build nothing."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import msgspec
import psycopg

#: Told how many of how many are done.
Progress = Callable[[int, int], None]

_STEP_SECONDS: Final = 0.2
DONE, FAILED, USAGE, FOUND = 0, 1, 2, 3


class CommandFailed(Exception):
    """Shown as one line on standard error; exit code 1 unless told otherwise."""

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code


@contextmanager
def reachable() -> Iterator[None]:
    """Say in one line that the database cannot be reached, whatever the driver says about it."""
    try:
        yield
    except psycopg.OperationalError as error:
        raise CommandFailed(f"the database cannot be reached ({type(error).__name__})") from error


def print_json(value: Any) -> None:
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def print_table(headings: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> None:
    """Print columns as wide as their content."""
    lines = [tuple(map(str, row)) for row in (headings, *rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


@contextmanager
def progress(what: str) -> Iterator[Progress]:
    """Show on a terminal how far a long command is."""
    from rich.console import Console  # noqa: PLC0415  # only where it is shown

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _done, _all: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TimeRemainingColumn  # noqa: PLC0415
    from rich.progress import Progress as Bar  # noqa: PLC0415

    with Bar("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console) as bar:
        task, shown = bar.add_task(what), 0.0

        def show(done: int, of: int) -> None:
            nonlocal shown
            if (now := time.monotonic()) - shown > _STEP_SECONDS or done == of:
                shown = now
                bar.update(task, completed=done, total=of)

        yield show
