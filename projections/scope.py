"""What a report is asked about, and how its rows are grouped."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

import msgspec

from projections.generations import Cursor, Generation

#: What rows can be grouped by. `hour` and `day` are those of the scope's time zone.
GROUPS: Final = ("account", "channel", "provider", "country", "hour", "day")
#: No answer has more groups: a narrower range or fewer groups are asked for instead.
GROUPS_MAX: Final = 50_000
_DAY_SECONDS: Final = 24 * 3_600


class TooManyGroups(ValueError):
    """The answer would have more than `GROUPS_MAX` groups."""


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked. Whoever asks is bound to accounts and a channel; None stands for all of them."""

    accounts: tuple[str, ...] | None
    channel: str | None
    since: datetime  #: inclusive, a full hour
    until: datetime  #: exclusive, a full hour
    provider: str | None = None
    country: str | None = None
    group_by: tuple[str, ...] = ()
    zone: ZoneInfo = ZoneInfo("UTC")

    def conditions(self, column: str | None = "hour", *, has_country: bool = True) -> tuple[str, list[Any]]:
        """Return a condition over a table of counts, and its parameters."""
        narrowed = ("account", "channel", "provider", *(["country"] if has_country else []))
        where, parameters = self.own("t", *narrowed)
        if column is not None:
            where += f" AND t.{column} >= %s AND t.{column} < %s"
            parameters += [self.since, self.until]
        return where, parameters

    def own(self, table: str, *columns: str) -> tuple[str, list[Any]]:
        """Return the condition that these columns of a table are within the scope, and its parameters."""
        conditions: list[str] = []
        parameters: list[Any] = []
        for column in columns:
            wanted = self.accounts if column == "account" else getattr(self, column)
            if isinstance(wanted, tuple) and len(wanted) == 1:
                (wanted,) = wanted
            if wanted is not None:
                conditions.append(f"{table}.{column} = {'ANY(%s)' if isinstance(wanted, tuple) else '%s'}")
                parameters.append(list(wanted) if isinstance(wanted, tuple) else wanted)
        return " AND ".join(conditions) or "true", parameters

    def buckets(self, by: str) -> list[str]:
        """Return the name of every hour or day of the range, as groups are named, in their order."""
        hours = range(int(self.since.timestamp()), int(self.until.timestamp()), 3_600)
        scope = msgspec.structs.replace(self, group_by=(by,))
        return list(dict.fromkeys(group_of(scope, [datetime.fromtimestamp(hour, UTC)])[by] for hour in hours))

    def includes(self, account: str) -> bool:
        return self.accounts is None or account in self.accounts

    def parts(self, hours: str, days: str) -> list[tuple[str, "Scope"]]:
        """Divide the range into whole UTC days and the hours before and after them, each with the table to read."""
        by_day_elsewhere = "day" in self.group_by and self.zone.key != "UTC"
        first = -(-int(self.since.timestamp()) // _DAY_SECONDS) * _DAY_SECONDS
        last = int(self.until.timestamp()) // _DAY_SECONDS * _DAY_SECONDS
        if "hour" in self.group_by or by_day_elsewhere or first >= last:
            return [(hours, self)]
        begin, end = datetime.fromtimestamp(first, UTC), datetime.fromtimestamp(last, UTC)
        ranges = ((hours, self.since, begin), (days, begin, end), (hours, end, self.until))
        return [
            (table, msgspec.structs.replace(self, since=since, until=until))
            for table, since, until in ranges
            if since < until
        ]


class View(msgspec.Struct, frozen=True):
    """One generation as one snapshot of the database shows it: everything read through it belongs together."""

    cursor: Cursor
    generation: Generation
    partitions: int

    def rows(self, text: str, parameters: Sequence[Any] = ()) -> Iterator[Any]:
        self.cursor.execute(self.generation.sql(text), parameters)
        while page := self.cursor.fetchmany(1_000):
            yield from page

    def grouped(
        self, scope: Scope, table: str, sums: str, extra: Sequence[str] = ()
    ) -> Iterator[tuple[dict[str, str], tuple[Any, ...]]]:
        """Yield (group, values of `extra` columns and sums) in the order of groups. Raises TooManyGroups."""
        where, parameters = scope.conditions()
        keys, key_parameters = _keys(scope)
        columns = [*keys, *(f"t.{name}" for name in extra)]
        numbers = ", ".join(map(str, range(1, len(columns) + 1)))
        ordered = f" GROUP BY {numbers} ORDER BY {numbers}" if columns else " HAVING count(*) > 0"
        text = f"SELECT {', '.join([*columns, sums])} FROM {{{table}}} t WHERE {where}{ordered} LIMIT {GROUPS_MAX + 1}"
        for number, row in enumerate(self.rows(text, (*key_parameters, *parameters))):
            if number == GROUPS_MAX:
                raise TooManyGroups(f"more than {GROUPS_MAX} groups")
            yield group_of(scope, row), tuple(row[len(keys) :])

    def added(
        self, scope: Scope, hours: str, days: str, columns: Sequence[str]
    ) -> Iterator[tuple[dict[str, str], list[int]]]:
        """Yield (group, sums of these columns) in the order of groups, whole days from the table that has them."""
        sums = ", ".join(f"sum(t.{column})::bigint" for column in columns)
        parts = scope.parts(hours, days)
        merged: dict[tuple[str, ...], tuple[dict[str, str], list[int]]] = {}
        for table, part in parts:
            for group, counts in self.grouped(part, table, sums):
                known = merged.setdefault(tuple(group.values()), (group, [0] * len(columns)))
                for place, count in enumerate(counts):
                    known[1][place] += count
        yield from (merged[key] for key in (sorted(merged) if len(parts) > 1 else merged))


def _keys(scope: Scope) -> tuple[list[str], list[Any]]:
    keys, parameters = [], []
    for name in scope.group_by:
        if name in ("hour", "day"):
            keys.append(f"date_trunc('{name}', t.hour, %s)")
            parameters.append(scope.zone.key)
        else:
            keys.append(f"t.{name}")
    return keys, parameters


def group_of(scope: Scope, row: Sequence[Any]) -> dict[str, str]:
    """Return a row's group by name: days as dates, hours with their offset, an unknown country as an empty text."""
    group = {}
    for name, value in zip(scope.group_by, row, strict=False):
        if isinstance(value, datetime):
            local = value.astimezone(scope.zone)
            group[name] = local.date().isoformat() if name == "day" else local.isoformat()
        else:
            group[name] = value
    return group
