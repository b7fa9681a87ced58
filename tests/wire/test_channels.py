"""Names of channels, as providers write them."""

import pytest

from ledger.domain.status import Channel
from ledger.wire import channels


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sms", (Channel.SMS, None)),
        (" WhatsApp ", (Channel.WHATSAPP, None)),
        ("VIBER", (Channel.VIBER, None)),
        ("rcs", (Channel.SMS, "rcs")),
        ("mms", (Channel.SMS, "mms")),
        ("Telegram", (None, "telegram")),
        ("x" * 33, (None, None)),
    ],
)
def test_a_name_is_a_channel_of_ours_or_kept_as_the_transport(name: str, expected: channels.Place) -> None:
    assert expected == channels.place_of(name)


@pytest.mark.parametrize("odd", [None, "", " ", 5, 1.5, True, [], {}, "a\0b"])
def test_what_is_no_name_tells_nothing(odd: object) -> None:
    assert channels.place_of(odd) == (None, None)


def test_a_table_of_ones_own_is_asked_instead() -> None:
    table = {**channels.COMMON, "viber_service": (Channel.VIBER, None)}

    assert channels.place_of("viber_service", table) == (Channel.VIBER, None)
    assert channels.place_of("viber_service") == (None, "viber_service")
