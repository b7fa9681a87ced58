"""Errors of kinds that are made in practice, planted one at a time: each must be found by what is judged.

Every one changes one promise of the store, of the writer or of the way in, and nothing else.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final
from uuid import UUID

import msgspec

from ledger.ingest.writer import Writer
from ledger.store.application import Loaded, StoreUnavailable, StreamMoved
from ledger.store.mapper import Stored
from scripts.chaos_suite.simulation.following import Connection
from scripts.chaos_suite.simulation.store import Line, Row, SimulatedLedger, Store, Written


def _same(type_: type[Any]) -> type[Any]:
    return type_


class Planted(msgspec.Struct, frozen=True):
    """One error: what to use in the place of what."""

    name: str
    answers_first: bool = False
    store: Callable[[type[Store]], type[Store]] = _same
    ledger: Callable[[type[SimulatedLedger]], type[SimulatedLedger]] = _same
    writer: Callable[[type[Writer]], type[Writer]] = _same
    places: tuple[tuple[object, str, object], ...] = ()


class _Forgetful(SimulatedLedger):
    """Does not know which observations are on record."""

    def load(self, stream_ids: Iterable[UUID]) -> list[Loaded]:
        return [
            msgspec.structs.replace(
                loaded,
                snapshot=msgspec.structs.replace(
                    loaded.snapshot, message=msgspec.structs.replace(loaded.message, keys=frozenset())
                ),
            )
            for loaded in super().load(stream_ids)
        ]


class _Stale(SimulatedLedger):
    """Now and then decides upon the message as it was one append ago."""

    def _loaded(self, stream_id: UUID, row: Row | None, wrapped: bytes | None) -> Loaded:
        if row is not None and row.before is not None and self.store.simulation.chance(0.2):
            row = row._replace(state=row.before)
        return super()._loaded(stream_id, row, wrapped)


class _ConflictIsDone(SimulatedLedger):
    """Takes a conflict for a sign that somebody else has recorded the same."""

    def append(self, *arguments: Any) -> list[int]:
        try:
            return super().append(*arguments)
        except StreamMoved:
            return []


class _UnknownIsDone(SimulatedLedger):
    """Takes a lost answer for a good one."""

    def append(self, *arguments: Any) -> list[int]:
        try:
            return super().append(*arguments)
        except StoreUnavailable:
            return []


class _Sleepy(Writer):
    """Forgets that it was called: nobody calls it again."""

    def _call(self) -> None:
        super()._call()
        self._is_called = not self._idle


class _RowsApart(Store):
    """Writes events, and rows in a transaction of their own, which may fail."""

    def commit(
        self, entries: Sequence[Stored], keys: Sequence[bytes], rows: Sequence[Written], captures: Sequence[bytes]
    ) -> None:
        super().commit(entries, keys, [], captures)
        if not self.simulation.chance(self.weather.refused):
            super().commit([], [], rows, [])


class _EarlyPositions(Store):
    """Hands out positions before the commit: a reader may see the later one first, and go past the earlier one."""

    def visible(self, part: int, after: int) -> list[Line]:
        found = super().visible(part, after)
        return found[1:] if len(found) > 1 and self.simulation.chance(0.2) else found


NOTHING: Final = Planted("nothing")
ALL: Final = (
    Planted("answer before commit", answers_first=True),
    Planted("no deduplication", ledger=lambda _: _Forgetful),
    Planted("decided upon a stale row", ledger=lambda _: _Stale),
    Planted("conflict taken for done", ledger=lambda _: _ConflictIsDone),
    Planted("lost answer taken for done", ledger=lambda _: _UnknownIsDone),
    Planted("rows outside the transaction", store=lambda _: _RowsApart),
    Planted("positions handed out before the commit", store=lambda _: _EarlyPositions),
    Planted("cursor moved outside the transaction", places=((Connection, "moves_at_once", True),)),
    Planted("lost wake-up", writer=lambda _: _Sleepy),
)
