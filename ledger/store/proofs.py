"""Gathering the proof of one message: its events as stored, their places in the tree, the checkpoint above them."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from ledger.domain.identity import partition
from ledger.proof.bundle import Bundle, ProvedEvent, text
from ledger.proof.notes import Checkpoint, PublicKey
from ledger.store.application import Ledger
from ledger.store.scan import Connection, hash_at
from ledger.store.tree import Tree

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class NotCovered(LookupError):
    """An event lies behind the newest checkpoint of its partition: make one first."""


def gather(
    ledger: Ledger,
    connection: Connection,
    message_id: int,
    streams: Sequence[UUID],
    signed: Mapping[int, tuple[Checkpoint, str]],
    *,
    opens: bool,
    keys: Sequence[PublicKey] = (),
) -> Bundle:
    """Return the proof of a message that these streams tell of. `signed` has a checkpoint and its note, by partition.

    `opens` takes the message's data keys in, so that what is sealed can be read. Raises NotCovered, and LookupError if
    the log does not have what the proof needs.
    """
    events: list[ProvedEvent] = []
    trees = {part: Tree(connection, part) for part in {partition(each, ledger.partitions) for each in streams}}
    for stream_id in streams:
        part = partition(stream_id, ledger.partitions)
        rows = connection.execute(_EVENTS, (part, stream_id), binary=True).fetchall()
        if not rows or rows[0][1] != 1:
            raise LookupError("its events are in an archive: restore them first")
        for position, version, type_, state, recorded_at in rows:
            if part not in signed or signed[part][0].position < position:
                raise NotCovered(f"position {position} of partition {part}")
            previous = hash_at(connection, part, position - 1) if position > 1 else bytes(32)
            if previous is None:
                raise LookupError(f"position {position - 1} of partition {part} is not there")
            events.append(
                ProvedEvent(
                    partition=part,
                    position=position,
                    stream_id=str(stream_id),
                    version=version,
                    type=type_,
                    recorded_at=(recorded_at - _EPOCH) // _MICROSECOND,
                    state=state,
                    previous=previous,
                    path=trees[part].inclusion(position, signed[part][0].position),
                )
            )
    return Bundle(
        message_id=message_id,
        checkpoints={str(part): signed[part][1] for part in trees if part in signed},
        public_keys=[str(key) for key in keys],
        data_keys=_data_keys(ledger, streams) if opens else {},
        events=events,
    )


def _data_keys(ledger: Ledger, streams: Sequence[UUID]) -> dict[str, str]:
    loaded = [each for each in ledger.load(streams) if each.version and each.key is not None]
    return {str(each.stream_id): text(each.key.reveal()) for each in loaded if each.key is not None}


_EVENTS: Final = b"""
SELECT position, version, type, state, recorded_at FROM events WHERE partition = %s AND stream_id = %s ORDER BY version
"""
