"""The laws of the status machine, L1 to L15, over `decide` and `evolve`; L0 is `test_exhaustive`.

A history is up to eight claims with times that often coincide or are absent. The claims are the model's and `machine`
says them to the domain.
"""

from collections.abc import Callable, Sequence
from inspect import signature
from random import Random
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.domain import reading
from ledger.domain.evidence import Evidence
from ledger.domain.message import Message, NotInConflict
from ledger.domain.status import is_terminal, outcome
from tests.domain import machine, model
from tests.domain.machine import fold, observe, verdict
from tests.domain.model import Claim

#: The words of each style and channel, spelled out, in an order that no message may step back in.
VOCABULARY: Final = {
    ("unified", "whatsapp"): ["UNKNOWN", "SENT", "DELIVERED", "READ", "DELETED", "FAILED"],
    ("unified", "viber"): ["UNKNOWN", "SENT", "DELIVERED", "READ", "DELETED", "FAILED"],
    ("unified", "sms"): ["UNKNOWN", "SENT", "DELIVERED", "READ", "DELETED", "FAILED"],
    ("channel", "whatsapp"): ["unknown", "sent", "delivered", "read", "deleted", "failed"],
    ("channel", "viber"): ["unknown", "sent", "delivered", "read", "deleted", "failed"],
    ("channel", "sms"): ["queued", "sent", "delivered", "failed", "undelivered"],
}


def histories() -> st.SearchStrategy[list[Claim]]:
    """Draw histories full of failures, and as many without one: each kind alone leaves some law idle.

    With failures as rare as the rest, two of them seldom meet; with failures in every history, long climbs within
    the delivered branch never happen.
    """
    return _histories([*model.STATUSES, *["FAILED"] * 4]) | _histories(model.CHAIN)


def _histories(statuses: Sequence[str]) -> st.SearchStrategy[list[Claim]]:
    said = st.tuples(
        st.sampled_from(statuses),
        st.none() | st.integers(0, 20),
        st.sampled_from(["failed", "undelivered"]),
        st.sampled_from(["", "blocked", "no route"]),
        st.booleans(),
    )
    return st.lists(said, max_size=8).map(lambda all_said: [Claim(str(n), *told) for n, told in enumerate(all_said)])


#: What an argument of a law is drawn from, by its name.
DRAWN: Final[dict[str, st.SearchStrategy[Any]]] = {
    "cs": histories(),
    "others": histories(),
    "more": histories(),
    "order": st.randoms(use_true_random=False),
    "again": st.lists(st.integers(0, 7), max_size=8),
    "cut": st.integers(0, 8),
    "closes": st.booleans(),
    "to": st.sampled_from(["delivered", "failed"]),
    "corrections": st.lists(st.sampled_from([None, None, "delivered", "failed"]), min_size=8, max_size=8),
}


def law(test: Callable[..., None]) -> Callable[[], None]:
    """Draw every argument by its name, so that the same law can be run under other settings (`test_planted_errors`)."""
    return given(**{name: DRAWN[name] for name in signature(test).parameters})(test)


def shuffled(cs: list[Claim], order: Random) -> list[Claim]:
    return order.sample(cs, len(cs))


def is_settled(message: Message) -> bool:
    return not message.evidence.has_conflict and len({told.kind for told in message.evidence.failures}) <= 1


@law
def test_evidence_is_order_independent(cs: list[Claim], order: Random) -> None:
    """L1."""
    assert fold(cs).evidence == fold(shuffled(cs, order)).evidence


@law
def test_settled_view_and_conflict_flag_are_order_independent(cs: list[Claim], order: Random) -> None:
    """L2."""
    one, other = fold(cs), fold(shuffled(cs, order))

    if is_settled(one):
        assert machine.view(one) == machine.view(other)
    assert (one.conflict == "open") == (other.conflict == "open") == one.evidence.has_conflict


@law
def test_redelivery_changes_nothing(cs: list[Claim], again: list[int]) -> None:
    """L3."""
    message = fold(cs)

    for claim in (cs[n] for n in again if n < len(cs)):
        assert verdict(message, claim) == "redelivered"
        assert observe(message, claim) == message


@law
def test_redelivery_at_any_point_changes_nothing(cs: list[Claim], again: list[int]) -> None:
    """L3, in the middle of a history."""
    message = Message()

    for known, claim in enumerate(cs):
        message = observe(message, claim)
        repeated = cs[again[known] % (known + 1)] if known < len(again) else claim
        assert machine.decided(message, repeated) == ()


@law
def test_status_climbs_and_outcome_never_flips(cs: list[Claim]) -> None:
    """L4."""
    message = Message()

    for claim in cs:
        new = observe(message, claim)
        assert model.climbs(message.status.value, new.status.value)
        if is_terminal(message.status):
            assert (outcome(new.status), new.kind) == (outcome(message.status), message.kind)
        message = new


@law
def test_status_is_a_function_of_the_evidence(cs: list[Claim]) -> None:
    """L5."""
    message = fold(cs)

    if not message.evidence.has_conflict:
        assert message.status == model.status_of(machine.evidence_as_model(message.evidence))
    else:
        first = next(claim.status for claim in cs if model.is_terminal(claim.status))
        assert outcome(message.status) == model.outcome(first)


