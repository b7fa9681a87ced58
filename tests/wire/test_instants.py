from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ledger.wire import instants

NOON = datetime(2026, 10, 15, 12, 0, 1, tzinfo=UTC)
READERS = (instants.unix_seconds, instants.unix_milliseconds, instants.iso8601, instants.rfc2822)

JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.binary(),
    st.lists(st.integers()),
    st.dictionaries(st.text(), st.text()),
    st.datetimes().map(str),
    st.datetimes(timezones=st.timezones()).map(datetime.isoformat),
    st.from_regex(r"\A[A-Z][a-z]{2}, \d{1,2} [A-Z][a-z]{2} -?\d{1,5} \d\d:\d\d:\d\d [+-]\d{1,6}\Z"),
)


@pytest.mark.parametrize("value", ["1792065601", 1792065601, "0001792065601"])
def test_unix_seconds_are_read_from_text_and_number(value):
    assert instants.unix_seconds(value) == NOON


@pytest.mark.parametrize("value", ["1792065601250", 1792065601250])
def test_unix_milliseconds_keep_their_fraction_exactly(value):
    assert NOON.replace(microsecond=250_000) == instants.unix_milliseconds(value)


@pytest.mark.parametrize(
    "value",
    [None, "", " ", "-1", "1.0", "1e9", "0x10", "١٧٩٢٠٦٥٦٠١", "1792065601 ", True, 1792065601.0, -1, 0, "9" * 5000],
)
def test_what_is_not_a_whole_count_since_the_epoch_is_no_instant(value):
    assert instants.unix_seconds(value) is None
    assert instants.unix_milliseconds(value) is None


def test_milliseconds_taken_for_seconds_are_out_of_range():
    assert instants.unix_seconds("1792065601250") is None


def test_seconds_taken_for_milliseconds_are_out_of_range():
    assert instants.unix_milliseconds("1792065601") is None


def test_a_token_in_the_place_of_a_timestamp_is_out_of_range():
    assert instants.unix_milliseconds(4977069964384421269) is None


def test_the_range_is_the_years_2000_to_2100():
    first, last = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 12, 31, 23, 59, 59, tzinfo=UTC)

    for instant in (first, last):
        assert instant == instants.unix_seconds(int(instant.timestamp()))
        assert instant == instants.iso8601(instant.isoformat())
    for beyond in (first - timedelta(seconds=1), last + timedelta(seconds=1)):
        assert instants.unix_seconds(int(beyond.timestamp())) is None
        assert instants.iso8601(beyond.isoformat()) is None


@pytest.mark.parametrize(
    "value",
    [
        "2026-10-15T12:00:01Z",
        "2026-10-15t12:00:01z",
        "2026-10-15T12:00:01.000Z",
        "2026-10-15T12:00:01.000000999Z",
        "2026-10-15T14:00:01+02:00",
        "2026-10-15 12:00:01+0000",
        "20261015T120001Z",
    ],
)
def test_iso_8601_with_a_zone_is_an_instant_in_utc(value):
    read = instants.iso8601(value)

    assert read == NOON
    assert read is not None
    assert UTC is read.tzinfo


@pytest.mark.parametrize(
    "value",
    ["2026-10-15T12:00:01", "2026-10-15", "2610151204", "12:00:01Z", "2026-13-15T12:00:01Z", "yesterday", 1792065601],
)
def test_a_date_without_a_zone_is_no_instant(value):
    assert instants.iso8601(value) is None


@pytest.mark.parametrize("value", ["Thu, 15 Oct 2026 12:00:01 +0000", "Thu, 15 Oct 2026 14:00:01 +0200"])
def test_rfc_2822_is_an_instant_in_utc(value):
    read = instants.rfc2822(value)

    assert read == NOON
    assert read is not None
    assert UTC is read.tzinfo


@pytest.mark.parametrize(
    "value", ["Thu, 15 Oct 2026 12:00:01", "Thu, 15 Oct 2026 12:00:01 -0000", "Thu, 99 Oct 2026 12:00:01 +0000", "", 7]
)
def test_an_e_mail_date_without_a_usable_zone_is_no_instant(value):
    assert instants.rfc2822(value) is None


@example("0001-01-01T00:00:00+14:00")
@example("9999-12-31T23:59:59-14:00")
@example("Mon, 01 Jan 99999 00:00:00 +0000")
@example("Thu, 15 Oct 2026 12:00:01 +999999")
@example("2026-10-15T12:00:01+23:59:59.999999")
@example("\ud800" * 20)
@given(JUNK)
def test_every_reader_answers_an_aware_instant_in_utc_and_in_range_or_none(value):
    for read in READERS:
        instant = read(value)

        assert instant is None or (instant.tzinfo is UTC and 2000 <= instant.year <= 2100)
