"""What a history is like: drawn from its seed, printed with a failure."""

from random import Random
from typing import Final

import msgspec

from scripts.chaos_suite.simulation.store import Weather

#: Virtual seconds of the phase in which anything may fail, and at most of the one in which nothing does any more.
SAFETY_SECONDS: Final = 12.0
LIVENESS_SECONDS_MAX: Final = 180.0


class Options(msgspec.Struct, frozen=True):
    partitions: int
    webs: int
    feeds: int
    page: int  #: of the feed
    queue_max: int
    messages: int
    deliveries: int
    senders: int  #: messages that the sender registers by itself
    network_loss: float  #: of a request, and of an answer
    duplicated: float  #: chance that a request arrives again
    kills: int
    database_crashes: int
    skew_minutes: tuple[int, ...]  #: of each web process's clock
    weather: Weather


def drawn(random: Random) -> Options:
    """Draw options. Every kind of trouble is absent from many histories: some errors show only in good weather."""
    webs = random.randint(1, 3)

    def sometimes(most: float) -> float:
        return random.choice((0.0, most / 8, most / 2, most)) * random.random()

    return Options(
        partitions=random.choice((1, 1, 2, 3)),
        webs=webs,
        feeds=random.randint(1, 2),
        page=random.choice((1, 2, 3, 5, 2_000)),
        queue_max=random.choice((4, 12, 10_000)),
        messages=random.randint(1, 4),
        deliveries=random.randint(6, 24),
        senders=random.choice((0, 0, 1, 2)),
        network_loss=sometimes(0.4),
        duplicated=sometimes(0.6),
        kills=random.choice((0, 1, 2, 4)),
        database_crashes=random.choice((0, 0, 1, 2)),
        skew_minutes=tuple(random.choice((0, 0, -25, 25)) for _ in range(webs)),
        weather=Weather(
            lost=sometimes(0.15),
            refused=sometimes(0.2),
            answer_lost=sometimes(0.3),
            late=sometimes(0.2),
            slow=sometimes(0.1),
        ),
    )
