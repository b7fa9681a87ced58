"""Reading the documentation: its tables, its fenced blocks, its links."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])

_FENCE = re.compile(r"^(?P<fence>```+)(?P<info>[^`]*)$")
_HEADING = re.compile(r"^#{1,6} +(.*)$")
_HIDDEN = "<!-- test"


class Block(NamedTuple):
    """A fenced block, or one hidden in a comment (`<!-- test … -->`): what readers need not see and tests must do."""

    info: tuple[str, ...]  #: language, then what a test shall do with it
    text: str
    line: int


def name_of(document: Path) -> str:
    return document.relative_to(ROOT).as_posix()


def text_of(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def blocks(text: str) -> Iterator[Block]:
    lines = iter(enumerate(text.splitlines(), start=1))
    for number, line in lines:
        fence = _FENCE.match(line)
        if fence:
            end, info = fence["fence"], tuple(fence["info"].split())
        elif line.startswith(_HIDDEN):
            end, info = "-->", ("bash", "test")
        else:
            continue
        content: list[str] = []
        for _, inner in lines:
            if inner == end:
                break
            content.append(inner)
        yield Block(info, "\n".join(content) + "\n", number)


def prose(text: str) -> str:
    """Return the text without fenced blocks."""
    return re.sub(r"^(```+).*?^\1$", "", text, flags=re.MULTILINE | re.DOTALL)


def headings(text: str) -> list[str]:
    return [match[1].strip() for line in prose(text).splitlines() if (match := _HEADING.match(line))]


def anchor(heading: str) -> str:
    """Return the fragment under which a heading is reached."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


def section(text: str, heading: str) -> str:
    """Return what stands under a heading, up to the next one of any level."""
    parts = re.split(r"^#{1,6} +(.*)$", prose(text), flags=re.MULTILINE)
    found = [body for title, body in zip(parts[1::2], parts[2::2], strict=True) if title.strip() == heading]
    assert len(found) == 1, f"{len(found)} sections are called {heading!r}"
    return found[0]


def tables(text: str) -> list[list[list[str]]]:
    """Return every table: rows of cells, the heading first, without the ruler."""
    found: list[list[list[str]]] = []
    inside = False
    for line in prose(text).splitlines():
        if line.startswith("|"):
            if not inside:
                found.append([])
            found[-1].append([cell.strip() for cell in line.strip("|").split(" | ")])
            inside = True
        else:
            inside = False
    return [[table[0], *table[2:]] for table in found]


def table(text: str, heading: str, number: int = 0) -> list[list[str]]:
    """Return the rows of a section's table, without its heading."""
    return tables(section(text, heading))[number][1:]


def code(cell: str) -> list[str]:
    """Return what stands in backticks."""
    return re.findall(r"`([^`]+)`", cell)
