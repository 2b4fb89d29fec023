"""compare.html and compare.json: several runs beside each other."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from qanas.core.run_folder import write_atomically
from qanas.reporting.comparison_plots import run_colour, search_plot, shipped_plot
from qanas.reporting.comparison_table import model_rows, run_rows
from qanas.reporting.page import render_page
from qanas.reporting.wording import title

if TYPE_CHECKING:
    from pathlib import Path

    from qanas.core.card import Statistic
    from qanas.reporting.comparison import Comparison, Shipped
    from qanas.reporting.overlay import Overlay

SCHEMA_VERSION = 1
_TEMPLATE = "comparison.html.jinja"
_SUFFIX = ".html"


def write_comparison(comparison: Comparison, out: Path) -> tuple[Path, Path]:
    """Write the page, and its numbers beside it as JSON.

    Args:
        comparison: what is told.
        out: the page if its name ends in ``.html``, else the folder for ``compare.html``.

    Returns:
        The paths of both files.
    """
    page = out if out.suffix == _SUFFIX else out / "compare.html"
    numbers = page.with_suffix(".json")
    write_atomically(page, render_comparison(comparison).encode())
    write_atomically(numbers, (json.dumps(comparison_json(comparison), indent=2, allow_nan=False) + "\n").encode())
    return page, numbers


def render_comparison(comparison: Comparison) -> str:
    """Return the page."""
    search, shipped = search_plot(comparison), shipped_plot(comparison)
    return render_page(
        _TEMPLATE,
        [search, shipped],
        heading=" · ".join(comparison.labels),
        axes=" and ".join(title(objective.name) for objective in comparison.search.objectives),
        labels=comparison.labels,
        colours=[run_colour(place)[1:] for place in range(len(comparison.labels))],
        paths=[str(data.folder.path) for data in comparison.runs],
        unfair=comparison.unfair,
        runs=run_rows(comparison),
        search=search,
        shipped=shipped,
        models=model_rows(comparison),
        differences=comparison.differences,
    )


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """Return everything that the page tells as plain values; ``docs/analysis.md`` lists the keys."""
    runs = []
    for place, (label, data) in enumerate(zip(comparison.labels, comparison.runs, strict=True)):
        runs.append(
            {
                "label": label,
                "folder": str(data.folder.path),
                "objectives": {o.name: o.direction for o in data.objectives},
                "search": _front(comparison.search, place),
                "deployed": _front(comparison.deployed, place),
                "models": [_model(model) for model in comparison.shipped(place)],
            }
        )
    return {
        "schema_version": SCHEMA_VERSION,
        "fair": not comparison.unfair,
        "unfair": comparison.unfair,
        "search": _axes(comparison.search),
        "deployed": None if comparison.deployed is None else _axes(comparison.deployed),
        "runs": runs,
        "differences": {
            difference.key: dict(zip(comparison.labels, difference.values, strict=True))
            for difference in comparison.differences
        },
    }


def _axes(overlay: Overlay) -> list[dict[str, Any]]:
    """Return the normalisation and the reference point."""
    return [
        {
            "objective": axis.objective.name,
            "direction": axis.objective.direction,
            "best": axis.best,
            "worst": axis.worst,
            "scale": "log10" if axis.log else "linear",
            "reference": reference,
        }
        for axis, reference in zip(overlay.axes, overlay.reference, strict=True)
    ]


def _front(overlay: Overlay | None, place: int) -> dict[str, Any] | None:
    """Return a run's front; None where it has no point."""
    if overlay is None or not overlay.fronts[place]:
        return None
    names = [objective.name for objective in overlay.objectives]
    points = [{"name": entry.name, **dict(zip(names, entry.values, strict=True))} for entry in overlay.fronts[place]]
    return {
        "hypervolume": overlay.volumes[place],
        "on_joint_front": [entry.name for entry in overlay.joint[place]],
        "front": points,
    }


def _model(model: Shipped) -> dict[str, Any]:
    return {
        "name": model.name,
        "cost": model.cost,
        "val": _statistic(model.val),
        "test": None if model.test is None else _statistic(model.test),
        "on_joint_front": model.joint,
    }


def _statistic(found: Statistic) -> dict[str, float]:
    return {"mean": found.mean, "std": found.std, "n": found.n}
