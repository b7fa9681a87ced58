"""One limit a key, however many processes count; nothing let through above it, and a wait that is worth it.

Windows are cut from the database's clock. Tests that must stay within one use a window of months.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.store.application import Ledger
from ledger.store.rate_limits import Limited, RateLimiter
from tests.plugins.ledger import PATIENCE_SECONDS, OpenLedger

LONG = 10_000_000
_number = count(1)


_MOVE_BACK = "UPDATE rate_windows SET window_start = window_start - make_interval(secs => %s) WHERE key_id = %s"


def a_key() -> str:
    return f"key_{next(_number)}"


def is_let_through(limiter: RateLimiter, key: str) -> bool:
    try:
        limiter.take(key)
    except Limited:
        return False
    return True


def database_now(ledger: Ledger) -> datetime:
    with ledger.reading() as cursor:
        row = cursor.execute("SELECT clock_timestamp()").fetchone()
    assert row is not None
    now: datetime = row[0]
    return now


@pytest.mark.parametrize("limit", [1, 2, 19, 20, 21, 39, 40, 41, 100])
def test_exactly_the_limit_is_let_through(shared_ledger: Ledger, limit: int) -> None:
    limiter, key = RateLimiter(shared_ledger, limit, LONG), a_key()

    passed = [is_let_through(limiter, key) for _ in range(limit + 5)]

    assert passed == [True] * limit + [False] * 5


@given(limit=st.integers(1, 60), turns=st.lists(st.integers(0, 2), max_size=80))
def test_limiters_that_share_a_key_share_its_limit(shared_ledger: Ledger, limit: int, turns: list[int]) -> None:
    """A limiter may hold a few requests for itself; together they never let more through, and in the end not less."""
    limiters, key = [RateLimiter(shared_ledger, limit, LONG) for _ in range(3)], a_key()

    passed = sum(is_let_through(limiters[turn], key) for turn in turns)
    passed_in_the_end = passed + sum(is_let_through(limiter, key) for limiter in limiters for _ in range(limit))

    assert passed <= limit
    assert passed_in_the_end == limit


def test_threads_that_share_a_limiter_share_its_limit(shared_ledger: Ledger) -> None:
    limiter, key = RateLimiter(shared_ledger, 50, LONG), a_key()

    with ThreadPoolExecutor(8) as threads:
        passed = list(threads.map(lambda _: is_let_through(limiter, key), range(120)))

    assert passed.count(True) == 50


def test_one_keys_limit_is_not_anothers(shared_ledger: Ledger) -> None:
    limiter = RateLimiter(shared_ledger, 1, LONG)
    exhausted, other = a_key(), a_key()
    limiter.take(exhausted)

    assert not is_let_through(limiter, exhausted)
    assert is_let_through(limiter, other)


def test_a_restart_does_not_give_the_limit_back(database_url: str, open_ledger: OpenLedger) -> None:
    key = a_key()
    limiter = RateLimiter(open_ledger(database_url), 3, LONG)
    assert [is_let_through(limiter, key) for _ in range(4)] == [True, True, True, False]

    assert not is_let_through(RateLimiter(open_ledger(database_url), 3, LONG), key)


def test_the_time_to_come_back_is_when_the_window_ends(shared_ledger: Ledger) -> None:
    limiter, key = RateLimiter(shared_ledger, 1, LONG), a_key()
    limiter.take(key)

    with pytest.raises(Limited) as refused:
        limiter.take(key)

    now, retry_at = database_now(shared_ledger), refused.value.retry_at
    assert retry_at > now
    assert retry_at.timestamp() % LONG == 0
    assert (retry_at - now).total_seconds() <= refused.value.retry_after_seconds <= LONG


def test_nothing_is_let_through_before_the_time_to_come_back_and_all_after_it(shared_ledger: Ledger) -> None:
    """Asks on until it is let through again; the database's clock then says that the time had come."""
    limiter, key = RateLimiter(shared_ledger, 2, 1), a_key()
    refused: Limited | None = None
    while refused is None:  # a window may have ended between two requests
        try:
            limiter.take(key)
        except Limited as limited:
            refused = limited

    until = time.monotonic() + PATIENCE_SECONDS
    while not is_let_through(limiter, key):
        assert time.monotonic() < until, "never let through again"

    assert database_now(shared_ledger) >= refused.retry_at
    assert refused.retry_after_seconds >= 1


def test_a_caller_that_waits_as_told_is_let_through(shared_ledger: Ledger) -> None:
    """The window is moved into the past, as if the caller had waited for its end."""
    limiter, key = RateLimiter(shared_ledger, 1, LONG), a_key()
    limiter.take(key)
    with pytest.raises(Limited):
        limiter.take(key)

    with shared_ledger.reading() as cursor:
        cursor.execute(_MOVE_BACK, (LONG, key))

    assert is_let_through(RateLimiter(shared_ledger, 1, LONG), key)
    assert not is_let_through(RateLimiter(shared_ledger, 1, LONG), key)


def test_a_flood_of_refused_requests_does_not_ask_the_database_again(shared_ledger: Ledger) -> None:
    limiter, key = RateLimiter(shared_ledger, 1, LONG), a_key()

    for _ in range(50):
        is_let_through(limiter, key)

    with shared_ledger.reading() as cursor:
        assert cursor.execute("SELECT used FROM rate_windows WHERE key_id = %s", (key,)).fetchall() == [(2,)]


def test_the_database_is_asked_once_for_many_requests(shared_ledger: Ledger) -> None:
    limiter, key = RateLimiter(shared_ledger, 2_000, LONG), a_key()

    for _ in range(100):
        limiter.take(key)

    with shared_ledger.reading() as cursor:
        assert cursor.execute("SELECT used FROM rate_windows WHERE key_id = %s", (key,)).fetchall() == [(100,)]
        cursor.execute("DELETE FROM rate_windows WHERE key_id = %s", (key,))
    limiter.take(key)
    with shared_ledger.reading() as cursor:
        assert cursor.execute("SELECT used FROM rate_windows WHERE key_id = %s", (key,)).fetchall() == [(100,)]
