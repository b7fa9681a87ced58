"""Registration, hand-off, callbacks and local failure in every order, cut into batches in every way.

Callbacks overtake registration, hand-off finds the provider's stream open or opens it, a failure comes before or after:
in the end there is one message, and what it says does not depend on any of that.
"""

from collections.abc import Sequence
from itertools import pairwise, permutations
from typing import Any, Final, NamedTuple
from uuid import UUID

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ledger.domain.message import Message
from ledger.domain.status import Channel, Conflict, FailureKind, Status
from ledger.ingest.register import LocalFailure
from ledger.ingest.writer import Job
from ledger.store.application import Ledger, fold
from tests.builders import a_claim, at
from tests.domain import machine
from tests.plugins.ledger import steady, write_at_once
from tests.projections import rebuilding
from tests.statements import a_registration, a_sender, an_account, registered, says, stream_of

REGISTER: Final = "register"
HAND_OFF: Final = "hand off"
FAIL: Final = "fail"
#: A step: one of the above, or a callback's claim and minute.
Step = str | tuple[Status, FailureKind | None, int]


class Told(NamedTuple):
    """How a message ended up."""

    message: Message
    shown_to_sender: UUID | None
    events: list[str]
    differences: list[str]


class Teller:
    """Tells one message's story to a ledger, in an account of its own."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._account = an_account()
        self._sender = a_sender(self._account)
        self._registration, self._own = registered(b"registration-001", a_registration(), self._account)
        self.leading = stream_of("provider-1", self._account)

    def job(self, step: Step) -> Job:
        match step:
            case "register":
                return Job(self._registration.statements)
            case "hand off":
                told = a_registration(provider_message_id="provider-1", sent_at=at(1))
                return self._sender.hand_off(self._own, self._own_id(), told, at(30))[0]
            case "fail":
                return self._sender.fail(self._own, Channel.SMS, LocalFailure("no route", "1"), at(31))
            case (status, kind, minute):
                word = f"{status}-{kind}"
                told = {"reference": "provider-1", "account": self._account, "provider_status": word}
                return Job([says(a_claim(status, kind), minute, received=32, **told)])
        raise AssertionError(step)

    def _own_id(self) -> int:
        row = rebuilding.stored_rows(self._ledger, self._own).get(self._own)
        return row["message_id"] if row is not None else 0

    def tell(self, batches: Sequence[Sequence[Step]]) -> Told:
        for batch in batches:
            for job in write_at_once(self._ledger, [self.job(step) for step in batch]):
                assert job.error is None, job.error
        rows = rebuilding.stored_rows(self._ledger, self._own, self.leading)
        history = self._ledger.history(self.leading)
        return Told(
            message=rows[self.leading]["message"],
            shown_to_sender=rows[self._own]["linked_to"],
            events=sorted(type(recorded.event).__name__ for recorded in history),
            differences=rebuilding.differences(self._ledger, self._own, self.leading),
        )


def content(message: Message) -> dict[str, Any]:
    """Return what must not depend on the order of anything: all but our own clock, and ids of this telling."""
    return {
        "evidence": message.evidence,
        "conflict": message.conflict,
        "person": message.person,
        "observations": len(message.keys),
        "version": message.version,
        "registered_at": message.registered_at,
        "links": len(message.links),
    }


def is_settled(message: Message) -> bool:
    return message.conflict is Conflict.NONE and len({each.kind for each in message.evidence.failures}) <= 1


_callbacks = st.tuples(
    st.sampled_from([status for status in Status if status is not Status.UNKNOWN]),
    st.sampled_from([FailureKind.FAILED, FailureKind.UNDELIVERED]),
    st.integers(0, 3),
).map(lambda told: told if told[0] is Status.FAILED else (told[0], None, told[2]))


@st.composite
def stories(draw: st.DrawFn) -> tuple[list[Step], list[Step], list[int]]:
    """Draw one set of steps in two orders, and where to cut the second one into batches.

    Only one order is given: a message is registered before its sender knows an id to hand off or to fail.
    """
    callbacks: list[Step] = draw(st.lists(_callbacks, max_size=4, unique=True))  # type: ignore[assignment]
    steps: list[Step] = [REGISTER, HAND_OFF, *([FAIL] if draw(st.booleans()) else []), *callbacks]
    shuffled = draw(st.permutations(steps))
    first = min(shuffled.index(step) for step in (REGISTER, HAND_OFF, FAIL) if step in shuffled)
    shuffled.remove(REGISTER)
    shuffled.insert(first, REGISTER)
    cuts = draw(st.lists(st.integers(1, len(steps)), max_size=len(steps)))
    return steps, shuffled, cuts


def cut(steps: Sequence[Step], cuts: Sequence[int]) -> list[Sequence[Step]]:
    """Cut a story into batches; a registration always ends one, because only then is there an id to hand off."""
    places = sorted({0, *cuts, steps.index(REGISTER) + 1, len(steps)})
    return [steps[start:end] for start, end in pairwise(places)]


@settings(max_examples=settings.default.max_examples // 2)
@given(story=stories())
@example(([REGISTER, HAND_OFF, FAIL], [REGISTER, FAIL, HAND_OFF], []))
@example(([REGISTER, HAND_OFF, (Status.READ, None, 1)], [(Status.READ, None, 1), REGISTER, HAND_OFF], [1, 2, 3]))
def test_any_interleaving_ends_with_the_same_message(
    shared_ledger: Ledger, story: tuple[list[Step], list[Step], list[int]]
) -> None:
    steps, shuffled, cuts = story

    plain = Teller(shared_ledger).tell([[step] for step in steps])
    teller = Teller(shared_ledger)
    told = teller.tell(cut(shuffled, cuts))

    assert told.differences == plain.differences == []
    assert told.shown_to_sender == teller.leading
    assert told.events == plain.events
    assert content(told.message) == content(plain.message)
    if is_settled(plain.message):
        assert machine.view(told.message) == machine.view(plain.message)


@pytest.mark.parametrize("order", list(permutations([HAND_OFF, (Status.DELIVERED, None, 1), (Status.READ, None, 2)])))
@pytest.mark.parametrize("batched", [False, True], ids=["apart", "in one batch"])
def test_every_order_of_hand_off_and_two_callbacks(shared_ledger: Ledger, order: Sequence[Step], batched: bool) -> None:
    told = Teller(shared_ledger).tell([[REGISTER], [*order]] if batched else [[REGISTER], *([step] for step in order)])

    assert told.differences == []
    assert (told.message.status, told.message.version) == (Status.READ, 3)


def test_a_hand_off_waits_for_what_its_own_batch_wrote_to_its_streams(shared_ledger: Ledger) -> None:
    """It merges the two histories as they are stored, so whatever this batch adds must be stored first."""
    told = Teller(shared_ledger).tell([[REGISTER], [(Status.SENT, None, 1), FAIL, HAND_OFF, (Status.READ, None, 2)]])

    assert told.differences == []
    assert told.events == ["MessageLinked", "MessageRegistered"] + ["StatusObserved"] * 4


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
@given(story=stories())
@example(
    (
        [REGISTER, HAND_OFF],
        [(Status.FAILED, FailureKind.UNDELIVERED, 1), REGISTER, FAIL, HAND_OFF, (Status.DELIVERED, None, 2)],
        [1, 2, 3, 4],
    )
)
def test_history_keeps_its_order_while_the_clock_stands_behind(
    ledger: Ledger, story: tuple[list[Step], list[Step], list[int]]
) -> None:
    """The database's clock was an hour ahead and has been set right: for an hour, order is all that tells time."""
    with steady(ledger).reading() as cursor:
        cursor.execute("UPDATE partition_heads SET recorded_at = greatest(recorded_at, now() + interval '1 hour')")

    told = Teller(ledger).tell(cut(story[1], story[2]))

    assert told.differences == []


