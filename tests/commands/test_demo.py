"""`scripts/run` passes its arguments on; with --demo the service comes with accounts, keys and a guide."""

import os
import re
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.plugins.service import PATIENCE_SECONDS, ROOT, environment

READY = re.compile(r"status-ledger is ready on (http://\S+)")
KEY = re.compile(r"^  demo-whatsapp +whatsapp +(slk_\S+)$", re.MULTILINE)


class Demo:
    """A running demo, read as it prints."""

    def __init__(self, directory: Path, environ: dict[str, str], *arguments: str) -> None:
        with (directory / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ledger.commands.demo", "--port", "0", *arguments],
                cwd=directory,
                env=environ,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        self.printed = ""
        self._log = directory / "log"

    def until(self, pattern: re.Pattern[str], seconds: float = PATIENCE_SECONDS) -> re.Match[str]:
        """Read on until it has printed this."""
        assert self.process.stdout is not None
        give_up_at = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while not (found := pattern.search(self.printed)):
                chunk = b""
                if selector.select(give_up_at - time.monotonic()):
                    chunk = os.read(self.process.stdout.fileno(), 65_536)
                if not chunk:
                    pytest.fail(f"no {pattern.pattern!r} in {self.printed!r}; log: {self._log.read_text()}")
                self.printed += chunk.decode()
        return found

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            rest, _ = self.process.communicate(timeout=PATIENCE_SECONDS)
            self.printed += rest.decode()
        except ValueError:  # read to the end before
            pass
        return self.process.returncode


@pytest.fixture
def environ(database_url: str, tmp_path: Path) -> dict[str, str]:
    """Settings without accounts."""
    told = environment(database_url, tmp_path)
    del told["LEDGER_CONFIG"]
    return told


@pytest.fixture
def start_demo(environ: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., Demo]]:
    started: list[Demo] = []

    def start(*arguments: str, **settings: str) -> Demo:
        told = environ | {f"LEDGER_{name.upper()}": value for name, value in settings.items()}
        started.append(Demo(tmp_path, told, *arguments))
        return started[-1]

    yield start
    for demo in started:
        demo.stop(signal.SIGKILL)


def listed(url: str, key: str) -> Any:
    answer = httpx.get(f"{url}/v1/messages", headers={"x-octopods-auth": key}, trust_env=False)
    return answer.json()["items"] if answer.status_code == 200 else answer.json()["code"]


# The demo -------------------------------------------------------------------------------------------------------------


def test_the_demo_plays_traffic_and_goes_on_until_it_is_told_to_end(start_demo, tmp_path):
    demo = start_demo()
    url = demo.until(READY)[1]
    key = demo.until(KEY)[1]

    demo.until(re.compile(r"every one stands where it must\n\nThe service goes on at \S+\. Ctrl-C ends it\."), 60)

    assert listed(url, key)
    assert (tmp_path / "data" / "demo.toml").stat().st_mode & 0o777 == 0o600
    children = demo.children()
    assert demo.stop() == 0
    assert psutil.wait_procs(children, PATIENCE_SECONDS)[1] == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_end_while_it_plays_it_ends_with_its_guide(start_demo, number):
    demo = start_demo()
    demo.until(KEY)
    children = demo.children()

    code = demo.stop(number)

    assert code == 0
    assert psutil.wait_procs(children, PATIENCE_SECONDS)[1] == []


def test_a_guide_does_not_outlive_a_service_that_is_killed(start_demo):
    demo = start_demo()
    demo.until(KEY)
    children = demo.children()

    demo.stop(signal.SIGKILL)

    assert psutil.wait_procs(children, PATIENCE_SECONDS)[1] == []


def test_accounts_stay_and_keys_of_an_earlier_start_end(start_demo, tmp_path):
    first = start_demo()
    old = first.until(KEY)[1]
    accounts = (tmp_path / "data" / "demo.toml").read_text()
    first.stop()

    second = start_demo()
    url, new = second.until(READY)[1], second.until(KEY)[1]

    assert (tmp_path / "data" / "demo.toml").read_text() == accounts
    assert listed(url, old) == "key_deprecated"
    assert listed(url, new) != "key_deprecated"


def test_accounts_that_are_configured_are_used(start_demo, tmp_path):
    own = tmp_path / "own.toml"
    own.write_text('[accounts.mine]\nprovider = "twilio"\nchannel = "sms"\nsecrets = ["s"]\n')

    demo = start_demo(config=str(own))
    demo.until(re.compile(r"^  mine +sms +slk_\S+$", re.MULTILINE))

    assert not (tmp_path / "data" / "demo.toml").exists()


def test_without_an_account_to_play_the_service_goes_on(start_demo, tmp_path):
    (tmp_path / "ledger.toml").write_text("")
    demo = start_demo()
    url = demo.until(READY)[1]

    assert httpx.get(f"{url}/livez", trust_env=False).status_code == 200
    assert demo.stop() == 0


def test_arguments_that_serve_would_not_take_are_refused(start_demo):
    demo = start_demo("--sideways")

    assert demo.process.wait(PATIENCE_SECONDS) == 2


def test_bad_settings_are_named(start_demo, tmp_path):
    demo = start_demo(workers="many")

    assert demo.process.wait(PATIENCE_SECONDS) == 2
    assert "LEDGER_WORKERS: must be a whole number" in (tmp_path / "log").read_text()


# scripts/run ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A repository whose programs only print what they are called with."""
    root = tmp_path / "a clone"
    (root / "scripts").mkdir(parents=True)
    (root / ".venv" / "bin").mkdir(parents=True)
    shutil.copy(ROOT / "scripts" / "run", root / "scripts")
    for name in ("scripts/setup", ".venv/bin/status-ledger", ".venv/bin/python"):
        (root / name).write_text(f'#!/bin/sh\necho {name.rpartition("/")[2]} "$(pwd)" $# "$@"\n')
        (root / name).chmod(0o755)
    return root


@pytest.mark.parametrize(
    ("arguments", "started"),
    [
        ((), "status-ledger {} 1 serve"),
        (("--port", "9000"), "status-ledger {} 3 serve --port 9000"),
        (("--demo",), "python {} 2 -m ledger.commands.demo"),
        (("--host", "a b", "--demo", "--workers", "2"), "python {} 6 -m ledger.commands.demo --host a b --workers 2"),
    ],
)
def test_scripts_run_sets_up_and_passes_its_arguments_on(clone, arguments, started):
    done = subprocess.run(
        [clone / "scripts" / "run", *arguments], cwd="/", capture_output=True, text=True, timeout=30, check=True
    )

    assert done.stdout.splitlines() == [f"setup {clone} 0", started.format(clone)]
