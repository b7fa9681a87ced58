"""Every command in the documentation that can run in a test does, against a real server, and prints what is shown."""

from pathlib import Path

import pytest

from tests.docs.documents import DOCUMENTS, blocks, name_of, text_of
from tests.docs.shell import Shell, has_curl, run_document

RUNNABLE = [
    name_of(path) for path in DOCUMENTS if ("bash", "test") in [block.info for block in blocks(path.read_text("utf-8"))]
]


@pytest.mark.parametrize("name", RUNNABLE)
def test_documented_commands_do_what_is_documented(name: str, database_url: str, tmp_path: Path) -> None:
    shell = Shell(tmp_path, database_url, curl=has_curl())

    try:
        ran = run_document(name, text_of(name), shell)
    finally:
        shell.stop()

    assert ran


def test_the_quick_start_runs_with_the_stand_in_for_curl(database_url: str, tmp_path: Path) -> None:
    shell = Shell(tmp_path, database_url, curl=False)

    try:
        ran = run_document("README.md", text_of("README.md"), shell)
    finally:
        shell.stop()

    assert ran


def test_the_documents_that_teach_by_commands_are_run() -> None:
    assert {"README.md", "docs/tutorial.md", "docs/api.md", "docs/compatibility.md"} <= set(RUNNABLE)
