"""Files of others are those that they released."""

import hashlib
from pathlib import Path

import pytest

from tests.docs.documents import ROOT, code, tables

DIRECTORIES = (ROOT / "ledger/screens/static/vendor", ROOT / "tests/screens/vendor")


@pytest.mark.parametrize("directory", DIRECTORIES, ids=lambda path: path.parts[-4])
def test_vendored_files_are_as_released_and_all_are_listed(directory: Path) -> None:
    rows = tables((directory / "VENDORED.md").read_text("utf-8"))[0][1:]
    listed = {code(row[0])[0]: code(row[5])[0] for row in rows}

    found = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in directory.iterdir()
        if path.name != "VENDORED.md"
    }

    assert found == listed
    assert {name.partition(".")[0] for name in listed if name.endswith(".LICENSE")} == {
        name.partition(".")[0] for name in listed
    }
