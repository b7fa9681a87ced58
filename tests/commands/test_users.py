"""`users hash` and `users list`."""

import json
import subprocess
import sys
from pathlib import Path

from ledger.screens import users
from tests.plugins.service import ACCOUNTS, environment, toml
from tests.screens.people import PASSWORD, tables


def run(directory: Path, *arguments: str, told: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ledger", "users", *arguments],
        input=told,
        capture_output=True,
        text=True,
        env=environment("postgresql://127.0.0.1:1/none", directory),
        cwd=directory,
        check=False,
        timeout=60,
    )


def test_a_hash_is_printed_that_the_password_matches(tmp_path: Path) -> None:
    (tmp_path / "accounts.toml").write_text(toml(ACCOUNTS), "utf-8")

    done = run(tmp_path, "hash", "--json", told=PASSWORD + "\n")

    assert done.returncode == 0, done.stderr
    assert users.parse_hash(json.loads(done.stdout)["password"]).matches(PASSWORD)


def test_a_short_password_is_refused_and_not_repeated(tmp_path: Path) -> None:
    done = run(tmp_path, "hash", told="short\n")

    assert (done.returncode, done.stdout) == (2, "")
    assert "at least 12 characters" in done.stderr
    assert "short" not in done.stderr


def test_users_are_listed_without_their_hashes(tmp_path: Path) -> None:
    told = "".join(
        f'[users.{name}]\npassword = "{table["password"]}"\nrole = "{table["role"]}"\n'
        f"accounts = {json.dumps(table['accounts'])}\n"
        for name, table in tables().items()
    )
    (tmp_path / "accounts.toml").write_text(toml(ACCOUNTS) + told, "utf-8")

    done = run(tmp_path, "list", "--json")

    items = {item["name"]: item for item in json.loads(done.stdout)["items"]}
    assert items["operator"] == {"name": "operator", "role": "operator", "accounts": ["*"]}
    assert items["viewer-of-one"]["accounts"] == ["meta-main"]
    assert "scrypt" not in done.stdout
