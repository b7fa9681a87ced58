"""One account's polling, in a time of its own, against its provider's server over a socket."""

from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from random import randrange

import pytest

from ledger.domain.observation import Source
from ledger.domain.status import Verdict
from ledger.main import SCRUBS
from ledger.store.polls import Batch
from tests.builders import NOON
from tests.ingest.erasing import an_eraser
from tests.polling.provider import Meta, Once
from tests.polling.world import World

MakeWorld = Callable[..., World]


def seconds_between(world: World, sid: str) -> list[float]:
    """Return the pauses between the questions about a message."""
    asked = [question.at for question in world.server.questions if question.reference == sid]
    return [(later - earlier).total_seconds() for earlier, later in pairwise(asked)]


def test_a_message_whose_callback_was_lost_gets_its_status_by_asking(make_world: MakeWorld) -> None:
    world = make_world()
    world.server.truth["SM1"] = {"status": "delivered"}
    world.hear("SM1", "sent")

    world.pass_by(seconds=31)

    assert world.status("SM1") == "DELIVERED"
    assert [event.source for event in world.observed("SM1")] == [Source.CALLBACK, Source.POLL]
    assert world.why("SM1") is None


def test_nothing_is_asked_in_the_first_seconds(make_world: MakeWorld) -> None:
    world = make_world(rate=100)
    for number in range(50):
        world.server.truth[f"SM{number}"] = {"status": "sent"}
    world.hear_all([(f"SM{number}", "sent", {}) for number in range(50)])

    world.pass_by(seconds=40)

    first = [question.at - NOON for question in world.server.questions[:50]]
    assert min(first) >= timedelta(seconds=10)
    assert max(first) <= timedelta(seconds=31)


def test_pauses_grow_with_the_silence_and_end_after_the_horizon(make_world: MakeWorld) -> None:
    world = make_world(days=14)
    world.server.truth["SM1"] = {"status": "sent"}
    world.hear("SM1", "sent")

    world.pass_by(days=20)

    pauses = seconds_between(world, "SM1")
    assert pauses[0] < 60
    assert max(pauses) <= 24 * 3600 + 1
    ages = [(question.at - NOON).total_seconds() for question in world.server.questions]
    assert all(pause <= max(age, 30) + 1 for age, pause in zip(ages, pauses, strict=False))
    assert timedelta(days=13) < world.server.questions[-1].at - NOON <= timedelta(days=14)
    assert 25 < len(world.server.questions) < 60


def test_what_was_asked_for_too_long_stays_visible_as_stuck(make_world: MakeWorld) -> None:
    world = make_world(days=1)
    world.server.truth["SM1"] = {"status": "sent"}
    world.hear("SM1", "sent")

    world.pass_by(days=2)

    (state,) = world.polls.states([world.account.name])
    assert (state.stuck, state.due, state.waiting) == (1, 0, 0)
    assert world.why("SM1") == "no_outcome"


def test_an_answer_that_says_what_is_on_record_appends_nothing(make_world: MakeWorld) -> None:
    world = make_world()
    world.server.truth["SM1"] = {"status": "sent"}
    world.hear("SM1", "sent")

    world.pass_by(hours=6)

    assert len(world.server.questions) > 5
    assert len(world.observed("SM1")) == 1


def test_a_callback_ends_the_asking(make_world: MakeWorld) -> None:
    world = make_world()
    world.server.truth["SM1"] = {"status": "sent"}
    world.hear("SM1", "sent")
    world.pass_by(minutes=2)
    world.hear("SM1", "delivered")
    asked = len(world.server.questions)

    world.pass_by(days=1)

    assert len(world.server.questions) == asked
    assert world.why("SM1") is None


def test_a_failure_without_a_reason_is_asked_about_once(make_world: MakeWorld) -> None:
    world = make_world()
    world.server.truth["SM1"] = {"status": "undelivered", "error_code": 30003, "error_message": "Unreachable"}
    world.server.truth["SM2"] = {"status": "undelivered"}
    world.hear("SM1", "undelivered")
    world.hear("SM2", "undelivered")
    world.hear("SM3", "undelivered", ErrorCode="30005")

    world.pass_by(days=1)

    assert sorted(world.server.asked) == ["SM1", "SM2"]
    assert [failure.code for failure in world.message("SM1").evidence.failures] == ["", "30003"]
    assert (len(world.observed("SM1")), len(world.observed("SM2"))) == (2, 1)


def test_a_contradiction_between_callbacks_is_asked_about_once(make_world: MakeWorld) -> None:
    world = make_world()
    world.server.truth["SM1"] = {"status": "delivered"}
    world.hear("SM1", "undelivered", ErrorCode="30003")
    world.hear("SM1", "delivered")

    world.pass_by(days=1)

    assert world.server.asked == ["SM1"]
    assert world.message("SM1").conflict == "open"


def test_an_answer_that_contradicts_the_callbacks_is_a_conflict_like_any_other(make_world: MakeWorld) -> None:
    world = make_world()
    world.server.truth["SM1"] = {"status": "delivered"}
    world.hear("SM1", "undelivered")

    world.pass_by(days=1)

    said = world.observed("SM1")
    assert [(event.source, event.verdict) for event in said] == [
        (Source.CALLBACK, Verdict.ADVANCE),
        (Source.POLL, Verdict.CONFLICT),
    ]
    assert (world.status("SM1"), world.message("SM1").conflict) == ("FAILED", "open")
    assert world.server.asked == ["SM1"]


