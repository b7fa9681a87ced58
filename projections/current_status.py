"""Where each message stands: one row a stream, written in the append's own transaction, rebuilt from events.

Shape: `ledger.store.rows.StatusRow` and the table `current_status`. `row` derives the row from the folded message;
nothing in it is the only home of a fact.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, LiteralString
from uuid import UUID

import msgspec
from psycopg import sql

from ledger.domain.identity import BUCKETS, Names
from ledger.domain.message import Message
from ledger.domain.observation import Source
from ledger.domain.reading import failure, last_updated, time_of
from ledger.domain.reasons import Reason, explain
from ledger.domain.status import Conflict, Outcome, Status
from ledger.store import arrays, snapshot
from ledger.store.application import Ledger
from ledger.store.fiber import Gathering
from ledger.store.rows import NO_LOOKUP, StatusRow
from ledger.store.sealing import DataKey
from ledger.store.snapshot import Snapshot

#: What people search by; each has a keyed look-up column.
RECIPIENT: Final = "recipient"
REFERENCE: Final = "client_reference"
PROVIDER_ID: Final = "provider_message_id"


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    """A row as readers get it."""

    stream_id: UUID
    message_id: int
    version: int  #: of the stream: changes whenever anything about the message changes
    opened_at: datetime
    message: Message

    @property
    def shown_id(self) -> int:
        """The id that the sender was given: that of its own registration where one was linked later."""
        return self.message.aliases[0] if self.message.aliases else self.message_id


# Apply ----------------------------------------------------------------------------------------------------------------


def row(
    names: Names,
    message: Message,
    *,
    stream_id: UUID,
    version: int,
    first: int,
    last: int,
    key: DataKey | None,
    before: Snapshot | None = None,
) -> StatusRow:
    """Return the row that a folded message amounts to.

    `first` and `last` are the places of its events in the append (`StatusRow`). `before` is what the row holds already:
    look-ups and the sealed part are made anew only where they differ from it.
    """
    person, account = message.person, message.account
    provider_lookup = recipient_lookup = reference_lookup = None if key is not None else NO_LOOKUP
    if key is not None and (before is None or person is not before.message.person):
        provider_lookup = _provider_lookup(names, message, stream_id)
        if person.recipient:
            recipient_lookup = names.lookup(account, RECIPIENT, person.recipient)
        if person.client_reference:
            reference_lookup = names.lookup(account, REFERENCE, person.client_reference)
    updated, told_at = last_updated(message), message.evidence.first_at.get
    assert updated is not None  # noqa: S101  # a recorded message has been registered or heard of
    return StatusRow(
        stream_id=stream_id,
        first=first,
        last=last,
        last_updated=updated,
        sent_at=told_at(Status.SENT) or _at(message, Status.SENT),
        delivered_at=told_at(Status.DELIVERED) or _at(message, Status.DELIVERED),
        read_at=told_at(Status.READ) or _at(message, Status.READ),
        failed_at=told_at(Status.FAILED) or _at(message, Status.FAILED),
        linked_to=message.linked_to,
        account=account,
        provider=message.provider,
        channel=message.channel,
        status=message.status,
        conflict=message.conflict,
        failure_category=None if message.status is not Status.FAILED else _category(message),
        provider_lookup=provider_lookup,
        recipient_lookup=recipient_lookup,
        reference_lookup=reference_lookup,
        state=snapshot.encode(message, stream_id, version, key, before),
    )


def _at(message: Message, status: Status) -> datetime | None:
    instant = time_of(message, status)
    return instant.at if instant else None


def _provider_lookup(names: Names, message: Message, stream_id: UUID) -> bytes | None:
    """Return a look-up only where the stream's name does not follow from the provider's id (groups)."""
    provider_id = message.person.provider_message_id
    if not provider_id or names.stream_id(message.account, provider_id).int == stream_id.int:
        return None
    return names.lookup(message.account, PROVIDER_ID, provider_id)


def reason(message: Message) -> Reason | None:
    """Return why the message failed, classified by the catalogue; None unless it has failed."""
    failed = failure(message)
    if failed is None:
        return None
    witness = message.witnesses.get(Outcome.FAILED)
    return explain(
        provider=message.provider,
        code=failed.code or None,
        text=failed.text or None,
        kind=failed.kind,
        sender=witness is not None and witness.source is Source.SENDER,
    )


def _category(message: Message) -> str | None:
    classified = reason(message)
    return classified.category if classified else None


# Query ----------------------------------------------------------------------------------------------------------------


class Clock(msgspec.Struct, frozen=True):
    """A named clock to filter by: `opened_at` is ours at first receipt, the rest are those of the answer."""

    column: LiteralString


CLOCKS: Final[dict[str, Clock]] = {
    name: Clock(name) for name in ("opened_at", "last_updated", "sent_at", "delivered_at", "read_at", "failed_at")
}


class Filters(msgspec.Struct, frozen=True, kw_only=True):
    """What a listing is narrowed to. A key's account and channel always apply."""

    account: str
    channel: str
    status: tuple[str, ...] = ()
    provider: str | None = None
    provider_message_id: str | None = None
    client_reference: str | None = None
    recipient: str | None = None
    failure_category: str | None = None
    conflict: Conflict | None = None
    clock: Clock = CLOCKS["opened_at"]
    since: datetime | None = None  #: inclusive
    until: datetime | None = None  #: exclusive


