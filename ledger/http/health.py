"""Is it alive, may it take traffic, what does it count."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ledger.http import metrics
from ledger.http.edge import Edge
from ledger.http.problems import Problem
from ledger.store.application import Ledger
from projections import feed
from projections.feed import Progress
from projections.registry import PROJECTIONS

_NOTED_SECONDS: Final = 5.0
_POSITIONS: Final = b"SELECT partition, position FROM partition_heads ORDER BY partition"


class Lag(msgspec.Struct, frozen=True, kw_only=True):
    """Of a projection's live generation, over all partitions."""

    events: int
    seconds: float  #: age of the oldest event that has not been applied
    trend: str  #: falling, rising or steady
    parked: int  #: events that could not be applied


class Readiness(msgspec.Struct, frozen=True):
    """`positions`: events recorded, by partition. `projections`: how far behind the reports are; never a reason not to
    be ready."""

    ready: bool
    database: str
    waiting: int
    positions: dict[str, int]
    projections: dict[str, Lag]


class Health:
    def __init__(self, edge: Edge, ledger: Ledger, *, multiprocess: bool, draining: Callable[[], bool]) -> None:
        self._edge = edge
        self._ledger = ledger
        self._multiprocess = multiprocess
        self._draining = draining

    async def live(self, _: Request) -> Response:
        return Response("ok", media_type="text/plain")

    async def ready(self, _: Request) -> Response:
        waiting = self._edge.writer.depth if self._edge.writer else 0
        try:
            positions, followed = await self._edge.read(self._followed)
            lags = {progress.projection: _lag(progress.projection, followed) for progress in followed}
            answer = Readiness(not self._draining(), "ok", waiting, positions, lags)
        except Problem:
            answer = Readiness(False, "unavailable", waiting, {}, {})
        return Response(msgspec.json.encode(answer), 200 if answer.ready else 503, media_type="application/json")

    async def metrics(self, _: Request) -> Response:
        metrics.WAITING.set(self._edge.writer.depth if self._edge.writer else 0)
        return Response(metrics.render(self._multiprocess), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def watch(self) -> None:
        """Note for the metrics how far projections have come, every few seconds until cancelled."""
        while True:
            with suppress(Problem):
                _, followed = await self._edge.read(self._followed)
                metrics.note_progress(followed)
            await asyncio.sleep(_NOTED_SECONDS)

    def _followed(self) -> "tuple[dict[str, int], list[Progress]]":
        with self._ledger.reading() as cursor:
            positions: dict[str, int] = {str(part): position for part, position in cursor.execute(_POSITIONS)}
            followed = feed.progress(cursor, PROJECTIONS)
        return positions, [progress for progress in followed if progress.state == "live"]


def _lag(projection: str, followed: list[Progress]) -> Lag:
    own = [progress for progress in followed if progress.projection == projection]
    trends = {progress.trend for progress in own}
    return Lag(
        events=sum(progress.lag_events for progress in own),
        seconds=round(max(progress.lag_seconds for progress in own), 3),
        trend="rising" if "rising" in trends else "falling" if "falling" in trends else "steady",
        parked=sum(progress.parked for progress in own),
    )
