"""What is on its way to one client of an event stream: bounded, in order, and never waited for.

An answer of the type `text/event-stream` has no end of its own. It ends when the client goes, when it does not take
what is sent to it, when its key has ended, or when the server drains. The client comes back with the id of the last
event that it got (`Last-Event-ID`) and goes on from there.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Any, Final, Protocol

import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ledger.http.protocol import CONNECTION

#: What waits for one client beside what its connection holds (64 KiB, and as much in the kernel).
BUFFER_BYTES_MAX: Final = 1024 * 1024
#: A client that takes nothing for so long is cut.
BLOCKED_SECONDS_MAX: Final = 20.0
#: What the kernel may hold of a stream: what is there cannot be taken back from a client that does not read.
_KERNEL_BYTES: Final = 64 * 1024
MEDIA_TYPE: Final = "text/event-stream"

_log = structlog.get_logger("ledger.streams")


class Ending(StrEnum):
    LOST = "lost"  #: the client went
    SLOW = "slow"  #: it did not take what was sent to it
    DRAINED = "drained"  #: the server is about to end
    KEY_ENDED = "key_ended"  #: its key was rotated or revoked
    FAILED = "failed"  #: something went wrong on our side


class Ended(Exception):
    """The stream is over; `Outlet.ended` says why."""


class Connection(Protocol):
    """What the outlet needs of the connection that it goes to (`LedgerProtocol`)."""

    on_lost: Callable[[], None] | None
    transport: Any


class Outlet:
    """One client. Everything is called in the event loop."""

    __slots__ = ("_buffered", "_chunks", "_connection", "_loop", "_waiting", "_woken", "blocked_since", "ended",
                 "key_id", "pulse", "sent_at")  # fmt: skip

    def __init__(self, loop: asyncio.AbstractEventLoop, key_id: str | None) -> None:
        self._loop = loop
        self._chunks: list[bytes] = []
        self._buffered = 0
        self._waiting: asyncio.Future[None] | None = None
        self._woken = False
        self._connection: Connection | None = None
        self.key_id = key_id
        self.ended: Ending | None = None
        self.sent_at = loop.time()
        self.blocked_since: float | None = None  #: since when the connection has taken nothing
        #: Says that the stream is alive when there is nothing else to say.
        self.pulse: Callable[[], bytes] = lambda: b": \n\n"

    def connect(self, connection: Connection | None) -> None:
        self._connection = connection
        if connection is not None:
            connection.on_lost = self.lose
            if connection.transport.is_closing():
                self.lose()
                return
            connection.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _KERNEL_BYTES)

    def disconnect(self) -> None:
        if self._connection is not None:
            self._connection.on_lost = None
            self._connection = None

    def put(self, chunk: bytes) -> None:
        """Add what is to be sent next. A client with too much waiting is cut instead."""
        if self.ended is not None:
            return
        self._buffered += len(chunk)
        if self._buffered > BUFFER_BYTES_MAX:
            self.end(Ending.SLOW)
            return
        self._chunks.append(chunk)
        self._wake()

    def wake(self) -> None:
        """Let `take` return, though there may be nothing to send: there is something to look at."""
        self._woken = True
        self._wake()

    def beat(self, now: float) -> None:
        """Say that the stream is alive, unless something is waiting to be sent anyway."""
        if not self._chunks and self.blocked_since is None:
            self.sent_at = now
            self.put(self.pulse())

    def lose(self) -> None:
        self.end(Ending.LOST)

    def end(self, why: Ending) -> None:
        """End the stream, once. A client that does not take what it is sent cannot be told: it is cut."""
        if self.ended is not None:
            return
        self.ended = why
        self._chunks.clear()
        if self._connection is not None and (why is Ending.SLOW or self.blocked_since is not None):
            self._connection.transport.abort()
        self._wake()

    async def take(self) -> bytes:
        """Wait for something to send, and return all of it; nothing after `wake`. Raises Ended."""
        while not self._chunks and not self._woken and self.ended is None:
            self._waiting = self._loop.create_future()
            await self._waiting
        if self.ended is not None:
            raise Ended
        self._woken = False
        taken, self._chunks, self._buffered = b"".join(self._chunks), [], 0
        return taken

    async def pause(self, seconds: float) -> None:
        """Wait, at most until the stream ends. Raises Ended."""
        timer = self._loop.call_later(seconds, self.wake)
        try:
            while self.ended is None and not self._woken:
                self._waiting = self._loop.create_future()
                await self._waiting
        finally:
            timer.cancel()
        self._woken = False
        if self.ended is not None:
            raise Ended

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_result(None)


Write = Callable[[bytes], Awaitable[None]]


class EventStream(Response):
    """An answer that goes on until its outlet ends. `run` writes it, and raises Ended."""

    def __init__(self, outlet: Outlet, run: Callable[[Write], Awaitable[None]], released: Callable[[], None]) -> None:
        self.status_code = 200
        self.background = None
        self.init_headers({"content-type": MEDIA_TYPE, "x-accel-buffering": "no"})
        self._outlet = outlet
        self._run = run
        self._released = released

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        outlet = self._outlet
        outlet.connect(scope["state"][CONNECTION]())
        loop = asyncio.get_running_loop()

        async def write(chunk: bytes) -> None:
            """Send, and wait while the connection takes nothing. Raises Ended."""
            outlet.blocked_since = outlet.sent_at = loop.time()
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            outlet.blocked_since = None
            if outlet.ended is not None:
                raise Ended

        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await self._run(write)
        except Ended:
            pass
        except Exception:
            _log.exception("stream_failed")
            outlet.end(Ending.FAILED)
        finally:
            outlet.disconnect()
            self._released()
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def described(request: Request) -> Response | None:
    """Answer a request for the head only; None for one that wants the stream."""
    if request.method != "HEAD":
        return None
    return Response(None, media_type=MEDIA_TYPE)
