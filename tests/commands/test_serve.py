"""`serve`: ready line, signals, workers, and what it refuses to serve from."""

import os
import re
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import httpx
import psutil
import psycopg
import pytest

from tests.commands.test_admin import altered
from tests.http.callbacks import meta, meta_status, new_wamid, only, send
from tests.plugins.service import PATIENCE_SECONDS, READY, Service, eventually

#: A drain that takes longer is cut (docs/commands.md), and a process is ended a moment later.
DRAIN_SECONDS_MAX = 10.0

WORKERS = pytest.mark.parametrize("workers", [1, 2])


def children(service: Service) -> list[psutil.Process]:
    return psutil.Process(service.process.pid).children()


def alive(service: Service) -> list[psutil.Process]:
    """Return the workers that run; a dead one may still be in the process list."""
    running = []
    for child in children(service):
        with suppress(psutil.NoSuchProcess):
            if child.status() != psutil.STATUS_ZOMBIE:
                running.append(child)
    return running


def ended(service: Service, number: int = signal.SIGTERM) -> int:
    """End the server with a signal, check that it takes no longer than it may, and return the exit code."""
    started = time.monotonic()
    code = service.stop(number)
    assert time.monotonic() - started <= DRAIN_SECONDS_MAX
    return code


# Start


@WORKERS
def test_one_line_says_where_it_answers(start_service, database_url, workers):
    service = start_service(database_url, "--workers", str(workers))

    assert service.printed == f"{READY}{service.url}\n"
    assert re.fullmatch(r"http://127\.0\.0\.1:[1-9]\d*", service.url)
    assert service.client().get("/livez").text == "ok"
    ready = service.client().get("/readyz")
    followed = ready.json().pop("projections")
    assert (ready.status_code, {**ready.json(), "projections": {}}) == (
        200,
        {"ready": True, "database": "ok", "waiting": 0, "positions": {"0": 0}, "projections": {}},
    )
    assert all(lag["events"] == 0 for lag in followed.values())


def test_it_applies_migrations_first(start_service, make_database):
    service = start_service(make_database())

    assert service.client().get("/readyz").status_code == 200


def test_without_migrating_it_refuses_a_database_without_tables(run, make_database):
    ended = run("serve", "--no-migrate", "--port", "0", database_url=make_database())

    assert (ended.code, ended.out) == (1, "")
    assert "status-ledger migrate" in ended.err


@pytest.mark.parametrize(("setting", "value"), [("synchronous_commit", "off"), ("default_transaction_read_only", "on")])
def test_it_refuses_a_database_that_would_lose_what_was_acknowledged(run, database_url, setting, value):
    altered(database_url, setting, value)

    ended = run("serve", "--no-migrate", "--port", "0", database_url=database_url)

    assert (ended.code, ended.out) == (1, "")
    assert len(ended.errors) == 1
    assert ("writable" if setting.startswith("default") else setting) in ended.err


def test_it_refuses_another_partition_count(run):
    for arguments in (["serve", "--port", "0"], ["serve", "--no-migrate", "--port", "0"]):
        ended = run(*arguments, partitions="2")
        assert (ended.code, ended.out) == (1, "")
        assert "the database has 1 partitions, LEDGER_PARTITIONS says 2" in ended.err


def test_it_refuses_other_secrets_than_the_databases(start_service, database_url, run):
    start_service(database_url).stop()

    ended = run("serve", "--port", "0", database_url=database_url, deployment_secret="YW5vdGhlciBzZWNyZXQgb2YgdGVzdHM=")

    assert (ended.code, ended.out) == (1, "")
    assert "LEDGER_DEPLOYMENT_SECRET" in ended.err
    assert "YW5vdGhlci" not in ended.err


def test_it_refuses_an_address_that_is_taken(run, database_url):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        ended = run("serve", "--port", port, database_url=database_url)

    assert (ended.code, ended.out) == (1, "")
    assert ended.errors == [f"status-ledger: cannot listen on 127.0.0.1:{port}: Address already in use"]


