"""L0: every sequence of up to five distinct claims out of sixteen, 571,457 of them, against the model.

The sixteen are the seven statuses, FAILED in both kinds, each at two times. The sequences form a tree in which every
node is one claim more than its parent, so each sequence costs one `decide` and one `evolve`.
"""

from functools import cache
from typing import Final

from ledger.domain import message
from ledger.domain.evidence import Evidence
from ledger.domain.message import Message
from tests.domain import machine, model

CLAIMS: Final = [
    model.Claim(f"{status} {kind} {at}", status, at, kind)
    for status in model.STATUSES
    for kind in (("failed", "undelivered") if status == "FAILED" else ("",))
    for at in (3, 7)
]
LENGTH_MAX: Final = 5
SEQUENCES: Final = 571_457

_COMMANDS: Final = [machine.command(claim) for claim in CLAIMS]


@cache
def after(before: model.Message, claim: model.Claim) -> tuple[model.Message, str]:
    """Return the model's message and verdict.

    Messages go in and come out without keys: the claims of a sequence are distinct, so keys decide nothing, and
    without them a few thousand messages stand for all sequences.
    """
    return model.replace(model.observe(before, claim), keys=frozenset()), model.verdict(before, claim)


class Walk:
    """A depth-first traversal of all sequences, comparing at every node."""

    def __init__(self) -> None:
        self.sequences = 0
        #: Our evidence, once translated and found equal to the model's; from then on equal evidence is equal.
        self.translated: dict[model.Message, Evidence] = {}
        #: The only message that a settled set of claims may lead to, in whatever order they came.
        self.settled: dict[frozenset[int], model.Message] = {}

    def visit(self, ours: Message, expected: model.Message, said: frozenset[int]) -> None:
        self.sequences += 1
        self.compare(ours, expected, said)
        if len(said) == LENGTH_MAX:
            return
        for n, command in enumerate(_COMMANDS):
            if n not in said:
                (event,) = message.decide(ours, command)
                following, judged = after(expected, CLAIMS[n])
                assert judged == event.verdict, (ours, CLAIMS[n])
                self.visit(message.evolve(ours, event), following, said | {n})

    def compare(self, ours: Message, expected: model.Message, said: frozenset[int]) -> None:
        assert expected.status == ours.status, (said, ours)
        assert expected.kind == (ours.kind or ""), (said, ours)
        assert expected.conflict == ours.conflict, (said, ours)
        assert len(said) == len(ours.keys) == ours.version, (said, ours)
        if expected not in self.translated:
            assert expected.evidence == machine.evidence_as_model(ours.evidence)
            self.translated[expected] = ours.evidence
        assert self.translated[expected] == ours.evidence, (said, ours)
        if not model.has_conflict(expected.evidence) and len(model.kinds(expected.evidence)) <= 1:
            assert expected == self.settled.setdefault(said, expected), (said, ours)


def test_every_short_sequence_agrees_with_the_model() -> None:
    """Also that settled claims lead to one message in every order, whatever the model says."""
    walk = Walk()

    walk.visit(Message(), model.Message(), frozenset())

    assert walk.sequences == SEQUENCES
    assert len(CLAIMS) == 16
