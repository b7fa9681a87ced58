"""Erasure in the database: finding a person's messages, and deleting their data keys with everything that follows.

One batch is one transaction: the events that record the erasure, the rows that follow from them, the keys, the scrubs.
A writer that is about to add to one of these messages loses the race for the stream's next version, loads again, and
finds that there is no key. Legal holds are looked at in that transaction, under a lock that placing a hold waits for.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from eventsourcing.persistence import IntegrityError
from psycopg.rows import tuple_row

from ledger.domain.identity import Names, partition
from ledger.store import arrays
from ledger.store.application import UNAVAILABLE, Ledger, StoreUnavailable, StreamMoved
from ledger.store.mapper import Entry
from ledger.store.recorder import APPEND, append_parameters
from ledger.store.rows import StatusRow
from ledger.store.scrubs import Erased, Scrub, captures_of, delete_captures

#: Held shared by erasures and archives, alone by whoever places a hold.
HOLD_LOCK: Final = 0x5354_4C48  # "STLH"


class Written(NamedTuple):
    """What one batch came to."""

    positions: list[int]
    hashes: list[bytes]
    keys: int
    scrubbed: dict[str, int]


class Erasure(NamedTuple):
    """An erasure on record."""

    erasure_id: UUID
    erased_at: datetime
    erased_by: str
    why: str
    streams: int
    certificate: str


class Erasing:
    """Raises StoreUnavailable and StreamMoved; nothing of the driver's leaves this class."""

    def __init__(self, ledger: Ledger, scrubs: Sequence[Scrub]) -> None:
        self._ledger = ledger
        self._scrubs = scrubs

    def accounts(self) -> list[str]:
        """Return every account that has a message."""
        with self._ledger.reading() as cursor:
            return [row[0] for row in cursor.execute(_ACCOUNTS)]

    def found(self, kind: str, value: str) -> list[UUID]:
        """Return the streams that speak for the messages of a recipient or with a client reference, in any account."""
        column = {"recipient": _BY_RECIPIENT, "client_reference": _BY_REFERENCE}[kind]
        names: Names = self._ledger.names
        lookups = [names.lookup(account, kind, value) for account in self.accounts()]
        with self._ledger.reading() as cursor:
            rows = cursor.execute(column, (lookups,)).fetchall()
        return [row[0] for row in rows]

    def message_ids(self, streams: Sequence[UUID]) -> dict[UUID, int]:
        with self._ledger.reading() as cursor:
            return dict(cursor.execute(_MESSAGE_IDS, self._places(streams)).fetchall())

    def held(self, streams: Sequence[UUID]) -> set[UUID]:
        """Return those of the streams that a legal hold keeps."""
        with self._ledger.reading() as cursor:
            return {row[0] for row in cursor.execute(_HELD, self._places(streams))}

    def captures(self, accounts: Sequence[str], sought: frozenset[str], *, delete: bool) -> int:
        """Return how many captures name any of these, deleted if told so."""
        if not sought:
            return 0
        with self._ledger.reading() as cursor:
            found = list(captures_of(cursor, self._ledger.master_key, accounts, sought))
            return delete_captures(cursor, found) if delete and found else len(found)

    def write(self, entries: Sequence[Entry], rows: Sequence[StatusRow], erased: Sequence[Erased]) -> Written:
        """Record erasures, delete keys and scrub, in one transaction. `entries` come grouped by ascending partition.

        Raises StreamMoved, with nothing done, if one of the streams has moved on or is held by now.
        """
        ledger = self._ledger
        stored = [ledger.mapper.to_stored_event(entry) for entry in entries]
        partitions = [partition(entry.originator_id, ledger.partitions) for entry in entries]
        parameters = append_parameters(stored, partitions, rows, [None] * len(rows))
        places = self._places([each.stream_id for each in erased])
        try:
            with (
                ledger.recorder.connection() as connection,
                connection.transaction(),
                connection.cursor(row_factory=tuple_row, binary=True) as cursor,
            ):
                cursor.execute(_LOCK, (HOLD_LOCK,))
                if cursor.execute(_HELD, places).fetchone() is not None:
                    raise StreamMoved("a legal hold was placed")
                # First: what is kept under a look-up is found by it, and the look-ups go with the rows.
                scrubbed = {scrub.name: scrub.run(cursor, erased) for scrub in self._scrubs}
                positions = cursor.execute(APPEND, parameters, prepare=True).fetchone()
                assert positions is not None  # noqa: S101  # the function returns one row
                keys = cursor.execute(_DELETE_KEYS, places).rowcount
                at = arrays.smallints(partitions), arrays.bigints(positions[0])
                hashes = [row[0] for row in cursor.execute(_HASHES, at)]
        except IntegrityError as error:
            raise StreamMoved("another writer appended first") from error
        except UNAVAILABLE as error:
            raise StoreUnavailable("the erasure did not complete") from error
        return Written(positions[0], hashes, keys, scrubbed)

    def keep(self, erasure: Erasure) -> None:
        """Put an erasure with its certificate on record; one that is there stays."""
        with self._ledger.reading() as cursor:
            cursor.execute(_KEEP, erasure)

    def all(self) -> list[Erasure]:
        with self._ledger.reading() as cursor:
            return [Erasure(*row) for row in cursor.execute(_ALL)]

    def _places(self, streams: Sequence[UUID]) -> tuple[Any, Any]:
        partitions = [partition(stream_id, self._ledger.partitions) for stream_id in streams]
        return arrays.smallints(partitions), arrays.uuids(list(streams))


