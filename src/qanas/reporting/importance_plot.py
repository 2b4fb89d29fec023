"""The plot of how much each setting mattered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qanas.reporting.figures import ACCENT, Figure, Spec, hover
from qanas.reporting.run_data import finite
from qanas.reporting.wording import title, words

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qanas.reporting.run_data import RunData

FRONT = "front"
_GAP = 0.05  # between panels, of the figure's width
_MOST_SETTINGS = 20


def importance_plot(data: RunData) -> Figure | None:
    """Draw a panel for each target, settings in the order of the first; None where nothing was computed."""
    targets: Mapping[str, Mapping[str, Any]] = data.importance.get("targets", {})
    drawn = {name: shares for name, shares in targets.items() if shares}
    if not drawn:
        return None
    names = list(next(iter(drawn.values())))[:_MOST_SETTINGS][::-1]
    traces: list[Spec] = []
    layout: Spec = {
        "showlegend": False,
        "annotations": [],
        "bargap": 0.35,
        "margin": {"l": 110, "r": 12, "t": 40, "b": 36},
    }
    most = max(finite(share) or 0.0 for shares in drawn.values() for share in shares.values())
    width = (1 + _GAP) / len(drawn) - _GAP
    for place, (target, shares) in enumerate(drawn.items()):
        axis = "" if place == 0 else str(place + 1)
        values = [finite(shares.get(name)) or 0.0 for name in names]
        told = [hover([f"{words(name)}: {value:.0%}"]) for name, value in zip(names, values, strict=True)]
        traces.append(
            {"type": "bar", "orientation": "h", "x": values, "y": [words(name) for name in names]}
            | {"xaxis": f"x{axis}", "yaxis": f"y{axis}", "marker": {"color": ACCENT}}
            | {"text": told, "textposition": "none", "hovertemplate": "%{text}<extra></extra>"}
        )
        left = place * (width + _GAP)
        layout[f"xaxis{axis}"] = {"domain": [left, left + width], "anchor": f"y{axis}", "range": [0, 1.05 * most]} | {
            "tickformat": ".0%",
            "nticks": 4,
        }
        layout[f"yaxis{axis}"] = {"anchor": f"x{axis}", "showticklabels": place == 0, "ticks": ""}
        heading: Spec = {"xref": "paper", "yref": "paper", "x": left, "y": 1, "showarrow": False}
        named = "reaching the front" if target == FRONT else title(target)
        layout["annotations"].append(heading | {"xanchor": "left", "yanchor": "bottom", "text": hover([named])})
    return Figure("importance", traces, layout, _caption(data), height=90 + 24 * len(names))


def importance_note(data: RunData) -> str:
    """Say why there is no plot of importance."""
    if not data.importance:
        return "importance.json is not there: early runs, and runs whose search has not ended, have none."
    told = data.importance
    return f"Too few trials: {told.get('trials', 0)} were measured, at least {told.get('least_trials', 0)} are needed."


def _caption(data: RunData) -> str:
    told = data.importance
    return (
        f"The share of each setting in the importance of all, by {told.get('method', 'an unnamed method')}: how far "
        f"its distribution among the {told.get('good_trials')} best trials is from that among all {told.get('trials')} "
        f"measured ones. What the sampler already knew to be good it tried more often, which makes it look less "
        f"important."
    )
