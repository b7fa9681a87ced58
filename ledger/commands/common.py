"""What commands share: settings, parts, output, progress."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import psycopg

from ledger import main
from ledger.config import Settings
from ledger.store import migrations
from ledger.store.recorder import connection_string

DONE, FAILED, USAGE, FOUND = 0, 1, 2, 3


class CommandFailed(Exception):
    """Shown as one line on standard error; exit code 1 unless told otherwise."""

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code


@contextmanager
def parts(*, told: Settings | None = None) -> Iterator[main.Parts]:
    """Yield the parts over the configured database, started and migrated where that is ours to do."""
    told = told or main.settings()
    with main.database(told) as url:
        if told.is_embedded:
            migrate(url, told.partitions)
        else:
            with reachable(), psycopg.connect(connection_string(url), autocommit=True) as connection:
                migrations.check(connection, told.partitions)
        built = main.build(told, url, pool_size=4)
        try:
            yield built
        finally:
            built.close()


@contextmanager
def reachable() -> Iterator[None]:
    """Say in one line that the database cannot be reached, whatever the driver says about it."""
    try:
        yield
    except psycopg.OperationalError as error:
        raise CommandFailed(f"the database cannot be reached ({type(error).__name__})") from error


def migrate(url: str, partitions: int) -> list[str]:
    """Apply migrations and return the names of those applied."""
    with reachable():
        return migrations.migrate(url, partitions=partitions)


def print_json(value: Any) -> None:
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def print_table(headings: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> None:
    """Print columns as wide as their content."""
    lines = [tuple(map(str, row)) for row in (headings, *rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
