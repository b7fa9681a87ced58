"""A history as of an instant is the replay of what was on record then, or of what had happened by then."""

from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ledger.domain.events import StatusObserved
from ledger.domain.status import Status
from ledger.http import render
from ledger.store.application import RecordedEvent, fold
from tests.builders import at, events_of, observed, register_command
from tests.statements import stream_of

_reports = st.lists(
    st.tuples(
        st.sampled_from([Status.SENT, Status.DELIVERED, Status.READ, Status.FAILED]), st.none() | st.integers(0, 9)
    ),
    max_size=6,
)


def recorded(reports: list[tuple[Status, int | None]]) -> list[RecordedEvent]:
    """Return a history recorded a minute apart from ten past on, in which providers date what they say earlier."""
    commands: list[Any] = [register_command()]
    commands += [observed(status, minute, event_id=str(number)) for number, (status, minute) in enumerate(reports)]
    return [
        RecordedEvent(number + 1, stream_of(), number + 1, event, at(10 + number), bytes(32))
        for number, event in enumerate(events_of(*commands))
    ]


@given(reports=_reports, minute=st.integers(8, 20), seconds=st.integers(-1, 1))
def test_what_was_on_record_is_a_prefix_and_its_replay(
    reports: list[tuple[Status, int | None]], minute: int, seconds: int
) -> None:
    history, instant = recorded(reports), at(minute) + timedelta(seconds=seconds)

    shown = list(render.replay(render.as_of(history, instant, render.RECORDED)))

    prefix = [event for event in history if event.recorded_at <= instant]
    assert prefix == history[: len(prefix)]
    assert [item.position for item, _ in shown] == [event.position for event in prefix]
    assert (shown[-1][1] if shown else fold([])) == fold(prefix)


@given(reports=_reports, minute=st.integers(-1, 20))
def test_what_had_happened_is_what_is_dated_by_then_in_the_order_of_recording(
    reports: list[tuple[Status, int | None]], minute: int
) -> None:
    history, instant = recorded(reports), at(minute)

    shown = render.as_of(history, instant, render.OCCURRED)

    def dated(event: RecordedEvent) -> bool:
        told = event.event
        when = told.occurred_at if isinstance(told, StatusObserved) and told.believed else None
        return (when or told.received_at) <= instant

    assert shown == [event for event in history if dated(event)]


@given(reports=_reports)
def test_without_an_instant_everything_is_shown(reports: list[tuple[Status, int | None]]) -> None:
    history = recorded(reports)

    for clock in render.CLOCKS:
        assert render.as_of(history, None, clock) == history
        assert render.as_of(history, at(10_000), clock) == history
