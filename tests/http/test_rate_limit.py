"""The rate limit: per key, shared by routes and processes, and a time to come back that can be relied on."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import httpx
import pytest

from tests.http.callbacks import meta, meta_status, new_wamid, send
from tests.plugins.service import Service, Starter

#: Clocks of the server, of PostgreSQL and of the test are the same machine's; this is for rounding.
ROUNDING_SECONDS = 1.0


@pytest.fixture(scope="module")
def brief(start_module_service, new_database) -> Service:
    """Five requests in two seconds."""
    return start_module_service(new_database(), rate_limit="5/2")


@pytest.fixture(scope="module")
def long(start_module_service, new_database) -> Service:
    """Forty requests in an hour."""
    return start_module_service(new_database(), rate_limit="40/3600")


def within_one_window(seconds: int, attempt: Callable[[], None]) -> None:
    """Run an attempt that is only meaningful if no window ended meanwhile; again if one did."""
    for _ in range(5):
        window = time.time() // seconds
        attempt_failed: AssertionError | None = None
        try:
            attempt()
        except AssertionError as failed:
            attempt_failed = failed
        if window == time.time() // seconds:
            if attempt_failed:
                raise attempt_failed
            return
    pytest.fail("no attempt fitted into one window")


def exhausted(client: httpx.Client, path: str = "/v1/messages") -> httpx.Response:
    """Ask until the limit answers."""
    for _ in range(200):
        answer = client.get(path)
        if answer.status_code != 200:
            return answer
    raise AssertionError("the limit never came")


def test_beyond_the_limit_a_caller_is_told_when_to_come_back(brief):
    answer = exhausted(brief.api())

    assert answer.status_code == 429
    told = answer.json()
    assert (told["code"], answer.headers["content-type"]) == ("rate_limited", "application/problem+json")
    now = datetime.now(UTC)
    left = (datetime.fromisoformat(told["retry_at"]) - now).total_seconds()
    assert told["retry_at"].endswith("Z")
    assert int(answer.headers["retry-after"]) >= 1
    assert abs(left - int(answer.headers["retry-after"])) <= ROUNDING_SECONDS + 0.5
    assert left <= 2 + ROUNDING_SECONDS


def test_the_compatibility_api_tells_it_its_own_way(brief):
    answer = exhausted(brief.api(), "/api/v1/whatsapp/messages")

    told = answer.json()
    assert (answer.status_code, told["error_code"]) == (429, 3)
    assert set(told) == {"request_id", "error_code", "error", "retry_at"}
    assert int(answer.headers["retry-after"]) >= 1
    assert abs(datetime.fromisoformat(told["retry_at"]).timestamp() - time.time()) <= 2 + ROUNDING_SECONDS


def test_nothing_succeeds_early_and_who_waits_succeeds(brief):
    client = brief.api()
    retry_at = datetime.fromisoformat(exhausted(client).json()["retry_at"]).timestamp()

    answers = []
    while time.time() < retry_at + 5 and 200 not in [status for _, status in answers]:
        asked_at = time.time()
        answers.append((time.time(), client.get("/v1/messages").status_code))
        assert answers[-1][1] == 429 or time.time() >= retry_at, f"{retry_at - asked_at} s early"
        time.sleep(0.02)

    assert answers[-1][1] == 200
    assert answers[-1][0] <= retry_at + 1.5


def test_another_key_is_not_affected(brief):
    limited, other = brief.api(), brief.api()

    exhausted(limited)

    assert other.get("/v1/messages").status_code == 200


def test_callbacks_are_never_limited(brief):
    answers = {send(brief, meta(meta_status(new_wamid()))).status_code for _ in range(30)}

    assert answers == {200}


def test_a_refused_key_is_not_counted(brief):
    key, secret = brief.new_key("meta-main", "whatsapp")
    brief.parts.keys.revoke(key.id)

    assert {brief.client(secret).get("/v1/messages").status_code for _ in range(20)} == {401}


def test_exactly_as_many_as_allowed_succeed_however_they_come(long):
    def attempt() -> None:
        client = long.api()
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: client.get("/v1/messages").status_code, range(100)))
        assert sorted(answers) == [200] * 40 + [429] * 60

    within_one_window(3_600, attempt)


def test_all_routes_share_one_budget(long):
    def attempt() -> None:
        client = long.api()
        answers = [
            client.get(path).status_code for _ in range(20) for path in ("/v1/messages", "/api/v1/whatsapp/messages")
        ]
        assert answers == [200] * 40
        assert client.post("/v1/messages", json={"channel": "whatsapp"}).status_code == 429

    within_one_window(3_600, attempt)


def test_the_count_survives_a_restart(start_service: Starter, database_url):
    def attempt() -> None:
        first = start_service(database_url, rate_limit="5/3600")
        _, secret = first.new_key("meta-main", "whatsapp")
        exhausted(first.client(secret))
        first.stop()

        second = start_service(database_url, rate_limit="5/3600")

        assert second.client(secret).get("/v1/messages").status_code == 429

    within_one_window(3_600, attempt)


def test_several_processes_share_one_count(start_service: Starter, database_url):
    """Two servers over one database, as two machines would be."""
    servers = [start_service(database_url, rate_limit="40/3600") for _ in range(2)]

    def attempt() -> None:
        _, secret = servers[0].new_key("meta-main", "whatsapp")
        with ThreadPoolExecutor(8) as pool:
            answers = list(
                pool.map(lambda number: servers[number % 2].client(secret).get("/v1/messages").status_code, range(120))
            )
        assert answers.count(200) == 40
        assert answers.count(429) == 80

    within_one_window(3_600, attempt)
