"""The embedded server: what it promises, and what it survives. A test that changes anything has a server of its own.

Other processes are played by real ones: a supervisor that is to be killed runs in a process of its own.
"""

import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil
import psycopg
import pytest

from ledger.store import embedded
from ledger.store.embedded import (
    DataDirectoryInUse,
    DataDirectoryUnusable,
    EmbeddedPostgres,
    PostgresDidNotStart,
)
from ledger.store.postgres import account, cluster, holders, supervisor

_ROOT = Path(__file__).parents[2]
#: How long anything may take before a test gives up on it. Nothing is asserted about less.
_PATIENCE_SECONDS = 30
_SUPERVISE = """
import sys
from pathlib import Path
from ledger.store.embedded import EmbeddedPostgres
server = EmbeddedPostgres(Path(sys.argv[1]))
server.start()
print(server.pid, server.url, flush=True)
sys.stdin.read()
"""
_ADOPT = f"""
import ctypes, os, signal, subprocess, sys
from pathlib import Path
import psutil, psycopg
from ledger.store.embedded import EmbeddedPostgres
PR_SET_CHILD_SUBREAPER = 36
assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
command = [sys.executable, "-c", {_SUPERVISE!r}, sys.argv[1]]
with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as supervisor:
    first = int(supervisor.stdout.readline().split()[0])
    supervisor.kill()
    os.kill(first, signal.SIGKILL)
with EmbeddedPostgres(Path(sys.argv[1])) as server, psycopg.connect(server.url) as connection:
    print(first, psutil.Process(first).status(), connection.execute("SELECT 1").fetchone()[0], flush=True)
"""
_ATTACH = """
import sys
from pathlib import Path
import psycopg
from ledger.store import embedded
with embedded.attach(Path(sys.argv[1])) as url:
    print("attached", flush=True)
    sys.stdin.read()
    with psycopg.connect(url) as connection:
        connection.execute("SELECT 1")
"""

Events = list[tuple[str, dict[str, object]]]


@pytest.fixture
def events() -> Events:
    return []


@pytest.fixture
def server(data_dir: Path, events: Events) -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres(data_dir, on_event=lambda name, fields: events.append((name, fields))) as started:
        yield started


def eventually(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)


def ask(url: str, statement: str) -> object:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None


def is_answering(url: str) -> bool:
    try:
        return ask(url, "SELECT 1") == 1
    except psycopg.OperationalError:
        return False


def living(data_dir: Path) -> list[int]:
    return holders.alive(holders.mark(data_dir / "postgres"))


def names(events: Events) -> list[str]:
    return [name for name, _ in events]


