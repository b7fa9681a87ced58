"""PostgreSQL arrays in binary form, packed a column at a time.

psycopg dumps a list element by element; on the append path that costs more than the decision itself. A column packed
here is one bytes object with the type's array oid, which psycopg passes on untouched.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from struct import Struct, pack
from typing import Final
from uuid import UUID

from psycopg.adapt import Dumper
from psycopg.pq import Format

_HEADER: Final = Struct("!iiIii")  # dimensions, has nulls, element oid, length, lower bound
_length: Final = Struct("!i").pack
_instant: Final = Struct("!iq").pack
_NULL: Final = _length(-1)
_UUID: Final = _length(16)
_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class Column:
    """A packed array parameter."""

    __slots__ = ("data", "oid")

    def __init__(self, oid: int, element_oid: int, count: int, has_nulls: bool, elements: bytes) -> None:
        self.oid = oid
        if count:
            self.data = _HEADER.pack(1, int(has_nulls), element_oid, count, 1) + elements
        else:
            self.data = pack("!iiI", 0, 0, element_oid)


class ColumnDumper(Dumper):
    """Hands a packed column to the server as it is."""

    format = Format.BINARY

    def dump(self, obj: Column) -> bytes:
        return obj.data

    def get_key(self, obj: Column, format: object) -> tuple[type, int]:  # type: ignore[override]
        return (self.cls, obj.oid)

    def upgrade(self, obj: Column, format: object) -> "ColumnDumper":
        dumper = ColumnDumper(self.cls)
        dumper.oid = obj.oid
        return dumper


def booleans(values: Sequence[bool]) -> Column:
    return Column(1000, 16, len(values), False, pack("!" + "i?" * len(values), *_with_length(1, values)))


def smallints(values: Sequence[int]) -> Column:
    return Column(1005, 21, len(values), False, pack("!" + "ih" * len(values), *_with_length(2, values)))


def integers(values: Sequence[int]) -> Column:
    return Column(1007, 23, len(values), False, pack("!" + "ii" * len(values), *_with_length(4, values)))


def bigints(values: Sequence[int]) -> Column:
    return Column(1016, 20, len(values), False, pack("!" + "iq" * len(values), *_with_length(8, values)))


def uuids(values: Sequence[UUID | None]) -> Column:
    nulls = values.count(None)
    if nulls == len(values):
        return _nothing(2951, 2950, nulls)
    elements = b"".join([_NULL if value is None else _UUID + value.bytes for value in values])
    return Column(2951, 2950, len(values), nulls > 0, elements)


def texts(values: Sequence[str | None]) -> Column:
    """Raise UnicodeEncodeError for a lone surrogate; the caller isolates the item."""
    # Text columns repeat a handful of words.
    packed: dict[str | None, bytes] = {}
    for value in set(values):
        data = b"" if value is None else value.encode()
        packed[value] = _NULL if value is None else _length(len(data)) + data
    return Column(1009, 25, len(values), None in packed, b"".join([packed[value] for value in values]))


def byteas(values: Sequence[bytes | None]) -> Column:
    nulls = values.count(None)
    if nulls == len(values):
        return _nothing(1001, 17, nulls)
    elements = b"".join([_NULL if value is None else _length(len(value)) + value for value in values])
    return Column(1001, 17, len(values), nulls > 0, elements)


def instants(values: Sequence[datetime | None]) -> Column:
    nulls = values.count(None)
    if nulls == len(values):
        return _nothing(1185, 1184, nulls)
    elements = b"".join([_NULL if value is None else _instant(8, (value - _EPOCH) // _MICROSECOND) for value in values])
    return Column(1185, 1184, len(values), nulls > 0, elements)


def _nothing(oid: int, element_oid: int, count: int) -> Column:
    return Column(oid, element_oid, count, count > 0, _NULL * count)


def _with_length(length: int, values: Sequence[int]) -> list[int]:
    flat = [length] * (2 * len(values))
    flat[1::2] = values
    return flat
