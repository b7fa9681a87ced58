"""What is remembered of HubSpot's contacts: which one has a number, and of which message it was told last.

A number is kept as a keyed look-up value, the same as in `current_status`, for a day at most.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from ledger.store.application import Ledger
from projections.current_status import RECIPIENT

#: A contact that was found is believed for a day; that there was none, for ten minutes: somebody may create it.
_FOUND_SECONDS: Final = 86_400
_NONE_SECONDS: Final = 600


class Known(msgspec.Struct, frozen=True):
    contact_id: str | None  #: None: there was none


class Contacts:
    """Every method raises StoreUnavailable."""

    def __init__(self, ledger: Ledger, destination_id: str, account: str) -> None:
        self._ledger = ledger
        self._id = destination_id
        self._account = account

    def recall(self, phone: str) -> Known | None:
        with self._ledger.reading() as cursor:
            row = cursor.execute(_RECALL, (self._id, self._lookup(phone), _NONE_SECONDS, _FOUND_SECONDS)).fetchone()
        return Known(row[0]) if row else None

    def remember(self, phone: str, contact_id: str | None) -> None:
        with self._ledger.reading() as cursor:
            cursor.execute(_REMEMBER, (self._id, self._lookup(phone), contact_id))

    def forget(self, phone: str) -> None:
        with self._ledger.reading() as cursor:
            cursor.execute(_FORGET, (self._id, self._lookup(phone)))

    def is_news(self, contact_id: str, opened_at: datetime, message_id: int, version: int) -> bool:
        """Tell whether a contact has not been told of this or of something newer."""
        with self._ledger.reading() as cursor:
            row = cursor.execute(_TOLD, (self._id, contact_id)).fetchone()
        return row is None or (row[0], row[1], row[2]) < (opened_at, message_id, version)

    def told(self, contact_id: str, opened_at: datetime, message_id: int, version: int) -> None:
        with self._ledger.reading() as cursor:
            cursor.execute(_TELL, (self._id, contact_id, opened_at, message_id, version))

    def _lookup(self, phone: str) -> bytes:
        return self._ledger.names.lookup(self._account, RECIPIENT, phone)


def purge(ledger: Ledger) -> int:
    """Forget numbers that were looked up long ago; return how many."""
    with ledger.reading() as cursor:
        return cursor.execute(_PURGE, (_FOUND_SECONDS,)).rowcount


def forget(cursor: Any, stream_ids: Sequence[UUID]) -> int:
    """Forget the contacts of messages that are being erased, as long as their look-ups are still there."""
    count: int = cursor.execute(_FORGET_OF_MESSAGES, (list(stream_ids),)).rowcount
    return count


_RECALL: Final = b"""
SELECT contact_id FROM hubspot_contacts
 WHERE destination_id = %s AND lookup = %s
   AND found_at > clock_timestamp() - make_interval(secs => CASE WHEN contact_id IS NULL THEN %s ELSE %s END)
"""
_REMEMBER: Final = b"""
INSERT INTO hubspot_contacts (destination_id, lookup, contact_id) VALUES (%s, %s, %s)
ON CONFLICT (destination_id, lookup) DO UPDATE SET contact_id = excluded.contact_id, found_at = clock_timestamp()
"""
_FORGET: Final = b"DELETE FROM hubspot_contacts WHERE destination_id = %s AND lookup = %s"
_TOLD: Final = b"""
SELECT opened_at, message_id, version FROM hubspot_current WHERE destination_id = %s AND contact_id = %s
"""
_TELL: Final = b"""
INSERT INTO hubspot_current AS c (destination_id, contact_id, opened_at, message_id, version)
VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (destination_id, contact_id) DO UPDATE
   SET opened_at = excluded.opened_at, message_id = excluded.message_id, version = excluded.version
 WHERE (c.opened_at, c.message_id, c.version) < (excluded.opened_at, excluded.message_id, excluded.version)
"""
_PURGE: Final = b"DELETE FROM hubspot_contacts WHERE found_at < clock_timestamp() - make_interval(secs => %s)"
_FORGET_OF_MESSAGES: Final = b"""
DELETE FROM hubspot_contacts h USING current_status c
 WHERE c.stream_id = ANY(%s::uuid[]) AND c.recipient_lookup IS NOT NULL AND h.lookup = c.recipient_lookup
"""
