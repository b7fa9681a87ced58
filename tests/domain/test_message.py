"""The message by example: given these statements, when this command, then these events."""

from uuid import UUID

import msgspec
import pytest

from ledger.domain.events import MessageLinked, MessageRegistered, ObservedDetails, RegisteredDetails, StatusObserved
from ledger.domain.evidence import Failure
from ledger.domain.message import OBSERVATIONS_MAX, Message, Observe, decide, evolve
from ledger.domain.observation import Claim, Part, Source
from ledger.domain.reading import Basis, Instant, failure, is_final, keep_polling, time_of, times
from ledger.domain.status import Channel, Conflict, FailureKind, Outcome, Status, Verdict
from tests.builders import (
    NOON,
    a_claim,
    a_message,
    a_receipt,
    an_observation,
    at,
    correct_command,
    events_of,
    link_command,
    observe_command,
    observed,
    register_command,
)

OTHER = UUID("11111111-2222-5333-8444-555555555555")
SENT, DELIVERED, READ, DELETED = Status.SENT, Status.DELIVERED, Status.READ, Status.DELETED
UNDELIVERED = a_claim(Status.FAILED, FailureKind.UNDELIVERED)


def verdicts(*commands: Observe) -> list[Verdict]:
    return [event.verdict for event in events_of(*commands) if isinstance(event, StatusObserved)]


def test_sent_delivered_read_is_three_advances() -> None:
    history = [observed(SENT, 1), observed(DELIVERED, 2), observed(READ, 3)]

    assert verdicts(*history) == [Verdict.ADVANCE] * 3
    assert a_message(*history).status is READ


def test_earlier_claims_after_read_are_late_and_fill_in_their_times() -> None:
    history = [observed(READ, 3), observed(DELIVERED, 2), observed(SENT, 1)]

    message = a_message(*history)

    assert verdicts(*history) == [Verdict.ADVANCE, Verdict.LATE, Verdict.LATE]
    assert message.status is READ
    told = [time_of(message, status) for status in (SENT, DELIVERED, READ)]
    assert [Instant(at(minute), Basis.PROVIDER) for minute in (1, 2, 3)] == told


def test_same_observation_again_appends_nothing() -> None:
    history = [observed(DELIVERED, 2), observed(SENT, 1)]
    message = a_message(*history)

    assert verdicts(*history) == [Verdict.ADVANCE, Verdict.LATE]
    assert decide(message, observed(SENT, 1)) == ()
    assert message.status is DELIVERED


def test_delivery_told_once_a_device_is_an_advance_and_repeats() -> None:
    history = [observed(DELIVERED, 5), observed(DELIVERED, 3), observed(DELIVERED, 4)]

    assert verdicts(*history) == [Verdict.ADVANCE, Verdict.REPEAT, Verdict.REPEAT]


def test_read_alone_implies_delivered_and_sent() -> None:
    message = a_message(observed(READ, 3))

    assert message.status is READ
    assert Instant(at(3), Basis.IMPLIED) == time_of(message, DELIVERED) == time_of(message, SENT)


def test_late_copy_after_a_failure_keeps_the_failure_and_its_reason() -> None:
    history = [
        observed(SENT, 1),
        observed(UNDELIVERED, 2, error_code="30003", error_text="Unreachable"),
        observed(SENT, 3),
    ]

    message = a_message(*history)

    assert verdicts(*history) == [Verdict.ADVANCE, Verdict.ADVANCE, Verdict.LATE]
    assert message.status is Status.FAILED
    assert Failure(at(2), FailureKind.UNDELIVERED, "30003", "Unreachable") == failure(message)


