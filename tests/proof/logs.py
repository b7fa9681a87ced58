"""Random logs, and what somebody may do to one: every attack with the position at which it has to be found."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from uuid import UUID

from ledger.proof.chain import ORIGIN, Block, link, middle

TYPES = ("observed.v2", "registered.v1", "linked.v1", "corrected.v1", "erased.v1")


@dataclass(frozen=True)
class Row:
    """An event as it lies in the database or in a file."""

    position: int
    stream_id: UUID
    version: int
    type: str
    recorded_at: int
    state: bytes
    hash: bytes

    @property
    def middle(self) -> bytes:
        return middle(self.stream_id, self.version, self.position, self.type, self.recorded_at)

    def chained(self, previous: bytes) -> "Row":
        return replace(self, hash=link(previous, self.middle, self.state))


def a_log(random: Random, events: int) -> list[Row]:
    """Return events of a few streams, chained."""
    streams = [UUID(bytes=random.randbytes(16)) for _ in range(max(1, events // 3))]
    versions = dict.fromkeys(streams, 0)
    rows: list[Row] = []
    previous, recorded_at = ORIGIN, 1_795_262_402_000_000
    for position in range(1, events + 1):
        stream_id = random.choice(streams)
        versions[stream_id] += 1
        recorded_at += random.choice((0, 1, 1_000_000))
        state = random.randbytes(random.randint(0, 40))
        row = Row(position, stream_id, versions[stream_id], random.choice(TYPES), recorded_at, state, b"")
        rows.append(row.chained(previous))
        previous = rows[-1].hash
    return rows


def block(rows: list[Row]) -> Block:
    return Block([row.middle for row in rows], [row.state for row in rows], b"".join(row.hash for row in rows))


def renumbered(rows: list[Row], begin: int, by: int) -> list[Row]:
    return [*rows[:begin], *(replace(row, position=row.position + by) for row in rows[begin:])]


def rechained(rows: list[Row], begin: int) -> list[Row]:
    """Compute every hash again from a place on, as somebody would who knows the layout."""
    found = rows[:begin]
    previous = found[-1].hash if found else ORIGIN
    for row in rows[begin:]:
        found.append(row.chained(previous))
        previous = found[-1].hash
    return found


Attack = Callable[[Random, list[Row]], tuple[list[Row], int]]
#: The last position for a log whose events cannot be told from good ones: only a checkpoint finds it.
AT_CHECKPOINT = -1


def _field(name: str, forge: Callable[[Random, Row], object]) -> Attack:
    def attack(random: Random, rows: list[Row]) -> tuple[list[Row], int]:
        at = random.randrange(len(rows))
        forged = [*rows]
        forged[at] = replace(rows[at], **{name: forge(random, rows[at])})
        return forged, at + 1

    return attack


def _flipped(data: bytes, random: Random) -> bytes:
    if not data:
        return b"\x00"
    at = random.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << random.randrange(8)]) + data[at + 1 :]


def _dropped(random: Random, rows: list[Row]) -> tuple[list[Row], int]:
    at = random.randrange(len(rows))
    return rows[:at] + rows[at + 1 :], at + 1


def _dropped_and_closed(random: Random, rows: list[Row]) -> tuple[list[Row], int]:
    at = random.randrange(len(rows))
    return renumbered(rows[:at] + rows[at + 1 :], at, -1), at + 1


def _duplicated(random: Random, rows: list[Row]) -> tuple[list[Row], int]:
    at = random.randrange(len(rows))
    return [*rows[: at + 1], rows[at], *rows[at + 1 :]], at + 2


def _duplicated_elsewhere(random: Random, rows: list[Row]) -> tuple[list[Row], int]:
    at, to = random.randrange(len(rows)), random.randrange(len(rows))
    twin = replace(rows[at], position=to + 1)
    forged = [*rows[:to], twin, *renumbered(rows, 0, 1)[to:]]
    return forged, to + 2 if twin == rows[to] else to + 1


def _swapped(random: Random, rows: list[Row]) -> tuple[list[Row], int]:
    one, other = sorted(random.sample(range(len(rows)), 2))
    forged = [*rows]
    forged[one] = replace(rows[other], position=one + 1)
    forged[other] = replace(rows[one], position=other + 1)
    return forged, one + 1


def _inserted(random: Random, rows: list[Row]) -> tuple[list[Row], int]:
    at = random.randrange(len(rows))
    new = Row(at + 1, UUID(bytes=random.randbytes(16)), 1, TYPES[0], rows[at].recorded_at, b"new", b"")
    new = new.chained(rows[at - 1].hash if at else ORIGIN)
    # Its own hash follows: what stands behind it does not. The checkpoint of the last position tells of one there.
    return [*rows[:at], new, *renumbered(rows, 0, 1)[at:]], min(at + 2, len(rows))


def _stream_dropped(random: Random, rows: list[Row]) -> tuple[list[Row], int]:
    stream_id = random.choice(rows).stream_id
    first = next(at for at, row in enumerate(rows) if row.stream_id == stream_id)
    kept = [row for row in rows if row.stream_id != stream_id]
    return [replace(row, position=at) for at, row in enumerate(kept, start=1)], first + 1


def _cut(random: Random, rows: list[Row]) -> tuple[list[Row], int]:
    left = random.randrange(len(rows))
    return rows[:left], left + 1


def _rewritten(random: Random, rows: list[Row]) -> tuple[list[Row], int]:
    at = random.randrange(len(rows))
    forged = [*rows]
    forged[at] = replace(rows[at], state=_flipped(rows[at].state, random))
    return rechained(forged, at), AT_CHECKPOINT


def _dropped_and_rewritten(random: Random, rows: list[Row]) -> tuple[list[Row], int]:
    forged, at = _dropped_and_closed(random, rows)
    return rechained(forged, at - 1), AT_CHECKPOINT


#: What somebody with every right on the database may do. The last three leave a chain that fits.
ATTACKS: dict[str, Attack] = {
    "state altered": _field("state", lambda random, row: _flipped(row.state, random)),
    "type altered": _field("type", lambda _, row: row.type + "x"),
    "stream altered": _field("stream_id", lambda random, _: UUID(bytes=random.randbytes(16))),
    "version altered": _field("version", lambda random, row: row.version + random.randint(1, 9)),
    "position altered": _field("position", lambda random, row: row.position + random.randint(1, 9)),
    "time altered": _field("recorded_at", lambda random, row: row.recorded_at - random.randint(1, 9)),
    "hash altered": _field("hash", lambda random, row: _flipped(row.hash, random)),
    "event dropped": _dropped,
    "event dropped and the gap closed": _dropped_and_closed,
    "event duplicated": _duplicated,
    "event duplicated elsewhere": _duplicated_elsewhere,
    "events swapped": _swapped,
    "event inserted": _inserted,
    "stream dropped": _stream_dropped,
    "tail cut": _cut,
    "rewritten": _rewritten,
    "dropped and rewritten": _dropped_and_rewritten,
}
