"""What commands share: settings and parts, and what `ledger.commands.output` has."""

import argparse
import os
import pwd
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

import psycopg

from ledger import main
from ledger.commands.output import DONE, FAILED, FOUND, USAGE, CommandFailed, print_json, print_table, reachable
from ledger.config import Settings
from ledger.http import queries
from ledger.store import migrations
from ledger.store.recorder import connection_string

__all__ = [
    "DONE",
    "FAILED",
    "FOUND",
    "USAGE",
    "CommandFailed",
    "caller",
    "instant",
    "migrate",
    "parts",
    "print_json",
    "print_table",
    "reachable",
]


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


def migrate(url: str, partitions: int) -> list[str]:
    """Apply migrations and return the names of those applied."""
    with reachable():
        return migrations.migrate(url, partitions=partitions)


def caller() -> str:
    """Return who gives a command, for the access log: the user and the machine."""
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}"


def instant(text: str) -> datetime:
    """Read a time as the API reads one. Raises ArgumentTypeError, which argparse tells with the option's name."""
    try:
        return queries.rfc3339(text)
    except ValueError as problem:
        raise argparse.ArgumentTypeError(str(problem)) from None