@pytest.mark.parametrize(("first", "second"), [(Status.FAILED, DELIVERED), (DELIVERED, Status.FAILED)])
def test_outcome_recorded_first_stands_and_the_conflict_is_open(first: Status, second: Status) -> None:
    message = a_message(observed(first, 1), observed(second, 2))

    assert message.status is first
    assert message.conflict is Conflict.OPEN
    assert Instant(at(1), Basis.PROVIDER) == time_of(message, first)
    assert Instant(at(2), Basis.PROVIDER) == time_of(message, second)


def test_conflict_does_not_stop_a_climb_within_the_outcome() -> None:
    message = a_message(observed(DELIVERED, 1), observed(Status.FAILED, 2), observed(READ, 3))

    assert (message.status, message.conflict) == (READ, Conflict.OPEN)


def test_corrected_message_goes_on_climbing() -> None:
    history = [
        observed(Status.FAILED, 1),
        observed(DELIVERED, 2),
        correct_command(Outcome.DELIVERED),
        observed(READ, 3),
    ]

    message = a_message(*history)

    assert (message.status, message.conflict, message.corrections) == (READ, Conflict.SETTLED, 1)
    assert failure(message) is None


def test_last_word_without_an_outcome_ends_polling_and_decides_nothing() -> None:
    closing = a_claim(SENT, closes=True)

    message = a_message(observed(SENT, 1), observed(closing, 2, provider_status="delivery_unconfirmed"))

    assert message.status is SENT
    assert not is_final(message)
    assert not keep_polling(message)


def test_unrecognised_word_is_noted_verbatim_and_moves_nothing() -> None:
    (event,) = decide(Message(), observe_command(Status.UNKNOWN, provider_status="shipped", recognised=False))

    assert isinstance(event, StatusObserved)
    assert (event.verdict, event.recognised, event.personal.provider_status) == (Verdict.NOTE, False, "shipped")
    assert evolve(Message(), event).status is Status.UNKNOWN


def test_message_dropped_by_the_network_is_undelivered() -> None:
    message = a_message(observed(SENT, 1), observed(UNDELIVERED, 2, provider_status="DELETED"))

    assert (message.status, message.kind) == (Status.FAILED, FailureKind.UNDELIVERED)


def test_deletion_by_the_recipient_does_not_prove_a_reading() -> None:
    message = a_message(observed(DELIVERED, 1), observed(DELETED, 2))

    assert message.status is DELETED
    assert times(message)["read_at"] is None
    assert times(message)["deleted_at"] == Instant(at(2), Basis.PROVIDER)


def test_event_tells_everything_the_observation_and_the_receipt_told() -> None:
    said = an_observation(
        DELIVERED,
        occurred_at=at(-1),
        event_id="event-1",
        date_text="2503011159",
        error_code="0",
        error_text="fine",
        channel=Channel.WHATSAPP,
        transport="rcs",
        recipient_user_id="user-1",
        participant="member-1",
        provider_account="number-1",
        client_reference="order-1",
        part=1,
        parts=2,
    )
    command = observe_command(said, receipt=a_receipt(source=Source.POLL))

    (event,) = decide(Message(), command)

    assert event == StatusObserved(
        account="account-1",
        provider="provider-1",
        channel=Channel.WHATSAPP,
        key=command.key,
        source=Source.POLL,
        claim=DELIVERED,
        verdict=Verdict.ADVANCE,
        status_before=Status.UNKNOWN,
        status_after=SENT,
        occurred_at=at(-1),
        received_at=NOON,
        event_id="event-1",
        date_text="2503011159",
        error_code="0",
        transport="rcs",
        provider_account="number-1",
        request_digest=command.receipt.request_digest,
        item_digest=command.item_digest,
        part=Part(1, 2),
        country="US",
        personal=ObservedDetails(
            provider_message_id="provider-message-1",
            provider_status="delivered",
            error_text="fine",
            recipient="+15550100",
            recipient_user_id="user-1",
            participant="member-1",
            client_reference="order-1",
            item=said.item,
        ),
    )


