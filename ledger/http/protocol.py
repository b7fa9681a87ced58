"""Limits on receiving a request. uvicorn has none: slow connections would stay open, endless heads would be kept."""

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

#: Head and body must have arrived this long after the connection, or the previous answer's next request, began.
RECEIVE_SECONDS_MAX: Final = 6.0
#: Request line and headers together.
HEAD_BYTES_MAX: Final = 64 * 1024


class HeadTooLarge(ValueError):
    """Answered 400 by uvicorn, which then closes the connection."""


class DeadlineProtocol(HttpToolsProtocol):
    """Closes a connection whose request does not arrive in time, or whose head does not end."""

    _deadline: asyncio.TimerHandle | None = None
    _head_bytes = 0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._start()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_bytes = 0
        self._start()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def on_message_complete(self) -> None:
        self._stop()
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        super().connection_lost(exc)

    def _count(self, received: int) -> None:
        self._head_bytes += received
        if self._head_bytes > HEAD_BYTES_MAX:
            raise HeadTooLarge("the head of a request is limited")

    def _start(self) -> None:
        self._stop()
        self._deadline = self.loop.call_later(RECEIVE_SECONDS_MAX, self._expire)

    def _stop(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expire(self) -> None:
        self._deadline = None
        if not self.transport.is_closing():
            self.transport.close()
