"""The language of the search box: `status:failed channel:sms since:1h +44 7700 900123`.

A search is words of the form `name:value`, and at most one term, which is whatever is left: an id, a phone number or a
reference. A value or a term with blanks or colons stands in quotes. What is not understood is explained, and ignored.
"""

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

import msgspec

from ledger.domain.reasons import Category
from ledger.domain.status import Channel, Conflict, Status
from ledger.http.queries import address

CHARACTERS_MAX: Final = 300
_TOKEN: Final = re.compile(
    r'(?P<name>[A-Za-z_-]{1,32}):(?:"(?P<named_quoted>[^"]*)"?|(?P<named>[^\s"]*))'
    r'|"(?P<quoted>[^"]*)"?|(?P<plain>[^\s"]+)'
)
_AGE: Final = re.compile(r"([0-9]{1,4})(s|m|min|h|d|w)")
_SECONDS: Final = {"s": 1, "m": 60, "min": 60, "h": 3_600, "d": 86_400, "w": 604_800}


class Word(NamedTuple):
    """A word of a search. A term has the name ""."""

    name: str
    value: str

    def __str__(self) -> str:
        quoted = f'"{self.value}"' if not self.value or re.search(r'[\s":]', self.value) else self.value
        return f"{self.name}:{quoted}" if self.name else quoted


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A search, understood. None and () mean that nothing was said."""

    words: tuple[Word, ...]
    term: str | None = None
    statuses: tuple[Status, ...] = ()
    channels: tuple[Channel, ...] = ()
    providers: tuple[str, ...] = ()
    accounts: tuple[str, ...] = ()
    failure_category: str | None = None
    conflict: Conflict | None = None
    since: datetime | None = None
    until: datetime | None = None
    explained: tuple[str, ...] = ()  #: what was not understood, in sentences

    def __str__(self) -> str:
        return " ".join(map(str, self.words))

    def has(self, name: str, value: str) -> bool:
        return any(word.name == name and value in word.value.lower().split(",") for word in self.words)

    def toggled(self, name: str, value: str) -> str:
        """Return the search with a word in place of others of its name, or without it if it was there."""
        kept = [word for word in self.words if word.name != name]
        if not self.has(name, value):
            kept.insert(0, Word(name, value))
        return " ".join(map(str, kept))


class NotUnderstood(ValueError):
    """A value that its word cannot have; the text says what it can."""


def parse(text: str, now: datetime) -> Asked:
    """Understand a search as far as possible. Never fails: what is wrong is in `explained`."""
    found = list(_words(text[:CHARACTERS_MAX].replace("\x00", "")))
    told: dict[str, Any] = {}
    words, explained = [], []
    for name in dict.fromkeys(word.name for word in found if word.name):
        values = [word.value for word in found if word.name == name]
        if name not in NAMES:
            explained.append(_unknown(name, values[0]))
            continue
        field, read = NAMES[name]
        value = ",".join(values)
        try:
            told[field] = read(value, now)
            words.append(Word(name, value))
        except NotUnderstood as problem:
            explained.append(f"{Word(name, value)} was left out: {problem}")
    term = " ".join(word.value for word in found if not word.name).strip()
    if term:
        words.append(Word("", term))
    return Asked(words=tuple(words), term=address(term) or None, explained=tuple(explained), **told)


def _words(text: str) -> list[Word]:
    words = []
    for match in _TOKEN.finditer(text):
        name = (match["name"] or "").lower()
        value = match["named_quoted"] or match["named"] or match["quoted"] or match["plain"] or ""
        if name and (match["named"] or "").startswith("//"):  # an address, not a word
            name, value = "", match[0]
        words.append(Word(name, value.strip()))
    return [word for word in words if word.name or word.value]


def _unknown(name: str, value: str) -> str:
    near = difflib.get_close_matches(name, NAMES, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]}:{value}?" if near and value else ""
    quoted = f'"{name}:{value}"'
    known = ", ".join(f"{each}:" for each in NAMES)
    return (
        f"{name}: is not a word of this search.{hint} It knows {known}. In quotes, {quoted} is searched for as it is."
    )


# Values ---------------------------------------------------------------------------------------------------------------


def _among(choices: Sequence[str], what: str) -> Callable[[str, datetime], tuple[str, ...]]:
    def read(text: str, _: datetime) -> tuple[str, ...]:
        told = tuple(dict.fromkeys(word.strip().lower() for word in text.split(",") if word.strip()))
        if not told or any(word not in choices for word in told):
            raise NotUnderstood(f"{what} is one of {', '.join(choices)}.")
        return told

    return read


def _names(text: str, _: datetime) -> tuple[str, ...]:
    told = tuple(dict.fromkeys(word.strip().lower() for word in text.split(",") if word.strip()))
    if not told:
        raise NotUnderstood("a name is missing.")
    return told


def _statuses(text: str, now: datetime) -> tuple[Status, ...]:
    return tuple(Status(word.upper()) for word in _among([each.lower() for each in Status], "a status")(text, now))


def _channels(text: str, now: datetime) -> tuple[Channel, ...]:
    return tuple(map(Channel, _among([*Channel], "a channel")(text, now)))


def _category(text: str, now: datetime) -> str:
    told = _among([*Category], "a category")(text, now)
    if len(told) > 1:
        raise NotUnderstood("name one category.")
    return told[0]


def _conflict(text: str, now: datetime) -> Conflict:
    return Conflict(_among([*Conflict], "a conflict")(text, now)[0])


def _instant(text: str, now: datetime) -> datetime:
    """Read an age (`30m`, `1h`, `7d`), a day or an RFC 3339 time. Days begin in UTC."""
    match = _AGE.fullmatch(text.strip().lower())
    if match is not None:
        return now - timedelta(seconds=int(match[1]) * _SECONDS[match[2]])
    try:
        at = datetime.fromisoformat(text.strip().upper())
        at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
        return at.astimezone(UTC)
    except (ValueError, OverflowError):
        raise NotUnderstood("a time is an age such as 30m, 1h or 7d, a day such as 2026-11-20, or RFC 3339.") from None


#: Every word, with the field that it fills and what reads its value.
NAMES: Final[Mapping[str, tuple[str, Callable[[str, datetime], Any]]]] = {
    "status": ("statuses", _statuses),
    "channel": ("channels", _channels),
    "provider": ("providers", _names),
    "account": ("accounts", _names),
    "category": ("failure_category", _category),
    "conflict": ("conflict", _conflict),
    "since": ("since", _instant),
    "until": ("until", _instant),
}
