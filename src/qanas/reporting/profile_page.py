"""A profile for people: in the terminal, as a picture, and as numbers."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots
from rich.console import Console
from rich.table import Table
from rich.text import Text

from qanas.core.run_folder import write_atomically
from qanas.hardware.profile import LayerProfile, Profile

MOST_LAYERS = 30
"""In the terminal; the picture and the numbers have all, and their outputs' shapes."""

_UNITS = {"latency_ms": "ms", "cycles": "cycles", "instructions": "instructions"}

_BAR_HEIGHT, _AROUND = 14, 160


def print_profile(console: Console, profile: Profile) -> None:
    """Print the parts, the layers that take most, and the bottlenecks."""
    time = profile.timed
    console.print(_parts(profile))
    chosen = sorted(profile.layers, key=_weight(profile), reverse=True)[:MOST_LAYERS]
    table = Table("layer", "operator", box=None, header_style="bold")
    for heading in ("parameters", "bytes", "MACs", "RAM", *([_UNITS[profile.figure]] if time else [])):
        table.add_column(heading, justify="right")
    for layer in (layer for layer in profile.layers if layer in chosen):
        row = [f"{layer.parameters:,}", f"{layer.weight_bytes:,}", f"{layer.macs:,}", f"{layer.live_bytes:,}"]
        table.add_row(
            Text(layer.layer), layer.kind.lower(), *row, *([_number(profile, layer.taken or 0.0)] if time else [])
        )
    console.print(table)
    if len(profile.layers) > MOST_LAYERS:
        console.print(f"... and {len(profile.layers) - MOST_LAYERS} layers that take less")
    for measure, layer in profile.bottlenecks().items():
        share = _share(profile, measure, layer)
        console.print(Text(f"most {measure}: {layer.layer} ({layer.kind.lower()}){share}"))
    if not time:
        console.print(
            f"latency by layer isn't told: {profile.device} takes networks whole; `qanas devices` lists others"
        )


def _number(profile: Profile, value: float) -> str:
    """Return what something takes on the device: counts are whole, milliseconds have three digits."""
    return f"{value:.3g}" if profile.figure == "latency_ms" else f"{value:,.0f}"


def _weight(profile: Profile) -> Any:  # noqa: ANN401 - a key
    return (lambda layer: layer.taken or 0.0) if profile.timed else (lambda layer: (layer.macs, layer.live_bytes))


def _share(profile: Profile, measure: str, layer: LayerProfile) -> str:
    """Return how much of the whole a layer has, where that adds up."""
    value = profile.additive.get(measure)
    total = 0.0 if value is None else sum(map(value, profile.layers))
    return f", {value(layer) / total:.1%} of all" if value is not None and total else f", {layer.live_bytes:,} bytes"


def _parts(profile: Profile) -> Table:
    """Return the sums by part of the network, with shares."""
    table = Table("part", box=None, header_style="bold")
    sums = {"MACs": profile.by_part(lambda layer: layer.macs), "bytes": profile.by_part(lambda one: one.weight_bytes)}
    if profile.timed:
        sums[_UNITS[profile.figure]] = profile.by_part(lambda layer: layer.taken or 0.0)
    for heading in sums:
        table.add_column(heading, justify="right")
        table.add_column("", justify="right")
    totals = {heading: sum(values.values()) or 1.0 for heading, values in sums.items()}
    for part in sums["MACs"]:
        cells: list[str] = []
        for heading, values in sums.items():
            cells += [_number(profile, values[part]) if heading == _UNITS[profile.figure] else f"{values[part]:,.0f}",
                      f"{values[part] / totals[heading]:.1%}"]  # fmt: skip
        table.add_row(Text(part), *cells)
    return table


def write_profile(profile: Profile, title: str, page: Path) -> None:
    """Write the picture: a bar a layer of what it takes, beside the memory that is needed at that point."""
    names = [f"{number} {layer.layer}" for number, layer in enumerate(profile.layers)]
    taken = [layer.taken if profile.timed else layer.macs for layer in profile.layers]
    unit = f"{_UNITS[profile.figure]} on {profile.device}" if profile.timed else "MACs"
    figure = make_subplots(
        cols=2, shared_yaxes=True, horizontal_spacing=0.03, subplot_titles=(unit, "working memory, bytes")
    )
    told = [f"{layer.kind.lower()} {'x'.join(map(str, layer.output_shape))}" for layer in profile.layers]
    figure.add_trace(go.Bar(x=taken, y=names, orientation="h", hovertext=told, marker_color="#58a6ff"), 1, 1)
    live = [layer.live_bytes for layer in profile.layers]
    figure.add_trace(go.Bar(x=live, y=names, orientation="h", hovertext=told, marker_color="#d29922"), 1, 2)
    figure.update_yaxes(autorange="reversed")
    figure.update_layout(
        title=title, showlegend=False, height=_AROUND + _BAR_HEIGHT * len(names), template="plotly_white"
    )
    write_atomically(page, figure.to_html(include_plotlyjs="inline").encode())


def profile_json(profile: Profile) -> dict[str, Any]:
    """Return all of it for a JSON file."""
    return {
        "device": profile.device,
        "figure": profile.figure,
        "layers": [asdict(layer) for layer in profile.layers],
        "bottlenecks": {measure: layer.layer for measure, layer in profile.bottlenecks().items()},
    }
