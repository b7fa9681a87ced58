"""Rows as CSV, JSON lines or Parquet: one flat record a row, the same names in each form."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from enum import Enum
from typing import Any, Final, NamedTuple

import msgspec

JSON: Final = "application/json"
CSV: Final = "text/csv"
JSON_LINES: Final = "application/x-ndjson"
PARQUET: Final = "application/vnd.apache.parquet"
#: In the order in which one is chosen where the caller has no preference.
FORMS: Final = (JSON, CSV, JSON_LINES, PARQUET)

#: A spreadsheet takes a text that begins so for a formula.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")

Record = dict[str, Any]


class ParquetMissing(Exception):
    """The extra `parquet` is not installed."""


class _Wanted(NamedTuple):
    quality: float
    media_type: str


def chosen(accept: str | None) -> str | None:
    """Return the form that an Accept header wants most; None if it wants none of them."""
    if accept is None or not accept.strip():
        return JSON
    wanted = sorted((_read(part) for part in accept.split(",")), key=lambda one: -one.quality)
    for one in wanted:
        if one.quality <= 0:
            break
        for form in FORMS:
            main = form.partition("/")[0]
            if one.media_type in (form, f"{main}/*", "*/*"):
                return form
        if one.media_type in ("application/jsonl", "application/x-jsonlines"):
            return JSON_LINES
    return None


def _read(part: str) -> _Wanted:
    media_type, *parameters = (piece.strip().lower() for piece in part.split(";"))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return _Wanted(min(1.0, max(0.0, float(value))), media_type)
            except ValueError:
                return _Wanted(0.0, media_type)
    return _Wanted(1.0, media_type)


def flat(item: msgspec.Struct) -> Record:
    """Return an answer's item as one flat record: what is nested is named `outer.inner`, lists become JSON."""
    record: Record = {}
    _flatten("", msgspec.to_builtins(item, builtin_types=(datetime,)), record)
    return record


def _flatten(name: str, value: Any, into: Record) -> None:
    if isinstance(value, Mapping):
        for inner, told in value.items():
            _flatten(f"{name}.{inner}".lstrip(".").removeprefix("group."), told, into)
    elif isinstance(value, list | tuple):
        into[name] = msgspec.json.encode(value).decode()
    else:
        into[name] = value.value if isinstance(value, Enum) else value


def columns_of(records: Sequence[Record]) -> list[str]:
    """Return the names of all columns, in the order of their first appearance."""
    return list(dict.fromkeys(name for record in records for name in record))


def as_csv(records: Iterable[Record], columns: Sequence[str], *, heading: bool = True) -> Iterator[bytes]:
    """Yield CSV of RFC 4180, with texts that a spreadsheet would run written so that it does not."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    if heading:
        writer.writerow(columns)
    for record in records:
        writer.writerow([_cell(record.get(name)) for name in columns])
        if buffer.tell() > 65_536:
            yield buffer.getvalue().encode()
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue().encode()


def _cell(value: Any) -> Any:
    if isinstance(value, datetime):
        return timestamp(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value


def timestamp(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


def as_json_lines(records: Iterable[Record]) -> Iterator[bytes]:
    encode = msgspec.json.Encoder().encode
    for record in records:
        yield encode(record) + b"\n"


class ParquetFile:
    """Writes records to a Parquet file, a row group at a time. Raises ParquetMissing without the extra."""

    def __init__(self, sink: Any, types: Mapping[str, str]) -> None:
        """`types`: text, integer, number, boolean or instant, by column."""
        pyarrow, parquet = _pyarrow()
        known = {
            "text": pyarrow.string(),
            "integer": pyarrow.int64(),
            "number": pyarrow.float64(),
            "boolean": pyarrow.bool_(),
            "instant": pyarrow.timestamp("us", tz="UTC"),
        }
        self._pyarrow = pyarrow
        self._schema = pyarrow.schema([(name, known[type_]) for name, type_ in types.items()])
        self._writer = parquet.ParquetWriter(sink, self._schema, compression="zstd")

    def write(self, records: Sequence[Record]) -> None:
        columns = {name: [record.get(name) for record in records] for name in self._schema.names}
        self._writer.write_table(self._pyarrow.table(columns, schema=self._schema))

    def close(self) -> None:
        self._writer.close()


def types_of(records: Sequence[Record], columns: Sequence[str]) -> dict[str, str]:
    """Return what each column holds, told by its values; text where there is none."""
    types = {}
    for name in columns:
        kinds = {type(record[name]) for record in records if record.get(name) is not None}
        if kinds == {bool}:
            types[name] = "boolean"
        elif kinds == {int}:
            types[name] = "integer"
        elif kinds and kinds <= {int, float}:
            types[name] = "number"
        elif kinds == {datetime}:
            types[name] = "instant"
        else:
            types[name] = "text"
    return types


def as_parquet(records: Sequence[Record], columns: Sequence[str]) -> bytes:
    """Return one small file. Raises ParquetMissing."""
    sink = io.BytesIO()
    file = ParquetFile(sink, types_of(records, columns))
    file.write(records)
    file.close()
    return sink.getvalue()


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow  # noqa: PLC0415  # an extra
        import pyarrow.parquet  # noqa: PLC0415
    except ImportError:
        raise ParquetMissing("Parquet needs the extra `parquet`: pip install 'status-ledger[parquet]'") from None
    return pyarrow, pyarrow.parquet
