"""The deterministic simulation as a scenario. A round is one history; the seed is that of the first one."""

import os
from typing import Final

from scripts.chaos_suite.scenarios import Options, Result, Scenario
from scripts.chaos_suite.simulation import planted, runs


def run(options: Options) -> Result:
    count = options.count(short=300, long=20_000)
    seeds = range(options.seed, options.seed + count)
    processes = 1 if options.short else os.cpu_count() or 1
    found = runs.total(seeds, processes=processes, planted=options.planted)
    return Result(
        figures={"histories": found.seeds, "steps": found.steps, "trace": found.digest, "seen": found.seen},
        violations=[f"seed {seed}: {what} ({drawn})" for seed, what, drawn in found.violations],
        shortfalls=found.shortfalls(),
    )


SCENARIO: Final = Scenario(
    "simulation",
    "the real decide, writer and feed over a simulated store, network and processes",
    run,
    tuple(each.name for each in planted.ALL),
)
