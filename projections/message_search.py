"""Searching messages of several accounts and channels at once, newest first, with bounds on what a search looks at.

Nothing is kept for it but indexes of `current_status`. A search has one of two ways:

* A **term** (a message's id, a provider's id, a phone number, a client reference) is looked up in the index of each.
* **Words** alone (status, provider, …) are looked for in the newest messages of each account and channel, merged in
  order, at most `SCANNED_MAX` of them. What lies beyond is the next page, which begins where this one stopped looking.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, LiteralString, NamedTuple
from uuid import UUID

import msgspec
from psycopg import sql

from ledger.domain.identity import BUCKETS, MESSAGE_ID_MAX
from ledger.domain.status import Conflict, Status
from ledger.store.application import Ledger
from projections.current_status import PROVIDER_ID, RECIPIENT, REFERENCE, CurrentStatus, Opened

#: Rows that a page of words may look at: some 20 ms of work.
SCANNED_MAX: Final = 20_000
#: Messages of one term that are put in order. A recipient with more of them is searched with `since:` as well.
FOUND_MAX: Final = 5_000

#: An account and a channel.
Scope = tuple[str, str]
#: Opening time and message id of the last row that was looked at.
Place = tuple[datetime, int]


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """What is looked for, within `scopes` and nowhere else."""

    scopes: tuple[Scope, ...]
    term: str | None = None  #: an id, a number as stored (`+digits`), or a reference
    statuses: tuple[Status, ...] = ()
    providers: tuple[str, ...] = ()
    failure_category: str | None = None
    conflict: Conflict | None = None
    since: datetime | None = None  #: of opening, inclusive
    until: datetime | None = None  #: exclusive


class Found(NamedTuple):
    """A page. `after` is where the next one begins, None at the end; `is_cut`: looking stopped at its bound."""

    messages: list[Opened]
    after: Place | None
    is_cut: bool


class MessageSearch:
    """Every method raises StoreUnavailable."""

    def __init__(self, ledger: Ledger, messages: CurrentStatus) -> None:
        self._ledger = ledger
        self._messages = messages

    def scopes(self) -> list[Scope]:
        """Return every account and channel that has messages: one step down the index for each."""
        with self._ledger.reading() as cursor:
            return [(account, channel) for account, channel in cursor.execute(_SCOPES)]

    def find(self, search: Search, *, before: Place | None = None, limit: int) -> Found:
        """Return the newest messages opened before a place."""
        if not search.scopes:
            return Found([], None, is_cut=False)
        statement, parameters = self.statement(search, before, limit + 1)
        with self._ledger.reading() as cursor:
            cursor.execute(statement, parameters, prepare=False)
            messages = [self._messages.opened(found) for found in cursor]
            if len(messages) > limit:
                last = messages[limit - 1]
                return Found(messages[:limit], (last.opened_at, last.message_id), is_cut=False)
            if search.term is not None:
                return Found(messages, None, is_cut=False)
            cursor.execute(*self.bound_statement(search, before), prepare=False)
            bound = cursor.fetchone()
        return Found(messages, bound and (bound[0], bound[1]), is_cut=bound is not None)

    def statement(self, search: Search, before: Place | None, limit: int) -> tuple[sql.Composed, list[Any]]:
        """Return what finds a page, and its parameters."""
        conditions, values = _filters(search)
        if search.term is not None:
            source, parameters = self._looked_up(search, search.term, before)
        else:
            source, parameters = _newest(search, before, sql.SQL(_ROW), SCANNED_MAX)
        statement = sql.SQL(_PAGE).format(source=source, where=_all(conditions))
        return statement, [*parameters, *values, limit]

    def bound_statement(self, search: Search, before: Place | None) -> tuple[sql.Composed, list[Any]]:
        """Return what finds the last row that a page of words looks at; there is none if it looks at all there are."""
        source, parameters = _newest(search, before, sql.SQL("c.opened_at, c.message_id"), SCANNED_MAX)
        return sql.SQL(_BOUND).format(source=source), [*parameters, SCANNED_MAX - 1]

    def _looked_up(self, search: Search, term: str, before: Place | None) -> tuple[sql.Composed, list[Any]]:
        """Return the rows that a term names: by id, or by the keyed look-ups that each account has for it."""
        names, partitions = self._ledger.names, self._ledger.partitions
        accounts = sorted({account for account, _ in search.scopes})
        streams = [names.stream_id(account, term) for account in accounts]
        by_id = self._by_id(term)
        if by_id is not None:
            streams.append(by_id)
        conditions, values = _bounds(search, before)
        scopes = _any_scope(search.scopes)
        return sql.SQL(_LOOKED_UP).format(where=_all([*scopes[0], *conditions])), [
            [names.lookup(account, RECIPIENT, term) for account in accounts],
            [names.lookup(account, REFERENCE, term) for account in accounts],
            [names.lookup(account, PROVIDER_ID, term) for account in accounts],
            [stream_id.bytes[0] % partitions for stream_id in streams],
            streams,
            FOUND_MAX,
            *scopes[1],
            *values,
        ]

    def _by_id(self, term: str) -> UUID | None:
        """Return the stream of a message id, wherever hand-off has taken the message."""
        if not (term.isascii() and term.isdigit()) or not BUCKETS <= int(term) <= MESSAGE_ID_MAX:
            return None
        opened = self._messages.get(int(term))
        return opened.stream_id if opened is not None else None


def _newest(
    search: Search, before: Place | None, columns: sql.Composable, count: int
) -> tuple[sql.Composed, list[Any]]:
    """Return the newest rows of every scope in one order: each read from its index, merged, no more than `count`."""
    conditions, values = _bounds(search, before)
    # What has an index of its own is looked for there, so that the rare is found however far back it lies.
    if search.statuses == (Status.FAILED,):
        conditions.append(sql.SQL("c.failed_at IS NOT NULL"))
    if search.conflict is Conflict.OPEN:
        conditions.append(sql.SQL("c.conflict = 'open'"))
    branch = sql.SQL(_BRANCH).format(columns=columns, where=_all(conditions), count=sql.Literal(count))
    branches = sql.SQL(" UNION ALL ").join([branch] * len(search.scopes))
    parameters = [value for scope in search.scopes for value in (*scope, *values)]
    return sql.SQL(_MERGED).format(branches=branches, count=sql.Literal(count)), parameters


def _bounds(search: Search, before: Place | None) -> tuple[list[sql.Composable], list[Any]]:
    """Return what bounds the walk down an index."""
    conditions: list[sql.Composable] = [sql.SQL("c.linked_to IS NULL")]
    values: list[Any] = []
    for told, condition in ((search.since, "c.opened_at >= %s"), (search.until, "c.opened_at < %s")):
        if told is not None:
            conditions.append(sql.SQL(condition))
            values.append(told)
    if before is not None:
        conditions.append(sql.SQL("(c.opened_at, c.message_id) < (%s, %s)"))
        values.extend(before)
    return conditions, values


def _filters(search: Search) -> tuple[list[sql.Composable], list[Any]]:
    """Return what is asked of every row that is looked at."""
    conditions: list[sql.Composable] = []
    values: list[Any] = []

    def add(condition: LiteralString, value: Any) -> None:
        conditions.append(sql.SQL(condition))
        values.append(value)

    if search.statuses:
        add("c.status = ANY(%s)", [status.value for status in search.statuses])
    if search.providers:
        add("c.provider = ANY(%s)", [*search.providers])
    if search.failure_category is not None:
        add("c.failure_category = %s", search.failure_category)
    if search.conflict is not None:
        add("c.conflict = %s", search.conflict.value)
    return conditions, values


def _any_scope(scopes: Sequence[Scope]) -> tuple[list[sql.Composable], list[Any]]:
    condition = sql.SQL("(c.account, c.channel) IN (SELECT * FROM unnest(%s::text[], %s::text[]))")
    return [condition], [[account for account, _ in scopes], [channel for _, channel in scopes]]


def _all(conditions: Sequence[sql.Composable]) -> sql.Composable:
    return sql.SQL(" AND ").join(conditions) if conditions else sql.SQL("true")


#: Columns of a row that a page may show or filter by.
_ROW: Final = (
    "c.partition, c.stream_id, c.version, c.message_id, c.opened_at, c.state, c.status, c.provider,"
    " c.failure_category, c.conflict"
)
#: The sub-select keeps the keys' table out of the plan until a row is shown.
_PAGE: Final[LiteralString] = """
SELECT c.stream_id, c.version, c.message_id, c.opened_at, c.state,
       (SELECT k.wrapped FROM message_keys k WHERE k.partition = c.partition AND k.stream_id = c.stream_id)
  FROM ({source}) c WHERE {where} ORDER BY c.opened_at DESC, c.message_id DESC LIMIT %s
