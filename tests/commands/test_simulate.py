"""`simulate` against a running server: everything stands where it must, and it says so when it does not."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from ledger import __main__, main
from ledger.commands import simulate
from ledger.commands.common import DONE, FAILED, FOUND, USAGE
from ledger.commands.simulation.model import Sender
from ledger.commands.simulation.performance import Result, WrongMessage, perform
from ledger.commands.simulation.traffic import Play, compose
from ledger_client.transport import Transport
from tests.http.callbacks import meta as callback
from tests.http.callbacks import meta_failure, send
from tests.plugins.service import Service, toml


class Done(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def result(self) -> dict[str, Any]:
        return json.loads(self.out)


Simulate = Callable[..., Done]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Simulate:
    """Run `simulate` with a server's own settings, as fast as it goes."""

    def run(service: Service, *arguments: str, **settings: str) -> Done:
        capfd.readouterr()
        with monkeypatch.context() as patched:
            for name, value in service.environ.items():
                patched.setenv(name, value)
            for name, value in settings.items():
                patched.setenv(f"LEDGER_{name.upper()}", value)
            code = __main__.main(["simulate", "--seconds", "0", *arguments])
        return Done(code, *capfd.readouterr())

    return run


def a_play(service: Service, messages: int, seed: int) -> Play:
    """Return a play for this server's accounts, under a run of its own."""
    return compose(simulate.actors(main.read(service.environ)), messages, seed, simulate.new_run())


def performed(service: Service, play: Play) -> Result:
    keys = {place: service.new_key(*place)[1] for place in play.keys}
    with Transport(service.url) as client:
        return perform(play, client, keys, seconds=0)


def recorded(service: Service) -> int:
    (row,) = service.rows("SELECT count(*) FROM events")
    return int(row[0])


def keys(service: Service) -> dict[str, str]:
    return dict(service.rows("SELECT id, state FROM api_keys"))  # type: ignore[arg-type]


# What it finds --------------------------------------------------------------------------------------------------------


def test_every_message_stands_where_it_must(run, service):
    done = run(service, "--url", service.url, "--messages", "300", "--seed", "7")

    assert (done.code, done.err) == (DONE, "")
    assert done.out.startswith("seed 7, run 20")
    assert "300 messages checked: every one stands where it must" in done.out


def test_as_json_it_counts(run, service):
    done = run(service, "--url", service.url, "--messages", "120", "--json")

    told = done.result
    assert done.code == DONE
    assert set(told) == set(Result.__struct_fields__)
    assert (told["messages"], told["checked"], told["wrong"]) == (120, 120, [])
    assert sum(told["answered"].values()) == told["requests"]
    assert set(told["answered"]) == {"200", "201", "401", "404", "415"}
    assert told["duplicates"] >= 45
    assert told["conflicts"] > 0


def test_the_same_run_played_again_changes_nothing(run, service):
    first = run(service, "--url", service.url, "--messages", "150", "--json")
    before = recorded(service)

    again = run(service, "--url", service.url, "--messages", "150", "--json", "--run", first.result["run"])

    assert (again.code, again.result["wrong"]) == (DONE, [])
    assert again.result["requests"] == first.result["requests"]
    assert recorded(service) == before


def test_a_report_that_is_lost_is_noticed(service):
    play = a_play(service, messages=60, seed=3)
    lost = next(call for call in play.calls if b"biz_opaque_callback_data" in call.body and call.expected == 200)
    unsaid = msgspec.structs.replace(play.calls[0], target="/webhooks/NOBODY", expected=404, key=None, after=())
    calls = [
        msgspec.structs.replace(unsaid, number=call.number) if call.body == lost.body else call for call in play.calls
    ]

    result = performed(service, msgspec.structs.replace(play, calls=tuple(calls)))

    assert [wrong for wrong in result.wrong if isinstance(wrong, WrongMessage)]
    assert any("history lacks callback" in difference for wrong in result.wrong for difference in wrong.differences)


