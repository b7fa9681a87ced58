"""Verification of the log in a database: chain, heads, Merkle roots, checkpoints held elsewhere, rows, erased keys.

Reads only. Needs no secret: what is sealed is verified as it is stored. Goes on from a place that was kept, so that a
long log can be verified in pieces, and every day only what is new.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import msgspec

from ledger.proof.chain import Fault, Place, Walk, link
from ledger.proof.merkle import Frontier
from ledger.proof.notes import Checkpoint
from ledger.store.scan import Connection, Gone, Head, blocks, connected, hash_at, headless, heads

#: Told how many events of how many have been checked.
Progress = Callable[[int, int], None]


class Reached(msgspec.Struct, frozen=True, kw_only=True):
    """How far a partition has been verified, and what is needed to go on."""

    position: int
    hash: bytes
    pending: list[bytes | None] | None = None  #: of the Merkle tree's right edge; None: roots are not compared

    def walk(self, partition: int, checkpoints: Mapping[int, Checkpoint]) -> Walk:
        frontier = None if self.pending is None else Frontier(self.position, self.pending)
        return Walk(partition, position=self.position, hash_=self.hash, frontier=frontier, checkpoints=checkpoints)


class Report(msgspec.Struct, kw_only=True):
    """What a verification came to."""

    checked: int = 0  #: events
    compared: int = 0  #: checkpoints
    fault: Fault | None = None
    reached: dict[int, Reached] = {}

    @property
    def ok(self) -> bool:
        return self.fault is None


class Interrupted(Exception):
    """Verification was told to stop; `report` has how far it came."""

    def __init__(self, report: Report) -> None:
        super().__init__("stopped")
        self.report = report


def verify(
    url: str,
    *,
    checkpoints: Iterable[Checkpoint] = (),
    begin: Mapping[int, Reached] | None = None,
    progress: Progress = lambda _done, _all: None,
) -> Report:
    """Verify every partition and stop at the first fault. Raises psycopg.Error, and Interrupted on KeyboardInterrupt.

    `checkpoints` are trusted: their signatures have been verified. `begin` has where to go on, by partition.
    """
    by_partition: dict[int, dict[int, Checkpoint]] = {}
    for told in checkpoints:
        by_partition.setdefault(told.partition, {})[told.position] = told
    report = Report()
    with connected(url) as connection:
        found = heads(connection)
        report.fault = _without_head(connection, found, by_partition)
        if report.fault is not None:
            return report
        starts = begin or {}
        wanted = sum(head.position - _start(starts, head).position for head in found)
        for head in found:
            walk = _start(starts, head).walk(head.partition, by_partition.get(head.partition, {}))
            before = report.checked
            try:
                report.fault = _begins(connection, walk) or _follow(
                    connection,
                    walk,
                    head,
                    lambda done, before=before: progress(before + done, wanted),  # type: ignore[misc]
                )
            except KeyboardInterrupt:
                report.reached[head.partition] = _reached(walk)
                raise Interrupted(report) from None
            report.checked += walk.checked
            report.compared += walk.compared
            report.reached[head.partition] = _reached(walk)
            if report.fault is not None:
                return report
        try:
            report.fault = (None if starts else _rows(connection)) or _erasures(connection)
        except KeyboardInterrupt:
            raise Interrupted(report) from None
    return report


def _without_head(
    connection: Connection, found: Sequence[Head], checkpoints: Mapping[int, Mapping[int, Checkpoint]]
) -> Fault | None:
    """Find a partition that no head leads to: its events would not be looked at."""
    partition = headless(connection)
    if partition is not None:
        return Fault(Place(partition=partition, position=1), "there are events in this partition, and no head of it")
    missing = sorted(checkpoints.keys() - {head.partition for head in found})
    if missing:
        stated = min(checkpoints[missing[0]])
        why = f"a checkpoint states {stated} events of this partition, and there is no head of it"
        return Fault(Place(partition=missing[0], position=1), why)
    return None


def _start(begin: Mapping[int, Reached], head: Head) -> Reached:
    return begin.get(head.partition) or Reached(position=0, hash=bytes(32), pending=[])


def _reached(walk: Walk) -> Reached:
    return Reached(position=walk.position, hash=walk.hash, pending=walk.pending)


def _begins(connection: Connection, walk: Walk) -> Fault | None:
    """Look whether the place to go on from is still what it was."""
    if walk.position and hash_at(connection, walk.partition, walk.position) != walk.hash:
        return walk.fault(
            walk.position, "the event is not there any more, or has another hash than when it was verified"
        )
    return None


def _follow(connection: Connection, walk: Walk, head: Head, progress: Callable[[int], None]) -> Fault | None:
    begun = walk.position
    for block in blocks(connection, walk.partition, walk.position, head.position):
        fault = _archived(walk, block) if isinstance(block, Gone) else walk.follow(block)
        if fault is not None:
            return fault
        progress(walk.position - begun)
    if head.first_stored < 1:
        return walk.fault(head.first_stored, "an event stands before the first position of its partition")
    if head.last_stored > head.position:
        return walk.fault(head.position + 1, "an event stands behind the head of its partition")
    return walk.end(head.position, head.hash)


def _archived(walk: Walk, gone: Gone) -> Fault | None:
    """Check the rows that have stayed in a range that was archived: each between the hashes that were kept."""
    first = walk.position + 1
    for index, (middle, state) in sorted(gone.kept.items()):
        before = gone.hashes[index - 1] if index else walk.hash
        if link(before, middle, state) != gone.hashes[index]:
            return walk.fault(first + index, "the event does not have the hash that was kept when others were archived")
    for index, hash_ in enumerate(gone.hashes):
        if not hash_:
            return walk.fault(first + index, "neither the event nor its hash is there")
    return walk.pass_over(gone.hashes)


def _rows(connection: Connection) -> Fault | None:
    """Find a message whose row is missing, is of no message, or is not of its events. Reads the whole log once more."""
    connection.execute("SET statement_timeout = 0")
    row = connection.execute(_UNLIKE).fetchone()
    if row is None:
        return None
    partition, position, stream_id, why = row
    return Fault(Place(partition=partition, position=position, stream_id=str(stream_id), version=1), why)


def _erasures(connection: Connection) -> Fault | None:
    """Find a message whose key is gone without an erasure on record: it was not us who deleted it."""
    connection.execute("SET statement_timeout = 0")
    row = connection.execute(_KEYLESS).fetchone()
    if row is None:
        return None
    partition, position, stream_id, version = row
    place = Place(partition=partition, position=position, stream_id=str(stream_id), version=version)
    return Fault(place, "the message has no data key, and no erasure of it is on record")


#: An archived message has a row and perhaps no events; later ones of it follow the versions that have left.
_UNLIKE: Final = b"""
SELECT partition, coalesce(e.first, c.message_id / 256) AS position, stream_id,
       CASE WHEN c.stream_id IS NULL THEN 'the log has events of this message, and there is no row of it'
            WHEN e.stream_id IS NULL THEN 'there is a row of a message of which the log has no events'
            WHEN c.version <> e.version THEN 'the row of this message is not as of its last event'
            ELSE 'the row of this message does not name its first event' END
  FROM (SELECT partition, stream_id, min(position) AS first, max(version) AS version FROM events GROUP BY 1, 2) e
  FULL JOIN current_status c USING (partition, stream_id)
  LEFT JOIN archived_messages a USING (partition, stream_id)
 WHERE c.stream_id IS NULL OR c.version <> e.version
    OR a.stream_id IS NULL AND (e.stream_id IS NULL
                                OR c.message_id <> e.first * 256 + get_byte(uuid_send(stream_id), 0))
 ORDER BY 1, 2 LIMIT 1
"""
_KEYLESS: Final = b"""
SELECT c.partition, c.message_id / 256, c.stream_id, 1 FROM current_status c
 WHERE NOT EXISTS (SELECT FROM message_keys k WHERE k.partition = c.partition AND k.stream_id = c.stream_id)
   AND NOT EXISTS (SELECT FROM events e
                    WHERE e.partition = c.partition AND e.stream_id = c.stream_id AND e.type LIKE 'erased.%')
   AND NOT EXISTS (SELECT FROM archived_messages a WHERE a.partition = c.partition AND a.stream_id = c.stream_id)
 ORDER BY 1, 2 LIMIT 1
"""
