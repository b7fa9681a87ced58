"""Joining the broadcaster: whatever comes in between, every event is told once, in the order of its partition."""

from typing import Any
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from ledger.http.broadcast import Broadcaster, Heard, Listener
from ledger.http.changes import ChangeShape
from ledger.store.tail import Place
from tests.builders import NOON

PARTITIONS = 3
SCOPE = ("account-1", "sms")
NOTHING: Any = None


def a_change(position: int) -> ChangeShape:
    told: dict[str, Any] = dict.fromkeys(ChangeShape.__struct_fields__)
    return ChangeShape(**{**told, "position": position, "received_at": NOON, "recorded_at": NOON})


class Log:
    """A log that grows, read as the store reads it: a page of each partition after a position."""

    def __init__(self) -> None:
        self.events: list[list[Heard]] = [[] for _ in range(PARTITIONS)]

    def append(self, partition: int) -> None:
        position = len(self.events[partition]) + 1
        place = Place(partition, position, UUID(int=partition << 120), *SCOPE)
        self.events[partition].append(Heard(place, a_change(position), b"%d/%d" % (partition, position)))

    def after(self, cursor: list[int], limit: int) -> list[Heard]:
        return [
            heard for part, events in enumerate(self.events) for heard in events[cursor[part] : cursor[part] + limit]
        ]


class Told:
    """An outlet that keeps what is put into it."""

    def __init__(self) -> None:
        self.blocks: list[bytes] = []
        self.pulse: Any = None

    def put(self, block: bytes) -> None:
        self.blocks.append(block)


@given(
    st.lists(
        st.tuples(st.just("append"), st.integers(0, PARTITIONS - 1))
        | st.tuples(st.sampled_from(["publish", "catch up"]), st.integers(1, 3)),
        max_size=60,
    ),
    st.integers(0, 12),
)
def test_whoever_joins_is_told_every_event_once(steps, recorded_before):
    log, outlet = Log(), Told()
    for number in range(recorded_before):
        log.append(number % PARTITIONS)
    broadcaster = Broadcaster(NOTHING, NOTHING, NOTHING, streams_max=1, pulse_seconds=1)
    positions = broadcaster._positions = [len(events) for events in log.events]
    listener = Listener(outlet, SCOPE, [0] * PARTITIONS, lambda _: True)  # type: ignore[arg-type]
    joined = False

    def catch_up(limit: int) -> bool:
        found = log.after(listener.cursor, limit)
        outlet.blocks += [block for heard in found if (block := listener.told(heard)) is not None]
        if broadcaster.is_abreast(listener.cursor):
            broadcaster.join(listener)
            return True
        return False

    for do, value in steps:
        match do:
            case "append":
                log.append(value)
            case "publish":
                broadcaster._publish(log.after(positions, value))
            case "catch up" if not joined:
                joined = catch_up(value)
    while not joined:
        joined = catch_up(3)
    broadcaster._publish(log.after(positions, 100))

    told = [block.rpartition(b"\n")[2] for block in outlet.blocks]
    for partition, events in enumerate(log.events):
        mine = [block for block in told if block.startswith(b"%d/" % partition)]
        assert mine == [heard.data for heard in events]
    assert listener.cursor == [len(events) for events in log.events]


def test_nobody_joins_while_the_log_is_not_followed():
    broadcaster = Broadcaster(NOTHING, NOTHING, NOTHING, streams_max=1, pulse_seconds=1)

    assert not broadcaster.is_abreast([1_000] * PARTITIONS)