_ACCOUNTS: Final = b"""
WITH RECURSIVE account AS (
    (SELECT account AS name FROM current_status WHERE linked_to IS NULL ORDER BY account LIMIT 1)
    UNION ALL
    SELECT (SELECT c.account FROM current_status c WHERE c.linked_to IS NULL AND c.account > account.name
             ORDER BY c.account LIMIT 1)
      FROM account WHERE account.name IS NOT NULL
)
SELECT name FROM account WHERE name IS NOT NULL
"""
_BY_RECIPIENT: Final = b"""
SELECT DISTINCT coalesce(linked_to, stream_id) FROM current_status WHERE recipient_lookup = ANY(%s)
"""
_BY_REFERENCE: Final = b"""
SELECT DISTINCT coalesce(linked_to, stream_id) FROM current_status WHERE reference_lookup = ANY(%s)
"""
_MESSAGE_IDS: Final = b"""
SELECT c.stream_id, c.message_id FROM unnest(%s, %s) AS asked (partition, stream_id)
  JOIN current_status c USING (partition, stream_id)
"""
_HELD: Final = (
    b"SELECT h.stream_id FROM unnest(%s, %s) AS asked (partition, stream_id) JOIN holds h USING (partition, stream_id)"
)
_LOCK: Final = b"SELECT pg_advisory_xact_lock_shared(%s)"
_DELETE_KEYS: Final = b"""
DELETE FROM message_keys k USING unnest(%s, %s) AS gone (partition, stream_id)
 WHERE k.partition = gone.partition AND k.stream_id = gone.stream_id
"""
_HASHES: Final = b"""
SELECT e.hash FROM unnest(%s, %s) WITH ORDINALITY AS asked (partition, position, n)
  JOIN events e ON e.partition = asked.partition AND e.position = asked.position ORDER BY asked.n
"""
_KEEP: Final = b"""
INSERT INTO erasures (erasure_id, erased_at, erased_by, why, streams, certificate) VALUES (%s, %s, %s, %s, %s, %s)
    ON CONFLICT DO NOTHING
"""
_ALL: Final = b"SELECT erasure_id, erased_at, erased_by, why, streams, certificate FROM erasures ORDER BY erased_at"
