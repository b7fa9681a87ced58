"""Real PostgreSQL: one embedded server a run, one migrated template, one clone of it a test."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from ledger.store.embedded import EmbeddedPostgres

_TEMPLATE = "ledger_template"
_numbers = count(1)


@contextmanager
def _directory() -> Iterator[Path]:
    """Yield a directory that an embedded server can live in.

    Not one of pytest's: run as root, every session that begins closes those to the server's user, at once and for the
    servers of other sessions too.
    """
    with tempfile.TemporaryDirectory(prefix="status-ledger-", ignore_cleanup_errors=True) as directory:
        yield Path(directory)


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A data directory, not yet made, for a test with an embedded server of its own."""
    with _directory() as directory:
        yield directory / "data"


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The URL of a server's own database: for fixtures that create others."""
    with _directory() as directory, EmbeddedPostgres(directory / "data") as server:
        yield server.url


@pytest.fixture(scope="session")
def template_url(postgres_url: str) -> str:
    """The URL of a migrated, empty database. Nobody may stay connected to it: it could not be cloned."""
    from ledger.store.migrations import migrate  # noqa: PLC0415  # most tests need no schema

    _execute(postgres_url, sql.SQL("CREATE DATABASE {}").format(sql.Identifier(_TEMPLATE)))
    url = on_database(postgres_url, _TEMPLATE)
    migrate(url, partitions=1)
    return url


@pytest.fixture
def database_url(postgres_url: str, template_url: str) -> Iterator[str]:
    """The URL of a database of the test's own, migrated and empty."""
    with cloned(postgres_url, template_url) as url:
        yield url


@contextmanager
def cloned(postgres_url: str, template_url: str) -> Iterator[str]:
    """Yield the URL of a new database like the template, and drop it afterwards."""
    name = f"test_{next(_numbers)}"
    template = str(conninfo_to_dict(template_url)["dbname"])
    statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
    _execute(postgres_url, statement.format(sql.Identifier(name), sql.Identifier(template)))
    try:
        yield on_database(postgres_url, name)
    finally:
        _execute(postgres_url, sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def on_database(url: str, name: str) -> str:
    """Return the URL of another database on the same server."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def _execute(url: str, statement: sql.Composed) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement)
