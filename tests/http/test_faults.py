"""What callers see when the database goes away, hangs or comes back, and when a connection is slow."""

import http.client
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.http.callbacks import Callback, found, history, meta, meta_status, new_wamid, only, send, twilio
from tests.http.test_api import register, registered
from tests.plugins.service import OURS, PATIENCE_SECONDS, Service, eventually

#: An answer leaves within this time whatever the database does (design, decision 15).
ANSWER_SECONDS_MAX = 5.0
#: A request must have arrived within this time; the connection is closed a moment later.
RECEIVE_SECONDS_MAX = 6.0


@pytest.fixture(scope="module")
def faulty(start_module_service, new_database) -> Service:
    """A server whose database these tests take away."""
    return start_module_service(new_database())


class Outside:
    """Somebody with a connection to another database of the same server."""

    def __init__(self, database_url: str) -> None:
        self.name = str(conninfo_to_dict(database_url)["dbname"])
        self._connection = psycopg.connect(make_conninfo(database_url, dbname="postgres"), autocommit=True)

    def allow(self, allowed: bool) -> None:
        statement = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
        self._connection.execute(statement.format(sql.Identifier(self.name), sql.Literal(allowed)))

    def cut(self) -> int:
        """End every connection of the server and return how many there were."""
        statement = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND application_name <> %s"
        )
        return len(self._connection.execute(statement, (self.name, OURS)).fetchall())

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def outside(faulty) -> Iterator[Outside]:
    outside = Outside(faulty.database_url)
    yield outside
    outside.allow(True)
    outside.close()


@contextmanager
def database_away(outside: Outside) -> Iterator[None]:
    outside.allow(False)
    outside.cut()
    try:
        yield
    finally:
        outside.allow(True)


def recovered(service: Service) -> None:
    eventually(lambda: service.client().get("/readyz").status_code == 200, "ready again", 10)


def refusal(answer: httpx.Response) -> None:
    """Check a 503: a problem that says when to come back."""
    assert answer.status_code == 503, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "unavailable"
    assert 1 <= int(answer.headers["retry-after"]) <= 5


def timed(ask: Any) -> httpx.Response:
    """Ask, and check that the answer came in time."""
    started = time.monotonic()
    answer = ask()
    assert time.monotonic() - started <= ANSWER_SECONDS_MAX
    return answer


# The database


def test_without_a_database_everybody_is_told_to_come_back(faulty, outside):
    api, wamid = faulty.api(), new_wamid()
    message_id = registered(api)
    with database_away(outside):
        asked = [
            lambda: send(faulty, meta(meta_status(wamid))),
            lambda: send(faulty, twilio("SM-away")),
            lambda: send(faulty, meta(*(meta_status(new_wamid()) for _ in range(50)))),
            lambda: register(api, provider_message_id=wamid),
            lambda: register(api, key=new_wamid()),
            lambda: api.get(f"/v1/messages/{message_id}"),
            lambda: api.get("/v1/messages"),
            lambda: api.get(f"/v1/messages/{message_id}/history"),
            lambda: api.post(f"/v1/messages/{message_id}/handoff", json={"provider_message_id": wamid}),
            lambda: api.get(f"/api/v1/whatsapp/messages/{message_id}"),
        ]
        with ThreadPoolExecutor(len(asked)) as pool:
            answers = list(pool.map(timed, asked))

        for answer in answers:
            refusal(answer)
        ready = timed(lambda: faulty.client().get("/readyz"))
        assert (ready.status_code, ready.json()["ready"], ready.json()["database"]) == (503, False, "unavailable")
        assert faulty.client().get("/livez").status_code == 200
        assert faulty.client().get("/metrics").status_code == 200
    recovered(faulty)


def test_an_outage_ends_for_us_when_it_ends_however_many_have_asked_meanwhile(faulty, outside):
    """Callers that give up must not use up what the connection pool allows to wait: it would never connect again."""
    api, wamid = faulty.api(), new_wamid()
    with database_away(outside), ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: timed(lambda: api.get("/v1/messages")).status_code, range(40)))

    assert set(answers) == {503}
    eventually(lambda: api.get("/v1/messages").status_code == 200, "readable again", 5)
    eventually(lambda: send(faulty, meta(meta_status(wamid))).status_code == 200, "writable again", 5)


def test_without_a_database_the_unauthentic_is_refused_all_the_same(faulty, outside):
    with database_away(outside):
        forged = meta(meta_status(new_wamid()))._replace(body=b"{}")
        assert send(faulty, forged).status_code == 401
        assert send(faulty, forged._replace(account="nobody")).status_code == 404
        nothing = Callback("meta-main", b"", {"content-type": "text/plain"})
        assert send(faulty, nothing).status_code == 415
    recovered(faulty)


