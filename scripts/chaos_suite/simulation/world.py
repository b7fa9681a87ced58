"""One history: clients, processes and trouble; first anything may fail, then nothing does and all must end well."""

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import msgspec
import structlog

from ledger.domain.message import AlreadyLinked, NotInConflict
from ledger.ingest import writer as writing
from ledger.ingest.writer import Job, Poisoned, QueueFull, Writer
from ledger.store.captures import Capture
from ledger.store.fiber import spawn
from projections import current_status
from projections import feed as feeding
from projections.feed import Feed
from scripts.chaos_suite.simulation import clients, judged
from scripts.chaos_suite.simulation.clients import REFUSED, TAKEN, UNAVAILABLE, Delivery, Own
from scripts.chaos_suite.simulation.following import Counting, FollowingLedger
from scripts.chaos_suite.simulation.loop import Clock, Process, Signal, Simulation, Swapped
from scripts.chaos_suite.simulation.options import LIVENESS_SECONDS_MAX, SAFETY_SECONDS, Options, drawn
from scripts.chaos_suite.simulation.planted import NOTHING, Planted
from scripts.chaos_suite.simulation.store import SimulatedLedger, Store, Violation, Weather
from tests.builders import NAMES, at

#: Our clock at the beginning, in minutes after noon: later than whatever a provider dates.
START_MINUTE: Final = 60.0
#: A provider waits so long for an answer before it delivers again.
PATIENCE_SECONDS: Final = 5.0


class Outcome(msgspec.Struct, frozen=True):
    """How a history ended. `violation` is None if everything held."""

    seed: int
    digest: str
    steps: int
    seen: dict[str, int]
    violation: str | None
    options: Options
    trace: list[str] | None


class Web:
    """A web process: a real writer, and as much of the way in as answers requests."""

    def __init__(self, world: "World", number: int) -> None:
        self.world = world
        self.number = number
        self.start()

    def start(self) -> None:
        world = self.world
        self.process = Process(world.simulation, f"web-{self.number}")
        ledger = world.planted.ledger(SimulatedLedger)(world.store, self.process)
        self.writer = world.planted.writer(Writer)(
            ledger, partial(current_status.row, NAMES), self._ended, queue_max=world.options.queue_max
        )
        self.writer.start(self.process)  # type: ignore[arg-type]  # as much of a loop as it uses

    def kill(self) -> None:
        self.process.kill(self.writer._idle)

    def receive(self, delivery: Delivery) -> None:
        if not self.process.is_alive:
            self.world.seen("connections refused")
            return
        minute = START_MINUTE + self.world.simulation.now / 60 + self.world.options.skew_minutes[self.number]
        job = delivery.job(minute)
        self._submit(job, lambda ended: self._answer(delivery, job, ended))
        if self.world.planted.answers_first:
            self.world.answered(delivery, job, TAKEN)

    def _submit(self, job: Job, then: Callable[[Job], None]) -> None:
        job.waiter = then
        try:
            self.writer.submit(job)
        except QueueFull as full:
            self.world.seen("queues full")
            job.error = full
            then(job)

    def _ended(self, jobs: list[Job]) -> None:
        for job in jobs:
            job.waiter(job)

    def _answer(self, delivery: Delivery, asked: Job, ended: Job) -> None:
        match ended.error:
            case None:
                self.world.answered(delivery, asked, TAKEN)
            case Poisoned():
                self._salvage(delivery, asked)
            case AlreadyLinked() | NotInConflict():
                self.world.answered(delivery, asked, REFUSED)
            case _:
                self.world.answered(delivery, asked, UNAVAILABLE)

    def _salvage(self, delivery: Delivery, asked: Job) -> None:
        """As `ledger.http.webhooks` does: statement by statement, and the request itself if one cannot be written."""
        left, errors = len(asked.statements), list[Exception]()

        def kept(job: Job) -> None:
            self.world.answered(delivery, asked, TAKEN if job.error is None else UNAVAILABLE)

        def alone(job: Job) -> None:
            nonlocal left
            left -= 1
            if job.error is not None and not isinstance(job.error, Poisoned):
                errors.append(job.error)
            if left == 0 and errors:
                self.world.answered(delivery, asked, UNAVAILABLE)
            elif left == 0:
                capture = Capture(
                    account="account-1",
                    provider="provider-1",
                    reason="a statement could not be recorded",
                    content=delivery.name.encode(),
                    content_type="",
                    received_at=at(0),
                )
                self._submit(Job((), [capture]), kept)

        for statement in asked.statements:
            self._submit(Job([statement]), alone)