def test_a_delivery_that_had_to_be_found_is_followed_by_few_questions_for_its_reading(make_world: MakeWorld) -> None:
    world = make_world(kind=Meta, provider="meta")
    events = [{"delivery_status": "DELIVERED", "timestamp": int(NOON.timestamp()) + 5}]
    world.server.truth["SM1"] = {"events": events}
    record(world, "SM1")

    world.pass_by(days=7)

    assert world.status("SM1") == "DELIVERED"
    asked = [question.at - NOON for question in world.server.questions]
    assert len(asked) < 14
    assert asked[1] >= timedelta(minutes=30)
    assert asked[-1] <= timedelta(days=3, minutes=1)


def test_both_vocabularies_of_the_message_history_are_understood(make_world: MakeWorld) -> None:
    world = make_world(kind=Meta, provider="meta")
    at = int(NOON.timestamp())
    world.server.truth["SM1"] = {
        "events": [
            {"delivery_status": "ACCEPTED", "timestamp": at},
            {"delivery_status": "SENT", "timestamp": at + 1},
            {"delivery_status": "ERROR", "timestamp": at + 2, "error_description": "not on WhatsApp"},
        ]
    }
    record(world, "SM1")

    world.pass_by(seconds=31)

    assert world.status("SM1") == "FAILED"
    assert world.message("SM1").evidence.failures[0].text == "not on WhatsApp"


def test_a_report_that_is_told_once_is_kept_until_it_is_on_record(make_world: MakeWorld) -> None:
    world = make_world(
        kind=Once,
        provider="infobip",
    )
    world.server.truth["SM1"] = {
        "to": "12025550111",
        "status": {"name": "DELIVERED_TO_HANDSET", "groupName": "DELIVERED"},
    }
    record(world, "SM1")

    world.pass_by(seconds=31)

    assert world.status("SM1") == "DELIVERED"
    assert world.rows("SELECT count(*) FROM poll_answers WHERE account = %s", world.account.name) == [(0,)]


@pytest.mark.parametrize("fault", ["500", "hang", "reset", "cut short", "truncated", "html", "another"])
def test_an_improper_answer_is_asked_for_again_and_harms_nothing(make_world: MakeWorld, fault: str) -> None:
    world = make_world(timeout_seconds=0.3)
    world.server.truth["SM1"] = {"status": "delivered"}
    faults = iter([fault, fault])
    world.server.faults = lambda _path: next(faults, None)
    world.hear("SM1", "sent")

    world.pass_by(minutes=5)

    assert len(world.server.questions) == 3
    assert min(seconds_between(world, "SM1")) >= 15
    assert world.status("SM1") == "DELIVERED"
    assert len(world.observed("SM1")) == 2


def test_an_unreadable_answer_is_kept(make_world: MakeWorld) -> None:
    world = make_world()
    world.server.truth["SM1"] = {"status": None}
    world.hear("SM1", "sent")

    world.pass_by(seconds=31)

    (reason, *_) = world.rows("SELECT reason FROM captures WHERE account = %s", world.account.name)
    assert reason == ("poll status is missing or unusable",)


def test_an_answer_that_comes_after_somebody_else_has_claimed_the_message_is_not_recorded(
    make_world: MakeWorld,
) -> None:
    """It took longer than the lease. Who asks by now will record what is true by now."""
    world = make_world()
    world.server.truth["SM1"] = {"status": "failed", "error_code": 30008}
    world.hear("SM1", "sent")
    world.follow()
    world.clock.now += timedelta(seconds=31)
    others: list[Batch] = []

    def overtaken(_path: str) -> None:
        world.clock.now += timedelta(seconds=61)
        others.append(world.polls.claim(world.account.name, world.polling))

    world.server.faults = overtaken
    world.poller.round()

    assert [len(batch.messages) for batch in others] == [1]
    assert world.status("SM1") == "SENT"
    held = world.rows("SELECT batch FROM poll_batches WHERE %s = ANY(streams)", others[0].messages[0].stream_id)
    assert held == [(others[0].batch,)], "the other one's claim stands"


def record(world: World, sid: str) -> None:
    """Record that a message was sent, at a provider whose callbacks look otherwise than Twilio's."""
    from ledger.domain.observation import Claim, Observation  # noqa: PLC0415
    from ledger.domain.status import Channel, Status  # noqa: PLC0415
    from ledger.ingest.writer import Job  # noqa: PLC0415

    said = Observation(
        reference=sid,
        provider_message_id=sid,
        provider_status="sent",
        claim=Claim(Status.SENT),
        occurred_at=NOON,
        channel=Channel.WHATSAPP if world.account.provider == "meta" else Channel.SMS,
        provider_account=world.polling.account,
    )
    world.pen.do(Job([world.intake.statement(said, world.intake.receipt(Source.CALLBACK, world.clock(), b""))]))


@pytest.mark.parametrize("answer", ["delivered", None])
def test_a_message_erased_while_it_is_asked_about_stays_erased(
    make_world: MakeWorld, tmp_path: Path, answer: str | None
) -> None:
    """Neither an answer that can be read nor one that cannot brings back anything of the person."""
    world = make_world()
    number = f"+1202555{randrange(10_000):04}"
    world.server.truth["SM1"] = {"status": answer, "to": number}
    world.hear("SM1", "sent", To=number)

    def erase(_path: str) -> None:
        eraser = an_eraser(world.ledger, tmp_path / "erasures", SCRUBS)
        eraser.erase(eraser.look([world.stream("SM1")]), by="privacy-officer", why="asked to be forgotten")

    world.server.faults = erase
    world.pass_by(seconds=31)

    message = world.message("SM1")
    assert message.erased_at is not None
    assert (message.person.recipient, message.person.provider_message_id) == (None, None)
    assert world.rows("SELECT count(*) FROM captures WHERE account = %s", world.account.name) == [(0,)]
    assert world.asker.question(message) is None
    world.server.faults = lambda _path: None
    world.pass_by(days=1)
    assert len(world.server.questions) == 1
