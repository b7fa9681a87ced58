"""Garbage chosen by the branches that it reaches, by atheris (libFuzzer), which has to be installed for it.

    pip install 'atheris>=3,<4'    # wheels for Linux
    python -m scripts.chaos_suite.garbage.guided NAME DIRECTORY [--executions N] [--seed N]

What was found worth keeping stays in DIRECTORY/NAME, how executions ended in DIRECTORY/NAME.json. libFuzzer ends the
process: with 77 on a finding, which it writes into DIRECTORY.
"""

import argparse
import json
import sys
import time
from collections import Counter
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["ledger.wire", "ledger.providers"]):
    from scripts.chaos_suite.garbage import adapters


def main() -> None:
    parser = argparse.ArgumentParser(prog="guided", description="Garbage chosen by what it reaches.")
    parser.add_argument("name", choices=list(adapters.executions()))
    parser.add_argument("directory", type=Path)
    parser.add_argument("--executions", type=int, default=800_000)
    parser.add_argument("--seed", type=int, default=9)
    options = parser.parse_args()
    name, directory, corpus = options.name, options.directory, options.directory / options.name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(dict.fromkeys(adapters.corpus(name))):
        (corpus / f"seed-{number:04}").write_bytes(data)
    dictionary = directory / f"{name}.dict"
    dictionary.write_text("".join(f'"{_escaped(token)}"\n' for token in adapters.words(name)))
    execute, ends, began, done = adapters.executions()[name], Counter[str](), time.monotonic(), 0

    def one(data: bytes) -> None:
        nonlocal done
        ends[execute(data)] += 1
        done += 1
        if done >= options.executions:  # libFuzzer ends with _exit: what is to be told is told now
            told = {"executions": done, "seconds": round(time.monotonic() - began, 1), "ends": dict(ends)}
            (directory / f"{name}.json").write_text(json.dumps(told))

    limits = [f"-runs={options.executions}", f"-seed={options.seed}", "-max_len=4096", "-timeout=5"]
    places = [f"-dict={dictionary}", f"-artifact_prefix={directory}/{name}-", str(corpus)]
    atheris.Setup([sys.argv[0], *limits, "-print_final_stats=1", *places], one)
    atheris.Fuzz()


def _escaped(token: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in token)


if __name__ == "__main__":
    main()