class Follower:
    """A feed process: the real feed, in a fiber."""

    def __init__(self, world: "World", number: int) -> None:
        self.world = world
        self.number = number
        self.start()

    def start(self) -> None:
        world = self.world
        self.process = Process(world.simulation, f"feed-{self.number}")
        self.feed = Feed(FollowingLedger(world.store, self.process), [Counting()], page=world.options.page)
        self.feed._wanted = Signal(self.process)  # type: ignore[assignment]  # an event of virtual time
        stopping: Any = Signal(self.process)
        self.process.call_soon(spawn, self.process, partial(self.feed.run, stopping))

    def kill(self) -> None:
        connection = self.feed._connection
        self.process.kill([])
        if connection is not None:
            connection.close()


class World:
    """Everything of one history. `run` once."""

    def __init__(self, seed: int, planted: Planted = NOTHING, *, keeps_trace: bool = False) -> None:
        self.simulation = Simulation(seed, keeps_trace=keeps_trace)
        self.planted = planted
        self.options = drawn(self.simulation.random)
        self.store = planted.store(Store)(self.simulation, self.options.partitions)
        self.store.checks_row = judged.never_flips
        self.deliveries: list[Delivery] = []
        self.acknowledged: list[tuple[Delivery, Job]] = []
        self.is_safe = False  #: the phase of liveness
        self.handed_off: list[Own] = []

    def run(self) -> Outcome:
        violation = None
        simulation = self.simulation
        simulation.note("options", self.options)
        places = (
            (writing, "time", Clock(simulation)),
            (writing, "_spread", simulation.random),
            (feeding, "_spread", simulation.random),
            (feeding, "_log", _Silent(self)),
            *self.planted.places,
        )
        with Swapped(*places):
            self.webs = [Web(self, number) for number in range(self.options.webs)]
            self.followers = [Follower(self, number) for number in range(self.options.feeds)]
            try:
                self._let_anything_happen()
                self._let_all_end_well()
                judged.at_the_end(self)
            except Violation as found:
                violation = str(found)
            finally:
                for each in (*self.webs, *self.followers):
                    each.kill()
        return Outcome(
            simulation.seed,
            simulation.digest(),
            simulation.steps,
            self.store.seen,
            violation,
            self.options,
            simulation.trace,
        )

    def seen(self, what: str) -> None:
        self.store.count(what)

    # Safety: anything may fail ----------------------------------------------------------------------------------------

    def _let_anything_happen(self) -> None:
        simulation, options, random = self.simulation, self.options, self.simulation.random
        self.store.weather = options.weather
        for number in range(options.deliveries):
            self._open(clients.reports(random, number, options.messages), random.uniform(0, SAFETY_SECONDS * 0.8))
        for number in range(options.senders):
            own = Own(random, number, options.messages)
            own.registering.then = partial(self._hand_off, own)
            self._open(own.registering, random.uniform(0, SAFETY_SECONDS / 2))
        for number in range(random.choice((0, 1, 2))):
            self._open(clients.correction(random, number, options.messages), random.uniform(1, SAFETY_SECONDS))
        for _ in range(options.kills):
            simulation.after(random.uniform(0, SAFETY_SECONDS), self._kill_somebody)
        for _ in range(options.database_crashes):
            simulation.after(random.uniform(0, SAFETY_SECONDS), self._crash_the_database)
        simulation.run(SAFETY_SECONDS)

    def _open(self, delivery: Delivery, seconds: float) -> None:
        self.deliveries.append(delivery)
        self.simulation.after(seconds, self._send, delivery)

    def _hand_off(self, own: Own) -> None:
        if own.registering.answer == TAKEN:
            self.handed_off.append(own)
            self._open(own.handing_off, self.simulation.random.uniform(0, 2))

    def _kill_somebody(self) -> None:
        victim = self.simulation.random.choice((*self.webs, *self.followers))
        if not self.is_safe and victim.process.is_alive:
            self.simulation.note("killed", victim.process.name)
            self.seen("kills")
            victim.kill()
            self.simulation.after(self.simulation.random.uniform(0.1, 3), self._restart, victim)

    def _restart(self, victim: Web | Follower) -> None:
        if not victim.process.is_alive:
            victim.start()
            self.simulation.note("started", victim.process.name)

    def _crash_the_database(self) -> None:
        if not self.is_safe and self.store.is_up:
            self.store.crash()
            self.simulation.after(self.simulation.random.uniform(0.05, 3), self._start_the_database)

    def _start_the_database(self) -> None:
        if not self.store.is_up:
            self.store.start()

    # The network ------------------------------------------------------------------------------------------------------

    def _send(self, delivery: Delivery) -> None:
        """Try once, and again later unless it is answered till then."""
        if not delivery.is_open or (delivery.tries >= delivery.tries_max and not self.is_safe):
            return
        delivery.tries += 1
        simulation, random = self.simulation, self.simulation.random
        simulation.after(PATIENCE_SECONDS * random.uniform(0.6, 1.2), self._send, delivery)
        copies = 1 + (not self.is_safe and simulation.chance(self.options.duplicated))
        for _ in range(copies):
            if not self._is_lost():
                web = random.choice(self.webs)
                self.seen("requests")
                simulation.after(self._delay(), web.receive, delivery)

    def _is_lost(self) -> bool:
        return not self.is_safe and self.simulation.chance(self.options.network_loss)

    def _delay(self) -> float:
        """Most requests take milliseconds; a few come after ones that were sent seconds later."""
        random = self.simulation.random
        return random.uniform(0.001, 8.0) if random.random() < 0.1 else random.uniform(0.001, 0.05)

    def answered(self, delivery: Delivery, job: Job, answer: int) -> None:
        """Send an answer on its way. What it promises must be so already."""
        self.simulation.note("answer", delivery.name, answer)
        if answer == TAKEN:
            self.acknowledged.append((delivery, job))
            delivery.was_acknowledged = True
            judged.is_on_record(self.store, delivery, job)
            for follower in self.followers:
                if self.simulation.chance(0.3):
                    follower.feed.wake()
        if answer == UNAVAILABLE:
            self.seen("answers 503")
        if not self._is_lost():
            self.simulation.after(self._delay(), self._heard, delivery, answer)

    def _heard(self, delivery: Delivery, answer: int) -> None:
        if answer == UNAVAILABLE or not delivery.is_open:
            return
        delivery.answer = answer
        self.seen("answers 200" if answer == TAKEN else "answers 409")
        if delivery.then is not None:
            delivery.then()

    # Liveness: nothing fails any more ---------------------------------------------------------------------------------

    def _let_all_end_well(self) -> None:
        self.is_safe = True
        self.store.weather = Weather()
        self._start_the_database()
        for each in (*self.webs, *self.followers):
            self._restart(each)
        self.simulation.note("from here on nothing fails")
        for delivery in self.deliveries:
            if delivery.is_open and (delivery.tries < delivery.tries_max or delivery.was_acknowledged):
                self._send(delivery)
        until = self.simulation.now + LIVENESS_SECONDS_MAX
        if not self.simulation.run(until, self._is_done):
            raise Violation(f"no progress: {self._what_is_left()}")

    def _is_done(self) -> bool:
        return (
            self.simulation.steps % 16 == 0
            and not any(map(self._is_wanted, self.deliveries))
            and all(not web.writer.depth for web in self.webs)
            and list(self.store.cursors.values()) == self.store.heads()
        )

    def _is_wanted(self, delivery: Delivery) -> bool:
        return delivery.is_open and delivery.tries < delivery.tries_max

    def _what_is_left(self) -> str:
        waiting = [delivery.name for delivery in self.deliveries if self._is_wanted(delivery)]
        depths = [web.writer.depth for web in self.webs]
        lag = [head - at_ for head, at_ in zip(self.store.heads(), self.store.cursors.values(), strict=True)]
        return f"unanswered {waiting}, statements in writers {depths}, events the feed is behind {lag}"


class _Silent:
    """What the feed logs goes into the trace."""

    def __init__(self, world: World) -> None:
        self._world = world

    def warning(self, event: str, **_: object) -> None:
        self._world.simulation.note("log", event)

    error = warning


def run(seed: int, planted: Planted = NOTHING, *, keeps_trace: bool = False) -> Outcome:
    with structlog.testing.capture_logs():
        return World(seed, planted, keeps_trace=keeps_trace).run()
