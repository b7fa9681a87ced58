"""A ledger that a test can look over the shoulder of."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

from ledger.store.application import Ledger
from ledger.store.captures import Capture
from ledger.store.mapper import Entry
from ledger.store.rows import StatusRow
from ledger.store.sealing import DataKey


class WatchedLedger(Ledger):
    """Counts appends, and lets a test act right before and right after the next one (`once_before`, `once_after`)."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.appended: list[int] = []  #: events of each append that succeeded
        self.once_before: Callable[[], object] | None = None
        self.once_after: Callable[[], object] | None = None
        super().__init__(*arguments, **options)

    def append(
        self,
        entries: list[Entry],
        rows: Sequence[StatusRow],
        opened: Mapping[UUID, DataKey],
        captures: Sequence[Capture] = (),
    ) -> list[int]:
        before, self.once_before = self.once_before, None
        if before is not None:
            before()
        ids = super().append(entries, rows, opened, captures)
        self.appended.append(len(entries))
        after, self.once_after = self.once_after, None
        if after is not None:
            after()
        return ids