def test_item_is_left_out_where_evidence_is_not_kept() -> None:
    (event,) = decide(Message(), observe_command(receipt=a_receipt(keeps_items=False)))

    assert isinstance(event, StatusObserved)
    assert event.personal.item == b""
    assert observe_command().item_digest == event.item_digest


def test_verdict_of_a_stored_event_is_never_used_to_fold_it() -> None:
    (event,) = decide(Message(), observed(SENT, 1))
    told_wrongly = msgspec.structs.replace(event, verdict=Verdict.NOTE, status_after=Status.UNKNOWN)

    assert evolve(Message(), event) == evolve(Message(), told_wrongly)


def test_channel_of_the_first_statement_stays() -> None:
    message = a_message(observe_command(SENT, channel=Channel.WHATSAPP))

    (event,) = decide(message, observe_command(DELIVERED, channel=Channel.VIBER))

    assert event.channel is message.channel is Channel.WHATSAPP


def test_failure_of_no_known_kind_is_a_failure_before_it_left() -> None:
    (event,) = decide(Message(), observe_command(Claim(Status.FAILED), error_text="refused"))
    message = evolve(Message(), event)

    assert isinstance(event, StatusObserved)
    assert event.kind is event.kind_after is message.kind is FailureKind.FAILED
    assert Failure(None, FailureKind.FAILED, "", "refused") == failure(message)


def test_stored_failure_without_a_kind_folds_like_one_with() -> None:
    (event,) = decide(Message(), observe_command(Status.FAILED))

    message = evolve(Message(), msgspec.structs.replace(event, kind=None))

    assert message.kind is FailureKind.FAILED
    assert Failure(None, FailureKind.FAILED) == failure(message)


def test_only_a_failure_has_a_kind() -> None:
    (event,) = decide(Message(), observe_command(Claim(SENT, FailureKind.UNDELIVERED)))

    assert isinstance(event, StatusObserved)
    assert (event.kind, event.kind_after) == (None, None)
    assert evolve(Message(), event).kind is None


def test_kind_shown_first_stays_and_another_kind_is_no_conflict() -> None:
    message = a_message(observed(UNDELIVERED, 1), observed(Status.FAILED, 2))

    assert (message.kind, message.conflict) == (FailureKind.UNDELIVERED, Conflict.NONE)
    assert len(message.evidence.failures) == 2


def test_error_code_makes_no_failure() -> None:
    message = a_message(observed(SENT, 1, error_code="63016", error_text="outside the window"))

    assert message.status is SENT
    assert failure(message) is None


def test_what_a_later_observation_knows_is_filled_in_and_the_first_word_stays() -> None:
    registered = register_command(details=RegisteredDetails(provider_message_id="pm-1", recipient="+1"))

    message = a_message(registered, observed(SENT, 1, recipient="+2", participant="member-1"))

    assert (message.person.provider_message_id, message.person.recipient) == ("pm-1", "+1")
    assert message.person.participant == "member-1"


def test_an_observation_does_not_repeat_what_the_message_is_known_by() -> None:
    first, second = (observed(SENT, minute, participant="member-1", client_reference="order-1") for minute in (1, 2))

    (event,) = decide(a_message(first), second)

    assert isinstance(event, StatusObserved)
    assert event.personal == ObservedDetails(provider_status="sent", item=second.observation.item)
    assert event.country is None
    assert a_message(first, second).person == a_message(first).person


@pytest.mark.parametrize(("raw", "kept"), [("15550100", None), ("+15550100", None), ("001 555-0100", "001 555-0100")])
def test_a_number_as_sent_is_kept_where_it_says_more(raw: str, kept: str | None) -> None:
    (event,) = decide(Message(), observed(SENT, 1, recipient="+15550100", recipient_raw=raw))

    assert isinstance(event, StatusObserved)
    assert event.personal.recipient_raw == kept


