"""A failure as a card: what happened, where, who puts it right, and whether another attempt makes sense, and when."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final, NamedTuple

from ledger.domain.message import Message
from ledger.domain.reasons import Reason, Retry, RetryClass, Stage
from ledger.screens.formats import span
from projections.current_status import reason

#: Where the message failed, for people.
PLACES: Final[Mapping[Stage, str]] = {
    Stage.VALIDATION: "Validation: it was refused on the sending side before any attempt",
    Stage.HANDOFF: "Our side: it could not be handed to the provider",
    Stage.PROVIDER: "The provider, or somebody behind it",
}
#: Who has to act before another attempt makes sense.
FIXERS: Final[Mapping[RetryClass, str]] = {
    RetryClass.TRANSIENT: "Nobody: this passes by itself",
    RetryClass.FIX_INPUT: "Whoever wrote the message: its text, template or number has to change",
    RetryClass.FIX_PERMISSION: "Whoever runs the account: a setting, a balance or a consent has to be settled",
    RetryClass.RECIPIENT_PERMANENT: "Nobody can: this recipient is not reachable this way",
    RetryClass.UNKNOWN: "Not known: ask the provider about the code",
}


class FailureCard(NamedTuple):
    reason: Reason
    place: str
    fixer: str
    retry: str
    retry_at: datetime | None  #: an instant that the provider named


def card(message: Message) -> FailureCard | None:
    """Return the card of a failed message; None for any other."""
    why = reason(message)
    if why is None:
        return None
    return FailureCard(why, PLACES[why.stage], FIXERS[why.retry.class_], when(why.retry), why.retry.until)


def when(retry: Retry) -> str:
    """Say when to try again."""
    return when_of(retry.class_, retry.after_seconds, retry.after_seconds_max)


def when_of(class_: RetryClass, seconds: int | None, seconds_max: int | None) -> str:
    match class_:
        case RetryClass.TRANSIENT:
            if not seconds:
                return "Now"
            return f"After {span(seconds)}" if seconds_max is None else f"In {span(seconds)} to {span(seconds_max)}"
        case RetryClass.FIX_INPUT | RetryClass.FIX_PERMISSION:
            return "Once that is done, and not before"
        case RetryClass.RECIPIENT_PERMANENT:
            return "Never this way. Another channel may work"
        case RetryClass.UNKNOWN:
            return "Not known"
