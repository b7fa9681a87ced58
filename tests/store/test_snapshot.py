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
from ledger.store.mapper import split_frame
from ledger.store.sealing import DataKey, SealBroken
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

    assert snapshot.decode(stored, STREAM, version, KEY) == message


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

    assert snapshot.decode(stored, STREAM, 1, None) == fold(map(erased, history))


@given(history=histories)
@example(same_but_for_text)
@example(ordered_by_text)
def test_a_message_written_without_a_key_reads_as_its_erased_events_fold(history: list[AnyEvent]) -> None:
    stored = snapshot.encode(fold(history), STREAM, 1, None)

    assert snapshot.decode(stored, STREAM, 1, KEY) == fold(map(erased, history))


def test_nothing_personal_stands_in_the_open_part() -> None:
    """A field that is added to a person is covered by this test at once."""
    told: dict[str, Any] = {field.name: CANARY for field in msgspec.structs.fields(Person)}
    person = Person(**told | {"metadata": {CANARY: CANARY}})
    message = a_message(observed(Status.FAILED, 1, error_text=CANARY), observed(Status.FAILED, 2, error_text=CANARY))
    message = msgspec.structs.replace(message, person=person)

    stored = snapshot.encode(message, STREAM, 1, KEY)

    assert CANARY.encode() not in stored
    assert snapshot.decode(stored, STREAM, 1, KEY) == message


def test_without_a_key_nothing_personal_is_stored_at_all() -> None:
    message = a_message(observed(Status.FAILED, 1, error_text=CANARY, recipient=CANARY))

    opened, sealed = split_frame(snapshot.encode(message, STREAM, 1, None))

    assert CANARY.encode() not in opened
    assert sealed == b""


@pytest.mark.parametrize(("stream_id", "version"), [(uuid4(), 1), (STREAM, 2)], ids=["another stream", "an older row"])
def test_a_snapshot_does_not_open_in_another_place(stream_id: UUID, version: int) -> None:
    stored = snapshot.encode(a_message(observed(Status.SENT, 1)), STREAM, 1, KEY)

    with pytest.raises(SealBroken):
        snapshot.decode(stored, stream_id, version, KEY)
