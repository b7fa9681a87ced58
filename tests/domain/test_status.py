"""The table of verdicts and the tables of the channels, against what the specification says of them.

The tables below are the specification's, cell for cell. `d` documented, `s` skip, `=` repeat, `↓` late, `✗` conflict,
`n` note; `.` stands for a claim that does not exist on the channel.
"""

from collections.abc import Iterator
from itertools import pairwise

import pytest

from ledger.domain.status import (
    CHAIN,
    MAY_STILL_BECOME,
    SENTENCES,
    VERDICTS,
    Channel,
    FailureKind,
    Outcome,
    Status,
    Style,
    Verdict,
    is_terminal,
    outcome,
    skipped,
    verdict,
    word,
)
from tests.domain import model

VERDICT_TABLE = """
            UNKNOWN  QUEUED   SENT     DELIVERED  READ      DELETED   FAILED
UNKNOWN     note     advance  advance  advance    advance   advance   advance
QUEUED      note     repeat   advance  advance    advance   advance   advance
SENT        note     late     repeat   advance    advance   advance   advance
DELIVERED   note     late     late     repeat     advance   advance   conflict
READ        note     late     late     late       repeat    advance   conflict
DELETED     note     late     late     late       late      repeat    conflict
FAILED      note     late     late     conflict   conflict  conflict  repeat
"""

CHANNEL_TABLES = {
    Channel.WHATSAPP: """
                QUEUED  SENT  DELIVERED  READ  DELETED  FAILED/failed  FAILED/undelivered
    UNKNOWN     d       d     s          s     s        d              d
    QUEUED      =       d     s          s     s        d              d
    SENT        ↓       =     d          d     s        d              d
    DELIVERED   ↓       ↓     =          d     d        ✗              ✗
    READ        ↓       ↓     ↓          =     d        ✗              ✗
    DELETED     ↓       ↓     ↓          ↓     =        ✗              ✗
    FAILED      ↓       ↓     ✗          ✗     ✗        =              =
    """,
    Channel.SMS: """
                QUEUED  SENT  DELIVERED  READ  DELETED  FAILED/failed  FAILED/undelivered
    UNKNOWN     d       d     s          s     .        d              s
    QUEUED      =       d     s          s     .        d              s
    SENT        ↓       =     d          s     .        s              d
    DELIVERED   ↓       ↓     =          d     .        ✗              ✗
    READ        ↓       ↓     ↓          =     .        ✗              ✗
    FAILED      ↓       ↓     ✗          ✗     .        =              =
    """,
    Channel.VIBER: """
                QUEUED  SENT  DELIVERED  READ  DELETED  FAILED/failed  FAILED/undelivered
    UNKNOWN     d       d     s          s     .        d              d
    QUEUED      =       d     s          s     .        d              d
    SENT        ↓       =     d          s     .        d              d
    DELIVERED   ↓       ↓     =          d     .        ✗              ✗
    READ        ↓       ↓     ↓          =     .        ✗              ✗
    FAILED      ↓       ↓     ✗          ✗     .        =              =
    """,
}

#: The specification marks it as a skip, but there is no status between the two that could be listed as skipped.
SKIP_OF_NOTHING = (Channel.SMS, Status.SENT, Status.FAILED, FailureKind.FAILED)

WORD_TABLE = """
            unified    whatsapp   viber      sms
UNKNOWN     UNKNOWN    unknown    unknown    queued
QUEUED      SENT       sent       sent       queued
SENT        SENT       sent       sent       sent
DELIVERED   DELIVERED  delivered  delivered  delivered
READ        READ       read       read       delivered
DELETED     DELETED    deleted    deleted    delivered
FAILED      FAILED     failed     failed     failed/undelivered
"""

SYMBOLS = {Verdict.REPEAT: "=", Verdict.LATE: "↓", Verdict.CONFLICT: "✗", Verdict.NOTE: "n"}

Cell = tuple[Channel, Status, Status, FailureKind | None, str]


def cells(text: str) -> Iterator[tuple[Status, str, str]]:
    """Yield (current status, heading, cell) of a table."""
    heading, *rows = text.strip().splitlines()
    for row in rows:
        current, *columns = row.split()
        for head, cell in zip(heading.split(), columns, strict=True):
            yield Status(current), head, cell


def channel_cells() -> Iterator[Cell]:
    for channel, text in CHANNEL_TABLES.items():
        for current, heading, cell in cells(text):
            claimed, _, kind = heading.partition("/")
            yield channel, current, Status(claimed), FailureKind(kind) if kind else None, cell


def symbol(channel: Channel, current: Status, claimed: Status, kind: FailureKind | None) -> str:
    """Say in the specification's sign what our table and our list of skipped steps make of a claim."""
    judged = verdict(current, claimed)
    if judged is not Verdict.ADVANCE:
        return SYMBOLS[judged]
    return "s" if skipped(channel, current, claimed, kind) else "d"


@pytest.mark.parametrize(("current", "claimed", "expected"), list(cells(VERDICT_TABLE)))
def test_verdict_is_the_specified_one(current: Status, claimed: str, expected: str) -> None:
    assert expected == verdict(current, Status(claimed))


