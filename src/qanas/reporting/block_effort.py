"""What a block-wise search takes, stage by stage, beside what the paper that describes it reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qanas.reporting.block_tables import networks_of
from qanas.reporting.run_data import finite
from qanas.reporting.wording import EMPTY, count, duration, magnitude, number, title

if TYPE_CHECKING:
    from qanas.reporting.run_data import RunData

_MINUTE = 60

PAPER_GPU_HOURS = {"distillation": ("4.05", "4.05"), "tables": ("14.87", "44.61"), "search": ("about 0", "about 0")}
"""GPU hours on a Quadro RTX 8000, with 8-bit weights and with 4, 6 and 8 bits, as Lu et al. (2023) report them."""

FINALISTS = "finalists"
"""The stage after the search."""

STAGES = {
    "teacher": "the seed network trained, scored and exported; it ships as models/seed",
    "features": "what the teacher has at the blocks' borders",
    "distillation": "the blocks' supernets",
    "tables": "every path through every block quantized and scored, as far as the races let it come",
    "search": "the exact front of the tables",
    FINALISTS: "front points trained, quantized, exported and scored, and further trainings of the teacher",
}


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes:
        name: of the stage.
        told: what it does.
        cpu_seconds: that it took in all processes together; None where that was not recorded.
        paper: what it took in the paper, for 8-bit weights and for 4, 6 and 8 bits.
    """

    name: str
    told: str
    cpu_seconds: float | None
    paper: tuple[str, str]

    @property
    def cpu_minutes(self) -> str:
        """CPU time with the digits that a reader can use."""
        return number(None if self.cpu_seconds is None else self.cpu_seconds / _MINUTE)


def stages(data: RunData) -> list[Stage]:
    """Return the stages in their order; none for a run that is not block-wise or has no summary yet."""
    spent: dict[str, Any] = dict(data.summary.get("effort_cpu_seconds", {}))
    if not data.blockwise or not spent:
        return []
    # The trainings of all finalists, the seed network among them; the first of those is the teacher's.
    trained = finite(data.summary.get("finalists", {}).get("cpu_seconds"))
    spent[FINALISTS] = None if trained is None else max(trained - (finite(spent.get("teacher")) or 0.0), 0.0)
    return [
        Stage(name, told, finite(spent.get(name)), PAPER_GPU_HOURS.get(name, (EMPTY, EMPTY)))
        for name, told in STAGES.items()
    ]


def block_sentences(data: RunData) -> list[str]:
    """Return what was searched, by which score, and what it took."""
    told = f"Searched {data.space} networks block by block: {_tables(data)}"
    strategy = data.recipe_table("strategy").get("name", "an unnamed strategy")
    axes = [title(axis.name) for axis in data.front_axes]
    by = f"{', '.join(axes[:-1])} and {axes[-1]}" if len(axes) > 1 else "".join(axes)
    found = (
        f"Its front by {by}, found by the strategy {strategy}, has {count(len(data.front), 'network')}; a network's "
        "score is the sum of its blocks' quantized noise-to-signal ratios."
    )
    return [told, found if data.front else "No front is there yet.", _times(stages(data), data)]


def _tables(data: RunData) -> str:
    if not data.blocks:
        return "no table is there yet."
    rows = sum(len(block) for block in data.blocks)
    return (
        f"the tables of {count(len(data.blocks), 'block')} have {count(rows, 'row')}, which stand for "
        f"{magnitude(networks_of(data.blocks))} networks."
    )


def _times(told: Sequence[Stage], data: RunData) -> str:
    spent = [f"{stage.name} {duration(stage.cpu_seconds)}" for stage in told if stage.cpu_seconds is not None]
    wall = [seconds for value in data.summary.get("seconds", {}).values() if (seconds := finite(value))]
    clock = f"; {duration(sum(wall))} by the clock in all" if wall else ""
    return f"CPU time: {', '.join(spent)}{clock}." if spent else ""
