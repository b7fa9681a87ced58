"""Between events and their stored bytes.

Stored state is `0x01 | length of the open part (4 bytes, big-endian) | open part | sealed part`. Both parts are
MessagePack maps. The sealed part is the event's `personal`, encrypted under the message's data key (purpose
"event"); once that key is gone the event still reads, with nothing personal in it.

A stored event is found by its permanent name. A changed shape gets a new name; `UPCASTS` then turns the map stored
under the old name into the next one, step by step.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final
from uuid import UUID

import msgspec
from eventsourcing.persistence import JSONTranscoder, Mapper, MapperDeserialisationError, StoredEvent

from ledger.domain.events import (
    NAMES,
    AnyEvent,
    MessageLinked,
    MessageRegistered,
    ObservedDetails,
    RegisteredDetails,
    StatusObserved,
)
from ledger.store.sealing import DataKey, place

_FORMAT: Final = b"\x01"
_EVENT: Final = b"event"

Upcast = tuple[str, Callable[[dict[str, Any]], dict[str, Any]]]
#: Old name -> (next name, what to do to the decoded open part).
UPCASTS: Final[Mapping[str, Upcast]] = {}

_TYPES: Final = {name: type_ for type_, name in NAMES.items()}
_DETAILS: Final[Mapping[type[AnyEvent], type[ObservedDetails | RegisteredDetails]]] = {
    StatusObserved: ObservedDetails,
    MessageRegistered: RegisteredDetails,
    MessageLinked: RegisteredDetails,
}
_encoder: Final = msgspec.msgpack.Encoder()
_open_decoders: Final[dict[type[AnyEvent], msgspec.msgpack.Decoder[AnyEvent]]] = {
    type_: msgspec.msgpack.Decoder(type_) for type_ in NAMES
}
_sealed_decoders: Final[dict[type[AnyEvent], msgspec.msgpack.Decoder[Any]]] = {
    type_: msgspec.msgpack.Decoder(details) for type_, details in _DETAILS.items()
}
_NOTHING_PERSONAL: Final = {type_: details() for type_, details in _DETAILS.items()}


class Entry(msgspec.Struct, frozen=True):
    """An event in its place: what the library calls a domain event."""

    originator_id: UUID
    originator_version: int
    event: AnyEvent
    key: DataKey | None  #: None once erased


class LedgerMapper(Mapper[UUID]):
    """Maps entries to stored events and back. Raises MapperDeserialisationError for bytes it cannot read."""

    def __init__(self, upcasts: Mapping[str, Upcast] = UPCASTS) -> None:
        super().__init__(JSONTranscoder())
        self._upcasts = upcasts

    def to_stored_event(self, domain_event: Entry) -> StoredEvent:  # type: ignore[override]
        event, stream_id, version = domain_event.event, domain_event.originator_id, domain_event.originator_version
        sealed = b""
        match event:
            case StatusObserved() | MessageRegistered() | MessageLinked():
                personal, nothing = event.personal, _NOTHING_PERSONAL[type(event)]
                if personal != nothing:
                    if domain_event.key is None:
                        raise ValueError("an event with personal data needs the message's data key")
                    sealed = domain_event.key.seal(_encoder.encode(personal), place(stream_id, version, _EVENT))
                    event = msgspec.structs.replace(event, personal=nothing)
        opened = _encoder.encode(event)
        return StoredEvent(stream_id, version, NAMES[type(event)], frame(opened, sealed))

    def to_domain_event(self, stored_event: StoredEvent) -> Entry:
        """Return the entry with everything personal left out; `read` opens it with the message's key."""
        return self.read(stored_event, None)

    def read(self, stored: StoredEvent, key: DataKey | None) -> Entry:
        stream_id = stored.originator_id
        assert isinstance(stream_id, UUID)  # noqa: S101  # the recorder has one id type
        try:
            event = self._event(stored.topic, stored.state)
        except (msgspec.DecodeError, KeyError, ValueError, TypeError) as error:
            place_ = f"{stored.topic!r}, stream {stream_id}, version {stored.originator_version}"
            raise MapperDeserialisationError(f"stored event cannot be read: {place_}") from error
        _, sealed = split_frame(stored.state)
        if sealed and key is not None:
            personal = key.open(sealed, place(stream_id, stored.originator_version, _EVENT))
            event = msgspec.structs.replace(event, personal=_sealed_decoders[type(event)].decode(personal))
        return Entry(stream_id, stored.originator_version, event, key)

    def _event(self, name: str, state: bytes) -> AnyEvent:
        opened, _ = split_frame(state)
        type_ = _TYPES.get(name)
        if type_ is not None:
            return _open_decoders[type_].decode(opened)
        fields = msgspec.msgpack.decode(opened)
        while name not in _TYPES:
            name, upcast = self._upcasts[name]
            fields = upcast(fields)
        return msgspec.convert(fields, _TYPES[name])


def frame(opened: bytes, sealed: bytes) -> bytes:
    return b"".join((_FORMAT, len(opened).to_bytes(4, "big"), opened, sealed))


def split_frame(state: bytes) -> tuple[bytes, bytes]:
    """Return the open and the sealed part. Raise ValueError for another format."""
    if state[:1] != _FORMAT:
        raise ValueError("unknown format of stored state")
    end = 5 + int.from_bytes(state[1:5], "big")
    if len(state) < end:
        raise ValueError("stored state is cut short")
    return state[5:end], state[end:]
