"""One table says every status on every surface, and nothing that a surface shows ever steps back."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.domain.message import Message
from ledger.domain.reading import TIMES, Basis
from ledger.domain.status import CHAIN, UNIFIED_WORDS, Channel, FailureKind, Status
from ledger.surfaces.vocabulary import (
    EXPECTED_STEPS,
    WORDS,
    StepState,
    Surface,
    clock,
    hubspot_wording,
    timeline,
    word,
    word_of,
)
from tests.builders import a_claim, a_message, a_receipt, at, observe_command, observed, register_command

EVERY = [(surface, channel, status) for surface in Surface for channel in Channel for status in Status]


def on(channel: Channel, *claims: Status, minutes: float = 1) -> Message:
    """Return a message that was claimed to be each of these, a minute after one another."""
    commands = [
        observe_command(
            claim, occurred_at=at(number * minutes), receipt=a_receipt(channel=channel, received_at=at(number))
        )
        for number, claim in enumerate(claims, start=1)
    ]
    return a_message(*commands)


@pytest.mark.parametrize(("surface", "channel", "status"), EVERY)
def test_every_status_on_every_channel_has_words_on_every_surface(surface, channel, status):
    said = word(surface, channel, status)

    assert said.label == said.label.strip() != ""
    assert 1 <= len(said.icon) <= 2
    assert said.with_icon == f"{said.icon} {said.label}"
    assert said.sentence
    assert not said.sentence.endswith(".")


def test_the_table_has_no_other_rows():
    assert sorted(EVERY) == sorted(
        (surface, channel, status)
        for surface, channels in WORDS.items()
        for channel, statuses in channels.items()
        for status in statuses
    )


@pytest.mark.parametrize(
    ("status", "label"),
    [
        (Status.SENT, "Sent"),
        (Status.DELIVERED, "Delivered"),
        (Status.FAILED, "Delivery Failed"),
        (Status.UNKNOWN, "Send Attempted"),
    ],
)
@pytest.mark.parametrize("channel", Channel)
def test_intercom_says_what_its_users_know(channel, status, label):
    assert label == word(Surface.INTERCOM, channel, status).label


@pytest.mark.parametrize("surface", [Surface.INTERCOM, Surface.HUBSPOT])
def test_what_the_public_api_calls_one_status_has_one_label(surface):
    for channel in Channel:
        labels: dict[str, set[str]] = {}
        for status in Status:
            labels.setdefault(UNIFIED_WORDS[status], set()).add(word(surface, channel, status).label)

        assert all(len(words) == 1 for words in labels.values())
        assert len(set(map(str, labels.values()))) == len(labels)


@pytest.mark.parametrize("surface", Surface)
@pytest.mark.parametrize("channel", Channel)
def test_a_label_once_left_never_comes_back(surface, channel):
    labels = [word(surface, channel, status).label for status in CHAIN]
    runs = [label for before, label in pairwise(["", *labels]) if label != before]

    assert len(runs) == len(set(runs))


@pytest.mark.parametrize("channel", Channel)
def test_hubspot_words_name_the_channel_and_the_time_of_the_last_update(channel):
    told = on(channel, Status.SENT, Status.DELIVERED)

    assert hubspot_wording(told) == f"{word_of(Surface.HUBSPOT, told).sentence} · last updated {clock(at(2))}"
    assert hubspot_wording(told).startswith({"whatsapp": "WhatsApp", "sms": "SMS", "viber": "Viber"}[channel])


def test_a_message_of_which_nothing_is_known_has_no_time():
    assert hubspot_wording(Message()) == "SMS message not confirmed by the provider yet"


def test_a_time_is_written_in_utc_to_the_second():
    assert clock(at(1.5)) == "01 Mar 2025, 12:01:30 UTC"


# Reach


def states(message: Message) -> list[tuple[str, str]]:
    return [(step.label, step.state.value) for step in timeline(message)]


@pytest.mark.parametrize(
    ("channel", "labels"),
    [
        (Channel.WHATSAPP, ["Queued", "Sent", "Delivered", "Read"]),
        (Channel.SMS, ["Queued", "Sent", "Delivered"]),
        (Channel.VIBER, ["Queued", "Sent", "Delivered"]),
    ],
)
def test_a_new_message_is_shown_the_steps_of_its_channel(channel, labels):
    told = a_message(register_command(channel=channel, receipt=a_receipt(channel=channel)))

    assert labels == [step.label for step in timeline(told)]
    assert ["done", *["next"] * (len(labels) - 1)] == [step.state.value for step in timeline(told)]


def test_steps_are_done_up_to_the_status():
    told = on(Channel.WHATSAPP, Status.SENT, Status.DELIVERED)

    assert states(told) == [("Queued", "done"), ("Sent", "done"), ("Delivered", "done"), ("Read", "next")]
    assert [step.at for step in timeline(told)] == [None, at(1), at(2), None]
    assert [step.basis for step in timeline(told)] == [None, Basis.PROVIDER, Basis.PROVIDER, None]


def test_a_failure_ends_the_steps_and_leaves_nothing_to_wait_for():
    told = on(Channel.SMS, Status.SENT, Status.FAILED)

    assert states(told) == [("Queued", "never"), ("Sent", "done"), ("Delivered", "never"), ("Failed", "done")]


def test_a_failure_before_hand_off_has_reached_nothing_but_the_queue():
    failed = a_claim(Status.FAILED, FailureKind.FAILED)
    told = a_message(register_command(queued_at=at(0)), observed(failed, 1))

    assert states(told) == [("Queued", "done"), ("Sent", "never"), ("Delivered", "never"), ("Failed", "done")]


def test_a_step_that_nobody_promised_is_shown_once_it_has_happened():
    assert states(on(Channel.VIBER, Status.READ))[-2:] == [("Delivered", "done"), ("Read", "done")]
    assert states(on(Channel.SMS, Status.READ))[-1] == ("Read", "done")


def test_a_deletion_does_not_claim_that_the_message_was_read():
    assert states(on(Channel.WHATSAPP, Status.DELIVERED, Status.DELETED))[2:] == [
        ("Delivered", "done"),
        ("Read", "never"),
        ("Deleted", "done"),
    ]


@given(st.sampled_from(Channel), st.lists(st.sampled_from(Status), max_size=6))
def test_the_last_step_done_is_the_status_and_no_step_is_undone_by_what_follows(channel, claims):
    shown = [timeline(on(channel, *claims[:count])) for count in range(1, len(claims) + 1)]

    for count, steps in enumerate(shown, start=1):
        told = on(channel, *claims[:count])
        done = [step for step in steps if step.state is StepState.DONE]
        assert {step.status for step in steps} >= set(EXPECTED_STEPS[channel])
        if told.status is not Status.UNKNOWN:
            assert done[-1].status is told.status
            assert done[-1].label == word_of(Surface.REACH, told).label
        for step in steps:
            assert (step.at is not None) <= (step.state is StepState.DONE)
            if step.at is not None and step.status in TIMES.values():
                assert step.basis is not None
    for before, after in pairwise(shown):
        gone = {step.status for step in before if step.state is StepState.DONE}
        still = {step.status for step in after if step.state is StepState.DONE}
        if after[-1].status is not Status.FAILED:
            assert gone <= still
