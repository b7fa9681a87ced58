"""Budgets and manners: the pace, pauses that a provider asks for, the breaker, and what comes after an outage."""

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from email.utils import format_datetime
from itertools import pairwise

import pytest

from ledger.ingest.writer import Job
from ledger.polling.client import retry_after
from tests.builders import NOON
from tests.polling.world import World

MakeWorld = Callable[..., World]


def a_campaign(world: World, messages: int, word: str = "sent") -> list[str]:
    """Send so many messages at once, whose outcome the provider does not know yet."""
    sids = [f"SM{number}" for number in range(messages)]
    for sid in sids:
        world.server.truth[sid] = {"status": word}
    world.hear_all([(sid, word, {}) for sid in sids])
    return sids


def per_second(world: World) -> Counter[int]:
    return Counter(int((question.at - NOON).total_seconds()) for question in world.server.questions)


def test_no_second_has_more_questions_than_the_rate(make_world: MakeWorld) -> None:
    world = make_world(rate=5)
    a_campaign(world, 120)

    world.pass_by(seconds=70)

    assert max(per_second(world).values()) <= 5 + 1
    assert len(world.server.questions) >= 5 * 50


def test_questions_are_evenly_paced(make_world: MakeWorld) -> None:
    world = make_world(rate=5)
    a_campaign(world, 60)

    world.pass_by(seconds=40)

    pauses = [(later.at - earlier.at).total_seconds() for earlier, later in pairwise(world.server.questions[5:])]
    assert min(pauses) >= 0.2 - 0.001


def test_the_first_questions_about_a_campaign_are_spread(make_world: MakeWorld) -> None:
    world = make_world(rate=1000)
    a_campaign(world, 600)

    world.follow()

    seconds = "extract(epoch FROM next_at - since)::integer"
    rows = world.rows(
        f"SELECT {seconds}, count(*) FROM poll_asks WHERE account = %s GROUP BY 1", world.account.name  # noqa: S608
    )  # fmt: skip
    assert min(second for second, _ in rows) >= 10
    assert max(second for second, _ in rows) <= 30
    assert max(count for _, count in rows) <= 2 * 600 / 20


@pytest.mark.parametrize("told", ["120", format_datetime(NOON + timedelta(minutes=10), usegmt=False)])
def test_nothing_is_asked_before_the_time_that_the_provider_names(make_world: MakeWorld, told: str) -> None:
    world = make_world(rate=5)
    a_campaign(world, 10)
    world.server.retry_after = told
    faults = iter(["429"])
    world.server.faults = lambda _path: next(faults, None)

    world.pass_by(minutes=20)

    first, second = world.server.questions[:2]
    pause = (second.at - first.at).total_seconds()
    least = 120 if told == "120" else (NOON + timedelta(minutes=10) - first.at).total_seconds()
    assert least <= pause <= 1.2 * least + 5


def test_a_time_to_come_back_is_counted_by_the_providers_own_clock(make_world: MakeWorld) -> None:
    world = make_world(rate=5)
    a_campaign(world, 10)
    world.server.clock_skew = timedelta(hours=5)
    world.server.retry_after = format_datetime(NOON + timedelta(hours=5, minutes=10), usegmt=False)
    faults = iter(["429"])
    world.server.faults = lambda _path: next(faults, None)

    world.pass_by(minutes=20)

    first, second = world.server.questions[:2]
    assert timedelta(minutes=9) <= second.at - first.at <= timedelta(minutes=13)


def test_a_pause_without_a_time_doubles_until_an_answer_comes(make_world: MakeWorld) -> None:
    world = make_world(rate=5)
    a_campaign(world, 10)
    faults = iter(["429"] * 6)
    world.server.faults = lambda _path: next(faults, None)

    world.pass_by(minutes=5)

    pauses = [(later.at - earlier.at).total_seconds() for earlier, later in pairwise(world.server.questions[:7])]
    for number, pause in enumerate(pauses):
        assert 2**number <= pause <= 1.2 * 2**number + 1.1


