"""`scripts/chaos`: its short forms hold, and find what is planted; bad usage and too little are told."""

import json
from pathlib import Path

import pytest

from scripts.chaos_suite import __main__ as chaos
from scripts.chaos_suite import registry
from scripts.chaos_suite.scenarios import LeftOut, Options, Result, Scenario


def run(*arguments: str) -> int:
    return chaos.main([*arguments, "--seed", "7"])


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch):
    """Put one scenario in the place of all."""

    def put(run, *planted: str) -> None:
        monkeypatch.setattr(registry, "SCENARIOS", (Scenario("made-up", "for a test", run, planted),))

    return put


def test_seed_and_options_are_told_first_and_figures_in_one_line(only, capsys, tmp_path: Path) -> None:
    only(lambda options: Result(figures={"rounds": options.rounds, "seen": {"this": 1, "that": 0.25}}))

    code = run("made-up", "--rounds", "3", "--json", str(tmp_path / "found.json"))

    lines = capsys.readouterr().out.splitlines()
    assert code == 0
    assert lines[0].startswith("seed 7, ")
    assert lines[-1] == "made-up: rounds 3 · seen (this 1, that 0.25) · 0 s"
    (told,) = json.loads((tmp_path / "found.json").read_text("utf-8"))
    assert (told["scenario"], told["options"]["seed"], told["result"]["figures"]["rounds"]) == ("made-up", 7, 3)


@pytest.mark.parametrize(
    ("result", "code"),
    [
        (Result(), 0),
        (Result(shortfalls=["kills: 0, and not 1"]), 1),
        (Result(violations=["lost"]), 3),
        (Result(violations=["lost"], shortfalls=["kills: 0, and not 1"]), 3),
    ],
)
def test_a_violation_ends_with_3_and_a_proof_of_nothing_with_1(only, result: Result, code: int) -> None:
    only(lambda _options: result)

    assert run("all") == code


def test_a_figure_below_its_floor_is_a_shortfall() -> None:
    result = Result(figures={"kills": 3})

    result.require("kills", 3)
    result.require("acked", 1)

    assert result.shortfalls == ["acked: 0, and not 1"]


def test_what_cannot_run_here_says_why(only, capsys) -> None:
    def run_(_options: Options) -> Result:
        raise LeftOut("needs root")

    only(run_)

    assert run("made-up") == 0
    assert "left out: needs root" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [(), ("unheard-of",), ("all", "--rounds", "0"), ("crash", "--planted", "nothing"), ("--unknown",)]
)
def test_bad_usage_ends_with_2(arguments: tuple[str, ...], capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        run(*arguments)

    assert ended.value.code == 2
    assert "usage: scripts/chaos" in capsys.readouterr().err


def test_names_of_scenarios_are_their_own() -> None:
    names = [each.name for each in registry.SCENARIOS]

    assert len(names) == len(set(names))


def test_processes_die_and_nothing_acknowledged_is_lost(capsys) -> None:
    code = run("crash", "--short")

    assert code == 0, capsys.readouterr().out


def test_the_database_fails_in_every_way_and_the_service_goes_on(capsys) -> None:
    code = run("database", "--short")

    assert code == 0, capsys.readouterr().out


def test_a_service_that_answers_before_the_commit_is_found(capsys) -> None:
    code = run("crash", "--rounds", "5", "--planted", "answers-first")

    told = capsys.readouterr().out
    assert code == 3, told
    assert "acknowledged statuses are not on record" in told


def test_clients_contradict_each_other_at_once_and_every_message_is_what_the_specification_says(capsys) -> None:
    code = run("races", "--rounds", "1")

    assert code == 0, capsys.readouterr().out


@pytest.mark.parametrize(
    ("planted", "found"),
    [("forgetful", "are on record more than once"), ("last-word-wins", "and the specification says")],
)
def test_a_service_that_forgets_or_lets_the_last_word_win_is_found(planted: str, found: str, capsys) -> None:
    code = run("races", "--rounds", "1", "--planted", planted)

    out = capsys.readouterr().out
    assert code == 3, out
    assert found in out


def test_what_was_acknowledged_survives_a_power_cut_and_a_database_that_does_not_sync_is_found(capsys) -> None:
    code = run("power", "--rounds", "1")
    told = capsys.readouterr().out
    if "left out: " in told:
        pytest.skip(told)

    assert code == 0, told
    assert run("power", "--rounds", "2", "--planted", "no-fsync") == 3
    assert "acknowledged statuses are not on record" in capsys.readouterr().out


def test_an_earlier_release_serves_beside_this_one_while_the_schema_is_migrated(capsys) -> None:
    code = run("upgrade", "--short")

    assert code == 0, capsys.readouterr().out


def test_a_migration_that_the_earlier_release_cannot_live_with_is_found(capsys) -> None:
    code = run("upgrade", "--short", "--planted", "not-additive")

    told = capsys.readouterr().out
    assert code == 3, told
    assert "VIOLATION: round 1: nothing was taken while " in told


def test_a_steady_load_is_borne(capsys) -> None:
    code = run("soak", "--short")

    assert code == 0, capsys.readouterr().out


def test_a_service_that_keeps_something_of_every_callback_is_found(capsys) -> None:
    code = run("soak", "--short", "--planted", "leaking")

    told = capsys.readouterr().out
    assert code == 3, told
    assert "VIOLATION: memory of web" in told


def test_the_simulation_is_a_scenario(capsys) -> None:
    assert run("simulation", "--rounds", "2", "--planted", "no deduplication") == 3

    assert "VIOLATION: seed 7: " in capsys.readouterr().out
