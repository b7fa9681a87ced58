"""How a signature is spelled, and how old it may be."""

from base64 import b64encode
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ledger.wire import signature


@pytest.mark.parametrize("text", [b"", b"AA==", b"+/+/", b"AAAA"])
def test_standard_base64_is_decoded(text):
    assert b64encode(signature.unbase64(text)) == text


@pytest.mark.parametrize("text", [b"A", b"AA", b"AB==", b"-_-_", b"AA==\n", b" AA==", b"AA==AA==", b"\xff", b"=="])
def test_any_other_spelling_of_base64_is_not(text):
    assert signature.unbase64(text) is None


@given(st.binary())
def test_decoding_is_total_over_any_bytes(text):
    decoded = signature.unbase64(text)

    assert decoded is None or b64encode(decoded) == text


NOON = datetime(2026, 10, 15, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("age", "expected"),
    [
        (timedelta(0), True),
        (HOUR, True),
        (HOUR + timedelta(seconds=1), False),
        (-signature.AHEAD_MAX, True),
        (-signature.AHEAD_MAX - timedelta(seconds=1), False),
    ],
)
def test_a_signature_is_fresh_up_to_its_age_and_as_far_ahead_as_clocks_differ(age, expected):
    assert expected == signature.is_fresh(NOON - age, NOON, HOUR)


def test_a_signature_without_an_instant_is_not_fresh():
    assert not signature.is_fresh(None, NOON, HOUR)


@given(st.datetimes(timezones=st.just(UTC)), st.datetimes(timezones=st.just(UTC)))
@example(datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))
@example(datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC))
def test_freshness_is_total_over_any_instants(signed_at, received_at):
    assert signature.is_fresh(signed_at, received_at, HOUR) in (True, False)


# Instants in headers


@pytest.mark.parametrize(
    ("age", "expected"),
    [
        (timedelta(0), True),
        (HOUR, True),
        (HOUR + timedelta(seconds=1), False),
        (-signature.AHEAD_MAX, True),
        (-signature.AHEAD_MAX - timedelta(seconds=1), False),
    ],
)
def test_seconds_in_a_header_are_judged_like_an_instant(age, expected):
    signed_at = b"%d" % (NOON - age).timestamp()

    assert expected == signature.is_fresh_at(signed_at, NOON, HOUR)


def test_a_part_of_a_second_counts():
    signed_at = b"%d" % (NOON - HOUR).timestamp()

    assert not signature.is_fresh_at(signed_at, NOON + timedelta(microseconds=1), HOUR)


@pytest.mark.parametrize("spelled", [b"", b"x", b"-%d", b"+%d", b" %d", b"%d\n", b"%d.0", b"0" * 11 + b"%d"])
def test_any_other_spelling_of_an_instant_is_none(spelled):
    told = spelled.replace(b"%d", b"%d" % NOON.timestamp())

    assert not signature.is_fresh_at(told, NOON, HOUR)


def test_leading_zeros_are_allowed_and_a_missing_header_is_no_instant():
    assert signature.is_fresh_at(b"00%d" % NOON.timestamp(), NOON, HOUR)
    assert not signature.is_fresh_at(None, NOON, HOUR)


@given(st.binary(), st.datetimes(timezones=st.just(UTC)))
@example(b"9" * 20, datetime.min.replace(tzinfo=UTC))
@example(b"9" * 5_000, datetime.max.replace(tzinfo=UTC))
def test_reading_an_instant_of_a_header_is_total_over_any_bytes(told, received_at):
    assert signature.is_fresh_at(told, received_at, HOUR) in (True, False)