def test_two_registrations_of_one_message_are_both_told(shared_ledger: Ledger) -> None:
    """Each keeps its id; the message counts as one."""
    account = an_account()
    sender = a_sender(account)
    owns = []
    for name in (b"registration-001", b"registration-002"):
        job, own = registered(name, a_registration(), account)
        write_at_once(shared_ledger, [job])
        owns.append(own)
    told = a_registration(provider_message_id="provider-1", sent_at=at(1))

    jobs = write_at_once(shared_ledger, [sender.hand_off(own, n, told, at(2))[0] for n, own in enumerate(owns)])

    leading = stream_of("provider-1", account)
    assert [job.error for job in jobs] == [None, None]
    assert rebuilding.differences(shared_ledger, leading, *owns) == []
    message = fold(shared_ledger.history(leading))
    assert (message.aliases, set(message.links), len(message.registrations)) == ((0, 1), set(owns), 2)


def test_hand_offs_to_different_ids_at_once_leave_one(shared_ledger: Ledger) -> None:
    account = an_account()
    job, own = registered(b"registration-001", a_registration(), account)
    write_at_once(shared_ledger, [job])

    jobs = write_at_once(
        shared_ledger,
        [a_sender(account).hand_off(own, 1, a_registration(provider_message_id=id_), at(2))[0] for id_ in ("a", "b")],
    )

    assert [type(job.error).__name__ for job in jobs] == ["NoneType", "AlreadyLinked"]
    assert shared_ledger.history(stream_of("b", account)) == []
    assert rebuilding.differences(shared_ledger, own, stream_of("a", account)) == []


def test_linked_streams_may_lie_in_different_partitions(shaped_ledger: Ledger) -> None:
    tellers = [Teller(shaped_ledger) for _ in range(12)]

    told = [
        teller.tell([[REGISTER], [(Status.SENT, None, 1)], [HAND_OFF], [(Status.READ, None, 2)]]) for teller in tellers
    ]

    assert [each.differences for each in told] == [[]] * 12
    assert [each.message.status for each in told] == [Status.READ] * 12
