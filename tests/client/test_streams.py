"""A followed stream across connections that break anywhere: every event once, whatever a server does to it."""

import socket
import threading
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger_client.errors import Refused, Unreachable
from ledger_client.streams import Stream
from ledger_client.transport import Transport

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
EVENTS = 6


def block(number: int) -> bytes:
    return b'id: %d\nevent: change\ndata: {"n":\ndata: %d}\n\n' % (number, number)


class Server:
    """Speaks just enough HTTP. Every connection is sent events from its Last-Event-ID on, up to a number of bytes."""

    def __init__(self, budgets: list[int | bytes]) -> None:
        """`budgets`: for each connection how many bytes it is sent before it breaks, or a whole other answer."""
        self._budgets = budgets
        self.asked: list[str | None] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        for budget in [*self._budgets, 1 << 30]:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                told = b""
                while b"\r\n\r\n" not in told:
                    told += connection.recv(65_536)
                lines = [line for line in told.decode().split("\r\n") if line.lower().startswith("last-event-id:")]
                last = lines[0].partition(":")[2].strip() if lines else None
                self.asked.append(last)
                if isinstance(budget, bytes):
                    connection.sendall(budget)
                    continue
                body = b": hello\nretry: 1\n\n" + b"".join(block(n) for n in range(int(last or 0) + 1, EVENTS + 1))
                sent = HEAD + b"".join(b"%x\r\n%s\r\n" % (len(line), line) for line in body.splitlines(keepends=True))
                connection.sendall(sent[:budget])

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def serve() -> Iterator[Callable[[list[int | bytes]], Server]]:
    servers: list[Server] = []

    def start(budgets: list[int | bytes]) -> Server:
        servers.append(Server(budgets))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def followed(server: Server, patience_seconds: float = 10.0, last_id: str | None = None) -> list[bytes]:
    """Follow until the last event."""
    with (
        Transport(server.url, patience_seconds=patience_seconds) as transport,
        Stream(transport, "/v1/events", {}, bytes, last_id, retry_seconds=0.01) as stream,
    ):
        found = []
        for event in stream:
            found.append(event)
            if len(found) == EVENTS - int(last_id or 0):
                break
    return found


def expected(first: int = 1) -> list[bytes]:
    return [b'{"n":\n%d}' % number for number in range(first, EVENTS + 1)]


@given(st.lists(st.integers(0, 700), max_size=4))
def test_wherever_connections_break_every_event_comes_once(budgets):
    server = Server([*budgets])
    try:
        assert followed(server) == expected()
    finally:
        server.close()


def test_it_begins_where_it_is_told_to(serve):
    server = serve([])

    assert followed(server, last_id="4") == expected(5)
    assert server.asked == ["4"]


def test_an_id_without_data_is_kept_and_nothing_is_handed_out(serve):
    server = serve([HEAD + b"9\r\nid: 3\n\n\n\r\n0\r\n\r\n"])

    with Transport(server.url) as transport, Stream(transport, "/", {}, bytes, None, retry_seconds=0.01) as stream:
        events = iter(stream)
        assert next(events) == expected(4)[0]
        assert stream.last_id == "4"
    assert server.asked == [None, "3"]


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_it_comes_back_when_told_to_come_later(serve, status):
    later = b"HTTP/1.1 %d Later\r\ncontent-length: 2\r\n\r\n{}" % status
    server = serve([later, later])

    with Transport(server.url) as transport, Stream(transport, "/", {}, bytes, None, retry_seconds=0.01) as stream:
        assert next(iter(stream)) == expected()[0]


def test_a_refusal_is_final(serve):
    problem = b'{"code":"key_unknown","status":401}'
    server = serve([b"HTTP/1.1 401 No\r\ncontent-length: %d\r\n\r\n%s" % (len(problem), problem)])

    with pytest.raises(Refused) as refused:
        followed(server)

    assert (refused.value.status, refused.value.code) == (401, "key_unknown")


def test_where_nobody_answers_it_gives_up():
    with Transport("http://127.0.0.1:1", patience_seconds=0.1) as transport:
        stream = Stream(transport, "/", {}, bytes, None, retry_seconds=0.01)

        with pytest.raises(Unreachable):
            list(stream)
