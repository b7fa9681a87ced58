"""Checkpoints for whoever asks: they name nobody, and are worth the more the more people hold them."""

import re
from collections.abc import Callable
from datetime import datetime

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ledger.http import queries
from ledger.http.edge import Edge
from ledger.http.problems import Problem
from ledger.proof import notes
from ledger.proof.notes import PublicKey
from ledger.store import checkpoints
from ledger.store.application import Ledger


class CheckpointShape(msgspec.Struct, frozen=True, kw_only=True):
    """What is signed of one partition. `note` is the whole of it."""

    partition: int
    position: int
    root: str
    hash: str
    time: datetime
    origin: str
    public_key: str
    note: str


class CheckpointPage(msgspec.Struct, frozen=True, kw_only=True):
    items: list[CheckpointShape]
    next_cursor: str | None


class EvidenceApi:
    """Handlers. None needs a key."""

    def __init__(self, edge: Edge, ledger: Ledger, public_key: Callable[[str], PublicKey]) -> None:
        """`public_key` gives the key that verifies checkpoints of an origin."""
        self._edge = edge
        self._ledger = ledger
        self._public_key = public_key

    async def checkpoints(self, request: Request) -> Response:
        """Answer the newest checkpoint of every partition."""
        queries.parameters(request, ())
        found = await self._edge.read(self._newest)
        page = CheckpointPage(items=[self._shown(note) for note in found.values()], next_cursor=None)
        return Response(msgspec.json.encode(page), media_type="application/json")

    async def checkpoint(self, request: Request) -> Response:
        """Answer the newest checkpoint of one partition, as a signed note."""
        queries.parameters(request, ())
        partition = request.path_params["partition"]
        found = await self._edge.read(self._newest)
        note = found.get(int(partition)) if re.fullmatch(r"[0-9]{1,3}", partition) else None
        if note is None:
            raise Problem("not_found", "There is no checkpoint of this partition yet.")
        return Response(note, media_type="text/plain; charset=utf-8")

    def _newest(self) -> dict[int, str]:
        with self._ledger.reading() as cursor:
            return checkpoints.newest_of_all(cursor)

    def _shown(self, note: str) -> CheckpointShape:
        stated = notes.checkpoint(notes.split(note)[0])
        return CheckpointShape(
            partition=stated.partition,
            position=stated.position,
            root=stated.root.hex(),
            hash=stated.hash.hex(),
            time=stated.recorded_at,
            origin=stated.origin,
            public_key=str(self._public_key(stated.origin)),
            note=note,
        )
