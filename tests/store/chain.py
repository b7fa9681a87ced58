"""The hash chain, worked out from its documentation alone: what anybody with an export can check.

The layout is that of `ledger_record`. The hash of an event is SHA-256 over

    bytes       what
    1           0x00
    32          the predecessor's hash; 32 zero bytes for the first event of a partition
    16          stream id, as the UUID's bytes
    8           version, big-endian
    8           position, big-endian
    any         the event's permanent name, UTF-8
    8           recorded_at in microseconds since 1970-01-01 UTC, big-endian
    32          SHA-256 of the stored state

Positions of a partition are 1, 2, 3 … without a gap, and recording times never fall. Nothing here imports the product.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import NamedTuple
from uuid import UUID

ORIGIN = bytes(32)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Link(NamedTuple):
    """A row of `events`, in the order of this statement's columns."""

    partition: int
    position: int
    stream_id: UUID
    version: int
    type: str
    state: bytes
    recorded_at: datetime
    hash: bytes


SELECT = b"""
SELECT partition, position, stream_id, version, type, state, recorded_at, hash FROM events ORDER BY partition, position
"""


def hash_of(previous: bytes, link: Link) -> bytes:
    return sha256(
        b"\x00"
        + previous
        + link.stream_id.bytes
        + link.version.to_bytes(8, "big")
        + link.position.to_bytes(8, "big")
        + link.type.encode()
        + ((link.recorded_at - _EPOCH) // timedelta(microseconds=1)).to_bytes(8, "big")
        + sha256(link.state).digest()
    ).digest()


def first_bad(links: Iterable[Link]) -> int | None:
    """Return the first position of one partition that does not follow from what stands before it; None if all do."""
    previous, recorded_at = ORIGIN, datetime.min.replace(tzinfo=UTC)
    for expected, link in enumerate(links, start=1):
        if link.position != expected or link.recorded_at < recorded_at or link.hash != hash_of(previous, link):
            return expected
        previous, recorded_at = link.hash, link.recorded_at
    return None


def by_partition(links: Sequence[Link]) -> dict[int, list[Link]]:
    found: dict[int, list[Link]] = {}
    for link in links:
        found.setdefault(link.partition, []).append(link)
    return found
