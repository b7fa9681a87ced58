"""What a person should look at: conflicts, words and codes no table knows, what could not be read, recipients whose
errors recur, events that were parked.

Everything listed is derived from the log, from captures or from counts; only what somebody has dealt with is kept. An
item that was resolved shows again once something newer happens to it.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from ledger.domain.identity import BUCKETS
from ledger.domain.status import Conflict
from ledger.store import arrays
from projections.counts import Pack
from projections.failure_reasons import recurring_recipients
from projections.feed import Logged
from projections.generations import Cursor, Generation, Table
from projections.scope import Scope, View

#: What a word's look-up value is derived as.
WORD: Final = "provider_status"
#: Of each kind, the newest.
ITEMS_MAX: Final = 200
KINDS: Final = (
    "conflict",
    "unrecognised_status",
    "unrecognised_code",
    "unreadable",
    "recurring_recipient",
    "parked_event",
)

#: Observations whose word no table knows: they are few. The word is a keyed look-up value, because what a provider
#: writes there is not ours to show without the message's key; empty once that is deleted.
WORDS: Final = Table(
    name="words",
    columns="""
        seen_at timestamptz NOT NULL, position bigint NOT NULL, stream_id uuid NOT NULL, partition smallint NOT NULL,
        account text NOT NULL, channel text NOT NULL, provider text NOT NULL, word bytea NOT NULL
    """,
    key=("partition", "position"),
    indexes=(
        "CREATE INDEX {words}_account ON {words} (account, channel, provider, word)",
        "CREATE INDEX {words}_stream ON {words} (stream_id)",
    ),
)


class Words:
    """Observations of words that no table knows, collected."""

    __slots__ = ("_forgotten", "_seen")

    def __init__(self) -> None:
        self._seen: list[tuple[Any, ...]] = []
        self._forgotten: list[UUID] = []

    def add(self, account: str, channel: str, provider: str, word: bytes, logged: Logged) -> None:
        self._seen.append((logged.recorded_at, logged.position, logged.stream_id, account, channel, provider, word))

    def forget(self, stream_id: UUID) -> None:
        """Forget which words they were: nobody can tell any more, and a rebuild could not."""
        self._forgotten.append(stream_id)

    def write(self, cursor: Cursor, generation: Generation, partition: int) -> None:
        if self._seen:
            columns = list(zip(*self._seen, strict=True))
            packs: tuple[Pack, ...] = (
                arrays.instants,
                arrays.bigints,
                arrays.uuids,
                *[arrays.texts] * 3,
                arrays.byteas,
            )
            packed = [pack(column) for pack, column in zip(packs, columns, strict=True)]
            cursor.execute(generation.sql(_ADD_WORDS), (partition, *packed), prepare=True)
        if self._forgotten:
            cursor.execute(generation.sql(_FORGET_WORDS), (arrays.uuids(self._forgotten),), prepare=True)


_ADD_WORDS: Final = """
INSERT INTO {words} (partition, seen_at, position, stream_id, account, channel, provider, word)
SELECT %s, * FROM unnest(%s, %s, %s, %s, %s, %s, %s)
"""
_FORGET_WORDS: Final = "UPDATE {words} SET word = '' WHERE stream_id = ANY(%s)"


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to look at. `item` names it for its resolution."""

    item: str
    kind: str
    what: str  #: one line
    count: int
    first_seen: datetime
    last_seen: datetime
    message_id: int | None = None  #: one it can be seen in
    provider: str | None = None
    code: str | None = None


class Placed(msgspec.Struct, frozen=True):
    """An item, and whose it is: what it is resolved by."""

    account: str
    channel: str
    item: Item


def query(view: View, scope: Scope) -> list[Placed]:
    """Return what is to be looked at, newest first. The range of the scope does not apply."""
    resolved = {
        (account, channel, item): through
        for account, channel, item, through in view.rows(
            "SELECT account, channel, item, seen_through FROM attention_resolutions"
        )
    }
    found = []
    for read in (_conflicts, _words, _codes, _unreadable, _recipients, _parked):
        for account, channel, item in list(read(view, scope)):
            through = resolved.get((account, channel, item.item)) or resolved.get((account, "", item.item))
            if through is None or item.last_seen > through:
                found.append(Placed(account, channel, item))
    return sorted(found, key=lambda placed: placed.item.last_seen, reverse=True)


Found = Iterator[tuple[str, str, Item]]


def _conflicts(view: View, scope: Scope) -> Found:
    where, parameters = scope.own("c", "account", "channel")
    rows = view.rows(
        "SELECT c.account, c.channel, c.message_id, c.provider, c.opened_at,"
        " (SELECT max(e.recorded_at) FROM events e WHERE e.partition = c.partition AND e.stream_id = c.stream_id)"
        f" FROM current_status c WHERE {where} AND c.conflict = '{Conflict.OPEN.value}' AND c.linked_to IS NULL"
        f" ORDER BY c.opened_at DESC LIMIT {ITEMS_MAX}",
        parameters,
    )
    for account, channel, message_id, provider, opened_at, last in rows:
        what = "A delivery and a failure contradict each other: decide which one counts."
        yield (
            account,
            channel,
            Item(
                item=f"conflict:{message_id}",
                kind="conflict",
                what=what,
                count=1,
                first_seen=opened_at,
                last_seen=last,
                message_id=message_id,
                provider=provider,
            ),
        )


