"""The Merkle tree of RFC 9162, section 2.1: roots, inclusion and consistency proofs, and their verification.

A leaf is hashed as SHA-256(0x00 | data), an inner node as SHA-256(0x01 | left | right); a node without a sibling is
promoted, not doubled. The tree of no leaves has the hash of nothing.

An event's link of the chain is made exactly as a leaf is: SHA-256(0x00 | data), where the data are the hash before, the
event's place and the digest of its state. So the hashes of the chain are the leaves of the tree, in the order of
positions: leaf 0 is position 1. Everything here takes leaves as hashes.

Proofs are made from complete subtrees, which whoever keeps them hands out (`Subtree`), so that making one reads a few
hundred hashes and not the log.
"""

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from typing import Final

#: From level and index to the hash of a complete subtree: that of the 2^level leaves from index * 2^level.
Subtree = Callable[[int, int], bytes]

EMPTY: Final = sha256(b"").digest()
HASH_BYTES: Final = 32


def node_hash(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


class Frontier:
    """The right edge of a growing tree: what is needed to append leaves and to tell the root. At most 64 hashes."""

    def __init__(self, size: int = 0, pending: Sequence[bytes | None] = ()) -> None:
        self.size = size
        #: By level, the complete subtree that waits for its sibling.
        self._pending: list[bytes | None] = list(pending)

    @property
    def pending(self) -> list[bytes | None]:
        """What a frontier of this size can be made of again."""
        return list(self._pending)

    def extend(self, leaves: Iterable[bytes]) -> None:
        """Append leaves, as hashes."""
        nodes = list(leaves)
        self.size += len(nodes)
        level = 0
        while nodes:
            if level == len(self._pending):
                self._pending.append(None)
            waiting = self._pending[level]
            if waiting is not None:
                nodes.insert(0, waiting)
            self._pending[level] = nodes.pop() if len(nodes) % 2 else None
            pairs = b"".join(nodes)
            nodes = [sha256(b"\x01" + pairs[at : at + 64]).digest() for at in range(0, len(pairs), 64)]
            level += 1

    def root(self) -> bytes:
        found: bytes | None = None
        for waiting in self._pending:
            if waiting is not None:
                found = waiting if found is None else node_hash(waiting, found)
        return EMPTY if found is None else found


def complete(hashes: Sequence[bytes]) -> bytes:
    """Return the hash over 2^n sibling nodes. Raises ValueError for another number of them."""
    nodes = list(hashes)
    if not nodes or len(nodes) & (len(nodes) - 1):
        raise ValueError("a complete subtree has a power of two of nodes")
    while len(nodes) > 1:
        nodes = [node_hash(nodes[at], nodes[at + 1]) for at in range(0, len(nodes), 2)]
    return nodes[0]


def root(size: int, subtree: Subtree) -> bytes:
    """Return the root of the first `size` leaves."""
    return _range(0, size, subtree) if size else EMPTY


def inclusion(index: int, size: int, subtree: Subtree) -> list[bytes]:
    """Return the audit path of a leaf in the tree of the first `size` leaves. Raises ValueError beyond them."""
    if not 0 <= index < size:
        raise ValueError("the leaf is not in the tree")
    path: list[bytes] = []
    start = 0
    while size > 1:
        split = _split(size)
        if index < split:
            path.append(_range(start + split, size - split, subtree))
            size = split
        else:
            path.append(_range(start, split, subtree))
            start, index, size = start + split, index - split, size - split
    return path[::-1]


def consistency(old: int, size: int, subtree: Subtree) -> list[bytes]:
    """Return the proof that the tree of `size` leaves begins with that of `old`. Raises ValueError unless it can."""
    if not 0 < old <= size:
        raise ValueError("the older tree is not a part of the newer")
    path: list[bytes] = []
    start, whole = 0, True
    while old != size:
        split = _split(size)
        if old <= split:
            path.append(_range(start + split, size - split, subtree))
            size = split
        else:
            path.append(_range(start, split, subtree))
            start, old, size, whole = start + split, old - split, size - split, False
    if not whole:
        path.append(_range(start, size, subtree))
    return path[::-1]


def is_included(leaf: bytes, index: int, size: int, path: Sequence[bytes], root_: bytes) -> bool:
    """Verify an audit path (RFC 9162, section 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    at, last, found = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            return False
        if at & 1 or at == last:
            found = node_hash(sibling, found)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            found = node_hash(found, sibling)
        at, last = at >> 1, last >> 1
    return last == 0 and found == root_


def is_consistent(old: int, size: int, old_root: bytes, root_: bytes, path: Sequence[bytes]) -> bool:
    """Verify a consistency proof (RFC 9162, section 2.1.4.2). An empty tree is the beginning of every other."""
    if old == 0:
        return not path and old_root == EMPTY
    if old == size:
        return not path and old_root == root_
    if not 0 < old < size or not path:
        return False
    rest = list(path)
    if old & (old - 1) == 0:
        rest.insert(0, old_root)
    at, last = old - 1, size - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    found = found_old = rest[0]
    for sibling in rest[1:]:
        if last == 0:
            return False
        if at & 1 or at == last:
            found_old, found = node_hash(sibling, found_old), node_hash(sibling, found)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            found = node_hash(found, sibling)
        at, last = at >> 1, last >> 1
    return last == 0 and found_old == old_root and found == root_


def _split(size: int) -> int:
    """Return the largest power of two below a size above one."""
    return 1 << ((size - 1).bit_length() - 1)


def _range(start: int, size: int, subtree: Subtree) -> bytes:
    """Return the hash over leaves that begin where a subtree of their number may begin."""
    if size & (size - 1) == 0:
        level = size.bit_length() - 1
        return subtree(level, start >> level)
    split = _split(size)
    return node_hash(_range(start, split, subtree), _range(start + split, size - split, subtree))
