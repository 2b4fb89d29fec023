"""The plot of a search's progress."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qanas.reporting.figures import ACCENT, Figure, Spec
from qanas.reporting.progress import search_progress

if TYPE_CHECKING:
    from qanas.reporting.run_data import RunData

_UNITS = ((2 * 3600.0, 3600.0, "hours"), (2 * 60.0, 60.0, "minutes"), (0.0, 1.0, "seconds"))


def progress_plot(data: RunData) -> Figure | None:
    """Draw hypervolume over the counted trials and over the CPU time of training; None before the first trial."""
    progress = search_progress(data)
    if progress is None:
        return None
    unit, name = next((unit, name) for least, unit, name in _UNITS if progress.train_seconds[-1] >= least)
    volumes = [round(volume, 5) for volume in progress.volumes]
    base: Spec = {"type": "scatter", "mode": "lines", "y": volumes, "customdata": progress.indices}
    base |= {"line": {"shape": "hv", "width": 2, "color": ACCENT}}
    told = "trial %{customdata}: hypervolume %{y:.4f}"
    traces = [
        base | {"x": progress.indices, "hovertemplate": f"{told}<extra></extra>"},
        base
        | {"x": [round(seconds / unit, 4) for seconds in progress.train_seconds], "xaxis": "x2", "yaxis": "y2"}
        | {"hovertemplate": f"{told}, after %{{x:.1f}} {name}<extra></extra>"},
    ]
    layout = {
        "showlegend": False,
        "xaxis": {"title": {"text": "counted trial"}, "domain": [0.0, 0.48]},
        "yaxis": {"title": {"text": "hypervolume"}},
        "xaxis2": {"title": {"text": f"training, CPU {name}"}, "domain": [0.52, 1.0], "rangemode": "tozero"}
        | {"anchor": "y2"},
        "yaxis2": {"anchor": "x2", "matches": "y", "showticklabels": False},
    }
    return Figure("progress", traces, layout, progress.caption, height=360)