def test_it_refuses_the_librarys_database_functions(run, monkeypatch):
    monkeypatch.setenv("POSTGRES_ENABLE_DB_FUNCTIONS", "y")

    ended = run("serve", "--port", "0")

    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("status-ledger: POSTGRES_ENABLE_DB_FUNCTIONS")


def test_arguments_count_before_settings(start_service, database_url):
    service = start_service(database_url, "--host", "localhost", host="192.0.2.1", port="1")

    assert service.url.startswith("http://127.0.0.1:")


def test_it_listens_on_ipv6(start_service, database_url):
    service = start_service(database_url, "--host", "::1")

    assert service.url.startswith("http://[::1]:")
    assert service.client().get("/livez").status_code == 200


def test_links_follow_the_public_url(start_service, database_url):
    service = start_service(database_url, public_url="https://status.example.com/")

    told = service.api().post("/v1/messages", json={"channel": "whatsapp"}).json()

    assert told["status_url"] == f"https://status.example.com/v1/messages/{told['message_id']}"


def test_upkeep_alone_listens_nowhere_and_ends_when_told(start_service, database_url, monkeypatch):
    monkeypatch.setattr("tests.plugins.service.READY", "status-ledger is working")

    service = start_service(database_url, "--role", "work")

    assert service.printed == "status-ledger is working\n"
    assert psutil.Process(service.process.pid).net_connections("tcp") == []
    assert ended(service) == 0


# Workers


def test_workers_share_one_address_and_one_set_of_metrics(start_service, database_url):
    service = start_service(database_url, "--workers", "3")
    wamids = [new_wamid() for _ in range(60)]

    def deliver(wamid: str) -> int:
        with service.another_client() as client:
            return send(service, meta(meta_status(wamid)), client=client).status_code

    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(deliver, wamids))

    assert set(answers) == {200}
    assert len(children(service)) == 3
    assert 'ledger_webhooks_total{account="meta-main",answer="200"} 60.0' in service.client().get("/metrics").text


def test_a_killed_worker_is_replaced(start_service, database_url):
    service = start_service(database_url, "--workers", "2")
    victim, survivor = children(service)

    victim.kill()

    eventually(lambda: victim not in alive(service) and len(alive(service)) == 2, "a new worker")
    assert survivor in children(service)
    assert "worker_restarted" in service.log()
    wamid = new_wamid()
    eventually(lambda: send(service, meta(meta_status(wamid))).status_code == 200, "an answer")
    assert only(service.api(), wamid)["version"] == 1
    assert ended(service) == 0


def test_killing_every_worker_again_and_again_does_not_end_the_service(start_service, database_url):
    service = start_service(database_url, "--workers", "2")

    for _ in range(2):
        for child in children(service):
            child.kill()
        eventually(lambda: answers(service), "answering again")

    assert ended(service) == 0


def answers(service: Service) -> bool:
    try:
        with service.another_client() as client:
            return client.get("/livez", timeout=1).status_code == 200
    except httpx.TransportError:
        return False


def test_workers_do_not_outlive_their_parent(start_service, database_url):
    service = start_service(database_url, "--workers", "2")
    workers = children(service)

    service.stop(signal.SIGKILL)

    gone, alive = psutil.wait_procs(workers, timeout=PATIENCE_SECONDS)
    assert (len(gone), alive) == (2, [])


# End


@WORKERS
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_0(start_service, database_url, workers, number):
    service = start_service(database_url, "--workers", str(workers))
    workers_before = children(service)

    assert ended(service, number) == 0
    assert not [worker for worker in workers_before if worker.is_running()]
    assert "Traceback" not in service.log()


