"""The quality of search spaces for people: a table, the reason for a choice, and their distributions as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
from rich.console import Console
from rich.table import Table
from rich.text import Text

from qanas.core.run_folder import write_atomically
from qanas.planning.space_quality import SpaceQuality, best_space

QUANTILES = (0.5, 0.8)
"""That are told; MCUNet reads its distributions at 0.8."""


def print_spaces(console: Console, found: Sequence[SpaceQuality]) -> None:
    """Print a row a space, and which one to take."""
    table = Table("space", box=None, header_style="bold")
    for heading in ("drawn", "fit", "share", "mean MACs", *(f"MACs at {share:.0%}" for share in QUANTILES), "a minute"):
        table.add_column(heading, justify="right")
    for quality in found:
        figures = [quality.mean_macs, *(quality.quantile(share) for share in QUANTILES)]
        table.add_row(
            Text(quality.name), f"{quality.sampled:,}", f"{len(quality.macs):,}", f"{quality.share:.1%}",
            *(f"{value / 1e6:.3g} M" if np.isfinite(value) else "-" for value in figures),
            f"{60 * quality.sampled / max(quality.seconds, 1e-9):,.0f}",
        )  # fmt: skip
    console.print(table)
    for quality in found:
        over = ", ".join(f"{column} {count / quality.sampled:.0%}" for column, count in quality.blamed.items() if count)
        limits = "; ".join(quality.limits) or "none: name a device or [limits], or all that is large wins"
        # Plain text, not markup: recipes may be called as they like.
        console.print(Text(f"{quality.name}: limits {limits}" + (f"; over: {over}" if over else "")))
        if quality.refused:
            console.print(Text(f"{quality.name}: {quality.refused} candidates give no network"))
    best = best_space(found)
    if best is None:
        console.print("nothing fits: loosen the limits, or make the space's networks smaller")
    elif len(found) > 1:
        told = (
            f"take {best.name}: what fits of it computes most, {best.mean_macs / 1e6:.3g} million multiply-accumulates "
            "on average: more capacity in the same memory (MCUNet's rule; it looks at no score)"
        )
        console.print(Text(told))


def write_spaces(found: Sequence[SpaceQuality], page: Path) -> None:
    """Write the picture: the cumulative distribution of the multiply-accumulates of what fits."""
    figure = go.Figure()
    for quality in found:
        heights = np.arange(1, len(quality.macs) + 1) / max(len(quality.macs), 1)
        named = f"{quality.name}: {quality.share:.0%} fit"
        figure.add_trace(go.Scatter(x=quality.macs / 1e6, y=heights, name=named, mode="lines", line_shape="hv"))
    figure.update_layout(
        xaxis_title="million multiply-accumulates",
        yaxis_title="share of the candidates that fit",
        template="plotly_white",
    )
    write_atomically(page, figure.to_html(include_plotlyjs="inline").encode())


def spaces_json(found: Sequence[SpaceQuality]) -> dict[str, Any]:
    """Return the figures for a JSON file."""
    best = best_space(found)
    return {
        "take": None if best is None else best.name,
        "spaces": [
            {
                "name": quality.name,
                "sampled": quality.sampled,
                "refused": quality.refused,
                "fitting": len(quality.macs),
                "mean_macs": quality.mean_macs if len(quality.macs) else None,
                "macs": quality.macs.tolist(),
                "limits": list(quality.limits),
                "over": quality.blamed,
            }
            for quality in found
        ],
    }
