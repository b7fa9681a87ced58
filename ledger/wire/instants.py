"""Reading providers' clocks. Every function returns an aware instant in UTC, or None.

Nothing here raises or guesses: a date without a zone is not an instant, and an instant outside the years 2000 to 2100
is a unit mistaken or a field swapped. None means "the provider gave no usable time", never "now".
"""

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

_YEARS: Final = range(2000, 2101)
#: First second in range, and first second beyond it.
_SECONDS: Final = range(
    int(datetime(_YEARS.start, 1, 1, tzinfo=UTC).timestamp()),
    int(datetime(_YEARS.stop, 1, 1, tzinfo=UTC).timestamp()),
)
#: Longer texts are not read: no notation of an instant needs more.
_TEXT_MAX: Final = 64
#: Digits of the largest count accepted, with room for leading zeros.
_DIGITS_MAX: Final = 20
#: A date with a time of day and no zone.
_ZONELESS: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?", re.ASCII)


def unix_seconds(value: object) -> datetime | None:
    """Read whole seconds since 1970, as a number or as decimal digits."""
    seconds = _count(value)
    if seconds is None or seconds not in _SECONDS:
        return None
    return datetime.fromtimestamp(seconds, UTC)


def unix_milliseconds(value: object) -> datetime | None:
    """Read whole milliseconds since 1970, as a number or as decimal digits."""
    milliseconds = _count(value)
    if milliseconds is None or milliseconds // 1000 not in _SECONDS:
        return None
    seconds, rest = divmod(milliseconds, 1000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest * 1000)


def unix(value: object) -> datetime | None:
    """Read whole seconds or milliseconds since 1970, whichever of the two is in range: never both are."""
    return unix_seconds(value) or unix_milliseconds(value)


def iso8601(value: object) -> datetime | None:
    """Read ISO 8601 with an explicit zone. Digits beyond microseconds are dropped."""
    moment = _calendar(value)
    return None if moment is None else _in_utc(moment)


def iso8601_utc(value: object) -> datetime | None:
    """Read ISO 8601 of a provider that documents its zoneless times as UTC. A zone that is there counts."""
    moment = _calendar(value)
    if moment is not None and moment.tzinfo is None and _ZONELESS.fullmatch(str(value)):
        moment = moment.replace(tzinfo=UTC)
    return None if moment is None else _in_utc(moment)


def rfc2822(value: object) -> datetime | None:
    """Read the date of an e-mail or HTTP header, with an explicit zone. "-0000" names none."""
    if not isinstance(value, str) or len(value) > _TEXT_MAX:
        return None
    try:
        return _in_utc(parsedate_to_datetime(value))
    except (ValueError, TypeError, IndexError, OverflowError):  # what its hand-written parser lets through
        return None


def _count(value: object) -> int | None:
    if type(value) is int:  # a bool is not a count
        return value
    if isinstance(value, str) and len(value) <= _DIGITS_MAX and value.isascii() and value.isdigit():
        return int(value)
    return None


def _calendar(value: object) -> datetime | None:
    if not isinstance(value, str) or len(value) > _TEXT_MAX:
        return None
    try:
        return datetime.fromisoformat(value.upper())
    except ValueError:
        return None


def _in_utc(moment: datetime) -> datetime | None:
    if moment.tzinfo is not UTC:  # nearly all are
        if moment.utcoffset() is None:
            return None
        try:
            moment = moment.astimezone(UTC)
        except OverflowError:  # the first and the last hours that a calendar date can express
            return None
    return moment if moment.year in _YEARS else None
