"""The HTTP protocol: deadlines and limits that uvicorn lacks, and a short way for callbacks.

A callback needs no task, no scope and no stream of messages: its body is collected here and handed to `Webhooks.take`,
and the answer is written when it comes. That is most of what a callback costs otherwise. Whatever is unusual about a
request to `/webhooks/…` (another method, `Expect`, an upgrade, an escaped path, a request behind one that goes through
ASGI) sends it the ordinary way, which ends in the same functions.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final
from weakref import ref

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ledger.http import metrics
from ledger.http.problems import Problem
from ledger.http.webhooks import ALWAYS, PATH, TAKEN, Admitted, Answer, Webhooks
from ledger.wire.contract import Headers

#: Head and body must have arrived this long after the connection, or the previous answer's next request, began.
RECEIVE_SECONDS_MAX: Final = 6.0
#: A connection without a request is kept this long.
IDLE_SECONDS_MAX: Final = 75.0
#: Request line and headers together.
HEAD_BYTES_MAX: Final = 64 * 1024
#: How often connections are looked at. One timer for all: one each would cost more than reading a request.
_SWEEP_SECONDS: Final = 0.5
_HEAD_TOO_LARGE: Final = "The head of a request is limited."
#: Where an answer that does not end finds the connection it goes to, in the state of its request.
CONNECTION: Final = "ledger_connection"
_PATH: Final = PATH.encode()
_CLOSE: Final = (b"connection", b"close")


class LedgerProtocol(HttpToolsProtocol):
    """Closes a connection whose request does not arrive in time, or whose head does not end."""

    _until: float | None = None  #: when the connection is closed unless something happens before
    _is_in_head = False
    _head_bytes = 0  #: received of a head that has not ended
    _is_much = False  #: so much has come that the head has to be measured
    _callback: "_Callback | None" = None  #: the callback being received
    _unanswered: "deque[_Callback] | None" = None  #: callbacks received, in the order of their answers
    _is_over = False  #: nothing more is read: the connection is closed after the answers that are due
    on_lost: Callable[[], None] | None = None  #: called when the caller is gone, for answers that do not end

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._webhooks: Webhooks | None = getattr(self.app, "webhooks", None)
        self._until = self.loop.time() + RECEIVE_SECONDS_MAX
        _Sweeper.of(self.server_state, self.loop).watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._until = None
        if self._callback is not None:
            self._callback.lose()
        super().connection_lost(exc)
        if self.on_lost is not None:
            self.on_lost()

    def data_received(self, data: bytes) -> None:
        self._is_much = self._head_bytes + len(data) > HEAD_BYTES_MAX
        super().data_received(data)
        if self._is_in_head:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX and not self.transport.is_closing():
                self.send_400_response(_HEAD_TOO_LARGE)

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._is_in_head = True
        self._head_bytes = 0
        self._until = self.loop.time() + RECEIVE_SECONDS_MAX

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == b"expect":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        if self._is_much and sum(len(name) + len(value) for name, value in self.headers) > HEAD_BYTES_MAX - len(
            self.url
        ):
            raise ValueError(_HEAD_TOO_LARGE)  # uvicorn answers 400 and closes the connection
        if self._is_over:
            return
        if self.url.startswith(_PATH) and self._is_plain():
            self._begin()
        elif self._unanswered:
            self._is_over = True  # uvicorn would answer out of turn; whoever sent this has to send it again
        else:
            self._go_ordinary_way()

    def on_body(self, body: bytes) -> None:
        if self._callback is not None:
            self._callback.add(body)
        elif not self._is_over:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._until = None
        callback, self._callback = self._callback, None
        if callback is not None:
            callback.take()
        elif not self._is_over:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self._unanswered and not self.pipeline:
            self._until = None  # uvicorn's own timer is running

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no request; where callbacks came before it, answer those, and say no more."""
        if self._callback is not None and self._unanswered:
            self._callback.lose()
            self._callback = None
            self._unanswered.pop()  # the one that has not come to its end
        if self._unanswered:
            self._is_over = True
        else:
            super().send_400_response(msg)

    def shutdown(self) -> None:
        if self._unanswered or self._callback is not None:
            self._is_over = True
        else:
            super().shutdown()

    def sweep(self, now: float) -> None:
        if self._until is not None and self._until <= now and not self.transport.is_closing():
            self.transport.close()

    def answered(self) -> None:
        """Write the answers that are due, in the order of their requests."""
        unanswered = self._unanswered
        while unanswered and unanswered[0].answer is not None:
            callback = unanswered.popleft()
            assert callback.answer is not None  # noqa: S101  # just looked
            if self.transport.is_closing():
                continue
            closes = not callback.keeps_alive or (self._is_over and not unanswered)
            self.transport.write(_TAKEN if callback.answer is TAKEN and not closes else _bytes(callback.answer, closes))
            self.server_state.total_requests += 1
            if closes:
                self.transport.close()
        if not unanswered and self._callback is None:
            self._until = self.loop.time() + IDLE_SECONDS_MAX

    def _is_plain(self) -> bool:
        """Tell whether a callback may go the short way."""
        if self._webhooks is None or self.parser.get_method() != b"POST" or self.parser.should_upgrade():
            return False
        if self.cycle is not None and not self.cycle.response_complete:
            return False
        if b"%" in self.url or b"#" in self.url:
            return False
        return not self.expect_100_continue

    def _begin(self) -> None:
        assert self._webhooks is not None  # noqa: S101  # `_is_plain` looked
        path, _, query = self.url.partition(b"?")
        name = path[len(_PATH) :].decode("latin-1")
        keeps_alive = self.parser.get_http_version() != "1.0" and self.parser.should_keep_alive()
        admitted = self._webhooks.admit(name, "POST", query, Headers(self.headers))
        self._callback = _Callback(self, self._webhooks, admitted, keeps_alive)
        if self._unanswered is None:
            self._unanswered = deque()
        self._unanswered.append(self._callback)
        if isinstance(admitted, Answer) and _CLOSE in admitted.headers:
            self.give_up(admitted)

    def give_up(self, answer: Answer) -> None:
        """Answer a callback that is too large to be received, and read no further."""
        callback, self._callback = self._callback, None
        self._is_over = True
        if callback is not None:
            callback.reply(answer)

    def _go_ordinary_way(self) -> None:
        url, headers = self.url, self.headers
        super().on_message_begin()
        self.scope["state"][CONNECTION] = ref(self)
        super().on_url(url)
        for name, value in headers:
            super().on_header(name, value)
        super().on_headers_complete()


