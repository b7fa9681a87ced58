"""The stream that tells an open page of a message that something was recorded: the page then fetches itself anew.

The same broadcaster wakes it as the streams of the API. What it sends is the message's tag and nothing else. A browser
that comes back says which tag it saw last (`Last-Event-ID`, or `seen` the first time): a newer one is told at once.
"""

import asyncio
from typing import Final
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from ledger.http import metrics, queries
from ledger.http.broadcast import Broadcaster
from ledger.http.edge import Edge
from ledger.http.outlet import Ending, EventStream, Outlet, Write, described
from ledger.http.problems import Problem
from ledger.screens import rendering
from ledger.screens.access import Viewer
from ledger.screens.message import tag, visible
from projections.current_status import CurrentStatus

_RETRY_MILLISECONDS: Final = 1_000
_LOST_SECONDS: Final = 1.0


class MessageStream:
    """The handler."""

    def __init__(self, *, edge: Edge, messages: CurrentStatus, broadcaster: Broadcaster) -> None:
        self.edge = edge
        self.messages = messages
        self.broadcaster = broadcaster

    async def follow(self, request: Request) -> Response:
        told = queries.parameters(request, ("seen",))
        viewer, asked = rendering.viewer_of(request), queries.message_id(request.path_params["message_id"])
        await self.edge.read(visible, self.messages, viewer, asked)
        head = described(request)
        if head is not None:
            return head
        seen = request.headers.get("last-event-id") or told.get("seen", "")
        outlet = self.broadcaster.admit(viewer.key_id)
        seconds = (viewer.expires_at - rendering.of(request).now).total_seconds()
        follower = _Follower(self, outlet, viewer, asked, seen=seen, seconds=seconds)
        return EventStream(outlet, follower.run, follower.leave)


class _Follower:
    """One open page. Its stream ends with its session."""

    def __init__(
        self, stream: MessageStream, outlet: Outlet, viewer: Viewer, asked: int, *, seen: str, seconds: float
    ) -> None:
        self._stream = stream
        self._outlet = outlet
        self._viewer = viewer
        self._asked = asked
        self._seen = seen
        self._watched: list[UUID] = []
        self._ends = asyncio.get_running_loop().call_later(seconds, outlet.end, Ending.KEY_ENDED)

    async def run(self, write: Write) -> None:
        await write(b"retry: %d\n\n" % _RETRY_MILLISECONDS)
        await self._stream.broadcaster.ready(self._outlet)
        while True:
            try:
                opened = await self._stream.edge.read(visible, self._stream.messages, self._viewer, self._asked)
            except Problem as problem:
                if problem.code != "unavailable":
                    raise
                await self._outlet.pause(_LOST_SECONDS)
                continue
            if opened.stream_id not in self._watched:
                # Hand-off may have taken the message to another stream. Look again: something may have come meanwhile.
                self._watched.append(opened.stream_id)
                self._stream.broadcaster.watch(self._outlet, opened.stream_id)
                continue
            if self._seen != tag(opened):
                self._seen = tag(opened)
                metrics.count_streamed("page")
                await write(f"id: {self._seen}\nevent: message\ndata: {self._seen}\n\n".encode())
            pulse = await self._outlet.take()
            if pulse:
                await write(pulse)

    def leave(self) -> None:
        self._ends.cancel()
        for stream_id in self._watched:
            self._stream.broadcaster.unwatch(self._outlet, stream_id)
        self._stream.broadcaster.release(self._outlet)
