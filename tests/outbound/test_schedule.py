"""When something is tried again, and how it is signed."""

from base64 import b64encode
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from ledger.outbound import schedule, signing
from ledger.store.destinations import Signer

NOW = datetime.now(UTC)


@given(st.integers(1, 30), st.floats(0, 1))
def test_a_pause_lies_within_a_fifth_of_the_schedule_and_ends_with_it(tries: int, drawn: float) -> None:
    pause = schedule.next_try(tries, draw=lambda low, high: low + drawn * (high - low))

    if tries >= schedule.ATTEMPTS_MAX:
        assert pause is None
    else:
        assert pause is not None
        assert 0.8 * schedule.PAUSES[tries - 1] <= pause <= 1.2 * schedule.PAUSES[tries - 1] + 1e-6


def test_attempts_reach_over_three_days() -> None:
    assert 3 * 86_400 < sum(schedule.PAUSES) < 4 * 86_400


def test_what_failed_together_does_not_come_back_together() -> None:
    assert len({schedule.next_try(2) for _ in range(50)}) > 40


def test_nobody_is_asked_sooner_than_it_wants() -> None:
    assert schedule.next_try(1, 1_000.0) == 1_000.0
    assert schedule.next_try(5, 1.0, draw=lambda low, high: 1.0) == schedule.PAUSES[4]


@pytest.mark.parametrize(
    ("told", "seconds"),
    [
        ("120", 120),
        (" 5 ", 5),
        (format_datetime(NOW.replace(microsecond=0) + timedelta(minutes=5), usegmt=True), 300),
        (format_datetime(NOW - timedelta(minutes=5), usegmt=True), 0),
        ("999999999999", schedule.RETRY_AFTER_SECONDS_MAX),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date_and_bounded(told: str | None, seconds: float | None) -> None:
    found = schedule.retry_after(told, NOW.replace(microsecond=0))

    assert found == seconds or (found is not None and seconds is not None and abs(found - seconds) < 2)


@given(st.text(max_size=40))
def test_no_retry_after_breaks_the_reading(told: str) -> None:
    found = schedule.retry_after(told, NOW)

    assert found is None or 0 <= found <= schedule.RETRY_AFTER_SECONDS_MAX


@given(st.binary(max_size=200), st.binary(min_size=24, max_size=64))
def test_every_body_signed_with_any_secret_is_verified_by_the_standard_library(body: bytes, key: bytes) -> None:
    secret = signing.PREFIX + b64encode(key).decode()
    text = body.decode("utf-8", "replace").encode()

    headers = dict(signing.headers([Signer(secret, NOW)], "evt_1_2", datetime.now(UTC), text))

    told = {name.decode(): value.decode() for name, value in headers.items()}
    verifier = Webhook(secret)
    assert (
        verifier.sign("evt_1_2", datetime.fromtimestamp(int(told["webhook-timestamp"]), UTC), text.decode())
        == (told["webhook-signature"])
    )


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_!!!", "whsec_c2hvcnQ=", "secret", "whpk_" + "A" * 43 + "="])
def test_a_secret_of_another_form_is_refused_without_repeating_it(secret: str) -> None:
    with pytest.raises(ValueError, match=r"must be whsec_ and .*base64") as refused:
        signing.key_of(secret)

    assert not secret or secret not in str(refused.value) or secret == "whsec_"


def test_new_secrets_are_good_and_differ() -> None:
    made = {signing.new_secret() for _ in range(10)}

    assert len(made) == 10
    assert all(len(signing.key_of(secret)) == 32 for secret in made)
