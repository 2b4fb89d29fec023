"""A plot of the report as data: what plotly.js draws, with the choices that a reader has."""

from __future__ import annotations

import html
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from qanas.reporting.scaling import spans_a_decade
from qanas.reporting.wording import is_cost, title

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from qanas.core.measurement import Objective

Spec = dict[str, Any]

# The page's script replaces these by the colours of the light or dark theme.
MUTED, ACCENT, SECOND, SEED, GRID, INK = "@muted", "@accent", "@second", "@seed", "@grid", "@ink"
_BITS = {4: SECOND, 6: SEED, 8: ACCENT}


@dataclass(frozen=True)
class Choice:
    """What changes when a reader picks an entry of the plot's menu.

    Attributes:
        label: the entry.
        traces: by the trace's position, the properties that change.
        layout: the axes that change.
    """

    label: str
    traces: Mapping[int, Spec] = field(default_factory=dict)
    layout: Spec = field(default_factory=dict)


@dataclass(frozen=True)
class Figure:
    """One plot.

    Attributes:
        name: of its element on the page.
        traces: plotly's.
        layout: plotly's, without what all plots share.
        caption: the sentence below it.
        menu: what its choices choose; empty where there is none.
        choices: the first one is what ``traces`` and ``layout`` show.
        height: pixels.
        width: pixels at most; 0 for the page's width.
    """

    name: str
    traces: Sequence[Spec]
    layout: Spec
    caption: str = ""
    menu: str = ""
    choices: Sequence[Choice] = ()
    height: int = 460
    width: int = 0

    def script(self) -> Markup:
        """Return the plot as JSON that can't end the script element it stands in."""
        spec = {
            "traces": list(self.traces),
            "layout": self.layout,
            "choices": [{"traces": choice.traces, "layout": choice.layout} for choice in self.choices],
        }
        text = json.dumps(spec, allow_nan=False, separators=(",", ":"))
        safe = text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
        return Markup(safe)  # noqa: S704 - JSON in which every character that HTML knows is escaped


def bits_colour(bits: int) -> str:
    """Return the name of the colour of weights with so many bits."""
    return _BITS.get(bits, MUTED)


def hover(lines: Sequence[str]) -> str:
    """Join hover lines; plotly reads a little HTML in them, so theirs is escaped."""
    return "<br>".join(html.escape(line, quote=False) for line in lines)


def value_axis(name: str, values: Sequence[float]) -> Spec:
    """Return the axis of a cost or score: logarithmic where the values span more than a decade."""
    if not spans_a_decade(values):
        return {"title": {"text": title(name)}, "type": "linear", "rangemode": "normal", "tickformat": "~s"}
    few = max(values) / min(values) < 10**3  # decades: then 1, 2 and 5 of each are labelled
    return {
        "title": {"text": f"{title(name)} (log scale)"},
        "type": "log",
        "tickformat": "~s",
        "dtick": "D2" if few else 1,
    }


def cost_first(a: Objective, b: Objective) -> tuple[Objective, Objective]:
    """Put the cost of two objectives on the horizontal axis."""
    return (b, a) if is_cost(b.name) and not is_cost(a.name) else (a, b)
