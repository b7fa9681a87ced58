"""The list of messages, walked from one end to the other."""

from collections.abc import Callable
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest

from ledger.domain.observation import Source
from tests.builders import NOON
from tests.polling.world import World

MakeWorld = Callable[..., World]


def walk(world: World, steps: int = 100) -> int:
    """Walk the list to its end and return how many pages were read."""
    before = len(world.server.questions)
    assert world.walker is not None
    for _ in range(steps):
        if not world.walker.step():
            break
    return len(world.server.questions) - before


def due(world: World) -> None:
    """Let a poller begin, and a walk be due."""
    world.polls.start(world.account.name, 120)
    world.clock.now += timedelta(days=1, minutes=1)


def test_a_list_is_read_a_page_at_a_time_to_its_end(make_world: MakeWorld) -> None:
    world = make_world(rate=1000)
    world.server.page_size = 10
    for number in range(35):
        world.server.truth[f"SM{number}"] = {"status": "delivered" if number % 2 else "undelivered"}
    due(world)

    assert walk(world) == 4

    assert [world.status(f"SM{number}") for number in range(4)] == ["FAILED", "DELIVERED", "FAILED", "DELIVERED"]
    (first, *_) = world.server.questions
    assert parse_qs(urlsplit(first.path).query)["DateSent>"] == [(NOON - timedelta(days=2)).date().isoformat()]
    assert walk(world) == 0, "the next one is a day away"


def test_inbound_messages_are_skipped(make_world: MakeWorld) -> None:
    world = make_world()
    world.server.truth["SM1"] = {"status": "received", "direction": "inbound"}
    world.server.truth["SM2"] = {"status": "delivered", "direction": "outbound-reply"}
    due(world)

    walk(world)

    assert (world.status("SM1"), world.status("SM2")) == ("UNKNOWN", "DELIVERED")


def test_what_is_on_record_is_not_recorded_again(make_world: MakeWorld) -> None:
    world = make_world()
    world.server.truth["SM1"] = {"status": "delivered"}
    world.server.truth["SM2"] = {"status": "undelivered", "error_code": 30003, "error_message": "Unreachable"}
    world.hear("SM1", "delivered")
    world.hear("SM2", "undelivered", ErrorCode="30003", RawDlrDoneDate="2610151204")
    due(world)

    walk(world)

    assert [event.source for event in world.observed("SM1")] == [Source.CALLBACK]
    assert [event.source for event in world.observed("SM2")] == [Source.CALLBACK]


def test_pages_that_repeat_end_the_walk(make_world: MakeWorld) -> None:
    world = make_world(rate=1000)
    world.server.page_size = 1
    world.server.pages_repeat = True
    for number in range(5):
        world.server.truth[f"SM{number}"] = {"status": "delivered"}
    due(world)

    assert walk(world) <= 3


@pytest.mark.parametrize("fault", ["500", "429", "hang", "reset", "cut short", "truncated", "html"])
def test_a_page_that_could_not_be_read_is_read_again(make_world: MakeWorld, fault: str) -> None:
    world = make_world(rate=1000, timeout_seconds=0.3)
    world.server.page_size = 2
    for number in range(6):
        world.server.truth[f"SM{number}"] = {"status": "delivered"}
    answers = iter([None, fault])
    world.server.faults = lambda _path: next(answers, None)
    due(world)
    walk(world)

    for _ in range(5):
        world.clock.now += timedelta(minutes=3)
        walk(world)

    assert all(world.status(f"SM{number}") == "DELIVERED" for number in range(6))
    paths = [question.path for question in world.server.questions]
    assert paths[1] == paths[2]
    assert len(paths) == 4


def test_a_page_that_is_never_readable_is_tried_ever_more_rarely(make_world: MakeWorld) -> None:
    world = make_world(rate=1000)
    world.server.truth["SM1"] = {"status": "delivered"}
    world.server.faults = lambda _path: "truncated"
    due(world)

    for _ in range(6 * 60):
        walk(world)
        world.clock.now += timedelta(minutes=1)

    assert 6 <= len(world.server.questions) <= 30


def test_an_item_that_cannot_be_read_is_kept_and_the_others_are_recorded(make_world: MakeWorld) -> None:
    world = make_world(rate=1000)
    world.server.truth["SM1"] = {"status": "delivered"}
    world.server.truth["SM2"] = {"status": 7}
    due(world)

    walk(world)

    assert world.status("SM1") == "DELIVERED"
    reasons = world.rows("SELECT reason FROM captures WHERE account = %s", world.account.name)
    assert reasons == [("poll status is missing or unusable",)]


def test_a_page_under_way_counts_for_the_accounts_concurrency(make_world: MakeWorld) -> None:
    world = make_world(rate=1000, concurrency=1)
    due(world)
    world.hear("SM1", "sent")
    world.follow()
    world.clock.now += timedelta(seconds=31)
    meanwhile: list[int] = []

    def claim(_path: str) -> None:
        meanwhile.append(len(world.polls.claim(world.account.name, world.polling).messages))

    world.server.faults = claim
    walk(world)

    assert meanwhile == [0]
    world.clock.now += timedelta(seconds=1)
    assert len(world.polls.claim(world.account.name, world.polling).messages) == 1


def test_a_walk_leased_or_due_under_a_clock_far_ahead_is_taken_up(make_world: MakeWorld) -> None:
    world = make_world()
    due(world)
    ahead = timedelta(days=400)
    world.clock.now += ahead
    assert world.polls.claim_walk(world.account.name) is not None
    world.clock.now -= ahead

    assert world.polls.claim_walk(world.account.name) is not None

    world.polls.end_walk(world.account.name, 0)
    world.clock.now -= timedelta(days=5)
    assert world.polls.claim_walk(world.account.name) is not None


def test_another_poller_goes_on_where_one_died(make_world: MakeWorld) -> None:
    world = make_world(rate=1000)
    world.server.page_size = 1
    for number in range(4):
        world.server.truth[f"SM{number}"] = {"status": "delivered"}
    due(world)
    assert world.walker is not None
    world.walker.step()
    world.walker = world.another_walker()
    assert walk(world) == 0, "the walk is leased to whoever read the first page"
    world.clock.now += timedelta(seconds=61)

    assert walk(world) == 3

    assert len({question.path for question in world.server.questions}) == 4


def test_an_absence_of_all_pollers_is_followed_by_a_walk(make_world: MakeWorld) -> None:
    world = make_world()
    assert not world.polls.start(world.account.name, 120)
    world.clock.now += timedelta(seconds=60)
    assert not world.polls.start(world.account.name, 120)
    world.clock.now += timedelta(seconds=121)

    assert world.polls.start(world.account.name, 120)

    assert world.polls.claim_walk(world.account.name) is not None


def test_a_next_page_elsewhere_is_not_followed(make_world: MakeWorld) -> None:
    """Whatever host an answer names, the account's secret goes to its own base address only."""
    world = make_world()
    told = f'{{"messages": [], "next_page_uri": "{world.server.url.replace("127.0.0.1", "127.0.0.2")}/x?Page=2"}}'
    walking = world.asker.polls.walk
    assert walking is not None

    page = walking.read(told.encode(), world.account)

    assert page.next == "/x?Page=2"
