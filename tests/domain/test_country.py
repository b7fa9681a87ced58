"""The country a phone number counts for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.domain.country import country_of


@pytest.mark.parametrize(
    ("number", "country"),
    [
        ("+4915112345678", "DE"),
        ("+380671234567", "UA"),
        ("+12025550123", "US"),
        ("+16045550123", "CA"),
        ("+18765550123", "JM"),
        ("+79261234567", "RU"),
        ("+77011234567", "KZ"),
        ("+447400123456", "GB"),
        ("+447797712345", "JE"),
    ],
)
def test_a_number_counts_where_the_plan_has_it(number: str, country: str) -> None:
    assert country_of(number) == country


@pytest.mark.parametrize(("number", "country"), [("+15550100", "US"), ("+1", "US"), ("+49", "DE"), ("+44", "GB")])
def test_a_mistyped_number_counts_for_the_country_that_was_meant(number: str, country: str) -> None:
    assert country_of(number) == country


@pytest.mark.parametrize(
    "recipient",
    [None, "", "+", "15550100", "+0", "+999123", "+87012345678", "US.13491208655302741918", "+1 202", "+٣٨٠"],
)
def test_what_is_no_number_of_a_country_counts_for_none(recipient: str | None) -> None:
    assert country_of(recipient) is None


@given(st.text(max_size=20) | st.from_regex(r"\+\d{0,20}"))
def test_any_text_is_answered(recipient: str) -> None:
    country = country_of(recipient)

    assert country is None or (len(country) == 2 and country.isupper())


@given(st.from_regex(r"\+\d{4,15}", fullmatch=True), st.from_regex(r"\+\d{4,15}", fullmatch=True))
def test_the_answer_does_not_depend_on_what_was_asked_before(one: str, other: str) -> None:
    first = country_of(one)
    country_of(other)
    assert country_of(one) == first
