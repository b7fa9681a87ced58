"""Any number of pollers, by real clocks: none asks twice, and none of them is missed when it dies."""

import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from ledger.domain.observation import Source
from ledger.store.application import Ledger
from tests.plugins.ledger import PATIENCE_SECONDS, OpenLedger
from tests.plugins.service import ROOT, environment, eventually
from tests.polling.one_poller import a_polling, real_poller
from tests.polling.provider import Twilio
from tests.polling.world import Clock, World, world

LEASE_SECONDS = 3.0


@pytest.fixture
def now_world(ledger: Ledger) -> Iterator[World]:
    """An account whose messages were sent a minute ago, in a database of its own."""
    with world(ledger, Twilio, clock=Clock(datetime.now(UTC) - timedelta(minutes=1)), rate=500) as made:
        yield made


def a_campaign(world: World, messages: int) -> list[str]:
    sids = [f"SM{number:03}" for number in range(messages)]
    for sid in sids:
        world.server.truth[sid] = {"status": "delivered"}
    world.hear_all([(sid, "sent", {}) for sid in sids])
    world.follow()
    return sids


def statuses(world: World) -> Counter[str]:
    return Counter(row[0] for row in world.rows("SELECT status FROM current_status"))


def test_pollers_that_run_at_once_ask_about_each_message_once(now_world: World, open_ledger: OpenLedger) -> None:
    sids = a_campaign(now_world, 120)
    polling = a_polling(now_world.server.url, concurrency=12)
    url = now_world.ledger._database_url
    until = time.monotonic() + PATIENCE_SECONDS

    def run() -> None:
        ledger = open_ledger(url)
        with real_poller(ledger, now_world.writer, polling, now_world.account.name, LEASE_SECONDS, width=4) as poller:
            while len(now_world.server.questions) < len(sids) and time.monotonic() < until:
                poller.round()
            poller.round()

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(now_world.server.asked) == sids
    assert statuses(now_world) == {"DELIVERED": 120}
    assert now_world.server.at_once_most <= 12


def test_pollers_together_keep_to_the_accounts_concurrency_and_rate(now_world: World, open_ledger: OpenLedger) -> None:
    a_campaign(now_world, 60)
    polling = a_polling(now_world.server.url, concurrency=3, rate=20)
    url = now_world.ledger._database_url
    begun = time.monotonic()
    stop = threading.Event()

    def run() -> None:
        ledger = open_ledger(url)
        with real_poller(ledger, now_world.writer, polling, now_world.account.name, LEASE_SECONDS) as poller:
            while not stop.is_set():
                stop.wait(min(0.1, poller.round()))

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(now_world.server.questions) >= 50, "questions")
    stop.set()
    for thread in threads:
        thread.join()

    asked = [question.counted - begun for question in now_world.server.questions]
    assert now_world.server.at_once_most <= 3
    for at in asked:
        assert sum(at <= other < at + 1 for other in asked) <= 20 + 2
    assert max(Counter(now_world.server.asked).values()) == 1


StartPoller = Callable[[], subprocess.Popen[str]]


@pytest.fixture
def start_poller(now_world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartPoller]:
    """Start processes that poll; whatever is left of them is killed when the test ends."""
    directory = tmp_path_factory.mktemp("poller")
    url = now_world.ledger._database_url
    told = [url, now_world.server.url, now_world.account.name, str(LEASE_SECONDS)]
    with ExitStack() as stack:

        def start() -> subprocess.Popen[str]:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.polling.one_poller", *told],
                cwd=ROOT,
                env=environment(url, directory),
                stdout=subprocess.PIPE,
                text=True,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            return process

        yield start


def test_the_claims_of_a_killed_poller_return_and_nothing_is_forgotten(
    now_world: World, start_poller: StartPoller
) -> None:
    """Pollers are killed with questions under way, again and again; the last one lives."""
    sids = a_campaign(now_world, 60)
    now_world.server.hold = threading.Event()
    for _ in range(3):
        poller = start_poller()
        assert now_world.server.arrived.acquire(timeout=PATIENCE_SECONDS)
        poller.kill()
        poller.wait()
    now_world.server.hold.set()

    start_poller()
    eventually(lambda: statuses(now_world) == {"DELIVERED": 60}, "every message asked about", 30)

    by_message: dict[str, list[float]] = {}
    for question in now_world.server.questions:
        by_message.setdefault(question.reference, []).append(question.counted)
    assert set(by_message) == set(sids)
    pauses = [later - earlier for asked in by_message.values() for earlier, later in pairwise(asked)]
    assert all(pause >= LEASE_SECONDS - 0.5 for pause in pauses), "not again before the lease has run out"
    for sid in sids:
        assert [event.source for event in now_world.observed(sid)] == [Source.CALLBACK, Source.POLL]


def test_a_poller_that_was_stopped_beyond_its_lease_asks_and_records_nothing_more(
    now_world: World, start_poller: StartPoller
) -> None:
    sids = a_campaign(now_world, 30)
    for sid in sids:
        now_world.server.truth[sid] = {"status": "failed", "error_code": 30008}
    now_world.server.hold = threading.Event()
    stopped = start_poller()
    for _ in range(4):
        assert now_world.server.arrived.acquire(timeout=PATIENCE_SECONDS)
    stopped.send_signal(signal.SIGSTOP)
    asked = len(now_world.server.questions)
    now_world.server.hold.set()
    for sid in sids:
        now_world.server.truth[sid] = {"status": "delivered"}

    start_poller()
    eventually(lambda: statuses(now_world) == {"DELIVERED": 30}, "every message asked about", 30)
    stopped.send_signal(signal.SIGCONT)
    settled = "SELECT count(*) FROM poll_batches"
    eventually(lambda: now_world.rows(settled) == [(0,)], "the stopped poller is done with its batch", 30)

    assert len(now_world.server.questions) == asked + 30
    for sid in sids:
        assert [event.source for event in now_world.observed(sid)] == [Source.CALLBACK, Source.POLL]
        assert now_world.message(sid).conflict == "none"
