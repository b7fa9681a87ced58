"""The projection behind the reports: facts of every message, and counts of what they amount to.

Read models that count the same messages are derived together: one reading of an event, one row of facts, and a change
to whatever the message counts for. What each of them counts is in its own file (`delivery`, `failure_reasons`,
`latency`, `stuck`, `attention`), beside its shape and its query.
"""

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

import msgspec

from ledger.domain.events import AnyEvent, MessageErased, MessageLinked, StatusCorrected, StatusObserved
from ledger.domain.identity import BUCKETS, partition
from ledger.domain.observation import Source
from ledger.domain.reasons import CATALOGUE_VERSION
from ledger.domain.status import Status
from ledger.store import arrays
from ledger.store.application import Ledger
from projections import attention, delivery, failure_reasons, latency, stuck
from projections.counts import Counts, Pack, Sketches, hour_of
from projections.current_status import RECIPIENT
from projections.facts import NOTHING_TOLD, Facts, Told, fold, join, opened
from projections.feed import Logged, keys_of
from projections.generations import Cursor, Generation, Table

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Facts).decode
FACTS: Final = Table(
    name="message_facts",
    columns="""
        silent_since timestamptz, failed_at timestamptz, message_id bigint NOT NULL, stream_id uuid NOT NULL,
        partition smallint NOT NULL, account text NOT NULL, channel text NOT NULL, provider text NOT NULL,
        category text, code text, title text, recipient bytea, state bytea NOT NULL
    """,
    key=("partition", "stream_id"),
    indexes=(
        "CREATE INDEX {message_facts}_silent ON {message_facts} (account, channel, silent_since, message_id)"
        " WHERE silent_since IS NOT NULL",
        "CREATE INDEX {message_facts}_failed ON {message_facts} (account, channel, provider, category, code, title,"
        " failed_at) WHERE failed_at IS NOT NULL",
        "CREATE INDEX {message_facts}_recipient ON {message_facts} (account, channel, recipient, failed_at)"
        " WHERE failed_at IS NOT NULL",
    ),
    fillfactor=70,
    show={"state": lambda state: msgspec.to_builtins(msgspec.structs.asdict(_decode(state)))},
)


class Reports:
    """The projection: see `projections.feed.Projection`."""

    name = "reports"
    shape = 1
    rules = CATALOGUE_VERSION
    tables: Sequence[Table] = (
        FACTS,
        delivery.SHAPE.table,
        delivery.DAYS.table,
        failure_reasons.SHAPE.table,
        failure_reasons.RECIPIENTS.table,
        latency.SHAPE.table,
        latency.DAYS.table,
        stuck.SHAPE.table,
        attention.WORDS,
    )

    def work(self, ledger: Ledger, cursor: Cursor, generation: Generation) -> "ReportsWork":
        return ReportsWork(ledger, cursor, generation)


class _Sheet:
    """A message while a page is applied: its facts, and what it counted for before."""

    __slots__ = ("before", "facts", "partition", "stream_id")

    def __init__(self, stream_id: UUID, partition_: int, facts: Facts, *, counts: bool) -> None:
        self.stream_id = stream_id
        self.partition = partition_
        self.facts = facts
        self.before = msgspec.structs.replace(facts) if counts else None  # what it refers to is never changed in place