@contextmanager
def running(program: str, data_dir: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a program against the data directory; it goes on until its standard input is closed."""
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(data_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(_ROOT), *sys.path])},
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def first_line(process: subprocess.Popen[str]) -> list[str]:
    assert process.stdout is not None
    return process.stdout.readline().split()


def finish(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.close()


# What it promises


def test_it_answers_on_a_database_of_its_own(postgres_url: str) -> None:
    assert ask(postgres_url, "SELECT current_database()") == "ledger"


@pytest.mark.parametrize("setting", ["fsync", "full_page_writes", "synchronous_commit", "data_checksums"])
def test_nothing_that_protects_data_is_off(postgres_url: str, setting: str) -> None:
    assert ask(postgres_url, f"SELECT current_setting('{setting}')") == "on"


def test_text_is_utf_8_and_sorts_the_same_everywhere(postgres_url: str) -> None:
    found = ask(
        postgres_url,
        "SELECT format('%s %s %s', pg_encoding_to_char(encoding), datlocprovider, datlocale) "
        "FROM pg_database WHERE datname = 'ledger'",
    )

    assert found == "UTF8 b C.UTF-8"


def test_only_its_user_reaches_it_and_only_through_the_socket(server: EmbeddedPostgres, data_dir: Path) -> None:
    assert ask(server.url, "SELECT current_setting('listen_addresses')") == ""
    for private in ("socket", "postgres", f"socket/{cluster.SOCKET_NAME}"):
        assert stat.S_IMODE((data_dir / private).stat().st_mode) == 0o700


def test_ctrl_c_in_the_terminal_does_not_reach_it(server: EmbeddedPostgres) -> None:
    assert server.pid is not None
    assert os.getpgid(server.pid) != os.getpgid(0)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_it_sees_none_of_our_secrets(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEDGER_MASTER_KEY", "made up")

    with EmbeddedPostgres(data_dir) as server:
        seen = Path(f"/proc/{server.pid}/environ").read_bytes()

    assert b"LEDGER" not in seen


def test_a_stop_leaves_no_process_and_a_start_finds_the_data(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir) as server:
        ask(server.url, "CREATE TABLE kept AS SELECT 42 AS answer")
    left = living(data_dir)
    with EmbeddedPostgres(data_dir) as server:
        answer = ask(server.url, "SELECT answer FROM kept")

    assert left == []
    assert answer == 42


def test_a_second_supervisor_is_refused(server: EmbeddedPostgres, data_dir: Path) -> None:
    second = EmbeddedPostgres(data_dir)

    with pytest.raises(DataDirectoryInUse, match=f"process {os.getpid()} "):
        second.start()

    assert is_answering(server.url)


@pytest.mark.parametrize("name", ["x" * 120, "a space, 100% \"quoted\" 'and' ünïcode"])
def test_any_path_will_do(data_dir: Path, name: str) -> None:
    with EmbeddedPostgres(data_dir / name) as server:
        answers = is_answering(server.url)
        noted = data_dir / name / "socket.path"
        outside = Path(noted.read_text()) if noted.exists() else None

    assert answers
    assert outside is None or not outside.exists()


# What it survives


@pytest.mark.parametrize("with_children", [False, True])
def test_a_killed_server_is_started_again_with_its_data(
    server: EmbeddedPostgres, data_dir: Path, with_children: bool
) -> None:
    ask(server.url, "CREATE TABLE kept AS SELECT 42 AS answer")
    first = server.pid
    assert first is not None

    for pid in living(data_dir) if with_children else [first]:
        with suppress(ProcessLookupError):  # a worker of the server's that has ended meanwhile
            os.kill(pid, signal.SIGKILL)
    eventually(lambda: server.is_running and server.pid != first)

    assert ask(server.url, "SELECT answer FROM kept") == 42


def test_a_backend_that_does_not_notice_its_orphanage_is_seen_off(server: EmbeddedPostgres, events: Events) -> None:
    first = server.pid
    assert first is not None
    failed: list[type[BaseException]] = []

    def work() -> None:
        try:  # never waits for anything, so never sees that the postmaster has gone
            ask(server.url, "SELECT count(*) FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b")
        except psycopg.OperationalError as error:
            failed.append(type(error))

    worker = threading.Thread(target=work)
    worker.start()
    eventually(lambda: ask(server.url, "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'SELECT count%'"))

    os.kill(first, signal.SIGKILL)
    eventually(lambda: server.is_running and server.pid != first)
    worker.join(_PATIENCE_SECONDS)

    assert "postgres_leftovers_signalled" in names(events)
    assert len(failed) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel tells the server")
@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM, None])
def test_the_server_does_not_outlive_its_supervisor(data_dir: Path, ending: signal.Signals | None) -> None:
    with running(_SUPERVISE, data_dir) as process:
        first_line(process)
        before = living(data_dir)
        if ending is None:
            finish(process)  # its program runs out, without a stop
        else:
            process.send_signal(ending)
        process.wait(_PATIENCE_SECONDS)

    assert before
    eventually(lambda: not living(data_dir))


@pytest.mark.parametrize("also_postmaster", [False, True])
def test_a_start_right_after_the_supervisor_was_killed_finds_the_data(data_dir: Path, also_postmaster: bool) -> None:
    with running(_SUPERVISE, data_dir) as process:
        pid, url = first_line(process)
        ask(url, "CREATE TABLE kept AS SELECT 42 AS answer")
        process.kill()
        if also_postmaster:
            os.kill(int(pid), signal.SIGKILL)
        process.wait(_PATIENCE_SECONDS)
        with EmbeddedPostgres(data_dir) as server:
            answer = ask(server.url, "SELECT answer FROM kept")

    assert answer == 42
    assert not psutil.pid_exists(int(pid)) or psutil.Process(int(pid)).status() == psutil.STATUS_ZOMBIE


@pytest.mark.skipif(sys.platform != "linux", reason="orphans are adopted by way of prctl")
def test_a_predecessor_that_nobody_buries_does_not_matter(data_dir: Path) -> None:
    """A process of its own adopts the orphans, as a PID 1 would, and never collects them."""
    with running(_ADOPT, data_dir) as process:
        first, status, answer = first_line(process)
        code = process.wait(_PATIENCE_SECONDS)

    assert int(first) > 0
    assert status == psutil.STATUS_ZOMBIE
    assert answer == "1"
    assert code == 0


@pytest.mark.parametrize("content", ["{pid}\n", "", "nonsense\n"])
def test_a_stale_pid_file_is_not_believed(data_dir: Path, events: Events, content: str) -> None:
    with EmbeddedPostgres(data_dir):
        pass
    pgdata = data_dir / "postgres"
    owner = pgdata.stat()
    # Of the server's own user: PostgreSQL itself already ignores processes of others.
    user = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []} if os.geteuid() == 0 else {}
    stranger = subprocess.Popen(["sleep", "600"], cwd="/", **user)  # type: ignore[call-overload]
    (pgdata / "postmaster.pid").write_text(content.format(pid=stranger.pid))

    try:
        with EmbeddedPostgres(data_dir, on_event=lambda name, fields: events.append((name, fields))) as server:
            answers = is_answering(server.url)
        survived = stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()

    assert answers
    assert survived
    assert "stale_files_removed" in names(events)


def test_a_server_that_somebody_else_started_is_left_alone(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir):
        pass
    user = account.account_for(data_dir)
    switch = {"user": user.uid, "group": user.gid, "extra_groups": []} if user.is_other else {}
    pgdata = data_dir / "postgres"
    theirs = subprocess.Popen(
        [cluster.programs() / "postgres", "-D", pgdata, "-c", "listen_addresses=", "-k", data_dir / "socket"],
        cwd="/",
        stderr=subprocess.DEVNULL,
        **switch,  # type: ignore[call-overload]
    )
    try:
        eventually(lambda: holders.pid_on_file(pgdata) == theirs.pid)

        with pytest.raises(DataDirectoryUnusable, match=f"{theirs.pid}, not ours"):
            EmbeddedPostgres(data_dir).start()
        survived = theirs.poll() is None
    finally:
        theirs.send_signal(signal.SIGINT)
        theirs.wait(_PATIENCE_SECONDS)

    assert survived


def test_a_cluster_that_cannot_start_is_reported_with_its_log(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir):
        pass
    (data_dir / "postgres" / "global" / "pg_control").unlink()
    server = EmbeddedPostgres(data_dir)

    with pytest.raises(PostgresDidNotStart, match=r"pg_control"):
        server.start()

    assert living(data_dir) == []
    assert not server.is_supervising


def test_a_creation_that_was_interrupted_is_begun_again(data_dir: Path) -> None:
    half = data_dir / "postgres.new-half"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")

    with EmbeddedPostgres(data_dir) as server:
        answers = is_answering(server.url)

    assert answers
    assert not half.exists()


@pytest.mark.parametrize(("file", "reason"), [("PG_VERSION", "PostgreSQL 12"), ("letters", "neither empty nor")])
def test_what_is_not_our_cluster_is_not_touched(data_dir: Path, file: str, reason: str) -> None:
    pgdata = data_dir / "postgres"
    pgdata.mkdir(parents=True)
    (pgdata / file).write_text("12\n")
    if os.geteuid() == 0:
        system_user = account.ensure_system_user()
        for path in (pgdata, pgdata / file):
            os.chown(path, system_user.uid, system_user.gid)

    with pytest.raises(DataDirectoryUnusable, match=reason):
        EmbeddedPostgres(data_dir).start()

    assert [path.name for path in pgdata.iterdir()] == [file]


def test_pauses_between_starts_grow_up_to_a_bound() -> None:
    pauses = [supervisor._pause(deaths) for deaths in range(1, 10)]

    assert pauses == [0.0, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]
    assert supervisor._pause(10_000) == 5.0


def test_a_server_that_answered_is_not_kept_waiting() -> None:
    assert supervisor._pause(supervisor._deaths(7, answered_seconds=60.0)) == 0.0
    assert supervisor._pause(supervisor._deaths(7, answered_seconds=0.1)) == 0.2
    assert supervisor._pause(supervisor._deaths(7, answered_seconds=0.0)) == 5.0


def test_the_log_does_not_grow_without_bound(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_LOG_BYTES_MAX", 1000)
    data_dir.mkdir()
    log = data_dir / "postgres.log"
    log.write_text("old" * 1000)

    with EmbeddedPostgres(data_dir):
        pass

    assert "old" not in log.read_text()
    assert "old" in (data_dir / "postgres.log.1").read_text()


# Who may pass


def test_only_search_is_opened_and_only_where_it_lacks(data_dir: Path) -> None:
    closed, inner = data_dir / "closed", data_dir / "closed" / "inner"
    inner.mkdir(parents=True)
    closed.chmod(0o700)
    inner.chmod(0o700)
    somebody = account.Account(uid=54321, gid=os.getegid() if os.geteuid() else 54321, name=None, is_other=True)

    changed = account.open_way(inner, somebody)
    again = account.open_way(inner, somebody)

    assert changed[-2:] == [closed, inner]
    assert again == []
    assert stat.S_IMODE(inner.stat().st_mode) == 0o710
    assert stat.S_IMODE(closed.stat().st_mode) == (0o710 if somebody.gid == closed.stat().st_gid else 0o701)


# How others find it


def test_no_server_is_found_where_none_runs(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir):
        file = (data_dir / "server.json").read_bytes()
    (data_dir / "server.json").write_bytes(file)  # as a killed supervisor leaves it

    assert embedded.running_url(data_dir) is None
    assert embedded.running_url(data_dir / "elsewhere") is None


def test_attach_finds_the_running_server(server: EmbeddedPostgres, data_dir: Path) -> None:
    before = server.pid

    with embedded.attach(data_dir) as url:
        answers = is_answering(url)

    assert answers
    assert embedded.running_url(data_dir) == url == server.url
    assert server.pid == before


def test_attach_starts_a_server_for_as_long_as_it_is_needed(data_dir: Path) -> None:
    with embedded.attach(data_dir) as url:
        answers = is_answering(url)

    assert answers
    assert living(data_dir) == []


def test_of_many_who_attach_at_once_to_nothing_each_is_served(data_dir: Path) -> None:
    with running(_ATTACH, data_dir) as one, running(_ATTACH, data_dir) as two, running(_ATTACH, data_dir) as three:
        for process in (one, two, three):
            finish(process)
        codes = [process.wait(_PATIENCE_SECONDS) for process in (one, two, three)]

    assert codes == [0, 0, 0]
    assert living(data_dir) == []


def test_who_started_it_waits_for_the_others(data_dir: Path) -> None:
    with ExitStack() as stack:
        with embedded.attach(data_dir, guests_seconds=_PATIENCE_SECONDS):
            guest = stack.enter_context(running(_ATTACH, data_dir))
            first_line(guest)
            later = threading.Timer(0.3, finish, [guest])  # most likely after we want to go; harmless if before
            later.start()
        later.join()
        code = guest.wait(_PATIENCE_SECONDS)

    assert code == 0


def test_a_guest_takes_over_when_the_supervisor_is_killed(data_dir: Path, events: Events) -> None:
    with running(_SUPERVISE, data_dir) as process:
        _, url = first_line(process)
        ask(url, "CREATE TABLE kept AS SELECT 42 AS answer")
        with embedded.attach(data_dir, lambda name, fields: events.append((name, fields))) as attached:
            process.kill()
            eventually(lambda: "postgres_ready" in names(events) and is_answering(attached))
            answer = ask(attached, "SELECT answer FROM kept")

    assert attached == url
    assert answer == 42
    assert living(data_dir) == []
