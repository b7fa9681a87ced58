"""Creating and checking the schema."""

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from ledger.store import migrations
from ledger.store.migrations import (
    CHAIN_ORIGIN,
    MigrationMissing,
    WrittenByLater,
    WrongPartitionCount,
    check,
    migrate,
)

MakeDatabase = Callable[..., str]

ALL = [name for _, name, _ in migrations.migrations()]


def scalars(url: str, statement: bytes) -> list[object]:
    with psycopg.connect(url) as connection:
        return [row[0] for row in connection.execute(statement)]


def checked(url: str, partitions: int) -> None:
    with psycopg.connect(url) as connection:
        check(connection, partitions)


def test_migrations_have_numbers_of_their_own_from_one_on() -> None:
    numbers = [number for number, _, _ in migrations.migrations()]

    assert numbers[0] == 1
    assert numbers == sorted(set(numbers))


def test_an_empty_database_gets_every_migration_in_order(make_database: MakeDatabase) -> None:
    url = make_database()

    assert migrate(url) == ALL
    assert scalars(url, b"SELECT name FROM schema_migrations ORDER BY number") == ALL
    checked(url, 1)


def test_migrating_again_changes_nothing(make_database: MakeDatabase) -> None:
    url = make_database()
    migrate(url)
    applied_at = scalars(url, b"SELECT applied_at FROM schema_migrations ORDER BY number")

    assert migrate(url) == []
    assert scalars(url, b"SELECT applied_at FROM schema_migrations ORDER BY number") == applied_at


def test_threads_that_migrate_at_once_apply_each_migration_once(make_database: MakeDatabase) -> None:
    url = make_database()

    with ThreadPoolExecutor(6) as threads:
        applied = list(threads.map(lambda _: migrate(url), range(6)))

    assert sorted(applied, key=len) == [[]] * 5 + [ALL]
    checked(url, 1)


def test_processes_that_migrate_at_once_all_succeed(make_database: MakeDatabase) -> None:
    url = make_database()
    program = "import sys; from ledger.store.migrations import migrate; print(len(migrate(sys.argv[1], partitions=4)))"

    processes = [
        subprocess.Popen([sys.executable, "-c", program, url], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(4)
    ]
    outputs = [process.communicate() for process in processes]

    assert [process.returncode for process in processes] == [0] * 4, outputs
    assert sorted(int(output) for output, _ in outputs) == [0, 0, 0, len(ALL)]
    checked(url, 4)


@pytest.mark.parametrize("partitions", [1, 4, 256])
def test_every_partition_has_a_head_at_the_origin_of_its_chain(make_database: MakeDatabase, partitions: int) -> None:
    url = make_database()

    migrate(url, partitions=partitions)

    assert scalars(url, b"SELECT partition FROM partition_heads ORDER BY 1") == list(range(partitions))
    assert scalars(url, b"SELECT DISTINCT (position, hash)::text FROM partition_heads") == [
        f'(0,"\\\\x{CHAIN_ORIGIN.hex()}")'
    ]


@pytest.mark.parametrize("partitions", [0, -1, 3, 100, 257, 512])
def test_a_partition_count_that_buckets_do_not_divide_into_is_refused(partitions: int) -> None:
    """Before anything is touched: there is no database at this address."""
    with pytest.raises(ValueError, match="partitions must be one of"):
        migrate("postgresql://127.0.0.1:1/nowhere", partitions=partitions)


@pytest.mark.parametrize(("created", "told"), [(1, 4), (4, 1)])
def test_another_partition_count_than_the_databases_is_refused(
    make_database: MakeDatabase, created: int, told: int
) -> None:
    url = make_database()
    migrate(url, partitions=created)

    with pytest.raises(WrongPartitionCount, match=f"has {created} partitions, LEDGER_PARTITIONS says {told}"):
        migrate(url, partitions=told)
    with pytest.raises(WrongPartitionCount):
        checked(url, told)

    checked(url, created)


def test_a_database_without_a_schema_lacks_every_migration(make_database: MakeDatabase) -> None:
    with pytest.raises(MigrationMissing, match=", ".join(ALL)):
        checked(make_database(), 1)


def test_a_database_that_lacks_the_last_migration_is_named_so(make_database: MakeDatabase) -> None:
    url = make_database()
    migrate(url)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DELETE FROM schema_migrations WHERE name = %s", (ALL[-1],))

    with pytest.raises(MigrationMissing, match=f"not applied: {ALL[-1]}. Run `status-ledger migrate`"):
        checked(url, 1)


@pytest.mark.parametrize(
    "text",
    [
        "CREATE TABLE half (a integer); SELECT 1/0;",
        # Its own line in the list of migrations is there already, so that only writing it down fails.
        "CREATE TABLE half (a integer); INSERT INTO schema_migrations VALUES (1000, 'taken');",
    ],
    ids=["in the middle", "in the end"],
)
def test_a_migration_that_fails_leaves_nothing_of_itself(
    make_database: MakeDatabase, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    url, known = make_database(), migrations.migrations()
    monkeypatch.setattr(migrations, "migrations", lambda: [*known, (1000, "1000_broken.sql", text)])

    with pytest.raises((psycopg.errors.DivisionByZero, psycopg.errors.UniqueViolation)):
        migrate(url)

    assert scalars(url, b"SELECT count(*) FROM pg_tables WHERE tablename = 'half'") == [0]
    assert scalars(url, b"SELECT name FROM schema_migrations ORDER BY number") == ALL


def test_a_newer_schema_is_no_obstacle(make_database: MakeDatabase) -> None:
    """During a rolling upgrade the previous version runs on a database that has one migration more."""
    url = make_database()
    migrate(url)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("INSERT INTO schema_migrations (number, name) VALUES (9999, '9999_later.sql')")

    assert migrate(url) == []
    checked(url, 1)


def test_a_database_with_events_of_a_later_form_is_refused_and_left_as_it_is(
    make_database: MakeDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The later version knows one name more; then the present one is installed again."""
    url = make_database()
    with monkeypatch.context() as later:
        later.setattr(migrations, "LAYOUTS", {**migrations.LAYOUTS, "observed.v3": None})
        migrate(url)
        checked(url, 1)
    more = [*migrations.migrations(), (9999, "9999_earlier.sql", "CREATE TABLE never (a integer);")]
    monkeypatch.setattr(migrations, "migrations", lambda: more)

    with pytest.raises(WrittenByLater, match=r"cannot read \(observed\.v3\): run that version again"):
        migrate(url)

    assert scalars(url, b"SELECT count(*) FROM pg_tables WHERE tablename = 'never'") == [0]
    monkeypatch.undo()
    with pytest.raises(WrittenByLater):
        checked(url, 1)


def test_a_version_that_reads_more_may_take_over(make_database: MakeDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    url = make_database()
    migrate(url)
    monkeypatch.setattr(migrations, "LAYOUTS", {**migrations.LAYOUTS, "observed.v3": None})

    assert migrate(url) == []

    checked(url, 1)


def test_natively_partitioned_tables_refuse_a_key_without_the_partition(make_database: MakeDatabase) -> None:
    """That is what they are for: had a migration such a key, it would fail here."""
    url = make_database()
    migrate(url, partitions=16, hash_partitions=16)

    partitioned = scalars(url, b"SELECT relname FROM pg_class WHERE relkind = 'p' ORDER BY relname")
    assert partitioned == ["captures", "current_status", "events", "message_keys"]
    with psycopg.connect(url) as connection, pytest.raises(psycopg.errors.FeatureNotSupported):
        connection.execute("CREATE UNIQUE INDEX ON events (stream_id, version)")
    checked(url, 16)
