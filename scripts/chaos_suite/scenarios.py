"""What a scenario is, and what it tells in the end."""

from collections.abc import Callable
from typing import Any

import msgspec


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What all scenarios are given. `rounds` means what the scenario says it means; None: as many as it thinks fit."""

    seed: int
    rounds: int | None = None
    short: bool = False
    planted: str | None = None  #: an error to put in, which must be found

    def count(self, *, short: int, long: int) -> int:
        """Return how many rounds to run."""
        return self.rounds or (short if self.short else long)


class Result(msgspec.Struct, kw_only=True):
    """What happened, what of it should not have, and what happened too seldom for the rest to mean anything."""

    figures: dict[str, Any] = {}
    violations: list[str] = []
    shortfalls: list[str] = []
    curve: list[dict[str, Any]] = []  #: how things stood again and again, where that is of interest

    def require(self, what: str, least: float) -> None:
        """Note a shortfall unless this figure is as high as it must be."""
        found = self.figures.get(what, 0)
        if found < least:
            self.shortfalls.append(f"{what}: {found}, and not {least:g}")


class LeftOut(Exception):
    """The scenario cannot run here; the text says why."""


class Scenario(msgspec.Struct, frozen=True):
    name: str
    title: str
    run: Callable[[Options], Result]
    planted: tuple[str, ...] = ()  #: names of errors that it can be run with


def say(text: str) -> None:
    """Tell how far a scenario has come."""
    print(f"  {text}", flush=True)
