"""The laws have teeth: sixteen errors that somebody could make, each planted in the domain and found by its laws.

Every law is run here with settings of its own, drawn the same way every time, so that the outcome does not depend on
the run; and every law must first hold for the domain as it is, or finding an error would mean nothing.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, settings

from ledger.domain import evidence, message, reading, status
from ledger.domain.events import AnyEvent, StatusCorrected, StatusObserved
from ledger.domain.evidence import Evidence, Failure
from ledger.domain.message import Command, Correct, Message
from ledger.domain.status import RANK, Channel, Outcome, Status, Verdict
from tests.domain import test_laws as laws

Law = Callable[[], None]
Plant = Callable[[pytest.MonkeyPatch], None]

_SETTINGS: Final = settings(
    max_examples=400,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)
_DELIVERED_BRANCH: Final = (Status.DELIVERED, Status.READ, Status.DELETED)


def run(law: Law) -> None:
    """Run a law on the same examples every time."""
    _SETTINGS(laws.law(law.hypothesis.inner_test))()


def plant_verdicts(monkeypatch: pytest.MonkeyPatch, changes: Mapping[tuple[Status, Status], Verdict]) -> None:
    """Change cells (current, claimed) of the table of verdicts.

    Nothing is listed as skipped then: the list is made for the advances that exist, and a planted error that raises
    would be found by anything.
    """
    table = {current: dict(row) for current, row in status.VERDICTS.items()}
    for (current, claimed), verdict in changes.items():
        table[current][claimed] = verdict
    monkeypatch.setattr(status, "VERDICTS", table)
    monkeypatch.setattr(message, "skipped", lambda *_: ())


def plant_join(monkeypatch: pytest.MonkeyPatch, wrong: Callable[[Evidence, Evidence], dict[str, Any]]) -> None:
    """Join rightly but for the fields that `wrong` returns."""
    join = Evidence.join

    def joined(self: Evidence, other: Evidence) -> Evidence:
        return msgspec.structs.replace(join(self, other), **wrong(self, other))

    monkeypatch.setattr(Evidence, "join", joined)


def last_writer_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    claims = [claimed for claimed in Status if claimed is not Status.UNKNOWN]
    plant_verdicts(monkeypatch, {(current, claimed): Verdict.ADVANCE for current in Status for claimed in claims})


def terminal_means_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    climbs = [(low, high) for low in _DELIVERED_BRANCH for high in _DELIVERED_BRANCH if RANK[low] < RANK[high]]
    plant_verdicts(monkeypatch, dict.fromkeys(climbs, Verdict.LATE))


def failed_overrides_delivered(monkeypatch: pytest.MonkeyPatch) -> None:
    plant_verdicts(monkeypatch, {(current, Status.FAILED): Verdict.ADVANCE for current in _DELIVERED_BRANCH})


def delivered_overrides_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    plant_verdicts(monkeypatch, {(Status.FAILED, claimed): Verdict.ADVANCE for claimed in _DELIVERED_BRANCH})


def conflict_dropped_silently(monkeypatch: pytest.MonkeyPatch) -> None:
    crossings = [(current, Status.FAILED) for current in _DELIVERED_BRANCH]
    crossings += [(Status.FAILED, claimed) for claimed in _DELIVERED_BRANCH]
    plant_verdicts(monkeypatch, dict.fromkeys(crossings, Verdict.LATE))


def late_claims_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    decide = message.decide

    def decided(before: Message, command: Command) -> tuple[AnyEvent, ...]:
        events = decide(before, command)
        return tuple(
            event for event in events if not isinstance(event, StatusObserved) or event.verdict is not Verdict.LATE
        )

    monkeypatch.setattr(message, "decide", decided)


def redelivery_not_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(message, "judge", lambda before, _key, claimed: status.verdict(before.status, claimed))


def kind_follows_the_last_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    observed = message._observed

    def renamed(before: Message, event: StatusObserved) -> Message:
        after = observed(before, event)
        fails = event.claim is Status.FAILED is after.status
        return msgspec.structs.replace(after, kind=event.kind) if fails else after

    monkeypatch.setattr(message, "_observed", renamed)


def time_is_the_last_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "earliest", lambda one, other: other or one)


def unknown_regresses(monkeypatch: pytest.MonkeyPatch) -> None:
    plant_verdicts(monkeypatch, {(current, Status.UNKNOWN): Verdict.ADVANCE for current in Status})


def progress_joined_by_last(monkeypatch: pytest.MonkeyPatch) -> None:
    def last(one: Evidence, other: Evidence) -> dict[str, Any]:
        return {"progress": one.progress if other.progress is Status.UNKNOWN else other.progress}

    plant_join(monkeypatch, last)


def closed_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    plant_join(monkeypatch, lambda _one, other: {"closed": other.closed})


def reason_of_any_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def first(after: Message) -> Failure | None:
        if after.status is not Status.FAILED:
            return None
        claimed = after.evidence.failures
        return next((failure for failure in claimed if failure.says_something), claimed[0])

    monkeypatch.setattr(reading, "failure", first)


def correction_of_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    def corrected(before: Message, command: Correct) -> StatusCorrected:
        return StatusCorrected(
            account=before.account,
            provider=before.provider,
            channel=before.channel,
            to=command.to,
            by=command.by,
            why=command.why,
            status_before=before.status,
            status_after=Status.FAILED if command.to is Outcome.FAILED else Status.DELIVERED,
            received_at=command.receipt.received_at,
        )

    monkeypatch.setattr(message, "_correct", corrected)


def deletion_proves_a_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_IMPLIED", (Status.SENT, Status.DELIVERED, Status.READ))


def sms_word_steps_back(monkeypatch: pytest.MonkeyPatch) -> None:
    sms = dict(status.CHANNEL_WORDS[Channel.SMS]) | {Status.READ: "sent"}
    monkeypatch.setattr(status, "CHANNEL_WORDS", {**status.CHANNEL_WORDS, Channel.SMS: sms})


ORDERLESS_EVIDENCE: Final = laws.test_evidence_is_order_independent
ORDERLESS_VIEW: Final = laws.test_settled_view_and_conflict_flag_are_order_independent
REDELIVERY: Final = laws.test_redelivery_changes_nothing
REDELIVERY_MIDWAY: Final = laws.test_redelivery_at_any_point_changes_nothing
CLIMBS: Final = laws.test_status_climbs_and_outcome_never_flips
OF_EVIDENCE: Final = laws.test_status_is_a_function_of_the_evidence
NEVER_SILENT: Final = laws.test_a_conflict_is_never_silent
SEMILATTICE: Final = laws.test_join_is_a_semilattice
HALVES: Final = laws.test_halves_join_to_the_whole
UNKNOWN_IDLE: Final = laws.test_unknown_moves_nothing
ON_RECORD: Final = laws.test_every_claim_is_on_record_once
CORRECTION: Final = laws.test_correction_needs_an_open_conflict
WORDS: Final = laws.test_words_stay_in_vocabulary_and_never_step_back
TIMES: Final = laws.test_times_of_reached_statuses
REASON: Final = laws.test_failure_reason
MODEL: Final = laws.test_domain_agrees_with_the_model
MODEL_VERDICTS: Final = laws.test_domain_agrees_with_the_model_on_every_verdict
MODEL_CORRECTIONS: Final = laws.test_domain_agrees_with_the_model_across_corrections

#: Each error with laws that find it.
PLANTED: Final[list[tuple[Plant, tuple[Law, ...]]]] = [
    (last_writer_wins, (CLIMBS, OF_EVIDENCE, WORDS, MODEL)),
    (terminal_means_frozen, (ORDERLESS_VIEW, OF_EVIDENCE, MODEL)),
    (failed_overrides_delivered, (CLIMBS, OF_EVIDENCE, NEVER_SILENT, MODEL)),
    (delivered_overrides_failed, (CLIMBS, OF_EVIDENCE, NEVER_SILENT, MODEL)),
    (conflict_dropped_silently, (NEVER_SILENT, ORDERLESS_VIEW, MODEL_CORRECTIONS)),
    (late_claims_dropped, (ORDERLESS_EVIDENCE, ON_RECORD, MODEL)),
    (redelivery_not_recognised, (REDELIVERY, REDELIVERY_MIDWAY, ON_RECORD, MODEL_VERDICTS)),
    (kind_follows_the_last_failure, (CLIMBS, MODEL)),
    (time_is_the_last_one, (ORDERLESS_EVIDENCE, ORDERLESS_VIEW, SEMILATTICE, MODEL)),
    (unknown_regresses, (CLIMBS, OF_EVIDENCE, UNKNOWN_IDLE, MODEL)),
    (progress_joined_by_last, (ORDERLESS_EVIDENCE, SEMILATTICE, MODEL)),
    (closed_forgotten, (ORDERLESS_EVIDENCE, SEMILATTICE, HALVES, UNKNOWN_IDLE, MODEL)),
    (reason_of_any_failure, (REASON, MODEL)),
    (correction_of_anything, (CORRECTION,)),
    (deletion_proves_a_reading, (TIMES, MODEL)),
    (sms_word_steps_back, (WORDS, MODEL)),
]
LAWS: Final = sorted({law for _, finders in PLANTED for law in finders}, key=lambda law: law.__name__)


def cases() -> list[Any]:
    return [
        pytest.param(plant, law, id=f"{plant.__name__}-{law.__name__.removeprefix('test_')}")
        for plant, finders in PLANTED
        for law in finders
    ]


def test_there_are_sixteen_errors() -> None:
    assert len({plant for plant, _ in PLANTED}) == 16


def test_every_law_finds_some_error() -> None:
    assert {law for name, law in vars(laws).items() if name.startswith("test_")} == set(LAWS)


@pytest.mark.parametrize("law", [pytest.param(law, id=law.__name__.removeprefix("test_")) for law in LAWS])
def test_law_holds_for_the_domain_as_it_is(law: Law) -> None:
    run(law)


@pytest.mark.parametrize(("plant", "law"), cases())
def test_planted_error_is_found(plant: Plant, law: Law, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)

    with pytest.raises((AssertionError, pytest.fail.Exception)):
        run(law)
