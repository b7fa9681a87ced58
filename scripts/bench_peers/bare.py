"""The unit of work with the same SQL over psycopg alone: no event sourcing library, no pool, no recorder.

The decisions, the sealing and the encoding are the product's own, so what differs is what the library costs.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.rows import TupleRow

from ledger.domain.events import NAMES
from ledger.domain.identity import Names
from ledger.ingest.writer import FIBERS
from ledger.store import arrays
from ledger.store.application import Ledger, StreamMoved
from ledger.store.captures import Capture
from ledger.store.fiber import Connection
from ledger.store.mapper import Entry, Stored, state_of
from ledger.store.recorder import APPEND, append_parameters, connection_string
from ledger.store.rows import StatusRow
from ledger.store.sealing import DataKey, MasterKey


class BareLedger(Ledger):
    """Stands in for the ledger in a writer. `load` is inherited: it is SQL over `reading`."""

    def __init__(self, database_url: str, *, names: Names, master_key: MasterKey) -> None:
        self.names = names
        self.partitions = 1
        self.master_key = master_key
        #: One for each fiber of the writer.
        self._free = [self._connect(database_url) for _ in range(FIBERS)]

    def _connect(self, database_url: str) -> psycopg.Cursor[TupleRow]:
        connection = Connection.connect(connection_string(database_url), autocommit=True)
        connection.adapters.register_dumper(arrays.Column, arrays.ColumnDumper)
        return connection.cursor(binary=True)

    def close(self) -> None:
        for cursor in self._free:
            cursor.connection.close()

    @contextmanager
    def reading(self) -> Iterator[psycopg.Cursor[TupleRow]]:
        cursor = self._free.pop()
        try:
            yield cursor
        finally:
            self._free.append(cursor)

    def append(
        self,
        entries: list[Entry],
        rows: Sequence[StatusRow],
        keys: Sequence[DataKey | None],
        captures: Sequence[Capture] = (),
    ) -> list[int]:
        assert not captures
        wrap = self.master_key.wrap
        parameters = append_parameters(
            [
                Stored(entry.originator_id, entry.originator_version, NAMES[type(entry.event)], state_of(entry))
                for entry in entries
            ],
            [0] * len(entries),
            rows,
            [key and wrap(key, row.stream_id) for row, key in zip(rows, keys, strict=True)],
        )
        try:
            with self.reading() as cursor:
                row: Any = cursor.execute(APPEND, parameters, prepare=True).fetchone()
        except psycopg.errors.UniqueViolation as error:
            raise StreamMoved("another writer appended first") from error
        return list(row[0])
