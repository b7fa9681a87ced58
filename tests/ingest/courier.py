"""A process that delivers the same callbacks through two writers, each in an order of its own.

    python -m tests.ingest.courier DATABASE_URL PARTITIONS SEED

It delivers again whatever is answered 503, as providers do, and prints how its deliveries ended. It starts when its
input is closed, so that several can be let go at once.
"""

import json
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from random import Random

from ledger.domain.status import FailureKind, Status
from ledger.ingest.writer import Job, Statement
from ledger.store.application import Ledger, StoreUnavailable
from tests.builders import NAMES, a_claim
from tests.plugins.ledger import MASTER_KEY, Pen
from tests.statements import says

MESSAGES = 20
CALLBACKS_EACH = 30
WRITERS = 2
#: Requests under way at each writer.
WINDOW = 40


def callbacks() -> list[Statement]:
    """Return the callbacks that every writer delivers: each message climbs, half of them also fail."""
    statements = []
    for message in range(MESSAGES):
        claims = [a_claim(status) for status in (Status.QUEUED, Status.SENT, Status.DELIVERED, Status.READ)]
        if message % 2:
            claims += [a_claim(Status.FAILED, kind) for kind in FailureKind]
        statements += [says(claims[n % len(claims)], n, reference=f"message-{message}") for n in range(CALLBACKS_EACH)]
    return statements


def deliver(pen: Pen, seed: int) -> Counter[str]:
    told, ended = callbacks(), Counter[str]()
    Random(seed).shuffle(told)
    for start in range(0, len(told), WINDOW):
        waiting = [Job([statement]) for statement in told[start : start + WINDOW]]
        while waiting:
            for job in waiting:
                pen.submit(job)
            again = []
            for job in waiting:
                try:
                    done = pen.finish(job)
                except StoreUnavailable:
                    again.append(Job(job.statements))
                    continue
                ended["recorded"] += len(done.events)
                ended["redelivered"] += done.redelivered
            ended["delivered again"] += len(again)
            waiting = again
    return ended


def main(url: str, partitions: int, seed: int) -> None:
    ledger = Ledger(url, partitions=partitions, names=NAMES, master_key=MASTER_KEY)
    pens = [Pen(ledger) for _ in range(WRITERS)]
    sys.stdin.read()
    with ThreadPoolExecutor(WRITERS) as threads:
        ended = sum(threads.map(deliver, pens, range(seed, seed + WRITERS)), Counter[str]())
    for pen in pens:
        pen.writer.close()
    ledger.close()
    sys.stdout.write(json.dumps(ended))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
