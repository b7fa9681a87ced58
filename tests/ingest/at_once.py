"""Jobs in one batch, whatever the threads do: everything is submitted before the writer starts."""

from collections.abc import Iterable
from functools import partial

from ledger.ingest.writer import Job, Writer
from ledger.store.application import Ledger
from projections import current_status


def write_at_once(ledger: Ledger, jobs: Iterable[Job]) -> list[Job]:
    """Write jobs as one batch and return them, ended."""
    ended: list[Job] = []
    writer = Writer(ledger, partial(current_status.row, ledger.names), ended.extend)
    for job in jobs:
        writer.submit(job)
    writer.start()
    writer.close()
    return ended
