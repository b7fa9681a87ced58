"""The tables of `docs/status.md` are those of `ledger.domain.status` and of what is built on it."""

from ledger.domain.message import BELIEVED_AFTER, BELIEVED_BEFORE, DELIVERY_WINS, OBSERVATIONS_MAX
from ledger.domain.reading import TIMES, Basis
from ledger.domain.status import (
    MAY_STILL_BECOME,
    OUTCOMES,
    SENTENCES,
    VERDICTS,
    Channel,
    Conflict,
    FailureKind,
    Status,
    Style,
    Verdict,
    is_terminal,
    word,
)
from ledger.http.render import POLL_AFTER
from tests.docs.documents import code, section, table, tables, text_of

TEXT = text_of("docs/status.md")


def test_statuses_with_outcome_and_finality() -> None:
    documented = [(code(row[0])[0], row[1], row[2]) for row in table(TEXT, "The seven statuses")]

    assert documented == [
        (status.value, OUTCOMES[status].value, "yes" if is_terminal(status) else "no") for status in Status
    ]


def test_the_verdict_table() -> None:
    heading, *rows = tables(section(TEXT, "What a report does"))[0]
    claims = [code(cell)[0] for cell in heading[1:]]

    documented = {code(row[0])[0]: dict(zip(claims, row[1:], strict=True)) for row in rows}

    assert documented == {
        current.value: {claim.value: verdict.value for claim, verdict in row.items()}
        for current, row in VERDICTS.items()
    }


def test_every_verdict_is_explained() -> None:
    explained = {code(row[0])[0]: row[1] for row in table(TEXT, "What a report does", 1)}

    assert explained == {verdict.value: "no" if verdict is Verdict.REDELIVERED else "yes" for verdict in Verdict}


def test_words_by_style_and_channel() -> None:
    columns = [
        (Style.UNIFIED, Channel.WHATSAPP),
        *((Style.CHANNEL, channel) for channel in ("whatsapp", "viber", "sms")),
    ]

    documented = {code(row[0])[0]: row[1:] for row in table(TEXT, "Words shown")}

    for status in Status:
        kinds = list(FailureKind) if status is Status.FAILED else [None]
        for (style, channel), cell in zip(columns, documented[status], strict=True):
            words = dict.fromkeys(word(status, kind, Channel(channel), style) for kind in kinds)
            assert " / ".join(words) == cell, (status, style, channel)
    assert [status.value for status in Status] == list(documented)


def test_what_may_still_come() -> None:
    documented = {(row[0], code(row[1])[0]): code(row[2]) for row in table(TEXT, "What may still come")}

    assert documented == {
        (channel.value, status.value): [later.value for later in following]
        for channel, steps in MAY_STILL_BECOME.items()
        for status, following in steps.items()
    }


def test_waiting_times() -> None:
    documented = {code(row[0])[0]: int(row[1]) for row in table(TEXT, "What may still come", 1)}

    assert documented == {status.value: seconds for status, seconds in POLL_AFTER.items()}


def test_times_and_where_they_come_from() -> None:
    documented = {code(row[0])[0]: code(row[1])[0] for row in table(TEXT, "Times")}
    bases = [code(row[0])[0] for row in table(TEXT, "Times", 1)]

    assert documented == {field: status.value for field, status in TIMES.items()}
    assert bases == [basis.value for basis in Basis]


def test_conflict_words() -> None:
    assert [code(row[0])[0] for row in table(TEXT, "Conflicts")] == [conflict.value for conflict in Conflict]


def test_figures_in_the_text() -> None:
    assert f"a message with {OBSERVATIONS_MAX} recorded reports" in TEXT
    assert f"between {BELIEVED_BEFORE.days} days before and {BELIEVED_AFTER.seconds // 60} minutes after" in TEXT
    assert f"`{DELIVERY_WINS}`" in TEXT


def test_sentences_of_the_compatibility_api() -> None:
    documented = {code(row[0])[0]: row[1] for row in table(text_of("docs/compatibility.md"), "Read a status", 1)}

    assert documented == {status.value: sentence for status, sentence in SENTENCES.items()}
