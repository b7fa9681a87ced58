"""Conflicts by example: who said what, and the corrections that alone lead out of an outcome."""

import pytest

from ledger.domain.events import StatusCorrected, StatusObserved
from ledger.domain.evidence import Failure
from ledger.domain.message import DELIVERY_WINS, NotInConflict, Observe, decide, evolve
from ledger.domain.observation import Source
from ledger.domain.reading import failure, last_updated
from ledger.domain.status import Channel, Conflict, FailureKind, Outcome, Status, Verdict
from tests.builders import a_claim, a_message, a_receipt, at, correct_command, observe_command, observed

SENT, DELIVERED, READ, DELETED = Status.SENT, Status.DELIVERED, Status.READ, Status.DELETED
UNDELIVERED = a_claim(Status.FAILED, FailureKind.UNDELIVERED)


def test_first_claim_of_each_side_is_kept_as_witness() -> None:
    message = a_message(
        observed(UNDELIVERED, 1, error_code="30003"),
        observed(DELIVERED, 2),
        observed(READ, 3),
        observed(Status.FAILED, 4),
    )

    failed, delivered = message.witnesses[Outcome.FAILED], message.witnesses[Outcome.DELIVERED]
    assert {Outcome.FAILED, Outcome.DELIVERED} == set(message.witnesses)
    assert (failed.status, failed.kind, failed.error_code) == (Status.FAILED, FailureKind.UNDELIVERED, "30003")
    assert (at(1), at(1), Source.CALLBACK) == (failed.occurred_at, failed.received_at, failed.source)
    assert (DELIVERED, None, at(2)) == (delivered.status, delivered.kind, delivered.received_at)


def test_correction_is_attributed_and_leaves_the_evidence_alone() -> None:
    message = a_message(observed(Status.FAILED, 1), observed(DELIVERED, 2))
    receipt = a_receipt(source=Source.SENDER, received_at=at(9))

    (event,) = decide(message, correct_command(Outcome.DELIVERED, receipt=receipt))
    corrected = evolve(message, event)

    assert event == StatusCorrected(
        account="account-1",
        provider="provider-1",
        channel=Channel.SMS,
        to=Outcome.DELIVERED,
        by="operator-1",
        why="The recipient answered.",
        relied_on=(1, 2),
        status_before=Status.FAILED,
        status_after=DELIVERED,
        received_at=at(9),
    )
    assert (corrected.status, corrected.kind, corrected.conflict) == (DELIVERED, None, Conflict.SETTLED)
    assert (message.evidence, message.keys) == (corrected.evidence, corrected.keys)
    assert (message.version + 1, at(2)) == (corrected.version, last_updated(corrected))


def test_correction_to_failed_takes_the_kind_of_the_earliest_failure() -> None:
    message = a_message(observed(DELIVERED, 1), observed(Status.FAILED, 3), observed(UNDELIVERED, 2))

    corrected = evolve(message, *decide(message, correct_command(Outcome.FAILED)))

    assert (corrected.status, corrected.kind) == (Status.FAILED, FailureKind.UNDELIVERED)
    assert Failure(at(2), FailureKind.UNDELIVERED) == failure(corrected)


def test_correction_that_confirms_the_outcome_settles_and_changes_nothing_else() -> None:
    message = a_message(observed(DELIVERED, 1), observed(Status.FAILED, 2))

    corrected = evolve(message, *decide(message, correct_command(Outcome.DELIVERED)))

    assert (corrected.status, corrected.conflict, corrected.corrections) == (DELIVERED, Conflict.SETTLED, 0)


@pytest.mark.parametrize(
    "history",
    [
        [],
        [observed(SENT, 1)],
        [observed(DELIVERED, 1)],
        [observed(UNDELIVERED, 1), observed(Status.FAILED, 2)],
        [observed(DELIVERED, 1), observed(Status.FAILED, 2), correct_command(Outcome.FAILED)],
    ],
    ids=["nothing", "pending", "delivered", "two kinds", "settled"],
)
@pytest.mark.parametrize("to", Outcome)
def test_correction_is_refused_without_an_open_conflict(history: list[Observe], to: Outcome) -> None:
    message = a_message(*history)

    with pytest.raises(NotInConflict):
        decide(message, correct_command(to))


def test_nothing_is_corrected_to_pending() -> None:
    message = a_message(observed(DELIVERED, 1), observed(Status.FAILED, 2))

    with pytest.raises(NotInConflict):
        decide(message, correct_command(Outcome.PENDING))


def test_contradiction_after_a_correction_opens_the_conflict_again() -> None:
    settled = [observed(Status.FAILED, 1), observed(DELIVERED, 2), correct_command(Outcome.DELIVERED)]

    message = a_message(*settled, observed(UNDELIVERED, 3))

    assert (message.status, message.conflict) == (DELIVERED, Conflict.OPEN)


@pytest.mark.parametrize("late", [DELIVERED, READ, DELETED])
def test_delivery_wins_by_a_correction_on_record_where_the_account_says_so(late: Status) -> None:
    failed = a_message(observed(Status.FAILED, 1))
    command = observe_command(late, receipt=a_receipt(delivery_wins=True))

    seen, corrected = decide(failed, command)
    message = evolve(evolve(failed, seen), corrected)

    assert isinstance(seen, StatusObserved)
    assert (seen.verdict, seen.status_after) == (Verdict.CONFLICT, Status.FAILED)
    assert isinstance(corrected, StatusCorrected)
    assert (DELIVERY_WINS, Status.FAILED, late) == (corrected.by, corrected.status_before, corrected.status_after)
    assert (late, Conflict.SETTLED, 1) == (message.status, message.conflict, message.corrections)


def test_delivery_that_already_stands_needs_no_correction() -> None:
    command = observe_command(Status.FAILED, receipt=a_receipt(delivery_wins=True))

    assert len(decide(a_message(observed(DELIVERED, 1)), command)) == 1


def test_conflict_is_kept_open_by_default() -> None:
    assert len(decide(a_message(observed(Status.FAILED, 1)), observed(DELIVERED, 2))) == 1
