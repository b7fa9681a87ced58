"""Requests to the webhooks that were turned away: the newest, with the reason. Nothing of what they said is kept."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec

from ledger.store import arrays
from ledger.store.application import Ledger

KEPT_HOURS: Final = 24


class Refusal(msgspec.Struct, frozen=True):
    refused_at: datetime
    account: str
    status: int  #: what was answered
    cause: str
    request_id: UUID


def add(ledger: Ledger, refusals: Sequence[Refusal]) -> None:
    """Raises StoreUnavailable: then none was added, or all of them."""
    columns = (
        arrays.instants([each.refused_at for each in refusals]),
        arrays.texts([each.account for each in refusals]),
        arrays.smallints([each.status for each in refusals]),
        arrays.texts([each.cause for each in refusals]),
        arrays.uuids([each.request_id for each in refusals]),
    )
    with ledger.reading() as cursor:
        cursor.execute(_ADD, columns)


def newest(ledger: Ledger, accounts: Sequence[str], limit: int) -> list[Refusal]:
    """Return the newest refusals of these accounts, newest first. Raises StoreUnavailable."""
    with ledger.reading() as cursor:
        rows = cursor.execute(_NEWEST, (list(accounts), limit, limit)).fetchall()
    return [Refusal(*row) for row in rows]


def purge(ledger: Ledger) -> int:
    """Forget what is too old, and return how many that were. Raises StoreUnavailable."""
    with ledger.reading() as cursor:
        return cursor.execute(_PURGE, (KEPT_HOURS,)).rowcount


_ADD: Final = b"""
INSERT INTO refused_requests (refused_at, account, status, cause, request_id) SELECT * FROM unnest(%s, %s, %s, %s, %s)
"""
_NEWEST: Final = b"""
SELECT r.refused_at, r.account, r.status, r.cause, r.request_id FROM unnest(%s::text[]) AS a (account)
 CROSS JOIN LATERAL (SELECT * FROM refused_requests r WHERE r.account = a.account ORDER BY r.refused_at DESC LIMIT %s) r
 ORDER BY r.refused_at DESC LIMIT %s
"""
_PURGE: Final = b"DELETE FROM refused_requests WHERE refused_at < clock_timestamp() - make_interval(hours => %s)"