@pytest.mark.parametrize("told", ["0", format_datetime(NOON - timedelta(hours=1), usegmt=False)])
def test_a_time_to_come_back_that_is_none_pauses_as_if_nothing_had_been_told(make_world: MakeWorld, told: str) -> None:
    world = make_world(rate=5)
    a_campaign(world, 10)
    world.server.retry_after = told
    world.server.faults = lambda _path: "429"

    world.pass_by(minutes=5)

    assert len(world.server.questions) <= 10, "doubled each time, not once a second"


def test_other_pollers_know_of_a_pause_before_the_batch_has_ended(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(rate=5)
    a_campaign(world, 5)
    world.follow()
    world.clock.now += timedelta(seconds=31)
    world.server.retry_after = "60"
    world.server.faults = lambda _path: "429"
    seen: list[bool] = []
    record = world.recorder.record

    def look(jobs: Sequence[Job]) -> None:
        seen.append(world.polls.is_held_off(world.account.name, world.clock.now))
        record(jobs)

    monkeypatch.setattr(world.recorder, "record", look)
    world.poller.round()

    assert seen == [True]


@pytest.mark.parametrize("told", ["paused", "opened"])
def test_a_poller_asks_no_more_of_its_batch_once_another_was_told_to_stop(make_world: MakeWorld, told: str) -> None:
    """The other one's answer comes in between the first and the second question of this one."""
    world = make_world(rate=5)
    a_campaign(world, 10)
    world.follow()
    world.clock.now += timedelta(seconds=31)

    def another(_path: str) -> None:
        world.clock.now += timedelta(milliseconds=300)
        if len(world.server.questions) == 0:
            if told == "paused":
                world.polls.pause(world.account.name, 60)
            else:
                world.polls.tell(world.account.name, answered=0, failed=5, chance=0)

    world.server.faults = another
    world.poller.round()

    assert len(world.server.questions) == 1
    assert world.polls.claim(world.account.name, world.polling).messages == ()
    ((held,),) = world.rows("SELECT count(*) FROM poll_batches WHERE account = %s", world.account.name)
    assert held == 0, "what was not asked about is given back"


def test_a_recovery_under_a_clock_far_ahead_does_not_slow_an_account_down(make_world: MakeWorld) -> None:
    world = make_world(rate=5)
    a_campaign(world, 60)
    world.follow()
    world.clock.now += timedelta(seconds=31)
    with world.ledger.reading() as cursor:
        cursor.execute(
            "INSERT INTO poll_accounts (account, recovered_at) VALUES (%s, %s)",
            (world.account.name, world.clock.now + timedelta(days=3)),
        )

    assert len(world.polls.claim(world.account.name, world.polling).messages) == 11, "two seconds at five a second"


def test_a_throttled_message_is_not_forgotten(make_world: MakeWorld) -> None:
    world = make_world(rate=5)
    (sid,) = a_campaign(world, 1)
    world.server.truth[sid] = {"status": "delivered"}
    faults = iter(["429"] * 3)
    world.server.faults = lambda _path: next(faults, None)

    world.pass_by(minutes=2)

    assert world.status(sid) == "DELIVERED"


def test_the_breaker_opens_after_five_failures_and_lets_one_question_through_each_half_minute(
    make_world: MakeWorld,
) -> None:
    world = make_world(rate=5)
    a_campaign(world, 100)
    world.server.faults = lambda _path: "500"

    world.pass_by(hours=1)

    asked = [question.at for question in world.server.questions]
    pauses = [(later - earlier).total_seconds() for earlier, later in pairwise(asked[4:])]
    assert min(pauses) >= 30
    assert len(asked) <= 5 + 3600 / 30
    (state,) = world.polls.states([world.account.name])
    assert (state.breaker in ("open", "probing"), state.why) == (True, "status_500")


def test_the_state_of_the_breaker_is_visible_and_closes_with_the_first_answer(make_world: MakeWorld) -> None:
    world = make_world(rate=5)
    sids = a_campaign(world, 20)
    down = True
    world.server.faults = lambda _path: "503" if down else None
    world.pass_by(minutes=2)
    assert world.polls.is_open(world.account.name)
    down = False

    world.pass_by(minutes=10)

    assert not world.polls.is_open(world.account.name)
    assert set(world.server.asked) == set(sids)


def test_after_an_outage_the_rate_climbs_and_the_newest_come_first(make_world: MakeWorld) -> None:
    """Half an hour of outage, in which messages were sent all the time."""
    world = make_world(rate=5)
    world.server.faults = lambda _path: "500"
    for minute in range(30):
        sids = [f"SM{minute:02}{second:02}" for second in range(0, 60, 10)]
        for sid in sids:
            world.server.truth[sid] = {"status": "delivered"}
        world.hear_all([(sid, "sent", {}) for sid in sids])
        world.pass_by(minutes=1)
    asked_before = len(world.server.questions)
    world.server.faults = lambda _path: None
    back = world.clock.now

    world.pass_by(minutes=8)

    after = [question for question in world.server.questions[asked_before:] if question.fault is None]
    rates = Counter(int((question.at - after[0].at).total_seconds() // 10) for question in after)
    assert rates[0] <= 15, "a tenth of the rate to begin with"
    assert max(rates.values()) <= 51
    minutes = [int(question.reference[2:4]) for question in after]
    thirds = [minutes[part * len(minutes) // 3 : (part + 1) * len(minutes) // 3] for part in range(3)]
    assert sum(thirds[0]) > sum(thirds[1]) > sum(thirds[2]), "newest first"
    assert sum(later > earlier + 1 for earlier, later in pairwise(minutes)) < len(minutes) / 10
    assert all(world.status(sid) == "DELIVERED" for sid in world.server.truth)
    assert after[-1].at - back < timedelta(minutes=8)


def test_credentials_that_are_refused_stop_the_account_for_minutes(make_world: MakeWorld) -> None:
    world = make_world(rate=5)
    a_campaign(world, 20)
    world.server.faults = lambda _path: "401"

    world.pass_by(hours=1)

    asked = [question.at for question in world.server.questions]
    assert min((later - earlier).total_seconds() for earlier, later in pairwise(asked)) >= 300
    (state,) = world.polls.states([world.account.name])
    assert state.why == "status_401"


def test_a_message_that_the_provider_does_not_know_stops_nobody(make_world: MakeWorld) -> None:
    world = make_world(rate=5)
    sids = a_campaign(world, 10)
    del world.server.truth[sids[0]]

    world.pass_by(minutes=10)

    assert not world.polls.is_open(world.account.name)
    assert Counter(world.server.asked)[sids[0]] >= 3


@pytest.mark.parametrize("ahead", [timedelta(hours=3), timedelta(days=400)])
def test_a_clock_that_jumped_ahead_and_came_back_stops_nobody(make_world: MakeWorld, ahead: timedelta) -> None:
    world = make_world(rate=5)
    sids = a_campaign(world, 10)
    world.pass_by(seconds=12)
    now = world.clock.now
    world.clock.now += ahead
    world.server.faults = lambda _path: "429"
    world.poller.round()
    world.server.faults = lambda _path: None
    world.clock.now = now
    asked = len(world.server.questions)

    world.pass_by(minutes=1)

    assert len(world.server.questions) > asked
    late = a_campaign(world, 5) and sids
    assert late == sids


@pytest.mark.parametrize(
    ("told", "seconds"),
    [
        ("0", 0),
        ("7", 7),
        ("1.5", 1.5),
        ("999999", 3600),
        ("9" * 400, 3600),
        ("99999999999999.5", 3600),
        ("1.2.3", None),
        ("1e3", None),
        ("inf", None),
        ("+5", None),
        ("7, 7", None),
        ("\u0663", None),
        ("-3", None),
        ("soon", None),
        ("", None),
        (None, None),
        ("Sat, 01 Mar 2025 12:00:30 GMT", 30),
        ("Sat, 01 Mar 2025 11:00:00 GMT", 0),
        ("Saturday, 01-Mar-25 12:00:30 GMT", 30),
        ("Sat Mar  1 12:00:30 2025", 30),
        ("Sat, 01 Mar 2025 25:61:61 GMT", None),
    ],
)
def test_times_to_come_back_are_read_as_they_are_meant(told: str | None, seconds: float | None) -> None:
    assert retry_after(told, "Sat, 01 Mar 2025 12:00:00 GMT") == seconds
