"""Which messages belong to a conversation of the sender's support desk, and to a contact: what an inbox shows.

A conversation's id is the sender's own and sealed with the message; what is kept here is its keyed look-up, and it goes
when the message's key goes. A contact is found by the number that was written to, which `current_status` knows.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from ledger.domain.events import MessageLinked, MessageRegistered
from ledger.store import arrays
from ledger.store.application import Ledger
from projections import generations
from projections.current_status import RECIPIENT, CurrentStatus, Opened
from projections.feed import Logged, keys_of
from projections.generations import Cursor, Generation, Table

CONVERSATION: Final = "conversation_id"
_TELLING: Final = ("registered.v1", "linked.v1")
_ERASED: Final = "erased.v1"


class Conversations:
    """The projection: see `projections.feed.Projection`. The first conversation that a message is told of stays its."""

    name = "conversations"
    shape = 1
    rules = "1"
    tables: Sequence[Table] = (
        Table(
            name="conversation_messages",
            columns="stream_id uuid NOT NULL, partition smallint NOT NULL, lookup bytea NOT NULL",
            key=("partition", "stream_id"),
            indexes=("CREATE INDEX {conversation_messages}_lookup ON {conversation_messages} (lookup)",),
        ),
    )

    def work(self, ledger: Ledger, cursor: Cursor, generation: Generation) -> "ConversationsWork":
        return ConversationsWork(ledger, cursor, generation)


class ConversationsWork:
    """See `projections.feed.Work`."""

    def __init__(self, ledger: Ledger, cursor: Cursor, generation: Generation) -> None:
        self._ledger = ledger
        self._cursor = cursor
        self._generation = generation
        self._partition: int | None = None
        self._lookups: dict[UUID, bytes] = {}
        self._erased: set[UUID] = set()

    def take(self, events: Sequence[Logged]) -> None:
        self._partition = events[0].partition
        telling = [logged for logged in events if logged.type in _TELLING and logged.stream_id not in self._lookups]
        keys = keys_of(self._cursor, self._partition, {logged.stream_id for logged in telling})
        for logged in telling:
            lookup = self._lookup(logged, keys.get(logged.stream_id))
            if lookup is not None:
                self._lookups.setdefault(logged.stream_id, lookup)
        self._erased.update(logged.stream_id for logged in events if logged.type == _ERASED)

    def finish(self) -> None:
        if self._partition is None:
            return
        told = {stream: lookup for stream, lookup in self._lookups.items() if stream not in self._erased}
        if told:
            columns = (arrays.uuids([*told]), arrays.byteas([*told.values()]))
            self._cursor.execute(self._generation.sql(_ADD), (self._partition, *columns), prepare=True)
        if self._erased:
            erased = (self._partition, arrays.uuids([*self._erased]))
            self._cursor.execute(self._generation.sql(_ERASE), erased, prepare=True)

    def _lookup(self, logged: Logged, wrapped: bytes | None) -> bytes | None:
        event = logged.unsealed(self._ledger, wrapped)
        if not isinstance(event, MessageRegistered | MessageLinked) or event.personal.conversation_id is None:
            return None
        return self._ledger.names.lookup(event.account, CONVERSATION, event.personal.conversation_id)


class SentMessages:
    """Finds the messages of a conversation or a contact, over several accounts. Raises StoreUnavailable."""

    _projection: Final = Conversations()

    def __init__(self, ledger: Ledger, messages: CurrentStatus) -> None:
        self._ledger = ledger
        self._messages = messages

    def newest(
        self,
        accounts: Sequence[str],
        *,
        conversation_id: str | None,
        recipient: str | None,
        before: tuple[datetime, int] | None,
        limit: int,
    ) -> list[Opened]:
        """Return messages of these accounts that are of the conversation or went to the recipient, newest first."""
        lookup = self._ledger.names.lookup
        contacts = [lookup(account, RECIPIENT, recipient) for account in accounts] if recipient else []
        talks = [lookup(account, CONVERSATION, conversation_id) for account in accounts] if conversation_id else []
        with self._ledger.reading() as cursor:
            generation = generations.live(cursor, self._projection) if talks else None
            streams = _BY_CONTACT if generation is None else _BY_CONVERSATION + " UNION " + _BY_CONTACT
            statement = f"WITH streams AS ({streams}) {_NEWEST}"
            parameters: dict[str, Any] = {
                "talks": talks,
                "contacts": contacts,
                "accounts": [*accounts],
                "partitions": self._ledger.partitions,
                "opened_at": before[0] if before else None,
                "message_id": before[1] if before else None,
                "limit": limit,
            }
            generation = generation or Generation(self._projection.name, 0)
            rows = cursor.execute(generation.sql(statement), parameters).fetchall()
        return [self._messages.opened(row) for row in rows]


_ADD: Final = """
INSERT INTO {conversation_messages} (stream_id, lookup, partition)
SELECT told.stream_id, told.lookup, %s FROM unnest(%s, %s) AS told (stream_id, lookup)
    ON CONFLICT DO NOTHING
"""
_ERASE: Final = "DELETE FROM {conversation_messages} WHERE partition = %s AND stream_id = ANY(%s)"
#: A message that was handed off is spoken for by the stream it is linked to.
_BY_CONVERSATION: Final = """
SELECT coalesce(c.linked_to, c.stream_id) AS stream_id
  FROM {conversation_messages} m
 CROSS JOIN LATERAL (SELECT * FROM current_status c WHERE c.partition = m.partition AND c.stream_id = m.stream_id
                      LIMIT 1) c
 WHERE m.lookup = ANY(%(talks)s)
"""
_BY_CONTACT: Final = """
SELECT c.stream_id FROM current_status c WHERE c.recipient_lookup = ANY(%(contacts)s) AND c.linked_to IS NULL
"""
_NEWEST: Final = """
SELECT c.stream_id, c.version, c.message_id, c.opened_at, c.state, k.wrapped
  FROM streams s
 CROSS JOIN LATERAL (SELECT * FROM current_status c
                      WHERE c.partition = get_byte(uuid_send(s.stream_id), 0) %% %(partitions)s
                        AND c.stream_id = s.stream_id LIMIT 1) c
  LEFT JOIN LATERAL (SELECT k.wrapped FROM message_keys k
                      WHERE k.partition = c.partition AND k.stream_id = c.stream_id LIMIT 1) k ON true
 WHERE c.account = ANY(%(accounts)s) AND c.linked_to IS NULL
   AND (%(opened_at)s::timestamptz IS NULL OR (c.opened_at, c.message_id) < (%(opened_at)s, %(message_id)s::bigint))
 ORDER BY c.opened_at DESC, c.message_id DESC LIMIT %(limit)s
"""
