"""Finding a value in JSON by a path that an account's options name: `data.message_id`, `to[0].number`, `meta["a.b"]`.

A leading `$` or `$.` is allowed and means the same. A path that leads nowhere finds nothing; what is on the way is
decoded one level at a time, so a hostile value beside it costs nothing.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final, TypeVar

import msgspec
from msgspec import Raw

#: Steps in a path.
STEPS_MAX: Final = 32

Path = tuple[str | int, ...]
T = TypeVar("T")

_STEP: Final = re.compile(r"""(?:^|\.)([^.\[\]"']+)|\[([0-9]{1,6})\]|\["([^"]+)"\]|\['([^']+)'\]""")
_MEMBERS: Final = msgspec.json.Decoder(dict[str, Raw])
_ELEMENTS: Final = msgspec.json.Decoder(list[Raw])


@lru_cache(1_024)
def parse(text: str) -> Path:
    """Read a path. Raises ValueError for what is none."""
    rest = text.removeprefix("$").removeprefix(".") if text.startswith("$") else text
    steps: list[str | int] = []
    at = 0
    while at < len(rest):
        found = _STEP.match(rest, at)
        if found is None or len(steps) == STEPS_MAX:
            raise ValueError("is not a path such as data.message_id or to[0].number")
        name, index, *quoted = found.groups()
        steps.append(int(index) if index else name or next(filter(None, quoted)))
        at = found.end()
    if not steps:
        raise ValueError("is not a path such as data.message_id or to[0].number")
    return tuple(steps)


def put(path: Path, value: bytes) -> bytes:
    """Return the smallest JSON in which this value stands at a path."""
    for step in reversed(path):
        if isinstance(step, int):
            value = b"[" + b"null," * step + value + b"]"
        else:
            value = b"{" + msgspec.json.encode(step) + b":" + value + b"}"
    return value


class Finder:
    """Finds what several paths lead to, in any number of pieces of JSON; what paths share is decoded once."""

    def __init__(self, wanted: Mapping[str, Path]) -> None:
        """`wanted` has the paths, by the names under which `find` returns what is there."""
        self._start = _Place()
        for name, path in wanted.items():
            self._start.inner(path).names.append(name)

    def find(self, data: bytes | Raw) -> dict[str, Raw]:
        """Return what is at the paths, undecoded. A path that leads nowhere is not among them."""
        found: dict[str, Raw] = {}
        self._start.collect(data, found)
        return found


class _Place:
    """Where one or several paths pass, or end."""

    __slots__ = ("_elements", "_members", "names")

    def __init__(self) -> None:
        self.names: list[str] = []  #: of the paths that end here
        self._members: dict[str, _Place] = {}
        self._elements: dict[int, _Place] = {}

    def inner(self, path: Path) -> "_Place":
        """Return the place that a path from here leads to, made if need be."""
        place = self
        for step in path:
            if isinstance(step, int):
                place = place._elements.setdefault(step, _Place())
            else:
                place = place._members.setdefault(step, _Place())
        return place

    def collect(self, data: bytes | Raw, found: dict[str, Raw]) -> None:
        """Add what is at the paths that pass here, in the value that is here."""
        if self._members:
            members = _opened(_MEMBERS, data, {})
            for name, place in self._members.items():
                place._add(members.get(name), found)
        if self._elements:
            elements = _opened(_ELEMENTS, data, [])
            for index, place in self._elements.items():
                place._add(elements[index] if index < len(elements) else None, found)

    def _add(self, value: Raw | None, found: dict[str, Raw]) -> None:
        if value is not None:
            for name in self.names:
                found[name] = value
            if self._members or self._elements:
                self.collect(value, found)


def _opened(decoder: msgspec.json.Decoder[T], data: bytes | Raw, nothing: T) -> T:
    """Return the members or the elements of a value; nothing if it has none."""
    try:
        return decoder.decode(data)
    except (ValueError, RecursionError, OverflowError):  # msgspec's errors are ValueErrors
        return nothing