@WORKERS
def test_requests_under_way_are_answered_before_it_ends(start_service, database_url, workers):
    """Their statements wait for a lock while the signal comes; nobody's connection is reset."""
    service = start_service(database_url, "--workers", str(workers))
    wamids = [new_wamid() for _ in range(6)]

    with psycopg.connect(database_url) as holder, ThreadPoolExecutor(6) as pool:
        holder.execute("LOCK TABLE partition_heads IN ACCESS EXCLUSIVE MODE")
        asking = [pool.submit(post, service, wamid) for wamid in wamids]
        eventually(lambda: waiting(service) == len(wamids), "waiting statements")
        service.tell_to_end()
        eventually(lambda: "Shutting down" in service.log(), "the end begins")
        holder.rollback()
        answered = [future.result() for future in asking]

    assert set(answered) == {200}
    assert service.stop() == 0
    assert service.rows("SELECT count(*) FROM events") == [(6,)]


def post(service: Service, wamid: str) -> int:
    with service.another_client() as client:
        return send(service, meta(meta_status(wamid)), client=client).status_code


def waiting(service: Service) -> float:
    """Return how many statements wait in all processes; each counts its own when it is asked."""
    with service.another_client() as client:
        text = client.get("/metrics").text
    return sum(float(value) for value in re.findall(r"^ledger_queue_statements(?:{.*})? (\S+)$", text, re.MULTILINE))


def is_blocked(connection: psycopg.Connection) -> bool:
    waiting = connection.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone()
    return waiting is not None and waiting[0] > 0


@WORKERS
def test_a_waiting_reader_is_answered_when_it_ends(start_service, database_url, workers):
    """`Prefer: wait` may be longer than a drain may take."""
    service = start_service(database_url, "--workers", str(workers))
    _, secret = service.new_key("meta-main", "whatsapp")
    message_id = service.client(secret).post("/v1/messages", json={"channel": "whatsapp"}).json()["message_id"]

    def wait(_: int) -> httpx.Response:
        with service.another_client(secret) as client:
            return client.get(f"/v1/messages/{message_id}", headers={"prefer": "wait=30"}, timeout=40)

    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(wait, number) for number in range(8)]
        eventually(lambda: connections(service) >= 8, "eight readers")
        code = ended(service)
        told = [future.result() for future in waiting]

    assert code == 0
    assert {(answer.status_code, answer.json()["status"]) for answer in told} == {(200, "UNKNOWN")}


def connections(service: Service) -> int:
    """Return how many connections the server has accepted."""
    processes = [psutil.Process(service.process.pid), *children(service)]
    return sum(one.status == "ESTABLISHED" for process in processes for one in process.net_connections("tcp"))


@WORKERS
def test_callbacks_during_the_end_are_answered_or_refused_and_never_half_done(start_service, database_url, workers):
    service = start_service(database_url, "--workers", str(workers))
    answered: dict[str, int] = {}
    over = threading.Event()

    def deliver(_: int) -> None:
        with service.another_client() as client:
            while not over.is_set():
                wamid = new_wamid()
                try:
                    answered[wamid] = send(service, meta(meta_status(wamid)), client=client).status_code
                except httpx.TransportError:
                    return  # nobody listens any more

    with ThreadPoolExecutor(4) as pool:
        delivering = [pool.submit(deliver, number) for number in range(4)]
        eventually(lambda: len(answered) > 50, "traffic")
        code = ended(service)
        over.set()
        for future in delivering:
            future.result()

    assert code == 0
    assert set(answered.values()) == {200}
    recorded = service.rows("SELECT count(*), count(DISTINCT stream_id) FROM events")[0]
    assert recorded[0] == recorded[1] >= len(answered)


def test_a_second_signal_ends_it_at_once(start_service, database_url):
    service = start_service(database_url)

    with psycopg.connect(database_url) as holder, ThreadPoolExecutor(1) as pool:
        holder.execute("LOCK TABLE partition_heads IN ACCESS EXCLUSIVE MODE")
        asking = pool.submit(post, service, new_wamid())
        eventually(lambda: is_blocked(holder), "a waiting append")
        os.kill(service.process.pid, signal.SIGTERM)
        eventually(lambda: "Shutting down" in service.log(), "the end begins")
        code = ended(service, signal.SIGTERM)
        holder.rollback()

    assert code == 0
    assert isinstance(asking.exception(), httpx.TransportError) or asking.result() != 200
