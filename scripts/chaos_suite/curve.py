"""Draws the curve of a soak as SVG, from what `scripts/chaos soak --json FILE` wrote.

    python -m scripts.chaos_suite.curve FILE IMAGE

One panel a measure, each with its own scale from zero: what matters is whether a line climbs.
"""

import sys
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from scripts.chaos_suite.__main__ import Told
from scripts.chaos_suite.soak import Sample

WIDTH, PANEL, MARGIN, LABEL = 720, 120, 16, 168
_MEBI: Final = 2**20
_STYLE: Final = (
    "text{font:12px system-ui,sans-serif;fill:#333}.t{font-weight:600}.m{fill:#666}"
    "path{fill:none;stroke:#1f6f8b;stroke-width:1.5}.g{stroke:#ddd;stroke-width:1}"
    "@media(prefers-color-scheme:dark){text{fill:#ddd}.m{fill:#aaa}path{stroke:#6cc5e0}.g{stroke:#444}}"
)


class Panel(NamedTuple):
    title: str
    unit: str
    of: Callable[[Sample], float]


PANELS: Final = (
    Panel("answers, p50", "ms", lambda each: each.p50_ms),
    Panel("answers, p99", "ms", lambda each: each.p99_ms),
    Panel("memory of a web process", "MiB", lambda each: each.web_bytes / _MEBI),
    Panel("memory of the worker", "MiB", lambda each: each.worker_bytes / _MEBI),
    Panel("lag of read models", "events", lambda each: each.lag_events),
    Panel("database", "MiB", lambda each: each.database_bytes / _MEBI),
    Panel("dead rows", "rows", lambda each: each.dead_rows),
)


def draw(samples: Sequence[Sample]) -> str:
    """Return an SVG image of all panels."""
    height = len(PANELS) * PANEL + MARGIN
    panels = "".join(_panel(panel, samples, number * PANEL) for number, panel in enumerate(PANELS))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img"'
    return f'{head} aria-label="A steady load over time"><style>{_STYLE}</style>{panels}</svg>\n'


def _panel(panel: Panel, samples: Sequence[Sample], top: int) -> str:
    values, whole = [panel.of(each) for each in samples], samples[-1].seconds
    most, low = max(*values, 1e-9), top + PANEL - MARGIN
    points = [
        f"{LABEL + (WIDTH - LABEL - MARGIN) * each.seconds / whole:.1f} {low - (PANEL - 2 * MARGIN) * value / most:.1f}"
        for each, value in zip(samples, values, strict=True)
    ]
    line = f'<path class="g" d="M{LABEL} {low}H{WIDTH - MARGIN}"/><path d="M{" L".join(points)}"/>'
    told = f"{values[0]:,.0f} → {values[-1]:,.0f} {panel.unit}"
    words = (("t", panel.title), ("m", told), ("m", f"at most {most:,.0f}"))
    texts = "".join(
        f'<text class="{kind}" x="0" y="{top + 32 + 20 * number}">{escape(text)}</text>'
        for number, (kind, text) in enumerate(words)
    )
    minutes = f'<text class="m" x="{WIDTH - MARGIN}" y="{low + 13}" text-anchor="end">{whole / 60:.0f} min</text>'
    return f"{texts}{line}{minutes}"


def main(file: Path, image: Path) -> None:
    told = msgspec.json.decode(file.read_bytes(), type=list[Told])
    curves = [each.result.curve for each in told if each.result is not None and each.result.curve]
    image.write_text(draw(msgspec.convert(curves[0], list[Sample])), "utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
