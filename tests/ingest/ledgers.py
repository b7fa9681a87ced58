"""A ledger that a test can look over the shoulder of, and a writer that it can hold back."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

from ledger.domain.events import AnyEvent, StatusObserved
from ledger.domain.message import Correct
from ledger.domain.status import Outcome, Verdict
from ledger.ingest.writer import Job, Statement
from ledger.store.application import Ledger
from ledger.store.captures import Capture
from ledger.store.mapper import Entry
from ledger.store.rows import StatusRow
from ledger.store.sealing import DataKey
from tests.builders import a_receipt, at
from tests.plugins.ledger import PATIENCE_SECONDS, Pen
from tests.statements import says, stream_of


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
        keys: Sequence[DataKey | None],
        captures: Sequence[Capture] = (),
    ) -> list[int]:
        before, self.once_before = self.once_before, None
        if before is not None:
            before()
        ids = super().append(entries, rows, keys, captures)
        self.appended.append(len(entries))
        after, self.once_after = self.once_after, None
        if after is not None:
            after()
        return ids


class Gate:
    """Holds the writer back before its next append, so that everything submitted meanwhile has to wait."""

    def __init__(self, watched: WatchedLedger) -> None:
        self._reached, self._opened = threading.Event(), threading.Event()
        watched.once_before = self._hold

    def _hold(self) -> None:
        self._reached.set()
        assert self._opened.wait(PATIENCE_SECONDS)

    def wait_until_reached(self) -> None:
        assert self._reached.wait(PATIENCE_SECONDS)

    def open(self) -> None:
        self._opened.set()


def held(pen: Pen, watched: WatchedLedger) -> tuple[Gate, Job]:
    """Make the writer wait in the middle of a first job."""
    gate = Gate(watched)
    first = pen.submit(Job([says(reference="first")]))
    gate.wait_until_reached()
    return gate, first


def events(ledger: Ledger, reference: str = "reference-1") -> list[AnyEvent]:
    return [recorded.event for recorded in ledger.history(stream_of(reference))]


def verdicts(ledger: Ledger, reference: str = "reference-1") -> list[Verdict]:
    return [event.verdict for event in events(ledger, reference) if isinstance(event, StatusObserved)]


def a_correction(to: Outcome = Outcome.DELIVERED, reference: str = "reference-1") -> Statement:
    receipt = a_receipt(received_at=at(9))
    return Statement(stream_of(reference), Correct(to=to, by="operator-1", why="asked", relied_on=(), receipt=receipt))


def a_capture(content: bytes = b"unreadable") -> Capture:
    return Capture(
        account="account-1", provider="provider-1", reason="r", content=content, content_type="", received_at=at(0)
    )
