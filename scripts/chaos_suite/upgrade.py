"""An earlier release and this one, side by side on one database, under load, while its schema is migrated.

The order is that of docs/operations.md: processes of the earlier release serve; this one migrates; its processes start
beside the others, and both get callbacks, some the same at once; the earlier ones are told to end; one of them comes
back, as after a release that is taken back. `tests/data/releases` has the earlier release's code as it was.
"""

import tempfile
import threading
import zipfile
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random
from typing import Final

import psycopg

from ledger.store.embedded import EmbeddedPostgres
from scripts.bench_suite.servers import Server, running
from scripts.chaos_suite import oracle
from scripts.chaos_suite.deployment import Worker, directory, environ, failed, parts, wrong_in_derived
from scripts.chaos_suite.scenarios import Options, Result, Scenario, say
from scripts.chaos_suite.traffic import Address, Client, Journal
from tests.plugins.service import ROOT
from tests.polling.provider import Twilio

#: The release whose last migration has this number.
RELEASE: Final = ROOT / "tests" / "data" / "releases" / "schema_0042.zip"
CLIENTS: Final = 8
_PHASE_SECONDS: Final = 1.5
_SETTLE_SECONDS_MAX: Final = 20.0
#: What the longest wait for an answer may be while the schema is migrated.
STALL_SECONDS_MAX: Final = 2.0
_ACKED_A_PHASE: Final = 40
_NOT_ADDITIVE: Final = "not-additive"


def run(options: Options) -> Result:
    rounds = options.count(short=1, long=5)
    random, result = Random(options.seed), Result()
    for number in range(1, rounds + 1):
        with ExitStack() as stack:
            rolling = _Rolling(stack, random, options.planted)
            rolling.roll()
            result.violations += [f"round {number}: {each}" for each in rolling.wrong]
            for name, figure in rolling.figures.items():
                add = max if name.endswith(" s") else lambda one, other: one + other
                result.figures[name] = add(result.figures.get(name, 0), figure)
        say(f"{number} of {rounds} rounds: {result.figures.get('acked', 0)} acknowledged")
        if result.violations:
            break
    for phase in _PHASES:
        result.require(f"acked while {phase}", _ACKED_A_PHASE * rounds)
    return result


_BEFORE, _MIGRATED, _BESIDE, _AFTER, _BACK = _PHASES = (
    "the earlier release served alone",
    "the schema was migrated",
    "both served",
    "this release served alone",
    "the earlier one was back",
)


class _Stopped(Exception):
    """It makes no sense to go on."""


