"""After an erasure, nothing of the person is anywhere: not in the data directory, a dump, an export, a log."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from ledger.commands import archive
from ledger.domain.status import Status
from ledger.proof import files
from ledger.store import archiving, migrations
from ledger.store.captures import Capture
from ledger.store.embedded import EmbeddedPostgres
from ledger.store.postgres import cluster
from ledger.store.scan import connected
from tests.builders import at
from tests.ingest.erasing import erase_recipient
from tests.plugins.ledger import OpenLedger, Pen
from tests.statements import a_registration, a_sender, says
from tests.store.evidence import signed
from tests.store.test_privacy import forms

PHONE = "+15550666777888"
CANARIES = {
    "phone": PHONE.removeprefix("+"),
    "name": "Canary-Anne-Surname",
    "reference": "canary-order-4711",
    "message id": "wamid.CANARY0123456789",
}


@pytest.fixture
def erased(data_dir: Path, open_ledger: OpenLedger) -> Iterator[tuple[EmbeddedPostgres, list[bytes]]]:
    """A server on which a person was written to and erased, and the keys that opened what was sealed."""
    with EmbeddedPostgres(data_dir) as server:
        migrations.migrate(server.url)
        ledger = open_ledger(server.url)
        pen = Pen(ledger)
        told = {
            "recipient": PHONE,
            "client_reference": CANARIES["reference"],
            "provider_message_id": CANARIES["message id"],
            "error_text": f"{CANARIES['name']} is away",
            "item": f'{{"to":"{PHONE}","name":"{CANARIES["name"]}"}}'.encode(),
        }
        unread = Capture(
            account="account-1",
            provider="provider-1",
            reason="unreadable",
            content=f"{PHONE} {CANARIES['name']}".encode(),
            content_type="text/plain",
            received_at=at(0),
        )
        pen.write(says(Status.SENT, 1, reference=CANARIES["message id"], **told), captures=[unread])
        registration = a_registration(recipient=PHONE, metadata={"name": CANARIES["name"]})
        sender = a_sender()
        pen.do(sender.register(sender.stream_of(registration, b"fresh"), registration, b"registration-001", at(0)))
        pen.write(*(says(Status.SENT, 1, reference=f"other-{number}") for number in range(50)))
        with ledger.reading() as cursor:
            keys = [row[0] for row in cursor.execute("SELECT wrapped FROM message_keys")]
        outcome = erase_recipient(ledger, data_dir / "erasures.jsonl", PHONE)
        assert (outcome.messages, outcome.captures) == (2, 1)
        pen.writer.close()
        yield server, keys


def searched(data: bytes) -> list[str]:
    return [name for name, canary in CANARIES.items() if any(form in data for form in forms(canary))]


def test_nothing_of_the_person_is_left_anywhere(
    erased: tuple[EmbeddedPostgres, list[bytes]], data_dir: Path, tmp_path: Path
) -> None:
    server, keys = erased
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("VACUUM (FULL)")
        connection.execute("CHECKPOINT")
        left = {row[0] for row in connection.execute("SELECT wrapped FROM message_keys")}
    program = [cluster.programs() / "pg_dump", "--dbname", server.url]
    dump = subprocess.run(program, check=True, capture_output=True, env={"PATH": os.defpath}).stdout
    signed(server.url, data_dir / "checkpoints.txt")
    with connected(server.url) as connection:
        (told,) = archiving.ranges(connection, archive.datetime.now(archive.UTC))
        lines = list(archiving.lines(connection, told.partition, told.first, told.last))
    header = files.Header(
        partition=0, first=1, last=told.last, before=told.before, log="log", public_key="", written_at=""
    )
    files.write(tmp_path / "export", header, lines, "")
    export = b"".join(line.state for line in lines) + repr(lines).encode()

    found = {
        str(path.relative_to(data_dir)): searched(path.read_bytes())
        for path in data_dir.rglob("*")
        if path.is_file() and not path.is_symlink()
    }

    assert searched(f"to {PHONE}".encode()) == ["phone"]
    assert len(found) > 100
    assert {name for name in found if "pg_wal" in name}
    assert {name: canaries for name, canaries in found.items() if canaries} == {}
    assert (searched(dump), searched(export)) == ([], [])
    # Nor is a key that opened any of it, but in the WAL, which is recycled.
    gone = [key for key in keys if key not in left]
    holding = [
        path
        for path in data_dir.rglob("*")
        if path.is_file() and "pg_wal" not in path.parts and any(key in path.read_bytes() for key in gone)
    ]
    assert (len(gone), holding) == (2, [])
