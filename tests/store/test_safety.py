"""What a database must be before a 200 may mean "on record". Real settings of real databases, one at a time.

`fsync` and `full_page_writes` are settings of a whole server, so no test of ours can turn them off here; they are read
in the same loop as `synchronous_commit`, which a single database or role can turn off.
"""

from collections.abc import Callable

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ledger.store import safety
from ledger.store.safety import Finding, Unsafe, inspect, require


def configure(url: str, setting: str, value: str) -> None:
    """Set a default for this database, as somebody with good intentions might."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            sql.SQL("ALTER DATABASE {} SET {} = {}").format(
                sql.Identifier(conninfo_to_dict(url)["dbname"]), sql.Identifier(setting), sql.Literal(value)
            )
        )


def refused(findings: list[Finding]) -> list[str]:
    return [finding.name for finding in findings if not finding.ok]


def test_a_migrated_database_with_defaults_is_safe(database_url: str) -> None:
    findings = inspect(database_url, 1)

    assert refused(findings) == []
    assert [finding.name for finding in findings] == [
        "server_version", "fsync", "full_page_writes", "synchronous_commit", "writable", "schema",
    ]  # fmt: skip
    require(database_url, 1)


def test_a_database_that_does_not_wait_for_the_disk_is_refused(database_url: str) -> None:
    configure(database_url, "synchronous_commit", "off")

    with pytest.raises(Unsafe, match="synchronous_commit: is off: an acknowledged callback could be lost"):
        require(database_url, 1)


@pytest.mark.parametrize("value", ["local", "remote_write", "remote_apply", "on"])
def test_every_way_of_waiting_for_the_disk_is_accepted(database_url: str, value: str) -> None:
    configure(database_url, "synchronous_commit", value)

    assert refused(inspect(database_url, 1)) == []


def test_a_setting_of_the_role_counts_as_well(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("CREATE ROLE careless LOGIN SUPERUSER")
        try:
            connection.execute("ALTER ROLE careless SET synchronous_commit = off")

            assert refused(inspect(make_conninfo(database_url, user="careless"), 1)) == ["synchronous_commit"]
            assert refused(inspect(database_url, 1)) == []
        finally:
            connection.execute("DROP ROLE careless")


def test_a_read_only_database_is_refused(database_url: str) -> None:
    configure(database_url, "default_transaction_read_only", "on")

    with pytest.raises(Unsafe, match="writable: read-only"):
        require(database_url, 1)


def test_a_setting_that_only_we_depend_on_is_our_own(database_url: str) -> None:
    """Isolation and time zone are set by every connection of ours, whatever the database says."""
    configure(database_url, "default_transaction_isolation", "serializable")
    configure(database_url, "timezone", "Asia/Kolkata")

    assert refused(inspect(database_url, 1)) == []


def test_a_database_without_migrations_is_refused(make_database: Callable[..., str]) -> None:
    with pytest.raises(Unsafe, match=r"schema: not applied: 0001_ledger\.sql"):
        require(make_database(), 1)


def test_a_wrong_partition_count_is_refused(database_url: str) -> None:
    with pytest.raises(Unsafe, match="schema: the database has 1 partitions, LEDGER_PARTITIONS says 16"):
        require(database_url, 16)


def test_an_old_server_is_refused(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safety, "_VERSION_MIN", 99_00_00)

    with pytest.raises(Unsafe, match=r"server_version: [0-9]+, needs 99 or later"):
        require(database_url, 1)


def test_every_reason_is_named_at_once(database_url: str) -> None:
    configure(database_url, "synchronous_commit", "off")
    configure(database_url, "default_transaction_read_only", "on")

    with pytest.raises(Unsafe) as raised:
        require(database_url, 4)

    assert [reason.partition(":")[0] for reason in raised.value.reasons] == ["synchronous_commit", "writable", "schema"]


def test_a_database_that_is_not_there_is_one_finding(database_url: str) -> None:
    findings = inspect(make_conninfo(database_url, dbname="no_such_database"), 1)

    assert findings == [Finding("database", False, "cannot be reached (OperationalError)")]
