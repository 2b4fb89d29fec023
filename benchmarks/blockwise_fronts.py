"""Exact fronts of a finished block-wise run's supernets by other tables: other bits, other costs.

Teacher and supernets are the run's own. Each variant's tables lie in a copy of its folder beside it
(`runs/camvid_s0-layer`), made where they lack.
"""

from __future__ import annotations

import shutil
import time
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blockwise_control_kinds import FinishedRun
from qanas.core.candidate import Candidate
from qanas.core.run_folder import RunFolder
from qanas.performance_estimation.scored_blocks import ScoredBlocks
from qanas.recipe import load_plan
from qanas.reporting.live import LiveDisplay
from qanas.search_space.additive import AdditiveScores
from qanas.search_strategy.solvers import ExactSearch
from qanas.workflows.stages import RunStages

Floats = NDArray[np.float64]


def _copy(source: str, target: str) -> None:
    """Copy a file that lacks: files are named by all that they are made from."""
    if not Path(target).exists():
        shutil.copy2(source, target)


@dataclass(frozen=True)
class Variant:
    """The tables of a variant.

    Attributes:
        run: the copy of the run that they lie in.
        additive: their exact rows.
        table_seconds: of the processor, that they took.
    """

    run: FinishedRun
    additive: AdditiveScores
    table_seconds: float

    @classmethod
    def of(cls, source: RunFolder, name: str, table: Mapping[str, Any], costs: list[str]) -> Variant:
        """Make the tables of a variant, or read them.

        Args:
            source: of the run.
            name: of the variant.
            table: what its recipe says in place of the run's.
            costs: by column; races keep the front of all of them.
        """
        folder = RunFolder(source.path.with_name(f"{source.path.name}-{name}"))
        if not folder.path.exists():
            folder.path.mkdir()
            (folder.path / "features").symlink_to((source.path / "features").resolve())
        for part in ("blocks", "trainings"):
            shutil.copytree(source.path / part, folder.path / part, copy_function=_copy, dirs_exist_ok=True)
        recipe = tomllib.loads(source.recipe.read_text("utf-8"))
        recipe["table"] |= table
        recipe["objectives"] = {"miou_quantized": "maximize", **dict.fromkeys(costs, "minimize")}
        recipe["strategy"] = {"name": "tpe", "trials": 1}  # a plan with more costs than a solver takes
        folder.write_recipe(recipe)
        plan = load_plan(folder.recipe)
        plan.check()
        with LiveDisplay() as display:
            scored = plan.estimator.prepare(plan.bench, RunStages(plan, folder, display), plan.measures)
        assert isinstance(scored, ScoredBlocks)
        seconds = sum(file.table.read_note().get("cpu_seconds", 0.0) for file in scored.files)
        return cls(FinishedRun(plan, folder, scored, 1), scored.offer(AdditiveScores), seconds)

    def front(self, cost: str) -> Front:
        """Return the exact front of score and a cost."""
        started = time.process_time()
        found = ExactSearch().solve([table.losses([cost]) for table in self.additive.tables])
        seconds = time.process_time() - started
        order = np.argsort(found.losses[:, 1])
        return Front(self, found.losses[order, 0], found.losses[order, 1] + self.additive.outside[cost],
                     found.rows[order], seconds)  # fmt: skip


@dataclass(frozen=True)
class Front:
    """An exact front of score and a cost.

    Attributes:
        variant: whose tables it is of.
        score: of each network, shape (networks,), sorted by cost.
        cost: of each, shape (networks,).
        rows: of each block's table, shape (networks, blocks).
        seconds: of the processor, that the search took.
    """

    variant: Variant
    score: Floats
    cost: Floats
    rows: NDArray[np.intp]
    seconds: float

    def candidate(self, place: int) -> Candidate:
        """Return one of its networks."""
        return self.variant.additive.candidate(self.rows[place].tolist())

    def on(self, cost: str) -> Floats:
        """Return another cost of each network, shape (networks,)."""
        additive = self.variant.additive
        own = [table.costs[cost][self.rows[:, place]] for place, table in enumerate(additive.tables)]
        found: Floats = additive.outside[cost] + np.sum(own, axis=0)
        return found


def least_cost(score: Floats, cost: Floats, wanted: Floats) -> Floats:
    """Return the least cost of networks, shape (n,), with no worse a score than each wanted; NaN where none has."""
    return np.array([cost[score <= bound].min() if (score <= bound).any() else np.nan for bound in wanted])
