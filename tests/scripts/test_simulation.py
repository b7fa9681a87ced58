"""The deterministic simulation: it holds over many seeds, repeats byte for byte, and finds what is planted."""

import os
import subprocess
import sys

import pytest

from scripts.chaos_suite.simulation import judged, planted, runs, world
from scripts.chaos_suite.simulation.store import Row, Violation
from tests.plugins.service import ROOT
from tests.statements import stream_of

SEEDS = range(300)


@pytest.fixture(scope="module")
def histories() -> runs.Total:
    return runs.total(SEEDS)


def test_whatever_happens_what_was_promised_holds(histories):
    assert histories.violations == []
    assert histories.seeds == len(SEEDS)


def test_enough_happened_to_prove_something(histories):
    assert histories.shortfalls() == []


def test_too_little_is_told():
    assert len(runs.Total(seeds=1_000, seen={"answers 200": 10**6}).shortfalls()) == len(runs.FLOORS) - 1


def test_a_seed_replays_byte_for_byte_in_another_process():
    """Hashes of texts differ from process to process; histories must not."""

    def replayed(hash_seed: str) -> bytes:
        command = [sys.executable, "-m", "scripts.chaos_suite.simulation.runs", "--replay", "26"]
        environ = {**os.environ, "PYTHONHASHSEED": hash_seed}
        return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, check=True).stdout

    one, two = replayed("1"), replayed("2")

    assert one.count(b"\n") > 50
    assert one == two
    assert world.run(26).digest.encode() in one


@pytest.mark.parametrize("error", planted.ALL, ids=lambda error: error.name)
def test_a_planted_error_is_found(error):
    found = next((outcome for seed in range(200) if (outcome := world.run(seed, error)).violation), None)

    assert found is not None
    assert world.run(found.seed).violation is None, "without the error, the same history is in order"


def test_a_violation_ends_the_command_with_3(capsys):
    assert runs.main(["--seeds", "3", "--planted", "no deduplication"]) == 3

    assert "VIOLATION at seed 0" in capsys.readouterr().out


def test_a_status_that_falls_is_a_violation():
    with pytest.raises(Violation, match="READ became SENT"):
        judged.never_flips(stream_of("x"), Row(1, b"", "READ", 0), Row(2, b"", "SENT", 0))
