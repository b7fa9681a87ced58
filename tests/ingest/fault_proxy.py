"""A network between a ledger and its database that fails on command.

A proxy listens on a local port and passes bytes to the test's database and back. `lose_answer` lets the next append
through, waits until the server has said that it is committed, and cuts the connection instead of passing that on;
`lose_request` cuts before the server gets to see it. `down` refuses and cuts everything until `up`, `cut` only cuts.
`delay_seconds` is how long every piece is under way, and while `hold` lasts nothing arrives.

An append is recognised by what goes over the wire: the prepared statement's execution is the one answer of the writer's
connection that returns a row of two arrays, so the test arms the proxy right before the append and every answer up to
the one with a data row passes.
"""

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum

from psycopg.conninfo import conninfo_to_dict, make_conninfo

_CHUNK = 65_536


class Fault(Enum):
    NONE = "none"
    LOSE_ANSWER = "the server commits, and its answer is lost"
    LOSE_REQUEST = "the request is lost on its way"


class FaultProxy:
    """One listening port in front of one database. Thread-safe."""

    def __init__(self, url: str) -> None:
        told = conninfo_to_dict(url)
        self._server = (str(told["host"]), int(told.get("port") or 5432))
        self._lock = threading.Lock()
        self._fault = Fault.NONE
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._passing = threading.Event()
        self._passing.set()
        self.delay_seconds = 0.0
        #: What the names of columns of an answer that is to be lost have among them; anything if empty.
        self.column = b""
        self._listener: socket.socket | None = None
        self._port = 0
        self.lost = 0
        self.up()
        self.url = make_conninfo(url, host="127.0.0.1", hostaddr="127.0.0.1", port=self._port, sslmode="disable")

    def lose(self, fault: Fault) -> None:
        """Lose the next append's request or answer, and cut the connection it went over."""
        with self._lock:
            self._fault = fault

    def down(self) -> None:
        """Refuse new connections and cut those there are."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
            listener.close()
        self.cut()

    def cut(self) -> None:
        """Cut the connections there are."""
        with self._lock:
            open_sockets = list(self._sockets)
        for each in open_sockets:
            _cut(each)

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Keep back everything in both directions, and pass it on afterwards; connections stay."""
        self._passing.clear()
        try:
            yield
        finally:
            self._passing.set()

    def up(self) -> None:
        """Accept connections, on the same port as before."""
        self._listener = socket.create_server(("127.0.0.1", self._port))
        self._port = self._listener.getsockname()[1]
        self._start(self._accept, self._listener)

    def close(self) -> None:
        self._passing.set()
        self.down()
        for thread in self._threads:
            thread.join()

    def _start(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                server = self._connect()
            except OSError:  # the database is not there either
                _cut(client)
                continue
            with self._lock:
                self._sockets |= {client, server}
            self._start(self._pass_requests, client, server)
            self._start(self._pass_answers, server, client)

    def _connect(self) -> socket.socket:
        host, port = self._server
        if not host.startswith("/"):
            return socket.create_connection((host, port))
        server = socket.socket(socket.AF_UNIX)
        try:
            server.connect(f"{host}/.s.PGSQL.{port}")
        except OSError:
            server.close()
            raise
        return server

    def _pass_requests(self, client: socket.socket, server: socket.socket) -> None:
        for chunk in _received(client):
            self._travel()
            if self._takes(Fault.LOSE_REQUEST):
                break
            if not _sent(server, chunk):
                break
        self._hang_up(client, server)

    def _pass_answers(self, server: socket.socket, client: socket.socket) -> None:
        held = b""
        for chunk in _received(server):
            self._travel()
            held += chunk
            with self._lock:
                armed = self._fault is Fault.LOSE_ANSWER
            if armed and not _is_complete(held):
                continue
            if armed and self.column in held and _has_row(held) and self._takes(Fault.LOSE_ANSWER):
                break
            if not _sent(client, held):
                break
            held = b""
        self._hang_up(client, server)

    def _travel(self) -> None:
        """Wait as long as a piece is under way."""
        self._passing.wait()
        if self.delay_seconds:
            threading.Event().wait(self.delay_seconds)

    def _takes(self, fault: Fault) -> bool:
        """Tell whether this fault is to happen now; it happens once."""
        with self._lock:
            if self._fault is not fault:
                return False
            self._fault = Fault.NONE
            self.lost += 1
            return True

    def _hang_up(self, *sockets: socket.socket) -> None:
        for each in sockets:
            _cut(each)
            with self._lock:
                self._sockets.discard(each)


@contextmanager
def proxied(url: str) -> Iterator[FaultProxy]:
    proxy = FaultProxy(url)
    try:
        yield proxy
    finally:
        proxy.close()


def _received(source: socket.socket) -> Iterator[bytes]:
    with contextlib.suppress(OSError):
        while chunk := source.recv(_CHUNK):
            yield chunk


def _sent(target: socket.socket, data: bytes) -> bool:
    try:
        target.sendall(data)
    except OSError:
        return False
    return True


def _cut(each: socket.socket) -> None:
    with contextlib.suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
    each.close()


def _messages(data: bytes) -> Iterator[bytes]:
    """Yield the type of each whole message that a server sent."""
    at = 0
    while at + 5 <= len(data):
        length = int.from_bytes(data[at + 1 : at + 5], "big")
        if at + 1 + length > len(data):
            yield b""  # cut short
            return
        yield data[at : at + 1]
        at += 1 + length


def _is_complete(data: bytes) -> bool:
    """Tell whether the server is ready for the next query: whatever ran before has been committed."""
    return [*_messages(data)][-1:] == [b"Z"]


def _has_row(data: bytes) -> bool:
    return b"D" in _messages(data)
