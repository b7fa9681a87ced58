"""A customer's endpoint over a real socket, with faults on demand."""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import msgspec

#: What an endpoint does with one request; returns after it has answered, or not.
Act = Callable[["Handler"], None]


class Received(NamedTuple):
    path: str
    headers: dict[str, str]
    body: bytes
    at: float

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def told(self) -> dict[str, Any]:
        return msgspec.json.decode(self.body)

    @property
    def data(self) -> dict[str, Any]:
        return self.told["data"]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Server"
    body: bytes

    def do_POST(self) -> None:
        length = int(self.headers.get("content-length", "0"))
        body = self.rfile.read(length)
        if len(body) < length:
            return  # the sender died in the middle: nothing was received
        self.body = body
        headers = {name.lower(): value for name, value in self.headers.items()}
        receiver = self.server.receiver
        with receiver.lock:
            receiver.received.append(Received(self.path, headers, body, time.monotonic()))
            act = receiver.script.pop(0) if receiver.script else receiver.otherwise
        act(self)

    do_GET = do_PATCH = do_POST

    def reply(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    receiver: "Receiver"

    def handle_error(self, *_: Any) -> None:
        """A client that goes away is part of what is tested."""


class Receiver:
    """Answers 200 unless a script of acts, one a request, or `otherwise` says differently."""

    def __init__(self, server: _Server, scheme: str) -> None:
        self.received: list[Received] = []
        self.script: list[Act] = []
        self.otherwise: Act = answers(200)
        self.lock = threading.Lock()
        self.ended = threading.Event()
        self.port = server.server_address[1]
        self.url = f"{scheme}://127.0.0.1:{self.port}/hooks"

    @property
    def ids(self) -> list[str]:
        return [each.id for each in self.received]

    @property
    def statuses(self) -> list[str]:
        return [each.data["status"] for each in self.received]


def answers(status: int, body: bytes = b"", **headers: str) -> Act:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler: handler.reply(status, body, named)


def hangs(handler: Handler) -> None:
    """Say nothing until the test is over."""
    handler.server.receiver.ended.wait(30)


def drips(handler: Handler) -> None:
    """Answer 200 and then a byte at a time, for as long as anybody listens."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
    while not handler.server.receiver.ended.wait(0.02):
        handler.wfile.write(b"x")


def floods(handler: Handler) -> None:
    """Answer 500 with more than anybody should read."""
    handler.reply(500, b"y" * 10_000_000)


def hangs_up(handler: Handler) -> None:
    handler.connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def receiving(context: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    server = _Server(("127.0.0.1", 0), Handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    receiver = server.receiver = Receiver(server, "http" if context is None else "https")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.ended.set()
        server.shutdown()
        server.server_close()
        thread.join()
