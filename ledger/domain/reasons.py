"""Why a message failed, and what to do about it: the catalogue, and the one function that reads it.

`explain` turns what a provider or the sender said (a code, a text, both or neither) into a category, a title, advice
and a retry class. It is total: what the catalogue does not know is shown raw and marked as not recognised, never
guessed. The catalogue is data in `ledger/domain/catalogue/`, read once when the module is imported; a faulty row stops
the import. Nothing here decides that a message has failed: an error code never makes a failure, only the status does.

A reason is worked out when it is read and not when it is recorded, so a better catalogue also explains old messages.
"""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from importlib import resources
from typing import Final

import msgspec

from ledger.domain.status import FailureKind

#: Changes with every change of the catalogue's data, so that a reader can tell which one explained a message.
CATALOGUE_VERSION: Final = "2026-11-25.1"
#: Longer texts are shown as they are but not compared with the known ones.
TEXT_COMPARED_CHARS_MAX: Final = 300
#: How much of an unknown code a title repeats.
CODE_SHOWN_CHARS_MAX: Final = 64
#: The code of a row that stands for "a text and no code" of its provider.
UNCODED: Final = "*"
#: Fields of the data that need no value.
MAY_BE_EMPTY: Final = frozenset({"after_seconds", "after_seconds_max"})


class Stage(StrEnum):
    """Where the message failed."""

    VALIDATION = "validation"  #: the sending side refused the request before trying
    HANDOFF = "handoff"  #: the sending side could not hand the message to the provider
    PROVIDER = "provider"  #: the provider, or somebody behind it, said no


class Category(StrEnum):
    """What is wrong."""

    RECIPIENT = "recipient"
    CHANNEL = "channel"
    ACCOUNT = "account"
    TEMPLATE = "template"
    CONTENT = "content"
    PROVIDER = "provider"
    RATE_LIMIT = "rate_limit"
    NETWORK = "network"
    UNKNOWN = "unknown"


class RetryClass(StrEnum):
    """What has to happen before another attempt makes sense."""

    TRANSIENT = "transient"  #: the same message may go through later
    FIX_INPUT = "fix_input"  #: the message, number or template has to change first
    FIX_PERMISSION = "fix_permission"  #: a person has to settle something in an account, a setting or a consent
    RECIPIENT_PERMANENT = "recipient_permanent"  #: this recipient is not reachable this way
    UNKNOWN = "unknown"  #: nothing is known about another attempt


class Retry(msgspec.Struct, frozen=True):
    class_: RetryClass = msgspec.field(name="class")
    after_seconds: int | None = None  #: wait at least this long; None unless transient
    after_seconds_max: int | None = None  #: waiting longer than this brings nothing; None where no end is known
    until: datetime | None = None  #: an instant named in the text, aware UTC; wait for the later of the two


class Reason(msgspec.Struct, frozen=True):
    stage: Stage
    category: Category
    code: str | None  #: as told, without surrounding blanks
    title: str  #: ours, one line
    text: str  #: the teller's own words, untouched; ours where there were none
    advice: str
    retry: Retry
    recognised: bool  #: False: shown raw, and worth a row in the catalogue


class _Text(msgspec.Struct, frozen=True):
    """A reason that is known by its words. `patterns` hold only those with a wildcard."""

    reason: Reason  #: as the sender tells it
    exact: tuple[str, ...]
    patterns: tuple[tuple[str, ...], ...]


def explain(*, provider: str, code: str | None, text: str | None, kind: FailureKind | None, sender: bool) -> Reason:
    """Explain one failure as told. `sender` says that the sending side told it, and not the provider."""
    said = text if text and not text.isspace() else None
    if sender:
        return _explain_sender(provider, _clean(code), said)
    if code is not None:
        known = _known(provider, code)
        if known is not None:
            return known if said is None else _worded(known, said)
    return _explain_rest(provider, _clean(code), said, kind)


def recall(provider: str, code: str | None, title: str) -> Reason:
    """Return what the catalogue says of a reason that was explained before, and of which code and title were kept.

    Its text is ours. A reason that the catalogue has lost since comes with the advice for reasons that are not known.
    """
    known = _known(provider, code) if code is not None else None
    if known is not None and known.title == title:
        return known
    return _TITLES.get(title) or Reason(Stage.PROVIDER, Category.UNKNOWN, code, title, title, *_UNKNOWN_ADVICE, False)


def _explain_sender(provider: str, code: str | None, said: str | None) -> Reason:
    """Explain what the sending side told. Its own words go before a code: its numbers overlap with the providers'."""
    words = None if said is None else _normalise(said)
    found = _EXACT.get(words) if words else None
    if found is None and code is not None:
        known = _known(provider, code)
        if known is not None:
            return _worded(known, said or known.text, Stage.HANDOFF)
        found = _LOCAL_CODES.get(code)
    if found is None and words:
        found = _search(words)
    if found is not None:
        return _recognised(found, code, said, found.stage)
    return _unrecognised(Stage.HANDOFF, code, said, None)


