"""Instants in queries and commands: every spelling of one instant is the same instant, and anything else is refused."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.http.queries import rfc3339

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)

SPELLINGS = [
    "2026-11-21T12:00:00Z",
    "2026-11-21t12:00:00z",
    "2026-11-21 12:00:00Z",
    " 2026-11-21T12:00:00Z ",
    "2026-11-21T12:00:00.000000000Z",
    "2026-11-21T12:00:00,000Z",
    "2026-11-21T12:00Z",
    "20261121T120000Z",
    "2026-W47-6T12:00:00Z",
    "2026-11-21T12:00:00-00:00",
    "2026-11-21T14:00:00+02:00",
    "2026-11-21T14:00:00+0200",
    "2026-11-21T14:00:00 02:00",  # the URL took the plus
    "2026-11-21 14:00:00 02:00",
    "2026-11-21t17:30:00 0530",
    "2026-11-20T22:00:00-14:00",
]
REFUSED = [
    "",
    " ",
    "now",
    "2026-11-21",
    "2026-11-21T12:00:00",
    "2026-11-21 12:00",
    "12:00:00Z",
    "2026-11-31T12:00:00Z",
    "2026-11-21T24:00:01Z",
    "2026-11-21T12:00:60Z",
    "2026-11-21T12:00:00+24:00",
    "2026-11-21T12:00:00Z+02:00",
    "1795262400",
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-00:01",
    "-2026-11-21T12:00:00Z",
    "\uff12\uff10\uff12\uff16-11-21T12:00:00Z",
    "2026-11-21T12:00:00\uff3a",
]


@pytest.mark.parametrize("text", SPELLINGS)
def test_every_spelling_of_an_instant_is_understood(text: str) -> None:
    assert rfc3339(text) == NOON
    assert rfc3339(text).tzinfo is UTC


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_instant_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be an RFC 3339 time with an offset"):
        rfc3339(text)


@given(
    at=st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)),  # noqa: DTZ001  # a zone is put to it below
    offset=st.integers(-839, 839),
    taken=st.booleans(),
)
def test_an_instant_in_any_zone_is_the_instant(at: datetime, offset: int, taken: bool) -> None:
    zoned = at.replace(tzinfo=timezone(timedelta(minutes=offset)))
    text = zoned.isoformat()

    assert rfc3339(text.replace("+", " ") if taken else text) == zoned
