"""A database that earlier versions wrote: it is migrated, loads, serves and goes on, and nothing of it changes.

`tests/data` has the database and what was said about it then. Times in it are those of its recording.
"""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import psycopg
import pytest
from psycopg import sql

from ledger.domain.status import Status
from ledger.ingest.writer import Job
from ledger.store import migrations
from ledger.store.application import StoreUnavailable
from ledger.store.postgres import cluster
from tests.http.callbacks import meta, meta_signed, meta_status, only, send, twilio
from tests.plugins.ledger import OpenLedger, Pen
from tests.plugins.postgres import on_database
from tests.plugins.service import Service, Starter, environment, eventually
from tests.projections import rebuilding
from tests.statements import says

DATA = Path(__file__).parents[1] / "data"
BEFORE: dict[str, Any] = json.loads((DATA / "schema_0003.json").read_text("utf-8"))
#: What the version of then had applied.
APPLIED = ["0001_ledger.sql", "0002_append.sql", "0003_lean_append.sql"]
#: What is said in view of the present time and place, or of the catalogue of failures as it is today.
OF_TODAY = {"failure", "keep_polling", "poll_after", "status_url"}
#: An append that waits for a migration longer than this is a fault.
STALL_SECONDS_MAX = 1.0


def restored(postgres_url: str, name: str) -> str:
    """Make a database with the stored content, and return its URL."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    url = on_database(postgres_url, name)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute((DATA / "schema_0003.sql").read_bytes())
    return url


@pytest.fixture
def old_database(postgres_url: str) -> Iterator[str]:
    name = "written_before"
    yield restored(postgres_url, name)
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


class Read(NamedTuple):
    """What the API says of one message."""

    message: dict[str, Any]
    history: list[dict[str, Any]]


class Upgraded(NamedTuple):
    """A server of today over the old database, which it migrated when it started, and what it said first of all."""

    service: Service
    read: list[Read]


@pytest.fixture(scope="module")
def upgraded_and_read(postgres_url: str, start_module_service: Starter) -> Upgraded:
    service = start_module_service(restored(postgres_url, "upgraded"))
    apis, read = keyed(service), []
    for told in BEFORE["messages"]:
        api, path = apis[told["key"]], f"/v1/messages/{told['message']['message_id']}"
        history = api.get(f"{path}/history", params={"limit": "200"}).json()["items"]
        read.append(Read(api.get(path).json(), history))
    return Upgraded(service, read)


@pytest.fixture(scope="module")
def upgraded(upgraded_and_read: Upgraded) -> Service:
    return upgraded_and_read.service


def keyed(service: Service) -> list[httpx.Client]:
    """Return clients with the keys that were given out then."""
    return [service.client(key) for key in BEFORE["keys"]]


def test_the_stored_database_has_events_of_every_name_of_then(old_database):
    with psycopg.connect(old_database) as connection:
        types = {row[0] for row in connection.execute("SELECT type FROM events")}
        applied = [row[0] for row in connection.execute("SELECT name FROM schema_migrations ORDER BY number")]

    assert types == {"observed.v1", "observed.v2", "registered.v1", "linked.v1", "corrected.v1"}
    assert applied == APPLIED
    assert len(BEFORE["messages"]) == 18


def test_every_message_is_what_it_was(upgraded_and_read):
    for told, now in zip(BEFORE["messages"], upgraded_and_read.read, strict=True):
        before = told["message"]
        kept = [name for name in before if name not in OF_TODAY]
        assert {name: before[name] for name in kept} == {name: now.message[name] for name in kept}
        assert code_of(before) == code_of(now.message)


def code_of(message: dict[str, Any]) -> str | None:
    return message["failure"] and message["failure"]["code"]


def test_every_history_is_word_for_word_what_it_was(upgraded_and_read):
    for told, now in zip(BEFORE["messages"], upgraded_and_read.read, strict=True):
        assert told["history"] == [
            {name: item[name] for name in then} for then, item in zip(told["history"], now.history, strict=True)
        ]

    assert sum(len(now.history) for now in upgraded_and_read.read) > 40


def test_reports_count_what_was_recorded_before_there_were_reports(upgraded):
    api = keyed(upgraded)[1]

    def counted() -> int:
        parameters = {"since": "2026-11-01T00:00:00Z", "until": "2026-12-01T00:00:00Z"}
        answer = api.get("/v1/reports/delivery", params=parameters)
        assert answer.status_code == 200, answer.text
        return sum(row["messages"] for row in answer.json()["items"])

    twilio_messages = sum(told["key"] == 1 for told in BEFORE["messages"])
    assert eventually(lambda: counted() >= twilio_messages, "the feed has read the old log")


def test_what_was_said_before_is_not_recorded_again(upgraded):
    api = keyed(upgraded)[1]
    before = only(api, "SMone000000000000000000000000000000"[:34])

    answer = send(upgraded, twilio(before["provider_message_id"], "delivered"))

    assert answer.status_code == 200
    assert only(api, before["provider_message_id"])["version"] == before["version"]


def test_a_message_of_before_goes_on(upgraded):
    api, wamid = keyed(upgraded)[0], "wamid.one-7"
    assert only(api, wamid)["status"] == "DELIVERED"

    assert send(upgraded, meta(meta_status(wamid, "read"))).status_code == 200

    assert only(api, wamid)["status"] == "READ"


def test_what_could_not_be_read_then_is_kept_and_counted_on(upgraded):
    body = b'{"entry": [unreadable one'
    assert body in [content for _, content in upgraded.captured("meta-main")]

    assert send(upgraded, meta_signed(body)).status_code == 200

    assert [content for _, content in upgraded.captured("meta-main")].count(body) == 1


def test_chain_and_rows_of_before_verify(upgraded):
    command = [sys.executable, "-m", "ledger", "verify"]

    ended = subprocess.run(
        command, env=upgraded.environ, cwd=upgraded.log_file.parent, capture_output=True, text=True, check=False
    )

    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_a_migrated_schema_is_that_of_a_new_database(old_database, template_url):
    migrations.migrate(old_database)

    assert schema(old_database) == schema(template_url)


def schema(url: str) -> list[str]:
    program = [cluster.programs() / "pg_dump", "--schema-only", "--no-owner", "--dbname", url]
    dump = subprocess.run(program, check=True, capture_output=True, text=True, env={"PATH": "/usr/bin"}).stdout
    return [line for line in dump.splitlines() if line and not line.startswith(("--", "\\"))]


def test_writers_of_then_go_on_while_the_database_is_migrated(old_database, open_ledger: OpenLedger):
    """The statements that append and load are those of migration 0003: a writer of then does what a Pen does."""
    pen, ended = Pen(open_ledger(old_database)), threading.Event()
    recorded, slowest, refused = 0, 0.0, 0

    def write() -> None:
        nonlocal recorded, slowest, refused
        while not ended.is_set():
            job, started = Job([says(Status.SENT, reference=f"under-way-{recorded}")]), time.monotonic()
            try:
                recorded += len(pen.do(job).events)
            except StoreUnavailable:
                refused += 1
            slowest = max(slowest, time.monotonic() - started)

    writing = threading.Thread(target=write)
    writing.start()
    eventually(lambda: recorded > 20, "the writer writes")
    applied = migrations.migrate(old_database)
    at_the_end = recorded
    eventually(lambda: recorded > at_the_end + 20, "the writer writes on")
    ended.set()
    writing.join()

    assert applied == [name for _, name, _ in migrations.migrations() if name not in APPLIED]
    assert (refused, slowest < STALL_SECONDS_MAX) == (0, True), slowest
    streams = [says(reference=f"under-way-{number}").stream_id for number in range(recorded)]
    assert all(loaded.version == 1 for loaded in pen.ledger.load(streams))
    assert rebuilding.differences(pen.ledger, *streams[:50]) == []
    pen.writer.close()


@pytest.mark.parametrize("command", [("serve", "--port", "0"), ("migrate",)], ids=" ".join)
def test_what_a_later_version_has_written_is_refused_in_one_line(
    database_url: str, tmp_path: Path, command: tuple[str, ...]
) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("UPDATE ledger_constants SET value = value || ' observed.v9' WHERE name = 'event names'")
    (tmp_path / "accounts.toml").write_text("", "utf-8")

    ended = subprocess.run(
        [sys.executable, "-m", "ledger", *command],
        env=environment(database_url, tmp_path),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert ended.returncode not in (0, -15)
    assert "a later version has written to this database, in forms that this one cannot read (observed.v9)" in (
        ended.stderr
    )
    assert "run that version again, or a later one" in ended.stderr
    assert "Traceback" not in ended.stderr
