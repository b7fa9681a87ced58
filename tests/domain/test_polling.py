"""Why and when messages are asked about: laws over any history, and the rules one by one."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.domain import polling
from ledger.domain.events import AnyEvent
from ledger.domain.message import Message, decide, evolve
from ledger.domain.observation import Source
from ledger.domain.polling import Pending, Why, first_ask, follow, holds, next_ask, retry_ask
from ledger.domain.status import Channel, FailureKind, Outcome, Status
from tests.builders import (
    NOON,
    a_claim,
    a_receipt,
    at,
    correct_command,
    events_of,
    link_command,
    observe_command,
    register_command,
)
from tests.statements import stream_of

commands = st.lists(
    st.builds(
        lambda status, kind, closes, minute, code, source, channel: observe_command(
            a_claim(status, kind if status is Status.FAILED else None, closes=closes),
            occurred_at=None if minute is None else at(minute),
            error_code=code if status is Status.FAILED else None,
            receipt=a_receipt(source=source, channel=channel),
        ),
        st.sampled_from(Status),
        st.sampled_from(FailureKind),
        st.booleans(),
        st.none() | st.integers(0, 20),
        st.sampled_from([None, "30003"]),
        st.sampled_from([Source.CALLBACK, Source.CALLBACK, Source.POLL, Source.SENDER]),
        st.just(Channel.WHATSAPP),
    ),
    max_size=8,
)


def followed(events: list[AnyEvent] | tuple[AnyEvent, ...]) -> Pending | None:
    """Follow events that were recorded a minute after one another."""
    row: Pending | None = None
    for version, event in enumerate(events, start=1):
        row = follow(row, event, version, at(version))
    return row


def told(*said: object) -> tuple[Pending | None, Message]:
    message = Message()
    events: list[AnyEvent] = []
    for command in said:
        for event in decide(message, command):  # type: ignore[arg-type]
            events.append(event)
            message = evolve(message, event)
    return followed(events), message


# Why ------------------------------------------------------------------------------------------------------------------


@given(commands)
def test_a_message_without_an_outcome_is_in_the_schedule_exactly_if_asking_can_bring_one(said: list[object]) -> None:
    """What is followed from open events agrees with the folded message."""
    row, message = told(*said)

    pending = message.is_known and holds(Why.NO_OUTCOME, message)
    assert (row is not None and row.why in (Why.NO_STATUS, Why.NO_OUTCOME)) == pending
    if row is not None and row.why is not None and row.why is not Why.NO_REASON:
        assert holds(row.why, message), "a reason that no longer holds would be asked about for nothing"


@given(commands)
def test_following_an_event_again_changes_nothing(said: list[object]) -> None:
    events = events_of(*said)  # type: ignore[arg-type]
    row = followed(events)

    for version, event in enumerate(events, start=1):
        if row is not None:
            assert follow(row, event, version, at(version)) == row


@given(commands)
def test_asking_ends_with_an_outcome_unless_something_is_left_to_find_out(said: list[object]) -> None:
    row, message = told(*said)

    if row is not None and message.status in (Status.READ, Status.DELETED):
        assert row.why in (None, Why.CONFLICT)


@pytest.mark.parametrize(
    ("status", "why"), [(Status.UNKNOWN, Why.NO_STATUS), (Status.QUEUED, Why.NO_OUTCOME), (Status.SENT, Why.NO_OUTCOME)]
)
def test_a_message_without_an_outcome_is_asked_about(status: Status, why: Why) -> None:
    row, _ = told(observe_command(status))

    assert row == Pending(1, status, why, at(1))


@pytest.mark.parametrize("status", [Status.DELIVERED, Status.READ, Status.DELETED])
def test_an_outcome_by_callback_ends_the_asking(status: Status) -> None:
    assert told(observe_command(Status.SENT), observe_command(status))[0] is None


def test_a_last_word_without_an_outcome_ends_the_asking_for_good() -> None:
    row, _ = told(observe_command(a_claim(Status.SENT, closes=True)), observe_command(Status.SENT, occurred_at=at(3)))

    assert row is not None
    assert (row.why, row.closed) == (None, True)


def test_a_failure_with_a_code_and_one_of_the_senders_own_are_not_asked_about() -> None:
    sender = a_receipt(source=Source.SENDER)

    assert told(observe_command(Status.FAILED, error_code="30003"))[0] is None
    assert told(observe_command(Status.FAILED, receipt=sender))[0] is None


def test_a_failure_without_a_code_is_asked_about_until_one_is_known() -> None:
    failed = observe_command(Status.FAILED)
    row, _ = told(failed)
    known, _ = told(failed, observe_command(Status.FAILED, error_code="30003"))

    assert row is not None
    assert row.why is Why.NO_REASON
    assert known is None


def test_a_message_handed_off_is_asked_about_in_the_stream_that_speaks_for_it() -> None:
    registered = register_command()

    assert told(registered)[0] is None
    assert told(registered, observe_command(Status.SENT), link_command(stream_of(), leads=False))[0] is None
    row, _ = told(link_command(stream_of()), observe_command(Status.SENT))
    assert row is not None
    assert row.why is Why.NO_OUTCOME


def test_a_conflict_is_asked_about_unless_the_answer_made_it_and_until_it_is_settled() -> None:
    failed, delivered = observe_command(Status.FAILED, error_code="1"), observe_command(Status.DELIVERED)
    polled = observe_command(Status.DELIVERED, receipt=a_receipt(source=Source.POLL))

    row, _ = told(failed, delivered)
    assert row is not None
    assert row.why is Why.CONFLICT
    assert told(failed, polled)[0] is None
    assert told(failed, delivered, correct_command(Outcome.FAILED))[0] is None


def test_a_reading_is_asked_about_only_where_the_delivery_had_to_be_found() -> None:
    polled = a_receipt(source=Source.POLL, channel=Channel.WHATSAPP)
    called = a_receipt(channel=Channel.WHATSAPP)

    row, _ = told(observe_command(Status.DELIVERED, receipt=polled))
    assert row is not None
    assert row.why is Why.NO_READ
    assert told(observe_command(Status.DELIVERED, receipt=called))[0] is None
    assert told(observe_command(Status.DELIVERED, receipt=a_receipt(source=Source.POLL)))[0] is None, "an SMS"


# When -----------------------------------------------------------------------------------------------------------------

chances = st.floats(0, 1, exclude_max=True)
ages = st.floats(0, 20 * 24 * 3600).map(lambda seconds: timedelta(seconds=seconds))


@given(st.sampled_from(Why), chances)
def test_the_first_question_leaves_callbacks_some_seconds(why: Why, chance: float) -> None:
    after = first_ask(why, NOON, chance) - NOON

    assert timedelta(seconds=10) <= after
    assert after <= timedelta(seconds=30) or why is Why.NO_READ


@given(st.sampled_from([Why.NO_STATUS, Why.NO_OUTCOME, Why.NO_READ]), ages, chances)
def test_pauses_grow_with_the_silence_within_their_bounds(why: Why, age: timedelta, chance: float) -> None:
    pause = next_ask(why, NOON, NOON + age, chance, days=14)

    if pause is None:
        assert age > timedelta(days=1), "nothing is given up in the first day"
        return
    assert timedelta(seconds=15) <= pause <= timedelta(days=1)
    assert age / 2 <= pause or age >= timedelta(hours=6)
    assert pause <= max(age, timedelta(seconds=30))
    assert age + pause <= timedelta(days=14)
    if age < timedelta(hours=12):
        assert pause <= timedelta(hours=6)


@given(ages, chances)
def test_a_question_without_an_answer_is_repeated_within_minutes(age: timedelta, chance: float) -> None:
    pause = retry_ask(NOON, NOON + age, chance, days=14)

    if pause is None:
        assert age > timedelta(days=14) - timedelta(minutes=10)
    else:
        assert timedelta(seconds=15) <= pause <= timedelta(minutes=10)


@pytest.mark.parametrize("why", sorted(polling.ASKED_ONCE))
def test_some_questions_need_one_answer_only(why: Why) -> None:
    assert next_ask(why, NOON, at(1), 0.5, days=14) is None


@given(chances)
def test_a_clock_behind_the_reason_is_no_age(chance: float) -> None:
    assert next_ask(Why.NO_OUTCOME, NOON, at(-60), chance, days=14) is not None


@given(st.integers(0, 1_000_000))
def test_a_silent_message_is_asked_about_a_bounded_number_of_times(seed: int) -> None:
    """From sending to the horizon, with any chance: some dozens of questions."""
    now, asked = first_ask(Why.NO_OUTCOME, NOON, seed % 997 / 997), 0
    while (pause := next_ask(Why.NO_OUTCOME, NOON, now, (seed * (asked + 7)) % 991 / 991, days=14)) is not None:
        now, asked = now + pause, asked + 1

    assert 15 <= asked <= 60
