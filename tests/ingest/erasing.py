"""An eraser over a test's ledger, with its list and its certificates."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from ledger.domain.message import Person
from ledger.ingest.erase import Eraser, Outcome
from ledger.store.application import Ledger
from ledger.store.checkpoints import log_name
from ledger.store.erasing import Erasing
from ledger.store.scrubs import Scrub
from projections import current_status
from projections.current_status import RECIPIENT
from tests.store.evidence import SIGNER


def an_eraser(ledger: Ledger, list_: Path, scrubs: Sequence[Scrub] = ()) -> Eraser:
    with ledger.reading() as cursor:
        log = log_name(cursor)
    return Eraser(
        ledger,
        Erasing(ledger, scrubs),
        project=partial(current_status.row, ledger.names),
        list_=list_,
        log=log,
        sign=lambda text: SIGNER.sign(text, log),
    )


def erase_recipient(ledger: Ledger, list_: Path, recipient: str, scrubs: Sequence[Scrub] = ()) -> Outcome:
    eraser = an_eraser(ledger, list_, scrubs)
    leading = Erasing(ledger, scrubs).found(RECIPIENT, recipient)
    found = eraser.look(leading, Person(recipient=recipient))
    return eraser.erase(found, by="privacy-officer", why="asked to be forgotten")
