"""Is it alive, may it take traffic, what does it count."""

from collections.abc import Callable
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ledger.http import metrics
from ledger.http.edge import Edge
from ledger.http.problems import Problem
from ledger.store.application import Ledger

_POSITIONS: Final = b"SELECT partition, position FROM partition_heads ORDER BY partition"


class Readiness(msgspec.Struct, frozen=True):
    """`positions`: events recorded, by partition."""

    ready: bool
    database: str
    waiting: int
    positions: dict[str, int]


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
            positions = await self._edge.read(self._positions)
            answer = Readiness(not self._draining(), "ok", waiting, positions)
        except Problem:
            answer = Readiness(False, "unavailable", waiting, {})
        return Response(msgspec.json.encode(answer), 200 if answer.ready else 503, media_type="application/json")

    async def metrics(self, _: Request) -> Response:
        metrics.WAITING.set(self._edge.writer.depth if self._edge.writer else 0)
        return Response(metrics.render(self._multiprocess), media_type="text/plain; version=0.0.4; charset=utf-8")

    def _positions(self) -> dict[str, int]:
        with self._ledger.reading() as cursor:
            return {str(partition): position for partition, position in cursor.execute(_POSITIONS)}
