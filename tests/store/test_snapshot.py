"""The folded message as `current_status` keeps it, against the fold of the events it stands for."""

from collections.abc import Iterable
from typing import Any, Final
from uuid import UUID, uuid4

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ledger.domain.events import AnyEvent, MessageLinked, MessageRegistered, StatusObserved
from ledger.domain.message import Message, Person, evolve
from ledger.domain.status import Status
from ledger.store import snapshot
from ledger.store.sealing import DataKey, SealBroken
from ledger.store.snapshot import Outdated
from tests.builders import a_message, events_of, observed
from tests.store import strategies

STREAM: Final = UUID("00112233-4455-5677-8899-aabbccddeeff")
KEY: Final = DataKey(bytes(range(32)))
CANARY: Final = "canary +15550100"

histories = st.lists(strategies.events, max_size=6)


def fold(events: Iterable[AnyEvent]) -> Message:
    message = Message()
    for event in events:
        message = evolve(message, event)
    return message


def erased(event: AnyEvent) -> AnyEvent:
    match event:
        case StatusObserved() | MessageRegistered() | MessageLinked():
            return msgspec.structs.replace(event, personal=type(event.personal)())
        case _:
            return event


def failed(code: str, text: str) -> AnyEvent:
    (event,) = events_of(observed(Status.FAILED, 1, error_code=code, error_text=text))
    return event


@given(history=histories, version=st.integers(1, 2**31 - 1))
def test_any_message_reads_back_as_it_was(history: list[AnyEvent], version: int) -> None:
    message = fold(history)

    stored = snapshot.encode(message, STREAM, version, KEY)

    assert snapshot.decode(stored, STREAM, KEY).message == message


#: Two failures that differ in their text only are one failure once the text is gone; and codes that stood in the
#: order of their texts stand in an order of their own.
same_but_for_text = [failed("1", "b"), failed("1", "a")]
ordered_by_text = [failed("1", "b"), failed("2", "a")]


@given(history=histories)
@example(same_but_for_text)
@example(ordered_by_text)
def test_a_message_whose_key_is_gone_reads_as_its_erased_events_fold(history: list[AnyEvent]) -> None:
    """The row may be older than the erasure: it is read without the key it was written under."""
    stored = snapshot.encode(fold(history), STREAM, 1, KEY)

    assert snapshot.decode(stored, STREAM, None).message == fold(map(erased, history))


@given(history=histories)
@example(same_but_for_text)
@example(ordered_by_text)
def test_a_message_written_without_a_key_reads_as_its_erased_events_fold(history: list[AnyEvent]) -> None:
    stored = snapshot.encode(fold(history), STREAM, 1, None)

    assert snapshot.decode(stored, STREAM, KEY).message == fold(map(erased, history))


def test_nothing_personal_stands_in_the_open_part() -> None:
    """A field that is added to a person is covered by this test at once."""
    told: dict[str, Any] = {field.name: CANARY for field in msgspec.structs.fields(Person)}
    person = Person(**told | {"metadata": {CANARY: CANARY}})
    message = a_message(observed(Status.FAILED, 1, error_text=CANARY), observed(Status.FAILED, 2, error_text=CANARY))
    message = msgspec.structs.replace(message, person=person)

    stored = snapshot.encode(message, STREAM, 1, KEY)

    assert CANARY.encode() not in stored
    assert snapshot.decode(stored, STREAM, KEY).message == message


def test_without_a_key_nothing_personal_is_stored_at_all() -> None:
    message = a_message(observed(Status.FAILED, 1, error_text=CANARY, recipient=CANARY))

    stored = snapshot.encode(message, STREAM, 1, None)

    assert CANARY.encode() not in stored
    assert snapshot.decode(stored, STREAM, None).sealed == b""


def test_a_snapshot_does_not_open_in_another_place() -> None:
    stored = snapshot.encode(a_message(observed(Status.SENT, 1)), STREAM, 1, KEY)

    with pytest.raises(SealBroken):
        snapshot.decode(stored, uuid4(), KEY)


# Carrying the sealed part along ---------------------------------------------------------------------------------------


@given(history=st.lists(strategies.events, min_size=1, max_size=6))
def test_a_message_carried_along_reads_back_as_it_was(history: list[AnyEvent]) -> None:
    """Written after every event, each time from what the last writing gives back."""
    message, before = Message(), None
    for version, event in enumerate(history, start=1):
        message = evolve(message, event)
        stored = snapshot.encode(message, STREAM, version, KEY, before)
        before = snapshot.decode(stored, STREAM, KEY)

        assert before.message == message
        message = before.message


def test_the_sealed_part_is_sealed_anew_only_when_it_changes() -> None:
    first = snapshot.decode(snapshot.encode(a_message(observed(Status.SENT, 1)), STREAM, 1, KEY), STREAM, KEY)
    (delivered,) = events_of(observed(Status.DELIVERED, 2), message=first.message)
    (failed_,) = events_of(observed(Status.FAILED, 2, error_text="no route"), message=first.message)

    unchanged = snapshot.decode(snapshot.encode(evolve(first.message, delivered), STREAM, 2, KEY, first), STREAM, KEY)
    changed = snapshot.decode(snapshot.encode(evolve(first.message, failed_), STREAM, 2, KEY, first), STREAM, KEY)

    assert (unchanged.sealed, unchanged.sealed_at) == (first.sealed, 1)
    assert changed.sealed != first.sealed
    assert changed.sealed_at == 2


def test_what_another_version_wrote_is_outdated() -> None:
    stored = snapshot.encode(a_message(observed(Status.SENT, 1)), STREAM, 1, KEY)

    for format_ in (b"", b"\x01" + stored[1:], b"\x03" + stored[1:]):
        with pytest.raises(Outdated):
            snapshot.decode(format_, STREAM, KEY)
