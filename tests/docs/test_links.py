"""Every link between documents leads somewhere, and every document can be found."""

import re
from pathlib import Path

import pytest

from tests.docs.documents import DOCUMENTS, ROOT, anchor, headings, name_of, prose

_LINK = re.compile(r"\[[^]]*]\(([^)\s]+)\)")


def links(document: Path) -> list[str]:
    return _LINK.findall(prose(document.read_text("utf-8")))


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_links_lead_to_files_and_headings_that_exist(document: Path) -> None:
    broken = []
    for link in links(document):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, fragment = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        leads = target.exists() and target.is_relative_to(ROOT)
        if leads and fragment:
            leads = fragment in [anchor(heading) for heading in headings(target.read_text("utf-8"))]
        if not leads:
            broken.append(link)

    assert broken == []


def test_every_document_is_listed_in_the_index() -> None:
    index = ROOT / "docs" / "index.md"

    listed = {(index.parent / link.partition("#")[0]).resolve() for link in links(index)}

    assert {path for path in (ROOT / "docs").rglob("*.md") if path != index} == listed


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_a_document_begins_with_its_only_title(document: Path) -> None:
    text = prose(document.read_text("utf-8"))

    assert len(re.findall(r"^# ", text, re.MULTILINE)) == 1
    assert text.startswith("# ")


def test_decisions_have_numbers_of_their_own() -> None:
    numbers = [int(path.name[:4]) for path in (ROOT / "docs" / "decisions").glob("*.md")]

    assert len(numbers) == len(set(numbers))
