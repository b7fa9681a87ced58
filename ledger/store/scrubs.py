"""What an erasure removes besides data keys: the one place where a table that holds personal data says how it forgets.

A read model, an outbox or a cache that keeps anything of a person, sealed or not, has a `Scrub`. `ledger.main` lists
them all. A scrub runs in the transaction that deletes the keys, is given the erased messages, and tells how many rows
it changed; that number stands in the certificate. It must do nothing when it is run again.

`current_status` needs none: its row is written anew with the event that records the erasure. Captures are found by what
stands in them and are gone through apart (`captures_of`).
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import unquote_plus
from uuid import UUID

import psycopg

from ledger.domain.person import Person
from ledger.store import arrays
from ledger.store.captures import opened
from ledger.store.sealing import MasterKey, SealBroken

Cursor = psycopg.Cursor[tuple[Any, ...]]


class Erased(NamedTuple):
    """A stream whose data key is deleted."""

    partition: int
    stream_id: UUID
    message_id: int


class Scrub(NamedTuple):
    """How one table forgets."""

    name: str  #: of what is scrubbed, as the certificate shows it
    run: Callable[[Cursor, Sequence[Erased]], int]


_TOKEN: Final = re.compile(r"[0-9A-Za-z_.=+/:@-]{4,}")
_DIGITS: Final = re.compile(r"[0-9]{6,}")
#: Captures opened at once.
_PAGE: Final = 200


def needles(people: Iterable[Person]) -> frozenset[str]:
    """Return what people are known by in a request: numbers as bare digits, ids as they are."""
    found: set[str] = set()
    for person in people:
        for told in (person.recipient, person.participant, person.recipient_user_id):
            if told:
                found.add(told)
                found.update(_DIGITS.findall(told))
        found.update(told for told in (person.provider_message_id, person.client_reference) if told)
    return frozenset(told for told in found if len(told) >= 4)


def captures_of(
    cursor: Cursor, master_key: MasterKey, accounts: Sequence[str], sought: frozenset[str]
) -> Iterator[tuple[int, UUID]]:
    """Yield the captures of accounts in which any of these is named. One that cannot be opened is passed over."""
    after: tuple[int, UUID] = (-1, UUID(int=0))
    while True:
        rows = cursor.execute(_CAPTURES, (list(accounts), *after, _PAGE)).fetchall()
        for partition, capture_id, sealed, wrapped in rows:
            try:
                _, content = opened(sealed, wrapped, capture_id, master_key)
            except SealBroken:
                continue
            text = content.decode("utf-8", "replace")
            if not sought.isdisjoint(_words(text)) or not sought.isdisjoint(_words(unquote_plus(text))):
                yield partition, capture_id
        if len(rows) < _PAGE:
            return
        after = rows[-1][0], rows[-1][1]


def _words(text: str) -> Iterator[str]:
    yield from _TOKEN.findall(text)
    yield from _DIGITS.findall(text)


def delete_captures(cursor: Cursor, found: Sequence[tuple[int, UUID]]) -> int:
    places = arrays.smallints([partition for partition, _ in found]), arrays.uuids([id_ for _, id_ in found])
    return cursor.execute(_DELETE_CAPTURES, places).rowcount


_CAPTURES: Final = b"""
SELECT partition, capture_id, sealed, wrapped FROM captures
 WHERE account = ANY(%s) AND (partition, capture_id) > (%s, %s) ORDER BY partition, capture_id LIMIT %s
"""
_DELETE_CAPTURES: Final = b"""
DELETE FROM captures c USING unnest(%s, %s) AS gone (partition, capture_id)
 WHERE c.partition = gone.partition AND c.capture_id = gone.capture_id
"""
