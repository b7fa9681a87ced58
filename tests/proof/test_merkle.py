"""The Merkle tree against its definition in RFC 9162, section 2.1, written down as it stands there."""

from collections.abc import Sequence
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.proof import merkle
from ledger.proof.merkle import Frontier


def defined_root(data: Sequence[bytes]) -> bytes:
    """Return MTH(D) of section 2.1.1."""
    if not data:
        return sha256(b"").digest()
    if len(data) == 1:
        return sha256(b"\x00" + data[0]).digest()
    split = 1
    while split * 2 < len(data):
        split *= 2
    return sha256(b"\x01" + defined_root(data[:split]) + defined_root(data[split:])).digest()


def leaf_hash(data: bytes) -> bytes:
    return sha256(b"\x00" + data).digest()


def hashed(data: Sequence[bytes]) -> list[bytes]:
    return [leaf_hash(each) for each in data]


def leaves(count: int) -> list[bytes]:
    return [sha256(number.to_bytes(4, "big")).digest() for number in range(count)]


def tree(data: Sequence[bytes]) -> merkle.Subtree:
    def subtree(level: int, at: int) -> bytes:
        part = data[at << level : (at + 1) << level]
        assert len(part) == 1 << level, "only complete subtrees are asked for"
        return defined_root(part)

    return subtree


SIZES = st.integers(1, 70)


@given(size=st.integers(0, 300), cuts=st.lists(st.integers(0, 300), max_size=5))
def test_a_frontier_has_the_root_of_its_leaves_however_they_came(size: int, cuts: list[int]) -> None:
    data, frontier, begin = leaves(size), Frontier(), 0

    for cut in sorted(cuts):
        frontier.extend(hashed(data[begin:cut]))
        begin = max(begin, min(cut, size))
    frontier.extend(hashed(data[begin:]))

    assert frontier.size == size
    assert frontier.root() == defined_root(data)


@given(size=st.integers(0, 100), more=st.integers(0, 100))
def test_a_frontier_goes_on_from_what_it_was_kept_as(size: int, more: int) -> None:
    data, frontier = leaves(size + more), Frontier()
    frontier.extend(hashed(data[:size]))

    again = Frontier(frontier.size, frontier.pending)
    again.extend(hashed(data[size:]))

    assert again.root() == defined_root(data)


@given(size=SIZES)
def test_a_root_is_made_of_complete_subtrees(size: int) -> None:
    data = leaves(size)

    assert merkle.root(size, tree(data)) == defined_root(data)


@given(size=SIZES, index=st.integers(0, 69))
def test_an_inclusion_proof_fits_its_leaf_and_no_other(size: int, index: int) -> None:
    index %= size
    data = leaves(size)
    path, root = merkle.inclusion(index, size, tree(data)), defined_root(data)

    fits = [merkle.is_included(leaf_hash(leaf), at, size, path, root) for at, leaf in enumerate(data)]

    assert fits == [at == index for at in range(size)]


@given(size=SIZES, index=st.integers(0, 69), bit=st.integers(0, 4_000), drop=st.booleans())
def test_an_altered_inclusion_proof_fits_nothing(size: int, index: int, bit: int, drop: bool) -> None:
    index %= size
    data = leaves(size)
    path, root = merkle.inclusion(index, size, tree(data)), defined_root(data)
    forged = path[:-1] if drop and path else [*path, bytes(32)]
    if path and not drop:
        at, inner = divmod(bit % (256 * len(path)), 256)
        forged = [*path]
        forged[at] = (int.from_bytes(path[at], "big") ^ 1 << inner).to_bytes(32, "big")

    assert not merkle.is_included(leaf_hash(data[index]), index, size, forged, root) or forged == path


@given(size=SIZES, old=st.integers(1, 70))
def test_a_tree_is_consistent_with_its_beginning_and_with_no_other(size: int, old: int) -> None:
    old = 1 + (old - 1) % size
    data = leaves(size)
    path = merkle.consistency(old, size, tree(data))
    other = defined_root([*data[: old - 1], bytes(32)])

    assert merkle.is_consistent(old, size, defined_root(data[:old]), defined_root(data), path)
    assert not merkle.is_consistent(old, size, other, defined_root(data), path)
    assert not merkle.is_consistent(old, size, defined_root(data[:old]), other, path)
    if path:
        assert not merkle.is_consistent(old, size, defined_root(data[:old]), defined_root(data), path[:-1])


def test_an_empty_tree_is_the_beginning_of_every_other() -> None:
    assert merkle.is_consistent(0, 3, merkle.EMPTY, defined_root(leaves(3)), [])
    assert not merkle.is_consistent(0, 3, bytes(32), defined_root(leaves(3)), [])
    assert merkle.root(0, tree([])) == Frontier().root() == merkle.EMPTY


@pytest.mark.parametrize(("index", "size"), [(0, 0), (-1, 3), (3, 3)])
def test_what_is_not_in_the_tree_has_no_proof(index: int, size: int) -> None:
    with pytest.raises(ValueError, match="not in the tree"):
        merkle.inclusion(index, size, tree(leaves(3)))
    assert not merkle.is_included(bytes(32), index, size, [], bytes(32))


@pytest.mark.parametrize(("old", "size"), [(0, 3), (4, 3)])
def test_a_longer_tree_is_not_the_beginning_of_a_shorter_one(old: int, size: int) -> None:
    with pytest.raises(ValueError, match="not a part"):
        merkle.consistency(old, size, tree(leaves(4)))


def test_an_inner_node_is_no_leaf() -> None:
    """A second preimage: the concatenation of two leaf hashes, offered as the data of one leaf."""
    data = leaves(2)
    inner = leaf_hash(data[0]) + leaf_hash(data[1])

    assert not merkle.is_included(leaf_hash(inner), 0, 1, [], defined_root(data))


@pytest.mark.parametrize("count", [0, 3, 6])
def test_only_a_power_of_two_of_nodes_is_complete(count: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        merkle.complete(leaves(count))