def _words(view: View, scope: Scope) -> Found:
    where, parameters = scope.own("t", "account", "channel")
    rows = view.rows(
        "SELECT t.account, t.channel, t.provider, t.word, count(*), min(t.seen_at), max(t.seen_at),"
        " (array_agg(t.stream_id ORDER BY t.seen_at DESC, t.position DESC))[1]"
        f" FROM {{words}} t WHERE {where} AND t.word <> '' GROUP BY 1, 2, 3, 4 ORDER BY 7 DESC LIMIT {ITEMS_MAX}",
        parameters,
    )
    places = [(row, _message_of(view, row[7])) for row in list(rows)]
    for (account, channel, provider, word, count, first, last, _), message_id in places:
        yield (
            account,
            channel,
            Item(
                item=f"unrecognised_status:{provider}:{bytes(word).hex()}",
                kind="unrecognised_status",
                what="A status word that no table knows: it was recorded, and moved nothing.",
                count=count,
                first_seen=first,
                last_seen=last,
                message_id=message_id,
                provider=provider,
            ),
        )


def _message_of(view: View, stream_id: Any) -> int | None:
    found = list(
        view.rows(
            "SELECT position FROM events WHERE partition = %s AND stream_id = %s AND version = 1",
            (stream_id.bytes[0] % view.partitions, stream_id),
        )
    )
    return found[0][0] * BUCKETS + stream_id.bytes[0] if found else None


def _codes(view: View, scope: Scope) -> Found:
    where, parameters = scope.own("t", "account", "channel")
    rows = list(
        view.rows(
            "SELECT t.account, t.channel, t.provider, t.code, t.title, sum(t.failures)::bigint, max(t.hour)"
            f" FROM {{failures}} t WHERE {where} AND t.recognised = 'no' AND t.code <> ''"
            f" GROUP BY 1, 2, 3, 4, 5 ORDER BY 7 DESC LIMIT {ITEMS_MAX}",
            parameters,
        )
    )
    for account, channel, provider, code, title, count, _ in rows:
        ((first, last, message_id),) = view.rows(
            "SELECT min(f.failed_at), max(f.failed_at), (array_agg(f.message_id ORDER BY f.failed_at DESC))[1]"
            " FROM {message_facts} f WHERE f.account = %s AND f.channel = %s AND f.provider = %s"
            " AND f.category = 'unknown' AND f.code = %s AND f.title = %s AND f.failed_at IS NOT NULL",
            (account, channel, provider, code, title),
        )
        if first is not None:
            yield (
                account,
                channel,
                Item(
                    item=f"unrecognised_code:{provider}:{code}",
                    kind="unrecognised_code",
                    what="A failure code that the catalogue does not explain.",
                    count=count,
                    first_seen=first,
                    last_seen=last,
                    message_id=message_id,
                    provider=provider,
                    code=code,
                ),
            )


def _unreadable(view: View, scope: Scope) -> Found:
    where, parameters = scope.own("c", "account")
    rows = view.rows(
        "SELECT c.account, c.provider, c.reason, sum(c.times_received)::bigint, min(c.first_received_at),"
        f" max(c.last_received_at) FROM captures c WHERE {where}"
        " AND (c.reread_at IS NULL OR c.reread_at < c.last_received_at)"
        f" GROUP BY 1, 2, 3 ORDER BY 6 DESC LIMIT {ITEMS_MAX}",
        parameters,
    )
    for account, provider, reason, count, first, last in rows:
        yield (
            account,
            "",
            Item(
                item=f"unreadable:{provider}:{reason}",
                kind="unreadable",
                what=f"Kept because it could not be read: {reason}",
                count=count,
                first_seen=first,
                last_seen=last,
                provider=provider,
            ),
        )


def _recipients(view: View, scope: Scope) -> Found:
    text, parameters = recurring_recipients(view, scope)
    rows = view.rows(
        "SELECT r.account, r.channel, r.recipient, r.failures, min(f.failed_at), max(f.failed_at),"
        f" (array_agg(f.message_id ORDER BY f.failed_at DESC))[1] FROM ({text}) r JOIN {{message_facts}} f"
        " ON f.account = r.account AND f.channel = r.channel AND f.recipient = r.recipient AND f.failed_at IS NOT NULL"
        f" GROUP BY 1, 2, 3, 4 ORDER BY 6 DESC LIMIT {ITEMS_MAX}",
        parameters,
    )
    for account, channel, recipient, count, first, last, message_id in rows:
        yield (
            account,
            channel,
            Item(
                item=f"recurring_recipient:{bytes(recipient).hex()}",
                kind="recurring_recipient",
                what="Errors recur for one recipient: wrong number, wrong channel, or opted out. No outage.",
                count=count,
                first_seen=first,
                last_seen=last,
                message_id=message_id,
            ),
        )


def _parked(view: View, scope: Scope) -> Found:
    """Parked events belong to the deployment: whoever asks for one account sees that there are some, and not where."""
    rows = view.rows(
        "SELECT projection, error, count(*), min(parked_at), max(parked_at) FROM parked_events p"
        " WHERE EXISTS (SELECT FROM projection_generations g WHERE g.projection = p.projection"
        " AND g.generation = p.generation AND g.state = 'live') GROUP BY 1, 2 ORDER BY 5 DESC"
    )
    for projection, error, count, first, last in rows:
        yield (
            scope.accounts[0] if scope.accounts is not None and len(scope.accounts) == 1 else "",
            scope.channel or "",
            Item(
                item=f"parked_event:{projection}:{error}",
                kind="parked_event",
                what=f"Events that {projection} could not apply ({error}). Correct the cause, then rebuild it.",
                count=count,
                first_seen=first,
                last_seen=last,
            ),
        )
