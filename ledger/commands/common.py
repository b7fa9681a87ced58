"""What commands share: settings, parts, output, progress."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from ledger import main
from ledger.config import Settings
from ledger.store import migrations

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
            migrations.migrate(url, partitions=told.partitions)
        built = main.build(told, url, pool_size=4)
        try:
            yield built
        finally:
            built.close()


def print_json(value: Any) -> None:
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def print_table(headings: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> None:
    """Print columns as wide as their content."""
    lines = [tuple(map(str, row)) for row in (headings, *rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