def test_a_failure_that_nobody_reported_is_noticed(service):
    play = a_play(service, messages=60, seed=4)
    quiet = next(
        line.message for line in play.lines if line.message.story.name == "read" and line.message.sender is Sender.NEVER
    )
    send(service, callback(meta_failure(quiet.provider_message_id), account=quiet.account.name))

    result = performed(service, play)

    (wrong,) = result.wrong
    assert wrong.account == quiet.account.name


def test_an_answer_other_than_expected_is_noticed(service):
    play = a_play(service, messages=20, seed=5)
    welcome = next(call for call in play.calls if call.expected == 401)
    calls = [msgspec.structs.replace(call, expected=200) if call is welcome else call for call in play.calls]

    result = performed(service, msgspec.structs.replace(play, calls=tuple(calls)))

    (wrong,) = result.wrong
    assert (wrong.request, wrong.must_answer, wrong.answers) == (welcome.number, 200, 401)


def test_differences_are_printed_and_end_with_code_3(run, service, tmp_path):
    other = tmp_path / "accounts.toml"
    other.write_text(toml({"meta-main": {"provider": "meta", "channel": "whatsapp", "secrets": ["another"]}}))

    done = run(service, "--url", service.url, "--messages", "10", config=str(other))

    assert done.code == FOUND
    assert "/webhooks/meta-main: answered 401, must be 200" in done.out
    assert "do server and this command read the same secrets and public_url?" in done.out


# Keys, bounds, faults -------------------------------------------------------------------------------------------------


def test_keys_are_made_for_the_play_and_revoked(run, service):
    before = keys(service)

    run(service, "--url", service.url, "--messages", "40")

    made = keys(service).items() - before.items()
    assert made
    assert {"revoked"} == {state for _, state in made}


def test_given_keys_are_used_and_stay(run, service):
    places = a_play(service, messages=40, seed=1).keys
    given = [f"--key={account}/{channel}={service.new_key(account, channel)[1]}" for account, channel in places]
    before = keys(service)

    done = run(service, "--url", service.url, "--messages", "40", *given, database_url="postgresql://nobody@/nowhere")

    assert (done.code, done.err) == (DONE, "")
    assert keys(service) == before


def test_a_key_that_is_missing_is_named(run, service):
    done = run(service, "--url", service.url, "--key=meta-main/whatsapp=slk_x")

    assert done.code == USAGE
    assert "twilio-main/sms" in done.err
    assert "meta-main/whatsapp" not in done.err


def test_an_unreachable_server_is_a_failure(run, service, monkeypatch):
    monkeypatch.setattr(simulate, "_REACH_SECONDS", 0.1)

    done = run(service, "--url", "http://127.0.0.1:1")

    assert done.code == FAILED
    assert "nobody answers at http://127.0.0.1:1" in done.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("--messages", "0"),
        ("--seconds", "-1"),
        ("--seconds", "nan"),
        ("--run", "yesterday"),
        ("--run", "20200101T000000000"),
        ("--url", "x"),
    ],
)
def test_senseless_arguments_are_refused(run, service, arguments):
    assert run(service, *arguments).code == USAGE


def test_without_an_account_to_play_it_says_so(run, service, tmp_path):
    (tmp_path / "none.toml").write_text("")

    done = run(service, "--url", service.url, config=str(tmp_path / "none.toml"))

    assert done.code == USAGE
    assert "none.toml" in done.err


def test_accounts_that_are_there_are_played(run, service, tmp_path: Path):
    (tmp_path / "one.toml").write_text(
        toml({"viber-main": {"provider": "viber", "channel": "viber", "secrets": ["viber-secret"]}})
    )

    done = run(service, "--url", service.url, "--messages", "30", "--json", config=str(tmp_path / "one.toml"))

    assert (done.code, done.result["messages"]) == (DONE, 30)
