"""Between events and bytes: nothing is lost, nothing personal is readable, nothing can be moved."""

from contextlib import suppress
from typing import Any, Final
from uuid import UUID, uuid4

import msgspec
import pytest
from eventsourcing.persistence import MapperDeserialisationError, StoredEvent
from hypothesis import given
from hypothesis import strategies as st

from ledger.domain.events import (
    NAMES,
    AnyEvent,
    MessageLinked,
    MessageRegistered,
    ObservedDetails,
    RegisteredDetails,
    StatusObserved,
)
from ledger.domain.status import Status
from ledger.store.mapper import UPCASTS, Entry, LedgerMapper, frame, split_frame
from ledger.store.sealing import DataKey, SealBroken
from tests.builders import events_of, observed
from tests.store import strategies

STREAM: Final = UUID("00112233-4455-5677-8899-aabbccddeeff")
KEY: Final = DataKey(bytes(range(32)))
MAPPER: Final = LedgerMapper()
#: Every personal field of every kind of event holds this, so that one search finds any leak.
CANARY: Final = "canary +15550100"


def stored(event: AnyEvent, version: int = 1, stream_id: UUID = STREAM, key: DataKey | None = KEY) -> StoredEvent:
    return MAPPER.to_stored_event(Entry(stream_id, version, event, key))


def without_person(event: AnyEvent) -> AnyEvent:
    match event:
        case StatusObserved() | MessageRegistered() | MessageLinked():
            return msgspec.structs.replace(event, personal=type(event.personal)())
        case _:
            return event


def an_event(**said: Any) -> StatusObserved:
    (event,) = events_of(observed(Status.FAILED, error_text=CANARY, recipient=CANARY, **said))
    assert isinstance(event, StatusObserved)
    return event


# Round trip -----------------------------------------------------------------------------------------------------------


@given(event=strategies.events, version=st.integers(1, 2**31 - 1), stream_id=st.uuids())
def test_any_event_reads_back_as_it_was(event: AnyEvent, version: int, stream_id: UUID) -> None:
    entry = MAPPER.read(stored(event, version, stream_id), KEY)

    assert entry == Entry(stream_id, version, event, KEY)


@given(event=strategies.events)
def test_any_event_reads_without_its_key_less_what_is_personal(event: AnyEvent) -> None:
    entry = MAPPER.read(stored(event), None)

    assert entry == Entry(STREAM, 1, without_person(event), None)


@given(event=strategies.events)
def test_the_librarys_way_of_reading_shows_nothing_personal(event: AnyEvent) -> None:
    assert MAPPER.to_domain_event(stored(event)).event == without_person(event)


def test_an_event_is_stored_under_its_permanent_name() -> None:
    assert {type_.__name__: name for type_, name in NAMES.items()} == {
        "StatusObserved": "observed.v1",
        "MessageRegistered": "registered.v1",
        "MessageLinked": "linked.v1",
        "StatusCorrected": "corrected.v1",
    }
    assert stored(an_event()).topic == "observed.v1"


# Sealing --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("details", [ObservedDetails, RegisteredDetails])
def test_every_personal_field_is_sealed(details: type[ObservedDetails | RegisteredDetails]) -> None:
    """A field that is added to the details is covered by this test at once."""
    filling: dict[str, Any] = {field.name: CANARY for field in msgspec.structs.fields(details)}
    filling |= {"item": CANARY.encode()} if details is ObservedDetails else {"metadata": {CANARY: CANARY}}
    personal: Any = details(**filling)
    event: AnyEvent
    if details is ObservedDetails:
        event = msgspec.structs.replace(an_event(), personal=personal)
    else:
        origin = an_event()
        event = MessageRegistered(
            account=origin.account,
            provider=origin.provider,
            channel=origin.channel,
            registration=b"r" * 16,
            received_at=origin.received_at,
            personal=personal,
        )

    state = stored(event).state

    assert CANARY.encode() not in state
    assert MAPPER.read(stored(event), KEY).event == event


def test_an_event_with_nothing_personal_needs_no_key() -> None:
    event = without_person(an_event())

    state = stored(event, key=None).state

    assert split_frame(state)[1] == b""
    assert MAPPER.read(StoredEvent(STREAM, 1, "observed.v1", state), None).event == event


def test_personal_data_is_never_stored_without_a_key() -> None:
    with pytest.raises(ValueError, match="needs the message's data key"):
        stored(an_event(), key=None)


@pytest.mark.parametrize(
    ("stream_id", "version"), [(uuid4(), 1), (STREAM, 2)], ids=["to another stream", "to another version"]
)
def test_a_sealed_part_that_was_moved_does_not_open(stream_id: UUID, version: int) -> None:
    state = stored(an_event()).state

    with pytest.raises(SealBroken):
        MAPPER.read(StoredEvent(stream_id, version, "observed.v1", state), KEY)


