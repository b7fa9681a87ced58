"""Claims by their own: who holds a message, for how long, and what its queue remembers afterwards."""

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from ledger.domain.observation import Source
from ledger.ingest.writer import Job
from ledger.store import polls
from ledger.store.polls import Batch, Settled
from projections import poll_schedule
from tests.plugins.service import eventually
from tests.polling.world import World

MakeWorld = Callable[..., World]
_WAITING = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


@pytest.fixture
def due_world(make_world: MakeWorld) -> World:
    """Two messages that are due, the second one newer."""
    world = make_world(rate=100)
    for sid in ("SM1", "SM2"):
        world.hear(sid, "sent")
        world.follow()
        world.clock.now += timedelta(seconds=31)
    return world


def claim(world: World, most: int = 500) -> Batch:
    return world.polls.claim(world.account.name, world.polling, most=most, width=1)


def settle(world: World, batch: Batch, **told: object) -> int:
    return world.polls.settle(batch.batch, [Settled(each, **told) for each in batch.messages])  # type: ignore[arg-type]


def queue(world: World) -> list[tuple[object, ...]]:
    columns = "stream_id, since, nullif(next_at, 'infinity'), asked, answer"
    return world.rows(f"SELECT {columns} FROM poll_asks WHERE account = %s ORDER BY 1", world.account.name)  # noqa: S608


def test_a_claim_leaves_the_queue_alone_and_nobody_else_gets_what_it_holds(due_world: World) -> None:
    before = queue(due_world)

    first, second, third = claim(due_world, most=1), claim(due_world), claim(due_world)

    assert [len(each.messages) for each in (first, second, third)] == [1, 1, 0]
    assert first.messages[0].due_at > second.messages[0].due_at, "the newest comes first"
    assert queue(due_world) == before


def test_what_was_not_asked_is_due_again_as_it_was(due_world: World) -> None:
    before = queue(due_world)
    batch = claim(due_world)

    assert settle(due_world, batch, asked=False) == 2

    assert queue(due_world) == before
    due_world.clock.now += timedelta(seconds=1)
    assert {each.stream_id for each in claim(due_world).messages} == {each.stream_id for each in batch.messages}


def test_what_was_asked_is_due_when_it_was_told(due_world: World) -> None:
    batch = claim(due_world)
    settle(due_world, batch, asked=True, after=60.0, answer="same")

    assert [row[2:] for row in queue(due_world)] == [(due_world.clock.now + timedelta(seconds=60), 1, "same")] * 2
    due_world.clock.now += timedelta(seconds=59)
    assert not claim(due_world).messages


def test_a_claim_that_ran_out_goes_to_the_next_and_settles_nothing(due_world: World) -> None:
    late = claim(due_world)
    due_world.clock.now += timedelta(seconds=polls.LEASE_SECONDS + 1)
    batch = claim(due_world)
    before = queue(due_world)

    assert settle(due_world, late, asked=True, over=True) == 0

    assert not due_world.polls.is_ours(late.batch)
    assert due_world.polls.is_ours(batch.batch)
    assert {each.stream_id for each in batch.messages} == {each.stream_id for each in late.messages}
    assert queue(due_world) == before


def test_a_new_reason_waits_for_the_question_under_way_and_is_not_settled_by_it(due_world: World) -> None:
    batch = claim(due_world)
    due_world.hear("SM1", "delivered")
    due_world.hear("SM1", "undelivered")  # a contradiction: another reason to ask
    due_world.follow()
    before = queue(due_world)
    due_world.clock.now += timedelta(seconds=45)

    assert not claim(due_world).messages
    settle(due_world, batch, asked=True, over=True)

    changed = [row for row in queue(due_world) if row not in before]
    assert len(changed) == 1, "SM2 is over, SM1 has its new reason"
    due_world.clock.now += timedelta(seconds=10)
    assert [each.why for each in claim(due_world).messages] == ["conflict"]


def test_a_message_leaves_the_queue_although_its_question_is_being_settled(due_world: World) -> None:
    """The feed comes to a row that a poller has just changed: it waits for that, and removes what it has become."""
    due_world.hear("SM1", "delivered")
    due_world.hear("SM2", "failed", ErrorCode="30003")

    with due_world.ledger.connect() as poller, ThreadPoolExecutor(1) as feed:
        with poller.transaction():
            poller.execute("UPDATE poll_asks SET answer = 'settling' WHERE account = %s", (due_world.account.name,))
            following = feed.submit(due_world.follow)
            eventually(lambda: due_world.rows(_WAITING), "the feed waits for the poller")
        following.result()

    assert queue(due_world) == []


def test_feed_and_poller_change_the_queue_in_one_order(due_world: World) -> None:
    """In two orders each would hold what the other waits for, once the third one lets go."""
    world = due_world
    first, second = sorted([world.stream("SM1"), world.stream("SM2")], key=lambda stream: stream.int)
    for sid in ("SM1", "SM2"):
        world.hear(sid, "delivered")
    batch = claim(world)
    settled = [Settled(each, asked=True, after=60.0) for each in batch.messages]
    settled.sort(key=lambda each: each.message.stream_id == first)

    with world.ledger.connect() as other, ThreadPoolExecutor(2) as threads:
        with other.transaction():
            other.execute("UPDATE poll_asks SET answer = 'held' WHERE stream_id = %s", (first,))
            following = threads.submit(world.follow)
            eventually(lambda: len(world.rows(_WAITING)) == 1, "the feed waits")
            settling = threads.submit(world.polls.settle, batch.batch, settled)
            eventually(lambda: len(world.rows(_WAITING)) == 2, "the poller waits")
        following.result()
        settling.result()

    assert queue(world) == []
    assert settled[0].message.stream_id == second


