"""The real way in, writers and PostgreSQL, driven by hypothesis through everything that can happen to it.

Three messages that callbacks speak of, two that the sender registers by itself, two writers. After every step the
stored messages are held against the executable model of the status machine, folded over the log in its order.
"""

import threading
from dataclasses import replace
from functools import partial
from typing import Any, Final, cast
from uuid import UUID

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from ledger.domain.events import StatusCorrected, StatusObserved
from ledger.domain.message import AlreadyLinked, Message, NotInConflict, Observe
from ledger.domain.observation import Source
from ledger.domain.status import Channel, Conflict, FailureKind, Outcome, Status
from ledger.ingest.register import Correction, LocalFailure
from ledger.ingest.writer import Done, Job, Statement
from ledger.store.application import RecordedEvent, StoreUnavailable
from tests.builders import NOON, a_claim, at
from tests.domain import machine, model
from tests.ingest.ledgers import WatchedLedger
from tests.plugins.ledger import PATIENCE_SECONDS, OpenLedger, Pen, steady
from tests.projections import rebuilding
from tests.statements import a_registration, a_sender, an_account, registered, says, stream_of
from tests.store import chain

PROVIDERS_MESSAGES: Final = ("provider-1", "provider-2", "provider-3")
OWN_MESSAGES: Final = (b"registration-001", b"registration-002")
#: Our clock stands still: every provider time drawn is believed.
RECEIVED: Final = 60

references = st.sampled_from(PROVIDERS_MESSAGES)
writers = st.sampled_from([0, 1])
own = st.sampled_from(OWN_MESSAGES)
#: As in the laws of the domain: failures often, times often absent or equal.
claims = st.tuples(
    st.sampled_from([*Status, Status.FAILED, Status.FAILED]),
    st.sampled_from(FailureKind),
    st.none() | st.integers(0, 20),
    st.sampled_from(["", "blocked", "no route"]),
    st.booleans(),
)
Told = tuple[Status, FailureKind, int | None, str, bool]