def test_a_sealed_part_put_beside_another_events_open_part_does_not_open() -> None:
    one, other = stored(an_event(), version=1).state, stored(an_event(), version=2).state
    spliced = frame(split_frame(one)[0], split_frame(other)[1])

    with pytest.raises(SealBroken):
        MAPPER.read(StoredEvent(STREAM, 1, "observed.v1", spliced), KEY)


@given(bit=st.integers(0))
def test_an_altered_sealed_part_does_not_open(bit: int) -> None:
    opened, sealed = split_frame(stored(an_event()).state)
    at, mask = divmod(bit % (8 * len(sealed)), 8)
    altered = sealed[:at] + bytes([sealed[at] ^ 1 << mask]) + sealed[at + 1 :]

    with pytest.raises(SealBroken):
        MAPPER.read(StoredEvent(STREAM, 1, "observed.v1", frame(opened, altered)), KEY)


def test_another_messages_key_does_not_open() -> None:
    with pytest.raises(SealBroken):
        MAPPER.read(stored(an_event()), DataKey(bytes(32)))


def test_sealing_twice_gives_different_bytes() -> None:
    assert stored(an_event()).state != stored(an_event()).state


# Old and unreadable events --------------------------------------------------------------------------------------------


def told_apart(fields: dict[str, Any]) -> dict[str, Any]:
    """From v0-beta, which had one word for claim and kind."""
    status, _, kind = fields.pop("word").partition("/")
    return fields | {"claim": status, "kind": kind or None}


def without_rules(fields: dict[str, Any]) -> dict[str, Any]:
    """From v0, which had no rules version."""
    return fields | {"rules": 1}


OLD: Final = LedgerMapper(
    {"observed.v0-beta": ("observed.v0", told_apart), "observed.v0": ("observed.v1", without_rules)}
)


def as_old(event: StatusObserved) -> bytes:
    opened, sealed = split_frame(stored(event).state)
    fields = msgspec.msgpack.decode(opened)
    fields.pop("rules", None)
    fields["word"] = f"{fields.pop('claim')}/{fields.pop('kind')}"
    return frame(msgspec.msgpack.encode(fields), sealed)


def test_an_event_under_an_old_name_is_brought_forward_step_by_step() -> None:
    event = an_event()

    entry = OLD.read(StoredEvent(STREAM, 1, "observed.v0-beta", as_old(event)), KEY)

    assert entry.event == event


def test_an_old_event_keeps_what_was_sealed_out_of_sight_without_its_key() -> None:
    event = an_event()

    entry = OLD.read(StoredEvent(STREAM, 1, "observed.v0-beta", as_old(event)), None)

    assert entry.event == without_person(event)


def test_every_upcast_leads_to_a_name_that_is_read() -> None:
    names = set(NAMES.values())
    assert {name for name in UPCASTS if name in names} == set()
    assert {then for then, _ in UPCASTS.values()} <= names | set(UPCASTS)


@pytest.mark.parametrize(
    ("topic", "state"),
    [
        ("observed.v9", stored(an_event()).state),
        ("observed.v1", b""),
        ("observed.v1", b"\x02" + stored(an_event()).state[1:]),
        ("observed.v1", stored(an_event()).state[:20]),
        ("observed.v1", b"\x01\x00"),
        ("observed.v1", frame(b"\xc1", b"")),
        ("observed.v1", frame(msgspec.msgpack.encode({"account": 1}), b"")),
        ("observed.v1", frame(msgspec.msgpack.encode([1]), b"")),
        ("corrected.v1", stored(an_event()).state),
    ],
    ids=["name", "empty", "format", "cut", "cut in its length", "not a map", "field", "list", "of another type"],
)
def test_what_cannot_be_read_is_named_and_not_quoted(topic: str, state: bytes) -> None:
    with pytest.raises(MapperDeserialisationError, match=f"'{topic}', stream {STREAM}, version 7") as raised:
        MAPPER.read(StoredEvent(STREAM, 7, topic, state), KEY)

    assert CANARY not in str(raised.value)


@given(opened=st.binary(max_size=60), raw=st.binary(max_size=20), topic=st.sampled_from([*NAMES.values(), "old", ""]))
def test_any_bytes_are_read_or_refused(opened: bytes, raw: bytes, topic: str) -> None:
    for state in (frame(opened, raw), raw):
        with suppress(MapperDeserialisationError):
            MAPPER.read(StoredEvent(STREAM, 1, topic, state), None)


def test_a_field_of_a_newer_version_is_no_obstacle() -> None:
    """During a rolling upgrade this version reads events of the next one, which may only have added fields."""
    event = an_event()
    opened, sealed = split_frame(stored(event).state)
    newer = msgspec.msgpack.decode(opened) | {"added_later": [1, {"a": None}]}

    entry = MAPPER.read(StoredEvent(STREAM, 1, "observed.v1", frame(msgspec.msgpack.encode(newer), sealed)), KEY)

    assert entry.event == event
