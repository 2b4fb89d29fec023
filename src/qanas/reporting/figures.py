"""Plots as data, their scaled axes, and the pages that plotly.js draws them on."""

from __future__ import annotations

import base64
import functools
import gzip
import html
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from qanas.core.json_values import json_value
from qanas.core.measures import Cost, Measure
from qanas.reporting.wording import number, title

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Spec = dict[str, Any]

# The page's script replaces these by the colours of the light or dark theme.
MUTED, ACCENT, SECOND, THIRD, INK = "@muted", "@accent", "@second", "@third", "@ink"
_BITS = {4: SECOND, 6: THIRD, 8: ACCENT}
_DECADE = 10.0

LEGEND: Spec = {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"}
"""One line above the plot."""

HOVER = "%{text}<extra></extra>"
"""Show a point's text alone."""


@dataclass(frozen=True)
class Choice:
    """What changes when a reader picks an entry of the plot's menu.

    Attributes:
        label: the entry.
        traces: by the trace's position, the properties that change.
        layout: the axes that change.
        caption: of this choice; empty where it is the figure's own.
    """

    label: str
    traces: Mapping[int, Spec] = field(default_factory=dict)
    layout: Spec = field(default_factory=dict)
    caption: str = ""


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
        least: pixels at least: on a narrower page the plot is scrolled instead of squeezed, as one of several panels.
    """

    name: str
    traces: Sequence[Spec]
    layout: Spec
    caption: str = ""
    menu: str = ""
    choices: Sequence[Choice] = ()
    height: int = 460
    width: int = 0
    least: int = 0

    def script(self) -> Markup:
        """Return the plot as packed JSON; where a number is not finite there is a gap."""
        spec = {
            "traces": list(self.traces),
            "layout": self.layout,
            "choices": [
                {"traces": choice.traces, "layout": choice.layout}
                | ({"caption": choice.caption} if choice.caption else {})
                for choice in self.choices
            ],
        }
        return packed(json.dumps(json_value(spec), allow_nan=False, separators=(",", ":")))


def packed(text: str) -> Markup:
    """Return a text, compressed and in base64, as the page's script unpacks it: plots of trials repeat themselves."""
    content = base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()
    return Markup(content)  # noqa: S704 - letters, digits, +, / and =


@functools.cache
def _packed_plotly() -> Markup:
    return packed(get_plotlyjs())


def bits_colour(bits: int) -> str:
    """Return the name of the colour of weights with so many bits."""
    return _BITS.get(bits, MUTED)


def hover(lines: Sequence[str]) -> str:
    """Join hover lines; plotly reads a little HTML in them, so theirs is escaped."""
    return "<br>".join(html.escape(line, quote=False) for line in lines)


def spans_a_decade(values: Sequence[float]) -> bool:
    """Tell whether a logarithmic axis shows these values better."""
    return bool(values) and min(values) > 0 and max(values) / min(values) > _DECADE


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


def cost_first(a: Measure, b: Measure) -> tuple[Measure, Measure]:
    """Put the cost of two measures on the horizontal axis."""
    return (b, a) if isinstance(b, Cost) and not isinstance(a, Cost) else (a, b)


@dataclass(frozen=True)
class ScaledAxis:
    """One measure, scaled so that the best of some values is 0 and the worst is 1.

    Attributes:
        measure: what is scaled.
        best: value at 0.
        worst: value at 1.
        log: whether the values' log10 is scaled: costs that span more than a decade.
    """

    measure: Measure
    best: float
    worst: float
    log: bool

    @classmethod
    def over(cls, measure: Measure, values: Sequence[float]) -> ScaledAxis:
        """Return the axis that just holds all of the values."""
        best, worst = sorted((min(values), max(values)), key=measure.loss)
        return cls(measure, best, worst, isinstance(measure, Cost) and spans_a_decade(values))

    def scaled(self, value: float) -> float:
        """Return where a value lies; 0 where all values are equal."""
        best, worst, value = (np.log10(v) if self.log else v for v in (self.best, self.worst, value))
        return float((value - best) / (worst - best)) if worst != best else 0.0

    def unscaled(self, place: float) -> float:
        """Return the value that lies at a place."""
        best, worst = (np.log10(v) if self.log else v for v in (self.best, self.worst))
        value = best + place * (worst - best)
        return float(10**value) if self.log else float(value)

    def told(self) -> str:
        """Return the normalisation in words."""
        by = ", by its log10" if self.log else ""
        return f"{title(self.measure.column)} from {number(self.best)} (0) to {number(self.worst)} (1){by}"


def render_page(template: str, figures: Sequence[Figure | None], **values: object) -> str:
    """Return a page as HTML that loads nothing from elsewhere.

    Args:
        template: the name of a file beside this one that extends ``page.html.jinja``.
        figures: all that the template may show; plotly.js is in the page if there is one.
        values: what the template names.
    """
    environment = Environment(
        loader=PackageLoader("qanas.reporting", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["url"] = lambda name: quote(str(name), safe="")
    return environment.get_template(template).render(
        figures=[figure for figure in figures if figure is not None],
        plotly=_packed_plotly(),
        **values,
    )
