"""The plot of a search's progress."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qanas.reporting.figures import ACCENT, SECOND, Figure, Spec
from qanas.reporting.progress import search_progress

if TYPE_CHECKING:
    from qanas.reporting.run_data import RunData

_UNITS = ((2 * 3600.0, 3600.0, "hours"), (2 * 60.0, 60.0, "minutes"), (0.0, 1.0, "seconds"))


def progress_plot(data: RunData) -> Figure | None:
    """Draw hypervolume and training time over the counted trials; None before the first one."""
    progress = search_progress(data)
    if progress is None:
        return None
    unit, name = next((unit, name) for least, unit, name in _UNITS if progress.train_seconds[-1] >= least)
    base: Spec = {"type": "scatter", "mode": "lines", "x": progress.indices}
    traces = [
        base
        | {
            "y": [round(volume, 5) for volume in progress.volumes],
            "line": {"shape": "hv", "width": 2, "color": ACCENT},
        }
        | {"hovertemplate": "trial %{x}: hypervolume %{y:.4f}<extra></extra>"},
        base
        | {"y": [round(seconds / unit, 4) for seconds in progress.train_seconds], "yaxis": "y2"}
        | {"line": {"width": 2, "color": SECOND}}
        | {"hovertemplate": f"trial %{{x}}: %{{y:.1f}} {name}<extra></extra>"},
    ]
    layout = {
        "showlegend": False,
        "xaxis": {"title": {"text": "counted trial"}, "anchor": "y2"},
        "yaxis": {"title": {"text": "hypervolume"}, "domain": [0.45, 1.0]},
        "yaxis2": {"title": {"text": f"training, CPU {name}"}, "domain": [0.0, 0.33], "rangemode": "tozero"},
    }
    return Figure("progress", traces, layout, progress.caption, height=430)