def _explain_rest(provider: str, code: str | None, said: str | None, kind: FailureKind | None) -> Reason:
    """Explain what a provider told without a code that we know."""
    if code is None and said is not None:
        words = _normalise(said)
        found = _EXACT.get(words) or _search(words)
        if found is not None:
            return _recognised(found, None, said, Stage.PROVIDER)
        uncoded = _CODES.get(provider, {}).get(UNCODED)
        if uncoded is not None and kind is not FailureKind.FAILED:
            return _recognised(uncoded, None, said, Stage.PROVIDER)
    return _unrecognised(Stage.PROVIDER, code, said, kind)


def _clean(code: str | None) -> str | None:
    return None if code is None else str(code).strip() or None


def _known(provider: str, code: str) -> Reason | None:
    """Look a code up as it is, then as a number in its plainest writing."""
    codes = _CODES.get(provider)
    if codes is None:
        return None
    known = codes.get(code)
    if known is None:
        plain = str(code).strip()
        number = _NUMBER.fullmatch(plain)
        known = codes.get(number[1] + number[2] if number else plain)
    return None if known is None or known.code == UNCODED else known


def _worded(known: Reason, said: str, stage: Stage = Stage.PROVIDER) -> Reason:
    return Reason(stage, known.category, known.code, known.title, said, known.advice, known.retry, True)


def _recognised(found: Reason, code: str | None, said: str | None, stage: Stage) -> Reason:
    retry, until = found.retry, None
    if said is not None and found.category is Category.RATE_LIMIT:
        until = _instant(said)
    if until is not None:
        retry = Retry(retry.class_, retry.after_seconds, retry.after_seconds_max, until)
    return Reason(stage, found.category, code, found.title, said or found.text, found.advice, retry, True)


def _unrecognised(stage: Stage, code: str | None, said: str | None, kind: FailureKind | None) -> Reason:
    if code is not None:
        shown = code if len(code) <= CODE_SHOWN_CHARS_MAX else code[:CODE_SHOWN_CHARS_MAX] + "…"
        whose = "Provider code" if stage is Stage.PROVIDER else "Code"
        title, text = f"{whose} {shown}, not in our catalogue", f"Code {shown} came without an explanation."
    elif said is not None:
        title, text = f"Reason in the {'provider' if stage is Stage.PROVIDER else 'sender'}'s own words", said
    elif stage is not Stage.PROVIDER:
        title, text = "No reason given", "The message could not be handed to the provider, and no reason was given."
    elif kind is FailureKind.UNDELIVERED:
        title, text = "No reason given", "The message was sent on and not delivered, and the provider gave no reason."
    else:
        title, text = "No reason given", "The provider reported a failure and gave no reason."
    return Reason(stage, Category.UNKNOWN, code, title, said or text, _GENERIC_ADVICE, _RETRY_UNKNOWN, False)


# Texts ----------------------------------------------------------------------------------------------------------------

_NUMBER: Final = re.compile(r"\+?(-?)0*([0-9]{1,18})(?:\.0+)?")
_INSTANT: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?(?:Z|[+-][0-9]{2}:[0-9]{2})"
)
_STRAIGHT: Final = str.maketrans("\u2018\u2019\u201c\u201d", "''\"\"")
_EDGES: Final = " .,;:!?…\"'"


def _normalise(text: str) -> str:
    """Write a text so that case, blanks, kinds of quotes and punctuation at its ends do not matter."""
    if len(text) > TEXT_COMPARED_CHARS_MAX:
        return ""
    return " ".join(text.casefold().translate(_STRAIGHT).split()).strip(_EDGES)


def _search(words: str) -> Reason | None:
    if not words:
        return None
    return next((row.reason for row in _TEXTS if any(_fits(words, parts) for parts in row.patterns)), None)


def _fits(words: str, parts: Sequence[str]) -> bool:
    """Tell whether the parts occur in this order, the first one at the start and the last one at the end."""
    first, *middle, last = parts
    if not words.startswith(first):
        return False
    at = len(first)
    for part in middle:
        at = words.find(part, at)
        if at < 0:
            return False
        at += len(part)
    return len(words) - at >= len(last) and words.endswith(last)


def _instant(text: str) -> datetime | None:
    found = _INSTANT.search(text)
    if found is None:
        return None
    try:
        return datetime.fromisoformat(found[0]).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


# Reading the data -----------------------------------------------------------------------------------------------------


