"""What `current_status` must hold, worked out again from the events alone."""

from typing import Any
from uuid import UUID

import msgspec
from psycopg.rows import dict_row

from ledger.domain.identity import BUCKETS, bucket, partition
from ledger.domain.message import Message
from ledger.store import snapshot
from ledger.store.application import Ledger, fold
from ledger.store.rows import StatusRow
from projections import current_status

#: Sealing draws a nonce, so two rows with one meaning differ here; the folded message is compared instead.
_NOT_COMPARED = {"state", "first", "last"}
_ROWS = b"""
SELECT * FROM current_status LEFT JOIN message_keys USING (partition, stream_id) WHERE stream_id = ANY(%s) OR %s
"""
_LOOKUPS = ("provider_lookup", "recipient_lookup", "reference_lookup")
_DERIVED = [name for name in StatusRow.__struct_fields__ if name not in _NOT_COMPARED]


def stored_rows(ledger: Ledger, *streams: UUID) -> dict[UUID, dict[str, Any]]:
    """Return rows by stream, all unless some are named, each with the folded message opened under `message`."""
    with ledger.reading() as cursor:
        cursor.row_factory = dict_row  # type: ignore[assignment]  # rows by column name
        cursor.execute(_ROWS, (list(streams), not streams))
        rows: list[dict[str, Any]] = list(cursor)  # type: ignore[arg-type]
    for row in rows:
        row["message"] = stored_message(ledger, row)
    return {row["stream_id"]: row for row in rows}


def stored_message(ledger: Ledger, row: dict[str, Any]) -> Message:
    stream_id, wrapped = row["stream_id"], row["wrapped"]
    key = ledger.master_key.unwrap(wrapped, stream_id) if wrapped is not None else None
    return snapshot.decode(row["state"], stream_id, key).message


def rebuilt_row(ledger: Ledger, stream_id: UUID) -> dict[str, Any]:
    """Fold a message's events and derive its row as a rebuild would."""
    history = ledger.history(stream_id)
    own = [recorded for recorded in history if recorded.stream_id == stream_id]
    message = fold(history)
    (loaded,) = ledger.load([stream_id])
    row = current_status.row(
        ledger.names, message, stream_id=stream_id, version=len(own), first=1, last=len(own), key=loaded.key
    )
    return {
        **{name: getattr(row, name) for name in _DERIVED},
        **{name: getattr(row, name) or None for name in _LOOKUPS},
        "message": message,
        "version": len(own),
        "message_id": own[0].position * BUCKETS + bucket(stream_id),
        "opened_at": own[0].recorded_at,
        "partition": partition(stream_id, ledger.partitions),
    }


def recorded_streams(ledger: Ledger) -> set[UUID]:
    with ledger.reading() as cursor:
        return {row[0] for row in cursor.execute("SELECT DISTINCT stream_id FROM events")}


def differences(ledger: Ledger, *streams: UUID) -> list[str]:
    """Name every place where a stored row is not what its events amount to. All streams unless some are named."""
    stored, found = stored_rows(ledger, *streams), []
    wanted = set(streams) or recorded_streams(ledger) | set(stored)
    for stream_id in wanted:
        if stream_id not in stored:
            found.append(f"{stream_id}: no row")
            continue
        for name, expected in rebuilt_row(ledger, stream_id).items():
            actual = stored[stream_id][name]
            if actual != expected:
                found.append(f"{stream_id} {name}: stored {_short(actual)}, events say {_short(expected)}")
    return found


def _short(value: object) -> object:
    return msgspec.to_builtins(value) if isinstance(value, Message) else value
