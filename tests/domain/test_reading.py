"""What readers are told of a message besides its status: times, the failure that counts, what may still come."""

from datetime import timedelta

import msgspec
import pytest

from ledger.domain.events import StatusObserved
from ledger.domain.evidence import Failure
from ledger.domain.message import Message, decide, evolve, is_believed
from ledger.domain.reading import (
    Basis,
    Instant,
    failure,
    is_final,
    keep_polling,
    last_updated,
    may_still_become,
    time_of,
)
from ledger.domain.status import Channel, FailureKind, Status
from tests.builders import NOON, a_claim, a_message, a_receipt, at, observe_command, observed, register_command

SENT, DELIVERED, READ, DELETED = Status.SENT, Status.DELIVERED, Status.READ, Status.DELETED
UNDELIVERED = a_claim(Status.FAILED, FailureKind.UNDELIVERED)


@pytest.mark.parametrize(
    ("offset", "believed"),
    [
        (timedelta(days=-30), True),
        (timedelta(days=-30, microseconds=-1), False),
        (timedelta(minutes=5), True),
        (timedelta(minutes=5, microseconds=1), False),
        (timedelta(), True),
    ],
)
def test_provider_time_is_believed_from_30_days_before_to_5_minutes_after_receipt(
    offset: timedelta, believed: bool
) -> None:
    (event,) = decide(Message(), observe_command(DELIVERED, occurred_at=NOON + offset))
    message = evolve(Message(), event)

    assert isinstance(event, StatusObserved)
    assert (believed, NOON + offset) == (event.believed, event.occurred_at)
    expected = Instant(NOON + offset, Basis.PROVIDER) if believed else Instant(NOON, Basis.RECEIVED)
    assert expected == time_of(message, DELIVERED)
    assert expected.at == last_updated(message)


def test_absent_time_is_not_suspect() -> None:
    assert is_believed(None, NOON)


def test_belief_is_stored_and_not_decided_again() -> None:
    (event,) = decide(Message(), observed(SENT, 1))

    message = evolve(Message(), msgspec.structs.replace(event, believed=False))

    assert message.evidence.first_at == {SENT: None}


def test_provider_that_tells_no_times_gets_ours_for_every_status() -> None:
    message = a_message(
        observe_command(SENT, receipt=a_receipt(received_at=at(0))),
        observe_command(DELIVERED, receipt=a_receipt(received_at=at(1))),
    )

    assert Instant(at(0), Basis.RECEIVED) == time_of(message, SENT)
    assert Instant(at(1), Basis.RECEIVED) == time_of(message, DELIVERED)
    assert at(1) == last_updated(message)


def test_status_implied_by_an_untimed_later_one_takes_our_time_of_that_one() -> None:
    message = a_message(observe_command(READ, receipt=a_receipt(received_at=at(7))))

    assert [Instant(at(7), Basis.RECEIVED)] * 3 == [time_of(message, status) for status in (SENT, DELIVERED, READ)]


def test_provider_time_of_a_later_status_goes_before_our_clock() -> None:
    message = a_message(observe_command(SENT, receipt=a_receipt(received_at=at(0))), observed(DELIVERED, 4))

    assert Instant(at(4), Basis.IMPLIED) == time_of(message, SENT)


def test_earliest_of_several_devices_is_the_time_of_delivery() -> None:
    message = a_message(observed(DELIVERED, 5), observed(DELIVERED, 3), observed(DELIVERED, 4))

    assert Instant(at(3), Basis.PROVIDER) == time_of(message, DELIVERED)


def test_last_updated_before_any_claim_is_registration_else_the_latest_receipt() -> None:
    noted = observe_command(Status.UNKNOWN, receipt=a_receipt(received_at=at(3)))

    assert last_updated(Message()) is None
    assert at(3) == last_updated(a_message(noted))
    assert at(0) == last_updated(a_message(register_command(), noted))


def test_later_failure_without_a_reason_never_erases_a_known_one() -> None:
    message = a_message(observed(UNDELIVERED, 2, error_text="blocked"), observed(UNDELIVERED, 1))

    assert Failure(at(2), FailureKind.UNDELIVERED, "", "blocked") == failure(message)


def test_reason_that_comes_later_refines_an_empty_one() -> None:
    message = a_message(observed(UNDELIVERED, 1), observed(UNDELIVERED, 2, error_code="30003"))

    assert Failure(at(2), FailureKind.UNDELIVERED, "30003", "") == failure(message)


def test_reason_belongs_to_the_kind_shown() -> None:
    message = a_message(observed(UNDELIVERED, 2), observed(Status.FAILED, 1, error_text="no credit"))

    assert Failure(at(2), FailureKind.UNDELIVERED) == failure(message)


@pytest.mark.parametrize(
    ("status", "closes", "final", "polling"),
    [
        (Status.QUEUED, False, False, True),
        (SENT, False, False, True),
        (SENT, True, False, False),
        (Status.UNKNOWN, True, False, False),
        (DELIVERED, False, True, False),
        (READ, False, True, False),
        (DELETED, False, True, False),
        (Status.FAILED, False, True, False),
    ],
)
def test_final_and_worth_polling_are_different_questions(
    status: Status, closes: bool, final: bool, polling: bool
) -> None:
    message = a_message(observe_command(a_claim(status, closes=closes)))

    assert (final, polling) == (is_final(message), keep_polling(message))


def test_report_after_the_last_word_still_counts() -> None:
    message = a_message(observed(a_claim(SENT, closes=True), 1), observed(DELIVERED, 2))

    assert message.status is DELIVERED


def test_anything_higher_may_follow_while_pending_and_only_the_documented_after() -> None:
    sent, read = (a_message(observe_command(status, channel=Channel.WHATSAPP)) for status in (SENT, READ))

    assert may_still_become(sent) == (DELIVERED, READ, DELETED, Status.FAILED)
    assert may_still_become(read) == (DELETED,)
    assert may_still_become(a_message(observe_command(DELIVERED, channel=Channel.SMS))) == ()
    assert may_still_become(a_message(observe_command(Status.FAILED, channel=Channel.WHATSAPP))) == ()
