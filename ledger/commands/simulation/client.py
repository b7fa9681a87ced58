"""A patient HTTP client: it keeps connections, and sends every request again until it has an answer worth having."""

import http.client
import threading
import time
from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

import msgspec

#: How long one request is tried while nobody answers, or while it is told to come back later.
PATIENCE_SECONDS: Final = 60.0
#: A longer Retry-After is not waited for.
_PAUSE_SECONDS_MAX: Final = 5.0
_PAUSE_SECONDS: Final = 0.2
_TIMEOUT_SECONDS: Final = 10.0
_COME_BACK: Final = (429, 503)


class Unreachable(Exception):
    """Nobody answers at the server's address."""


class Stopped(Exception):
    """The play is over; nothing more is to be sent."""


class Answer(msgspec.Struct, frozen=True):
    status: int
    body: bytes
    attempts: int


class Client:
    """Thread-safe. Has as many connections as requests have been under way at once, until it is closed."""

    def __init__(
        self, url: str, *, patience_seconds: float = PATIENCE_SECONDS, stopped: threading.Event | None = None
    ) -> None:
        parts = urlsplit(url)
        self._kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._host, self._port, self._path = parts.hostname or "", parts.port, parts.path.rstrip("/")
        self.url = url
        self._patience_seconds = patience_seconds
        self._stopped = stopped or threading.Event()
        self._idle: deque[http.client.HTTPConnection] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        while self._idle:
            self._idle.pop().close()

    def stop(self) -> None:
        """End every wait in every thread: they raise Stopped."""
        self._stopped.set()

    def ask(
        self, method: str, target: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Return the answer, once it is neither 429 nor 503. Raises Unreachable; beyond our patience returns those."""
        give_up_at = time.monotonic() + self._patience_seconds
        attempts = 0
        while not self._stopped.is_set():
            attempts += 1
            try:
                status, told, pause = self._attempt(method, self._path + target, body, headers or {})
            except (OSError, http.client.HTTPException) as error:
                if time.monotonic() > give_up_at:
                    raise Unreachable(f"nobody answers at {self.url}") from error
                pause = 0.0 if attempts == 1 else _PAUSE_SECONDS  # a kept connection may have been closed meanwhile
            else:
                if status not in _COME_BACK or time.monotonic() > give_up_at:
                    return Answer(status, told, attempts)
            self._stopped.wait(pause)
        raise Stopped

    def _attempt(
        self, method: str, target: str, body: bytes | None, headers: Mapping[str, str]
    ) -> tuple[int, bytes, float]:
        connection = self._connection()
        try:
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

    def _connection(self) -> http.client.HTTPConnection:
        try:
            return self._idle.pop()
        except IndexError:
            return self._kind(self._host, self._port, timeout=_TIMEOUT_SECONDS)
