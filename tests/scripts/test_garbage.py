"""The fuzzing of adapters: it is lawful over many inputs, understands enough of them, and finds what is planted."""

import subprocess
import sys
from random import Random

import msgspec
import pytest

from ledger.providers import PROVIDERS
from ledger.wire.contract import Malformed, Parsed
from scripts.chaos_suite.garbage import adapters, fuzz
from tests.plugins.service import ROOT

NAMES = [*PROVIDERS, "wire"]


@pytest.fixture(scope="module")
def fuzzed() -> fuzz.Fuzzed:
    return fuzz.mutation(NAMES, executions=40_000, seed=1)


def test_everything_that_can_be_executed_is(fuzzed):
    assert list(adapters.executions()) == NAMES == list(fuzzed.ends)


def test_no_input_breaks_an_adapter(fuzzed):
    assert fuzzed.findings == []
    assert fuzzed.executions > 40_000


def test_every_adapter_understands_a_part_and_refuses_another(fuzzed):
    assert fuzzed.shortfalls() == []


def test_an_adapter_that_understands_nothing_is_told():
    assert len(fuzz.Fuzzed(ends={"x": {"malformed": 9}, "y": {"malformed": 1, "observed": 1}}).shortfalls()) == 1


def test_a_seed_makes_the_same_inputs_again():
    corpus, tokens = adapters.corpus("meta"), adapters.words("meta")

    one, two = ([fuzz.mutated(Random(5), corpus, tokens) for _ in range(3)] for _ in range(2))

    assert one == two


def test_a_decoder_that_is_guarded_against_its_own_errors_only_is_found(monkeypatch):
    """The planted error: bad UTF-8 and deep nesting raise something else than the decoder's error."""

    def parse(webhook, account):
        try:
            msgspec.json.decode(webhook.body)
        except msgspec.DecodeError as error:
            raise Malformed("no JSON") from error
        return Parsed()

    careless = msgspec.structs.replace(PROVIDERS["meta"], parse=parse)
    monkeypatch.setattr(adapters, "executions", lambda: {"meta": adapters._adapter(careless)})
    monkeypatch.setattr(adapters, "CASES", [each._replace(provider=careless) for each in adapters.CASES])

    found = fuzz.mutation(["meta"], executions=3_000, seed=1)

    kinds = {finding.error.rstrip().splitlines()[-1].partition(":")[0] for finding in found.findings}
    assert {"UnicodeDecodeError", "RecursionError"} <= kinds


def test_the_command_counts_what_it_executed():
    command = [sys.executable, "-m", "scripts.chaos_suite.garbage.fuzz", "--only", "wire", "--executions", "10"]

    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert ended.returncode == 0, ended.stdout
    assert "0 findings in" in ended.stdout
