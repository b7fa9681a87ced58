"""Finding a value in JSON by a path that an account's options name: `data.message_id`, `to[0].number`, `meta["a.b"]`.

A leading `$` or `$.` is allowed and means the same. A path that leads nowhere finds nothing; what is on the way is
decoded one level at a time, so a hostile value beside it costs nothing.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

import msgspec
from msgspec import Raw

from ledger.wire.decoding import ABSENT

#: Steps in a path.
STEPS_MAX: Final = 32

Path = tuple[str | int, ...]

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
    """Finds values in one piece of JSON; what several paths lead through is decoded once."""

    def __init__(self, data: bytes | Raw) -> None:
        self._found: dict[Path, bytes | Raw] = {(): data}
        self._opened: dict[tuple[Path, type], Mapping[str, Raw] | Sequence[Raw]] = {}

    def find(self, path: Path) -> Raw:
        """Return the value at a path, undecoded; `null` if there is none."""
        found = self._at(path)
        return found if isinstance(found, Raw) else Raw(found)

    def _at(self, path: Path) -> bytes | Raw:
        found = self._found.get(path)
        if found is None:
            *_, step = path
            try:
                found = self._inside(path[:-1], type(step))[step]  # type: ignore[index]  # of a list or of an object
            except (KeyError, IndexError):
                found = ABSENT
            self._found[path] = found
        return found

    def _inside(self, path: Path, kind: type) -> Mapping[str, Raw] | Sequence[Raw]:
        """Return the elements or the members of the value at a path; none if it is neither."""
        found = self._opened.get((path, kind))
        if found is None:
            try:
                found = (_ELEMENTS if kind is int else _MEMBERS).decode(self._at(path))
            except (ValueError, RecursionError, OverflowError):
                found = {}
            self._opened[path, kind] = found
        return found
