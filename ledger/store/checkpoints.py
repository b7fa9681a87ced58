"""Signed checkpoints of the log: made as it grows, kept in the database and, above all, outside of it.

A checkpoint states what the log was. Whoever holds one that the owner of the database cannot change knows of every
later change to what it covers, and that nothing of it has been cut off. So each is appended to a file, or written as a
file of its own where a directory is named, before it is shown to anybody.

Silent breach: two checkpoints of one name that contradict each other would discredit all of them. Before one is signed
it is compared with the last one outside of the database: a log that does not go on from there is `Forked`.
"""

import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg.types.json import Jsonb

from ledger.proof import notes
from ledger.proof.notes import Checkpoint, NoteUntrusted, PublicKey, Signer
from ledger.store.scan import Connection, hash_at
from ledger.store.tree import Tree

#: One is made when the log has grown by so many events, or by any and so much time has gone by.
EVENTS: Final = 1_000
SECONDS: Final = 60
_LOCK: Final = 0x5354_4C43  # "STLC"
#: At once; more are made in the next round.
_AT_ONCE_MAX: Final = 100


class Forked(Exception):
    """The log does not go on from a published checkpoint: it was restored to an earlier time, or tampered with."""


class Store:
    """Where checkpoints are kept outside of the database: a file that grows, or a directory if it ends in a slash."""

    def __init__(self, place: str) -> None:
        self._path = Path(place)
        self._is_directory = place.endswith("/")

    def append(self, notes_: Sequence[Checkpoint], texts: Sequence[str]) -> None:
        """Write notes and force them to the disk. Raises OSError."""
        if self._is_directory:
            for told, text in zip(notes_, texts, strict=True):
                name = f"{told.log.replace('/', '-')}-p{told.partition:03}-{told.position:015}.txt"
                _write(self._path / name, text, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        else:
            _write(self._path, "".join(texts), os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def notes(self) -> list[str]:
        """Return every note that is there. Raises OSError and NoteBroken."""
        if self._is_directory:
            found = sorted(self._path.glob("*.txt")) if self._path.is_dir() else []
            return [note for file in found for note in notes.several(file.read_text("utf-8"))]
        return notes.several(self._path.read_text("utf-8")) if self._path.exists() else []


def _write(path: Path, text: str, flags: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, flags, 0o644)
    try:
        written = os.write(descriptor, text.encode())
        if written != len(text.encode()):
            raise OSError("a checkpoint was not written whole")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Checkpoints:
    """Makes and reads checkpoints over a connection that is ours alone."""

    def __init__(self, connection: Connection, signer: Signer, store: Store) -> None:
        self._connection = connection
        self._signer = signer
        self._store = store
        self._published: dict[str, Checkpoint] | None = None  #: the last one outside of the database, by origin

    @property
    def log(self) -> str:
        """The name that this ledger signs under."""
        return self._name()[1]

    def public_keys(self, partitions: int) -> list[PublicKey]:
        """Return the key of every partition, as verifiers and witnesses want it."""
        return [self._signer.public_key(notes.origin(self.log, partition)) for partition in range(partitions)]

    def public_key(self, origin: str) -> PublicKey:
        return self._signer.public_key(origin)

    def due(self, *, now: bool = False) -> list[str]:
        """Make the checkpoints that are due, or for all that is new if told so; return their notes.

        At most one process makes checkpoints at a time; others find nothing to do. Raises Forked, OSError.
        """
        with self._connection.transaction():
            locked = self._connection.execute(_TRY_LOCK if not now else _WAIT_LOCK, (_LOCK,)).fetchone()
            if locked is not None and locked[0] is False:
                return []
            number, name = self._name()
            made: list[Checkpoint] = []
            for partition, position, last, overdue in self._connection.execute(_DUE, (SECONDS, number)).fetchall():
                if position == last:
                    continue
                thousands = range((last // EVENTS + 1) * EVENTS, position + 1, EVENTS)
                # On demand all that is there has to be covered, so the newest count; else it is a matter of rounds.
                ends = list(thousands[-_AT_ONCE_MAX:] if now else thousands[:_AT_ONCE_MAX])
                if position not in ends and (now or (overdue and len(ends) < _AT_ONCE_MAX)):
                    ends.append(position)
                if ends:
                    made += self._made(name, partition, ends)
            texts = [self._signer.sign(told.text(), told.origin) for told in made]
            if made:
                self._store.append(made, texts)
                for told, text in zip(made, texts, strict=True):
                    self._last_published[told.origin] = told
                    self._connection.execute(_KEEP, (told.partition, told.position, number, text))
            return texts

    def _made(self, name: str, partition: int, ends: list[int]) -> list[Checkpoint]:
        tree = Tree(self._connection, partition)
        tree.extend(ends[-1])
        self._require_no_fork(name, partition, tree)
        found = []
        rows = self._connection.execute(_EVENTS, (partition, ends), binary=True).fetchall()
        told: dict[int, tuple[bytes, datetime]] = {position: (hash_, at) for position, hash_, at in rows}
        for end in ends:
            if end not in told:
                raise Forked(f"partition {partition} has no event at position {end}")
            hash_, recorded_at = told[end]
            root = tree.root(end)
            found.append(
                Checkpoint(log=name, partition=partition, position=end, root=root, hash=hash_, recorded_at=recorded_at)
            )
        return found

    def _require_no_fork(self, name: str, partition: int, tree: Tree) -> None:
        """Compare the log with the last checkpoint outside of the database: that one was published."""
        published = self._last_published.get(notes.origin(name, partition))
        if published is None:
            return
        hash_ = hash_at(self._connection, partition, published.position)
        if hash_ == published.hash and tree.root(published.position) == published.root:
            return
        raise Forked(
            f"partition {partition} does not go on from the checkpoint of position {published.position} that has been "
            "published. If the database was restored to an earlier time, say so: checkpoint --after-restore"
        )

    @property
    def _last_published(self) -> dict[str, Checkpoint]:
        """Return what stood outside of the database when it was first looked at, and what was made since."""
        if self._published is None:
            self._published = {}
            for told in trusted(self._store.notes(), self.public_keys(1)):
                known = self._published.get(told.origin)
                if known is None or told.position > known.position:
                    self._published[told.origin] = told
        return self._published

    def begin_anew(self, by: str, why: str) -> str:
        """Sign under a new name from here on, and return it.

        Put on record with it is up to where the log still is what was published under the name before.
        """
        _, current = self._name()
        fits: dict[int, int] = {}
        for told in trusted(self._store.notes(), self.public_keys(1)):
            if told.log == current and hash_at(self._connection, told.partition, told.position) == told.hash:
                fits[told.partition] = max(told.position, fits.get(told.partition, 0))
        row = self._connection.execute(_BEGIN_ANEW, (Jsonb(fits), by, why)).fetchone()
        assert row is not None  # noqa: S101  # inserted
        name: str = row[0]
        return name

    def newest(self, partition: int) -> str | None:
        """Return the note of a partition's newest checkpoint; None before the first."""
        row = self._connection.execute(_NEWEST, (partition,)).fetchone()
        return row[0] if row else None

    def delivered(self, receiver: bytes, told: Checkpoint) -> int:
        """Return up to where a receiver has been told of the log and partition of a checkpoint; 0 if it has not."""
        row = self._connection.execute(_DELIVERED, (receiver, told.partition, told.log)).fetchone()
        return row[0] if row else 0

    def keep_delivery(self, receiver: bytes, told: Checkpoint, answer: str) -> None:
        self._connection.execute(_KEEP_DELIVERY, (receiver, told.partition, told.log, told.position, answer))

    def consistency(self, told: Checkpoint, known: int) -> list[bytes]:
        """Return the proof that the log of a checkpoint begins with its first events; none is needed from 0 on."""
        return Tree(self._connection, told.partition).consistency(known, told.position) if known else []

    def _name(self) -> tuple[int, str]:
        row = self._connection.execute(_NAME).fetchone()
        assert row is not None  # noqa: S101  # the migration makes the first
        return row[0], row[1]


def newest_of_all(cursor: psycopg.Cursor[Any]) -> dict[int, str]:
    """Return the note of every partition's newest checkpoint."""
    return dict(cursor.execute(_NEWEST_OF_ALL).fetchall())


def log_name(cursor: psycopg.Cursor[Any]) -> str:
    """Return the name that a ledger signs under."""
    row = cursor.execute(_NAME).fetchone()
    assert row is not None  # noqa: S101  # the migration makes the first
    name: str = row[1]
    return name


def trusted(notes_: Sequence[str], keys: Sequence[PublicKey]) -> list[Checkpoint]:
    """Read checkpoints that one of the keys has signed; those of other keys are left out.

    Raises NoteBroken for one that claims such a signature wrongly.
    """
    found = []
    for note in notes_:
        try:
            found.append(notes.checkpoint(notes.opened(note, keys)))
        except NoteUntrusted:
            continue
    return found


_TRY_LOCK: Final = b"SELECT pg_try_advisory_xact_lock(%s)"
_WAIT_LOCK: Final = b"SELECT pg_advisory_xact_lock(%s)"
_NAME: Final = b"SELECT number, name FROM log_names ORDER BY number DESC LIMIT 1"
_BEGIN_ANEW: Final = b"""
INSERT INTO log_names (number, name, positions, begun_by, why)
SELECT max(number) + 1, 'status-ledger/' || replace(gen_random_uuid()::text, '-', ''),
       %s, %s, %s
  FROM log_names
RETURNING name
"""
_DUE: Final = b"""
SELECT h.partition, h.position, coalesce(c.position, 0),
       coalesce(c.signed_at, '-infinity') < clock_timestamp() - %s * interval '1 second'
  FROM partition_heads h
  LEFT JOIN LATERAL (SELECT c.position, c.signed_at FROM checkpoints c
                      WHERE c.partition = h.partition AND c.name_number = %s ORDER BY c.position DESC LIMIT 1) c ON true
 ORDER BY h.partition
"""
_EVENTS: Final = b"SELECT position, hash, recorded_at FROM events WHERE partition = %s AND position = ANY(%s)"
_KEEP: Final = b"INSERT INTO checkpoints (partition, position, name_number, note) VALUES (%s, %s, %s, %s)"
_DELIVERED: Final = b"""
SELECT position FROM checkpoint_deliveries WHERE receiver = %s AND partition = %s AND log_name = %s
"""
_KEEP_DELIVERY: Final = b"""
INSERT INTO checkpoint_deliveries (receiver, partition, log_name, position, answer) VALUES (%s, %s, %s, %s, %s)
    ON CONFLICT (receiver, partition, log_name) DO UPDATE
   SET position = excluded.position, answer = excluded.answer, delivered_at = clock_timestamp()
"""
_NEWEST_OF_ALL: Final = b"""
SELECT h.partition, c.note FROM partition_heads h
 CROSS JOIN LATERAL (SELECT note FROM checkpoints c WHERE c.partition = h.partition
                      ORDER BY name_number DESC, position DESC LIMIT 1) c ORDER BY h.partition
"""
_NEWEST: Final = b"""
SELECT note FROM checkpoints WHERE partition = %s ORDER BY name_number DESC, position DESC LIMIT 1
"""
