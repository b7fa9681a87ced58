"""Makes garbage, executes it, and counts.

    python -m scripts.chaos_suite.garbage.fuzz [--only NAME…] [--executions N] [--seed N] [--json FILE]

Inputs are mutations of a corpus, drawn from a seed: the same everywhere. `guided` chooses them by what they reach.

Exits with 3 on a finding, with 1 if too little was understood to prove anything.
"""

import argparse
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from random import Random
from typing import Final

import msgspec

from scripts.chaos_suite.garbage import adapters

#: Bytes of an input that mutation makes; the corpus has longer ones.
INPUT_BYTES_MAX: Final = 8_192


class Finding(msgspec.Struct, frozen=True):
    """An input that broke the law, and how."""

    name: str
    data: bytes
    error: str


class Fuzzed(msgspec.Struct):
    executions: int = 0
    seconds: float = 0.0
    ends: dict[str, dict[str, int]] = {}  #: what was executed -> how it ended -> how often
    findings: list[Finding] = []

    def shortfalls(self) -> list[str]:
        """Return the adapters that understood too little: garbage that is always refused proves nothing."""
        return [
            f"{name}: {ends}"
            for name, ends in self.ends.items()
            if not ends.get("malformed") or not (ends.get("observed") or ends.get("read"))
        ]


def mutated(random: Random, corpus: Sequence[bytes], tokens: Sequence[bytes]) -> bytes:
    """Return an input of the corpus with one to six things done to it. The way it comes in is mostly left alone."""
    data = bytearray(random.choice(corpus)[:INPUT_BYTES_MAX])
    for _ in range(random.choice((1, 1, 2, 3, 6))):
        low = 0 if random.random() < 0.02 else min(2, len(data))
        at = random.randint(low, len(data)) if len(data) > low else len(data)
        end = min(len(data), at + random.choice((1, 1, 2, 8, 64)))
        match random.randrange(8):
            case 0:
                del data[at:end]
            case 1:
                data[at:end] = random.randbytes(end - at)
            case 2:
                data[at:at] = random.choice(tokens)
            case 3:
                data[at:end] = random.choice(tokens)
            case 4:
                data[at:at] = data[at:end] * random.choice((1, 2, 40))
            case 5:
                other = random.choice(corpus)
                cut = random.randrange(len(other) + 1)
                data[at:] = other[cut : cut + INPUT_BYTES_MAX]
            case 6 if at < len(data):
                data[at] ^= 1 << random.randrange(8)
            case _:
                data[at:at] = random.choice((b"[", b"{", b'{"a":', b'"')) * random.choice((1, 40, 2_000))
    return bytes(data[: 2 * INPUT_BYTES_MAX])


def mutation(names: Sequence[str], executions: int, seed: int) -> Fuzzed:
    """Execute so many inputs, shared out evenly. The same seed makes the same inputs."""
    fuzzed, began = Fuzzed(), time.monotonic()
    known = adapters.executions()
    for name in names:
        execute, corpus, tokens = known[name], adapters.corpus(name), adapters.words(name)
        random, ends = Random(f"{seed} {name}"), Counter[str]()
        for data in (*corpus, *(mutated(random, corpus, tokens) for _ in range(executions // len(names)))):
            try:
                ends[execute(data)] += 1
            except Exception:
                ends["broken"] += 1
                fuzzed.findings.append(Finding(name, data, traceback.format_exc(limit=-3)))
        fuzzed.ends[name] = dict(sorted(ends.items()))
        fuzzed.executions += sum(ends.values())
    fuzzed.seconds = time.monotonic() - began
    return fuzzed


def main(arguments: Iterable[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="fuzz", description="Garbage for every adapter.")
    parser.add_argument("--only", nargs="+", metavar="NAME")
    parser.add_argument("--executions", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args(None if arguments is None else list(arguments))
    fuzzed = mutation(options.only or list(adapters.executions()), options.executions, options.seed)
    if options.json:
        Path(options.json).write_bytes(msgspec.json.encode(fuzzed))
    for name, ends in fuzzed.ends.items():
        print(f"{name}: {ends}")
    for finding in fuzzed.findings[:10]:
        print(f"FINDING in {finding.name}: {finding.data[:200]!r}\n{finding.error}")
    for shortfall in fuzzed.shortfalls():
        print(f"too little understood: {shortfall}")
    print(f"{len(fuzzed.findings)} findings in {fuzzed.executions} executions, {fuzzed.seconds:.0f} s")
    return 3 if fuzzed.findings else 1 if fuzzed.shortfalls() else 0


if __name__ == "__main__":
    sys.exit(main())
