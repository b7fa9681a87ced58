"""Runs a document's commands as a reader would copy them, in one directory, against a server of their own.

    bash test     is run; it must succeed
    bash serve    starts the server (from this source, over the test's database)
    json answer   what the block before printed: same members, same values but for times, ids and keys
    text answer   what the block before printed: these lines, in this order; "…" stands for anything

A document that does not start a server itself finds one running, with an account `meta-main`, a key in `KEY`, and a
function `report STATUS WAMID [ERRORS]` that sends a signed callback.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.docs.documents import Block, blocks
from tests.plugins.service import Service, environment

#: What the documents call the server.
ADDRESS = "http://127.0.0.1:8080"
SECONDS_MAX = 60

_STATE = ".shell-state"
_PRELUDE = """
cat > ledger.toml <<'END'
[accounts.meta-main]
provider = "meta"
channel = "whatsapp"
secrets = ["app-secret"]
END
report() {
    local status body signature
    status=$(printf '{"id":"%s","status":"%s","timestamp":"%s","recipient_id":"15550100","errors":%s}' \
        "$2" "$1" "$(date +%s)" "${3:-null}")
    body='{"entry":[{"changes":[{"field":"messages","value":{"statuses":['$status']}}]}]}'
    signature=$(printf %s "$body" | .venv/bin/python -c 'import hashlib, hmac, sys
print(hmac.new(b"app-secret", sys.stdin.buffer.read(), hashlib.sha256).hexdigest())')
    curl -s "$LEDGER/webhooks/meta-main" -H "Content-Type: application/json" \
        -H "X-Hub-Signature-256: sha256=$signature" -d "$body"
}
"""
_PRELUDE_KEY = f"""
LEDGER={ADDRESS}
KEY=$(.venv/bin/status-ledger keys create --account meta-main --channel whatsapp --json |
      .venv/bin/python -c 'import json, sys; print(json.load(sys.stdin)["key"])')
"""


class Shell:
    """A directory and an environment that commands of one document share."""

    def __init__(self, directory: Path, database_url: str, *, curl: bool = True) -> None:
        self.directory = directory
        self._database_url = database_url
        self.environ = environment(database_url, directory, config=str(directory / "ledger.toml"))
        self.service: Service | None = None
        (directory / ".venv").symlink_to(sys.prefix)
        (directory / _STATE).touch()
        programs = directory / "programs"
        programs.mkdir()
        if not curl:
            source = Path(__file__).with_name("curl.py").read_text("utf-8")
            (programs / "curl").write_text(f"#!{sys.executable}\n{source}", "utf-8")
            (programs / "curl").chmod(0o755)
        self.environ["PATH"] = f"{programs}{os.pathsep}{self.environ.get('PATH', os.defpath)}"

    def start(self) -> None:
        self.service = Service(self._database_url, self.directory, self.environ, ())

    def stop(self) -> None:
        if self.service is not None:
            self.service.stop()

    def run(self, commands: str, where: str) -> str:
        """Run commands that see what earlier ones have set; return what they print."""
        url = self.service.url if self.service else ADDRESS
        script = "\n".join(
            [
                "set -aeuo pipefail",
                f". ./{_STATE}",
                commands.replace(ADDRESS, url),
                f"{{ export -p; declare -f; }} > {_STATE}",
            ]
        )
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self.directory,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS_MAX,
            check=False,
        )
        if done.returncode:
            pytest.fail(f"{where}: exit code {done.returncode}\n{commands}\n{done.stdout}\n{done.stderr}")
        return done.stdout.replace(url, ADDRESS)


def run_document(name: str, text: str, shell: Shell) -> int:
    """Run every block that is to be run and compare every answer; return how many blocks ran."""
    found = [block for block in blocks(text) if len(block.info) > 1]
    if ("bash", "serve") not in [block.info for block in found]:
        shell.run(_PRELUDE, "prelude")
        shell.start()
        shell.run(_PRELUDE_KEY, "prelude")
    ran, printed = 0, ""
    for block in found:
        where = f"{name}:{block.line}"
        match block.info:
            case ("bash", "serve"):
                shell.start()
            case ("bash", "test"):
                printed = shell.run(block.text, where)
                ran += 1
            case ("json", "answer"):
                _compare_json(block, printed, where)
            case ("text", "answer"):
                _compare_text(block, printed, where)
            case _:
                pytest.fail(f"{where}: nobody knows what to do with a block marked {' '.join(block.info)!r}")
    return ran


# Answers --------------------------------------------------------------------------------------------------------------

_VARYING = (
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"), "<time>"),
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "<uuid>"),
    (re.compile(r"[0-9a-f]{8}-\d+"), "<tag>"),
    (re.compile(r"[0-9a-f]{64}|[0-9a-f]{32}"), "<digest>"),
    (re.compile(r"messages/\d+"), "messages/<id>"),
    (re.compile(r"slk_[\w-]+|key_[0-9a-f]+"), "<key>"),
    (re.compile(r'"timestamp": ?\\?"\d+\\?"|(?<=timestamp\\":\\")\d+|(?<=timestamp":")\d+'), "<seconds>"),
)
_IDS = ("message_id", "position")
#: How far a read model happens to be behind at that moment, told beside its trend.
_LAG = ("events", "seconds")
_MORE = "…"


def _compare_json(block: Block, printed: str, where: str) -> None:
    differences = _differences(_settled(json.loads(block.text)), _settled(json.loads(printed)))
    if differences:
        pytest.fail("\n".join([where, *differences, printed]))


def _compare_text(block: Block, printed: str, where: str) -> None:
    rest = _varied(printed.replace("\r", "")).splitlines()
    for line in _varied(block.text).splitlines():
        pattern = re.compile(".*".join(map(re.escape, line.split(_MORE))))
        while rest and not pattern.fullmatch(rest[0]):
            rest.pop(0)
        if not rest:
            pytest.fail(f"{where}: the answer has no line {line!r}\n{printed}")


def _settled(value: Any) -> Any:
    """Replace what is different in every run."""
    match value:
        case dict():
            varying = (*_IDS, *_LAG) if "trend" in value else _IDS
            return {
                name: "<number>" if name in varying and isinstance(inner, int | float) else _settled(inner)
                for name, inner in value.items()
            }
        case list():
            return [_settled(inner) for inner in value]
        case str():
            return _varied(value)
        case _:
            return value


def _varied(text: str) -> str:
    for pattern, stand_in in _VARYING:
        text = pattern.sub(stand_in, text)
    return text


def _differences(documented: Any, actual: Any, at: str = "$") -> list[str]:
    """List where an answer is not as documented. "…" leaves out: members of an object, the rest of a list."""
    match documented, actual:
        case dict(), dict():
            named = {name for name in documented if name != _MORE}
            wrong = [f"{at}.{name} is not in the answer" for name in sorted(named - actual.keys())]
            if _MORE not in documented:
                wrong += [f"{at}.{name} is not documented" for name in sorted(actual.keys() - named)]
            for name in sorted(named & actual.keys()):
                wrong += _differences(documented[name], actual[name], f"{at}.{name}")
            return wrong
        case list(), list():
            shown = [item for item in documented if item != _MORE]
            if len(actual) < len(shown) or (len(actual) > len(shown) and _MORE not in documented):
                return [f"{at} has {len(actual)} items"]
            return [
                difference
                for index, pair in enumerate(zip(shown, actual, strict=False))
                for difference in _differences(*pair, f"{at}[{index}]")
            ]
        case _:
            return [] if documented == actual else [f"{at} is {actual!r}, documented as {documented!r}"]


def has_curl() -> bool:
    return shutil.which("curl") is not None
