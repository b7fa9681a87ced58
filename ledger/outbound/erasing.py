"""What an erasure has to remove of what was sent out: the one function for it."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from ledger.outbound import deliveries
from ledger.outbound.hubspot import contacts


def forget(cursor: Any, stream_ids: Sequence[UUID]) -> int:
    """Drop deliveries, their attempts with what was answered, and the contacts that were looked up, of messages.

    `stream_ids` are all streams of the messages, those handed off too. To be run in the transaction that deletes their
    keys, before `current_status` loses its look-ups. From its commit on nothing more is sent: a worker looks for the
    key and for its lease right before it sends. Returns how many rows there were; doing it again does nothing.
    """
    return contacts.forget(cursor, stream_ids) + deliveries.forget(cursor, stream_ids)
