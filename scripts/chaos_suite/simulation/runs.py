"""Runs many seeds, and says what happened in them.

    python -m scripts.chaos_suite.simulation.runs [--from SEED] [--seeds N] [--processes N] [--json FILE]
    python -m scripts.chaos_suite.simulation.runs --replay SEED      # the trace of one history, line by line
    python -m scripts.chaos_suite.simulation.runs --planted NAME     # with an error that must be found

Exits with 3 on a violation, with 1 if too little happened to prove anything.
"""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from hashlib import blake2b
from multiprocessing import get_context
from typing import Final

import msgspec

from scripts.chaos_suite.simulation import planted as errors
from scripts.chaos_suite.simulation.planted import NOTHING, Planted
from scripts.chaos_suite.simulation.world import Outcome, run

#: What must have happened in so many histories, once each at least; otherwise nothing was proved.
FLOOR_SEEDS: Final = 200
FLOORS: Final = {
    "answers 200": 10 * FLOOR_SEEDS,
    "answers 503": 2 * FLOOR_SEEDS,
    "answers 409": FLOOR_SEEDS // 20,
    "kills": FLOOR_SEEDS // 2,
    "database crashes": FLOOR_SEEDS // 4,
    "conflicts": FLOOR_SEEDS // 8,
    "commit answers lost": FLOOR_SEEDS // 8,
    "commits after their sender gave up": FLOOR_SEEDS // 8,
    "feed commit answers lost": FLOOR_SEEDS,
    "queues full": FLOOR_SEEDS // 4,
    "poisoned statements": FLOOR_SEEDS // 4,
    "events parked": FLOOR_SEEDS // 20,
}
_PORTION: Final = 100


class Total(msgspec.Struct):
    """What many histories came to."""

    seeds: int = 0
    steps: int = 0
    seconds: float = 0.0
    digest: str = ""  #: of the digests of all histories, in the order of seeds
    seen: dict[str, int] = {}
    violations: list[tuple[int, str, str]] = []  #: seed, what, options

    def shortfalls(self) -> list[str]:
        """Return what happened too seldom for the result to mean anything."""
        scale = self.seeds / FLOOR_SEEDS
        return [
            f"{what}: {self.seen.get(what, 0)}, and not {int(floor * scale)}"
            for what, floor in FLOORS.items()
            if self.seen.get(what, 0) < int(floor * scale)
        ]


def named(name: str | None) -> Planted:
    """Return a planted error by its name. Raises KeyError."""
    return NOTHING if name is None else {each.name: each for each in errors.ALL}[name]


def total(seeds: range, *, processes: int = 1, planted: str | None = None) -> Total:
    """Run a range of seeds. The result, but for `seconds`, does not depend on the number of processes."""
    began, found, digest, seen = time.monotonic(), Total(), blake2b(digest_size=16), Counter[str]()
    for outcome in _outcomes(seeds, processes, planted):
        found.seeds += 1
        found.steps += outcome.steps
        digest.update(bytes.fromhex(outcome.digest))
        seen.update(outcome.seen)
        if outcome.violation is not None:
            found.violations.append((outcome.seed, outcome.violation, str(outcome.options)))
    found.digest, found.seen, found.seconds = digest.hexdigest(), dict(sorted(seen.items())), time.monotonic() - began
    return found


def _outcomes(seeds: range, processes: int, planted: str | None) -> Iterator[Outcome]:
    if processes == 1:
        yield from (run(seed, named(planted)) for seed in seeds)
        return
    portions = [seeds[start : start + _PORTION] for start in range(0, len(seeds), _PORTION)]
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        for portion in pool.map(partial(_portion, planted), portions):
            yield from portion


def _portion(planted: str | None, seeds: range) -> list[Outcome]:
    return [run(seed, named(planted)) for seed in seeds]


def main(arguments: Iterable[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="simulation", description="Deterministic simulation: one seed, one history.")
    parser.add_argument("--from", dest="first", type=int, default=0, metavar="SEED")
    parser.add_argument("--seeds", type=int, default=2_000)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--replay", type=int, metavar="SEED")
    parser.add_argument("--planted", choices=[each.name for each in errors.ALL])
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args(None if arguments is None else list(arguments))
    if options.replay is not None:
        return _replay(options.replay, options.planted)
    found = total(
        range(options.first, options.first + options.seeds), processes=options.processes, planted=options.planted
    )
    if options.json:
        with open(options.json, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(found)))
    print(f"seeds {options.first} to {options.first + options.seeds - 1}: {found.steps} steps, trace {found.digest}")
    print(json.dumps(found.seen))
    for seed, violation, drawn in found.violations[:20]:
        print(f"VIOLATION at seed {seed}: {violation}\n  {drawn}")
    shortfalls = found.shortfalls()
    for shortfall in shortfalls:
        print(f"too seldom: {shortfall}")
    print(f"{len(found.violations)} violations in {found.seeds} histories, {found.seconds:.0f} s")
    return 3 if found.violations else 1 if shortfalls else 0


def _replay(seed: int, planted: str | None) -> int:
    outcome = run(seed, named(planted), keeps_trace=True)
    print("\n".join(outcome.trace or ()))
    print(f"trace {outcome.digest}: {outcome.violation or 'everything held'}")
    return 3 if outcome.violation else 0


if __name__ == "__main__":
    sys.exit(main())