@law
def test_a_conflict_is_never_silent(cs: list[Claim]) -> None:
    """L6."""
    message, conflicts = Message(), 0

    for claim in cs:
        conflicts += verdict(message, claim) == "conflict"
        message = observe(message, claim)

    assert (conflicts > 0) == message.evidence.has_conflict == (message.conflict == "open")


@law
def test_join_is_a_semilattice(cs: list[Claim], others: list[Claim], more: list[Claim]) -> None:
    """L7."""
    x, y, z = (fold(claims).evidence for claims in (cs, others, more))

    assert x.join(y) == y.join(x)
    assert x.join(y).join(z) == x.join(y.join(z))
    assert x == x.join(x) == x.join(Evidence()) == Evidence().join(x)


@law
def test_halves_join_to_the_whole(cs: list[Claim], cut: int) -> None:
    """L8."""
    assert fold(cs).evidence == fold(cs[:cut]).evidence.join(fold(cs[cut:]).evidence)


@law
def test_unknown_moves_nothing(cs: list[Claim], closes: bool) -> None:
    """L9."""
    before = fold(cs)

    after = observe(before, Claim("z", "UNKNOWN", 3, closes=closes))

    assert (before.status, before.kind, before.conflict) == (after.status, after.kind, after.conflict)
    assert reading.times(before) == reading.times(after)
    assert (before.evidence.closed or closes) == after.evidence.closed


@law
def test_every_claim_is_on_record_once(cs: list[Claim]) -> None:
    """L10."""
    message = fold(cs + cs)

    assert {claim.key.encode() for claim in cs} == message.keys
    assert len(cs) == message.version


@law
def test_correction_needs_an_open_conflict(cs: list[Claim], to: str) -> None:
    """L11."""
    message = fold(cs)

    if message.conflict != "open":
        with pytest.raises(NotInConflict):
            machine.correct(message, to)
    else:
        new = machine.correct(message, to)
        assert (to, "settled") == (outcome(new.status), new.conflict)
        assert (message.evidence, message.keys) == (new.evidence, new.keys)
        assert message.corrections + (to != outcome(message.status)) == new.corrections


@law
def test_words_stay_in_vocabulary_and_never_step_back(cs: list[Claim]) -> None:
    """L12."""
    for (style, channel), words in VOCABULARY.items():
        message = Message()
        last = words.index(machine.word(message, channel, style))
        for claim in cs:
            message = observe(message, claim)
            word = machine.word(message, channel, style)
            assert word in words[last:]
            last = words.index(word)


@law
def test_times_of_reached_statuses(cs: list[Claim]) -> None:
    """L13."""
    message = fold(cs)
    told = {field for field, instant in reading.times(message).items() if instant is not None}
    progress, claimed = model.RANK[message.evidence.progress.value], {claim.status for claim in cs}

    assert (progress >= model.SENT) == ("sent_at" in told)
    assert (progress >= model.DELIVERED) == ("delivered_at" in told)
    for status in ("QUEUED", "READ", "DELETED", "FAILED"):
        assert (status in claimed) == (f"{status.lower()}_at" in told)


@law
def test_failure_reason(cs: list[Claim]) -> None:
    """L14."""
    message = fold(cs)

    if message.status != "FAILED":
        assert machine.failure_reason(message) is None
    else:
        own = [claim for claim in cs if claim.status == "FAILED" and claim.kind == message.kind]
        texts = sorted((model.NEVER if claim.at is None else claim.at, claim.reason) for claim in own if claim.reason)
        assert (texts[0][1] if texts else "") == machine.failure_reason(message)


@law
def test_domain_agrees_with_the_model(cs: list[Claim]) -> None:
    """L15: what is folded from the stored events, and everything a reader is told of it."""
    expected = model.Message()
    for claim in cs:
        expected = model.observe(expected, claim)

    ours = machine.replayed(cs)

    assert_agree(expected, ours)


@law
def test_domain_agrees_with_the_model_on_every_verdict(cs: list[Claim], again: list[int]) -> None:
    """L15, on history: also for observations delivered more than once."""
    expected, ours = model.Message(), Message()

    for claim in cs + [cs[n] for n in again if n < len(cs)]:
        assert model.verdict(expected, claim) == verdict(ours, claim)
        expected, ours = model.observe(expected, claim), observe(ours, claim)


@law
def test_domain_agrees_with_the_model_across_corrections(cs: list[Claim], corrections: list[str | None]) -> None:
    """L15, with every open conflict open to a correction and a contradiction after one opening it again."""
    expected, ours = model.Message(), Message()

    for claim, to in zip(cs, corrections, strict=False):
        expected, ours = model.observe(expected, claim), observe(ours, claim)
        assert expected.conflict == ours.conflict
        if to is not None and expected.conflict == "open":
            expected, ours = model.correct(expected, to), machine.correct(ours, to)

    assert_agree(expected, ours)


def assert_agree(expected: model.Message, ours: Message) -> None:
    assert expected == machine.as_model(ours)
    assert machine.expected_times(expected) == machine.told_times(ours)
    assert model.failure_reason(expected) == machine.failure_reason(ours)
    for channel in machine.CHANNELS:
        for style in machine.STYLES:
            assert model.word(expected, channel, style) == machine.word(ours, channel, style)
