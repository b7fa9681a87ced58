"""The folded message as `current_status` keeps it: an open part that decides, a sealed part about people.

`0x02 | length of the open part (4 bytes, big-endian) | open part | sealed part`, both MessagePack arrays. It is a cache
of the fold of the message's events, written in the same transaction as they are; `status-ledger verify` proves that
the two agree. So its format may change: what another version has written is `Outdated` and folded anew.

The sealed part seldom changes. It names the version of the stream at which it was sealed, and is carried along until
there is something else to seal.
"""

from typing import Final
from uuid import UUID

import msgspec

from ledger.domain.evidence import Failure, failure_order
from ledger.domain.message import Message
from ledger.domain.person import Person
from ledger.store.sealing import DataKey, place

_FORMAT: Final = b"\x02"
_SNAPSHOT: Final = b"snapshot"


class Outdated(ValueError):
    """The snapshot has another version's format: fold the message's events instead."""


class Snapshot(msgspec.Struct, frozen=True):
    """A message as its row has it."""

    message: Message
    sealed: bytes = b""  #: what identifies people in it; empty if nothing does, or if it was erased
    sealed_at: int = 0  #: version of the stream when that was sealed


class _Sealed(msgspec.Struct, frozen=True, array_like=True):
    person: Person
    texts: tuple[str, ...]  #: of `evidence.failures`, in their order


_NOBODY: Final = Person()
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(tuple[int, Message]).decode
_decode_sealed: Final = msgspec.msgpack.Decoder(_Sealed).decode


def encode(
    message: Message, stream_id: UUID, version: int, key: DataKey | None, before: Snapshot | None = None
) -> bytes:
    """Return the stored form. Without a key (erased message) everything personal is left out."""
    evidence = message.evidence
    open_evidence = evidence
    if evidence.failures:
        wordless = tuple([Failure(failure.at, failure.kind, failure.code) for failure in evidence.failures])
        open_evidence = msgspec.structs.replace(evidence, failures=wordless)
    if key is None:
        sealed, sealed_at = b"", 0
    elif (
        before is not None
        and before.sealed
        and message.person is before.message.person
        and evidence.failures is before.message.evidence.failures
    ):
        sealed, sealed_at = before.sealed, before.sealed_at
    else:
        personal = _Sealed(message.person, tuple([failure.text for failure in evidence.failures]))
        sealed, sealed_at = key.seal(_encode(personal), place(stream_id, version, _SNAPSHOT)), version
    opened = _encode((sealed_at, msgspec.structs.replace(message, person=_NOBODY, evidence=open_evidence)))
    return _FORMAT + len(opened).to_bytes(4, "big") + opened + sealed


def decode(state: bytes, stream_id: UUID, key: DataKey | None) -> Snapshot:
    """Return the snapshot. Raises Outdated, and SealBroken if the sealed part does not open under the key."""
    if state[:1] != _FORMAT:
        raise Outdated("a snapshot of another format")
    end = 5 + int.from_bytes(state[1:5], "big")
    sealed_at, message = _decode(state[5:end])
    sealed, evidence = state[end:], message.evidence
    if not sealed or key is None:
        if evidence.failures:
            # Failures that differed in nothing but their texts are one now, as they are for the fold of erased events.
            failures = tuple(sorted(set(evidence.failures), key=failure_order))
            evidence = msgspec.structs.replace(evidence, failures=failures)
            message = msgspec.structs.replace(message, evidence=evidence)
        return Snapshot(message)
    personal = _decode_sealed(key.open(sealed, place(stream_id, sealed_at, _SNAPSHOT)))
    if evidence.failures:
        told = zip(evidence.failures, personal.texts, strict=True)
        worded = tuple([Failure(failure.at, failure.kind, failure.code, text) for failure, text in told])
        evidence = msgspec.structs.replace(evidence, failures=worded)
    return Snapshot(msgspec.structs.replace(message, person=personal.person, evidence=evidence), sealed, sealed_at)