def test_the_country_is_recorded_with_whoever_tells_the_number_first() -> None:
    registered = register_command(details=RegisteredDetails(recipient="+16045550100"))

    (event,) = decide(Message(), registered)

    assert isinstance(event, MessageRegistered)
    assert event.country == a_message(registered, observed(SENT, 1, recipient="+4915550100")).country == "CA"
    assert a_message(observed(SENT, 1, recipient="+4915550100"), registered).country == "DE"


def test_full_stream_records_only_what_changes_its_evidence() -> None:
    full = a_message(*(observed(DELIVERED, minute) for minute in range(OBSERVATIONS_MAX)))

    assert OBSERVATIONS_MAX == full.version == len(full.keys)
    assert decide(full, observed(DELIVERED, 90)) == ()
    assert decide(full, observed(Status.UNKNOWN, 91)) == ()
    assert len(decide(full, observed(DELIVERED, -1))) == 1
    assert len(decide(full, observed(SENT, 92))) == 1
    assert len(decide(full, observed(READ, 93))) == 1
    assert len(decide(full, observed(Status.FAILED, 94))) == 1
    assert len(decide(full, observed(a_claim(Status.UNKNOWN, closes=True), 95))) == 1


def test_last_observation_within_the_bound_is_recorded_whatever_it_says() -> None:
    almost = a_message(*(observed(DELIVERED, minute) for minute in range(OBSERVATIONS_MAX - 1)))

    assert len(decide(almost, observed(DELIVERED, 90))) == 1


def test_registration_is_recorded_and_leaves_the_status_alone() -> None:
    command = register_command(queued_at=at(-1))

    (event,) = decide(Message(), command)
    message = evolve(Message(), event)

    assert event == MessageRegistered(
        account="account-1",
        provider="provider-1",
        channel=Channel.SMS,
        registration=command.registration,
        queued_at=at(-1),
        country="US",
        received_at=NOON,
        personal=command.details,
    )
    assert (message.status, message.version) == (Status.UNKNOWN, 0)
    assert Instant(at(-1), Basis.PROVIDER) == time_of(message, Status.QUEUED)


def test_same_registration_again_appends_nothing() -> None:
    message = a_message(register_command())

    assert decide(message, register_command()) == ()
    assert len(decide(message, register_command(registration=b"registration-002"))) == 1


def test_registration_after_reports_keeps_the_status_and_adds_what_the_sender_knows() -> None:
    message = a_message(
        observed(DELIVERED, 1),
        register_command(details=RegisteredDetails(client_reference="order-1", metadata={"tier": "gold"})),
    )

    assert message.status is DELIVERED
    assert (message.person.client_reference, message.person.metadata) == ("order-1", {"tier": "gold"})


def test_provider_time_of_queueing_goes_before_the_senders() -> None:
    message = a_message(register_command(queued_at=at(-5)), observed(Status.QUEUED, 1))

    assert Instant(at(1), Basis.PROVIDER) == time_of(message, Status.QUEUED)


def test_leading_stream_takes_the_other_ones_message_id_and_details() -> None:
    command = link_command(OTHER, details=RegisteredDetails(client_reference="order-1"))

    (event,) = decide(a_message(observed(SENT, 1)), command)
    message = evolve(a_message(observed(SENT, 1)), event)

    assert isinstance(event, MessageLinked)
    assert event.leads
    assert (message.links, message.aliases, message.linked_to) == ((OTHER,), (4711,), None)
    assert (message.status, message.person.client_reference) == (SENT, "order-1")


def test_stream_of_the_sender_knows_who_speaks_for_it() -> None:
    message = a_message(register_command(), link_command(OTHER, leads=False))

    assert (message.linked_to, message.links, message.aliases) == (OTHER, (), ())


@pytest.mark.parametrize("leads", [True, False])
def test_same_link_again_appends_nothing(leads: bool) -> None:
    message = a_message(register_command(), link_command(OTHER, leads=leads))

    assert decide(message, link_command(OTHER, leads=leads)) == ()
