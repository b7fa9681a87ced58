"""Who read or took out what. A line is written before the answer is given: what cannot be logged is not answered."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final, NamedTuple

from psycopg import sql

from ledger.store.application import Ledger

#: What is logged, by the word for it in the log.
ACTIONS: Final = (
    "history", "proof", "export", "correct", "erase-dry-run", "erase", "hold", "release", "archive", "restore",
    "access",
)  # fmt: skip
_PAGE: Final = 1_000


class Access(NamedTuple):
    """One line."""

    number: int
    at: datetime
    who: str  #: an API key's id, or user@host of whoever gave a command
    did: str
    message_id: int | None
    account: str | None
    detail: str | None


def record(
    ledger: Ledger,
    who: str,
    did: str,
    *,
    message_id: int | None = None,
    account: str | None = None,
    detail: str | None = None,
) -> None:
    """Write a line. `detail` must name nobody. Raises StoreUnavailable."""
    if did not in ACTIONS:
        raise ValueError(f"{did} is not an action of the access log")
    with ledger.reading() as cursor:
        cursor.execute(_RECORD, (who, did, message_id, account, detail))


def read(
    ledger: Ledger,
    *,
    who: str | None = None,
    message_id: int | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Iterator[Access]:
    """Yield lines, oldest first, a page at a time. Raises StoreUnavailable."""
    conditions: list[sql.Composable] = [sql.SQL("number > %s")]
    parameters: list[Any] = []
    for condition, value in (
        ("who = %s", who),
        ("message_id = %s", message_id),
        ("at >= %s", since),
        ("at < %s", until),
    ):
        if value is not None:
            conditions.append(sql.SQL(condition))
            parameters.append(value)
    statement = sql.SQL(_READ).format(where=sql.SQL(" AND ").join(conditions))
    number = 0
    while True:
        with ledger.reading() as cursor:
            page = [Access(*row) for row in cursor.execute(statement, (number, *parameters, _PAGE))]
        yield from page
        if len(page) < _PAGE:
            return
        number = page[-1].number


_RECORD: Final = b"INSERT INTO access_log (who, did, message_id, account, detail) VALUES (%s, %s, %s, %s, %s)"
_READ: Final = """
SELECT number, at, who, did, message_id, account, detail FROM access_log WHERE {where} ORDER BY number LIMIT %s
"""
