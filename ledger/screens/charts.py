"""Small charts, drawn on the server as SVG. Whatever one shows stands in a table beside it."""

from collections.abc import Sequence
from typing import Final

from markupsafe import Markup

_SPARK_WIDTH, _SPARK_HEIGHT = 120, 26
_GAP: Final = 1.0


def spark(values: Sequence[int], label: str) -> Markup:
    """Draw one bar a value. `label` says what is shown, for those who cannot see it."""
    most = max(values, default=0) or 1
    step = _SPARK_WIDTH / max(1, len(values))
    width = max(0.8, step - _GAP)
    bars = [
        Markup('<rect x="{:.2f}" y="{:.2f}" width="{:.2f}" height="{:.2f}"/>').format(
            number * step, _SPARK_HEIGHT - height, width, height
        )
        for number, value in enumerate(values)
        if (height := max(1.5, value / most * _SPARK_HEIGHT) if value else 0)
    ]
    return Markup(
        '<svg class="spark" viewBox="0 0 {} {}" preserveAspectRatio="none" role="img" aria-label="{}">{}</svg>'
    ).format(_SPARK_WIDTH, _SPARK_HEIGHT, label, Markup("").join(bars))


def bar(part: float, whole: float, kind: str) -> Markup:
    """Draw a share of a whole as a bar. It repeats a number that stands beside it, so it is hidden from readers."""
    width = 100 * part / whole if whole else 0.0
    return Markup(
        '<svg class="bar bar-{}" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="bar-ground" width="100" height="10"/><rect width="{:.2f}" height="10"/></svg>'
    ).format(kind, max(0.6, width) if part else 0)
