"""The Merkle tree of a partition, read from the log: leaves from the events' hashes, inner nodes from `merkle_nodes`.

Every eighth level is kept, so a root or a proof reads at most 256 hashes of each. Nodes are derived: `extend` makes
what is missing, also from nothing. They are no evidence. A node that somebody has altered leads to a proof that does
not fit its root, and to a root that does not fit the events, which `verify` compares.
"""

from collections.abc import Iterator
from typing import Final

from ledger.proof import merkle
from ledger.store.scan import TILE, Connection, kept_hashes

#: Levels from one that is kept to the next.
STEP: Final = TILE.bit_length() - 1
_LEVEL_MAX: Final = 56
#: Tiles whose leaves are read and whose nodes are written at once.
_PAGE_TILES: Final = 64


class Tree:
    """The tree of one partition over a connection, for one question: what it has read it keeps."""

    def __init__(self, connection: Connection, partition: int) -> None:
        self._connection = connection
        self._partition = partition
        self._tiles: dict[tuple[int, int], list[bytes]] = {}

    def extend(self, size: int) -> None:
        """Make the nodes that a tree of this size has and that are not kept yet."""
        for level in range(STEP, _LEVEL_MAX + 1, STEP):
            complete = size >> level
            if not complete:
                return
            row = self._connection.execute(_COUNT, (self._partition, level)).fetchone()
            kept = row[0] if row else 0
            for begin in range(kept, complete, _PAGE_TILES):
                end = min(begin + _PAGE_TILES, complete)
                nodes = [merkle.complete(self._tile(level - STEP, at)) for at in range(begin, end)]
                self._connection.execute(_KEEP, (self._partition, level, begin, nodes))
                self._tiles.clear()

    def root(self, size: int) -> bytes:
        return merkle.root(size, self.subtree)

    def inclusion(self, position: int, size: int) -> list[bytes]:
        """Return the audit path of the event at a position in the tree of the first `size` events."""
        return merkle.inclusion(position - 1, size, self.subtree)

    def consistency(self, old: int, size: int) -> list[bytes]:
        return merkle.consistency(old, size, self.subtree)

    def subtree(self, level: int, at: int) -> bytes:
        """Return the hash of a complete subtree. Raises LookupError if its nodes were never made."""
        base, above = level - level % STEP, level % STEP
        width = 1 << above
        tile, offset = divmod(at << above, TILE)
        nodes = self._tile(base, tile)[offset : offset + width]
        if len(nodes) != width or not all(nodes):
            raise LookupError(f"the tree has no node {at} at level {level}")
        return merkle.complete(nodes)

    def _tile(self, level: int, tile: int) -> list[bytes]:
        """Return nodes of one kept level, as many as there are."""
        found = self._tiles.get((level, tile))
        if found is None:
            found = self._leaves(tile) if level == 0 else self._nodes(level, tile)
            self._tiles[level, tile] = found
        return found

    def _leaves(self, tile: int) -> list[bytes]:
        first = tile * TILE + 1
        rows = self._connection.execute(_HASHES, (self._partition, first, first + TILE - 1), binary=True).fetchall()
        stored: dict[int, bytes] = dict(rows)
        if len(stored) < TILE:  # the end of the log, or archived
            archived = enumerate(kept_hashes(self._connection, self._partition, first, first + TILE - 1), start=first)
            stored = {position: hash_ for position, hash_ in archived if hash_} | stored
        return list(_while_there(stored, first))

    def _nodes(self, level: int, tile: int) -> list[bytes]:
        first = tile * TILE
        rows = self._connection.execute(
            _NODES, (self._partition, level, first, first + TILE - 1), binary=True
        ).fetchall()
        stored: dict[int, bytes] = dict(rows)
        return [stored.get(at, b"") for at in range(first, max(stored, default=first - 1) + 1)]


def _while_there(stored: dict[int, bytes], first: int) -> Iterator[bytes]:
    for position in range(first, first + TILE):
        if position not in stored:
            return
        yield stored[position]


_COUNT: Final = b"SELECT coalesce(max(at) + 1, 0) FROM merkle_nodes WHERE partition = %s AND level = %s"
_KEEP: Final = b"""
WITH told AS (SELECT %s::smallint AS partition, %s::smallint AS level, %s::bigint AS first, %s::bytea[] AS nodes)
INSERT INTO merkle_nodes (partition, level, at, hash)
SELECT partition, level, first + n - 1, hash FROM told, unnest(nodes) WITH ORDINALITY AS node (hash, n)
    ON CONFLICT DO NOTHING
"""
_HASHES: Final = b"SELECT position, hash FROM events WHERE partition = %s AND position BETWEEN %s AND %s"
_NODES: Final = b"SELECT at, hash FROM merkle_nodes WHERE partition = %s AND level = %s AND at BETWEEN %s AND %s"
