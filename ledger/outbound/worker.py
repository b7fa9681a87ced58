"""The loop that hands status changes on and has them sent.

It lives in a thread of its own with connections of its own, so that nothing sent out ever holds up what comes in. Any
number of such workers may run on any machines: they share the work by leases and never talk to one another.
"""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, ParamSpec, Protocol, TypeVar

import structlog

from ledger.outbound import telling
from ledger.outbound.deliveries import Claimed, Deliveries, Settlement
from ledger.outbound.webhooks import Client, WebhookSender
from ledger.store.application import Ledger, StoreUnavailable
from ledger.store.destinations import Destination, Destinations, Kind

P = ParamSpec("P")
T = TypeVar("T")

#: Connections to the database, and threads that use them.
THREADS: Final = 3
#: Attempts under way at once, in all and at one endpoint.
ATTEMPTS_MAX: Final = 64
ATTEMPTS_EACH_MAX: Final = 16
#: Longer than an attempt may take and its outcome needs to be written down.
LEASE_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.2
#: Between two rounds under load: what has ended meanwhile makes room for more with one statement.
_ROUND_SECONDS: Final = 0.01
_LOOK_SECONDS: Final = 0.05
_POSTPONED_SECONDS: Final = 1.0
_DRAIN_SECONDS: Final = 3.0
_PURGE_SECONDS: Final = 3_600.0

_log = structlog.get_logger("ledger.outbound")

#: Told of every attempt: kind of destination and outcome.
Count = Callable[[str, str], None]


class Pusher(Protocol):
    """Sends to destinations of another kind than webhooks."""

    async def run(self, stopping: asyncio.Event) -> None:
        """Push until told to stop."""

    async def push(self) -> bool:
        """Push what is due, or a part of it; tell whether there was anything."""


