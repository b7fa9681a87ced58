"""PostgreSQL arrays in binary form, packed a column at a time.

psycopg dumps a list element by element; on the append path that costs more than the decision itself. A column packed
here is one bytes object with the type's array oid, which psycopg passes on untouched.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from struct import Struct, pack
from typing import Final
from uuid import UUID

from psycopg.adapt import Dumper
from psycopg.pq import Format

_HEADER: Final = Struct("!iiIii")  # dimensions, has nulls, element oid, length, lower bound
_LENGTH: Final = Struct("!i")
_NULL: Final = _LENGTH.pack(-1)
_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)


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


def smallints(values: Sequence[int]) -> Column:
    return Column(1005, 21, len(values), False, pack("!" + "ih" * len(values), *_with_length(2, values)))


def integers(values: Sequence[int]) -> Column:
    return Column(1007, 23, len(values), False, pack("!" + "ii" * len(values), *_with_length(4, values)))


def uuids(values: Sequence[UUID | None]) -> Column:
    length = _LENGTH.pack(16)
    elements = b"".join(_NULL if value is None else length + value.bytes for value in values)
    return Column(2951, 2950, len(values), None in values, elements)


def texts(values: Sequence[str | None]) -> Column:
    """Raise UnicodeEncodeError for a lone surrogate; the caller isolates the item."""
    return Column(1009, 25, len(values), None in values, _variable([v and v.encode() for v in values]))


def byteas(values: Sequence[bytes | None]) -> Column:
    return Column(1001, 17, len(values), None in values, _variable(values))


def instants(values: Sequence[datetime | None]) -> Column:
    length = _LENGTH.pack(8)
    elements = b"".join(_NULL if value is None else length + pack("!q", _micros(value)) for value in values)
    return Column(1185, 1184, len(values), None in values, elements)


def _micros(value: datetime) -> int:
    since = value - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def _with_length(length: int, values: Sequence[int]) -> list[int]:
    flat = [length] * (2 * len(values))
    flat[1::2] = values
    return flat


def _variable(values: Sequence[bytes | str | None]) -> bytes:
    parts: list[bytes] = []
    for value in values:
        if value is None:
            parts.append(_NULL)
        else:
            data = value if isinstance(value, bytes) else value.encode()
            parts.append(_LENGTH.pack(len(data)))
            parts.append(data)
    return b"".join(parts)