def _rows(name: str) -> Iterator[dict[str, str]]:
    """Yield the rows of a data file. Raises ValueError for one with a missing, empty, untrimmed or surplus field."""
    data = resources.files("ledger.domain").joinpath("catalogue").joinpath(name).read_text(encoding="utf-8")
    header, *rows = csv.reader(data.splitlines(), strict=True)
    for row in rows:
        if len(row) != len(header):
            raise ValueError(f"{name}: {len(header)} fields expected: {row}")
        fields = dict(zip(header, row, strict=True))
        if any(cell != cell.strip() or not (cell or field in MAY_BE_EMPTY) for field, cell in fields.items()):
            raise ValueError(f"{name}: a row with an empty or untrimmed field: {row}")
        yield fields


def _read_advice() -> dict[str, tuple[str, int | None, int | None]]:
    advice: dict[str, tuple[str, int | None, int | None]] = {}
    for row in _rows("advice.csv"):
        least, most = (int(row[field]) if row[field] else None for field in ("after_seconds", "after_seconds_max"))
        if row["key"] in advice or (most is not None and (least is None or most < least)):
            raise ValueError(f"advice.csv: duplicate key or senseless wait: {row}")
        advice[row["key"]] = (row["advice"], least, most)
    return advice


def _read_reason(row: Mapping[str, str], code: str | None, stage: Stage) -> Reason:
    text, least, most = _ADVICE[row["advice"]]
    retry = Retry(RetryClass(row["retry"]), least, most)
    if (retry.class_ is RetryClass.TRANSIENT) is (least is None):
        raise ValueError(f"a wait belongs to transient reasons, and only to them: {row}")
    return Reason(stage, Category(row["category"]), code, row["title"], row["meaning"], text, retry, True)


def _read_codes() -> dict[str, dict[str, Reason]]:
    codes: dict[str, dict[str, Reason]] = {}
    for row in _rows("codes.csv"):
        known = codes.setdefault(row["provider"], {})
        for code in _spelled_out(row["code"]):
            if code in known:
                raise ValueError(f"codes.csv: {row['provider']} {code} occurs twice")
            known[code] = _read_reason(row, code, Stage.PROVIDER)
    return codes


def _read_aliases(codes: Mapping[str, dict[str, Reason]]) -> dict[str, dict[str, Reason]]:
    """Return codes for providers that pass on those of another. Codes of their own go before."""
    aliases: dict[str, dict[str, Reason]] = {}
    for row in _rows("aliases.csv"):
        if row["provider"] in aliases or row["same_as"] not in codes:
            raise ValueError(f"aliases.csv: {row['provider']} occurs twice, or {row['same_as']} has no codes")
        aliases[row["provider"]] = {**codes[row["same_as"]], **codes.get(row["provider"], {})}
    return aliases


def _spelled_out(code: str) -> Sequence[str]:
    """Return the codes that a cell stands for: itself, or all of `first-last`."""
    span = re.fullmatch(r"([0-9]+)-([0-9]+)", code)
    return [str(number) for number in range(int(span[1]), int(span[2]) + 1)] if span else [code]


def _read_texts() -> dict[str, _Text]:
    texts: dict[str, _Text] = {}
    for row in _rows("texts.csv"):
        if row["key"] in texts:
            raise ValueError(f"texts.csv: {row['key']} occurs twice")
        cells = row["patterns"].split("|")
        texts[row["key"]] = _Text(
            reason=_read_reason(row, None, Stage(row["stage"])),
            exact=tuple(_normalise(cell) for cell in cells if "*" not in cell),
            patterns=tuple(tuple(cell.split("*")) for cell in cells if "*" in cell),
        )
    return texts


def _index(rows: Sequence[_Text]) -> dict[str, Reason]:
    index: dict[str, Reason] = {}
    for row in rows:
        for words in row.exact:
            if words in index:
                raise ValueError(f"texts.csv: {words!r} occurs twice")
            index[words] = row.reason
    return index


_ADVICE: Final = _read_advice()
_OWN_CODES: Final = _read_codes()
_CODES: Final = {**_OWN_CODES, **_read_aliases(_OWN_CODES)}
_LOCAL: Final = _read_texts()
_TEXTS: Final = tuple(_LOCAL.values())
#: The keys of texts.csv are codes that a sender may use for its own failures.
_LOCAL_CODES: Final = {key: row.reason for key, row in _LOCAL.items()}
_EXACT: Final = _index(_TEXTS)
_GENERIC_ADVICE: Final = _ADVICE["unknown:unknown"][0]
_RETRY_UNKNOWN: Final = Retry(RetryClass.UNKNOWN)
_UNKNOWN_ADVICE: Final = (_GENERIC_ADVICE, _RETRY_UNKNOWN)
#: Reasons that are known by their words, or stand for a provider's failures without a code.
_TITLES: Final = {
    **{row[UNCODED].title: row[UNCODED] for row in _CODES.values() if UNCODED in row},
    **{row.reason.title: row.reason for row in _TEXTS},
}
