"""The restore drill: a base backup and the archived WAL, to a point in time between two acknowledged reports.

What was acknowledged before is there, exactly; the chain verifies; a checkpoint from after tells what is missing; who
was erased after the backup is erased again, and stays so when the provider repeats; positions go on.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest

from ledger.domain.message import Person
from ledger.domain.status import Status
from ledger.ingest.erase import orders
from ledger.store import migrations
from ledger.store.application import Ledger
from ledger.store.checkpoints import Forked
from ledger.store.embedded import EmbeddedPostgres
from ledger.store.postgres import account, cluster
from ledger.store.verifying import verify
from projections.current_status import CurrentStatus
from tests.ingest.erasing import an_eraser, erase_recipient
from tests.plugins.ledger import OpenLedger, Pen
from tests.plugins.service import eventually
from tests.projections import rebuilding
from tests.statements import says, stream_of
from tests.store.evidence import signed, signing

PHONE = "+15550111222"


class Site(NamedTuple):
    """A machine with a database, an archive of its WAL, and things that lie elsewhere."""

    directory: Path

    @property
    def wal(self) -> Path:
        return self.directory / "wal"

    @property
    def checkpoints(self) -> Path:
        return self.directory / "elsewhere-checkpoints.txt"

    @property
    def erasures(self) -> Path:
        return self.directory / "elsewhere-erasures.jsonl"


@pytest.fixture
def site(data_dir: Path) -> Site:
    site = Site(data_dir.parent)
    site.wal.mkdir()
    site.wal.chmod(0o777)
    return site


def configure(data_dir: Path, **settings: str) -> None:
    """Set what holds from the next start on, as the cluster's owner would."""
    lines = [f"{name} = '{value}'\n" for name, value in settings.items()]
    with (data_dir / "postgres" / "postgresql.auto.conf").open("a") as file:
        file.writelines(lines)


@pytest.fixture
def primary(site: Site) -> Iterator[EmbeddedPostgres]:
    """A server that archives its WAL."""
    data_dir = site.directory / "data"
    with EmbeddedPostgres(data_dir) as server:
        migrations.migrate(server.url)
    configure(data_dir, archive_mode="on", archive_command=f"cp %p {site.wal}/%f")
    with EmbeddedPostgres(data_dir) as server:
        yield server


def backup(server: EmbeddedPostgres, to: Path) -> None:
    """Take a base backup, without the WAL that is archived anyway."""
    subprocess.run(
        [cluster.programs() / "pg_basebackup", "--dbname", server.url, "--pgdata", to, "--wal-method=none", "--no-sync",
         "--checkpoint=fast"],
        check=True,
        capture_output=True,
        env={"PATH": os.defpath},
    )  # fmt: skip


def one(url: str, statement: str) -> Any:
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(statement.encode()).fetchone()
    assert row is not None
    return row[0]


def archived(server: EmbeddedPostgres) -> None:
    """Wait until all WAL that there is has been archived."""
    name = one(server.url, "SELECT pg_walfile_name(pg_switch_wal())")
    eventually(lambda: one(server.url, "SELECT last_archived_wal FROM pg_stat_archiver") >= name, "all is archived")


def restored(site: Site, base: Path, at: str) -> EmbeddedPostgres:
    """Return a server on the backup that has been rolled forward to a time."""
    data_dir = site.directory / "restored"
    data_dir.mkdir()
    shutil.copytree(base, data_dir / "postgres")
    configure(
        data_dir,
        archive_mode="off",
        restore_command=f"cp {site.wal}/%f %p",
        recovery_target_time=at,
        recovery_target_action="promote",
    )
    (data_dir / "postgres" / "recovery.signal").touch()
    if os.geteuid() == 0:
        user = account.ensure_system_user()
        for path in [data_dir / "postgres", *(data_dir / "postgres").rglob("*")]:
            os.chown(path, user.uid, user.gid)
    server = EmbeddedPostgres(data_dir)
    server.start()
    return server


def events_of(url: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute("SELECT position, stream_id, version, hash FROM events ORDER BY position").fetchall()


def test_a_restore_to_a_point_in_time_keeps_what_was_acknowledged_and_who_was_erased(
    site: Site, primary: EmbeddedPostgres, open_ledger: OpenLedger
) -> None:
    ledger: Ledger = open_ledger(primary.url)
    pen = Pen(ledger)
    pen.write(*(says(Status.SENT, 1, reference=f"before-{number}") for number in range(20)))
    pen.write(says(Status.SENT, 1, reference="person", recipient=PHONE))
    backup(primary, site.directory / "base")
    pen.write(*(says(Status.DELIVERED, 2, reference=f"before-{number}") for number in range(20)))
    early = signed(primary.url, site.checkpoints)
    acknowledged = events_of(primary.url)
    at = one(primary.url, "SELECT clock_timestamp()::text")
    pen.write(*(says(Status.READ, 3, reference=f"before-{number}") for number in range(20)))
    erase_recipient(ledger, site.erasures, PHONE)
    late = signed(primary.url, site.checkpoints)
    archived(primary)
    pen.writer.close()

    server = restored(site, site.directory / "base", at)
    try:
        url = server.url
        eventually(lambda: not one(url, "SELECT pg_is_in_recovery()"), "the server has been promoted")

        # What was acknowledged before is there, exactly, and verifies.
        assert events_of(url) == acknowledged
        assert verify(url, checkpoints=early).ok
        missing = verify(url, checkpoints=late).fault
        assert missing is not None
        assert (missing.place.position, "cut off" in missing.why) == (len(acknowledged) + 1, True)

        # Who was erased is erased again, before the service starts.
        again: Ledger = open_ledger(url)
        messages = CurrentStatus(again)
        before = messages.of_stream(stream_of("person"))
        assert before is not None
        assert before.message.person.recipient == PHONE
        for order in orders(site.erasures):
            an_eraser(again, site.erasures).replay(order)
        pen = Pen(again)
        pen.write(says(Status.READ, 4, reference="person", recipient=PHONE))
        after = messages.of_stream(stream_of("person"))
        assert after is not None
        assert (after.message.person, after.message.status) == (Person(), Status.READ)

        # Positions go on, and the log is signed under a new name once somebody says why.
        with pytest.raises(Forked):
            signed(url, site.checkpoints)
        with signing(url, site.checkpoints) as checkpoints:
            checkpoints.begin_anew("operator-1", f"restored to {at}")
        (new,) = signed(url, site.checkpoints)
        pen.writer.close()
        positions = [row[0] for row in events_of(url)]
        assert positions == list(range(1, len(acknowledged) + 3))
        assert new.position == positions[-1]
        assert verify(url, checkpoints=[*early, new]).ok
        assert rebuilding.differences(again) == []
    finally:
        server.stop()
