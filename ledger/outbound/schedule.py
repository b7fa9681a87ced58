"""When something that failed is tried again.

The pauses are those that the Standard Webhooks specification gives as its example: ten attempts in a little over three
days. Each is drawn from a fifth below to a fifth above, so that what failed together does not come back together.
"""

import random
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

#: Seconds after the first attempt, after the second, and so on.
PAUSES: Final = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
ATTEMPTS_MAX: Final = len(PAUSES) + 1
_JITTER: Final = 0.2
#: Nobody makes us wait longer than the longest of our own pauses.
RETRY_AFTER_SECONDS_MAX: Final = 86_400.0

Draw = Callable[[float, float], float]


def next_try(tries: int, retry_after: float | None = None, draw: Draw = random.uniform) -> float | None:
    """Return after how many seconds to try again when `tries` attempts have been made; None: no more.

    A receiver that says when to come back is not asked sooner.
    """
    if tries >= ATTEMPTS_MAX:
        return None
    pause = PAUSES[tries - 1] * draw(1 - _JITTER, 1 + _JITTER)
    return max(pause, retry_after or 0.0)


def retry_after(told: str | None, now: datetime) -> float | None:
    """Return the seconds that a Retry-After header asks for, as a number or as a date; None if it says nothing."""
    if told is None:
        return None
    text = told.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), RETRY_AFTER_SECONDS_MAX)
    try:
        at = parsedate_to_datetime(text)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return min(max(0.0, (at - now).total_seconds()), RETRY_AFTER_SECONDS_MAX)
