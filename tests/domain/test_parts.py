"""Long messages that are reported part by part: the message is where the last of its parts is.

The oracle is a set: everything claimed, in no order. It says what any order of reports must come to.
"""

from collections.abc import Sequence
from datetime import datetime
from random import Random
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.domain.evidence import Evidence
from ledger.domain.message import PARTS_MAX, Message, Observe, decide, evolve, lift
from ledger.domain.observation import Source
from ledger.domain.reading import times
from ledger.domain.status import CHAIN, RANK, Conflict, Status, Verdict, is_terminal
from ledger.store import snapshot
from ledger.store.sealing import DataKey
from tests.builders import NAMES, NOON, a_claim, a_message, a_receipt, an_observation, at, events_of, observe_command

SENT, DELIVERED, READ, FAILED = Status.SENT, Status.DELIVERED, Status.READ, Status.FAILED


class Report(NamedTuple):
    """What a provider says: of the message if `of` is 0."""

    claim: Status
    number: int = 0
    of: int = 0
    minute: int | None = None


def said(report: Report, received: int = 60) -> Observe:
    observation = an_observation(
        report.claim,
        part=report.number or None,
        parts=report.of or None,
        occurred_at=None if report.minute is None else at(report.minute),
    )
    key = NAMES.observation(Source.CALLBACK, observation, f"{report.number}/{report.of}")
    return observe_command(observation, key=key, receipt=a_receipt(received_at=at(received)))


def told(*reports: Report) -> Message:
    return a_message(*map(said, reports))


def of_two(*claims: Status) -> list[Report]:
    return [Report(claim, number, 2, minute=number) for number, claim in enumerate(claims, 1)]


# By example -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claims", "status"),
    [
        ([Status.QUEUED], Status.QUEUED),
        ([SENT], SENT),
        ([DELIVERED], SENT),
        ([READ], SENT),
        ([DELIVERED, SENT], SENT),
        ([DELIVERED, Status.QUEUED], SENT),
        ([DELIVERED, DELIVERED], DELIVERED),
        ([READ, DELIVERED], DELIVERED),
        ([READ, READ], READ),
        ([DELIVERED, FAILED], FAILED),
        ([FAILED, DELIVERED], FAILED),
    ],
)
def test_a_message_is_where_the_last_of_its_parts_is(claims: list[Status], status: Status) -> None:
    assert told(*of_two(*claims)).status is status


def test_one_delivered_part_settles_nothing() -> None:
    message = told(Report(DELIVERED, 1, 2))

    assert not is_terminal(message.status)
    assert told(Report(DELIVERED, 1, 2), Report(FAILED, 2, 2)).conflict is Conflict.NONE


def test_the_message_was_delivered_when_the_last_part_was() -> None:
    first, last = Report(DELIVERED, 2, 2, minute=3), Report(DELIVERED, 1, 2, minute=9)

    delivered_at = times(told(last, first))["delivered_at"]

    assert delivered_at is not None
    assert delivered_at.at == at(9)


def test_a_failure_after_all_parts_were_delivered_is_a_conflict() -> None:
    message = told(*of_two(DELIVERED, DELIVERED), Report(FAILED, 2, 2, minute=7))

    assert (message.status, message.conflict) == (DELIVERED, Conflict.OPEN)


def test_all_parts_delivered_after_a_failure_are_a_conflict_and_some_are_not() -> None:
    failed = told(Report(FAILED, 1, 2), Report(DELIVERED, 1, 2))
    assert failed.conflict is Conflict.NONE

    (event,) = decide(failed, said(Report(DELIVERED, 2, 2)))

    assert event.verdict is Verdict.CONFLICT  # type: ignore[union-attr]
    assert evolve(failed, event).conflict is Conflict.OPEN


@pytest.mark.parametrize(("number", "count"), [(1, 0), (0, 2), (3, 2), (1, PARTS_MAX + 1)])
def test_where_the_number_of_parts_is_not_known_a_report_speaks_for_the_message(number: int, count: int) -> None:
    message = told(Report(DELIVERED, number, count))

    assert (message.status, message.evidence.parts) == (DELIVERED, {})


def test_the_last_report_of_one_part_closes_nothing() -> None:
    closing = a_claim(SENT, closes=True)

    assert not a_message(observe_command(an_observation(closing, part=1, parts=2))).evidence.closed
    assert a_message(observe_command(an_observation(closing))).evidence.closed


