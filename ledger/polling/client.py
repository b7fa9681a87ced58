"""One account's HTTP client: pooled connections, a bound on everything, TLS verified, no redirects.

httpx bounds each wait for a piece of an answer, so a server that sends a byte now and then keeps it waiting for ever.
Here all reading and writing has until the end of the question, and no longer (`_Until`).

Nothing about a question is logged: its path holds a provider's message id, which may hold a phone number, and its
headers hold a secret. What goes wrong is told by a word of ours.
"""

import ssl
import threading
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final
from urllib.parse import urlsplit

import httpcore
import httpx
import msgspec

from ledger.wire import instants
from ledger.wire.contract import Ask, Polling

BODY_BYTES_MAX: Final = 16 * 1024 * 1024
CONNECT_SECONDS_MAX: Final = 5.0
#: How long a connection that nobody uses stays open.
_KEEP_SECONDS: Final = 5.0
#: A pause longer than this is not believed to be meant.
RETRY_SECONDS_MAX: Final = 3600.0


class NoAnswer(Exception):
    """The provider did not answer properly. The text is a word of ours and holds nothing of the question."""


class Answer(msgspec.Struct, frozen=True):
    """What came back, whole."""

    status: int
    body: bytes
    is_json: bool
    retry_after: float | None  #: seconds, as the provider asks; None if it says nothing usable


class _Until(threading.local):
    """When the question that this thread asks has to be answered, on the monotonic clock."""

    at = float("inf")

    def left(self, timeout: float | None, late: type[Exception]) -> float:
        """Return the seconds that are left, no more than `timeout`. Raises `late` if there are none."""
        seconds = min(self.at - time.monotonic(), float("inf") if timeout is None else timeout)
        if seconds <= 0:
            raise late
        return seconds


class _Stream(httpcore.NetworkStream):
    """A connection on which nothing takes longer than the question has."""

    def __init__(self, inner: httpcore.NetworkStream, until: _Until) -> None:
        self._inner = inner
        self._until = until

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, self._until.left(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, self._until.left(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        seconds = self._until.left(timeout, httpcore.ConnectTimeout)
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, seconds), self._until)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _Backend(httpcore.NetworkBackend):
    """Opens such connections."""

    def __init__(self, until: _Until) -> None:
        self._inner = httpcore.SyncBackend()
        self._until = until

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        seconds = self._until.left(timeout, httpcore.ConnectTimeout)
        return _Stream(self._inner.connect_tcp(host, port, seconds, local_address, socket_options), self._until)


class _Transport(httpx.HTTPTransport):
    """httpx's own, over a pool of such connections, which it has no argument for."""

    def __init__(self, until: _Until, verify: ssl.SSLContext, connections: int) -> None:
        super().__init__(verify=verify, trust_env=False)
        self._pool = httpcore.ConnectionPool(
            ssl_context=verify,
            max_connections=connections,
            max_keepalive_connections=connections,
            keepalive_expiry=_KEEP_SECONDS,
            network_backend=_Backend(until),
        )


class Client:
    """Asks one account's provider. Safe to share between threads."""

    def __init__(self, polling: Polling) -> None:
        seconds = polling.timeout_seconds
        self._base_url = polling.base_url
        self._seconds = seconds
        self._until = _Until()
        verify = _verified() if urlsplit(polling.base_url).scheme == "https" else _unused()
        self._client = httpx.Client(
            transport=_Transport(self._until, verify, polling.concurrency),
            timeout=httpx.Timeout(seconds, connect=min(seconds, CONNECT_SECONDS_MAX)),
            follow_redirects=False,
            trust_env=False,
            headers={"accept": "application/json", "user-agent": "status-ledger"},
        )

    def get(self, ask: Ask) -> Answer:
        """Return the answer to a question. Raises NoAnswer for whatever keeps one from coming whole and in time."""
        self._until.at = time.monotonic() + self._seconds
        headers = [(name.encode(), value.reveal()) for name, value in ask.headers]
        try:
            with self._client.stream("GET", f"{self._base_url}{ask.target}", headers=headers) as response:
                chunks, size = [], 0
                for chunk in response.iter_bytes():
                    chunks.append(chunk)
                    size += len(chunk)
                    if size > BODY_BYTES_MAX:
                        raise NoAnswer("too_large")
        except httpx.TimeoutException as error:
            raise NoAnswer("timeout") from error
        except httpx.InvalidURL as error:
            raise NoAnswer("bad_address") from error
        except httpx.LocalProtocolError:  # its text quotes the header that it finds fault with: our secret
            raise NoAnswer("bad_header") from None
        except httpx.HTTPError as error:
            raise NoAnswer(_WORDS.get(type(error), "connection")) from error
        media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        return Answer(
            status=response.status_code,
            body=b"".join(chunks),
            is_json=media_type == "application/json" or media_type.endswith("+json"),
            retry_after=retry_after(response.headers.get("retry-after"), response.headers.get("date")),
        )

    def close(self) -> None:
        self._client.close()


def retry_after(told: str | None, date: str | None) -> float | None:
    """Return the seconds that a `Retry-After` asks for; None for one that cannot be meant.

    An instant is counted from the answer's own `Date`: the two clocks need not agree.
    """
    if told is None:
        return None
    text = told.strip()
    if text.isascii() and text.replace(".", "", 1).isdigit():
        seconds = float(text)  # infinite, if it has very many digits
    else:
        until = instants.rfc2822(text) or instants.rfc2822(f"{text} GMT")  # asctime's form names no zone
        if until is None:
            return None
        seconds = (until - (instants.rfc2822(date) or datetime.now(UTC))).total_seconds()
    return min(max(seconds, 0.0), RETRY_SECONDS_MAX)


@cache
def _verified() -> ssl.SSLContext:
    """Certificates and host names are checked against the system's authorities. Loaded once: it takes a while."""
    return ssl.create_default_context()


def _unused() -> ssl.SSLContext:
    """Return a context for a client that speaks no TLS; nobody is trusted by it."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


_WORDS: Final[dict[type[Exception], str]] = {
    httpx.ConnectError: "unreachable",
    httpx.RemoteProtocolError: "cut_short",
    httpx.DecodingError: "cut_short",
}
