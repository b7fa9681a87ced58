"""A day in the life of an account, in a time of its own, from a seed: messages, lost callbacks, outages, faults.

Everything is real but the clock and chance: PostgreSQL, the writer, HTTP over sockets. A message's truth at the
provider moves on by itself; a callback about each step is lost, comes late or twice. In the end, and within the stated
time, the ledger must say what the provider knows, and the provider must have been asked no more than agreed.
"""

import heapq
import os
import random
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import count, pairwise
from typing import Any

from ledger.domain.observation import Source
from ledger.domain.polling import PAUSE_MIN
from tests.builders import NOON
from tests.plugins.ledger import OpenLedger
from tests.polling.provider import Twilio
from tests.polling.world import World, world

MakeWorld = Callable[..., World]

HOURS = 24
RATE = 2.0
#: From and until when the provider is down altogether, and when it wants fewer questions.
DOWN = (NOON + timedelta(hours=8), NOON + timedelta(hours=9))
BUSY = (NOON + timedelta(hours=14), NOON + timedelta(hours=14, minutes=20))
#: A failed question is asked again at most this much later, and a breaker lets nobody through for so long.
SLACK = timedelta(minutes=10)
BREAKER = timedelta(minutes=6)


class Day:
    """What happens, and when."""

    def __init__(self, world: World, seed: int, messages: int) -> None:
        self.world = world
        self.chance = random.Random(seed)
        self.happenings: list[tuple[datetime, int, Callable[[], None]]] = []
        self._number = count()
        self.final: dict[str, tuple[str, datetime, datetime]] = {}  #: status, when it came about, when sent
        self.found: dict[str, datetime] = {}
        world.server.faults = self._fault
        for number in range(messages):
            self._plan(f"SM{number:04}")

    def _at(self, when: datetime, what: Callable[[], None]) -> None:
        heapq.heappush(self.happenings, (when, next(self._number), what))

    def _plan(self, sid: str) -> None:
        """Decide what becomes of a message, and which of its callbacks come."""
        chance = self.chance
        sent_at = NOON + timedelta(hours=chance.uniform(0, HOURS - 8))
        decided_after = timedelta(
            seconds=chance.choice([2, 2, 5, 20, 90, 600, 3_600, 3 * 3_600]) * chance.uniform(1, 2)
        )
        decided_at = sent_at + decided_after
        word = chance.choices(["delivered", "undelivered", "sent"], [8, 2, 1])[0]
        code = chance.choice([30003, 30005, None]) if word == "undelivered" else None
        steps = [(sent_at, {"status": "sent"}), (decided_at, {"status": word, "error_code": code})]
        self.world.server.truth[sid] = lambda now: [told for at, told in steps if at <= now][-1]
        self._at(sent_at, lambda: self.world.hear(sid, "sent", Source.CALLBACK))
        fields = {"ErrorCode": str(code)} if code is not None else {}
        if word != "sent":
            self.final[sid] = ("DELIVERED" if word == "delivered" else "FAILED", decided_at, sent_at)
        if word == "sent" or chance.random() < 0.6:
            return  # the callback is lost
        for _ in range(chance.choice([1, 1, 2])):
            late = timedelta(seconds=chance.choice([0, 0, 1, 60, 900]))
            self._at(decided_at + late, lambda: self.world.hear(sid, word, Source.CALLBACK, **fields))

    def _fault(self, _path: str) -> str | None:
        now = self.world.clock.now
        if DOWN[0] <= now < DOWN[1]:
            return "503"
        if BUSY[0] <= now < BUSY[1]:
            self.world.server.retry_after = self.chance.choice([None, "90"])
            return self.chance.choice(["429", "429", None])
        odds = {None: 94, "500": 1, "reset": 1, "cut short": 1, "truncated": 1, "html": 1, "another": 1}
        return self.chance.choices(list(odds), list(odds.values()))[0]

    def live(self, until: datetime) -> None:
        """Let the day pass: whatever is next, a happening or a question."""
        world = self.world
        while world.clock.now < until:
            while self.happenings and self.happenings[0][0] <= world.clock.now:
                heapq.heappop(self.happenings)[2]()
            world.follow()
            rest = world.poller.round()
            self._look()
            if rest:
                world.follow()
                due = world.next_due() or until
                wake = max(world.clock.now + timedelta(seconds=min(rest, 1)), min(due, until))
                if rest > 1:
                    wake = max(wake, world.clock.now + timedelta(seconds=rest))
                following = self.happenings[0][0] if self.happenings else until
                world.clock.now = max(world.clock.now, min(wake, following, until))

    def _look(self) -> None:
        world, now = self.world, self.world.clock.now
        open_ = [sid for sid, (_, at, _) in self.final.items() if at <= now and sid not in self.found]
        if not open_:
            return
        by_stream = {world.stream(sid): sid for sid in open_}
        for loaded in world.ledger.load(by_stream):
            sid = by_stream[loaded.stream_id]
            if loaded.message.status.value == self.final[sid][0]:
                self.found[sid] = now