class CurrentStatus:
    """Reads rows. Every method raises StoreUnavailable."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._gathering = Gathering(self._get)

    def get(self, message_id: int) -> Opened | None:
        """Return the message that an id was given to, wherever hand-off has taken it since."""
        opened = self._gathering.get(message_id)
        if opened is None or opened.message.linked_to is None:
            return opened
        return self.of_stream(opened.message.linked_to)

    def get_all(self, message_ids: Sequence[int]) -> list[Opened]:
        """Return those of these messages that there are, as they are, linked ones too."""
        return [opened for opened in self._get([*message_ids]) if opened is not None]

    def _get(self, message_ids: list[int]) -> list[Opened | None]:
        places = [divmod(message_id, BUCKETS) for message_id in message_ids]
        partitions = arrays.smallints([bucket % self._ledger.partitions for _, bucket in places])
        with self._ledger.reading() as cursor:
            cursor.execute(_GET, (partitions, arrays.bigints([number for number, _ in places])), prepare=True)
            rows = cursor.fetchall()
        found: list[Opened | None] = [None] * len(message_ids)
        for asked, *row in rows:
            if row[0].bytes[0] == places[asked - 1][1]:
                found[asked - 1] = self.opened(row)
        return found

    def of_stream(self, stream_id: UUID) -> Opened | None:
        with self._ledger.reading() as cursor:
            cursor.execute(_OF_STREAM, (stream_id.bytes[0] % self._ledger.partitions, stream_id))
            found = cursor.fetchone()
        return self.opened(found) if found else None

    def newest(self, filters: Filters, *, before: tuple[datetime, int] | None, limit: int) -> list[Opened]:
        """Return the newest messages first, those opened before the given place, at most `limit`."""
        conditions, parameters = self._conditions(filters)
        if before is not None:
            conditions.append(sql.SQL("(c.opened_at, c.message_id) < (%s, %s)"))
            parameters.extend(before)
        statement = sql.SQL(_LIST).format(where=sql.SQL(" AND ").join(conditions))
        with self._ledger.reading() as cursor:
            cursor.execute(statement, (*parameters, limit))
            return [self.opened(found) for found in cursor]

    def _conditions(self, filters: Filters) -> tuple[list[sql.Composable], list[Any]]:
        names, account = self._ledger.names, filters.account
        conditions: list[sql.Composable] = [
            sql.SQL("c.account = %s"),
            sql.SQL("c.channel = %s"),
            sql.SQL("c.linked_to IS NULL"),
        ]
        parameters: list[Any] = [account, filters.channel]

        def add(condition: LiteralString, *values: Any) -> None:
            conditions.append(sql.SQL(condition))
            parameters.extend(values)

        if filters.status:
            add("c.status = ANY(%s)", [*filters.status])
        if filters.provider is not None:
            add("c.provider = %s", filters.provider)
        if filters.provider_message_id is not None:
            told = filters.provider_message_id
            stream_id = names.stream_id(account, told)
            add(
                "((c.partition = %s AND c.stream_id = %s) OR c.provider_lookup = %s)",
                stream_id.bytes[0] % self._ledger.partitions,
                stream_id,
                names.lookup(account, PROVIDER_ID, told),
            )
        if filters.client_reference is not None:
            add("c.reference_lookup = %s", names.lookup(account, REFERENCE, filters.client_reference))
        if filters.recipient is not None:
            add("c.recipient_lookup = %s", names.lookup(account, RECIPIENT, filters.recipient))
        if filters.failure_category is not None:
            add("c.failure_category = %s", filters.failure_category)
        if filters.conflict is not None:
            add("c.conflict = %s", filters.conflict.value)
        column = sql.Identifier(filters.clock.column)
        for told_at, operator in ((filters.since, ">="), (filters.until, "<")):
            if told_at is not None:
                conditions.append(sql.SQL("c.{} {} %s").format(column, sql.SQL(operator)))
                parameters.append(told_at)
        return conditions, parameters

    def opened(self, found: Sequence[Any]) -> Opened:
        """Open a row of stream id, version, message id, opening time, state and wrapped key."""
        stream_id, version, message_id, opened_at, state, wrapped = found
        key = self._ledger.master_key.unwrap(wrapped, stream_id) if wrapped is not None else None
        message = self._ledger.snapshot(state, stream_id, key).message
        return Opened(stream_id=stream_id, message_id=message_id, version=version, opened_at=opened_at, message=message)


_GET: Final = b"SELECT * FROM ledger_find(%s, %s)"
_OF_STREAM: Final = b"""
SELECT c.stream_id, c.version, c.message_id, c.opened_at, c.state, k.wrapped
  FROM current_status c LEFT JOIN message_keys k USING (partition, stream_id)
 WHERE c.partition = %s AND c.stream_id = %s
"""
_LIST: Final[LiteralString] = """
SELECT c.stream_id, c.version, c.message_id, c.opened_at, c.state, k.wrapped
  FROM current_status c LEFT JOIN message_keys k USING (partition, stream_id)
 WHERE {where} ORDER BY c.opened_at DESC, c.message_id DESC LIMIT %s
"""
