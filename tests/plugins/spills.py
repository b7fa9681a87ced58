"""What must never be in a log: searched for in the log of every server that the suite starts.

Secrets are known by what a server was given, and by `canary`. Phone numbers, keys and provider's ids are known by their
form: numbers of tests are those of places that have none. All are found in whatever way they are written: plain, in
URLs, in JSON, in hexadecimal, in base64 wherever it begins.
"""

import base64
import json
import re
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

#: Shorter secrets of tests are words of the language.
_SECRET_CHARACTERS_MIN = 10
_SECRET_NAMES = re.compile(r"secret|token|password|key$", re.IGNORECASE)
#: Ids of requests and digests: their digits are nobody's number.
_HEXADECIMAL = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|(?<!\w)[0-9a-f]{32,}(?!\w)")
_PATTERNS = {
    "a phone number": re.compile(r"(?<![\d.])1(?:20[238]|555)\d{7}(?!\d)"),
    "an API key": re.compile(r"slk_[A-Za-z0-9_-]{20,}"),
    "a webhook secret": re.compile(r"whsec_[A-Za-z0-9+/_=-]{10,}"),
    "a provider's id": re.compile(r"wamid\.[A-Za-z0-9+/=_-]+"),
}
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{15,}")  # the fewest that hold a number

_canaries: set[str] = set()


def canary(text: str) -> str:
    """Return a text that is a secret in tests, and must be in no server's log from now on."""
    _canaries.add(text)
    return text


def forms(text: str) -> set[str]:
    """Return a text as it may be written: plain, in URLs, escaped, in hexadecimal, in base64 wherever it starts."""
    raw = text.encode()
    written = {text, quote(text, safe=""), quote_plus(text), json.dumps(text)[1:-1], raw.hex()}
    for shift in range(3):
        # Characters that also depend on what stands before or after are left out.
        encoded = base64.b64encode(b"\0" * shift + raw).decode().rstrip("=")
        inner = encoded[(0, 2, 3)[shift] : len(encoded) - 1]
        written |= {inner, inner.replace("+", "-").replace("/", "_")}
    return written


def spilled(output: str, canaries: Iterable[str]) -> list[str]:
    """Return what of the canaries is in an output, with its surroundings."""
    lower = output.lower()
    places = [(form, lower.find(form.lower())) for canary in canaries for form in forms(canary)]
    return [f"{form!r} in …{output[max(0, at - 60) : at + 60]}…" for form, at in places if at >= 0]


def secrets_of(environ: dict[str, str]) -> set[str]:
    """Return every secret that a server was given by its settings and its accounts file."""
    told = {value for name, value in environ.items() if name.startswith("LEDGER_") and _SECRET_NAMES.search(name)}
    config = Path(environ["LEDGER_CONFIG"])
    if config.exists():
        told.update(_named(tomllib.loads(config.read_text("utf-8"))))
    return {secret for secret in told if len(secret) >= _SECRET_CHARACTERS_MIN}


def _named(value: Any, name: str = "") -> Iterator[str]:
    """Return the texts of a table that stand under a name of a secret."""
    if isinstance(value, dict):
        for inner, told in value.items():
            yield from _named(told, inner)
    elif isinstance(value, list):
        for told in value:
            yield from _named(told, name)
    elif isinstance(value, str) and _SECRET_NAMES.search(name):
        yield value


def found_in(log: str, secrets: Iterable[str]) -> list[str]:
    """Return what a log should not have: what it is, and the event of its line. The line itself would tell it again."""
    known = [form.lower() for secret in {*secrets, *_canaries} for form in forms(secret)]
    found = []
    for line in log.splitlines():
        lower = line.lower()
        kinds = ["a secret"] * any(form in lower for form in known)
        kinds += [kind for kind, pattern in _PATTERNS.items() if any(map(pattern.search, _readings(line)))]
        found += [f"{kind} in {_event(line)}" for kind in kinds]
    return found


def _readings(line: str) -> Iterator[str]:
    """Return a line as it stands, and what its words say if they are base64, or hexadecimal digits."""
    yield _HEXADECIMAL.sub("", line)
    for word in _BASE64.findall(line):
        for start in range(4):
            whole = word[start:].translate(_STANDARD)
            yield base64.b64decode(whole + "A" * (-len(whole) % 4)).decode("latin-1")
    for digits in re.findall(r"(?:[0-9A-Fa-f]{2}){11,}", line):
        yield bytes.fromhex(digits).decode("latin-1")


_STANDARD = str.maketrans("-_", "+/")


def _event(line: str) -> str:
    try:
        return f"the event {json.loads(line)['event'][:60]!r}"
    except (ValueError, KeyError, TypeError):
        return f"a line of {len(line)} characters that is no event"
