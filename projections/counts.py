"""Tables of counts: changes are collected in memory and added with one statement.

Every row is a sum over messages or events. A message that moves from one row to another is taken out of the first and
added to the second, and a row that has come to nothing is removed. So the order and the grouping of changes do not
matter, and a rebuilt table equals the one that was kept up to date, row by row.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from ledger.store import arrays
from projections import sketch
from projections.generations import Cursor, Generation, Table

Key = tuple[Any, ...]
Pack = Callable[[Sequence[Any]], arrays.Column]

HOUR_SECONDS: Final = 3_600


def hour_of(at: datetime) -> int:
    """Return the hour of an instant, counted from 1970."""
    return int(at.timestamp()) // HOUR_SECONDS


def hours(values: Sequence[int]) -> arrays.Column:
    """Pack hours as the instants at which they begin."""
    begun = {value: datetime.fromtimestamp(value * HOUR_SECONDS, UTC) for value in set(values)}
    return arrays.instants([begun[value] for value in values])


#: Columns of a key: the type in the database, and how they are packed.
_TYPES: Final[dict[str, tuple[str, Pack]]] = {
    "hour": ("timestamptz", hours),
    "slot": ("timestamptz", arrays.instants),
    "account": ("text", arrays.texts),
    "channel": ("text", arrays.texts),
    "provider": ("text", arrays.texts),
    "country": ("text", arrays.texts),
    "status": ("text", arrays.texts),
    "closed": ("text", arrays.texts),
    "stage": ("text", arrays.texts),
    "category": ("text", arrays.texts),
    "code": ("text", arrays.texts),
    "title": ("text", arrays.texts),
    "recognised": ("text", arrays.texts),
    "measure": ("text", arrays.texts),
    "recipient": ("bytea", arrays.byteas),
}


class Shape:
    """A table of counts: its key, less the partition, and the columns that are added up."""

    def __init__(self, name: str, key: Sequence[str], values: Sequence[str], indexes: Sequence[str] = ()) -> None:
        self.name = name
        self.key = tuple(key)
        self.values = tuple(values)
        self._packs = [_TYPES[column][1] for column in key]
        columns = [*(f"{column} {_TYPES[column][0]} NOT NULL" for column in key)]
        columns += [f"{value} integer NOT NULL" for value in values]  # their sums are bigint, and quick
        self.table = Table(
            name=name,
            columns=f"partition smallint NOT NULL, {', '.join(columns)}",
            key=("partition", *key),
            indexes=tuple(indexes),
            fillfactor=70,
        )
        keys, places = ", ".join(key), ", ".join(["%s"] * (len(key) + len(values)))
        added = ", ".join(f"{value} = t.{value} + excluded.{value}" for value in values)
        self._add = (
            f"INSERT INTO {{{name}}} AS t (partition, {keys}, {', '.join(values)})"
            f" SELECT %s, * FROM unnest({places})"
            f" ON CONFLICT (partition, {keys}) DO UPDATE SET {added}"
        )
        same = " AND ".join(f"t.{column} = n.{column}" for column in key)
        self._remove = (
            f"DELETE FROM {{{name}}} t USING unnest({', '.join(['%s'] * len(key))}) AS n ({keys})"
            f" WHERE t.partition = %s AND {same} AND t.{values[0]} = 0"
        )

    def packed(self, keys: Sequence[Key]) -> list[arrays.Column]:
        columns = list(zip(*keys, strict=True))
        return [pack(column) for pack, column in zip(self._packs, columns, strict=True)]

    def write(self, cursor: Cursor, generation: Generation, partition: int, changes: "Counts") -> None:
        """Add what was collected. A row's first value counts what the others are about: at zero there is no row."""
        changed = {key: amounts for key, amounts in changes.amounts.items() if any(amounts)}
        if not changed:
            return
        keys = list(changed)
        amounts = [arrays.integers(column) for column in zip(*changed.values(), strict=True)]
        cursor.execute(generation.sql(self._add), (partition, *self.packed(keys), *amounts), prepare=True)
        fewer = [key for key, amounts in changed.items() if amounts[0] < 0]
        if fewer:
            cursor.execute(generation.sql(self._remove), (*self.packed(fewer), partition), prepare=True)


