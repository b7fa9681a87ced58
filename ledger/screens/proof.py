"""The badge that says whether a message's events are where the signed log says: checked anew each time it is shown."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from typing import Final, NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from ledger.domain.identity import partition
from ledger.http import queries
from ledger.http.edge import Edge
from ledger.proof import bundle, notes
from ledger.proof.bundle import NotProved
from ledger.proof.notes import PublicKey
from ledger.screens import rendering
from ledger.screens.message import visible
from ledger.store import access_log, checkpoints, proofs
from ledger.store.application import Ledger
from ledger.store.proofs import NotCovered
from projections.current_status import CurrentStatus, Opened

#: Checks at once: each has a connection and a thread of its own.
_CHECKED_AT_ONCE: Final = 2


class Verified(StrEnum):
    PROVED = "proved"  #: every event hashes into the root of a signed checkpoint
    AWAITED = "awaited"  #: some event is newer than the newest checkpoint
    MISSING = "missing"  #: the log does not hold what the check needs
    BROKEN = "broken"  #: something on record was changed


class Check(NamedTuple):
    outcome: Verified
    events: int
    covered_at: datetime | None  #: of the oldest checkpoint that the check relies on
    why: str | None


class ProofBadge:
    """The handler."""

    def __init__(
        self, *, edge: Edge, ledger: Ledger, messages: CurrentStatus, public_key: Callable[[str], PublicKey]
    ) -> None:
        self._edge = edge
        self._ledger = ledger
        self._messages = messages
        self._public_key = public_key
        self._checking = asyncio.Semaphore(_CHECKED_AT_ONCE)

    async def show(self, request: Request) -> Response:
        queries.parameters(request, ())
        viewer, asked = rendering.viewer_of(request), queries.message_id(request.path_params["message_id"])
        opened = await self._edge.read(visible, self._messages, viewer, asked)
        account = opened.message.account
        await self._edge.read(
            access_log.record, self._ledger, viewer.name, "proof", message_id=asked, account=account, detail="page"
        )
        async with self._checking:
            check = await asyncio.to_thread(self._check, opened, asked)
        return rendering.page(request, "proof.html", check=check, asked=asked)

    def _check(self, opened: Opened, asked: int) -> Check:
        """Verify a message as the receiver of its proof would. Raises StoreUnavailable."""
        streams = [opened.stream_id, *opened.message.links]
        partitions = {partition(stream_id, self._ledger.partitions) for stream_id in streams}
        with self._ledger.connect() as connection:
            with connection.cursor() as cursor:
                newest = checkpoints.newest_of_all(cursor)
            signed = {
                part: (notes.checkpoint(notes.split(note)[0]), note)
                for part, note in newest.items()
                if part in partitions
            }
            keys = list(dict.fromkeys(self._public_key(stated.origin) for stated, _ in signed.values()))
            covered_at = min((stated.recorded_at for stated, _ in signed.values()), default=None)
            try:
                proof = proofs.gather(self._ledger, connection, asked, streams, signed, opens=True, keys=keys)
                bundle.check(proof)
            except NotCovered:
                return Check(Verified.AWAITED, 0, covered_at, None)
            except NotProved as error:
                return Check(Verified.BROKEN, 0, covered_at, str(error))
            except LookupError as error:
                return Check(Verified.MISSING, 0, covered_at, str(error))
        return Check(Verified.PROVED, len(proof.events), covered_at, None)
