"""Erasing people's messages: what is chosen, in which order things are done, and the certificate in the end.

    1. look     the messages, with the streams that were linked to them; nothing is changed (a dry run ends here)
    2. list     the streams go on the list outside of the database, so that a restored backup can be told again
    3. forget   captures that name the person; then, batch by batch, keys, rows and read models, with an event each
    4. certify  what was done is signed

It may be stopped anywhere and done again: what is erased already is left alone.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple, Protocol, TypeVar
from uuid import UUID, uuid4

import msgspec

from ledger.domain.events import MessageErased
from ledger.domain.identity import partition
from ledger.domain.message import Message, evolve
from ledger.domain.person import Person
from ledger.domain.status import Channel
from ledger.store.application import Ledger, Loaded, StreamMoved
from ledger.store.erasing import Erasing, Erasure
from ledger.store.mapper import Entry
from ledger.store.rows import StatusRow
from ledger.store.scrubs import Erased, needles

T = TypeVar("T")

BATCH: Final = 500
_ATTEMPTS_MAX: Final = 50
#: Signs lines of text and returns the note.
Sign = Callable[[str], str]
Progress = Callable[[int, int], None]


class Project(Protocol):
    """Derives a stream's row (`projections.current_status.row`)."""

    def __call__(
        self, message: Message, *, stream_id: UUID, version: int, first: int, last: int, key: None
    ) -> StatusRow: ...


class Listed(msgspec.Struct, frozen=True, array_like=True):
    """A stream on the list of erasures: a keyed digest, and what an event of it says in the open."""

    stream_id: UUID
    account: str
    provider: str
    channel: Channel


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """An erasure as somebody has ordered it: one line of the list outside of the database."""

    erasure_id: UUID
    erased_at: datetime
    by: str
    why: str
    streams: list[Listed]


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What an erasure would erase."""

    streams: list[Listed]  #: that are not erased yet and that nothing holds
    messages: int  #: that they belong to
    erased: int  #: messages that were erased before
    held: int  #: messages that a legal hold keeps
    captures: int
    people: list[Person]  #: what captures are searched for; never shown


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What an erasure came to."""

    erasure_id: UUID
    messages: int
    streams: int
    keys: int
    captures: int
    held: int
    scrubbed: dict[str, int]
    certificate: str


class _Part(NamedTuple):
    """What one transaction came to."""

    keys: int
    lines: list[str]  #: of the certificate
    scrubbed: dict[str, int]


