"""Schemathesis asks the running service what its OpenAPI document allows, and what it does not: every check it has.

Three ways: about what does not exist, about what does, and without a key. Streams are asked without a key only: with
one they do not end. `schemathesis.toml` says what is no fault, and why.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.http.access_table import ROWS, Thing
from tests.http.access_world import World, a_world
from tests.plugins.service import Service, Starter

#: Requests for each operation, besides those that cover its schema. `SCHEMATHESIS_EXAMPLES=500` is the long form.
EXAMPLES = os.environ.get("SCHEMATHESIS_EXAMPLES", "2")
PROGRAM = Path(sys.executable).with_name("schemathesis")
CONFIG = Path(__file__).with_name("schemathesis.toml")
WITHOUT_END = "/events$"
OF_SOMETHING = r"\{(message|endpoint|delivery)_id\}"


def run(directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [PROGRAM, "run", "--no-color", "--generation-deterministic", "--suppress-health-check", "all"]
    return subprocess.run(
        [*command, "--max-examples", EXAMPLES, *options], cwd=directory, capture_output=True, text=True, check=False
    )


def asked(service: Service, directory: Path, *options: str, config: str = "") -> str:
    """Return what schemathesis prints of the running service; fail with that if it finds a fault."""
    (directory / "schemathesis.toml").write_text(config + CONFIG.read_text("utf-8"), "utf-8")
    ended = run(directory, f"{service.url}/openapi.json", *options)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def cases_of(printed: str) -> int:
    """Return how many requests were judged."""
    found = re.search(r"(\d+) generated", printed)
    assert found is not None, printed
    return int(found[1])


@pytest.fixture(scope="module")
def world(start_module_service: Starter, new_database: Callable[[], str]):
    with a_world(start_module_service, new_database(), sessions=False) as world:
        yield world
        assert "request_failed" not in world.service.log()


def with_key(world: World) -> tuple[str, ...]:
    return "--header", f"X-Octopods-Auth: {world.keys[Thing.OWNERS]}", "--exclude-path-regex", WITHOUT_END


def test_what_does_not_exist_is_told_as_described(world: World, tmp_path: Path) -> None:
    printed = asked(world.service, tmp_path, *with_key(world))

    assert cases_of(printed) > 500


def test_what_does_exist_is_told_as_described(world: World, tmp_path: Path) -> None:
    delivery = next(row for row in ROWS if row.names == "delivery")
    message = next(row for row in ROWS if row.names == "message")
    place = world.place(delivery, Thing.OWNERS) | {"message_id": world.place(message, Thing.OWNERS)["message_id"]}
    config = "".join(f'parameters."path.{name}" = "{value}"\n' for name, value in place.items() if name.endswith("_id"))

    about = ("--include-path-regex", OF_SOMETHING, "--mode", "positive")
    printed = asked(world.service, tmp_path, *with_key(world), *about, config=config)

    assert cases_of(printed) > 100


def test_without_a_key_everything_is_told_as_described(world: World, tmp_path: Path) -> None:
    # Nothing is accepted without one, however valid.
    printed = asked(world.service, tmp_path, "--phases", "fuzzing", "--exclude-checks", "positive_data_acceptance")

    assert cases_of(printed) > 50


def test_a_document_that_does_not_say_how_it_is_is_found(world: World, tmp_path: Path) -> None:
    """The planted error."""
    document = world.service.client().get("/openapi.json").json()
    (tmp_path / "openapi.json").write_text(
        json.dumps({**document, "paths": {"/livez": document["paths"]["/livez"]}}).replace("text/plain", "text/csv")
    )

    ended = run(tmp_path, "openapi.json", "--url", world.service.url)

    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "Undocumented Content-Type" in ended.stdout
