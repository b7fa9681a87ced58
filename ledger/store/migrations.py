"""Numbered SQL files, applied once each, in order, under one advisory lock."""

from importlib.resources import files
from typing import Any, Final

import psycopg
from psycopg import sql

from ledger.store.mapper import LAYOUTS

#: Chosen when the database is created, stored there, checked at every start.
PARTITIONS_ALLOWED: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)
#: What the first event of a partition is chained to.
CHAIN_ORIGIN: Final = bytes(32)

_LOCK: Final = 0x5354_4C47  # "STLG"
#: Names of events that can stand in the log, as far as versions that have migrated this database know them.
_EVENTS: Final = "event names"
_MARK: Final = "; -- distributable"
_UNDIVIDED: Final = "; -- undivided"
_DISTRIBUTED: Final = ("events", "message_keys", "current_status", "captures")


class WrongPartitionCount(Exception):
    """The database was created with another LEDGER_PARTITIONS; the number can never change."""


class MigrationMissing(Exception):
    """The database lacks a migration that this version needs: run `status-ledger migrate`."""


class WrittenByLater(Exception):
    """The database may hold events that this version cannot read: run the version that wrote them, or a later one."""


def migrations() -> list[tuple[int, str, str]]:
    """Return (number, name, SQL) of every migration, in order."""
    found = [entry for entry in files("ledger.store").joinpath("schema").iterdir() if entry.name.endswith(".sql")]
    return sorted((int(entry.name[:4]), entry.name, entry.read_text("utf-8")) for entry in found)


def migrate(url: str, *, partitions: int = 1, hash_partitions: int = 0) -> list[str]:
    """Apply what is missing and return the names applied.

    `hash_partitions` > 0 creates the tables natively hash-partitioned by `partition`: PostgreSQL then refuses any key
    that does not carry it, which is how tests prove that the schema can be distributed.
    Raises WrongPartitionCount if the database was created with another number, and WrittenByLater, with nothing
    applied, if a later version has migrated it that records events which this one cannot read.
    """
    if partitions not in PARTITIONS_ALLOWED:
        raise ValueError(f"partitions must be one of {PARTITIONS_ALLOWED}")
    applied = []
    with psycopg.connect(url, autocommit=True, connect_timeout=5) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
        connection.execute(
            "CREATE TABLE IF NOT EXISTS schema_migrations ("
            "number integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT clock_timestamp())"
        )
        done = {row[0] for row in connection.execute("SELECT number FROM schema_migrations")}
        names = _readable(connection) if done else set()
        for number, name, text in migrations():
            if number in done:
                continue
            with connection.transaction():
                connection.execute(_shaped(text, hash_partitions).encode())
                if number == 1:
                    _create_partitions(connection, partitions, hash_partitions)
                connection.execute("INSERT INTO schema_migrations (number, name) VALUES (%s, %s)", (number, name))
            applied.append(name)
        _check_partitions(connection, partitions)
        if names != set(LAYOUTS):
            connection.execute(_KEEP_EVENTS, (_EVENTS, " ".join(sorted(LAYOUTS))))
    return applied


def check(connection: psycopg.Connection[tuple[object, ...]], partitions: int) -> None:
    """Raise MigrationMissing, WrittenByLater or WrongPartitionCount unless the database fits version and settings."""
    known = connection.execute("SELECT to_regclass('schema_migrations') IS NOT NULL").fetchone()
    done = set()
    if known and known[0]:
        done = {row[0] for row in connection.execute("SELECT number FROM schema_migrations")}
    missing = [name for number, name, _ in migrations() if number not in done]
    if missing:
        raise MigrationMissing(f"not applied: {', '.join(missing)}. Run `status-ledger migrate`.")
    _readable(connection)
    _check_partitions(connection, partitions)


def _readable(connection: psycopg.Connection[Any]) -> set[str]:
    """Return the names of events that the database may hold. Raises WrittenByLater for one that is not known here.

    A later schema alone is no obstacle: migrations add first and remove in a later version, and during an upgrade the
    previous version goes on serving. Events are another matter: what cannot be read cannot be decided upon.
    """
    row = connection.execute("SELECT value FROM ledger_constants WHERE name = %s", (_EVENTS,)).fetchone()
    names = set(row[0].split()) if row else set()
    if later := sorted(names - set(LAYOUTS)):
        raise WrittenByLater(
            f"a later version has written to this database, in forms that this one cannot read ({', '.join(later)}): "
            "run that version again, or a later one"
        )
    return names


def _check_partitions(connection: psycopg.Connection[tuple[object, ...]], partitions: int) -> None:
    row = connection.execute("SELECT value FROM ledger_constants WHERE name = 'partitions'").fetchone()
    stored = int(str(row[0])) if row else 0
    if stored != partitions:
        raise WrongPartitionCount(f"the database has {stored} partitions, LEDGER_PARTITIONS says {partitions}")


def _shaped(text: str, hash_partitions: int) -> str:
    lines = []
    for line in text.splitlines():
        if hash_partitions and line.endswith(_UNDIVIDED):
            continue  # storage parameters of a divided table belong to its parts
        if _MARK in line:
            storage = line.partition(_MARK)[2].strip()
            shape = " PARTITION BY HASH (partition)" if hash_partitions else f" WITH ({storage})" if storage else ""
            line = line.partition(_MARK)[0].rstrip() + shape + ";"  # noqa: PLW2901
        lines.append(line)
    return "\n".join(lines)


def _create_partitions(
    connection: psycopg.Connection[tuple[object, ...]], partitions: int, hash_partitions: int
) -> None:
    connection.execute("INSERT INTO ledger_constants VALUES ('partitions', %s)", (str(partitions),))
    connection.execute(
        "INSERT INTO partition_heads (partition, hash) SELECT generate_series(0, %s - 1), %s",
        (partitions, CHAIN_ORIGIN),
    )
    for table in _DISTRIBUTED:
        for remainder in range(hash_partitions):
            connection.execute(
                sql.SQL("CREATE TABLE {} PARTITION OF {} FOR VALUES WITH (MODULUS {}, REMAINDER {})").format(
                    sql.Identifier(f"{table}_{remainder}"), sql.Identifier(table), hash_partitions, remainder
                )
            )


_KEEP_EVENTS: Final = """
INSERT INTO ledger_constants (name, value) VALUES (%s, %s) ON CONFLICT (name) DO UPDATE SET value = EXCLUDED.value
"""
