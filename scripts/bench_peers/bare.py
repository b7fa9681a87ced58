"""The unit of work with the same SQL over psycopg alone: no event sourcing library, no pool, no recorder.

The decisions, the sealing and the encoding are the product's own, so what differs is what the library costs.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final
from uuid import UUID

import msgspec
import psycopg
from psycopg.rows import TupleRow

from ledger.domain.events import NAMES, MessageLinked, MessageRegistered, StatusObserved
from ledger.domain.identity import Names, partition
from ledger.store import arrays
from ledger.store.application import Ledger, StreamMoved
from ledger.store.captures import Capture
from ledger.store.mapper import Entry, frame
from ledger.store.recorder import connection_string
from ledger.store.rows import CAPTURE_COLUMNS, COLUMNS, StatusRow
from ledger.store.sealing import DataKey, MasterKey, place

_PARAMETERS: Final = 10 + len(COLUMNS) + len(CAPTURE_COLUMNS)
_APPEND: Final = f"SELECT * FROM ledger_append({', '.join(['%s'] * _PARAMETERS)})".encode()
_encode: Final = msgspec.msgpack.Encoder().encode


class BareLedger(Ledger):
    """Stands in for the ledger in a writer. `load` is inherited: it is SQL over `reading`."""

    def __init__(self, database_url: str, *, names: Names, master_key: MasterKey) -> None:
        self.names = names
        self.partitions = 1
        self.master_key = master_key
        self._connection: psycopg.Connection[TupleRow] = psycopg.connect(
            connection_string(database_url), autocommit=True
        )
        self._connection.adapters.register_dumper(arrays.Column, arrays.ColumnDumper)
        self._cursor = self._connection.cursor(binary=True)

    def close(self) -> None:
        self._connection.close()

    @contextmanager
    def reading(self) -> Iterator[psycopg.Cursor[TupleRow]]:
        yield self._cursor

    def append(
        self,
        entries: list[Entry],
        rows: Sequence[StatusRow],
        opened: Mapping[UUID, DataKey],
        captures: Sequence[Capture] = (),
    ) -> list[int]:
        sealed = [capture.row(self.names, self.master_key) for capture in captures]
        streams = [entry.originator_id for entry in entries]
        keys = list(opened)
        parameters = [
            arrays.smallints(_partitions(streams)),
            arrays.uuids(streams),
            arrays.integers([entry.originator_version for entry in entries]),
            arrays.texts([NAMES[type(entry.event)] for entry in entries]),
            arrays.byteas([_state(entry) for entry in entries]),
            arrays.smallints(_partitions(keys)),
            arrays.uuids(keys),
            arrays.byteas([self.master_key.wrap(key, stream_id) for stream_id, key in opened.items()]),
            arrays.smallints(_partitions([row.stream_id for row in rows])),
            *(pack([getattr(row, name) for row in rows]) for name, pack in COLUMNS.items()),
            arrays.smallints(_partitions([row.capture_id for row in sealed])),
            *(pack([getattr(row, name) for row in sealed]) for name, pack in CAPTURE_COLUMNS.items()),
        ]
        try:
            row: Any = self._cursor.execute(_APPEND, parameters, prepare=True).fetchone()
        except psycopg.errors.UniqueViolation as error:
            raise StreamMoved("another writer appended first") from error
        return list(row[0])


def _partitions(streams: Sequence[UUID]) -> list[int]:
    return [partition(stream, 1) for stream in streams]


def _state(entry: Entry) -> bytes:
    event, sealed = entry.event, b""
    match event:
        case StatusObserved() | MessageRegistered() | MessageLinked():
            nothing = type(event.personal)()
            if event.personal != nothing:
                assert entry.key is not None
                bound_to = place(entry.originator_id, entry.originator_version, b"event")
                sealed = entry.key.seal(_encode(event.personal), bound_to)
                event = msgspec.structs.replace(event, personal=nothing)
    return frame(_encode(event), sealed)
