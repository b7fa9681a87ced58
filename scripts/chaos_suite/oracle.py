"""What must hold of the log, looked at from outside: every event is read, and compared with what clients know."""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from threading import Event
from typing import Final
from uuid import UUID

import psycopg

from ledger.domain.events import AnyEvent, MessageLinked, MessageRegistered, StatusObserved
from ledger.domain.observation import Source
from ledger.main import Parts
from ledger.store.mapper import Stored
from projections import feed
from projections.registry import PROJECTIONS
from scripts.chaos_suite.traffic import Callback, Said

CATCH_UP_SECONDS_MAX: Final = 30.0
_NEW: Final = """
SELECT e.position, e.stream_id, e.version, e.type, e.state, k.wrapped
  FROM events e LEFT JOIN message_keys k USING (partition, stream_id) WHERE e.position > %s ORDER BY e.position
"""
_HEAD: Final = "SELECT position FROM partition_heads"
_BROKEN_STREAMS: Final = """
SELECT count(*) FROM (
    SELECT FROM events GROUP BY partition, stream_id HAVING min(version) <> 1 OR max(version) <> count(*)) broken
"""


#: Told a stream and an event of it.
Note = Callable[[UUID, AnyEvent], object]


class Log:
    """The log of a service with one partition, as far as it has been read."""

    def __init__(self, parts: Parts, url: str, note: Note = lambda _stream_id, _event: None) -> None:
        """`note` is told every event, in the order of positions."""
        self._parts, self._url, self._tell = parts, url, note
        self.names: dict[UUID, str] = {}  #: by stream, the provider's id of the message
        self.position = 0
        self.said = Counter[Said]()  #: by callbacks
        self.polled = Counter[Said]()

    def read(self) -> list[str]:
        """Read what is new; return what is wrong with it."""
        wrong = []
        with psycopg.connect(self._url) as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ  # what is written late is for next time
            for position, stream_id, version, topic, state, wrapped in connection.execute(_NEW, (self.position,)):
                if position != self.position + 1:
                    wrong.append(f"position {position} follows {self.position}")
                self.position = position
                self._note(Stored(stream_id, version, topic, bytes(state)), wrapped)
            (head,) = connection.execute(_HEAD).fetchone() or (0,)
            (broken,) = connection.execute(_BROKEN_STREAMS).fetchone() or (0,)
        if head != self.position:
            wrong.append(f"the head is {head}, and the last event {self.position}")
        if broken:
            wrong.append(f"{broken} streams have gaps in their versions")
        return wrong

    def _note(self, stored: Stored, wrapped: bytes | None) -> None:
        stream_id = stored.originator_id
        key = self._parts.ledger.master_key.unwrap(bytes(wrapped), stream_id) if wrapped is not None else None
        event = self._parts.ledger.mapper.read(stored, key).event
        self._tell(stream_id, event)
        if isinstance(event, StatusObserved | MessageRegistered | MessageLinked) and event.personal.provider_message_id:
            self.names.setdefault(stream_id, event.personal.provider_message_id)
        if isinstance(event, StatusObserved) and event.source is not Source.SENDER:
            counted = self.said if event.source is Source.CALLBACK else self.polled
            counted[Said(self.names[stream_id], event.personal.provider_status)] += 1

    def compare(self, sent: Iterable[Callback], acked: set[Said]) -> tuple[list[str], dict[str, int]]:
        """Return what is wrong with the log given what clients know, and what is only worth counting."""
        lost = acked - self.said.keys()
        twice = [said for counted in (self.said, self.polled) for said, count in counted.items() if count > 1]
        known = {said: callback for callback in sent for said in callback.says}
        strange = self.said.keys() - known.keys()
        stored = [(callback, sum(said in self.said for said in callback.says)) for callback in sent]
        halves = [callback for callback, count in stored if count not in (0, len(callback.says))]
        wrong = [f"{len(lost)} acknowledged statuses are not on record, {min(lost)} among them"] if lost else []
        wrong += [f"{len(twice)} statuses are on record more than once, {min(twice)} among them"] if twice else []
        wrong += [f"{len(halves)} requests are on record in part"] if halves else []
        wrong += (
            [f"{len(strange)} statuses are on record that nobody sent, {min(strange)} among them"] if strange else []
        )
        figures = {"lost": len(lost), "twice": len(twice), "stored, not acked": len(self.said.keys() - acked)}
        return wrong, figures


def caught_up(url: str) -> float | None:
    """Wait until every read model has come to the head; return for how long, None if it took too long."""
    begun = time.monotonic()

    def lag() -> int:
        with psycopg.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
            return max((each.lag_events for each in feed.progress(cursor, PROJECTIONS)), default=1)

    return time.monotonic() - begun if wait(lambda: lag() == 0, CATCH_UP_SECONDS_MAX) else None


def wait(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait until something is so; tell whether it came to be. A database that does not answer is one that is not."""
    until, pause = time.monotonic() + seconds, Event()
    while True:
        try:
            if condition():
                return True
        except psycopg.Error:
            pass
        if time.monotonic() > until:
            return False
        pause.wait(0.02)
