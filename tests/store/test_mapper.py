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
    StatusCorrected,
    StatusObserved,
)
from ledger.domain.observation import Source
from ledger.domain.status import Channel, FailureKind, Status, Verdict
from ledger.store import compact
from ledger.store.mapper import LAYOUTS, Entry, LedgerMapper, Stored, frame, split_frame
from ledger.store.sealing import DataKey, SealBroken
from tests.builders import events_of, observed
from tests.store import strategies

STREAM: Final = UUID("00112233-4455-5677-8899-aabbccddeeff")
KEY: Final = DataKey(bytes(range(32)))
MAPPER: Final = LedgerMapper()
#: Every personal field of every kind of event holds this, so that one search finds any leak.
CANARY: Final = "canary +15550100"


def stored(event: AnyEvent, version: int = 1, stream_id: UUID = STREAM, key: DataKey | None = KEY) -> Stored:
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


@given(event=strategies.events, v1=st.booleans())
def test_what_an_event_did_to_the_status_reads_by_itself(event: AnyEvent, v1: bool) -> None:
    one = stored(event)
    if v1 and isinstance(event, StatusObserved):
        one = Stored(STREAM, 1, "observed.v1", as_v1(event))

    turn = MAPPER.turn(STREAM, 1, one.topic, one.state)

    if isinstance(event, StatusObserved | StatusCorrected):
        assert turn is not None
        told = (turn.account, turn.channel, turn.status_before, turn.status_after)
        assert told == (event.account, event.channel, event.status_before, event.status_after)
    else:
        assert turn is None


def test_an_event_is_stored_under_its_permanent_name() -> None:
    assert {type_.__name__: name for type_, name in NAMES.items()} == {
        "StatusObserved": "observed.v2",
        "MessageRegistered": "registered.v1",
        "MessageLinked": "linked.v1",
        "StatusCorrected": "corrected.v1",
        "MessageErased": "erased.v1",
    }
    assert stored(an_event()).topic == "observed.v2"


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
    assert MAPPER.read(StoredEvent(STREAM, 1, "observed.v2", state), None).event == event


def test_personal_data_is_never_stored_without_a_key() -> None:
    with pytest.raises(ValueError, match="needs the message's data key"):
        stored(an_event(), key=None)


@pytest.mark.parametrize(
    ("stream_id", "version"), [(uuid4(), 1), (STREAM, 2)], ids=["to another stream", "to another version"]
)
def test_a_sealed_part_that_was_moved_does_not_open(stream_id: UUID, version: int) -> None:
    state = stored(an_event()).state

    with pytest.raises(SealBroken):
        MAPPER.read(StoredEvent(stream_id, version, "observed.v2", state), KEY)


def test_a_sealed_part_put_beside_another_events_open_part_does_not_open() -> None:
    one, other = stored(an_event(), version=1).state, stored(an_event(), version=2).state
    spliced = frame(split_frame(one)[0], split_frame(other)[1])

    with pytest.raises(SealBroken):
        MAPPER.read(StoredEvent(STREAM, 1, "observed.v2", spliced), KEY)


@given(bit=st.integers(0))
def test_an_altered_sealed_part_does_not_open(bit: int) -> None:
    opened, sealed = split_frame(stored(an_event()).state)
    at, mask = divmod(bit % (8 * len(sealed)), 8)
    altered = sealed[:at] + bytes([sealed[at] ^ 1 << mask]) + sealed[at + 1 :]

    with pytest.raises(SealBroken):
        MAPPER.read(StoredEvent(STREAM, 1, "observed.v2", frame(opened, altered)), KEY)


def test_another_messages_key_does_not_open() -> None:
    with pytest.raises(SealBroken):
        MAPPER.read(stored(an_event()), DataKey(bytes(32)))


def test_sealing_twice_gives_different_bytes() -> None:
    assert stored(an_event()).state != stored(an_event()).state


# Old and unreadable events --------------------------------------------------------------------------------------------


def as_v1(event: StatusObserved) -> bytes:
    """Store an observation as it was stored before its fields went by place."""
    opened = msgspec.msgpack.encode(msgspec.structs.replace(event, personal=ObservedDetails()))
    place_ = STREAM.bytes + (1).to_bytes(8, "big") + b"event"
    return frame(opened, KEY.seal(msgspec.msgpack.encode(event.personal), place_))


@given(event=strategies.observed)
def test_an_observation_of_the_first_layout_reads_as_one_of_today(event: StatusObserved) -> None:
    assert MAPPER.read(StoredEvent(STREAM, 1, "observed.v1", as_v1(event)), KEY).event == event
    assert MAPPER.read(StoredEvent(STREAM, 1, "observed.v1", as_v1(event)), None).event == without_person(event)


