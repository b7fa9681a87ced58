"""How old a signature may be, scheme by scheme: as long as a repeat may carry the signature of the first attempt."""

from datetime import timedelta

import msgspec
import pytest

from tests.providers.webhook_cases import CASES, Case

BY_NAME = {case.name: case for case in CASES}
MINUTES, HOURS = timedelta(minutes=1), timedelta(hours=1)
#: The greatest age that is accepted, and the greatest lead of the provider's clock.
WINDOWS = {
    "vonage message": (25 * HOURS, 5 * MINUTES),
    "vonage receipt": (25 * HOURS, 5 * MINUTES),
    "sinch message": (25 * HOURS, 5 * MINUTES),
    "sinch sms": (25 * HOURS, 5 * MINUTES),
    "telnyx": (5 * MINUTES, 5 * MINUTES),
    "messagebird sms": (MINUTES, timedelta(0)),  # the token tells its own beginning and end, a second of grace aside
    "bird channels": (48 * HOURS, 5 * MINUTES),
    "standardwebhooks v1": (5 * MINUTES, 5 * MINUTES),
    "standardwebhooks v1a, listed": (5 * MINUTES, 5 * MINUTES),
}
TIMELESS = [case.name for case in CASES if case.name not in WINDOWS]


def is_authentic(case: Case, age: timedelta) -> bool:
    request = case.request(case.item("1", "sent"))
    later = msgspec.structs.replace(request, received_at=request.received_at + age)
    return case.provider.authenticate(later, case.account("secret"))


@pytest.mark.parametrize("name", WINDOWS)
def test_a_signature_is_accepted_up_to_the_age_of_the_last_repeat_and_no_longer(name):
    oldest, _ = WINDOWS[name]

    assert is_authentic(BY_NAME[name], oldest)
    assert not is_authentic(BY_NAME[name], oldest + timedelta(seconds=1))
    assert not is_authentic(BY_NAME[name], timedelta(days=365))


@pytest.mark.parametrize("name", WINDOWS)
def test_a_signature_from_the_future_is_accepted_as_far_as_clocks_differ(name):
    _, earliest = WINDOWS[name]

    assert is_authentic(BY_NAME[name], -earliest)
    assert not is_authentic(BY_NAME[name], -earliest - timedelta(seconds=3))


@pytest.mark.parametrize("name", TIMELESS)
def test_a_signature_without_a_time_is_good_for_ever(name):
    assert is_authentic(BY_NAME[name], timedelta(days=3_650))


@pytest.mark.parametrize("name", WINDOWS)
def test_without_a_time_of_receipt_no_signature_with_a_time_is_fresh(name):
    case = BY_NAME[name]
    request = case.request(case.item("1", "sent"))
    timeless = msgspec.structs.replace(request, received_at=type(request).__struct_defaults__[0])

    assert not case.provider.authenticate(timeless, case.account("secret"))