class _Rolling:
    """One upgrade."""

    def __init__(self, stack: ExitStack, random: Random, planted: str | None) -> None:
        self._stack, self._planted = stack, planted
        home = stack.enter_context(directory())
        self._home = home / "service"
        self._url = stack.enter_context(EmbeddedPostgres(home / "postgres")).url
        self._provider = Twilio()
        stack.callback(self._provider.close)
        self._now = environ(self._url, self._home, self._provider.url)
        self._before = {**self._now, "PYTHONPATH": str(stack.enter_context(_unpacked(RELEASE)))}
        self._journal = Journal()
        self._random = random
        self.wrong: list[str] = []
        self.figures: dict[str, float] = {}

    def roll(self) -> None:
        """Upgrade, go back, and compare the log with what clients know."""
        self.wrong += failed(self._before, self._home, "migrate")
        with ExitStack() as earlier:
            old = earlier.enter_context(self._serving(self._before, "earlier"))
            self._clients = [
                Client(old.address, self._journal, Random(self._random.random()), number) for number in range(CLIENTS)
            ]
            self._stack.callback(lambda: [client.close() for client in self._clients])
            going = threading.Event()
            going.set()
            threads = self._stack.enter_context(ThreadPoolExecutor(CLIENTS))
            runs = [threads.submit(client.run, going, _SETTLE_SECONDS_MAX) for client in self._clients]
            try:
                self._upgrade(earlier, old)
            except _Stopped as stopped:
                self.wrong.append(str(stopped))
            finally:
                going.clear()
        self._compare(runs)

    def _upgrade(self, earlier: ExitStack, old: Server) -> None:
        with self._phase(_BEFORE):
            pass
        with self._phase(_MIGRATED):
            self.wrong += failed(self._now, self._home, "migrate")
            if self._planted == _NOT_ADDITIVE:
                self._break_schema()
        self.figures["longest answer while migrating s"] = round(self._slowest, 2)
        if self._slowest > STALL_SECONDS_MAX:
            self.wrong.append(f"an answer took {self._slowest:.1f} s while the schema was migrated")
        new = self._stack.enter_context(self._serving(self._now, "later"))
        with self._phase(_BESIDE):
            self._turn(old.address, new.address)
        self._turn(new.address)
        earlier.close()
        with self._phase(_AFTER):
            pass
        back = self._stack.enter_context(self._serving(self._before, "back"))
        with self._phase(_BACK):
            self._turn(back.address, new.address)
        self._turn(new.address)

    def _turn(self, *addresses: Address) -> None:
        """Let clients send to these addresses, half of them to each first."""
        for number, client in enumerate(self._clients):
            client.turn_to(*(addresses if number % 2 else addresses[::-1]))

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        """Let a phase last for its time under load."""
        before, self._journal.slowest_seconds = len(self._journal.acked), 0.0
        yield
        threading.Event().wait(_PHASE_SECONDS)
        self.figures[f"acked while {name}"] = len(self._journal.acked) - before
        self._slowest = self._journal.slowest_seconds
        if len(self._journal.acked) == before:
            raise _Stopped(f"nothing was taken while {name}")

    @contextmanager
    def _serving(self, environment: Mapping[str, str], name: str) -> Iterator[Server]:
        """Run what answers, two processes of it, and what works."""
        logs = self._home / name
        logs.mkdir()
        arguments = ["ledger", "serve", "--port", "0", "--workers", "2", "--role", "web", "--no-migrate"]
        with running(arguments, dict(environment), logs) as server:
            worker = Worker(environment, logs)
            try:
                if not oracle.wait(worker.is_working, _SETTLE_SECONDS_MAX):
                    raise RuntimeError(f"the worker of the {name} processes did not start")
                yield server
            finally:
                worker.close()
                if worker.starts > 1:
                    self.wrong.append(f"the worker of the {name} processes ended {worker.starts - 1} times by itself")

    def _break_schema(self) -> None:
        """Plant the error: a migration that the earlier release cannot live with."""
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute("ALTER TABLE current_status ADD COLUMN planted integer NOT NULL DEFAULT 0")
            connection.execute("ALTER TABLE current_status ALTER COLUMN planted DROP DEFAULT")

    def _compare(self, runs: list[Future[int]]) -> None:
        left = sum(each.result() for each in runs)
        if left:
            self.wrong.append(f"{left} callbacks were not taken in the end")
        with parts(self._now, self._url) as built:
            log = oracle.Log(built, self._url)
            self.wrong += log.read()
            found, figures = log.compare(self._journal.sent, self._journal.acked)
        self.wrong += found + self._journal.wrong
        if oracle.caught_up(self._url) is None:
            self.wrong.append("read models stayed behind")
        self.wrong += wrong_in_derived(self._now, self._home)
        answers = self._journal.answers
        self.figures |= {"acked": len(self._journal.acked), **figures, "503": answers["503"], "none": answers["none"]}


@contextmanager
def _unpacked(release: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="release-") as name:
        place = Path(name)
        place.chmod(0o755)
        with zipfile.ZipFile(release) as archive:
            archive.extractall(place)
        yield place


SCENARIO: Final = Scenario(
    "upgrade",
    "an earlier release and this one serve side by side while the schema is migrated, and back",
    run,
    planted=(_NOT_ADDITIVE,),
)
