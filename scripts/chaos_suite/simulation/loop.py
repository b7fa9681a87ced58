"""Virtual time: one queue of callbacks for all simulated processes, and the part of an event loop that fibers use."""

import heapq
from collections.abc import Callable
from hashlib import blake2b
from itertools import count
from random import Random
from types import TracebackType
from typing import Any

from greenlet import GreenletExit

from ledger.store.fiber import Fiber, current


class Timer:
    """A callback that will be called, unless it is cancelled or its process has died."""

    __slots__ = ("arguments", "call", "is_cancelled", "process")

    def __init__(self, process: "Process | None", call: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        self.process = process
        self.call = call
        self.arguments = arguments
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class Simulation:
    """Time, chance and the trace of one history. Seconds are virtual."""

    def __init__(self, seed: int, *, keeps_trace: bool = False) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.now = 0.0
        self.steps = 0
        self.trace: list[str] | None = [] if keeps_trace else None
        self._digest = blake2b(digest_size=16)
        self._queue: list[tuple[float, int, Timer]] = []
        self._number = count()

    def after(
        self, seconds: float, call: Callable[..., object], *arguments: Any, process: "Process | None" = None
    ) -> Timer:
        timer = Timer(process, call, arguments)
        heapq.heappush(self._queue, (self.now + seconds, next(self._number), timer))
        return timer

    def run(self, until: float, is_done: Callable[[], bool] = lambda: False) -> bool:
        """Let time pass until a moment, or until `is_done`. Return whether it was done."""
        queue = self._queue
        while queue and queue[0][0] <= until:
            self.now, _, timer = heapq.heappop(queue)
            process = timer.process
            if timer.is_cancelled or (process is not None and not process.is_alive):
                continue
            self.steps += 1
            timer.call(*timer.arguments)
            if is_done():
                return True
        self.now = max(self.now, until)
        return is_done()

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def note(self, *what: object) -> None:
        """Add a line to the trace. Two runs of a seed have the same, byte for byte."""
        line = " ".join([f"{self.now:.6f}", *map(str, what)])
        self._digest.update(line.encode() + b"\n")
        if self.trace is not None:
            self.trace.append(line)

    def digest(self) -> str:
        return self._digest.hexdigest()


class Process:
    """A simulated process: what its loop was told to call is forgotten when it dies."""

    def __init__(self, simulation: Simulation, name: str) -> None:
        self.simulation = simulation
        self.name = name
        self.is_alive = True
        self._fibers: dict[Fiber, None] = {}  #: that wait, in the order in which they began to

    def call_soon(self, call: Callable[..., object], *arguments: Any) -> Timer:
        return self.simulation.after(0.0, call, *arguments, process=self)

    call_soon_threadsafe = call_soon

    def call_later(self, seconds: float, call: Callable[..., object], *arguments: Any) -> Timer:
        return self.simulation.after(seconds, call, *arguments, process=self)

    def pause(self, seconds: float) -> None:
        """Let the running fiber wait. A process that dies meanwhile never comes back from here."""
        fiber = current()
        assert fiber is not None
        self._fibers[fiber] = None
        fiber.sleep(seconds)
        self._fibers.pop(fiber, None)

    def kill(self, idle: list[Fiber]) -> None:
        """End the process where it stands. `idle` are fibers that wait for nothing but to be called."""
        self.is_alive = False
        fibers = list(self._fibers)
        self._fibers.clear()
        for fiber in (*fibers, *idle):
            if not fiber.dead:
                fiber.throw(GreenletExit)
        idle.clear()


class Clock:
    """In the place of the module `time`, for code that asks how long something took."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation

    def monotonic(self) -> float:
        return self._simulation.now


class Signal:
    """In the place of `threading.Event`, for fibers of one process."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._is_set = False

    def set(self) -> None:
        self._is_set = True

    def clear(self) -> None:
        self._is_set = False

    def is_set(self) -> bool:
        return self._is_set

    def wait(self, seconds: float) -> bool:
        """Wait so long; a signal that comes meanwhile is noticed in a quarter of it at most."""
        for _ in range(4):
            if self._is_set:
                break
            self._process.pause(seconds / 4)
        return self._is_set


class Swapped:
    """Puts values in the place of attributes of modules, until it is left."""

    def __init__(self, *places: tuple[object, str, object]) -> None:
        self._places = places
        self._before: list[object] = []

    def __enter__(self) -> None:
        self._before = [getattr(module, name) for module, name, _ in self._places]
        for module, name, value in self._places:
            setattr(module, name, value)

    def __exit__(
        self, type_: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for (module, name, _), value in zip(self._places, self._before, strict=True):
            setattr(module, name, value)
