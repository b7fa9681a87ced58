"""Following a chain: every attack, on random histories, in blocks of any size."""

from datetime import UTC, datetime
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.proof.chain import ORIGIN, Fault, Walk
from ledger.proof.merkle import Frontier
from ledger.proof.notes import Checkpoint
from tests.proof.logs import AT_CHECKPOINT, ATTACKS, Row, a_log, block, rechained, renumbered

randoms = st.integers(0, 1 << 32).map(Random)


def checkpoint(rows: list[Row], position: int) -> Checkpoint:
    """Return what a checkpoint states of a log up to a position."""
    frontier = Frontier()
    frontier.extend(row.hash for row in rows[:position])
    return Checkpoint(
        log="log",
        partition=0,
        position=position,
        root=frontier.root(),
        hash=rows[position - 1].hash,
        recorded_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def walked(rows: list[Row], size: int, head: Row | None, *checkpoints: Checkpoint) -> Fault | None:
    """Follow a log in blocks to its end, and compare with what the head says."""
    walk = Walk(0, checkpoints={told.position: told for told in checkpoints})
    for begin in range(0, len(rows), size):
        fault = walk.follow(block(rows[begin : begin + size]))
        if fault is not None:
            return fault
    return walk.end(head.position, head.hash) if head else walk.end(0, ORIGIN)


@given(random=randoms, events=st.integers(0, 40), size=st.integers(1, 50))
def test_a_good_log_has_no_fault(random: Random, events: int, size: int) -> None:
    rows = a_log(random, events)
    checkpoints = [checkpoint(rows, at) for at in range(1, events + 1) if random.random() < 0.3]

    assert walked(rows, size, rows[-1] if rows else None, *checkpoints) is None


@pytest.mark.parametrize("attack", ATTACKS)
@settings(max_examples=200)
@given(random=randoms, events=st.integers(2, 30), size=st.integers(1, 40))
def test_every_attack_is_found_where_it_was_made(attack: str, random: Random, events: int, size: int) -> None:
    """The head is as it was: whoever forges it too is found by a checkpoint, below."""
    rows = a_log(random, events)
    forged, at = ATTACKS[attack](random, rows)

    fault = walked(forged, size, rows[-1], checkpoint(rows, events))

    assert fault is not None
    if at != AT_CHECKPOINT:
        assert fault.place.position == at


@pytest.mark.parametrize("attack", ["tail cut", "rewritten", "dropped and rewritten"])
@given(random=randoms, events=st.integers(2, 30), size=st.integers(1, 40))
def test_what_fits_together_again_is_found_by_a_checkpoint_alone(
    attack: str, random: Random, events: int, size: int
) -> None:
    """As the documentation says: the chain does not prove this, a checkpoint held by somebody else does."""
    rows = a_log(random, events)
    forged, _ = ATTACKS[attack](random, rows)
    head = forged[-1] if forged else None

    assert walked(forged, size, head) is None
    assert walked(forged, size, head, checkpoint(rows, events)) is not None


@given(random=randoms, events=st.integers(2, 30), at=st.integers(0, 29), size=st.integers(1, 40))
def test_a_gap_in_positions_is_found_even_if_all_hashes_fit(random: Random, events: int, at: int, size: int) -> None:
    at %= events
    forged = rechained(renumbered(a_log(random, events), at, 1), at)

    fault = walked(forged, size, forged[-1])

    assert fault is not None
    assert (fault.place.position, "is not there" in fault.why) == (at + 1, True)


@given(random=randoms, events=st.integers(2, 30), at=st.integers(1, 30))
def test_a_checkpoint_of_another_root_is_found(random: Random, events: int, at: int) -> None:
    """Of the same chain: a root that was signed over other leaves."""
    at = 1 + at % events
    rows = a_log(random, events)
    other = a_log(random, events)
    mixed = checkpoint([*other[: at - 1], *rows[at - 1 :]], at)
    if mixed.root == checkpoint(rows, at).root:
        return

    fault = walked(rows, 7, rows[-1], mixed)

    assert fault is not None
    assert (fault.place.position, "Merkle root" in fault.why) == (at, True)


@given(random=randoms, events=st.integers(2, 40), cut=st.integers(0, 40), size=st.integers(1, 50))
def test_a_walk_goes_on_from_what_it_came_to(random: Random, events: int, cut: int, size: int) -> None:
    rows = a_log(random, events)
    cut %= events
    first = Walk(0)
    assert first.follow(block(rows[:cut])) is None

    pending = first.pending
    assert pending is not None
    last = checkpoint(rows, events)
    frontier = Frontier(first.position, pending)
    second = Walk(0, position=first.position, hash_=first.hash, frontier=frontier, checkpoints={events: last})
    assert second.follow(block(rows[cut:])) is None
    assert second.end(rows[-1].position, rows[-1].hash) is None
    assert (second.checked, second.compared) == (events - cut, 1)


@given(random=randoms, events=st.integers(2, 30), first=st.integers(0, 30), last=st.integers(0, 30))
def test_events_that_have_left_the_log_are_passed_over(random: Random, events: int, first: int, last: int) -> None:
    rows = a_log(random, events)
    first, last = sorted((first % events, last % events))
    walk = Walk(0, checkpoints={events: checkpoint(rows, events), last: checkpoint(rows, last or events)})

    assert walk.follow(block(rows[:first])) is None
    assert walk.pass_over([row.hash for row in rows[first:last]]) is None
    assert walk.follow(block(rows[last:])) is None
    assert walk.end(events, rows[-1].hash) is None
    assert walk.checked == events - (last - first)
