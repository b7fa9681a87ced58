"""Numbered SQL files, applied once each, in order, under one advisory lock."""

from importlib.resources import files
from typing import Final

import psycopg
from psycopg import sql

#: Chosen when the database is created, stored there, checked at every start.
PARTITIONS_ALLOWED: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)
#: What the first event of a partition is chained to.
CHAIN_ORIGIN: Final = bytes(32)

_LOCK: Final = 0x5354_4C47  # "STLG"
_MARK: Final = "; -- distributable"
_DISTRIBUTED: Final = ("events", "message_keys", "current_status", "captures")


class WrongPartitionCount(Exception):
    """The database was created with another LEDGER_PARTITIONS; the number can never change."""


class MigrationMissing(Exception):
    """The database lacks a migration that this version needs: run `status-ledger migrate`."""


def migrations() -> list[tuple[int, str, str]]:
    """Return (number, name, SQL) of every migration, in order."""
    found = [entry for entry in files("ledger.store").joinpath("schema").iterdir() if entry.name.endswith(".sql")]
    return sorted((int(entry.name[:4]), entry.name, entry.read_text("utf-8")) for entry in found)


def migrate(url: str, *, partitions: int = 1, hash_partitions: int = 0) -> list[str]:
    """Apply what is missing and return the names applied.

    `hash_partitions` > 0 creates the tables natively hash-partitioned by `partition`: PostgreSQL then refuses any key
    that does not carry it, which is how tests prove that the schema can be distributed.
    Raises WrongPartitionCount if the database was created with another number.
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
    return applied


def check(connection: psycopg.Connection[tuple[object, ...]], partitions: int) -> None:
    """Raise MigrationMissing or WrongPartitionCount unless the database fits this version and its settings."""
    known = connection.execute("SELECT to_regclass('schema_migrations') IS NOT NULL").fetchone()
    done = set()
    if known and known[0]:
        done = {row[0] for row in connection.execute("SELECT number FROM schema_migrations")}
    missing = [name for number, name, _ in migrations() if number not in done]
    if missing:
        raise MigrationMissing(f"not applied: {', '.join(missing)}. Run `status-ledger migrate`.")
    _check_partitions(connection, partitions)


def _check_partitions(connection: psycopg.Connection[tuple[object, ...]], partitions: int) -> None:
    row = connection.execute("SELECT value FROM ledger_constants WHERE name = 'partitions'").fetchone()
    stored = int(str(row[0])) if row else 0
    if stored != partitions:
        raise WrongPartitionCount(f"the database has {stored} partitions, LEDGER_PARTITIONS says {partitions}")


def _shaped(text: str, hash_partitions: int) -> str:
    lines = []
    for line in text.splitlines():
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
