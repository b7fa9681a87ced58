"""How values are written on pages: filters of the templates."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from jinja2 import pass_context
from jinja2.runtime import Context
from markupsafe import Markup, escape

from ledger.domain.status import Status, Verdict
from ledger.http.problems import timestamp
from ledger.surfaces.vocabulary import CHANNEL_NAMES

#: What a status is called on pages.
STATUS_WORDS: Final[Mapping[Status, str]] = {
    Status.UNKNOWN: "Unknown",
    Status.QUEUED: "Queued",
    Status.SENT: "Sent",
    Status.DELIVERED: "Delivered",
    Status.READ: "Read",
    Status.DELETED: "Deleted",
    Status.FAILED: "Failed",
}
#: What a verdict is called on pages.
VERDICT_WORDS: Final[Mapping[Verdict, str]] = {
    Verdict.ADVANCE: "Advance",
    Verdict.REPEAT: "Repeat",
    Verdict.LATE: "Late",
    Verdict.CONFLICT: "Conflict",
    Verdict.NOTE: "Note",
    Verdict.REDELIVERED: "Redelivered",
}
_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
_NOTHING: Final = "\N{EN DASH}"


def exact(at: datetime | None) -> str:
    """Write an instant to the millisecond, in UTC."""
    if at is None:
        return _NOTHING
    told = at.astimezone(UTC)
    return f"{told:%Y-%m-%d %H:%M:%S}.{told.microsecond // 1000:03d} UTC"


def span(seconds: float) -> str:
    """Write a length of time by its two largest units: `3 d 4 h`, `12 min 5 s`, `250 ms`."""
    if abs(seconds) < 1:
        return f"{seconds * 1000:.0f} ms"
    left = round(abs(seconds))
    parts: list[str] = []
    for size, unit in _UNITS:
        count, left = divmod(left, size)
        if count or parts:
            parts.append(f"{count} {unit}" if count else "")
        if len(parts) == 2:
            break
    return ("\N{MINUS SIGN}" if seconds < 0 else "") + " ".join(part for part in parts if part)


def between(later: datetime, earlier: datetime) -> str:
    return span((later - earlier).total_seconds())


def age(at: datetime, now: datetime) -> str:
    """Write how long ago an instant was, by its largest unit."""
    seconds = (now - at).total_seconds()
    if -1 < seconds < 1:
        return "now"
    size, unit = next(each for each in _UNITS if abs(seconds) >= each[0])
    told = f"{abs(seconds) // size:.0f} {unit}"
    return f"{told} ago" if seconds > 0 else f"in {told}"


@pass_context
def ago(context: Context, at: datetime | None) -> Markup:
    """Write an instant as its age, exact on hover. The page's script keeps the age true."""
    if at is None:
        return Markup(_NOTHING)  # noqa: S704  # a constant
    told = age(at, context["now"])
    return Markup('<time datetime="{}" title="{}" data-age>{}</time>').format(timestamp(at), exact(at), told)


def instant(at: datetime | None) -> Markup:
    """Write an instant in full."""
    if at is None:
        return Markup(_NOTHING)  # noqa: S704  # a constant
    return Markup('<time datetime="{}">{}</time>').format(timestamp(at), exact(at))


def number(value: float | None, digits: int = 0) -> str:
    """Write a number with thin blanks between thousands."""
    return _NOTHING if value is None else f"{value:,.{digits}f}".replace(",", "\u202f")


def share(value: float | None) -> str:
    """Write a share of one as a percentage."""
    return _NOTHING if value is None else f"{value * 100:.1f}\u202f%"


def milliseconds(value: float | None) -> str:
    """Write a duration given in milliseconds."""
    return _NOTHING if value is None else span(value / 1_000)


def status_word(status: Status | str) -> str:
    return STATUS_WORDS[Status(status)]


def verdict_word(verdict: Verdict | str) -> str:
    return VERDICT_WORDS[Verdict(verdict)]


def channel_name(channel: Any) -> str:
    return next((name for known, name in CHANNEL_NAMES.items() if known.value == channel), str(escape(channel)))


FILTERS: Final[Mapping[str, Any]] = {
    "ago": ago,
    "instant": instant,
    "exact": exact,
    "span": span,
    "milliseconds": milliseconds,
    "number": number,
    "share": share,
    "status_word": status_word,
    "verdict_word": verdict_word,
    "channel_name": channel_name,
    "timestamp": timestamp,
    "seconds": timedelta.total_seconds,
}