def overlap(begin: datetime, end: datetime, window: tuple[datetime, datetime]) -> timedelta:
    return max(timedelta(), min(end, window[1]) - max(begin, window[0]))


def lived(world: World, seed: int, messages: int = 20, hours: float = HOURS) -> Day:
    day = Day(world, seed, messages)
    day.live(NOON + timedelta(hours=hours))
    return day


def test_every_message_has_the_providers_truth_in_time_and_within_the_budget(make_world: MakeWorld) -> None:
    seed = int(os.environ.get("POLL_SEED", "1"))
    world = make_world(rate=RATE, seed=seed)

    day = lived(world, seed)

    assert_truth_in_time(day)
    assert_manners(world)
    assert_no_duplicates(world)


def assert_truth_in_time(day: Day) -> None:
    """Found after at most twice the time it took, or a minute, and what faults and outages add."""
    for sid, (status, decided_at, sent_at) in day.final.items():
        assert sid in day.found, f"{sid} is {day.world.status(sid)} and should be {status}"
        found_at = day.found[sid]
        outage = overlap(decided_at, found_at, DOWN) + overlap(decided_at, found_at, BUSY)
        stated = max(timedelta(minutes=1), decided_at - sent_at) + SLACK + outage + (BREAKER if outage else timedelta())
        asked = [(f"{at:%d %H:%M:%S}", fault) for at, _, path, fault in day.world.server.questions if sid in path]
        assert found_at - decided_at <= stated, (sid, f"sent {sent_at:%d %H:%M:%S}", f"{decided_at:%H:%M:%S}", asked)


def assert_manners(world: World) -> None:
    questions = world.server.questions
    seconds = Counter(int(question.at.timestamp()) for question in questions)
    assert max(seconds.values()) <= RATE + 1
    assert len(questions) <= 35 * len(world.server.truth)
    down = [question.at for question in questions if DOWN[0] <= question.at < DOWN[1]]
    assert len(down) <= 5 + 3600 / 30
    assert all(later - earlier >= timedelta(seconds=30) for earlier, later in pairwise(down[5:]))
    for earlier, later in pairwise(questions):
        if earlier.fault == "429":
            assert later.at - earlier.at >= timedelta(seconds=1)
    by_message: dict[str, list[Any]] = {}
    for question in questions:
        by_message.setdefault(question.reference, []).append(question)
    for asked in by_message.values():
        for earlier, later in pairwise(asked):
            assert later.at - earlier.at >= PAUSE_MIN or earlier.fault in ("429", "503")


def assert_no_duplicates(world: World) -> None:
    """No answer is on record that said nothing new."""
    for sid in world.server.truth:
        said = [(event.claim, event.error_code) for event in world.observed(sid)]
        polled = [event for event in world.observed(sid) if event.source is Source.POLL]
        for event in polled:
            claim = (event.claim, event.error_code)
            first = said.index(claim)
            assert world.observed(sid)[first].source is Source.POLL or said.count(claim) == 1, sid
        assert len(polled) <= 2, "an outcome, and a reason for it"


def test_the_same_seed_gives_the_same_day(
    template_url: str, make_database: Callable[..., str], open_ledger: OpenLedger
) -> None:
    template = template_url.rpartition("/")[2].partition("?")[0]

    def trace(seed: int) -> list[tuple[datetime, str, str | None]]:
        ledger = open_ledger(make_database(template))
        with world(ledger, Twilio, rate=RATE, seed=seed, name="one-day") as made:
            lived(made, seed, messages=8, hours=10)
            return [(question.at, question.reference, question.fault) for question in made.server.questions]

    assert trace(3) == trace(3)
