"""The transport tries again until it has an answer worth having, or patience or the play ends."""

import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ledger_client.errors import Stopped, Unreachable
from ledger_client.transport import Transport

#: A status to answer with, or none: then the connection is closed without an answer.
Script = list[int | None]


@pytest.fixture
def serve() -> Iterator[Callable[[Script], str]]:
    """Start a server that answers as told, and repeats the last answer for ever."""
    servers: list[ThreadingHTTPServer] = []

    def start(script: Script) -> str:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                status = script.pop(0) if len(script) > 1 else script[0]
                if status is None:
                    self.close_connection = True
                    return
                self.send_response(status)
                self.send_header("retry-after", "0")
                self.send_header("content-length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_it_comes_back_when_told_to_and_after_a_lost_answer(serve):
    with Transport(serve([429, 503, None, 503, 200])) as client:
        answer = client.ask("GET", "/")

    assert (answer.status, answer.body, answer.attempts) == (200, b"{}", 5)


def test_any_other_answer_is_final(serve):
    with Transport(serve([401, 200])) as client:
        assert client.ask("GET", "/").status == 401


def test_beyond_its_patience_it_takes_what_it_gets(serve):
    with Transport(serve([503]), patience_seconds=0) as client:
        assert client.ask("GET", "/").status == 503


def test_where_nobody_answers_it_gives_up(serve):
    with (
        Transport(serve([None]), patience_seconds=0.3) as client,
        pytest.raises(Unreachable, match="nobody answers at"),
    ):
        client.ask("GET", "/")


def test_once_stopped_it_neither_sends_nor_waits(serve):
    with Transport(serve([None])) as client:
        threading.Timer(0.1, client.stop).start()
        began = time.monotonic()

        with pytest.raises(Stopped):
            client.ask("GET", "/")

    assert time.monotonic() - began < 10
