"""One reader of the log a process, and everybody who listens.

The broadcaster knows how far it has read (`positions`). It asks for what follows whenever a writer of this process has
written, and ten times a second, because others write too. Each event is opened and encoded once, only if somebody
listens to its account and channel, and put into the outlet of everybody it concerns. Nobody listens: nothing is read.

Whoever joins must have read up to `positions` first (`is_abreast`), and is told of nothing twice: a listener knows its
own positions, and what it has had is not put again.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, NamedTuple
from uuid import UUID

import msgspec
import structlog

from ledger.http import metrics
from ledger.http.changes import ChangeShape, change_of, hands_over
from ledger.http.edge import Edge
from ledger.http.outlet import BLOCKED_SECONDS_MAX, Ending, Outlet
from ledger.http.problems import Problem, unavailable
from ledger.store.application import Ledger
from ledger.store.keys import ApiKeys
from ledger.store.tail import Place, Tail, Tailed

#: Events read at once, a partition. Opening them holds up the loop: for some 15 ms.
PAGE_EVENTS: Final = 100
#: How long a key that has ended may go on listening.
_KEYS_SECONDS: Final = 5.0
_POLL_SECONDS: Final = 0.1
#: Between two looks while events keep coming: what was written meanwhile is read at once.
_REST_SECONDS: Final = 0.02
_RETRY_SECONDS: Final = 0.5
_SWEEP_SECONDS: Final = 1.0
#: Pulses a sweep: streams that were opened together shall not all be woken together for ever.
_PULSES_MAX: Final = 1_000

Scope = tuple[str, str]  #: account and channel, as of a key

_log = structlog.get_logger("ledger.streams")
_encode: Final = msgspec.json.Encoder().encode


class Heard(NamedTuple):
    """An event as the tail tells it, encoded once for everybody."""

    place: Place
    change: ChangeShape | None  #: None: nobody wanted it, or there is nothing to tell
    data: bytes  #: the block of the event, less its id


class Listener:
    """Somebody who follows the tail: what they want of it, and how far they have been told."""

    __slots__ = ("cursor", "outlet", "scope", "wants")

    def __init__(self, outlet: Outlet, scope: Scope, cursor: list[int], wants: Callable[[ChangeShape], bool]) -> None:
        self.outlet = outlet
        self.scope = scope
        self.cursor = cursor  #: a position for each partition
        self.wants = wants

    def told(self, heard: Heard) -> bytes | None:
        """Return what an event is to this listener: a block; None if it is nothing or has been told before."""
        partition, position = heard.place.partition, heard.place.position
        if position <= self.cursor[partition]:
            return None
        self.cursor[partition] = position
        if heard.change is None or not self.wants(heard.change):
            return None
        return self.id() + heard.data

    def id(self) -> bytes:
        return b"id: " + ".".join(map(str, self.cursor)).encode() + b"\n"


class Broadcaster:
    """Opened and closed with the application."""

    def __init__(self, edge: Edge, ledger: Ledger, keys: ApiKeys, *, streams_max: int, pulse_seconds: float) -> None:
        self._edge = edge
        self._ledger = ledger
        self._keys = keys
        self._tail = Tail(ledger)
        self._streams_max = streams_max
        self._pulse_seconds = pulse_seconds  #: of silence, before a stream says that it is alive
        self._outlets: set[Outlet] = set()
        self._listeners: dict[Scope, set[Listener]] = {}
        self._watchers: dict[UUID, set[Outlet]] = {}
        self._positions: list[int] | None = None  #: None: nobody listens
        self._tasks: list[asyncio.Task[None]] = []
        self._is_wanted = asyncio.Event()
        self._is_kicked = asyncio.Event()

    def open(self) -> None:
        loop = asyncio.get_running_loop()
        self._edge.on_written, self._edge.on_drain = self._is_kicked.set, self.drain
        self._tasks = [loop.create_task(self._follow()), loop.create_task(self._sweep())]

    async def close(self) -> None:
        self.drain()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def drain(self) -> None:
        """End every stream: the server does not wait for those who listen."""
        for outlet in tuple(self._outlets):
            outlet.end(Ending.DRAINED)

    # Those who listen -------------------------------------------------------------------------------------------------

    def admit(self, key_id: str | None) -> Outlet:
        """Return an outlet for one more client: of a key, with which it ends, or of none.

        Raises Problem `unavailable` for one too many, or when ending.
        """
        if self._edge.is_draining or len(self._outlets) >= self._streams_max:
            raise unavailable("No more streams can be opened here right now.")
        outlet = Outlet(asyncio.get_running_loop(), key_id)
        self._outlets.add(outlet)
        metrics.STREAMS.set(len(self._outlets))
        self._is_wanted.set()
        return outlet

    def release(self, outlet: Outlet) -> None:
        self._outlets.discard(outlet)
        metrics.STREAMS.set(len(self._outlets))
        why = outlet.ended or Ending.FAILED
        metrics.STREAMS_ENDED.labels(why.value).inc()
        if why is Ending.SLOW:
            _log.info("stream_cut", key_id=outlet.key_id)
        if not self._outlets:
            self._is_wanted.clear()

    async def ready(self, outlet: Outlet) -> None:
        """Wait until the log is followed: what is recorded from then on will be heard. Raises Ended."""
        while self._positions is None:
            await outlet.pause(_POLL_SECONDS / 2)

    def is_abreast(self, cursor: Sequence[int]) -> bool:
        """Tell whether someone who has read so far may join: nothing lies between them and the broadcaster."""
        return self._positions is not None and all(
            mine >= ours for mine, ours in zip(cursor, self._positions, strict=True)
        )

    def join(self, listener: Listener) -> None:
        self._listeners.setdefault(listener.scope, set()).add(listener)
        listener.outlet.pulse = partial(self._pulse, listener)

    def leave(self, listener: Listener) -> None:
        listeners = self._listeners.get(listener.scope, set())
        listeners.discard(listener)
        if not listeners:
            self._listeners.pop(listener.scope, None)

    def watch(self, outlet: Outlet, stream_id: UUID) -> None:
        """Wake an outlet whenever something is recorded in a stream."""
        self._watchers.setdefault(stream_id, set()).add(outlet)

    def unwatch(self, outlet: Outlet, stream_id: UUID) -> None:
        watchers = self._watchers.get(stream_id, set())
        watchers.discard(outlet)
        if not watchers:
            self._watchers.pop(stream_id, None)

    def _pulse(self, listener: Listener) -> bytes:
        """Say how far a listener has been told, though nothing was for it: it need not go there again."""
        if self._positions is not None:
            listener.cursor[:] = map(max, listener.cursor, self._positions)
        return b": \n" + listener.id() + b"\n"

    # Reading ----------------------------------------------------------------------------------------------------------

    def heads(self) -> list[int]:
        return self._tail.heads()

    def hear(self, after: Sequence[int], wanted: Callable[[str, str], bool]) -> list[Heard]:
        """Read what follows, opened where it is wanted. Runs in a fiber; raises StoreUnavailable."""
        return [self._heard(place, tailed) for place, tailed in self._tail.page(after, PAGE_EVENTS, wanted)]

    def _heard(self, place: Place, tailed: object) -> Heard:
        if tailed is None:
            return Heard(place, None, b"")
        if not isinstance(tailed, Tailed):
            _log.error("event_unreadable", partition=place.partition, position=place.position)
            return Heard(place, None, b"")
        if hands_over(tailed):
            return Heard(place, None, b"")
        speaks = tailed.message.linked_to or place.stream_id
        change = change_of(tailed, partial(self._ledger.history, speaks))
        return Heard(place, change, b"event: change\ndata: " + _encode(change) + b"\n\n")

    async def _follow(self) -> None:
        """Read the log as long as somebody listens."""
        while True:
            if not self._outlets:
                self._positions = None
                await self._is_wanted.wait()
            try:
                found = await self._read()
            except Problem:
                await asyncio.sleep(_RETRY_SECONDS)
            except Exception:
                _log.exception("streams_failed")
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                await asyncio.sleep(0 if len(found) >= PAGE_EVENTS else _REST_SECONDS)
                if not found:
                    await self._kicked()

    async def _kicked(self) -> None:
        try:
            await asyncio.wait_for(self._is_kicked.wait(), _POLL_SECONDS)
        except TimeoutError:
            return

    async def _read(self) -> list[Heard]:
        self._is_kicked.clear()
        if self._positions is None:
            self._positions = await self._edge.read(self._tail.heads)
        scopes = frozenset(self._listeners)
        found = await self._edge.read(self.hear, self._positions, lambda *scope: scope in scopes)
        if self._listeners.keys() <= scopes:  # else somebody joined for whom it has not been opened
            self._publish(found)
        return found

    def _publish(self, found: list[Heard]) -> None:
        assert self._positions is not None  # noqa: S101  # `_read` has set it
        for heard in found:
            place = heard.place
            for outlet in self._watchers.get(place.stream_id, ()):
                outlet.wake()
            for listener in self._listeners.get((place.account, place.channel), ()):
                block = listener.told(heard)
                if block is not None:
                    listener.outlet.put(block)
                    metrics.count_streamed("tail")
            self._positions[place.partition] = place.position

    # Upkeep -----------------------------------------------------------------------------------------------------------

    async def _sweep(self) -> None:
        """See to it that streams are alive, that their clients take what is sent, that their keys have not ended."""
        loop = asyncio.get_running_loop()
        checked_at = loop.time()
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            now = loop.time()
            self._beat(now)
            if now - checked_at >= _KEYS_SECONDS and self._outlets:
                checked_at = now
                try:
                    await self._end_keys()
                except Problem:  # the database is away; the next look will tell
                    continue
                except Exception:
                    _log.exception("streams_failed")

    def _beat(self, now: float) -> None:
        pulses = 0
        for outlet in tuple(self._outlets):
            if outlet.blocked_since is not None and now - outlet.blocked_since >= BLOCKED_SECONDS_MAX:
                outlet.end(Ending.SLOW)
            elif now - outlet.sent_at >= self._pulse_seconds and pulses < _PULSES_MAX:
                outlet.beat(now)
                pulses += 1

    async def _end_keys(self) -> None:
        told = {outlet.key_id for outlet in self._outlets if outlet.key_id is not None}
        ended = told - await self._edge.read(self._keys.active, told)
        for outlet in tuple(self._outlets):
            if outlet.key_id in ended:
                outlet.end(Ending.KEY_ENDED)
