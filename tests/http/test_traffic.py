"""What is kept of requests that are turned away: a sample, whatever comes."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from ledger.http import traffic
from ledger.http.problems import Problem
from ledger.http.traffic import Counter
from ledger.store import refusals
from ledger.store.application import Ledger
from ledger.store.refusals import Refusal

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
FORGED = Problem("not_authentic", "No signature matches.")


class Threadless:
    """Reads where it is asked, or says that the database is away."""

    def __init__(self) -> None:
        self.is_away = False

    async def read(self, function: Callable[..., Any], *told: Any) -> Any:
        if self.is_away:
            raise Problem("unavailable", "Away.")
        return function(*told)


def test_a_flood_is_counted_and_the_newest_of_it_kept(ledger: Ledger) -> None:
    counter = Counter(Threadless(), ledger, lambda: NOW)  # type: ignore[arg-type]
    ids = [uuid4() for _ in range(60)]
    for request_id in ids:
        counter.refused("meta-main", FORGED, request_id)

    asyncio.run(counter.hand_over())

    kept = refusals.newest(ledger, ["meta-main"], 100)
    assert {each.request_id for each in kept} == set(ids[-20:])
    with ledger.reading() as cursor:
        assert cursor.execute("SELECT sum(not_authentic) FROM webhook_traffic").fetchall() == [(60,)]


def test_refusals_wait_for_the_database(ledger: Ledger) -> None:
    edge = Threadless()
    counter = Counter(edge, ledger, lambda: NOW)  # type: ignore[arg-type]
    edge.is_away, request_id = True, uuid4()
    counter.refused("meta-main", FORGED, request_id)
    asyncio.run(counter.hand_over())
    edge.is_away = False

    asyncio.run(counter.hand_over())
    asyncio.run(counter.hand_over())

    (kept,) = refusals.newest(ledger, ["meta-main", "other"], 100)
    assert kept == Refusal(NOW, "meta-main", 401, "No signature matches.", request_id)
    assert refusals.newest(ledger, ["other"], 100) == []


def test_refusals_are_forgotten_after_a_day(ledger: Ledger) -> None:
    now = datetime.now(UTC)
    ages = [timedelta(hours=hours) for hours in (0, refusals.KEPT_HOURS - 1, refusals.KEPT_HOURS + 1)]
    refusals.add(ledger, [Refusal(now - age, "meta-main", 401, "", uuid4()) for age in ages])

    assert refusals.purge(ledger) == 1
    assert len(refusals.newest(ledger, ["meta-main"], 100)) == 2


def test_while_the_database_is_away_no_more_minutes_are_kept_than_there_may_be(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traffic, "_KEPT_MAX", 3)
    edge, minutes = Threadless(), iter(range(60))
    counter = Counter(edge, ledger, lambda: NOW + timedelta(minutes=next(minutes)))  # type: ignore[arg-type]
    edge.is_away = True
    for _ in range(5):
        counter.count("meta-main", 200)
        asyncio.run(counter.hand_over())
    edge.is_away = False

    asyncio.run(counter.hand_over())

    with ledger.reading() as cursor:
        assert cursor.execute("SELECT count(*), sum(accepted) FROM webhook_traffic").fetchall() == [(3, 3)]
