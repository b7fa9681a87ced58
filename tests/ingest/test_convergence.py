"""The same callbacks from everywhere at once: every observation on record exactly once, every message as it must be."""

import json
import subprocess
import sys
from collections import Counter
from itertools import count, permutations
from pathlib import Path

import pytest

from ledger.domain.events import StatusObserved
from ledger.domain.message import Observe
from ledger.domain.status import Conflict, FailureKind, Status
from ledger.ingest.writer import Job
from ledger.store.application import Ledger, fold
from tests.builders import a_claim
from tests.domain import machine
from tests.ingest import courier
from tests.plugins.ledger import PATIENCE_SECONDS, OpenLedger, Shape, write_at_once
from tests.projections import rebuilding
from tests.statements import says, stream_of

ROOT = Path(__file__).parents[2]
_number = count(1)


def race(url: str, partitions: int, processes: int) -> Counter[str]:
    """Let couriers go at once and return how all their deliveries ended."""
    couriers = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.ingest.courier", url, str(partitions), str(100 * n)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for n in range(processes)
    ]
    for each in couriers:
        assert each.stdin is not None
        each.stdin.close()
        each.stdin = None
    ended = Counter[str]()
    for each in couriers:
        output, errors = each.communicate(timeout=3 * PATIENCE_SECONDS)
        assert each.returncode == 0, errors
        ended.update(json.loads(output))
    return ended


@pytest.mark.parametrize("shape", [Shape(1), Shape(4)], ids=str)
def test_four_writers_in_two_processes_record_every_callback_once(
    shaped_url: str, shape: Shape, open_ledger: OpenLedger
) -> None:
    ledger = open_ledger(shaped_url, partitions=shape.partitions)
    expected = {(each.stream_id, each.command.key) for each in courier.callbacks() if isinstance(each.command, Observe)}
    writers = 2 * courier.WRITERS

    ended = race(shaped_url, shape.partitions, processes=2)

    assert (ended["recorded"], ended["redelivered"]) == (len(expected), (writers - 1) * len(expected))
    streams = [stream_of(f"message-{n}") for n in range(courier.MESSAGES)]
    recorded = [
        (each.stream_id, each.event.key)
        for stream_id in streams
        for each in ledger.history(stream_id)
        if isinstance(each.event, StatusObserved)
    ]
    assert len(recorded) == len(expected) == courier.MESSAGES * courier.CALLBACKS_EACH
    assert set(recorded) == expected
    messages = [fold(ledger.history(stream_id)) for stream_id in streams]
    assert [message.conflict for message in messages] == [Conflict.NONE, Conflict.OPEN] * (courier.MESSAGES // 2)
    assert {message.status for message in messages[::2]} == {Status.READ}
    assert {message.status for message in messages[1::2]} <= {Status.READ, Status.FAILED}
    assert rebuilding.differences(ledger) == []


SAID = [
    (a_claim(Status.SENT), 1),
    (a_claim(Status.DELIVERED), 2),
    (a_claim(Status.READ), 3),
    (a_claim(Status.FAILED, FailureKind.UNDELIVERED), 2),
]


def test_every_order_of_four_claims_ends_alike_but_for_the_outcome_of_their_conflict(shared_ledger: Ledger) -> None:
    """All 24 orders through the store, each for a message of its own."""
    numbered = {f"convergence-{next(_number)}": order for order in permutations(SAID)}
    for step in range(len(SAID)):
        jobs = [Job([says(*order[step], reference=name)]) for name, order in numbered.items()]
        assert [job.error for job in write_at_once(shared_ledger, jobs)] == [None] * len(numbered)

    messages = {order: fold(shared_ledger.history(stream_of(name))) for name, order in numbered.items()}

    evidence = [machine.evidence_as_model(message.evidence) for message in messages.values()]
    assert evidence == [evidence[0]] * 24
    assert {message.conflict for message in messages.values()} == {Conflict.OPEN}
    decided_by = {
        order: next(claim.status for claim, _ in order if claim.status is not Status.SENT) for order in messages
    }
    assert {order: message.status for order, message in messages.items()} == {
        order: Status.FAILED if status is Status.FAILED else Status.READ for order, status in decided_by.items()
    }