class ReportsWork:
    """See `projections.feed.Work`."""

    def __init__(self, ledger: Ledger, cursor: Cursor, generation: Generation) -> None:
        self._ledger = ledger
        self._cursor = cursor
        self._generation = generation
        self._partition: int | None = None
        self._delivery, self._failures, self._recipients, self._silence = Counts(), Counts(), Counts(), Counts()
        self._latency = Sketches()
        self._words = attention.Words()

    def take(self, events: Sequence[Logged]) -> None:
        self._partition = events[0].partition
        sheets = self._load(events)
        keys = keys_of(
            self._cursor, self._partition, {logged.stream_id for logged in events if self._is_sealed(logged)}
        )
        for logged in events:
            event, told = self._read(logged, keys.get(logged.stream_id))
            sheet = sheets.get(logged.stream_id)
            if sheet is None:
                message_id = logged.position * BUCKETS + logged.stream_id.bytes[0]
                sheet = _Sheet(logged.stream_id, logged.partition, opened(event, message_id), counts=False)
                sheets[logged.stream_id] = sheet
            fold(sheet.facts, event, told, logged.recorded_at)
            if isinstance(event, MessageLinked) and event.leads:
                self._join(sheet.facts, event.other)
            elif isinstance(event, StatusObserved):
                self._observed(event, logged)
            elif isinstance(event, MessageErased):
                self._words.forget(logged.stream_id)
        for sheet in sheets.values():
            self._count(sheet)
        self._keep(list(sheets.values()))

    def finish(self) -> None:
        if self._partition is None:
            return
        cursor, generation, part = self._cursor, self._generation, self._partition
        # A rebuild's processes fill the same rows: one at a time.
        cursor.execute(b"SELECT pg_advisory_xact_lock(%s, %s)", (generation.number, part), prepare=True)
        delivery.SHAPE.write(cursor, generation, part, self._delivery)
        delivery.DAYS.write(cursor, generation, part, self._delivery.by_day())
        failure_reasons.SHAPE.write(cursor, generation, part, self._failures)
        failure_reasons.RECIPIENTS.write(cursor, generation, part, self._recipients)
        stuck.SHAPE.write(cursor, generation, part, self._silence)
        latency.SHAPE.write(cursor, generation, part, self._latency)
        latency.DAYS.write(cursor, generation, part, self._latency.by_day())
        self._words.write(cursor, generation, part)

    # Reading ----------------------------------------------------------------------------------------------------------

    def _load(self, events: Sequence[Logged]) -> dict[UUID, _Sheet]:
        """Return what is known of the page's messages, less those that begin in it."""
        part = events[0].partition
        begun = {logged.stream_id for logged in events if logged.version == 1}
        known = list({logged.stream_id for logged in events} - begun)
        if not known:
            return {}
        self._cursor.execute(self._generation.sql(_LOAD), (arrays.uuids(known), part), prepare=True)
        return {
            stream_id: _Sheet(stream_id, part, _decode(state), counts=True)
            for stream_id, state in self._cursor.fetchall()
        }

    def _is_sealed(self, logged: Logged) -> bool:
        """Tell whether something that matters here may be in an event's sealed part."""
        return logged.version == 1 or not _tells_nothing(logged.event(self._ledger))

    def _read(self, logged: Logged, wrapped: bytes | None) -> tuple[AnyEvent, Told]:
        """Open an event, and what is personal in it where it tells of the recipient or of a failure."""
        ledger = self._ledger
        if wrapped is None or not self._is_sealed(logged):
            return logged.event(ledger), NOTHING_TOLD
        event = logged.unsealed(ledger, wrapped)
        personal: Any = getattr(event, "personal", None)
        if personal is None:
            return event, NOTHING_TOLD
        recipient = ledger.names.lookup(event.account, RECIPIENT, personal.recipient) if personal.recipient else b""
        return event, Told(recipient, personal.error_text if isinstance(event, StatusObserved) else None)

    def _join(self, facts: Facts, other: UUID) -> None:
        """Join the sender's stream, which ends with the hand-off: it is on record whole."""
        part = partition(other, self._ledger.partitions)
        self._cursor.execute(_STREAM, (part, other), prepare=True)
        theirs: Facts | None = None
        for position, version, type_, state, recorded_at, wrapped in self._cursor.fetchall():
            event, told = self._read(Logged(part, position, other, version, type_, state, recorded_at), wrapped)
            if theirs is None:
                theirs = opened(event, position * BUCKETS + other.bytes[0])
            fold(theirs, event, told, recorded_at)
        if theirs is not None:
            join(facts, theirs)

    # Counting ---------------------------------------------------------------------------------------------------------

    def _observed(self, event: StatusObserved, logged: Logged) -> None:
        """Count what counts by the report and not by the message."""
        if event.source is Source.CALLBACK and event.occurred_at is not None:
            origin = (event.account, event.channel.value, event.provider)
            self._latency.add((hour_of(event.received_at), *origin, "", latency.CALLBACK), latency.delay(event))
        if not event.recognised:
            told = event.personal.provider_status  # empty if the key is gone
            word = self._ledger.names.lookup(event.account, attention.WORD, told) if told else b""
            self._words.add(event.account, event.channel.value, event.provider, word, logged)

    def _count(self, sheet: _Sheet) -> None:
        if sheet.before is not None:
            self._add(sheet.before, -1)
        self._add(sheet.facts, 1)

    def _add(self, facts: Facts, sign: int) -> None:
        if facts.linked:
            return
        origin = (facts.account, facts.channel, facts.provider, facts.country)
        cell = (hour_of(facts.born_at), *origin)
        self._delivery.add(cell, delivery.counted(facts), sign)
        for measure, bucket in latency.measured(facts):
            self._latency.add((*cell, measure), bucket, sign)
        failed = facts.failure
        if failed is not None:
            reason = failed.reason
            self._failures.add(
                (hour_of(failed.received_at), *origin, reason.stage, reason.category, reason.code, reason.title,
                 "yes" if reason.recognised else "no"),
                (1,),
                sign,
            )  # fmt: skip
            if facts.recipient and failure_reasons.is_about_recipients(reason):
                self._recipients.add((facts.account, facts.channel, facts.recipient), (1,), sign)
        slot = stuck.slot(facts)
        if slot is not None:
            closed = "yes" if facts.closed else "no"
            self._silence.add((slot, *origin, facts.status.value, closed), (1,), sign)

    # Writing ----------------------------------------------------------------------------------------------------------

    def _keep(self, sheets: list[_Sheet]) -> None:
        rows = [_row(sheet) for sheet in sheets]
        columns = list(zip(*rows, strict=True))
        packed = [pack(column) for pack, column in zip(_PACKS, columns, strict=True)]
        self._cursor.execute(self._generation.sql(_KEEP), packed, prepare=True)