class _Callback:
    """One callback on its way: what has come of its body, then its answer."""

    __slots__ = ("_admitted", "_chunks", "_protocol", "_size", "_webhooks", "answer", "keeps_alive")

    def __init__(
        self, protocol: LedgerProtocol, webhooks: Webhooks, admitted: Admitted | Answer, keeps_alive: bool
    ) -> None:
        self._protocol = protocol
        self._webhooks = webhooks
        self._admitted = admitted
        self._chunks: list[bytes] = []
        self._size = 0  #: of what has come, and been taken of the room for all
        self.keeps_alive = keeps_alive
        self.answer: Answer | None = None

    def add(self, chunk: bytes) -> None:
        """Keep a part of the body; nothing of one that is refused anyway."""
        admitted = self._admitted
        if isinstance(admitted, Answer):
            return
        webhooks = self._webhooks
        if self._size + len(chunk) > webhooks.body_bytes_max:
            self._give_up(admitted, webhooks.too_large())
        elif not webhooks.room.take(len(chunk)):
            self._give_up(admitted, webhooks.no_room())
        else:
            self._size += len(chunk)
            self._chunks.append(chunk)

    def _give_up(self, admitted: Admitted, problem: Problem) -> None:
        self._release()
        self._protocol.give_up(self._webhooks.refusal(admitted.intake.account.name, problem))

    def _release(self) -> None:
        """Forget what has come: the body has been put together, or nobody wants it."""
        self._chunks.clear()
        self._webhooks.room.give_back(self._size)
        self._size = 0

    def take(self) -> None:
        if isinstance(self._admitted, Answer):
            self.reply(self._admitted)
        else:
            body = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
            self._release()
            self._webhooks.take(self._admitted, body, self.reply)

    def lose(self) -> None:
        """Note that the caller went away before its request was complete."""
        self._release()
        if isinstance(self._admitted, Admitted):
            metrics.count_webhook(self._admitted.intake.account.name, "disconnected")

    def reply(self, answer: Answer) -> None:
        self.answer = answer
        self._protocol.answered()


class _Sweeper:
    """Looks at all connections of a server from time to time, as long as there are any."""

    _ATTRIBUTE = "ledger_sweeper"

    def __init__(self, connections: set[Any], loop: asyncio.AbstractEventLoop) -> None:
        self._connections = connections
        self._loop = loop
        self._is_watching = False

    @classmethod
    def of(cls, state: Any, loop: asyncio.AbstractEventLoop) -> "_Sweeper":
        sweeper = getattr(state, cls._ATTRIBUTE, None)
        if sweeper is None:
            sweeper = cls(state.connections, loop)
            setattr(state, cls._ATTRIBUTE, sweeper)
        return sweeper

    def watch(self) -> None:
        if not self._is_watching:
            self._is_watching = True
            self._loop.call_later(_SWEEP_SECONDS, self._sweep)

    def _sweep(self) -> None:
        self._is_watching = False
        now = self._loop.time()
        for connection in list(self._connections):
            connection.sweep(now)
        if self._connections:
            self.watch()


def _bytes(answer: Answer, closes: bool) -> bytes:
    status = f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}\r\n".encode()
    length = str(len(answer.body)).encode()
    headers = [(b"content-type", answer.content_type), (b"content-length", length), *ALWAYS, *answer.headers]
    if closes:
        headers = [(name, value) for name, value in headers if name != _CLOSE[0]] + [_CLOSE]
    lines = [b"%s: %s\r\n" % header for header in headers]
    return b"".join([status, *lines, b"\r\n", answer.body])


_TAKEN: Final = _bytes(TAKEN, closes=False)
