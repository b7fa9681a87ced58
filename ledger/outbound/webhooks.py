"""One attempt to hand a status change to a customer's endpoint.

Whatever happens is a value: what was answered, or a word for what went wrong. An attempt ends after 15 seconds however
slowly the other side answers, and reads 4 KiB of the answer at most.
"""

import asyncio
import ssl
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final

import httpcore

from ledger import __version__
from ledger.outbound import schedule, signing, telling
from ledger.outbound.deliveries import Claimed, Settlement
from ledger.outbound.guard import Guard, GuardedBackend, Refused, Unresolved
from ledger.store.destinations import Destination, Reason

ATTEMPT_SECONDS_MAX: Final = 15.0
ANSWER_BYTES_MAX: Final = 4_096
_EXCERPT_BYTES: Final = 1_024
#: No longer than the shortest pause between two attempts: a retry resolves and checks the name again.
_IDLE_SECONDS_MAX: Final = 2.0
_CONNECTIONS_MAX: Final = 128
#: Answers that ask for less: the whole endpoint is given a rest.
_THROTTLES: Final = frozenset({429, 502, 503, 504})
_REST_SECONDS: Final = 2.0


class Answer:
    """What came back."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body


class Client:
    """Sends requests past the guard. Belongs to one event loop."""

    def __init__(
        self, guard: Guard, *, seconds_max: float = ATTEMPT_SECONDS_MAX, trusted: ssl.SSLContext | None = None
    ) -> None:
        """`trusted` says whose certificates are believed: by default, those that the system believes."""
        self._guard = guard
        self._trusted = trusted
        self._seconds_max = seconds_max
        self._pools: dict[bool, httpcore.AsyncConnectionPool] = {}

    def _pool(self, is_plain: bool) -> httpcore.AsyncConnectionPool:
        if is_plain not in self._pools:
            self._pools[is_plain] = httpcore.AsyncConnectionPool(
                ssl_context=None if is_plain else self._trusted or _trusted(),
                max_connections=_CONNECTIONS_MAX,
                max_keepalive_connections=_CONNECTIONS_MAX,
                keepalive_expiry=_IDLE_SECONDS_MAX,
                network_backend=GuardedBackend(self._guard, is_plain=is_plain),
            )
        return self._pools[is_plain]

    async def send(
        self,
        method: str,
        url: str,
        headers: list[tuple[bytes, bytes]],
        body: bytes,
        *,
        answer_bytes_max: int = ANSWER_BYTES_MAX,
    ) -> Answer:
        """Raises Refused, Unresolved, TimeoutError and httpcore's errors. More than may be read is cut off."""
        self._guard.check_url(url)
        async with asyncio.timeout(self._seconds_max):
            pool, told = self._pool(url.startswith("http://")), {"timeout": _timeouts(self._seconds_max)}
            sent = [(b"user-agent", f"status-ledger/{__version__}".encode()), (b"host", _host(url)), *headers]
            if body or method != "GET":
                sent.append((b"content-length", str(len(body)).encode()))
            async with pool.stream(method, url, headers=sent, content=body, extensions=told) as answer:
                read = b""
                async for chunk in answer.aiter_stream():
                    read += chunk
                    if len(read) >= answer_bytes_max:
                        break
                told_headers = {name.decode("latin-1").lower(): each.decode("latin-1") for name, each in answer.headers}
                return Answer(answer.status, told_headers, read[:answer_bytes_max])

    async def close(self) -> None:
        for pool in self._pools.values():
            await pool.aclose()


@cache
def _trusted() -> ssl.SSLContext:
    return ssl.create_default_context()


def _timeouts(seconds: float) -> dict[str, float]:
    return {"connect": seconds, "read": seconds, "write": seconds, "pool": seconds}


def _host(url: str) -> bytes:
    return url.split("/", 3)[2].partition("?")[0].encode()


class WebhookSender:
    """Makes attempts. `now` dates signatures."""

    def __init__(self, client: Client, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._client = client
        self._now = now

    async def attempt(self, destination: Destination, claimed: Claimed, change: telling.Change) -> Settlement:
        id_ = event_id(change, claimed.resends)
        body = telling.body(change, id_)
        begun, now = time.monotonic(), self._now()
        headers = [
            (b"content-type", b"application/json"),
            *signing.headers(destination.details.signers, id_, now, body),
        ]
        told: dict[str, Any] = {
            "message_id": change.message_id,
            "message_version": change.version,
            "status": change.message.status.value,
        }
        try:
            answer = await self._client.send("POST", destination.details.url, headers, body)
        except Exception as error:
            outcome = _fault(error)
            if outcome is None:
                raise
            told["milliseconds"] = _milliseconds(begun)
            return Settlement(outcome=outcome, retry_seconds=schedule.next_try(claimed.tries + 1), **told)
        told |= {
            "milliseconds": _milliseconds(begun),
            "answer": answer.status,
            "excerpt": answer.body[:_EXCERPT_BYTES],
        }
        return judge(answer, claimed.tries + 1, now, told)


def event_id(change: telling.Change, resends: int) -> str:
    """Return the `webhook-id`: of the change, or of a repetition that was asked for under an id of its own."""
    return f"evt_{change.message_id}_{change.version}{f'_r{resends}' if resends else ''}"


def judge(answer: Answer, tries: int, now: datetime, told: Mapping[str, Any]) -> Settlement:
    """Return what an answer means after so many tries."""
    status = answer.status
    if 200 <= status < 300:
        return Settlement(outcome="delivered", **told)
    wait = schedule.retry_after(answer.headers.get("retry-after"), now)
    pause = max(wait or 0.0, _REST_SECONDS) if status in _THROTTLES else 0.0
    outcome = "redirected" if 300 <= status < 400 else "gone" if status == 410 else "refused"
    return Settlement(
        outcome=outcome,
        retry_seconds=schedule.next_try(tries, wait),
        pause_seconds=pause,
        disables=Reason.GONE if status == 410 else None,
        **told,
    )


def _fault(error: Exception) -> str | None:
    """Return a word for what went wrong on the way; None for a fault of ours."""
    match error:
        case Refused():
            return "address_refused"
        case Unresolved():
            return "name_unknown"
        case TimeoutError() | httpcore.TimeoutException():
            return "timed_out"
        case httpcore.ConnectError() if isinstance(error.__context__ or error.__cause__, ssl.SSLError):
            return "certificate_refused"
        case httpcore.ConnectError():
            return "not_reached"
        case httpcore.NetworkError() | httpcore.ProtocolError() | httpcore.UnsupportedProtocol() | OSError():
            return "broken_off"
        case _:
            return None


def _milliseconds(begun: float) -> int:
    return round((time.monotonic() - begun) * 1000)
