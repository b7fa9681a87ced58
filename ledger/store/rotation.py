"""Replacing the master key: every data key is unwrapped with the key before and wrapped by the present one.

The service may run meanwhile, with both keys: a data key that it reads opens with either, one that it makes is wrapped
by the present one. Nothing that is sealed is touched. Once all is done the database belongs to the present key alone;
copies of it from before, wherever they are, open with the key before and with nothing else.
"""

from collections.abc import Callable
from typing import Final, LiteralString, NamedTuple
from uuid import UUID

from psycopg import sql

from ledger.store import arrays
from ledger.store.application import Ledger

Progress = Callable[[int, int], None]
_PAGE: Final = 1_000


class Wrapped(NamedTuple):
    """A table with a column `wrapped`, and the column that each key is bound to."""

    table: LiteralString
    bound_to: LiteralString
    partition: LiteralString = "t.partition"  #: an expression


#: Everything that the master key wraps.
WRAPPED: Final = (
    Wrapped("message_keys", "stream_id"),
    Wrapped("captures", "capture_id"),
    Wrapped("destinations", "uid", "0::smallint"),
    Wrapped("poll_answers", "answer_id"),
)


def rotate(ledger: Ledger, fingerprint: str, progress: Progress = lambda _done, _all: None) -> dict[str, int]:
    """Wrap all keys anew and note the key's fingerprint; return how many were, by table. May be stopped and repeated.

    Raises SealBroken for a key that neither master key opens, and StoreUnavailable.
    """
    rotated: dict[str, int] = {}
    with ledger.reading() as cursor:
        counts = [cursor.execute(_statement(_COUNT, each)).fetchone() for each in WRAPPED]
    of, done = sum(row[0] for row in counts if row), 0
    for each in WRAPPED:
        rotated[each.table] = 0
        after: tuple[int, UUID] = (-1, UUID(int=0))
        while True:
            with ledger.reading() as cursor:
                page = cursor.execute(_statement(_READ, each), (*after, _PAGE)).fetchall()
                told = [(*row, ledger.master_key.rewrapped(row[2], row[1])) for row in page]
                changed = [row for row in told if row[3] is not None]
                if changed:
                    columns = list(zip(*changed, strict=True))
                    parameters = (
                        arrays.smallints(columns[0]),
                        arrays.uuids(columns[1]),
                        arrays.byteas(columns[2]),
                        arrays.byteas(columns[3]),
                    )
                    rotated[each.table] += cursor.execute(_statement(_WRITE, each), parameters).rowcount
            done += len(page)
            progress(done, max(of, done))
            if len(page) < _PAGE:
                break
            after = page[-1][0], page[-1][1]
    with ledger.reading() as cursor:
        cursor.execute(_FINGERPRINT, (fingerprint,))
    return rotated


def _statement(text: LiteralString, told: Wrapped) -> sql.Composed:
    return sql.SQL(text).format(
        table=sql.Identifier(told.table), bound_to=sql.Identifier(told.bound_to), partition=sql.SQL(told.partition)
    )


_COUNT: Final[LiteralString] = "SELECT count(*) FROM {table}"
_READ: Final[LiteralString] = """
SELECT {partition}, t.{bound_to}, t.wrapped FROM {table} t WHERE ({partition}, t.{bound_to}) > (%s, %s)
 ORDER BY {partition}, t.{bound_to} LIMIT %s
"""
#: Only what is still as it was read: a key that was deleted meanwhile stays deleted.
_WRITE: Final[LiteralString] = """
UPDATE {table} t SET wrapped = told.after
  FROM unnest(%s, %s, %s, %s) AS told (partition, bound_to, before, after)
 WHERE {partition} = told.partition AND t.{bound_to} = told.bound_to AND t.wrapped = told.before
"""
_FINGERPRINT: Final = b"UPDATE ledger_constants SET value = %s WHERE name = 'LEDGER_MASTER_KEY'"
