"""Server-sent events: one message, or everything that happens in a key's account and channel.

Every recorded event is one event of the stream. Its id says where the stream stands after it; a client that comes back
with the last id it got (`Last-Event-ID`) is sent what followed, once each. An id of the tail is a position in each
partition; an id of a message's stream is a place in the message's history.
"""

import random
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final, TypeVar
from uuid import UUID

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ledger.domain.identity import bucket
from ledger.http import metrics, queries
from ledger.http.access import Access, admitted
from ledger.http.api import base_of
from ledger.http.broadcast import PAGE_EVENTS, Broadcaster, Listener
from ledger.http.changes import ChangeShape, StreamedMessage, replay
from ledger.http.edge import Edge
from ledger.http.outlet import EventStream, Outlet, Write, described
from ledger.http.problems import Problem, invalid_parameter
from ledger.store.application import Ledger, RecordedEvent
from ledger.store.keys import ApiKey
from projections.current_status import CurrentStatus, Opened

T = TypeVar("T")

FILTERS: Final = ("status", "provider", "client_reference", "recipient", "changes")
LAST_ID: Final = "Last-Event-ID"
_LAST_ID_PARAMETER: Final = "last_event_id"
_NOT_FOUND: Final = "No message of this id is visible to this key."
#: From the beginning.
_ORIGIN: Final = "0"
#: A client whose stream has ended comes back after some of these, so that not all of them come at once.
_RETRY_MILLISECONDS: Final = (1_000, 5_000)
_LOST_SECONDS: Final = 1.0
_encode: Final = msgspec.json.Encoder().encode

#: A place in a message's history: recording time in microseconds, bucket and version of its stream.
Mark = tuple[int, int, int]
_BEGINNING: Final[Mark] = (0, 0, 0)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Streams:
    """Handlers. What can be refused is refused before a stream begins; afterwards it can only end."""

    def __init__(
        self,
        *,
        edge: Edge,
        ledger: Ledger,
        access: Access,
        messages: CurrentStatus,
        broadcaster: Broadcaster,
        public_url: str | None,
    ) -> None:
        self._edge = edge
        self._ledger = ledger
        self._access = access
        self._messages = messages
        self._public_url = public_url
        self.broadcaster = broadcaster

    # The tail ---------------------------------------------------------------------------------------------------------

    async def tail(self, request: Request) -> Response:
        def read(_: ApiKey) -> tuple[Callable[[ChangeShape], bool], list[int]]:
            told = queries.parameters(request, (*FILTERS, _LAST_ID_PARAMETER))
            return _wants(told), _cursor(_last_id(request, told), self.broadcaster.heads())

        key, (wants, cursor) = await admitted(self._edge, self._access, request, read)
        head = described(request)
        if head is not None:
            return head
        outlet = self.broadcaster.admit(key.id)
        listener = Listener(outlet, (key.account, key.channel.value), cursor, wants)
        return EventStream(outlet, partial(self._tell, listener), partial(self._left, listener))

    async def _tell(self, listener: Listener, write: Write) -> None:
        """Catch up with the broadcaster at the client's pace, join, and pass on what is put into the outlet."""
        await write(_retry() + listener.id() + b"\n")
        await self.broadcaster.ready(listener.outlet)
        while True:
            try:
                found = await self._edge.read(
                    self.broadcaster.hear, listener.cursor, lambda *told: told == listener.scope
                )
            except Problem:
                await listener.outlet.pause(_LOST_SECONDS)
                continue
            blocks = [block for heard in found if (block := listener.told(heard)) is not None]
            # Between looking and joining nothing else runs: what is read from here on is heard.
            if len(found) < PAGE_EVENTS and self.broadcaster.is_abreast(listener.cursor):
                self.broadcaster.join(listener)
                break
            await self._write_tail(blocks, write)
        await self._write_tail(blocks, write)
        while True:
            await write(await listener.outlet.take())

    async def _write_tail(self, blocks: list[bytes], write: Write) -> None:
        if blocks:
            metrics.count_streamed("tail", len(blocks))
            await write(b"".join(blocks))

    def _left(self, listener: Listener) -> None:
        self.broadcaster.leave(listener)
        self.broadcaster.release(listener.outlet)

    # One message ------------------------------------------------------------------------------------------------------

    async def message(self, request: Request) -> Response:
        def read(key: ApiKey) -> tuple[int, UUID, Mark | None]:
            told = queries.parameters(request, (_LAST_ID_PARAMETER,))
            asked = queries.message_id(request.path_params["message_id"])
            return asked, self._visible(key, asked).stream_id, _mark(_last_id(request, told))

        key, (asked, stream_id, mark) = await admitted(self._edge, self._access, request, read)
        head = described(request)
        if head is not None:
            return head
        outlet = self.broadcaster.admit(key.id)
        follower = _Follower(self, key, asked, outlet, mark=mark, base_url=base_of(request, self._public_url))
        follower.watch(stream_id)
        return EventStream(outlet, follower.run, follower.leave)

    def _visible(self, key: ApiKey, message_id: int) -> Opened:
        opened = self._messages.get(message_id)
        if opened is None or opened.message.account != key.account or opened.message.channel is not key.channel:
            raise Problem("not_found", _NOT_FOUND)
        return opened

    def history(self, key: ApiKey, message_id: int) -> tuple[Opened, list[RecordedEvent]]:
        opened = self._visible(key, message_id)
        return opened, self._ledger.history(opened.stream_id)

    async def read(self, function: Callable[[], T]) -> T:
        return await self._edge.read(function)

    @property
    def partitions(self) -> int:
        return self._ledger.partitions


