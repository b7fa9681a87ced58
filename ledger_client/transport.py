"""Requests that are sent again until there is an answer worth having, over connections that are kept."""

import http.client
import socket
import threading
import time
from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

import msgspec

from ledger_client.errors import Stopped, Unreachable

#: How long one request is tried while nobody answers, or while it is told to come back later.
PATIENCE_SECONDS: Final = 60.0
#: A longer Retry-After is not waited for.
_PAUSE_SECONDS_MAX: Final = 5.0
_PAUSE_SECONDS: Final = 0.2
_TIMEOUT_SECONDS: Final = 10.0
_COME_BACK: Final = (429, 503)

Connection = http.client.HTTPConnection


class Answer(msgspec.Struct, frozen=True):
    status: int
    body: bytes
    attempts: int


class Transport:
    """Thread-safe. Has as many connections as requests have been under way at once, until it is closed."""

    def __init__(
        self, url: str, *, patience_seconds: float = PATIENCE_SECONDS, stopped: threading.Event | None = None
    ) -> None:
        parts = urlsplit(url)
        self._kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._host, self._port, self._path = parts.hostname or "", parts.port, parts.path.rstrip("/")
        self.url = url
        self.patience_seconds = patience_seconds
        self._stopped = stopped or threading.Event()
        self._idle: deque[Connection] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()

    def stop(self) -> None:
        """End every wait in every thread: they raise Stopped."""
        self._stopped.set()

    def pause(self, seconds: float) -> None:
        """Wait. Raises Stopped."""
        if self._stopped.wait(seconds):
            raise Stopped

    def ask(
        self,
        method: str,
        target: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        seconds: float = 0.0,
    ) -> Answer:
        """Return the answer, once it is neither 429 nor 503. Raises Unreachable; beyond our patience returns those.

        `seconds`: how long the server may take to answer, on top of what any answer may take.
        """
        give_up_at = time.monotonic() + self.patience_seconds
        attempts = 0
        while not self._stopped.is_set():
            attempts += 1
            try:
                status, told, pause = self._attempt(method, self._path + target, body, headers or {}, seconds)
            except (OSError, http.client.HTTPException) as error:
                if time.monotonic() > give_up_at:
                    raise Unreachable(f"nobody answers at {self.url}") from error
                pause = 0.0 if attempts == 1 else _PAUSE_SECONDS  # a kept connection may have been closed meanwhile
            else:
                if status not in _COME_BACK or time.monotonic() > give_up_at:
                    return Answer(status, told, attempts)
            self._stopped.wait(pause)
        raise Stopped

    def open(
        self, target: str, headers: Mapping[str, str], *, timeout: float
    ) -> tuple[socket.socket, http.client.HTTPResponse]:
        """Ask for an answer that does not end, on a connection of its own. Raises OSError and HTTPException."""
        connection = self._kind(self._host, self._port, timeout=timeout)
        try:
            connection.request("GET", self._path + target, headers=dict(headers))
            return connection.sock, connection.getresponse()
        except BaseException:
            connection.close()
            raise

    def _attempt(
        self, method: str, target: str, body: bytes | None, headers: Mapping[str, str], seconds: float
    ) -> tuple[int, bytes, float]:
        connection = self._connection()
        try:
            connection.timeout = _TIMEOUT_SECONDS + seconds
            if connection.sock is not None:
                connection.sock.settimeout(connection.timeout)
            connection.request(method, target, body, headers)
            answer = connection.getresponse()
            told = answer.read()
        except BaseException:
            connection.close()
            raise
        self._idle.append(connection)
        after = answer.getheader("retry-after", "")
        pause = float(after) if after.isdecimal() and len(after) < 6 else _PAUSE_SECONDS
        return answer.status, told, min(pause, _PAUSE_SECONDS_MAX)

    def _connection(self) -> Connection:
        try:
            return self._idle.pop()
        except IndexError:
            return self._kind(self._host, self._port, timeout=_TIMEOUT_SECONDS)
