"""From a provider's name of a channel to ours, and to the transport within it.

RCS and MMS are ways to reach a phone number and belong to the channel of SMS. A name that is not ours is kept as the
transport, so that a reader sees it; the channel is then the account's.
"""

from collections.abc import Mapping
from typing import Final

from ledger.domain.status import Channel
from ledger.wire import decoding

Place = tuple[Channel | None, str | None]

#: What every provider means by these words. Adapters add their own.
COMMON: Final[Mapping[str, Place]] = {
    "sms": (Channel.SMS, None),
    "mms": (Channel.SMS, "mms"),
    "rcs": (Channel.SMS, "rcs"),
    "whatsapp": (Channel.WHATSAPP, None),
    "viber": (Channel.VIBER, None),
}
#: Characters of a name that is kept as it is.
NAME_MAX: Final = 32


def place_of(name: object, table: Mapping[str, Place] = COMMON) -> Place:
    """Return channel and transport of a name in any case; neither for what is no name."""
    if isinstance(name, str) and name in table:
        return table[name]
    word = (decoding.word(name) or "").strip().lower()
    unknown = word if 0 < len(word) <= NAME_MAX else None
    return table.get(word, (None, unknown))
