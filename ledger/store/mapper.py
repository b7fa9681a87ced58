"""Between events and bytes: permanent names, permanent layouts, personal data apart and sealed.

Stored state is `0x01 | length of the open part (4 bytes, big-endian) | open part | sealed part`, both in MessagePack.
The sealed part is the event's `personal`, encrypted under the message's data key (purpose "event"); once that key is
gone the event still reads, with nothing personal in it.

A stored event is found by its permanent name. A changed layout gets a new name; the one of the old name stays, and
reads as the event of today.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, Protocol
from uuid import UUID

import msgspec
from eventsourcing.persistence import JSONTranscoder, Mapper, MapperDeserialisationError, StoredEvent

from ledger.domain.events import (
    NAMES,
    AnyEvent,
    MessageErased,
    MessageLinked,
    MessageRegistered,
    ObservedDetails,
    RegisteredDetails,
    StatusCorrected,
    StatusObserved,
)
from ledger.domain.status import Channel, Status
from ledger.store import compact
from ledger.store.sealing import DataKey, place

_FORMAT: Final = b"\x01"
_EVENT: Final = b"event"
_UNREADABLE: Final = (msgspec.DecodeError, LookupError, ValueError, TypeError)


class Turn(Protocol):
    """What an observation or a correction did to its message's status."""

    @property
    def account(self) -> str: ...
    @property
    def channel(self) -> Channel: ...
    @property
    def status_before(self) -> Status: ...
    @property
    def status_after(self) -> Status: ...


class Layout(NamedTuple):
    """How events of one name are read. Whatever is raised for bytes of another shape means that they are unreadable."""

    read: Callable[[bytes], AnyEvent]  #: the open part, as an event with nothing personal in it
    read_turn: Callable[[bytes], Turn] | None = None  #: None: these events turn no status
    read_details: Callable[[bytes], ObservedDetails | RegisteredDetails] | None = None  #: None: there never are any


def _map(type_: type[Any]) -> Callable[[bytes], Any]:
    return msgspec.msgpack.Decoder(type_).decode


#: Every name that can stand in the log.
LAYOUTS: Final[Mapping[str, Layout]] = {
    "observed.v1": Layout(_map(StatusObserved), _map(StatusObserved), _map(ObservedDetails)),
    "observed.v2": Layout(compact.unpack, compact.unpack_turn, compact.unpack_details),
    "registered.v1": Layout(_map(MessageRegistered), read_details=_map(RegisteredDetails)),
    "linked.v1": Layout(_map(MessageLinked), read_details=_map(RegisteredDetails)),
    "corrected.v1": Layout(_map(StatusCorrected), _map(StatusCorrected)),
    "erased.v1": Layout(_map(MessageErased)),
}

_encode: Final = msgspec.msgpack.Encoder().encode
_NOTHING_OBSERVED: Final = ObservedDetails()
_NOTHING_REGISTERED: Final = RegisteredDetails()


class Entry(msgspec.Struct, frozen=True):
    """An event in its place: what the library calls a domain event."""

    originator_id: UUID
    originator_version: int
    event: AnyEvent
    key: DataKey | None  #: None once erased


class Stored(msgspec.Struct, frozen=True):
    """The library's `StoredEvent` by another class: a frozen dataclass costs more to make than an event to encode."""

    originator_id: UUID
    originator_version: int
    topic: str  #: the event's permanent name
    state: bytes


class LedgerMapper(Mapper[UUID]):
    """Maps entries to stored events and back. Raises MapperDeserialisationError for bytes it cannot read."""

    def __init__(self) -> None:
        super().__init__(JSONTranscoder())

    def to_stored_event(self, domain_event: Entry) -> Stored:  # type: ignore[override]
        entry = domain_event
        return Stored(entry.originator_id, entry.originator_version, NAMES[type(entry.event)], state_of(entry))

    def to_domain_event(self, stored_event: StoredEvent | Stored) -> Entry:
        """Return the entry with everything personal left out; `read` opens it with the message's key."""
        return self.read(stored_event, None)

    def read(self, stored: StoredEvent | Stored, key: DataKey | None) -> Entry:
        stream_id = stored.originator_id
        assert isinstance(stream_id, UUID)  # noqa: S101  # the recorder has one id type
        event = self.opened(stream_id, stored.originator_version, stored.topic, stored.state)
        if key is not None:
            event = self.unsealed(event, stored, key)
        return Entry(stream_id, stored.originator_version, event, key)

    def opened(self, stream_id: UUID, version: int, topic: str, state: bytes) -> AnyEvent:
        """Return an event with nothing personal in it."""
        try:
            return LAYOUTS[topic].read(_open_part(state))
        except _UNREADABLE as error:
            raise _unreadable(stream_id, version, topic) from error

    def turn(self, stream_id: UUID, version: int, topic: str, state: bytes) -> Turn | None:
        """Return what an event did to the status, reading no more of it; None for events that do nothing to it."""
        try:
            read_turn = LAYOUTS[topic].read_turn
            return None if read_turn is None else read_turn(_open_part(state))
        except _UNREADABLE as error:
            raise _unreadable(stream_id, version, topic) from error

    def unsealed(self, event: AnyEvent, stored: StoredEvent | Stored, key: DataKey) -> AnyEvent:
        """Return an event that was read without its key, with what is personal in it."""
        layout, (_, sealed) = LAYOUTS[stored.topic], split_frame(stored.state)
        if not sealed or layout.read_details is None:
            return event
        assert isinstance(stored.originator_id, UUID)  # noqa: S101
        personal = key.open(sealed, place(stored.originator_id, stored.originator_version, _EVENT))
        return msgspec.structs.replace(event, personal=layout.read_details(personal))


def state_of(entry: Entry) -> bytes:
    """Return an event's state as it is stored. Raises ValueError for personal data without a key."""
    event = entry.event
    match event:
        case StatusObserved():
            opened, personal = compact.pack(event), event.personal
            details = compact.pack_details(personal) if personal != _NOTHING_OBSERVED else b""
        case MessageRegistered() | MessageLinked():
            opened = _encode(msgspec.structs.replace(event, personal=_NOTHING_REGISTERED))
            details = _encode(event.personal) if event.personal != _NOTHING_REGISTERED else b""
        case StatusCorrected() | MessageErased():
            opened, details = _encode(event), b""
    if not details:
        return frame(opened, b"")
    if entry.key is None:
        raise ValueError("an event with personal data needs the message's data key")
    return frame(opened, entry.key.seal(details, place(entry.originator_id, entry.originator_version, _EVENT)))


def frame(opened: bytes, sealed: bytes) -> bytes:
    return _FORMAT + len(opened).to_bytes(4, "big") + opened + sealed


def split_frame(state: bytes) -> tuple[bytes, bytes]:
    """Return the open and the sealed part. Raise ValueError for another format."""
    opened = _open_part(state)
    return opened, state[5 + len(opened) :]


def _open_part(state: bytes) -> bytes:
    if state[:1] != _FORMAT:
        raise ValueError("unknown format of stored state")
    end = 5 + int.from_bytes(state[1:5], "big")
    if len(state) < end:
        raise ValueError("stored state is cut short")
    return state[5:end]


def _unreadable(stream_id: UUID, version: int, topic: str) -> MapperDeserialisationError:
    place_ = f"{topic!r}, stream {stream_id}, version {version}"
    return MapperDeserialisationError(f"stored event cannot be read: {place_}")