def test_a_lease_written_under_a_clock_far_ahead_holds_nobody_up(due_world: World) -> None:
    ahead = timedelta(days=3)
    due_world.clock.now += ahead
    assert len(claim(due_world).messages) == 2
    due_world.clock.now -= ahead

    assert len(claim(due_world).messages) == 2


def test_claims_of_accounts_that_nobody_asks_about_any_more_are_cleared_away(due_world: World) -> None:
    """The world's clock is years behind, so they ran out long ago."""
    batch = claim(due_world)

    poll_schedule.mend_queue(due_world.ledger)

    assert due_world.rows("SELECT FROM poll_batches WHERE batch = %s", batch.batch) == []


@pytest.mark.parametrize(("late", "new"), [("sent", "delivered"), ("delivered", "sent"), ("failed", "delivered")])
def test_an_answer_overtaken_just_before_it_is_recorded_does_no_harm(
    due_world: World, monkeypatch: pytest.MonkeyPatch, late: str, new: str
) -> None:
    """The lease is lost between the look at it and the append, which is where nothing holds the answer up.

    Whoever has claimed the message since asks, records and settles in that moment. The other order is what would have
    happened without the delay; both end alike, and the queue is as the second poller left it.
    """
    world, sid = due_world, "SM1"
    record, overtaken = world.recorder.record, list[Any]()

    def overtake(jobs: Sequence[Job]) -> None:
        if not overtaken:
            overtaken.append(True)
            world.clock.now += timedelta(seconds=polls.LEASE_SECONDS + 1)
            world.server.truth[sid] = {"status": new}
            world.poller.round()
            overtaken.append(queue(world))
        record(jobs)

    world.server.truth |= {"SM1": {"status": late}, "SM2": {"status": "delivered"}}
    monkeypatch.setattr(world.recorder, "record", overtake)
    world.poller.round()

    assert queue(world) == overtaken[1], "settling under a lost lease changes nothing"
    assert Counter(world.server.asked)[sid] == 2
    said = [(event.claim.value, event.source) for event in world.observed(sid)]
    assert len(said) == len(set(said)), "nothing twice"
    message = world.message(sid)
    assert message.status.value == "DELIVERED"
    assert (message.conflict == "open") == (late == "failed"), "two claims that contradict are a conflict in any order"


def test_an_answer_recorded_after_its_lease_ran_out_does_no_harm(due_world: World) -> None:
    """Who holds a message is looked at just before its answer is recorded, not in the transaction that records it.

    So an answer can still come in behind another one that was asked for later. That is what callbacks do all the time.
    """
    due_world.hear("SM1", "delivered", source=Source.POLL)

    due_world.hear("SM1", "sent", source=Source.POLL)
    due_world.hear("SM1", "delivered", source=Source.POLL)

    assert due_world.status("SM1") == "DELIVERED"
    assert len(due_world.observed("SM1")) == 2, "sent by callback, delivered by asking"


def test_a_question_by_hand_keeps_others_from_asking_about_its_message(due_world: World) -> None:
    place, seconds = due_world.polls.place(due_world.account.name, due_world.polling, due_world.stream("SM1"))

    assert (place is not None, seconds) == (True, 0)
    others = claim(due_world)
    assert [each.stream_id for each in others.messages] == [due_world.stream("SM2")]
    assert place is not None
    due_world.polls.leave(place)
    due_world.clock.now += timedelta(seconds=1)
    assert [each.stream_id for each in claim(due_world).messages] == [due_world.stream("SM1")]


def test_a_message_due_at_a_time_written_under_a_clock_far_ahead_is_mended(due_world: World) -> None:
    with due_world.ledger.reading() as cursor:
        cursor.execute(
            "UPDATE poll_asks SET next_at = clock_timestamp() + interval '400 days' WHERE stream_id = %s",
            (due_world.stream("SM1"),),
        )

    poll_schedule.mend_queue(due_world.ledger)

    statement = "SELECT next_at < clock_timestamp() + interval '1 minute' FROM poll_asks WHERE stream_id = %s"
    assert due_world.rows(statement, due_world.stream("SM1")) == [(True,)]


def test_a_reason_that_came_while_the_clock_was_set_back_is_mended(due_world: World) -> None:
    due_world.clock.now -= timedelta(hours=5)
    due_world.hear("SM1", "delivered")
    due_world.hear("SM1", "undelivered")
    due_world.follow()
    why = "SELECT why FROM poll_asks WHERE stream_id = %s"
    assert (due_world.why("SM1"), due_world.rows(why, due_world.stream("SM1"))) == ("conflict", [("no_outcome",)])

    poll_schedule.mend_queue(due_world.ledger)

    assert due_world.rows(why, due_world.stream("SM1")) == [("conflict",)]
