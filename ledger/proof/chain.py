"""Following the chain of a partition, from any source of events, with nothing but their bytes.

The layout of a link is in `docs/event-log.md`. `Walk` is fed blocks in the order of positions and stops at the first
place that does not follow from what stands before it. It keeps the Merkle tree's right edge on the way, so that a
checkpoint is compared with both: the chain hash and the root.

Silent breach: a block must hold what is stored, not what was computed from it. Whoever makes blocks does no checking.
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from struct import pack
from typing import Final, NamedTuple
from uuid import UUID

import msgspec

from ledger.proof.merkle import Frontier
from ledger.proof.notes import Checkpoint

#: What the first event of a partition is chained to.
ORIGIN: Final = bytes(32)
#: Where the parts of `Block.middles` lie.
_STREAM, _VERSION, _POSITION = slice(0, 16), slice(16, 24), slice(24, 32)


class Block(NamedTuple):
    """Consecutive events of one partition, a column each."""

    #: stream id 16 | version 8 | position 8 | type | recorded_at in microseconds since 1970, 8: as it is hashed.
    middles: Sequence[bytes]
    states: Sequence[bytes]
    hashes: bytes  #: 32 bytes each, joined


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where something is wrong. Stream and version are those of the event that stands there; None if none does."""

    partition: int
    position: int
    stream_id: str | None = None
    version: int | None = None


class Fault(msgspec.Struct, frozen=True):
    """The first thing that is wrong with a partition, in a sentence."""

    place: Place
    why: str


class Walk:
    """Follows one partition. After a fault it goes no further."""

    def __init__(
        self,
        partition: int,
        *,
        position: int = 0,
        hash_: bytes = ORIGIN,
        frontier: Frontier | None = None,
        checkpoints: Mapping[int, Checkpoint] | None = None,
    ) -> None:
        """Begin after a position whose hash is known; without a frontier for it, roots are not compared."""
        self.partition = partition
        self.position = position
        self.hash = hash_
        self.checked = 0  #: events
        self.compared = 0  #: checkpoints
        self._frontier = Frontier() if position == 0 and frontier is None else frontier
        self._checkpoints = dict(checkpoints or {})
        self._stops = sorted(at for at in self._checkpoints if at > position)

    @property
    def pending(self) -> list[bytes | None] | None:
        """What a walk that goes on from here needs of the tree; None if roots are not compared."""
        return None if self._frontier is None else self._frontier.pending

    def fault(self, position: int, why: str) -> Fault:
        """Return a fault of this partition at a place where no event can be named."""
        return self._fault(position, None, why)

    def follow(self, block: Block) -> Fault | None:
        """Check a block against what stands before it."""
        begin = 0
        while begin < len(block.middles):
            stop = self._next_stop()
            end = len(block.middles) if stop is None else min(len(block.middles), begin + stop - self.position)
            fault = self._links(block, begin, end)
            if fault is None and self.position == stop:
                fault = self._compare(stop, block.middles[end - 1])
            if fault is not None:
                return fault
            begin = end
        return None

    def pass_over(self, hashes: Sequence[bytes]) -> Fault | None:
        """Take events whose rows have left the log at their word: only their hashes are known."""
        begin = 0
        while begin < len(hashes):
            stop = self._next_stop()
            end = len(hashes) if stop is None else min(len(hashes), begin + stop - self.position)
            if self._frontier is not None:
                self._frontier.extend(hashes[begin:end])
            self.position += end - begin
            self.hash = hashes[end - 1]
            if self.position == stop:
                fault = self._compare(stop, None)
                if fault is not None:
                    return fault
            begin = end
        return None

    def end(self, position: int, hash_: bytes) -> Fault | None:
        """Compare where the walk has come to with what the head says, and with checkpoints of events that are gone."""
        if self.position != position:
            return self._fault(self.position + 1, None, f"the head says {position} events, {self.position} are there")
        if self.hash != hash_:
            return self._fault(position, None, "the head has another hash than the last event")
        beyond = [at for at in self._checkpoints if at > position]
        if beyond:
            why = f"a checkpoint states {min(beyond)} events: the end of the log has been cut off"
            return self._fault(position + 1, None, why)
        return None

    def compare(self, told: Checkpoint) -> Fault | None:
        """Compare a checkpoint of the place to which the walk has come."""
        self._checkpoints[self.position] = told
        return self._compare(self.position, None)

    def _next_stop(self) -> int | None:
        while self._stops and self._stops[0] <= self.position:
            self._stops.pop(0)
        return self._stops[0] if self._stops else None

    def _links(self, block: Block, begin: int, end: int) -> Fault | None:
        """Work out the links of some events, and compare all at once with those that are stored."""
        previous, digest = self.hash, sha256
        middles = block.middles[begin:end]
        digests = [digest(state).digest() for state in block.states[begin:end]]
        links = []
        for middle_, of_state in zip(middles, digests, strict=True):
            previous = digest(b"\x00" + previous + middle_ + of_state).digest()
            links.append(previous)
        positions = b"".join([middle_[24:32] for middle_ in middles])
        expected = pack(f">{len(middles)}q", *range(self.position + 1, self.position + 1 + len(middles)))
        if positions != expected or b"".join(links) != block.hashes[32 * begin : 32 * end]:
            return self._first_wrong(block, begin, links)
        if self._frontier is not None:
            self._frontier.extend(links)
        self.checked += end - begin
        self.position, self.hash = self.position + end - begin, previous
        return None

    def _first_wrong(self, block: Block, begin: int, links: Sequence[bytes]) -> Fault:
        """Return the first fault of events of which one is known to be wrong."""
        for index, link_ in enumerate(links):
            at, position = begin + index, self.position + 1 + index
            told = block.middles[at]
            if link_ != block.hashes[32 * at : 32 * at + 32] or told[_POSITION] != position.to_bytes(8, "big"):
                return self._wrong(position, told)
        raise AssertionError("one of them is wrong")

    def _wrong(self, position: int, middle: bytes) -> Fault:
        found = int.from_bytes(middle[_POSITION], "big")
        if found != position:
            return self._fault(position, middle, f"position {position} is not there: {found} stands in its place")
        return self._fault(position, middle, "the hash does not follow from the event and what stands before it")

    def _compare(self, at: int, middle: bytes | None) -> Fault | None:
        told = self._checkpoints[at]
        self.compared += 1
        if told.hash != self.hash:
            return self._fault(at, middle, "a checkpoint states another hash of this position")
        if self._frontier is not None and told.root != self._frontier.root():
            return self._fault(at, middle, "a checkpoint states another Merkle root of the log up to here")
        return None

    def _fault(self, position: int, middle: bytes | None, why: str) -> Fault:
        place = Place(partition=self.partition, position=position)
        if middle is not None:
            place = Place(
                partition=self.partition,
                position=position,
                stream_id=str(UUID(bytes=middle[_STREAM])),
                version=int.from_bytes(middle[_VERSION], "big"),
            )
        return Fault(place, why)


def middle(stream_id: UUID, version: int, position: int, type_: str, micros: int) -> bytes:
    """Return what stands between the previous hash and the digest of the state."""
    return b"".join(
        (
            stream_id.bytes,
            version.to_bytes(8, "big"),
            position.to_bytes(8, "big"),
            type_.encode(),
            micros.to_bytes(8, "big", signed=True),
        )
    )


def link(previous: bytes, middle_: bytes, state: bytes) -> bytes:
    """Return an event's hash."""
    return sha256(b"\x00" + previous + middle_ + sha256(state).digest()).digest()