def test_what_was_refused_is_not_half_written_and_is_recorded_when_it_comes_again(faulty, outside):
    api, wamids = faulty.api(), [new_wamid() for _ in range(20)]
    batch = meta(*(meta_status(wamid, "delivered") for wamid in wamids))
    before = faulty.rows("SELECT count(*), (SELECT count(*) FROM current_status) FROM events")
    with database_away(outside):
        refusal(send(faulty, batch))

    recovered(faulty)
    between = faulty.rows("SELECT count(*), (SELECT count(*) FROM current_status) FROM events")
    assert send(faulty, batch).status_code == 200

    assert before == between
    assert faulty.rows("SELECT count(*), (SELECT count(*) FROM current_status) FROM events") == [
        (before[0][0] + 20, before[0][1] + 20)
    ]
    assert {only(api, wamid)["version"] for wamid in wamids} == {1}


def test_cut_connections_lose_nothing_and_repeat_nothing(faulty, outside):
    """Every callback answered 200 is on record once, also when its connection was cut between commit and answer."""
    api = faulty.api()
    answered: dict[str, int] = {}
    cuts: list[int] = []
    enough = threading.Event()

    def cut() -> None:
        while not enough.wait(0.3):
            cuts.append(outside.cut())
            if len([count for count in cuts if count]) >= 5:
                enough.set()

    def deliver(_: int) -> None:
        with faulty.another_client() as client:
            while not enough.is_set():
                wamid = new_wamid()
                answered[wamid] = send(faulty, meta(meta_status(wamid, "delivered")), client=client).status_code

    with ThreadPoolExecutor(5) as pool:
        cutting = pool.submit(cut)
        list(pool.map(deliver, range(4)))
        cutting.result()
    recovered(faulty)

    assert set(answered.values()) <= {200, 503}
    assert list(answered.values()).count(200) > 20
    for wamid in [wamid for wamid, status in answered.items() if status == 503]:
        assert send(faulty, meta(meta_status(wamid, "delivered"))).status_code == 200
    assert {only(api, wamid)["version"] for wamid in answered} == {1}
    assert faulty.rows("SELECT count(*) - max(position) FROM events") == [(0,)]


def test_a_lock_that_somebody_holds_ends_in_503_and_not_in_a_hang(faulty):
    api, wamid = faulty.api(), new_wamid()
    with psycopg.connect(faulty.database_url) as holder:
        holder.execute("LOCK TABLE partition_heads IN ACCESS EXCLUSIVE MODE")

        refusal(timed(lambda: send(faulty, meta(meta_status(wamid)))))
        refusal(timed(lambda: register(api)))
        assert timed(lambda: api.get("/v1/messages")).status_code == 200  # reading needs no such lock

    assert send(faulty, meta(meta_status(wamid))).status_code == 200
    assert len(history(api, only(api, wamid))) == 1


def test_a_read_only_database_is_one_that_is_away(faulty, outside):
    api, wamid = faulty.api(), new_wamid()
    setting = sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = {}")
    identifier = sql.Identifier(outside.name)
    try:
        outside._connection.execute(setting.format(identifier, sql.Literal("on")))
        outside.cut()

        refusal(timed(lambda: send(faulty, meta(meta_status(wamid)))))
        assert api.get("/v1/messages").status_code in (200, 503)
    finally:
        outside._connection.execute(setting.format(identifier, sql.Literal("off")))
        outside.cut()

    eventually(lambda: send(faulty, meta(meta_status(wamid))).status_code == 200, "writable again", 10)
    assert only(api, wamid)["version"] == 1


def test_a_full_queue_is_answered_503(start_service, database_url):
    small = start_service(database_url, queue_max="10")
    batches = [meta(*(meta_status(new_wamid()) for _ in range(5))) for _ in range(40)]
    with psycopg.connect(small.database_url) as holder:
        holder.execute("LOCK TABLE partition_heads IN ACCESS EXCLUSIVE MODE")
        with ThreadPoolExecutor(40) as pool:
            answers = list(pool.map(lambda batch: timed(lambda: send(small, batch)), batches))

    for answer in answers:
        refusal(answer)
    assert {send(small, batch).status_code for batch in batches} == {200}
    assert small.rows("SELECT count(*) FROM events") == [(200,)]


@contextmanager
def poisoned(service: Service, account: str, wamid: str, text: str = "poisoned") -> Iterator[None]:
    """Let the database refuse one message's events, for a reason that does not go away, in words of its own."""
    stream_id = service.parts.names.stream_id(account, wamid)
    function = sql.SQL(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION USING ERRCODE = 'division_by_zero', MESSAGE = {}; END $$"
    )
    trigger = sql.SQL(
        "CREATE TRIGGER refuse BEFORE INSERT ON events FOR EACH ROW WHEN (NEW.stream_id = {}) EXECUTE FUNCTION refuse()"
    )
    with psycopg.connect(service.database_url, autocommit=True) as connection:
        connection.execute(function.format(sql.Literal(text)))
        connection.execute(trigger.format(sql.Literal(stream_id)))
        yield
        connection.execute("DROP TRIGGER refuse ON events; DROP FUNCTION refuse()")


