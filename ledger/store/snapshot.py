"""The folded message as `current_status` keeps it: an open part that decides, a sealed part about people.

Same frame as stored events (`ledger.store.mapper`), purpose "snapshot". It is a cache of the fold of the message's
events, written in the same transaction as they are; `status-ledger verify` proves that the two agree.
"""

from typing import Final
from uuid import UUID

import msgspec

from ledger.domain.evidence import Failure, failure_order
from ledger.domain.message import Message, Person
from ledger.store.mapper import frame, split_frame
from ledger.store.sealing import DataKey, place

_SNAPSHOT: Final = b"snapshot"


class _Sealed(msgspec.Struct, frozen=True, omit_defaults=True):
    person: Person = Person()
    texts: tuple[str, ...] = ()  #: of `evidence.failures`, in their order


_NOBODY: Final = Person()
_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(Message)
_sealed_decoder: Final = msgspec.msgpack.Decoder(_Sealed)


def encode(message: Message, stream_id: UUID, version: int, key: DataKey | None) -> bytes:
    """Return the stored form. Without a key (erased message) everything personal is left out."""
    evidence = message.evidence
    texts: tuple[str, ...] = ()
    if evidence.failures:
        texts = tuple(failure.text for failure in evidence.failures)
        wordless = tuple(Failure(failure.at, failure.kind, failure.code) for failure in evidence.failures)
        evidence = msgspec.structs.replace(evidence, failures=wordless)
    opened = _encoder.encode(msgspec.structs.replace(message, person=_NOBODY, evidence=evidence))
    if key is None:
        return frame(opened, b"")
    return frame(
        opened, key.seal(_encoder.encode(_Sealed(message.person, texts)), place(stream_id, version, _SNAPSHOT))
    )


def decode(state: bytes, stream_id: UUID, version: int, key: DataKey | None) -> Message:
    """Return the message. Raise SealBroken if the sealed part does not open under the key."""
    opened, sealed = split_frame(state)
    message = _decoder.decode(opened)
    evidence = message.evidence
    if not sealed or key is None:
        # Failures that differed in nothing but their texts are one now, as they are for the fold of erased events.
        failures = tuple(sorted(set(evidence.failures), key=failure_order))
        return msgspec.structs.replace(message, evidence=msgspec.structs.replace(evidence, failures=failures))
    personal = _sealed_decoder.decode(key.open(sealed, place(stream_id, version, _SNAPSHOT)))
    if evidence.failures:
        told = zip(evidence.failures, personal.texts, strict=True)
        worded = tuple(Failure(failure.at, failure.kind, failure.code, text) for failure, text in told)
        evidence = msgspec.structs.replace(evidence, failures=worded)
    return msgspec.structs.replace(message, person=personal.person, evidence=evidence)
