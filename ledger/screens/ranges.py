"""What a page of numbers is asked about: a range of time, a time zone, accounts, a channel, a provider.

The address holds all of it. It is read as the reports of the API read theirs, within what the viewer sees.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final, TypeVar
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import msgspec

from ledger.domain.status import Channel
from ledger.http import queries
from ledger.http.edge import Edge
from ledger.http.problems import invalid_parameter, unavailable
from ledger.http.reports import scope_of
from ledger.screens.access import Viewer
from projections.reporting import NotBuilt
from projections.scope import Scope, TooManyGroups

T = TypeVar("T")

PARAMETERS: Final = ("range", "since", "until", "time_zone", "account", "channel", "provider")
#: Ranges that end now, by name.
RANGES: Final[Mapping[str, timedelta]] = {
    "24h": timedelta(hours=24),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
    "90d": timedelta(days=90),
}
RANGE_NAMES: Final = {"24h": "24 hours", "7d": "7 days", "30d": "30 days", "90d": "90 days"}
_RANGE_DEFAULT: Final = "7d"
#: Longer ranges are shown by day, shorter ones by hour.
_BY_HOUR_MAX: Final = timedelta(days=3)
_HALF_HOUR: Final = timedelta(minutes=30)
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for, understood."""

    scope: Scope
    told: dict[str, str]  #: the parameters, as they were told
    accounts: tuple[str, ...]  #: every one that the viewer could ask for
    range: str | None  #: by name; None: from one day to another

    @property
    def bucket(self) -> str:
        """What time is divided into: hours or days."""
        return "hour" if self.scope.until - self.scope.since <= _BY_HOUR_MAX else "day"

    @property
    def days(self) -> tuple[str, str]:
        """The first and the last day of the range. Full hours reach over its ends where a zone is half an hour off."""
        ends = (self.scope.since + _HALF_HOUR, self.scope.until - _HALF_HOUR - timedelta(microseconds=1))
        first, last = (at.astimezone(self.scope.zone).date().isoformat() for at in ends)
        return first, last

    def address(self, path: str, **changes: str | None) -> str:
        """Return the address of a page that is asked the same but for these parameters."""
        told = {name: value for name, value in (self.told | changes).items() if value is not None}
        return f"{path}?{urlencode(told)}" if told else path

    def with_range(self, path: str, name: str) -> str:
        return self.address(path, range=name, since=None, until=None)


def read(told: Mapping[str, str], viewer: Viewer, places: Iterable[tuple[str, str]], now: datetime) -> Asked:
    """Understand the parameters. `places`: every account and channel that has messages.

    Raises Problem that names the parameter.
    """
    asked = {name: value for name in (*PARAMETERS, "group_by") if (value := told.get(name, "").strip())}
    channel = asked.get("channel")
    if channel is not None and channel not in [*Channel]:
        raise invalid_parameter("channel", f"must be one of {', '.join(Channel)}")
    seen = viewer.scopes(places)
    accounts = tuple(sorted({account for account, _ in seen}))
    wanted = [
        account
        for account, own in seen
        if asked.get("account", account) == account and (channel is None or own == channel)
    ]
    bound = {"time_zone": "UTC"} | {
        name: asked[name] for name in ("time_zone", "provider", "group_by") if name in asked
    }
    name = None if "since" in asked or "until" in asked else asked.get("range", _RANGE_DEFAULT)
    if name is None:
        zone = scope_of(bound, (), None, now).zone
        bound |= {end: _instant(asked[end], zone, end) for end in ("since", "until") if end in asked}
    elif name in RANGES:
        bound["since"] = (now - RANGES[name]).isoformat()
    else:
        raise invalid_parameter("range", f"must be one of {', '.join(RANGES)}")
    scope = scope_of(bound, tuple(dict.fromkeys(wanted)), channel or viewer.channel, now)
    return Asked(scope=scope, told=asked, accounts=accounts, range=name)


async def answered(edge: Edge, question: Callable[..., T], *told: Any) -> T:
    """Ask what reads the reports. Raises Problem where they cannot answer."""
    try:
        return await edge.read(question, *told)
    except NotBuilt:
        raise unavailable("The reports have not been built yet.") from None
    except TooManyGroups as error:
        raise invalid_parameter("range", f"would be {error}: ask for a shorter one") from None


def _instant(text: str, zone: ZoneInfo, name: str) -> str:
    """Return a day's beginning as an instant, or the end of the day that a range ends with; other texts as they are."""
    if not _DATE.fullmatch(text):
        queries.instant({name: text}, name)
        return text
    try:
        day = date.fromisoformat(text) + timedelta(days=name == "until")
        return datetime.combine(day, time.min, zone).astimezone(UTC).isoformat()
    except (ValueError, OverflowError):
        raise invalid_parameter(name, "must be a day such as 2026-11-20, or an RFC 3339 time") from None
