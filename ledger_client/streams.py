"""Following a stream of server-sent events across lost connections: every event once, in order.

The standard is the HTML specification's, section 9.2: fields of a block, an id that stays until another one comes, also
one that comes without data.
"""

import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Final, Generic, Self, TypeVar

from ledger_client.errors import Unreachable, refusal
from ledger_client.transport import Transport

T = TypeVar("T")

#: A server says that it is alive more often than this.
SILENCE_SECONDS_MAX: Final = 60.0
_RETRY_SECONDS: Final = 2.0
_LINE_BYTES_MAX: Final = 8 * 1024 * 1024
#: Told to come back later, as often as it takes.
_COME_BACK: Final = (429, 500, 502, 503, 504)


class Stream(Generic[T]):
    """Iterates over events. `last_id` is that of the last event that was handed out: keep it with what you made of it.

    Raises Refused for a request that will never be accepted, such as an id that the stream never had; Unreachable when
    nobody has answered for as long as the transport is patient; Stopped.
    """

    def __init__(
        self,
        transport: Transport,
        target: str,
        headers: Mapping[str, str],
        decode: Callable[[bytes], T],
        last_id: str | None,
        *,
        retry_seconds: float = _RETRY_SECONDS,
    ) -> None:
        """`retry_seconds`: before a lost stream is opened again, until the server tells another time."""
        self._transport = transport
        self._target = target
        self._headers = {**headers, "Accept": "text/event-stream", "Cache-Control": "no-store"}
        self._decode = decode
        self._retry_seconds = retry_seconds
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._answer: http.client.HTTPResponse | None = None  #: opened, and not iterated over yet
        self._is_closed = False
        self.last_id = last_id

    def __iter__(self) -> Iterator[T]:
        while not self._is_closed:
            answer, self._answer = self._answer or self._connected(), None
            if answer is None:
                return
            try:
                yield from self._events(answer)
            except (OSError, http.client.HTTPException, ValueError, AttributeError):
                pass  # lost, or closed in another thread: an event that was cut short is sent again
            finally:
                answer.close()
                self._drop()
            if not self._is_closed:
                self._transport.pause(self._retry_seconds)

    def __enter__(self) -> Self:
        """Open the stream: what happens from now on will come."""
        self._answer = self._connected()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the iteration. Callable from any thread."""
        self._is_closed = True
        self._drop()

    def _connected(self) -> http.client.HTTPResponse | None:
        """Open the stream where it was left; None once it was closed."""
        give_up_at = time.monotonic() + self._transport.patience_seconds
        while not self._is_closed:
            headers = self._headers if self.last_id is None else {**self._headers, "Last-Event-ID": self.last_id}
            try:
                opened, answer = self._transport.open(self._target, headers, timeout=SILENCE_SECONDS_MAX)
                if answer.status == 200:
                    with self._lock:
                        self._socket = opened
                    return answer
                body = answer.read()
                opened.close()
            except (OSError, http.client.HTTPException) as error:
                if time.monotonic() > give_up_at:
                    raise Unreachable(f"nobody answers at {self._transport.url}") from error
            else:
                if answer.status not in _COME_BACK or time.monotonic() > give_up_at:
                    raise refusal(answer.status, body)
            self._transport.pause(self._retry_seconds)
        return None

    def _events(self, answer: http.client.HTTPResponse) -> Iterator[T]:
        """Hand out events until the connection ends. The id counts once its event was handed out."""
        id_ = self.last_id
        data: list[bytes] = []
        while line := answer.readline(_LINE_BYTES_MAX):
            line = line.rstrip(b"\r\n")
            field, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            match field:
                case b"" if not line:
                    if data:
                        event = self._decode(b"\n".join(data))
                        data = []
                        self.last_id = id_
                        yield event
                    self.last_id = id_
                case b"id":
                    id_ = value.decode()
                case b"data":
                    data.append(value)
                case b"retry" if value.isdigit():
                    self._retry_seconds = int(value) / 1_000

    def _drop(self) -> None:
        with self._lock:
            opened, self._socket = self._socket, None
        if opened is not None:
            with suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)  # wakes a thread that is reading
            opened.close()
