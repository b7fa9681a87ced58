"""What `export` reads: pages of flat records, and the place after each, from which it can go on."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from ledger.domain.events import StatusObserved
from ledger.domain.reading import TIMES, is_final, last_updated, times
from ledger.http.tables import Record
from ledger.main import Parts
from ledger.store.mapper import Stored
from projections import current_status
from projections.current_status import Opened

PAGE: Final = 2_000


class Place(msgspec.Struct, frozen=True):
    """Where reading goes on: after this stream, or this position, of this partition."""

    partition: int
    stream_id: UUID
    position: int


BEGIN: Final = Place(0, UUID(int=0), 0)


class Filters(msgspec.Struct, frozen=True, kw_only=True):
    account: str | None
    channel: str | None
    provider: str | None
    since: datetime | None  #: inclusive
    until: datetime | None  #: exclusive

    def conditions(self, clock: str, table: str) -> tuple[str, list[Any]]:
        told = {f"{table}.{name} = %s": getattr(self, name) for name in ("account", "channel", "provider")}
        told |= {f"{table}.{clock} >= %s": self.since, f"{table}.{clock} < %s": self.until}
        wanted = {condition: value for condition, value in told.items() if value is not None}
        return " AND ".join(["true", *wanted]), list(wanted.values())


Page = tuple[list[Record], Place, int]  #: records, the place after them, rows looked at


class Messages:
    """One record a message, as it stands when its page is read. Messages that were linked show once."""

    types: Final = {
        "message_id": "integer",
        "account": "text",
        "channel": "text",
        "provider": "text",
        "provider_message_id": "text",
        "client_reference": "text",
        "recipient": "text",
        "country": "text",
        "status": "text",
        "status_detail": "text",
        "is_final": "boolean",
        "conflict": "text",
        **dict.fromkeys(TIMES, "instant"),
        "last_updated": "instant",
        "opened_at": "instant",
        "failure_stage": "text",
        "failure_category": "text",
        "failure_code": "text",
        "failure_title": "text",
        "failure_text": "text",
        "version": "integer",
    }

    def __init__(self, built: Parts, filters: Filters) -> None:
        self._built = built
        self._where, self._parameters = filters.conditions("opened_at", "c")

    def total(self) -> int:
        with self._built.ledger.connect() as connection:
            row = connection.execute("SELECT count(*) FROM current_status").fetchone()
        return int(row[0]) if row else 0

    def pages(self, after: Place) -> Iterator[Page]:
        """Yield pages in the order of partitions and streams. Raises StoreUnavailable."""
        messages, statement = self._built.messages, _MESSAGES.format(where=self._where).encode()
        for partition in range(after.partition, self._built.ledger.partitions):
            stream_id = after.stream_id if partition == after.partition else BEGIN.stream_id
            while True:
                with self._built.ledger.reading() as cursor:
                    rows = cursor.execute(statement, (*self._parameters, partition, stream_id, PAGE)).fetchall()
                if rows:
                    stream_id = rows[-1][0]
                    found = [messages.opened(row[:-1]) for row in rows if not row[-1]]
                    yield [_message(opened) for opened in found], Place(partition, stream_id, 0), len(rows)
                if len(rows) < PAGE:
                    break


def _message(opened: Opened) -> Record:
    message, reason = opened.message, current_status.reason(opened.message)
    person, at = message.person, times(message)
    return {
        "message_id": opened.shown_id,
        "account": message.account,
        "channel": message.channel.value,
        "provider": message.provider,
        "provider_message_id": person.provider_message_id,
        "client_reference": person.client_reference,
        "recipient": person.recipient,
        "country": message.country,
        "status": message.status.value,
        "status_detail": message.kind.value if message.kind else None,
        "is_final": is_final(message),
        "conflict": message.conflict.value,
        **{name: instant.at if instant else None for name, instant in at.items()},
        "last_updated": last_updated(message),
        "opened_at": opened.opened_at,
        "failure_stage": reason.stage.value if reason else None,
        "failure_category": reason.category.value if reason else None,
        "failure_code": reason.code if reason else None,
        "failure_title": reason.title if reason else None,
        "failure_text": reason.text if reason else None,
        "version": message.version,
    }


class Events:
    """One record an event, in the order of positions of each partition."""

    types: Final = {
        "partition": "integer",
        "position": "integer",
        "recorded_at": "instant",
        "stream_id": "text",
        "version": "integer",
        "type": "text",
        "account": "text",
        "provider": "text",
        "channel": "text",
        "source": "text",
        "provider_status": "text",
        "claim": "text",
        "verdict": "text",
        "status_before": "text",
        "status_after": "text",
        "occurred_at": "instant",
        "occurred_at_believed": "boolean",
        "received_at": "instant",
        "error_code": "text",
        "error_text": "text",
        "recipient": "text",
        "evidence": "text",
        "hash": "text",
    }

    def __init__(self, built: Parts, filters: Filters) -> None:
        self._built = built
        self._filters = filters

    def total(self) -> int:
        with self._built.ledger.connect() as connection:
            row = connection.execute("SELECT sum(position)::bigint FROM partition_heads").fetchone()
        return int(row[0]) if row and row[0] else 0

    def pages(self, after: Place) -> Iterator[Page]:
        """Yield pages in the order of partitions and positions. Raises StoreUnavailable."""
        for partition in range(after.partition, self._built.ledger.partitions):
            position = after.position if partition == after.partition else 0
            while True:
                with self._built.ledger.reading() as cursor:
                    rows = cursor.execute(_EVENTS, (partition, position, PAGE)).fetchall()
                if rows:
                    position = rows[-1][0]
                    found = [record for row in rows if (record := self._record(partition, row)) is not None]
                    yield found, Place(partition, BEGIN.stream_id, position), len(rows)
                if len(rows) < PAGE:
                    break

    def _record(self, partition: int, row: Sequence[Any]) -> Record | None:
        position, stream_id, version, type_, state, recorded_at, hash_, wrapped = row
        ledger, filters = self._built.ledger, self._filters
        if filters.since is not None and recorded_at < filters.since:
            return None
        if filters.until is not None and recorded_at >= filters.until:
            return None
        key = ledger.master_key.unwrap(wrapped, stream_id) if wrapped is not None else None
        event = ledger.mapper.read(Stored(stream_id, version, type_, state), key).event
        wanted = (
            (filters.account, event.account),
            (filters.channel, event.channel),
            (filters.provider, event.provider),
        )
        if any(asked is not None and asked != told for asked, told in wanted):
            return None
        record: Record = {
            "partition": partition,
            "position": position,
            "recorded_at": recorded_at,
            "stream_id": str(stream_id),
            "version": version,
            "type": type_,
            "account": event.account,
            "provider": event.provider,
            "channel": event.channel.value,
            "received_at": event.received_at,
            "hash": bytes(hash_).hex(),
        }
        if isinstance(event, StatusObserved):
            personal = event.personal
            record |= {
                "source": event.source.value,
                "provider_status": personal.provider_status,
                "claim": event.claim.value,
                "verdict": event.verdict.value,
                "status_before": event.status_before.value,
                "status_after": event.status_after.value,
                "occurred_at": event.occurred_at,
                "occurred_at_believed": event.believed if event.occurred_at is not None else None,
                "error_code": event.error_code,
                "error_text": personal.error_text,
                "recipient": personal.recipient,
                "evidence": personal.item.decode("utf-8", "replace") if personal.item else None,
            }
        return {name: record.get(name) for name in self.types}


_MESSAGES: Final = """
SELECT c.stream_id, c.version, c.message_id, c.opened_at, c.state, k.wrapped, c.linked_to IS NOT NULL
  FROM current_status c LEFT JOIN message_keys k USING (partition, stream_id)
 WHERE {where} AND c.partition = %s AND c.stream_id > %s ORDER BY c.stream_id LIMIT %s
"""
_EVENTS: Final = b"""
SELECT e.position, e.stream_id, e.version, e.type, e.state, e.recorded_at, e.hash,
       (SELECT k.wrapped FROM message_keys k WHERE k.partition = e.partition AND k.stream_id = e.stream_id)
  FROM events e WHERE e.partition = %s AND e.position > %s ORDER BY e.position LIMIT %s
"""