"""
_BOUND: Final[LiteralString] = "SELECT c.opened_at, c.message_id FROM ({source}) c OFFSET %s LIMIT 1"
_MERGED: Final[LiteralString] = """
SELECT * FROM ({branches}) m ORDER BY m.opened_at DESC, m.message_id DESC LIMIT {count}
"""
#: Each branch has an order and a bound of its own: without them the planner reads it whole and sorts.
_BRANCH: Final[LiteralString] = """
(SELECT {columns} FROM current_status c WHERE c.account = %s AND c.channel = %s AND {where}
 ORDER BY c.opened_at DESC, c.message_id DESC LIMIT {count})
"""
_LOOKED_UP: Final[LiteralString] = """
WITH named AS MATERIALIZED (
    SELECT * FROM (
        SELECT partition, stream_id FROM current_status WHERE recipient_lookup = ANY(%s::bytea[])
        UNION SELECT partition, stream_id FROM current_status WHERE reference_lookup = ANY(%s::bytea[])
        UNION SELECT partition, stream_id FROM current_status WHERE provider_lookup = ANY(%s::bytea[])
        UNION SELECT * FROM unnest(%s::smallint[], %s::uuid[])
    ) n LIMIT %s
)
SELECT c.* FROM named n JOIN current_status c USING (partition, stream_id) WHERE {where}
"""
_SCOPES: Final = b"""
WITH RECURSIVE scopes AS (
    (SELECT account, channel FROM current_status WHERE linked_to IS NULL ORDER BY account, channel LIMIT 1)
    UNION ALL
    SELECT n.account, n.channel FROM scopes s CROSS JOIN LATERAL (
        SELECT c.account, c.channel FROM current_status c
         WHERE c.linked_to IS NULL AND (c.account, c.channel) > (s.account, s.channel)
         ORDER BY c.account, c.channel LIMIT 1
    ) n
)
SELECT account, channel FROM scopes
"""
