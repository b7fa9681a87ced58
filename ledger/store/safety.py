"""What a database must be before anything is written to it, and before a 200 means "on record"."""

from typing import Final

import msgspec
import psycopg

from ledger.store import migrations
from ledger.store.recorder import connection_string

#: Off, any of these lets a crash take back what was acknowledged.
_DURABLE: Final = {
    "fsync": ("on",),
    "full_page_writes": ("on",),
    "synchronous_commit": ("on", "remote_write", "remote_apply", "local"),
}
_VERSION_MIN: Final = 14_00_00


class Unsafe(Exception):
    """The database must not be served from; every reason is listed."""

    def __init__(self, reasons: list[str]) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = reasons


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at."""

    name: str
    ok: bool
    detail: str


def inspect(url: str, partitions: int) -> list[Finding]:
    """Look at everything that matters. A database that cannot be reached is one finding."""
    try:
        with psycopg.connect(connection_string(url), autocommit=True) as connection:
            return [*_settings(connection), _schema(connection, partitions)]
    except psycopg.Error as error:
        return [Finding("database", False, f"cannot be reached ({type(error).__name__})")]


def require(url: str, partitions: int) -> None:
    """Raise Unsafe unless the database may be served from."""
    reasons = [f"{finding.name}: {finding.detail}" for finding in inspect(url, partitions) if not finding.ok]
    if reasons:
        raise Unsafe(reasons)


def _settings(connection: psycopg.Connection[tuple[object, ...]]) -> list[Finding]:
    findings = []
    version = connection.info.server_version
    findings.append(
        Finding(
            "server_version", version >= _VERSION_MIN, f"{version // 10_000}, needs {_VERSION_MIN // 10_000} or later"
        )
    )
    for name, allowed in _DURABLE.items():
        row = connection.execute("SELECT current_setting(%s)", (name,)).fetchone()
        value = str(row[0]) if row else "?"
        detail = value if value in allowed else f"is {value}: an acknowledged callback could be lost in a crash"
        findings.append(Finding(name, value in allowed, detail))
    row = connection.execute("SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::bool").fetchone()
    read_only = bool(row and row[0])
    findings.append(Finding("writable", not read_only, "read-only (a standby?)" if read_only else "yes"))
    return findings


def _schema(connection: psycopg.Connection[tuple[object, ...]], partitions: int) -> Finding:
    try:
        migrations.check(connection, partitions)
    except (migrations.MigrationMissing, migrations.WrongPartitionCount, migrations.WrittenByLater) as error:
        return Finding("schema", False, str(error))
    return Finding("schema", True, "all migrations applied")
