"""The PostgreSQL server that everything is measured on, and a fresh database for every measurement."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, Final

import psutil
import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ledger.store import migrations
from ledger.store.embedded import EmbeddedPostgres
from ledger.store.postgres import cluster

#: Shown with the results; the first three must be on for a figure to mean anything.
SETTINGS: Final = (
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "wal_compression",
    "shared_buffers",
    "max_wal_size",
    "max_connections",
)
_PREFIX: Final = "bn"


class Databases:
    """Makes databases on one server and removes them again."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._numbers = count(1)
        self._made: list[str] = []
        self._template: str | None = None

    @contextmanager
    def ledger(self) -> Iterator[str]:
        """Yield the URL of a new database with the ledger's schema."""
        if self._template is None:
            self._template = self._create("template0")
            migrations.migrate(self._url_of(self._template))
        with self._fresh(self._template) as url:
            yield url

    @contextmanager
    def empty(self) -> Iterator[str]:
        """Yield the URL of a new empty database."""
        with self._fresh("template0") as url:
            yield url

    @contextmanager
    def _fresh(self, template: str) -> Iterator[str]:
        name = self._create(template)
        try:
            yield self._url_of(name)
        finally:
            self._drop(name)

    def close(self) -> None:
        for name in list(self._made):
            self._drop(name)

    def _create(self, template: str) -> str:
        name = f"{_PREFIX}_{os.getpid()}_{next(self._numbers)}"
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        self._run(statement.format(sql.Identifier(name), sql.Identifier(template)))
        self._made.append(name)
        return name

    def _drop(self, name: str) -> None:
        self._run(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
        self._made.remove(name)
        # What a measurement left to be written must not be written during the next one.
        self._run(sql.SQL("CHECKPOINT"))

    def _run(self, statement: sql.Composable) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statement)

    def _url_of(self, name: str) -> str:
        return make_conninfo(self.url, dbname=name)

    def settings(self) -> dict[str, str]:
        """Return version and settings of the server."""
        with psycopg.connect(self.url) as connection:
            told = {"version": str(query(connection, "SHOW server_version"))}
            return told | {name: str(query(connection, f"SHOW {name}")) for name in SETTINGS}


@contextmanager
def databases(url: str | None, directory: Path) -> Iterator[Databases]:
    """Yield databases on the given server, or on an embedded one of our own in the directory."""
    if url is not None:
        made = Databases(url)
        try:
            yield made
        finally:
            made.close()
        return
    with EmbeddedPostgres(directory) as server:
        made = Databases(make_conninfo(server.url, dbname="postgres"))
        try:
            yield made
        finally:
            made.close()


def query(connection: psycopg.Connection[Any], statement: str, *parameters: object) -> Any:
    """Return the only value of the only row."""
    row = connection.execute(statement.encode(), parameters or None).fetchone()
    assert row is not None
    return row[0]


def value(url: str, statement: str, *parameters: object) -> Any:
    """Ask a database for one value over a connection of its own."""
    with psycopg.connect(url, autocommit=True) as connection:
        return query(connection, statement, *parameters)


def execute(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement.encode())


def cpu_seconds(url: str) -> float:
    """Return what the database's present connections have cost the server so far."""
    statement = "SELECT array_agg(pid) FROM pg_stat_activity WHERE datname = current_database()"
    total = 0.0
    for pid in value(url, statement) or ():
        try:
            times = psutil.Process(pid).cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


def programs() -> Path:
    """Return the directory with pgbench: the embedded PostgreSQL's."""
    return cluster.programs()


def environment(url: str) -> dict[str, str]:
    """Return the environment that makes PostgreSQL's programs connect to this database."""
    names = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD", "dbname": "PGDATABASE"}
    told = conninfo_to_dict(url)
    found = {names[name]: str(value) for name, value in told.items() if name in names and value is not None}
    return {"PATH": os.defpath, **found}
