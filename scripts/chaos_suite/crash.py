"""Processes are killed at random moments under load; what was acknowledged must be on record, once.

A round: eight clients send for a moment, one to three victims die, the clients send again until everything is taken or
given up, and the log is compared with what they were answered, and the rows of the messages that were told of with
their events; the chain is verified from where it was before. Now and then, and in the end, every read model is compared
with one made anew from all events, and the whole chain is verified.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Final
from uuid import UUID

import psycopg

from ledger.main import Parts
from ledger.store import verifying
from ledger.store.application import StoreUnavailable
from ledger.store.polls import LEASE_SECONDS, Polls
from ledger.store.verifying import Reached
from scripts.chaos_suite import oracle
from scripts.chaos_suite.deployment import Deployment, deployed, parts
from scripts.chaos_suite.scenarios import Options, Result, Scenario, say
from scripts.chaos_suite.traffic import POLLED, Client, Journal
from tests.projections import rebuilding

CLIENTS: Final = 8
_ROUND_SECONDS: Final = 1.5
#: After everything is up again, whatever a client still waits for must be taken by then.
_SETTLE_SECONDS_MAX: Final = 40.0
_AGREE_SECONDS_MAX: Final = 10.0
_CHECK_EVERY: Final = 25
#: What must have happened in a round, on average, for the round to prove anything.
_ACKED_A_ROUND: Final = 60
_POLL_NOW: Final = "UPDATE poll_asks SET next_at = clock_timestamp() WHERE next_at > clock_timestamp()"
_POLLS_LEFT: Final = f"SELECT count(*) FROM poll_asks WHERE account = '{POLLED}'"


def run(options: Options) -> Result:
    rounds = options.count(short=3, long=200)
    random, journal = Random(options.seed), Journal()
    with deployed(planted=options.planted) as made, parts(made.environ, made.postgres.url) as built:
        crash = _Crash(made, built, journal, random)
        for number in range(1, rounds + 1):
            crash.round(number)
            if number % _CHECK_EVERY == 0 or number == rounds:
                crash.check_derived()
                say(f"{number} rounds: {sum(crash.kills.values())} kills, {len(journal.acked)} acknowledged")
            if crash.result.violations:
                break
        return crash.finish(number)


class _Crash:
    def __init__(self, made: Deployment, built: Parts, journal: Journal, random: Random) -> None:
        self._made, self._ledger, self._journal, self._random = made, built.ledger, journal, random
        self._log = oracle.Log(built, made.postgres.url, lambda stream_id, _event: self._told.add(stream_id))
        self._told: set[UUID] = set()  #: streams with events of this round
        self._reached: dict[int, Reached] = {}  #: up to where the chain has been verified
        self._clients = [Client(made.address, journal, Random(random.random()), number) for number in range(CLIENTS)]
        self._ways: dict[str, Callable[[], bool]] = {
            "web": lambda: made.kill_web(random.randrange(2)),
            "worker": made.kill_worker,
            "postgres stop": made.stop_postgres,
            "postgres kill": made.kill_postgres,
        }
        self.kills = Counter[str]()
        self.result = Result()
        self._caught_up: list[float] = []
        self._compared: dict[str, int] = {}

    def round(self, number: int) -> None:
        """Load and kill; then compare."""
        going = threading.Event()
        going.set()
        began = time.monotonic()
        moments = sorted(self._random.uniform(0.3, 0.8 * _ROUND_SECONDS) for _ in range(self._random.randint(1, 3)))
        with ThreadPoolExecutor(CLIENTS) as threads:
            runs = [threads.submit(client.run, going, _SETTLE_SECONDS_MAX) for client in self._clients]
            pause = threading.Event()
            for moment in moments:
                pause.wait(max(0.0, began + moment - time.monotonic()))
                self._kill(self._random.choice(list(self._ways)))
            pause.wait(max(0.0, began + _ROUND_SECONDS - time.monotonic()))
            going.clear()
            left = sum(each.result() for each in runs)
        if left:
            self._violated(number, [f"{left} callbacks were not taken {_SETTLE_SECONDS_MAX:.0f} s after the last kill"])
        self._compare(number)

    def _kill(self, kind: str) -> None:
        self._journal.note_kill(kind)
        if self._ways[kind]():
            self.kills[kind] += 1
        else:
            self._journal.forget_kill()

    def _compare(self, number: int) -> None:
        if not oracle.wait(lambda: self._made.postgres.is_running, _SETTLE_SECONDS_MAX):
            self._violated(number, ["PostgreSQL did not come back"])
            return
        wrong = self._log.read()
        found, self._compared = self._log.compare(self._journal.sent, self._journal.acked)
        self._violated(number, wrong + found + self._journal.wrong + self._wrong_in_round())

    def _wrong_in_round(self) -> list[str]:
        """Compare rows with the events of messages that were told of, and verify what is new of the chain."""
        wrong: list[str] = []

        def is_right() -> bool:  # the poller may tell something between one look and the other
            nonlocal wrong
            try:
                wrong = rebuilding.differences(self._ledger, *self._told)
            except StoreUnavailable:  # a connection from before PostgreSQL was killed
                return False
            return not wrong

        if self._told and not oracle.wait(is_right, _AGREE_SECONDS_MAX):
            wrong = wrong or ["rows could not be compared with events"]
        self._told.clear()
        report = verifying.verify(self._made.postgres.url, begin=self._reached)
        self._reached = report.reached
        return wrong if report.fault is None else [*wrong, f"the chain: {report.fault.why} ({report.fault.place})"]

    def check_derived(self) -> None:
        """Let the poller end what it is due, wait for the read models, and compare them with new ones."""
        url = self._made.postgres.url
        self._poll(url)
        took = oracle.caught_up(url)
        if took is None:
            self._violated(0, [f"read models were behind after {oracle.CATCH_UP_SECONDS_MAX:.0f} s"])
            return
        self._caught_up.append(took)
        self._violated(0, self._made.wrong_in_derived())

    def _poll(self, url: str) -> None:
        oracle.caught_up(url)

        def asked() -> bool:
            """Let all be due, again and again: what failed while PostgreSQL was away is put off, and only then."""
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute(_POLL_NOW.encode())
                (left,) = connection.execute(_POLLS_LEFT.encode()).fetchone() or (1,)
            return bool(left == 0)

        # What a poller was at when it was killed is asked about by another one once its lease is over.
        if not oracle.wait(asked, LEASE_SECONDS + oracle.CATCH_UP_SECONDS_MAX):
            (state,) = Polls(self._ledger).states([POLLED])
            self._violated(0, [f"the poller did not ask about every message that was due: {state}"])
        self._violated(0, self._log.read())

    def _violated(self, number: int, what: list[str]) -> None:
        where = f"round {number}: " if number else ""
        self.result.violations += [where + each for each in what]

    def finish(self, rounds: int) -> Result:
        for client in self._clients:
            client.close()
        recovery = self._journal.recovery
        answered = {status: self._journal.answers[status] for status in sorted(self._journal.answers)}
        self.result.figures = {
            "rounds": rounds,
            "kills": sum(self.kills.values()),
            "killed": dict(self.kills),
            "acked": len(self._journal.acked),
            **self._compared,
            "polled": len(self._log.polled),
            "answers": answered,
            "not taken at first": sum(answered.values()) - answered.get("200", 0),
            "slowest answer s": round(self._journal.slowest_seconds, 2),
            "that was a": self._journal.slowest_was,
            "first 200 after a kill, longest s": {kind: round(max(recovery[kind]), 2) for kind in sorted(recovery)},
            "caught up within s": round(max(self._caught_up, default=0.0), 2),
        }
        result = self.result
        result.require("acked", _ACKED_A_ROUND * rounds)
        result.require("kills", rounds)
        result.require("not taken at first", rounds // 4)
        result.require("polled", rounds)
        result.require("stored, not acked", rounds // 100)
        for kind in self._ways:
            if self.kills[kind] < rounds // 8:
                result.shortfalls.append(f"kills of {kind}: {self.kills[kind]}, and not {rounds // 8}")
        return result


SCENARIO: Final = Scenario(
    "crash",
    "web processes, worker and PostgreSQL are killed at random moments under load",
    run,
    planted=("answers-first",),
)