def as_model_says(command: Observe) -> model.Claim:
    """Return an observation as the model's claim."""
    said = command.observation
    return model.Claim(
        key=command.key.hex(),
        status=said.claim.status.value,
        at=None if said.occurred_at is None else int((said.occurred_at - NOON).total_seconds() // 60),
        kind=said.claim.kind.value if said.claim.kind else "",
        reason=said.error_text or "",
        closes=said.claim.closes,
    )


class Ingest(RuleBasedStateMachine):
    """One example: messages in an account of their own, in a database that examples share."""

    def __init__(self, ledgers: tuple[WatchedLedger, WatchedLedger]) -> None:
        super().__init__()
        self.ledgers = ledgers
        self.pens = [Pen(ledger) for ledger in ledgers]
        self.account = an_account()
        self.sender = a_sender(self.account)
        self.abandoned: list[Pen] = []
        self.ended = threading.Event()
        #: Everything that anybody has said, by its key, as the model would hear it.
        self.said: dict[str, model.Claim] = {}
        self.delivered: list[Statement] = []
        self.own: dict[bytes, UUID] = {}
        self.handed_off: dict[bytes, str] = {}
        #: What readers were last shown of each stream that speaks for a message.
        self.shown: dict[UUID, Message] = {}

    def teardown(self) -> None:
        self.ended.set()
        for pen in self.pens + self.abandoned:
            pen.writer.close()

    # Saying things ----------------------------------------------------------------------------------------------------

    def statement(self, reference: str, told: Told, source: Source = Source.CALLBACK) -> Statement:
        status, kind, minute, reason, closes = told
        # One word means one thing at a provider; the word is part of what names an observation, its meaning is not.
        word = f"{status}-{kind}-{reason}-{closes}"
        return says(
            a_claim(status, kind if status is Status.FAILED else None, closes=closes),
            minute,
            reference=reference,
            account=self.account,
            source=source,
            received=RECEIVED,
            error_text=reason or None,
            provider_status=word,
        )

    def heard(self, job: Job) -> Job:
        """Remember what a job says before it is written."""
        for statement in job.statements:
            if isinstance(statement.command, Observe):
                claim = as_model_says(statement.command)
                self.said.setdefault(claim.key, claim)
                self.delivered.append(statement)
        return job

    def write(self, job: Job, writer: int = 0) -> Done:
        return self.pens[writer].do(self.heard(job))

    @rule(reference=references, told=claims, writer=writers)
    def deliver(self, reference: str, told: Told, writer: int) -> None:
        self.write(Job([self.statement(reference, told)]), writer)

    @rule(reference=references, told=st.lists(claims, min_size=2, max_size=4))
    def deliver_a_batch(self, reference: str, told: list[Told]) -> None:
        self.write(Job([self.statement(reference, each) for each in told]))

    @rule(reference=references, told=claims, other=claims, same=st.booleans())
    def deliver_to_both_writers_at_once(self, reference: str, told: Told, other: Told, same: bool) -> None:
        one = Job([self.statement(reference, told)])
        two = Job(one.statements if same else [self.statement(reference, other)])
        jobs = [pen.submit(self.heard(job)) for pen, job in zip(self.pens, (one, two), strict=True)]
        done = [pen.finish(job) for pen, job in zip(self.pens, jobs, strict=True)]
        if same:
            assert sum(len(each.events) for each in done) <= 1

    @rule(reference=references, told=claims)
    def poll(self, reference: str, told: Told) -> None:
        """An answer is recorded exactly if it says anything that is not on record."""
        statement = self.statement(reference, told, Source.POLL)
        done = self.pens[0].do(Job([statement]))
        claim = as_model_says(cast(Observe, statement.command))
        if done.events:
            self.said.setdefault(claim.key, claim)
            self.delivered.append(statement)
        else:
            known = self.modelled(self.ledgers[0].history(done.streams[0]))
            assert model.observe(known, claim).evidence == known.evidence

    @precondition(lambda self: self.delivered)
    @rule(which=st.integers(0, 1_000), writer=writers)
    def redeliver(self, which: int, writer: int) -> None:
        done = self.write(Job([self.delivered[which % len(self.delivered)]]), writer)
        assert (done.events, done.redelivered) == ((), 1)

    # Trouble ----------------------------------------------------------------------------------------------------------

    @rule(reference=references, told=claims, writer=writers)
    def lose_the_answer(self, reference: str, told: Told, writer: int) -> None:
        """The append is committed, and the writer is told that the connection is gone."""
        self.ledgers[writer].once_after = partial(_raise, StoreUnavailable("the answer was lost"))
        done = self.write(Job([self.statement(reference, told)]), writer)
        assert done.redelivered + len(done.events) == 1

    @rule(reference=references, told=claims, writer=writers)
    def crash_between_commit_and_answer(self, reference: str, told: Told, writer: int) -> None:
        """The writer stops where a process might, for good; the provider hears nothing and delivers again."""
        job = self.heard(Job([self.statement(reference, told)]))
        if self.is_new(job):
            before, committed = self.log_size(), threading.Event()
            self.ledgers[writer].once_after = lambda: (committed.set(), self.ended.wait())
            self.pens[writer].submit(job)
            assert committed.wait(PATIENCE_SECONDS)
            assert (job.done, self.log_size()) == (None, before + 1)
            self.abandoned.append(self.pens[writer])
            self.pens[writer] = Pen(self.ledgers[writer])
        self.write(Job(job.statements), writer)

    # The sender -------------------------------------------------------------------------------------------------------

    @rule(reference=references)
    def register_late(self, reference: str) -> None:
        told = a_registration(provider_message_id=reference)
        job, _ = registered(reference.encode(), told, self.account)
        self.write(job)

    @rule(name=own)
    def register(self, name: bytes) -> None:
        job, self.own[name] = registered(name, a_registration(), self.account)
        self.write(job)

    @precondition(lambda self: self.own)
    @rule(name=own, text=st.sampled_from(["no route", "rejected"]))
    def fail_locally(self, name: bytes, text: str) -> None:
        if name in self.own:
            self.write(self.sender.fail(self.own[name], Channel.SMS, LocalFailure(text), at(RECEIVED)))

    @precondition(lambda self: self.own)
    @rule(name=own, reference=references, writer=writers)
    def hand_off(self, name: bytes, reference: str, writer: int) -> None:
        if name not in self.own:
            return
        told = a_registration(provider_message_id=reference)
        job, leading = self.sender.hand_off(self.own[name], 4711, told, at(RECEIVED))
        if self.handed_off.setdefault(name, reference) != reference:
            try:
                self.pens[writer].do(job)
            except AlreadyLinked:
                return
            raise AssertionError("a message was handed off twice")
        self.write(job, writer)
        self.shown.pop(leading, None)  # two stories have become one, which is shown from here on
        self.shown.pop(self.own[name], None)

    # People -----------------------------------------------------------------------------------------------------------

    @rule(reference=references, to=st.sampled_from([Outcome.DELIVERED, Outcome.FAILED]))
    def correct(self, reference: str, to: Outcome) -> None:
        stream_id = stream_of(reference, self.account)
        correction = Correction(to=to, by="operator-1", why="asked")
        is_open = self.ledgers[0].load([stream_id])[0].message.conflict is Conflict.OPEN
        try:
            self.write(self.sender.correct(stream_id, Channel.SMS, correction, at(RECEIVED)))
        except NotInConflict:
            assert not is_open
        else:
            assert is_open

    # What must hold ---------------------------------------------------------------------------------------------------

    @invariant()
    def rows_are_what_a_rebuild_would_make_them(self) -> None:
        streams = self.streams()
        assert not streams or rebuilding.differences(self.ledgers[0], *streams) == []

    @invariant()
    def every_observation_is_on_record_exactly_once(self) -> None:
        recorded = [
            each.event.key.hex()
            for stream_id in self.streams()
            for each in self.ledgers[0].history(stream_id)
            if each.stream_id == stream_id and isinstance(each.event, StatusObserved)
        ]
        assert sorted(recorded) == sorted(self.said)

    @invariant()
    def every_stream_counts_its_events(self) -> None:
        for stream_id in self.streams():
            own_events = [each for each in self.ledgers[0].history(stream_id) if each.stream_id == stream_id]
            assert [event.originator_version for event in self.ledgers[0].recorder.select_events(stream_id)] == list(
                range(1, len(own_events) + 1)
            )

    @invariant()
    def messages_are_as_the_model_says_and_never_flip(self) -> None:
        for stream_id, row in rebuilding.stored_rows(self.ledgers[0], *self.streams() or [UUID(int=0)]).items():
            message: Message = row["message"]
            history = self.ledgers[0].history(stream_id)
            assert_agreement(message, self.modelled(history))
            before = self.shown.get(stream_id, Message())
            if message.corrections == before.corrections:
                assert model.climbs(before.status, message.status)
                if model.is_terminal(before.status):
                    assert model.outcome(message.status) == model.outcome(before.status)
            self.shown[stream_id] = message

    def modelled(self, history: list[RecordedEvent]) -> model.Message:
        """Fold the log's claims, as they were said, and its corrections with the model.

        A correction was decided within one stream. Where a hand-off has since put another stream's claims before it,
        the model cannot decide it again, and what was decided stands.
        """
        message, is_linked = model.Message(), len({recorded.stream_id for recorded in history}) > 1
        for recorded in history:
            match recorded.event:
                case StatusObserved(key=key):
                    message = model.observe(message, self.said[key.hex()])
                case StatusCorrected() as corrected if is_linked:
                    message = replace(
                        message,
                        status=corrected.status_after.value,
                        kind=corrected.kind_after.value if corrected.kind_after else "",
                        conflict="settled",
                        corrections=message.corrections + (corrected.to.value != model.outcome(message.status)),
                    )
                case StatusCorrected(to=to):
                    message = model.correct(message, to.value)
        return message

    def streams(self) -> list[UUID]:
        """Return the streams of this example that have been opened."""
        named = [*(stream_of(reference, self.account) for reference in PROVIDERS_MESSAGES), *self.own.values()]
        return [loaded.stream_id for loaded in self.ledgers[0].load(named) if loaded.version]

    def is_new(self, job: Job) -> bool:
        """Tell whether a job says anything new."""
        recorded = {
            each.event.key
            for stream_id in self.streams()
            for each in self.ledgers[1].history(stream_id)
            if isinstance(each.event, StatusObserved)
        }
        return any(isinstance(each.command, Observe) and each.command.key not in recorded for each in job.statements)

    def log_size(self) -> int:
        return self.ledgers[0].recorder.max_notification_id() or 0


def _raise(error: Any) -> None:
    raise error


def assert_agreement(ours: Message, theirs: model.Message) -> None:
    assert ours.status.value == theirs.status
    assert (ours.kind.value if ours.kind else "") == theirs.kind
    assert ours.conflict.value == theirs.conflict
    assert ours.corrections == theirs.corrections
    assert {key.hex() for key in ours.keys} == theirs.keys
    assert machine.evidence_as_model(ours.evidence) == theirs.evidence
    assert machine.failure_reason(ours) == model.failure_reason(theirs)
    expected = machine.expected_times(theirs)
    if ours.registered_at is not None and expected["queued_at"] is None:
        expected["queued_at"] = ("received",)  # the model knows no registration
    assert machine.told_times(ours) == expected


def test_whatever_happens_the_ledger_agrees_with_the_model(database_url: str, open_ledger: OpenLedger) -> None:
    ledgers = [steady(open_ledger(database_url, type_=WatchedLedger, pool_size=2)) for _ in range(2)]
    examples = max(5, settings.default.max_examples // 4)

    run_state_machine_as_test(
        lambda: Ingest((ledgers[0], ledgers[1])),
        settings=settings(settings.default, max_examples=examples, stateful_step_count=20),
    )

    with ledgers[0].reading() as cursor:
        links = [chain.Link(*row) for row in cursor.execute(chain.SELECT)]
    assert len(links) > 10 * examples
    assert chain.first_bad(links) is None
