"""A client of server-sent events over a plain socket: the least that the standard asks for, and no code of ours."""

import json
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self

from tests.plugins.service import PATIENCE_SECONDS, Service


class Event(NamedTuple):
    """One event: its type, the last id that was told, its data."""

    type: str
    id: str
    data: Any


class Stream:
    """One open stream. Reading waits up to `PATIENCE_SECONDS`; a test fails instead of hanging."""

    def __init__(
        self, service: Service, path: str, key: str | None = None, last_id: str | None = None, *, receives: int = 0
    ) -> None:
        """`receives` limits what the kernel takes for a client that does not read."""
        self.last_id = last_id or ""
        self.retry: int | None = None
        self.pulses = 0
        self.is_over = False
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if receives:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receives)
        self._socket.settimeout(PATIENCE_SECONDS)
        self._socket.connect(service.address)
        self._received = b""
        headers = [f"GET {path} HTTP/1.1", f"host: {service.url[7:]}", "accept: text/event-stream"]
        headers += [f"x-octopods-auth: {key}"] * bool(key) + [f"last-event-id: {last_id}"] * (last_id is not None)
        self._socket.sendall("\r\n".join([*headers, "", ""]).encode())
        head = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        self.status = int(head[0].split()[1])
        self.headers: Mapping[str, str] = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)
        }
        self._lines = self._decoded()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def body(self) -> Any:
        """Return what came instead of a stream."""
        return json.loads(self._exactly(int(self.headers["content-length"])))

    def next(self) -> Event:
        """Return the next event; fail if the stream ends before."""
        event = self._next()
        assert event is not None, "the stream has ended"
        return event

    def take(self, count: int) -> list[Event]:
        return [self.next() for _ in range(count)]

    def until(self, condition: Callable[[Event], bool]) -> list[Event]:
        """Return the events up to the first that meets the condition."""
        events = [self.next()]
        while not condition(events[-1]):
            events.append(self.next())
        return events

    def rest(self) -> list[Event]:
        """Return the events up to the end of the stream."""
        return list(iter(self._next, None))

    def wait_for_pulse(self, seconds: float) -> None:
        """Read until the server says that it is alive; fail if it says anything else."""
        self._socket.settimeout(seconds)
        pulses = self.pulses
        while self.pulses == pulses:
            assert self._block() is None

    def _next(self) -> Event | None:
        until = time.monotonic() + PATIENCE_SECONDS
        while not self.is_over:
            assert time.monotonic() < until, "the stream is alive and tells nothing"
            event = self._block()
            if event is not None:
                return event
        return None

    def _block(self) -> Event | None:
        """Read up to the next empty line."""
        type_, data = "message", []
        for line in self._lines:
            if not line:
                return Event(type_, self.last_id, json.loads("\n".join(data))) if data else None
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            match field:
                case "":
                    self.pulses += 1
                case "id":
                    self.last_id = value
                case "event":
                    type_ = value
                case "data":
                    data.append(value)
                case "retry":
                    self.retry = int(value)
        self.is_over = True
        return None

    def _decoded(self) -> Iterator[str]:
        text = b""
        for chunk in self._chunks():
            *lines, text = (text + chunk).split(b"\n")
            yield from (line.decode() for line in lines)

    def _chunks(self) -> Iterator[bytes]:
        while True:
            size = int(self._until(b"\r\n"), 16)
            chunk = self._exactly(size + 2)[:-2]
            if not size:
                return
            yield chunk

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._received:
            self._receive()
        found, _, self._received = self._received.partition(mark)
        return found

    def _exactly(self, count: int) -> bytes:
        while len(self._received) < count:
            self._receive()
        found, self._received = self._received[:count], self._received[count:]
        return found

    def _receive(self) -> None:
        chunk = self._socket.recv(65_536)
        if not chunk:
            raise ConnectionResetError("the server has closed the connection")
        self._received += chunk


def open_streams(service: Service) -> int:
    """Return how many streams the server counts."""
    text = service.client().get("/metrics").text
    return int(next(float(line.split()[1]) for line in text.splitlines() if line.startswith("ledger_streams ")))


def settled(service: Service, count: int) -> None:
    """Wait until the server counts so many streams."""
    until = time.monotonic() + PATIENCE_SECONDS
    while (found := open_streams(service)) != count:
        assert time.monotonic() < until, f"{found} streams are open"
        time.sleep(0.02)
