"""Packed columns against psycopg's own arrays: the server must see the same values, and send the same bytes back."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from psycopg.pq import Format

from ledger.store import arrays

Connection = psycopg.Connection[tuple[Any, ...]]


class Kind(NamedTuple):
    """A type of column: its packer, its name in SQL, and values it takes."""

    pack: Callable[[Sequence[Any]], arrays.Column]
    sql_type: str
    values: st.SearchStrategy[Any]
    nullable: bool = True


#: PostgreSQL's text has no NUL; nor can it be sent a lone surrogate (below).
_texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00"))
_instants = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001

KINDS = {
    "smallints": Kind(arrays.smallints, "smallint[]", st.integers(-(2**15), 2**15 - 1), nullable=False),
    "integers": Kind(arrays.integers, "integer[]", st.integers(-(2**31), 2**31 - 1), nullable=False),
    "uuids": Kind(arrays.uuids, "uuid[]", st.uuids()),
    "texts": Kind(arrays.texts, "text[]", _texts),
    "byteas": Kind(arrays.byteas, "bytea[]", st.binary()),
    "instants": Kind(arrays.instants, "timestamptz[]", _instants),
}


@pytest.fixture
def connection(postgres_url: str) -> Iterator[Connection]:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.adapters.register_dumper(arrays.Column, arrays.ColumnDumper)
        yield connection


@pytest.fixture(params=sorted(KINDS))
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


def columns(kind: Kind) -> st.SearchStrategy[list[Any]]:
    values = st.none() | kind.values if kind.nullable else kind.values
    return st.lists(values, max_size=12)


def sent(connection: Connection, parameter: object, sql_type: str) -> tuple[Any, bytes]:
    """Return what the server makes of a parameter: as values, and as the bytes in which it sends them back."""
    with connection.cursor(binary=True) as cursor:
        cursor.execute(f"SELECT %b::{sql_type}".encode(), (parameter,))
        assert cursor.pgresult is not None
        assert cursor.pgresult.fformat(0) == Format.BINARY
        raw = cursor.pgresult.get_value(0, 0)
        row = cursor.fetchone()
    assert row is not None
    assert raw is not None
    return row[0], raw


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # the server keeps nothing between examples
@given(data=st.data())
def test_the_server_reads_a_packed_column_as_the_values_packed(
    connection: Connection, kind: Kind, data: st.DataObject
) -> None:
    values = data.draw(columns(kind))

    read, _ = sent(connection, kind.pack(values), kind.sql_type)

    assert read == values


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_packed_column_is_what_psycopg_would_have_sent(
    connection: Connection, kind: Kind, data: st.DataObject
) -> None:
    """Both go through the server, because psycopg picks narrower types for small numbers."""
    values = data.draw(columns(kind))

    assert sent(connection, kind.pack(values), kind.sql_type) == sent(connection, values, kind.sql_type)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_the_packed_bytes_are_those_that_the_server_sends_back(
    connection: Connection, kind: Kind, data: st.DataObject
) -> None:
    values = data.draw(columns(kind))
    column = kind.pack(values)

    _, raw = sent(connection, column, kind.sql_type)

    assert column.data == raw


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(instant=_instants)
@example(datetime(2000, 1, 1, tzinfo=UTC))
@example(datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC))
@example(datetime(2200, 1, 1, 0, 0, 0, 1, tzinfo=UTC))
def test_an_instant_arrives_to_the_microsecond(connection: Connection, instant: datetime) -> None:
    ((read,), _) = sent(connection, arrays.instants([instant]), "timestamptz[]")

    assert read == instant


def test_an_instant_in_another_zone_is_the_same_instant(connection: Connection) -> None:
    told = datetime.fromisoformat("2025-03-01T12:00:00+05:30")

    ((read,), _) = sent(connection, arrays.instants([told]), "timestamptz[]")

    assert read == datetime(2025, 3, 1, 6, 30, tzinfo=UTC)


def test_columns_of_a_thousand_rows_stay_aligned(connection: Connection) -> None:
    ids = [UUID(int=n) for n in range(1_000)]
    words = [None if n % 3 else "x" * (n % 50) for n in range(1_000)]
    numbers = list(range(1_000))

    rows = connection.execute(
        "SELECT * FROM unnest(%s::uuid[], %s::text[], %s::integer[])",
        (arrays.uuids(ids), arrays.texts(words), arrays.integers(numbers)),
    ).fetchall()

    assert rows == list(zip(ids, words, numbers, strict=True))


def test_a_lone_surrogate_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(UnicodeEncodeError):
        arrays.texts(["fine", "\ud800"])
