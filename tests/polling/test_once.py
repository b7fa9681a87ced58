"""Answers that a provider gives only once: kept before they are read, taken up by whoever comes next."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from ledger.domain.observation import Source
from ledger.polling.walking import take_up
from ledger.wire.contract import Malformed
from tests.polling.provider import Once
from tests.polling.test_account import record
from tests.polling.world import World

MakeWorld = Callable[..., World]
REPORT = {"to": "12025550111", "status": {"name": "DELIVERED_TO_HANDSET", "groupName": "DELIVERED"}}


def kept(world: World) -> int:
    ((count,),) = world.rows("SELECT count(*) FROM poll_answers WHERE account = %s", world.account.name)
    return int(count)


class Died(BaseException):
    """The process ends here."""


def test_an_answer_whose_poller_died_before_it_was_recorded_is_taken_up_by_another(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(kind=Once, provider="infobip")
    world.server.truth["SM1"] = REPORT
    record(world, "SM1")

    def die(*_: Any) -> None:
        raise Died

    with monkeypatch.context() as patched:
        patched.setattr(world.recorder, "record", die)
        with pytest.raises(Died):
            world.pass_by(seconds=31)
    assert "SM1" not in world.server.truth, "the provider will not tell it again"
    assert (kept(world), world.status("SM1")) == (1, "SENT")
    assert take_up(world.account.name, world.asker, world.polls, world.ledger, world.recorder) == 0, "it is still held"
    world.clock.now += timedelta(seconds=61)

    assert take_up(world.account.name, world.asker, world.polls, world.ledger, world.recorder) == 1

    assert (kept(world), world.status("SM1")) == (0, "DELIVERED")
    assert [event.source for event in world.observed("SM1")] == [Source.CALLBACK, Source.POLL]


def test_an_answer_is_kept_before_anybody_reads_it(make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading it breaks; what was told is there all the same, as a capture."""
    world = make_world(kind=Once, provider="infobip")
    world.server.truth["SM1"] = REPORT
    record(world, "SM1")
    seen: list[int] = []

    def read(*told: Any) -> Any:
        seen.append(kept(world))
        raise Malformed("a mistake of ours")

    monkeypatch.setattr(world.asker, "polls", msgspec.structs.replace(world.asker.polls, read=read))
    world.pass_by(seconds=31)

    assert set(seen) == {1}
    (capture, *_) = world.rows("SELECT reason FROM captures WHERE account = %s", world.account.name)
    assert capture == ("poll a mistake of ours",)


def test_what_is_kept_is_sealed(make_world: MakeWorld) -> None:
    world = make_world(kind=Once, provider="infobip")
    answer_id = world.polls.keep(world.account.name, (0, world.stream("SM1")), b"+12025550111", world.clock())

    ((sealed,),) = world.rows("SELECT sealed FROM poll_answers WHERE answer_id = %s", answer_id)

    assert b"2025550111" not in sealed
    world.polls.forget(answer_id)


def test_a_report_under_a_wrong_content_type_is_read_all_the_same(make_world: MakeWorld) -> None:
    """It will not be told again."""
    world = make_world(kind=Once, provider="infobip")
    world.server.truth["SM1"] = REPORT
    world.server.faults = lambda _path: "plain"
    record(world, "SM1")

    world.pass_by(seconds=31)

    assert (kept(world), world.status("SM1")) == (0, "DELIVERED")


def test_an_answer_held_under_a_clock_far_ahead_is_taken_up(make_world: MakeWorld) -> None:
    world = make_world(kind=Once, provider="infobip")
    record(world, "SM1")
    ahead = timedelta(days=3)
    world.clock.now += ahead
    world.polls.keep(world.account.name, (0, world.stream("SM1")), b'{"results": []}', world.clock())
    world.clock.now -= ahead

    assert take_up(world.account.name, world.asker, world.polls, world.ledger, world.recorder) == 1
    assert kept(world) == 0
