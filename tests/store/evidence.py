"""What tests of evidence share: a signer, checkpoints over a ledger's own connection, messages to speak of."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ledger.domain.status import Status
from ledger.proof import notes
from ledger.proof.notes import Checkpoint, Signer
from ledger.store.checkpoints import Checkpoints, Store
from ledger.store.scan import connected
from ledger.wire.contract import Secret
from tests.plugins.ledger import Pen
from tests.statements import an_account, says

SIGNER = Signer(Secret(bytes(range(32))))
KEY = SIGNER.public_key("status-ledger")


@contextmanager
def signing(url: str, place: Path | str) -> Iterator[Checkpoints]:
    with connected(url) as connection:
        yield Checkpoints(connection, SIGNER, Store(str(place)))


def signed(url: str, place: Path | str) -> list[Checkpoint]:
    """Sign what is new and return it, read again with the public key alone."""
    with signing(url, place) as checkpoints:
        return [notes.checkpoint(notes.opened(note, [KEY])) for note in checkpoints.due(now=True)]


def write(pen: Pen, messages: int, reports: int = 3, account: str | None = None) -> str:
    """Record reports of messages, each in a transaction of all messages; return the account's name."""
    account = account or an_account()
    for minute in range(reports):
        status = (Status.SENT, Status.DELIVERED, Status.READ)[minute % 3]
        statements = [
            says(status, minute, reference=f"message-{number}", account=account, event_id=str(minute))
            for number in range(messages)
        ]
        pen.write(*statements)
    return account