class Outbound:
    """Runs on one event loop until told to stop."""

    def __init__(
        self,
        ledger: Ledger,
        client: Client,
        *,
        pushers: Callable[["Outbound"], list[Pusher]] = lambda _: [],
        count: Count = lambda _kind, _outcome: None,
        lease_seconds: float = LEASE_SECONDS,
        sender: WebhookSender | None = None,
    ) -> None:
        self.ledger = ledger
        self.destinations = Destinations(ledger)
        self.deliveries = Deliveries(ledger)
        self.client = client
        self.count = count
        self.lease_seconds = lease_seconds
        self._sender = sender or WebhookSender(client)
        self.pushers = pushers(self)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="ledger-outbound-store")
        self._attempts: dict[asyncio.Task[None], Claimed] = {}
        self._stopping = asyncio.Event()
        self._look_at = 0.0

    async def store(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function that uses the database. Raises StoreUnavailable."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: function(*args, **kwargs))

    def stop(self) -> None:
        """Begin nothing more. Leases that cannot be used in time are given back."""
        self._stopping.set()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        purged_at, is_reachable = loop.time(), True
        pushing = [asyncio.create_task(pusher.run(self._stopping)) for pusher in self.pushers]
        try:
            while not self._stopping.is_set():
                pause = _POLL_SECONDS
                try:
                    if await self.step():
                        pause = _ROUND_SECONDS
                    if loop.time() - purged_at > _PURGE_SECONDS and not await self.store(self.deliveries.purge):
                        purged_at = loop.time()
                    is_reachable = True
                except StoreUnavailable:
                    if is_reachable:
                        _log.warning("outbound_postponed")
                    pause, is_reachable = _POSTPONED_SECONDS, False
                await self._rest(pause)
            await self._drain()
            if pushing:
                await asyncio.wait(pushing, timeout=_DRAIN_SECONDS)
        finally:
            for task in pushing:
                task.cancel()
            await asyncio.gather(*pushing, return_exceptions=True)
            await self.client.close()
            self._threads.shutdown(wait=True)

    async def step(self) -> bool:
        """Do what is due now; tell whether there was anything."""
        now = asyncio.get_running_loop().time()
        handed_on = 0
        if now >= self._look_at:
            handed_on = await self.store(self.deliveries.hand_on)
            handed_on += await self.store(self.deliveries.tidy)
            self._look_at = now + (0.0 if handed_on else _LOOK_SECONDS)
        begun = await self._begin()
        return bool(handed_on or begun)

    async def idle(self) -> None:
        """Return when no attempt is under way."""
        while self._attempts:
            await asyncio.wait(self._attempts)

    async def _rest(self, seconds: float) -> None:
        """Return when something is worth a look: an attempt has ended, time has passed, or we are told to stop."""
        if seconds == _ROUND_SECONDS:
            await asyncio.sleep(seconds)
            return
        stopping = asyncio.ensure_future(self._stopping.wait())
        await asyncio.wait({stopping, *self._attempts}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()

    async def _begin(self) -> int:
        """Lease what is due and begin to send it."""
        room = ATTEMPTS_MAX - len(self._attempts)
        if room <= 0:
            return 0
        busy = Counter(claimed.destination_id for claimed in self._attempts.values())
        leased = await self.store(
            self.deliveries.claim,
            Kind.WEBHOOK,
            limit=room,
            each=ATTEMPTS_EACH_MAX,
            lease_seconds=self.lease_seconds,
            busy=busy,
        )
        ids = {claimed.destination_id for claimed in leased}
        known = {id_: await self.store(self.destinations.get, id_) for id_ in ids}
        for claimed in leased:
            destination = known[claimed.destination_id]
            if destination is None:
                continue  # deleted, and its deliveries with it
            task = asyncio.create_task(self._attempt(destination, claimed))
            self._attempts[task] = claimed
            task.add_done_callback(self._ended)
        return len(leased)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._attempts[task]

    async def _attempt(self, destination: Destination, claimed: Claimed) -> None:
        try:
            change = await self.store(self.prepare, destination, claimed)
            if change is not None:
                await self.settle(destination, claimed, await self._sender.attempt(destination, claimed, change))
        except StoreUnavailable:
            _log.warning("delivery_outcome_lost", destination=destination.id)  # it is sent again after the lease
        except Exception:
            _log.exception("delivery_failed", destination=destination.id)
            await self._give_up(destination, claimed)

    def prepare(self, destination: Destination, claimed: Claimed) -> telling.Change | None:
        """Return what is to be told; None if there is nothing to tell, or not by us."""
        change = telling.tell(self.ledger, claimed.stream_id, claimed.version)
        if change is None or not wants(destination, change):
            self.deliveries.drop(claimed)
            return None
        # The last look before anything leaves: the message may have been erased, or somebody else be at it.
        if not self.deliveries.is_held_by(claimed):
            self.deliveries.drop_erased(claimed)
            return None
        return change

    async def _give_up(self, destination: Destination, claimed: Claimed) -> None:
        """Park a delivery that our own fault keeps from being sent: it must not hold up those behind it for ever."""
        try:
            await self.settle(destination, claimed, Settlement(outcome="internal", is_fault=False))
        except StoreUnavailable:
            _log.warning("delivery_outcome_lost", destination=destination.id)

    async def settle(self, destination: Destination, claimed: Claimed, ended: Settlement) -> None:
        """Write down how an attempt ended, and tell who has to know."""
        self.count(destination.kind.value, ended.outcome)
        for notice in await self.store(self.deliveries.settle, destination, claimed, ended):
            told: dict[str, Any] = {"destination": destination.id, "account": destination.account, "what": notice}
            if notice == "recovered":
                _log.info("destination_recovered", **told)
            else:
                _log.warning("destination_failing", outcome=ended.outcome, **told)

    async def _drain(self) -> None:
        """Let attempts end; give back what does not in time."""
        if self._attempts:
            await asyncio.wait(self._attempts, timeout=_DRAIN_SECONDS)
        left = list(self._attempts.items())
        for task, _ in left:
            task.cancel()
        if left:
            await asyncio.wait([task for task, _ in left])
            try:
                await self.store(self.deliveries.release, [claimed for _, claimed in left])
            except StoreUnavailable:
                _log.warning("outbound_postponed")


def wants(destination: Destination, change: telling.Change) -> bool:
    """Tell whether a status is one of those asked for."""
    return destination.statuses is None or change.message.status in destination.statuses


class OutboundThread:
    """Runs an `Outbound` in a thread of its own."""

    def __init__(self, build: Callable[[], Outbound]) -> None:
        self._build = build
        self._outbound: Outbound | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()
        self._told_to_stop = False
        self._thread = threading.Thread(target=self._run, name="ledger-outbound", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop and wait for the end."""
        with self._lock:
            self._told_to_stop = True
            if self._loop is not None and self._outbound is not None and not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._outbound.stop)
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        asyncio.run(self._main())

    async def _main(self) -> None:
        outbound = self._build()
        with self._lock:
            self._outbound, self._loop = outbound, asyncio.get_running_loop()
            if self._told_to_stop:
                outbound.stop()
        await outbound.run()
