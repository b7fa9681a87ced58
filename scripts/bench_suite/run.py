"""One run: rounds of probes, interleaved, and the figures they amount to.

Within a round everything is measured once, in turns from the front and from the back, so that a slow spell of the
machine does not always hit the same probe. A figure's ratio is taken within each round; the median over rounds counts.
"""

import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from scripts.bench_peers import uma
from scripts.bench_suite import database, figures, machine, probes
from scripts.bench_suite.figures import FIGURES, Figure, Result
from scripts.bench_suite.load import LoadFailed, require_wrk

__all__ = ["LoadFailed", "Options", "names", "run"]


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """As told on the command line."""

    quick: bool = False
    long: bool = False
    only: tuple[str, ...] = ()
    rounds: int = 3
    seconds: float | None = None  #: of one measurement
    json: Path | None = None
    database_url: str | None = None
    callbacks: int = 1_000_000


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What `--json` writes."""

    machine: dict[str, str]
    postgresql: dict[str, str]
    options: dict[str, Any]
    took_seconds: float
    figures: list[Result]
    rounds: dict[str, list[dict[str, float]]]
    left_out: dict[str, str]


_SECONDS: Final = {True: 2.0, False: 5.0}


def names() -> list[str]:
    """Return the names that `--only` takes."""
    return [figure.name for figure in FIGURES]


def run(options: Options) -> int:
    """Measure, print the table, write the file."""
    require_wrk()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # ends servers, removes files
    began = time.monotonic()
    chosen, left_out = _choose(options)
    seconds = options.seconds or _SECONDS[options.quick]
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        directory.chmod(0o755)  # the server of the embedded database may run as another user
        about = machine.describe(directory)
        with (
            database.databases(options.database_url, directory / "postgres") as databases,
            probes.prepared(databases, directory, seconds=seconds, size=options.callbacks, progress=_say) as bench,
        ):
            settings = databases.settings()
            rounds = _measure(bench, chosen, options.rounds)
    report = Report(
        machine=about,
        postgresql=settings,
        options=msgspec.to_builtins(options, enc_hook=str),
        took_seconds=time.monotonic() - began,
        figures=[figures.evaluate(figure, rounds) for figure in chosen],
        rounds=rounds,
        left_out=left_out,
    )
    _print(report)
    if options.json is not None:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    return 0


def _choose(options: Options) -> tuple[list[Figure], dict[str, str]]:
    """Return the figures to measure, and why the others are left out."""
    chosen, left_out = [], {}
    for figure in FIGURES:
        if options.only and figure.name not in options.only:
            continue
        if figure.long and not (options.long or options.only):
            left_out[figure.name] = "takes many minutes: --long"
        elif options.quick and not figure.quick and not options.only:
            left_out[figure.name] = "left out by --quick"
        elif "umadb" in figure.probes and not uma.is_installed():
            left_out[figure.name] = "the package umadb is not installed: there is no wheel for this platform"
        else:
            chosen.append(figure)
    return chosen, left_out


def _measure(bench: probes.Bench, chosen: Sequence[Figure], count: int) -> dict[str, list[dict[str, float]]]:
    wanted = [name for name in probes.PROBES if any(name in figure.probes for figure in chosen)]
    found: dict[str, list[dict[str, float]]] = {name: [] for name in wanted}
    repeated = [name for name in wanted if name not in probes.ONCE]
    for number in range(count if repeated else 0):
        for name in repeated if number % 2 == 0 else reversed(repeated):
            bench.progress(f"round {number + 1} of {count}: {name}")
            found[name].append(probes.PROBES[name](bench))
    for name in wanted:
        if name in probes.ONCE:
            bench.progress(f"once: {name}")
            found[name].append(probes.PROBES[name](bench))
    return found


def _say(text: str) -> None:
    print(f"\r\033[K{text}" if sys.stderr.isatty() else text, end="" if sys.stderr.isatty() else "\n", file=sys.stderr)
    sys.stderr.flush()


# Printing -------------------------------------------------------------------------------------------------------------


def _print(report: Report) -> None:
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    for name, told in report.machine.items():
        print(f"{name + ':':16}{told}")
    settings = ", ".join(f"{name} {told}" for name, told in report.postgresql.items())
    print(f"{'postgresql:':16}{settings}\n")
    head = ("figure", "", "measured", "against", "", "ratio", "low to high", "reach", "")
    _print_table([head, *(_line(result) for result in report.figures)])
    for name, why in report.left_out.items():
        print(f"left out: {name}: {why}")
    print(f"\nmedian of the rounds; took {report.took_seconds:.0f} s")


def _line(result: Result) -> tuple[str, ...]:
    reach, verdict = "", ""
    if result.reach is not None:
        reach = f"{'<=' if result.at_most else '>='} {_number(result.reach)}"
        verdict = "reached" if result.reached else "NOT reached"
    return (
        result.name,
        result.title,
        f"{_number(result.value)}{result.unit}",
        result.against,
        "" if result.limit is None else f"{_number(result.limit)}{result.unit}",
        _number(result.ratio),
        "" if result.low == result.high else f"{_number(result.low)} to {_number(result.high)}",
        reach,
        verdict,
    )


def _number(number: float) -> str:
    if abs(number) >= 100:
        return f"{number:,.0f}"
    return f"{number:.3g}" if abs(number) < 10 else f"{number:.1f}"


def _print_table(lines: Sequence[tuple[str, ...]]) -> None:
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