class Counts:
    """Changes to a table of counts."""

    __slots__ = ("amounts",)

    def __init__(self) -> None:
        self.amounts: dict[Key, list[int]] = {}

    def add(self, key: Key, amounts: Sequence[int], sign: int = 1) -> None:
        known = self.amounts.get(key)
        if known is None:
            self.amounts[key] = list(amounts) if sign == 1 else [-amount for amount in amounts]
        else:
            for place, amount in enumerate(amounts):
                known[place] += sign * amount

    def by_day(self) -> "Counts":
        """Return the same changes by UTC day; the first column of a key is the hour."""
        days = Counts()
        for (hour, *rest), amounts in self.amounts.items():
            days.add((hour - hour % 24, *rest), amounts)
        return days


class SketchShape:
    """A table of sketches: how many durations, how many that could not be, and the sketch of the rest."""

    def __init__(self, name: str, key: Sequence[str]) -> None:
        self.name = name
        self.key = tuple(key)
        self._packs = [_TYPES[column][1] for column in key]
        columns = ", ".join(f"{column} {_TYPES[column][0]} NOT NULL" for column in key)
        self.table = Table(
            name=name,
            columns=f"partition smallint NOT NULL, {columns},"
            " durations integer NOT NULL, skewed integer NOT NULL, sketch bytea NOT NULL",
            key=("partition", *key),
            fillfactor=70,
        )
        keys, places = ", ".join(key), ", ".join(["%s"] * len(key))
        same = " AND ".join(f"t.{column} = n.{column}" for column in key)
        self._read = (
            f"SELECT n.place, t.sketch FROM unnest({places}) WITH ORDINALITY AS n ({keys}, place)"
            f" JOIN {{{name}}} t ON t.partition = %s AND {same}"
        )
        self._write = (
            f"INSERT INTO {{{name}}} AS t (partition, {keys}, durations, skewed, sketch)"
            f" SELECT %s, * FROM unnest({places}, %s, %s, %s)"
            f" ON CONFLICT (partition, {keys}) DO UPDATE SET durations = t.durations + excluded.durations,"
            " skewed = t.skewed + excluded.skewed, sketch = excluded.sketch"
        )
        self._remove = (
            f"DELETE FROM {{{name}}} t USING unnest({places}) AS n ({keys})"
            f" WHERE t.partition = %s AND {same} AND t.durations = 0 AND t.skewed = 0"
        )

    def packed(self, keys: Sequence[Key]) -> list[arrays.Column]:
        columns = list(zip(*keys, strict=True))
        return [pack(column) for pack, column in zip(self._packs, columns, strict=True)]

    def write(self, cursor: Cursor, generation: Generation, partition: int, changes: "Sketches") -> None:
        """Add what was collected. The caller keeps others away from these rows: they are read and written back."""
        changed = {key: lanes for key, lanes in changes.lanes.items() if any(lanes.values())}
        if not changed:
            return
        keys = list(changed)
        packed = self.packed(keys)
        cursor.execute(generation.sql(self._read), (*packed, partition), prepare=True)
        sketches = [0] * len(keys)
        for place, found in cursor.fetchall():
            sketches[place - 1] = sketch.unpack(found)
        durations, skewed = [], []
        for place, lanes in enumerate(changed.values()):
            counted = {bucket: count for bucket, count in lanes.items() if bucket != SKEWED}
            sketches[place] += sketch.of(counted)
            durations.append(sum(counted.values()))
            skewed.append(lanes.get(SKEWED, 0))
        values = (
            arrays.integers(durations),
            arrays.integers(skewed),
            arrays.byteas([sketch.pack(each) for each in sketches]),
        )
        cursor.execute(generation.sql(self._write), (partition, *packed, *values), prepare=True)
        fewer = [key for key, total, without in zip(keys, durations, skewed, strict=True) if total < 0 or without < 0]
        if fewer:
            cursor.execute(generation.sql(self._remove), (*self.packed(fewer), partition), prepare=True)


#: In place of a bucket: the clocks that were compared disagree, so there is no duration.
SKEWED: Final = -1


class Sketches:
    """Changes to a table of sketches: counts by bucket, `SKEWED` among them."""

    __slots__ = ("lanes",)

    def __init__(self) -> None:
        self.lanes: dict[Key, dict[int, int]] = {}

    def add(self, key: Key, bucket: int, sign: int = 1) -> None:
        lanes = self.lanes.setdefault(key, {})
        lanes[bucket] = lanes.get(bucket, 0) + sign

    def by_day(self) -> "Sketches":
        """Return the same changes by UTC day; the first column of a key is the hour."""
        days = Sketches()
        for (hour, *rest), lanes in self.lanes.items():
            known = days.lanes.setdefault((hour - hour % 24, *rest), {})
            for bucket, count in lanes.items():
                known[bucket] = known.get(bucket, 0) + count
        return days
