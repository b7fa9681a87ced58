"""`scripts/chaos`: runs scenarios and says in one line each what happened."""

import argparse
import random
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from scripts.chaos_suite import registry
from scripts.chaos_suite.scenarios import LeftOut, Options, Result, Scenario

_ALL: Final = "all"
HELD, TOO_LITTLE, USAGE, VIOLATED = 0, 1, 2, 3


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What `--json` writes of a scenario."""

    scenario: str
    options: Options
    seconds: float
    left_out: str | None = None
    result: Result | None = None

    @property
    def code(self) -> int:
        if self.result is None:
            return HELD
        return VIOLATED if self.result.violations else TOO_LITTLE if self.result.shortfalls else HELD


def main(arguments: Iterable[str] | None = None) -> int:
    parser = _parser()
    told = parser.parse_args(None if arguments is None else list(arguments))
    known = {each.name: each for each in registry.SCENARIOS}
    unknown = set(told.scenarios) - {*known, _ALL}
    if unknown:
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}. There are {', '.join(known)}, and {_ALL}")
    chosen = [each for each in registry.SCENARIOS if _ALL in told.scenarios or each.name in told.scenarios]
    if told.planted is not None and any(told.planted not in each.planted for each in chosen):
        parser.error("--planted names an error of one scenario, which must be the only one (--help)")
    if told.rounds is not None and told.rounds < 1:
        parser.error("--rounds must be 1 or more")
    seed = random.SystemRandom().randrange(2**31) if told.seed is None else told.seed
    options = Options(seed=seed, rounds=told.rounds, short=told.short, planted=told.planted)
    print(f"seed {seed}, {msgspec.json.encode(options).decode()}", flush=True)
    found = [_run(each, options) for each in chosen]
    if told.json is not None:
        told.json.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")
    return max(each.code for each in found)


def _parser() -> argparse.ArgumentParser:
    lines = [
        f"  {each.name:12}{each.title}" + "".join(f"\n{'':14}--planted {name}" for name in each.planted)
        for each in registry.SCENARIOS
    ]
    parser = argparse.ArgumentParser(
        prog="scripts/chaos",
        description="Puts the service under fire and checks what it promises.",
        epilog="scenarios:\n" + "\n".join(lines),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("scenarios", nargs="+", metavar="SCENARIO", help="which to run; all: every one")
    parser.add_argument("--rounds", type=int, help="how long to go on; what a round is depends on the scenario")
    parser.add_argument("--seed", type=int, help="what chance begins with (drawn, and printed)")
    parser.add_argument("--short", action="store_true", help="as briefly as still proves something")
    parser.add_argument("--planted", metavar="ERROR", help="put an error in; it must be found, with exit code 3")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything that was counted")
    return parser


def _run(scenario: Scenario, options: Options) -> Told:
    print(f"{scenario.name}: {scenario.title}", flush=True)
    began = time.monotonic()
    try:
        result = scenario.run(options)
    except LeftOut as why:
        print(f"{scenario.name}: left out: {why}", flush=True)
        return Told(scenario=scenario.name, options=options, seconds=0.0, left_out=str(why))
    seconds = time.monotonic() - began
    figures = " · ".join(f"{name} {_number(value)}" for name, value in result.figures.items())
    print(f"{scenario.name}: {figures} · {seconds:.0f} s", flush=True)
    for violation in result.violations[:20]:
        print(f"VIOLATION: {violation}", flush=True)
    for shortfall in result.shortfalls:
        print(f"too seldom: {shortfall}", flush=True)
    return Told(scenario=scenario.name, options=options, seconds=round(seconds, 1), result=result)


def _number(value: object) -> str:
    if isinstance(value, dict):
        return "(" + ", ".join(f"{name} {_number(each)}" for name, each in value.items()) + ")"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())
