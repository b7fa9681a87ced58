"""Signals that ask to end are heard whenever they come."""

import subprocess
import sys

import pytest

_PRELUDE = """
import os, signal, sys, threading
from ledger.commands.signals import Signals
signals = Signals()
def send(): os.kill(os.getpid(), signal.{name})
"""


def run(program: str, name: str) -> str:
    command = [sys.executable, "-c", _PRELUDE.format(name=name) + program]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=20).stdout


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_one_that_came_before_anybody_waited_is_heard(name: str) -> None:
    assert run("print(signals.wait(0)); send(); print(signals.wait(), signals.wait(0))", name) == "False\nTrue True\n"


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_one_that_comes_meanwhile_ends_the_wait(name: str) -> None:
    assert run("threading.Timer(0.1, send).start(); print(signals.wait())", name) == "True\n"


def test_many_at_once_block_nobody() -> None:
    """The socket's buffer is full long before."""
    assert run("[send() for _ in range(20_000)]; print(signals.wait(0))", "SIGTERM") == "True\n"
