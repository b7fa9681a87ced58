"""The chain that `ledger_record` writes, checked from outside (`tests.store.chain`)."""

from collections.abc import Callable
from datetime import timedelta
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.store.application import Ledger
from tests.plugins.ledger import Pen
from tests.statements import an_account, says
from tests.store import chain
from tests.store.chain import Link

Forge = Callable[[Link], Link]


def links(ledger: Ledger) -> list[Link]:
    with ledger.reading() as cursor:
        return [Link(*row) for row in cursor.execute(chain.SELECT)]


def heads(ledger: Ledger) -> dict[int, tuple[int, bytes]]:
    with ledger.reading() as cursor:
        return {
            row[0]: row[1:]
            for row in cursor.execute("SELECT partition, position, hash FROM partition_heads ORDER BY 1")
        }


def write_some(pen: Pen, messages: int = 6) -> None:
    """Record three observations of each message, in several transactions of several events."""
    account = an_account()
    for minute in range(3):
        pen.write(*(says(minute=minute, reference=f"message-{n}", account=account) for n in range(messages)))


@pytest.fixture(scope="module")
def log(module_ledger: Ledger) -> list[Link]:
    """The log of one partition after a few messages: 18 events."""
    pen = Pen(module_ledger)
    write_some(pen)
    pen.writer.close()
    return links(module_ledger)


def test_every_hash_follows_from_the_rows_alone(shaped_ledger: Ledger, start_writer: Callable[..., Pen]) -> None:
    """Whatever other tests have written to the same ledger."""
    write_some(start_writer(shaped_ledger), messages=40)

    chains = chain.by_partition(links(shaped_ledger))

    assert sum(map(len, chains.values())) >= 120
    assert [partition for partition, rows in chains.items() if chain.first_bad(rows) is not None] == []


def test_a_head_holds_the_hash_of_its_last_event(shaped_ledger: Ledger, start_writer: Callable[..., Pen]) -> None:
    """Cutting the tail leaves a valid chain; only what is held elsewhere tells, and the head is the nearest copy."""
    write_some(start_writer(shaped_ledger), messages=40)

    last = {partition: rows[-1] for partition, rows in chain.by_partition(links(shaped_ledger)).items()}

    told = {partition: head for partition, head in heads(shaped_ledger).items() if head != (0, chain.ORIGIN)}
    assert told == {partition: (row.position, row.hash) for partition, row in last.items()}


def test_the_head_of_an_empty_partition_is_the_origin_of_its_chain(ledger: Ledger) -> None:
    assert heads(ledger) == {0: (0, chain.ORIGIN)}


def flipped(data: bytes, bit: int) -> bytes:
    at, mask = divmod(bit % (8 * len(data)), 8)
    return data[:at] + bytes([data[at] ^ 1 << mask]) + data[at + 1 :]


#: What somebody with every right on the database may do to one row, in each of its columns.
FORGERIES: dict[str, Callable[[int], Forge]] = {
    "state": lambda bit: lambda row: row._replace(state=flipped(row.state, bit)),
    "state cut short": lambda _: lambda row: row._replace(state=row.state[:-1]),
    "type": lambda _: lambda row: row._replace(type="corrected.v1"),
    "stream": lambda _: lambda row: row._replace(stream_id=uuid4()),
    "version": lambda n: lambda row: row._replace(version=row.version + n + 1),
    "position": lambda n: lambda row: row._replace(position=row.position + n + 1),
    "recorded earlier": lambda n: lambda row: row._replace(recorded_at=row.recorded_at - timedelta(microseconds=n + 1)),
    "recorded later": lambda n: lambda row: row._replace(recorded_at=row.recorded_at + timedelta(microseconds=n + 1)),
    "hash": lambda bit: lambda row: row._replace(hash=flipped(row.hash, bit)),
}


@given(row=st.integers(0, 17), forgery=st.sampled_from(sorted(FORGERIES)), amount=st.integers(0, 4_000))
def test_altering_any_row_in_any_column_shows_at_its_position(
    log: list[Link], row: int, forgery: str, amount: int
) -> None:
    forged = [*log]
    forged[row] = FORGERIES[forgery](amount)(log[row])

    assert chain.first_bad(forged) == row + 1


@given(row=st.integers(0, 16))
def test_removing_a_row_before_the_last_shows(log: list[Link], row: int) -> None:
    assert chain.first_bad(log[:row] + log[row + 1 :]) == row + 1


@given(row=st.integers(0, 17))
def test_removing_a_row_and_closing_the_gap_shows(log: list[Link], row: int) -> None:
    shifted = [link._replace(position=link.position - 1) for link in log[row + 1 :]]

    assert chain.first_bad(log[:row] + shifted) == (row + 1 if row < 17 else None)


@given(one=st.integers(0, 17), other=st.integers(0, 17))
def test_exchanging_two_rows_shows(log: list[Link], one: int, other: int) -> None:
    """Also when each is given the other's place and time."""
    forged = [*log]
    forged[one] = log[other]._replace(position=one + 1, recorded_at=log[one].recorded_at)
    forged[other] = log[one]._replace(position=other + 1, recorded_at=log[other].recorded_at)

    assert chain.first_bad(forged) == (min(one, other) + 1 if one != other else None)


@given(row=st.integers(0, 17))
def test_inserting_a_well_formed_row_shows(log: list[Link], row: int) -> None:
    """Even one whose own hash is right: its successor's is not."""
    previous = log[row - 1].hash if row else chain.ORIGIN
    new = log[row]._replace(stream_id=uuid4(), version=1)
    new = new._replace(hash=chain.hash_of(previous, new))
    shifted = [link._replace(position=link.position + 1) for link in log[row:]]

    assert chain.first_bad([*log[:row], new, *shifted]) == row + 2


def test_an_update_behind_the_back_of_the_ledger_shows(ledger: Ledger, pen: Pen) -> None:
    write_some(pen)
    assert chain.first_bad(links(ledger)) is None

    with ledger.reading() as cursor:
        cursor.execute("UPDATE events SET state = state || '\\x00'::bytea WHERE position = 7")

    assert chain.first_bad(links(ledger)) == 7
