"""What a search over tables of blocks was: every path of every block as a plot, and what its stages took."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from qanas.core.pareto import non_dominated
from qanas.reporting.figures import HOVER, INK, LEGEND, MUTED, Choice, Figure, Spec, bits_colour, hover, value_axis
from qanas.reporting.run_data import MIXED_BITS, BlockRows, RunData, chosen_rows, finite, name_of
from qanas.reporting.wording import count, number, title

if TYPE_CHECKING:
    from collections.abc import Sequence

_COLUMNS = 3
_PANEL = 260  # pixels of width at least
_MOST_DROPPED = 1200  # rows that were raced away are thinned to as many a block
_DIGITS = 4  # of a plotted number: a plot shows no more, and the page stays small
_MINUTE = 60

FINALISTS = "finalists"
"""The stage after the search."""

_REFERENCE = ("reference", "teacher")  # early versions call it so

STAGES = {
    **dict.fromkeys(_REFERENCE, "the reference trained, scored and exported; it ships as models/seed"),
    "features": "what the reference has at the blocks' borders",
    "distillation": "the blocks' supernets",
    "tables": "every path through every block quantized and scored, as far as the races let it come",
    "replaced": "what each block's rows cost the quantized reference",
    "retrained": "networks trained and scored quantized, for a score to be fitted to",
    "fit": "the score fitted, and pairs left out of fits",
    "supernet": "one supernet of all networks",
    "option costs": "what every option of every layer adds to a network's costs",
    "gates": "which options are worth their costs, for each alpha",
    "scores": "the networks that gates chose, quantized and scored with the supernet's weights",
    "search": "candidates asked for and estimated, or the front solved",
    FINALISTS: "front points trained, quantized, exported and scored, and further trainings of the reference",
}


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes:
        name: of the stage.
        told: what it does.
        cpu_seconds: that it took in all processes together; None where that was not recorded.
    """

    name: str
    told: str
    cpu_seconds: float | None

    @property
    def cpu_minutes(self) -> str:
        """CPU time with the digits that a reader can use."""
        return number(None if self.cpu_seconds is None else self.cpu_seconds / _MINUTE)


def stages(data: RunData) -> list[Stage]:
    """Return the stages whose effort was recorded, in their order; none where the search had no stages."""
    spent = {name: finite(seconds) for name, seconds in data.summary.get("effort_cpu_seconds", {}).items()}
    trained = finite(data.summary.get("finalists", {}).get("cpu_seconds"))
    further = finite(data.summary.get("finalists", {}).get("further_cpu_seconds"))
    if spent and further is not None:
        spent[FINALISTS] = further
    elif spent and trained is not None:
        # The trainings of all finalists, the reference among them; the first of those is a stage of its own.
        before = sum(spent.get(name) or 0.0 for name in _REFERENCE)
        spent[FINALISTS] = max(trained - before, 0.0)
    names = [name for name in STAGES if name in spent] + [name for name in spent if name not in STAGES]
    return [Stage(name, STAGES.get(name, ""), spent[name]) for name in names]


