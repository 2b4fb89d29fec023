"""Networks that are retrained so that a score can be fitted to them: which, on which samples, and how they come out."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from qanas.core.candidate import Candidate
from qanas.core.errors import InputError, TrainingFailed
from qanas.core.events import Watch
from qanas.core.run_folder import write_parquet
from qanas.core.seeds import derive_seed
from qanas.performance_estimation.base import StageUnit
from qanas.performance_estimation.bench import Bench
from qanas.performance_estimation.procedure import Procedure
from qanas.performance_estimation.scoring import part_of
from qanas.search_space.additive import AdditiveTable
from qanas.search_space.start import Start
from qanas.tasks.resampling import units_of

EXCHANGE_RATES = np.geomspace(1e-4, 1e4, 401)
"""Of cost for score, both relative to what they range over: each has its best network, which is of the front."""

DRAWS = 64
"""Networks that are drawn for one; the one of the wanted size is taken."""


def divided(bench: Bench, share: float) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the validation samples that tables score, and those that retrained networks are scored on, in order.

    What is not independent of each other, a unit of the task, is kept together.

    Args:
        bench: what candidates are measured on.
        share: of the units that retrained networks are scored on.

    Raises:
        InputError: there is one unit alone.
    """
    units = units_of(bench.task, bench.data_of(bench.reference).val)
    count = int(units.max()) + 1
    if count < 2:  # noqa: PLR2004 - one on either side
        raise InputError(
            f"score.held_out: the validation data is one {bench.task.unit}, which can't be divided; take a score that "
            "is not fitted, such as nsr_sum"
        )
    order = np.random.default_rng(derive_seed(bench.seed, "samples of the fit")).permutation(count)
    taken = np.isin(units, order[: min(max(1, round(share * count)), count - 1)])
    return np.flatnonzero(~taken), np.flatnonzero(taken)


def drawn_rows(tables: Sequence[AdditiveTable], size: str, count: int, seed: int) -> list[tuple[int, ...]]:
    """Return networks to fit to, one row a table each: half of the front, spread over its sizes, half beside it.

    Those beside it have some rows of one of the front and others drawn at random, at about its size: on the front
    itself good blocks go with large ones, and nothing tells them apart.

    Args:
        tables: of the blocks.
        size: the cost that networks are spread over.
        count: how many are wanted; where there are fewer, or as good as, fewer are returned.
        seed: of what is drawn.
    """
    costs = [table.costs[size] for table in tables]

    def size_of(rows: Sequence[int]) -> float:
        return sum(float(cost[row]) for cost, row in zip(costs, rows, strict=True))

    spans = sum(float(np.ptp(table.scores)) for table in tables), sum(float(np.ptp(cost)) for cost in costs)
    rate = max(spans[0], 1e-300) / max(spans[1], 1e-300)
    best = {
        tuple(int((t.scores + each * rate * cost).argmin()) for t, cost in zip(tables, costs, strict=True))
        for each in EXCHANGE_RATES
    }
    by_size = sorted(best, key=lambda rows: (size_of(rows), rows))
    sizes = np.array([size_of(rows) for rows in by_size])
    wanted = np.linspace(sizes[0], sizes[-1], max(1, -(-count // 2)))
    front = [by_size[place] for place in dict.fromkeys(int(np.abs(sizes - each).argmin()) for each in wanted)]
    found = dict.fromkeys(front)
    generator = np.random.default_rng(seed)
    for attempt in range(10 * count):
        if len(found) >= count:
            break
        like = front[attempt % len(front)]
        anything = np.column_stack([generator.integers(0, len(cost), DRAWS) for cost in costs])
        drawn = np.where(generator.random(anything.shape) < 0.5, anything, np.array(like))  # noqa: PLR2004 - a coin
        others = [rows for rows in map(tuple, drawn.tolist()) if rows not in found]
        if others:
            found[min(others, key=lambda rows: abs(size_of(rows) - size_of(like)))] = None
    return list(found)


@dataclass(frozen=True)
class RetrainedUnit(StageUnit):
    """One network, trained as finalists are, and scored quantized on the samples that tables don't score.

    Attributes:
        candidate: the network.
        procedure: trains it.
        start: the weights that it starts from.
        share: see `divided`.
    """

    candidate: Candidate
    procedure: Procedure
    start: Start
    share: float

    @property
    def label(self) -> str:
        """The network."""
        return f"network {self.candidate.key}"

    def write(self, bench: Bench, watch: Watch) -> dict[str, Any]:
        """Train, score, and write the metrics; a network that can't be trained has none."""
        seed = derive_seed(bench.seed, "retrained", self.candidate.key)
        _, samples = divided(bench, self.share)
        failure, scores = "", {}
        try:
            trained = self.procedure.make(bench, self.candidate, self.start, seed, watch)
            split = part_of(bench.data_of(self.candidate).val, samples)
            scores = trained.evaluate(bench.task_of(self.candidate), split)
        except TrainingFailed as error:
            failure = str(error)
        frame = {"metric": list(scores), "value": list(scores.values())}
        write_parquet(self.file.path, pl.DataFrame(frame, schema={"metric": pl.String, "value": pl.Float64}))
        return {"failure": failure} if failure else {}


def metric_of_retrained(path: Path, column: str) -> float:
    """Return a metric of a retrained network; NaN where it has none.

    Args:
        path: that a unit left.
        column: the metric's.
    """
    kept = pl.read_parquet(io.BytesIO(path.read_bytes()))
    found = kept.filter(pl.col("metric") == column)["value"].to_list()
    return float(found[0]) if found else math.nan