class Eraser:
    """Raises StoreUnavailable, StreamMoved if a message will not keep still, and OSError for the list."""

    def __init__(
        self, ledger: Ledger, erasing: Erasing, *, project: Project, list_: Path, log: str, sign: Sign
    ) -> None:
        self._ledger = ledger
        self._erasing = erasing
        self._project = project
        self._list = list_
        self._log = log
        self._sign = sign

    def look(self, leading: Sequence[UUID], person: Person | None = None) -> Found:
        """Return what erasing these messages means. `person` is who was asked for, if it was a person."""
        streams: list[Listed] = []
        people = [person] if person is not None else []
        messages = erased = held = captures = 0
        for batch in _batches(leading):
            groups = list(_groups(self._ledger, batch))
            kept = self._erasing.held([each.stream_id for told in groups for each in told])
            for told in groups:
                if all(each.key is None for each in told):
                    erased += 1
                elif not kept.isdisjoint(each.stream_id for each in told):
                    held += 1
                else:
                    messages += 1
                    people += [each.message.person for each in told]
                    streams += [_listed(each) for each in told if each.key is not None]
        accounts = self._erasing.accounts()
        captures = self._erasing.captures(accounts, needles(people), delete=False)
        return Found(streams=streams, messages=messages, erased=erased, held=held, captures=captures, people=people)

    def streams(self, leading: Sequence[UUID]) -> list[UUID]:
        """Return the streams of messages: those that speak for them, and those linked to them."""
        groups = (told for batch in _batches(leading) for told in _groups(self._ledger, batch))
        return [each.stream_id for told in groups for each in told]

    def erase(self, found: Found, *, by: str, why: str, progress: Progress = lambda _done, _all: None) -> Outcome:
        order = Order(erasure_id=uuid4(), erased_at=datetime.now(UTC), by=by, why=why, streams=found.streams)
        append(self._list, order)
        captures = self._erasing.captures(self._erasing.accounts(), needles(found.people), delete=True)
        return self._carry_out(order, captures, found.messages, found.held, progress)

    def missing(self) -> list[Order]:
        """Return orders on the list of which the database has no certificate: it was restored, or one was broken off.

        Raises OSError and msgspec.DecodeError for a list that cannot be read.
        """
        known = {erasure.erasure_id for erasure in self._erasing.all()}
        return [order for order in orders(self._list) if order.erasure_id not in known]

    def replay(self, order: Order, progress: Progress = lambda _done, _all: None) -> Outcome | None:
        """Carry out an erasure again, on a database that may not know of it; None if nothing is left to do."""
        known = {erasure.erasure_id for erasure in self._erasing.all()}
        if order.erasure_id in known and not self._to_do(order.streams):
            return None
        return self._carry_out(order, 0, 0, 0, progress)

    def _to_do(self, streams: Sequence[Listed]) -> bool:
        loaded = (each for batch in _batches(streams) for each in self._ledger.load([told.stream_id for told in batch]))
        return any(each.key is not None for each in loaded)

    def _carry_out(self, order: Order, captures: int, messages: int, held: int, progress: Progress) -> Outcome:
        lines: list[str] = []
        scrubbed: dict[str, int] = {}
        keys = done = 0
        for batch in _batches(order.streams):
            for part in self._batch(order, batch):
                keys += part.keys
                lines += part.lines
                for name, count in part.scrubbed.items():
                    scrubbed[name] = scrubbed.get(name, 0) + count
            done += len(batch)
            progress(done, len(order.streams))
        certificate = self._sign(
            _certificate(self._log, order, {"keys deleted": keys, "captures deleted": captures, **scrubbed}, lines)
        )
        self._erasing.keep(Erasure(order.erasure_id, order.erased_at, order.by, order.why, len(lines), certificate))
        return Outcome(
            erasure_id=order.erasure_id,
            messages=messages,
            streams=len(lines),
            keys=keys,
            captures=captures,
            held=held,
            scrubbed=scrubbed,
            certificate=certificate,
        )

    def _batch(self, order: Order, batch: Sequence[Listed]) -> Iterator[_Part]:
        """Erase what of a batch is still to be erased. One of which a message has moved on is halved."""
        attempts = 0
        while True:
            try:
                part = self._attempt(order, batch)
            except StreamMoved:
                attempts += 1
                if attempts >= _ATTEMPTS_MAX:
                    raise
                if len(batch) > 1:
                    middle = len(batch) // 2
                    yield from self._batch(order, batch[:middle])
                    batch = batch[middle:]
                continue
            if part is not None:
                yield part
            return

    def _attempt(self, order: Order, batch: Sequence[Listed]) -> _Part | None:
        partitions = self._ledger.partitions
        by_id = {told.stream_id: told for told in batch}
        held = self._erasing.held(list(by_id))
        wanted = [each for each in self._ledger.load(by_id) if each.key is not None and each.stream_id not in held]
        if not wanted:
            return None
        wanted.sort(key=lambda each: partition(each.stream_id, partitions))
        entries: list[Entry] = []
        rows: list[StatusRow] = []
        for index, each in enumerate(wanted, start=1):
            told, version = by_id[each.stream_id], each.version + 1
            event = MessageErased(
                account=told.account,
                provider=told.provider,
                channel=told.channel,
                erasure=order.erasure_id.bytes,
                by=order.by,
                why=order.why,
                received_at=order.erased_at,
            )
            entries.append(Entry(each.stream_id, version, event, None))
            # A stream that this database never heard of is opened by its erasure: what comes later stays erased.
            rows.append(
                self._project(
                    evolve(each.message, event),
                    stream_id=each.stream_id,
                    version=version,
                    first=0 if each.version else index,
                    last=index,
                    key=None,
                )
            )
        ids = self._erasing.message_ids([each.stream_id for each in wanted])
        erased = [
            Erased(partition(each.stream_id, partitions), each.stream_id, ids.get(each.stream_id, 0)) for each in wanted
        ]
        written = self._erasing.write(entries, rows, erased)
        lines = [
            f"event p{gone.partition} {position >> 8 if partitions > 1 else position} {gone.stream_id} {hash_.hex()}"
            for gone, position, hash_ in zip(erased, written.positions, written.hashes, strict=True)
        ]
        return _Part(written.keys, lines, written.scrubbed)


def _groups(ledger: Ledger, leading: Sequence[UUID]) -> Iterator[list[Loaded]]:
    """Yield each message's streams: the one that speaks for it, then those of the sender that were linked to it."""
    loaded = [each for each in ledger.load(leading) if each.version]
    links = {link for each in loaded for link in each.message.links}
    others = {each.stream_id: each for each in ledger.load(links)} if links else {}
    for each in loaded:
        yield [each, *(others[link] for link in each.message.links)]


def _listed(loaded: Loaded) -> Listed:
    message = loaded.message
    return Listed(loaded.stream_id, message.account, message.provider, message.channel)


def _batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for at in range(0, len(items), BATCH):
        yield items[at : at + BATCH]


def _certificate(log: str, order: Order, counts: Mapping[str, int], events: Sequence[str]) -> str:
    lines = [
        "status-ledger erasure certificate v1",
        f"log {log}",
        f"erasure {order.erasure_id}",
        f"time {order.erased_at.isoformat().replace('+00:00', 'Z')}",
        f"by {order.by}",
        f"why {order.why}",
        f"streams {len(events)}",
        *(f"{name} {count}" for name, count in counts.items()),
        *events,
    ]
    return "\n".join(lines) + "\n"


# The list outside of the database -------------------------------------------------------------------------------------


def append(list_: Path, order: Order) -> None:
    """Write an order down before it is carried out. Raises OSError."""
    list_.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(list_, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        line = msgspec.json.encode(order) + b"\n"
        if os.write(descriptor, line) != len(line):
            raise OSError("an erasure was not written down whole")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def orders(list_: Path) -> list[Order]:
    """Return every erasure on the list. Raises OSError, and msgspec.DecodeError for a line that is none.

    A last line without its end was cut short by a crash before anything was done.
    """
    if not list_.exists():
        return []
    lines = list_.read_bytes().split(b"\n")[:-1]
    return [msgspec.json.decode(line, type=Order) for line in lines if line]