def test_a_statement_that_cannot_be_recorded_harms_no_neighbour_and_is_kept(faulty):
    api, first, bad, last = faulty.api(), new_wamid(), new_wamid(), new_wamid()
    batch = meta(meta_status(first), meta_status(bad), meta_status(last))

    with poisoned(faulty, "meta-main", bad):
        answer = timed(lambda: send(faulty, batch))

    assert answer.status_code == 200
    assert (only(api, first)["status"], only(api, last)["status"]) == ("SENT", "SENT")
    assert found(api, bad) == []
    assert batch.body in [content for _, content in faulty.captured("meta-main")]
    assert send(faulty, batch).status_code == 200
    assert only(api, bad)["version"] == 1


def test_a_registration_that_cannot_be_recorded_is_answered_500_under_an_id(faulty):
    api, bad = faulty.api(), new_wamid()

    with poisoned(faulty, "meta-main", bad):
        answer = register(api, provider_message_id=bad)

    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert answer.json()["request_id"] in faulty.log()
    assert found(api, bad) == []


# Slow connections


HEAD = b"POST /webhooks/meta-main HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"

SLOW = {
    "nothing": [],
    "half a request line": [b"POST /webh"],
    "half a head": [HEAD],
    "no body": [HEAD + b"content-length: 100\r\n\r\n"],
    "half a body": [HEAD + b"content-length: 100\r\n\r\n{"],
    "half a chunk": [HEAD + b"transfer-encoding: chunked\r\n\r\n64\r\n{"],
    "no last chunk": [HEAD + b"transfer-encoding: chunked\r\n\r\n1\r\n{\r\n"],
    "half an api body": [
        b"POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{"
    ],
}


def seconds_until_closed(service: Service, parts: list[bytes], drip: bytes = b"") -> float:
    """Send a part of a request and return how long the server keeps the connection; `drip` goes on, byte by byte."""
    started = time.monotonic()
    with socket.create_connection(service.address, timeout=0.25) as connection:
        try:
            for part in parts:
                connection.sendall(part)
            for number in range(10_000):
                assert time.monotonic() - started < PATIENCE_SECONDS, "never closed"
                try:
                    if not connection.recv(65_536):
                        break
                except TimeoutError:
                    if drip:
                        connection.sendall(drip[number : number + 1] or b"x")
        except (ConnectionResetError, BrokenPipeError):
            pass
    return time.monotonic() - started


def test_a_connection_whose_request_does_not_arrive_is_closed(service):
    """All at once, because each takes the whole deadline; meanwhile others are served as ever."""
    drips = {
        "a dripping head": ([HEAD], b"x-slow: " + b"y" * 100),
        "a dripping body": ([HEAD + b"content-length: 100000\r\n\r\n"], b"{" * 100),
    }
    before = len(service.log())
    idle = http.client.HTTPConnection(*service.address, timeout=PATIENCE_SECONDS)
    assert livez(idle) == 200
    idle.auto_open = 0  # from here on a closed connection is an error

    with ThreadPoolExecutor(len(SLOW) + len(drips)) as pool:
        closing = {name: pool.submit(seconds_until_closed, service, parts) for name, parts in SLOW.items()}
        closing |= {name: pool.submit(seconds_until_closed, service, *told) for name, told in drips.items()}
        answers = [timed(lambda: send(service, meta(meta_status(new_wamid())))).status_code for _ in range(50)]
        lasted = {name: future.result() for name, future in closing.items()}

    assert set(answers) == {200}
    assert {} == {name: seconds for name, seconds in lasted.items() if not 1 < seconds < 2 * RECEIVE_SECONDS_MAX}
    assert "Traceback" not in service.log()[before:]
    assert livez(idle) == 200  # the deadline is for receiving; between requests a connection may rest
    idle.close()


def livez(connection: http.client.HTTPConnection) -> int:
    connection.request("GET", "/livez")
    with connection.getresponse() as answer:
        answer.read()
        return answer.status


def test_two_requests_sent_at_once_are_answered_in_order(service):
    requests = b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\nGET /nothing HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    received = b""
    with socket.create_connection(service.address, timeout=PATIENCE_SECONDS) as connection:
        connection.sendall(requests)
        while chunk := connection.recv(65_536):
            received += chunk

    assert received.index(b"HTTP/1.1 200") < received.index(b"HTTP/1.1 404")
