"""A process that asks about one account's messages, as `serve` does, until it is killed.

    python -m tests.polling.one_poller DATABASE_URL BASE_URL ACCOUNT LEASE_SECONDS

It says "ready" when it begins.
"""

import random
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial

from ledger.ingest.accept import Intake
from ledger.ingest.writer import Writer
from ledger.polling.account import AccountPoller, Recorder
from ledger.polling.asking import Asker
from ledger.polling.client import Client
from ledger.polling.worker import deliver
from ledger.providers import PROVIDERS
from ledger.store.application import Ledger
from ledger.store.polls import Polls
from ledger.wire.contract import Polling, Secret
from projections import current_status
from tests.builders import NAMES
from tests.plugins.ledger import MASTER_KEY
from tests.polling.provider import ACCOUNT, TOKEN
from tests.providers.requests import an_account


@contextmanager
def real_poller(
    ledger: Ledger, writer: Writer, polling: Polling, account: str, lease: float, *, width: int | None = None
) -> Iterator[AccountPoller]:
    """Yield a poller of an account at Twilio, by the clocks of the machine and of the database."""
    provider = PROVIDERS["twilio"]
    assert provider.polls is not None
    intake = Intake(an_account("twilio", "secret", name=account, poll=polling), provider, NAMES, keeps_items=True)
    client = Client(polling)
    asker = Asker(intake, provider.polls, polling, client, now=lambda: datetime.now(UTC))
    poller = AccountPoller(
        asker,
        Polls(ledger, lease_seconds=lease),
        ledger,
        Recorder(writer.submit),
        account=account,
        wait=threading.Event().wait,
        chance=random.Random(),
        width=width,
    )
    try:
        yield poller
    finally:
        poller.close()
        client.close()


def a_polling(base_url: str, **told: float) -> Polling:
    told = {"rate": 500.0, "timeout_seconds": 0.5, **told}
    return Polling(base_url=base_url, secret=Secret(TOKEN), account=ACCOUNT, **told)  # type: ignore[arg-type]


def main(url: str, base_url: str, account: str, lease: float) -> None:
    ledger = Ledger(url, partitions=1, names=NAMES, master_key=MASTER_KEY, pool_size=3)
    writer = Writer(ledger, partial(current_status.row, ledger.names), deliver)
    writer.start()
    pause = threading.Event()
    with real_poller(ledger, writer, a_polling(base_url), account, lease) as poller:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            pause.wait(min(0.05, poller.round()))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4]))
