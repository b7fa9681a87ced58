"""What came to the webhooks, by account and minute. Counted in memory and added up here every few seconds.

Requests that are not signed leave no event behind, so this is all that tells of them.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

import msgspec

from ledger.store import arrays
from ledger.store.application import Ledger

#: Minutes are kept for so long.
KEPT_DAYS: Final = 90


class Traffic(msgspec.Struct):
    """Answers of one account in one minute."""

    accepted: int = 0
    not_authentic: int = 0
    refused: int = 0
    unavailable: int = 0
    last_accepted_at: datetime | None = None


def add(ledger: Ledger, counted: Mapping[tuple[str, datetime], Traffic]) -> None:
    """Add what was counted, by account and minute. Raises StoreUnavailable: then nothing was added, or all of it."""
    keys, values = sorted(counted), [counted[key] for key in sorted(counted)]
    columns = (
        arrays.texts([account for account, _ in keys]),
        arrays.instants([minute for _, minute in keys]),
        arrays.bigints([value.accepted for value in values]),
        arrays.bigints([value.not_authentic for value in values]),
        arrays.bigints([value.refused for value in values]),
        arrays.bigints([value.unavailable for value in values]),
        arrays.instants([value.last_accepted_at for value in values]),
    )
    with ledger.reading() as cursor:
        cursor.execute(_ADD, columns)


def purge(ledger: Ledger) -> int:
    """Forget minutes that are too old, and return how many."""
    with ledger.reading() as cursor:
        return cursor.execute(_PURGE, (KEPT_DAYS,)).rowcount


_ADD: Final = b"""
INSERT INTO webhook_traffic AS t (account, minute, accepted, not_authentic, refused, unavailable, last_accepted_at)
SELECT * FROM unnest(%s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (account, minute) DO UPDATE SET
    accepted = t.accepted + excluded.accepted, not_authentic = t.not_authentic + excluded.not_authentic,
    refused = t.refused + excluded.refused, unavailable = t.unavailable + excluded.unavailable,
    last_accepted_at = greatest(t.last_accepted_at, excluded.last_accepted_at)
"""
_PURGE: Final = b"DELETE FROM webhook_traffic WHERE minute < clock_timestamp() - make_interval(days => %s)"
