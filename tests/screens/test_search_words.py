"""The language of the search box."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.domain.status import Channel, Conflict, Status
from ledger.screens.search_words import NAMES, Word, parse

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)


def test_words_and_a_term_are_understood_together():
    asked = parse("status:failed channel:sms provider:twilio since:1h order-77", NOW)

    assert (asked.statuses, asked.channels, asked.providers) == ((Status.FAILED,), (Channel.SMS,), ("twilio",))
    assert (asked.since, asked.term) == (NOW - timedelta(hours=1), "order-77")
    assert asked.explained == ()


@pytest.mark.parametrize(
    ("text", "term"),
    [
        ("+44 7700 900123", "+447700900123"),
        ("447700900123", "+447700900123"),
        ('"order: 77"', "order: 77"),
        ("order 77", "order 77"),
        ("https://example.com/1", "https://example.com/1"),
        ("", None),
        ("   ", None),
        ('"', None),
    ],
)
def test_what_is_left_is_one_term(text, term):
    assert parse(text, NOW).term == term


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("since:90s", NOW - timedelta(seconds=90)),
        ("since:30m", NOW - timedelta(minutes=30)),
        ("since:2w", NOW - timedelta(weeks=2)),
        ("since:2026-11-20", datetime(2026, 11, 20, tzinfo=UTC)),
        ('since:"2026-11-20T10:00:00+02:00"', datetime(2026, 11, 20, 8, tzinfo=UTC)),
        ("since:2026-11-20t10:00z", datetime(2026, 11, 20, 10, tzinfo=UTC)),
    ],
)
def test_times_are_ages_days_or_instants(text, at):
    assert parse(text, NOW).since == at


def test_several_values_of_one_word_are_alternatives():
    assert parse("status:sent,queued status:failed", NOW).statuses == (Status.SENT, Status.QUEUED, Status.FAILED)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("statis:failed", "Did you mean status:failed?"),
        ("zone:5", "zone: is not a word of this search."),
        ("status:lost", "status:lost was left out: a status is one of unknown, queued, sent"),
        ("since:yesterday", "since:yesterday was left out: a time is an age such as 30m"),
        ("conflict:", "conflict:"),
        ("category:network,account", "name one category"),
    ],
)
def test_what_is_not_understood_is_explained_and_left_out(text, sentence):
    asked = parse(f"{text} channel:sms", NOW)

    (told,) = asked.explained
    assert sentence in told
    assert asked.channels == (Channel.SMS,)
    assert [word.name for word in asked.words] == ["channel"]


def test_a_chip_puts_its_word_in_and_takes_it_out_again():
    asked = parse("channel:sms order-77", NOW)

    toggled = asked.toggled("status", "failed")

    assert toggled == "status:failed channel:sms order-77"
    assert parse(toggled, NOW).toggled("status", "failed") == "channel:sms order-77"
    assert parse("status:sent", NOW).toggled("status", "failed") == "status:failed"
    assert parse("conflict:open", NOW).conflict is Conflict.OPEN


#: Whole words, whose values may be anything.
WORDS = st.builds(Word, st.sampled_from(["", *NAMES, "other"]), st.text(max_size=20))


@given(st.text(max_size=80) | st.lists(WORDS, max_size=5).map(lambda words: " ".join(map(str, words))))
def test_any_text_is_understood_as_far_as_possible_and_means_the_same_written_again(text):
    asked = parse(text, NOW)

    again = parse(str(asked), NOW)

    assert str(again) == str(asked)
    assert again.term == asked.term
    assert not again.explained