def test_verdict_table_is_total() -> None:
    assert [set(Status)] * len(Status) == [set(VERDICTS[current]) for current in Status]


@pytest.mark.parametrize(
    ("channel", "current", "claimed", "kind", "expected"), [cell for cell in channel_cells() if cell[-1] != "."]
)
def test_channel_documents_skips_and_refuses_as_specified(
    channel: Channel, current: Status, claimed: Status, kind: FailureKind | None, expected: str
) -> None:
    if (channel, current, claimed, kind) == SKIP_OF_NOTHING:
        assert expected == "s"
        expected = "d"

    assert expected == symbol(channel, current, claimed, kind)


@pytest.mark.parametrize("channel", [Channel.SMS, Channel.VIBER])
def test_claim_that_does_not_exist_on_a_channel_is_treated_as_on_whatsapp(channel: Channel) -> None:
    foreign = [cell for cell in channel_cells() if cell[0] is channel and cell[-1] == "."]
    whatsapp = {cell[1:4]: cell[-1] for cell in channel_cells() if cell[0] is Channel.WHATSAPP}

    assert len(foreign) == len(Status) - 1
    for _, current, claimed, kind, _ in foreign:
        assert whatsapp[current, claimed, kind] == symbol(channel, current, claimed, kind)


@pytest.mark.parametrize(
    ("channel", "current", "claimed", "kind", "expected"),
    [
        (Channel.WHATSAPP, Status.UNKNOWN, Status.READ, None, (Status.SENT, Status.DELIVERED)),
        (Channel.WHATSAPP, Status.QUEUED, Status.DELIVERED, None, (Status.SENT,)),
        (Channel.WHATSAPP, Status.SENT, Status.READ, None, ()),
        (Channel.WHATSAPP, Status.SENT, Status.DELETED, None, (Status.DELIVERED,)),
        (Channel.WHATSAPP, Status.DELIVERED, Status.DELETED, None, ()),
        (Channel.VIBER, Status.SENT, Status.READ, None, (Status.DELIVERED,)),
        (Channel.SMS, Status.UNKNOWN, Status.SENT, None, ()),
        (Channel.SMS, Status.QUEUED, Status.FAILED, FailureKind.UNDELIVERED, (Status.SENT,)),
        (Channel.SMS, Status.QUEUED, Status.FAILED, FailureKind.FAILED, ()),
        (Channel.VIBER, Status.QUEUED, Status.FAILED, FailureKind.UNDELIVERED, ()),
    ],
)
def test_skipped_steps_are_listed_lowest_first(
    channel: Channel, current: Status, claimed: Status, kind: FailureKind | None, expected: tuple[Status, ...]
) -> None:
    assert expected == skipped(channel, current, claimed, kind)


@pytest.mark.parametrize(("status", "column", "expected"), list(cells(WORD_TABLE)))
def test_word_shown_is_the_specified_one(status: Status, column: str, expected: str) -> None:
    style = Style.UNIFIED if column == "unified" else Style.CHANNEL
    channels = list(Channel) if column == "unified" else [Channel(column)]

    for channel in channels:
        if "/" in expected:
            assert expected.split("/") == [word(status, kind, channel, style) for kind in FailureKind]
        else:
            kind = FailureKind.UNDELIVERED if status is Status.FAILED else None
            assert expected == word(status, kind, channel, style)


@pytest.mark.parametrize("style", Style)
@pytest.mark.parametrize("channel", Channel)
def test_word_once_left_is_never_shown_again_on_the_way_up(channel: Channel, style: Style) -> None:
    words = [word(status, None, channel, style) for status in CHAIN]

    assert len(set(words)) == 1 + sum(one != next_ for one, next_ in pairwise(words))


def test_outcome_and_terminality_are_the_models() -> None:
    for status in Status:
        assert model.outcome(status.value) == outcome(status)
        assert model.is_terminal(status.value) == is_terminal(status)


def test_status_climbs_by_every_advance_and_an_outcome_is_never_left() -> None:
    for current in Status:
        for claimed in Status:
            if verdict(current, claimed) is Verdict.ADVANCE:
                assert model.climbs(current.value, claimed.value)
                assert outcome(current) in (Outcome.PENDING, outcome(claimed))


def test_what_may_follow_an_outcome_is_a_documented_advance_and_keeps_the_outcome() -> None:
    for channel, following in MAY_STILL_BECOME.items():
        for current, nexts in following.items():
            assert is_terminal(current)
            assert ["d"] * len(nexts) == [symbol(channel, current, claimed, None) for claimed in nexts]


def test_what_may_follow_an_outcome_is_the_specified() -> None:
    expected = {
        Channel.WHATSAPP: {Status.DELIVERED: (Status.READ, Status.DELETED), Status.READ: (Status.DELETED,)},
        Channel.VIBER: {Status.DELIVERED: (Status.READ,)},
        Channel.SMS: {},
    }

    assert expected == MAY_STILL_BECOME


def test_every_status_has_a_sentence() -> None:
    assert set(Status) == {status for status, sentence in SENTENCES.items() if sentence.endswith(".")}
