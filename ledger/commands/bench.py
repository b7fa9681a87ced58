"""`bench`: measures this checkout against its peers. The benchmark is no part of what is installed."""

import argparse
import importlib
import sys
from pathlib import Path
from typing import Any, Final

from ledger.commands.common import CommandFailed

_ROOT: Final = Path(__file__).parents[2]


def add_to(commands: Any) -> None:
    bench = commands.add_parser("bench", help="measure this machine and this version against other ways to do the job")
    bench.add_argument("--quick", action="store_true", help="fewer figures and shorter measurements: 2 to 3 minutes")
    bench.add_argument("--long", action="store_true", help="also what takes many minutes: 5 million events, memory")
    bench.add_argument("--only", nargs="+", metavar="NAME", help="only these figures")
    bench.add_argument("--rounds", type=int, default=3, help="interleaved rounds; the median counts (3)")
    bench.add_argument("--seconds", type=float, help="length of one measurement (5, with --quick 2)")
    bench.add_argument("--callbacks", type=int, default=1_000_000, help="for the memory of a worker (1000000)")
    bench.add_argument("--database-url", help="measure on this server, in databases of its own (an embedded one)")
    bench.add_argument("--json", type=Path, metavar="FILE", help="also write everything that was measured")
    bench.set_defaults(run=_bench)


def _bench(told: argparse.Namespace) -> int:
    if not (_ROOT / "scripts" / "bench_suite").is_dir():
        raise CommandFailed("the benchmark comes with the source code: run it from a checkout, or scripts/bench there")
    sys.path.insert(0, str(_ROOT))
    suite = importlib.import_module("scripts.bench_suite.run")
    unknown = set(told.only or ()) - set(suite.names())
    if unknown:
        raise CommandFailed(f"no such figure: {', '.join(sorted(unknown))}. There are {', '.join(suite.names())}", 2)
    options = suite.Options(
        quick=told.quick,
        long=told.long,
        only=tuple(told.only or ()),
        rounds=max(1, told.rounds),
        seconds=told.seconds,
        json=told.json,
        database_url=told.database_url,
        callbacks=told.callbacks,
    )
    try:
        code: int = suite.run(options)
    except suite.LoadFailed as error:
        raise CommandFailed(str(error)) from error
    return code