def _tells_nothing(event: AnyEvent) -> bool:
    """Tell whether nothing that matters here can be in an event's sealed part: no recipient, no text, no word."""
    if not isinstance(event, StatusObserved):
        return isinstance(event, StatusCorrected)
    return event.country is None and event.claim is not Status.FAILED and event.recognised


def _row(sheet: _Sheet) -> tuple[Any, ...]:
    facts = sheet.facts
    failed = None if facts.linked else facts.failure
    reason = failed.reason if failed else None
    return (
        None if facts.linked or not stuck.is_open(facts) else facts.last_heard_at,
        failed.received_at if failed else None,
        facts.message_id,
        sheet.stream_id,
        sheet.partition,
        facts.account,
        facts.channel,
        facts.provider,
        reason.category if reason else None,
        reason.code if reason else None,
        reason.title if reason else None,
        facts.recipient if failed and reason and failure_reasons.is_about_recipients(reason) else None,
        _encode(facts),
    )


_PACKS: Final[tuple[Pack, ...]] = (
    arrays.instants,
    arrays.instants,
    arrays.bigints,
    arrays.uuids,
    arrays.smallints,
    arrays.texts,
    arrays.texts,
    arrays.texts,
    arrays.texts,
    arrays.texts,
    arrays.texts,
    arrays.byteas,
    arrays.byteas,
)
#: `LATERAL` and `LIMIT` leave the planner one way: from the streams to their rows.
_LOAD: Final = """
SELECT f.stream_id, f.state FROM unnest(%s) AS n (stream_id)
 CROSS JOIN LATERAL (SELECT * FROM {message_facts} f WHERE f.partition = %s AND f.stream_id = n.stream_id LIMIT 1) f
"""
_STREAM: Final = b"""
SELECT e.position, e.version, e.type, e.state, e.recorded_at, k.wrapped
  FROM events e LEFT JOIN message_keys k USING (partition, stream_id)
 WHERE e.partition = %s AND e.stream_id = %s ORDER BY e.version
"""
_KEEP: Final = """
INSERT INTO {message_facts} AS f (silent_since, failed_at, message_id, stream_id, partition, account, channel, provider,
                                  category, code, title, recipient, state)
SELECT * FROM unnest(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (partition, stream_id) DO UPDATE SET
    silent_since = excluded.silent_since, failed_at = excluded.failed_at, account = excluded.account,
    channel = excluded.channel, provider = excluded.provider, category = excluded.category, code = excluded.code,
    title = excluded.title, recipient = excluded.recipient, state = excluded.state
"""
