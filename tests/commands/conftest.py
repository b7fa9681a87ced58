"""Commands, run in this process as `status-ledger` would be, over a database and an accounts file of their own."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from ledger import __main__, main
from ledger.main import Parts
from tests.plugins.service import ACCOUNTS, environment, toml


class Ended(NamedTuple):
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.out)

    @property
    def errors(self) -> list[str]:
        return self.err.splitlines()


Run = Callable[..., Ended]


@pytest.fixture(scope="module")
def command_url(new_database: Callable[[], str]) -> str:
    """A database that the tests of a module share."""
    return new_database()


@pytest.fixture
def environ(command_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The settings of the commands."""
    (tmp_path / "accounts.toml").write_text(toml(ACCOUNTS), "utf-8")
    for name in [name for name in os.environ if name.startswith("LEDGER_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    settings = environment(command_url, tmp_path)
    return {name: value for name, value in settings.items() if name.startswith("LEDGER_")}


@pytest.fixture
def run(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run a command and return how it ended."""

    def run(*arguments: object, **settings: str) -> Ended:
        capfd.readouterr()
        with monkeypatch.context() as patched:
            for name, value in (
                environ | {f"LEDGER_{name.upper()}": value for name, value in settings.items()}
            ).items():
                patched.setenv(name, value)
            try:
                code = __main__.main([str(argument) for argument in arguments])
            except SystemExit as end:  # how argparse ends
                code = end.code if isinstance(end.code, int) else 1
        return Ended(code, *capfd.readouterr())

    return run


@pytest.fixture
def parts(environ: dict[str, str]) -> Iterator[Parts]:
    """The parts that commands are made of, over the same database."""
    built = main.build(main.read(environ), environ["LEDGER_DATABASE_URL"], pool_size=1)
    yield built
    built.close()