def test_every_name_that_events_are_recorded_under_can_be_read() -> None:
    assert set(NAMES.values()) <= set(LAYOUTS)


def test_the_numbers_of_words_are_permanent() -> None:
    """A word may be added at the end; none ever gets another number."""
    assert compact.CHANNELS == ("whatsapp", "sms", "viber")
    assert compact.SOURCES == ("callback", "poll", "sender", "reread")
    assert compact.STATUSES == ("UNKNOWN", "QUEUED", "SENT", "DELIVERED", "READ", "DELETED", "FAILED")
    assert compact.KINDS == (None, "failed", "undelivered")
    assert compact.VERDICTS == ("advance", "repeat", "late", "conflict", "note", "redelivered")
    assert (compact.CLOSES, compact.UNRECOGNISED, compact.SUSPECT) == (1, 2, 4)


def test_every_word_has_a_number() -> None:
    assert set(compact.CHANNELS) == set(Channel)
    assert set(compact.SOURCES) == set(Source)
    assert set(compact.STATUSES) == set(Status)
    assert set(compact.KINDS) == {None, *FailureKind}
    assert set(compact.VERDICTS) == set(Verdict)


def test_what_has_no_value_takes_no_room() -> None:
    event = msgspec.structs.replace(an_event(), error_code=None, occurred_at=None)

    opened, _ = split_frame(stored(without_person(event), key=None).state)

    assert len(msgspec.msgpack.decode(opened)) == compact.Opened.__struct_fields__.index("rules") + 1


def later_word() -> bytes:
    fields = msgspec.msgpack.decode(compact.pack(an_event()))
    for name in ("claim", "status_after"):
        fields[compact.Opened.__struct_fields__.index(name)] = len(compact.STATUSES)
    return msgspec.msgpack.encode(fields)


@pytest.mark.parametrize(
    ("topic", "state"),
    [
        ("observed.v9", stored(an_event()).state),
        ("observed.v2", b""),
        ("observed.v2", b"\x02" + stored(an_event()).state[1:]),
        ("observed.v2", stored(an_event()).state[:20]),
        ("observed.v2", b"\x01\x00"),
        ("observed.v2", frame(b"\xc1", b"")),
        ("observed.v1", frame(msgspec.msgpack.encode({"account": 1}), b"")),
        ("observed.v1", frame(msgspec.msgpack.encode([1]), b"")),
        ("observed.v2", frame(msgspec.msgpack.encode([1]), b"")),
        ("observed.v2", frame(later_word(), b"")),
        ("corrected.v1", stored(an_event()).state),
    ],
    ids=[
        "name",
        "empty",
        "format",
        "cut",
        "cut in its length",
        "not a list",
        "field",
        "a list for a map",
        "too short",
        "a word of a later version",
        "of another type",
    ],
)
def test_what_cannot_be_read_is_named_and_not_quoted(topic: str, state: bytes) -> None:
    with pytest.raises(MapperDeserialisationError, match=f"'{topic}', stream {STREAM}, version 7") as raised:
        MAPPER.read(StoredEvent(STREAM, 7, topic, state), KEY)
    with pytest.raises(MapperDeserialisationError, match=f"'{topic}', stream {STREAM}, version 7") as raised_of_turn:
        MAPPER.turn(STREAM, 7, topic, state)

    assert CANARY not in f"{raised.value} {raised_of_turn.value}"


@given(opened=st.binary(max_size=60), raw=st.binary(max_size=20), topic=st.sampled_from([*NAMES.values(), "old", ""]))
def test_any_bytes_are_read_or_refused(opened: bytes, raw: bytes, topic: str) -> None:
    for state in (frame(opened, raw), raw):
        with suppress(MapperDeserialisationError):
            MAPPER.read(StoredEvent(STREAM, 1, topic, state), None)


def test_a_field_of_a_newer_version_is_no_obstacle() -> None:
    """During a rolling upgrade this version reads events of the next one, which may only have added fields."""
    event = an_event(transport="rcs", event_id="one")
    opened, sealed = split_frame(stored(event).state)
    told = msgspec.msgpack.decode(opened)
    untold = [None] * (len(compact.Opened.__struct_fields__) - len(told))
    newer = [*told, *untold, [1, {"a": None}]]

    entry = MAPPER.read(StoredEvent(STREAM, 1, "observed.v2", frame(msgspec.msgpack.encode(newer), sealed)), KEY)

    assert entry.event == event