class _Follower:
    """Follows one message, through every stream that tells of it."""

    __slots__ = ("_asked", "_base", "_key", "_mark", "_outlet", "_streams", "_watched")

    def __init__(
        self, streams: Streams, key: ApiKey, asked: int, outlet: Outlet, *, mark: Mark | None, base_url: str
    ) -> None:
        self._streams = streams
        self._key = key
        self._asked = asked
        self._outlet = outlet
        self._mark = mark  #: None: begin with where the message stands
        self._base = base_url
        self._watched: list[UUID] = []

    def watch(self, stream_id: UUID) -> None:
        self._watched.append(stream_id)
        self._streams.broadcaster.watch(self._outlet, stream_id)

    async def run(self, write: Write) -> None:
        await write(_retry() + b"\n")
        await self._streams.broadcaster.ready(self._outlet)
        while True:
            try:
                opened, events = await self._streams.read(partial(self._streams.history, self._key, self._asked))
            except Problem as problem:
                if problem.code != "unavailable":
                    raise
                await self._outlet.pause(_LOST_SECONDS)
                continue
            if opened.stream_id not in self._watched:
                # Hand-off may have taken the message to another stream. Look again: something may have come meanwhile.
                self.watch(opened.stream_id)
                continue
            blocks = self._blocks(opened, events)
            if blocks:
                metrics.count_streamed("message", len(blocks))
                await write(b"".join(blocks))
            pulse = await self._outlet.take()
            if pulse:
                await write(pulse)

    def _blocks(self, opened: Opened, events: list[RecordedEvent]) -> list[bytes]:
        """Return what has not been sent yet."""
        if not events:
            return []
        if self._mark is None:
            self._mark = _mark_of(events[-2]) if len(events) > 1 else _BEGINNING
        sent = self._mark
        marks = list(map(_mark_of, events))
        if marks[-1] <= sent:
            return []
        self._mark = marks[-1]
        shown = zip(marks, replay(opened, events, self._base, self._streams.partitions), strict=True)
        return [_block(mark, each) for mark, each in shown if mark > sent]

    def leave(self) -> None:
        for stream_id in self._watched:
            self._streams.broadcaster.unwatch(self._outlet, stream_id)
        self._streams.broadcaster.release(self._outlet)


def _block(mark: Mark, each: StreamedMessage) -> bytes:
    return f"id: {mark[0]}-{mark[1]}-{mark[2]}\nevent: message\ndata: ".encode() + _encode(each) + b"\n\n"


def _mark_of(recorded: RecordedEvent) -> Mark:
    micros = (recorded.recorded_at - _EPOCH) // timedelta(microseconds=1)
    return micros, bucket(recorded.stream_id), recorded.version


# What a client says ---------------------------------------------------------------------------------------------------


def _retry() -> bytes:
    return b"retry: %d\n" % random.randint(*_RETRY_MILLISECONDS)  # noqa: S311  # spreads returns, protects nothing


def _last_id(request: Request, told: dict[str, str]) -> str | None:
    """Return the id a client has got last: of the header, or of the parameter where no header can be set."""
    return request.headers.get(LAST_ID) or told.get(_LAST_ID_PARAMETER) or None


def _unknown_id() -> Problem:
    return invalid_parameter(LAST_ID, "must be the id of an event of this stream, or 0 for its beginning")


def _cursor(text: str | None, heads: list[int]) -> list[int]:
    """Return where the tail goes on, a position for each partition. Raises Problem for what was never an id here."""
    if text is None:
        return heads
    if text == _ORIGIN:
        return [0] * len(heads)
    if not re.fullmatch(r"[0-9]{1,18}(\.[0-9]{1,18})*", text):
        raise _unknown_id()
    cursor = [int(number) for number in text.split(".")]
    # A position that has not been reached is of another database, or of one that has lost its end.
    if len(cursor) != len(heads) or any(mine > head for mine, head in zip(cursor, heads, strict=True)):
        raise _unknown_id()
    return cursor


def _mark(text: str | None) -> Mark | None:
    if text is None:
        return None
    if text == _ORIGIN:
        return _BEGINNING
    match = re.fullmatch(r"([0-9]{1,18})-([0-9]{1,3})-([0-9]{1,9})", text)
    if match is None:
        raise _unknown_id()
    return int(match[1]), int(match[2]), int(match[3])


def _wants(told: dict[str, str]) -> Callable[[ChangeShape], bool]:
    """Return what a client wants of the tail. Raises Problem for a filter that cannot be."""
    filters = queries.filters({name: text for name, text in told.items() if name != "changes"}, "", "")
    changes = told.get("changes", "all")
    if changes not in ("all", "status"):
        raise invalid_parameter("changes", 'must be "all" or "status"')
    expected = {
        name: value
        for name in ("provider", "client_reference", "recipient")
        if (value := getattr(filters, name)) is not None
    }

    def wants(change: ChangeShape) -> bool:
        if changes == "status" and not change.changed:
            return False
        if filters.status and change.status not in filters.status:
            return False
        return all(getattr(change, name) == value for name, value in expected.items())

    return wants