def test_the_same_report_of_two_parts_is_two_observations() -> None:
    first, second = Report(DELIVERED, 1, 2), Report(DELIVERED, 2, 2)

    assert told(first, second, first, second).version == 2


def test_a_message_in_parts_is_kept_as_it_is_folded() -> None:
    message, key = told(*of_two(DELIVERED, SENT), Report(READ, 1, 3)), DataKey(bytes(32))
    stream_id = NAMES.stream_id("account-1", "reference-1")

    assert snapshot.decode(snapshot.encode(message, stream_id, 3, key), stream_id, key).message == message


# By law ---------------------------------------------------------------------------------------------------------------


def reports() -> st.SearchStrategy[list[Report]]:
    """Draw reports on parts, on the whole and, rarely, on parts of another count; failures in half of the histories."""
    part = st.sampled_from([(1, 2), (2, 2), (1, 2), (2, 2), (0, 0), (1, 3), (2, 3), (3, 3)])
    minute = st.none() | st.integers(0, 20)

    def drawn(statuses: Sequence[Status]) -> st.SearchStrategy[list[Report]]:
        report = st.builds(
            lambda claim, place, time: Report(claim, place[0], place[1], time), st.sampled_from(statuses), part, minute
        )
        return st.lists(report, max_size=9)

    return drawn([*CHAIN[1:]]) | drawn([*Status])


def reached(history: list[Report]) -> Status:
    """Return the highest status of the delivered branch that everything claimed bears out."""
    ranks = [RANK[report.claim] for report in history if not report.of and report.claim in RANK]
    for count in {report.of for report in history if report.of}:
        parts = [
            max(
                (RANK[report.claim] for report in history if report[1:3] == (number, count) and report.claim in RANK),
                default=0,
            )
            for number in range(1, count + 1)
        ]
        ranks += [min(parts), min(max(parts), RANK[SENT])]
    return CHAIN[max(ranks, default=0)]


def evidence(history: list[Report]) -> Evidence:
    joined = Evidence()
    for event in events_of(*map(said, history)):
        joined = joined.join(lift(event))  # type: ignore[arg-type]
    return joined


@given(reports())
def test_progress_is_what_all_reports_together_bear_out(history: list[Report]) -> None:
    assert told(*history).evidence.progress is reached(history)


@given(reports(), st.randoms(use_true_random=False))
def test_evidence_is_order_independent(history: list[Report], order: Random) -> None:
    assert told(*history).evidence == told(*order.sample(history, len(history))).evidence


@given(reports(), reports(), reports())
def test_join_is_a_semilattice(one: list[Report], other: list[Report], third: list[Report]) -> None:
    a, b, c = evidence(one), evidence(other), evidence(third)

    assert a.join(a) == a
    assert a.join(b) == b.join(a)
    assert a.join(b).join(c) == a.join(b.join(c))
    assert evidence(one + other) == a.join(b)


@given(reports())
def test_status_is_a_function_of_the_evidence(history: list[Report]) -> None:
    message = told(*history)

    if not message.evidence.has_conflict:
        assert message.status is (FAILED if message.evidence.failed else reached(history))
        assert message.conflict is Conflict.NONE


@given(reports())
def test_status_climbs_and_no_conflict_is_silent(history: list[Report]) -> None:
    message = Message()
    for report in history:
        before = message
        for event in decide(message, said(report)):
            message = evolve(message, event)
            assert event.status_after is message.status  # type: ignore[union-attr]
        assert message.status is FAILED or before.status is not FAILED
        if message.status is not FAILED:
            assert RANK[before.status] <= RANK[message.status]
    assert (message.conflict is not Conflict.NONE) == message.evidence.has_conflict


@given(reports())
def test_a_part_is_delivered_no_later_than_the_message(history: list[Report]) -> None:
    """Unless a report on the whole message says an earlier time."""
    history = [report for report in history if report.of == 2]
    message = told(*history)
    delivered = message.evidence.first_at.get(DELIVERED)

    for number in (1, 2):
        known = [report.minute for report in history if report.number == number and RANK.get(report.claim, 0) >= 3]
        if delivered is not None and message.evidence.progress in (DELIVERED, READ, Status.DELETED):
            assert min(minute for minute in known if minute is not None) <= minutes(delivered)


def minutes(instant: datetime) -> float:
    return (instant - NOON).total_seconds() / 60