def block_plot(data: RunData) -> Figure | None:
    """Draw a panel a block, of its table's scores against a cost; None where there are no tables or no cost."""
    costs = [axis.column for axis in data.costs if all(axis.column in block.costs for block in data.blocks)]
    if not data.blocks or not costs:
        return None
    bits = sorted({block.bits_alike(row) for block in data.blocks for row in range(len(block))})
    views = [_view(data, cost, bits) for cost in costs]
    styles = [style for place in range(len(data.blocks)) for style in _styles(place, bits)]
    rows = -(-len(data.blocks) // _COLUMNS)
    layout: Spec = {
        "grid": {"rows": rows, "columns": min(len(data.blocks), _COLUMNS), "pattern": "independent"}
        | {"xgap": 0.16, "ygap": 0.3},
        "annotations": [_heading(block, place) for place, block in enumerate(data.blocks)],
        "legend": LEGEND | {"y": 1.08},
    }
    choices = [Choice(f"NSR against {title(cost)}", *view) for cost, view in zip(costs, views, strict=True)]
    return Figure(
        "blocks",
        [style | views[0][0][place] for place, style in enumerate(styles)],
        layout | views[0][1],
        _caption(data),
        "Axes" if len(costs) > 1 else "",
        choices if len(costs) > 1 else (),
        height=300 * rows + 90,
        least=_PANEL * min(len(data.blocks), _COLUMNS),
    )


def _styles(place: int, bits: Sequence[int]) -> list[Spec]:
    """Return how the traces of a block look: dropped rows, exact ones by bits, the front, what was chosen."""
    axis = "" if place == 0 else str(place + 1)
    base: Spec = {"type": "scatter", "mode": "markers", "xaxis": f"x{axis}", "yaxis": f"y{axis}"}
    base |= {"showlegend": place == 0, "hovertemplate": HOVER}

    def dots(name: str, marker: Spec) -> Spec:
        return base | {"name": name, "legendgroup": name, "marker": marker}

    line: Spec = {"name": "front of the block", "legendgroup": "front", "mode": "lines", "hoverinfo": "skip"}
    return [
        dots("raced away", {"size": 5, "color": MUTED, "opacity": 0.45}),
        *(
            dots(f"exact, {_bits_told(count)} bits", {"size": 6, "color": bits_colour(count), "opacity": 0.85})
            for count in bits
        ),
        base | line | {"hovertemplate": None, "line": {"shape": "hv", "width": 1.2, "color": INK}},
        dots("in a finalist", {"size": 12, "symbol": "diamond-open", "color": INK, "line": {"width": 2}}),
    ]


def _bits_told(bits: int) -> str:
    return "mixed" if bits == MIXED_BITS else str(bits)


def _view(data: RunData, cost: str, bits: Sequence[int]) -> tuple[dict[int, Spec], Spec]:
    """Return the points of all traces for one cost, and the axes."""
    traces: list[Spec] = []
    layout: Spec = {}
    finalists = _finalists(data)
    for place, block in enumerate(data.blocks):
        names = {rows[place]: name for name, rows in finalists.items()}
        traces += _block_points(block, cost, bits, names)
        axis = "" if place == 0 else str(place + 1)
        leftmost, lowest = place % _COLUMNS == 0, place + _COLUMNS >= len(data.blocks)
        x, y = (
            value_axis(cost, block.costs[cost].tolist()),
            value_axis("NSR", block.nsr.tolist()) | {"tickformat": "~g"},
        )
        layout[f"xaxis{axis}"] = x | ({} if lowest else {"title": {"text": ""}}) | {"nticks": 5}
        layout[f"yaxis{axis}"] = y | ({} if leftmost else {"title": {"text": ""}})
    return dict(enumerate(traces)), layout


def _finalists(data: RunData) -> dict[str, list[int]]:
    """Return the rows that each shipped network of the front consists of."""
    found = {name_of(row): chosen_rows(data.blocks, row) for row in data.front if row.get("candidate")}
    return {name: rows for name, rows in found.items() if rows is not None}


def _block_points(block: BlockRows, cost: str, bits: Sequence[int], finalists: dict[int, str]) -> list[Spec]:
    exact = np.flatnonzero(block.exact)
    dropped = np.flatnonzero(~block.exact)
    dropped = dropped[:: max(1, -(-len(dropped) // _MOST_DROPPED))]
    best = exact[non_dominated(np.column_stack([block.costs[cost][exact], block.nsr[exact]]))]
    of_bits = np.array([block.bits_alike(row) for row in range(len(block))])
    chosen = np.array(sorted(finalists), dtype=np.intp)
    line = {name: values for name, values in _points(block, cost, best).items() if name != "text"}
    marked = _points(block, cost, chosen)
    marked["text"] = [f"{hover([finalists[row]])}<br>{text}" for row, text in zip(chosen, marked["text"], strict=True)]
    by_bits = (_points(block, cost, exact[of_bits[exact] == count]) for count in bits)
    return [_points(block, cost, dropped), *by_bits, line, marked]


def _points(block: BlockRows, cost: str, rows: NDArray[np.intp]) -> Spec:
    costs = block.costs[cost][rows].tolist()
    scores = [float(f"{score:.{_DIGITS}g}") for score in block.nsr[rows]]
    texts = [
        hover([f"{'-'.join(block.options[row])}, {block.bits_told(row)}", f"NSR {score:g}, {number(at)}"])
        for row, score, at in zip(rows, scores, costs, strict=True)
    ]
    return {"x": costs, "y": scores, "text": texts}


def _heading(block: BlockRows, place: int) -> Spec:
    axis = "" if place == 0 else str(place + 1)
    where = {"xref": f"x{axis} domain", "yref": f"y{axis} domain", "x": 0, "y": 1.02}
    told = f"{block.name.replace('_', ' ')}: {count(len(block), 'row')}, {int(block.exact.sum()):,} exact"
    return {"text": hover([told]), "showarrow": False, "xanchor": "left", "yanchor": "bottom", **where}


def _caption(data: RunData) -> str:
    dropped = sum(int((~block.exact).sum()) for block in data.blocks)
    thinned = any((~block.exact).sum() > _MOST_DROPPED for block in data.blocks)
    parts = ["A dot is a path through a block at one bit-width: its quantized noise-to-signal ratio on held-out data."]
    if dropped:
        parts.append(
            f"{dropped:,} pale ones were raced away: scored on some of the data only, when others of no greater cost "
            "were better beyond doubt; such an estimate may lie below the front."
        )
    if thinned:
        parts.append(f"Of these at most {_MOST_DROPPED:,} a block are drawn.")
    parts.append("Diamonds are what the shipped networks are made of.")
    return " ".join(parts)
