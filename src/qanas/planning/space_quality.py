"""How good a search space is for a device, before anything is trained (Lin et al., MCUNet, 2020, section 3.1).

Of candidates drawn at random, those that fit the limits are looked at: the space whose survivors compute more on
average is likely to hold the better networks, because at equal memory more multiply-accumulates mean more capacity.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qanas.core.errors import InputError, NotBuilt, building
from qanas.core.measures import Cost
from qanas.core.seeds import derive_seed
from qanas.hardware.costs import PROGRAM_COSTS, Blueprint
from qanas.performance_estimation.bench import Bench
from qanas.planning.plan import Plan

MACS = Cost("macs")


@dataclass(frozen=True)
class SpaceQuality:
    """What was found of one space.

    Attributes:
        name: of its recipe.
        sampled: candidates that were drawn.
        refused: of them, those that give no network.
        macs: multiply-accumulates of those that fit, ascending, shape (fitting,).
        limits: that they had to fit, in words.
        blamed: by limit, how many candidates were over it.
        seconds: that it took.
    """

    name: str
    sampled: int
    refused: int
    macs: NDArray[np.float64]
    limits: Sequence[str]
    blamed: dict[str, int]
    seconds: float

    @property
    def share(self) -> float:
        """Of the candidates, that fit."""
        return len(self.macs) / self.sampled

    @property
    def mean_macs(self) -> float:
        """Of those that fit; NaN where none does."""
        return float(self.macs.mean()) if len(self.macs) else float("nan")

    def quantile(self, share: float) -> float:
        """Return the multiply-accumulates that a share of those that fit has at most; NaN where none fits."""
        return float(np.quantile(self.macs, share)) if len(self.macs) else float("nan")


def space_quality(name: str, plan: Plan, samples: int, told: Callable[[int], None] = lambda _: None) -> SpaceQuality:
    """Draw candidates of a recipe's space, each setting by itself from its range, and cost them; nothing is trained.

    Args:
        name: of the recipe.
        plan: of it; its limits, and its device's, are what has to be fitted.
        samples: how many are drawn.
        told: is told how many are done.

    Raises:
        InputError: a limit is on something that has to be measured.
    """
    bench, started = plan.bench, time.monotonic()
    measured = [
        limit.cost.column for limit in plan.limits if limit.cost.of_device and not bench.device.latency.repeatable
    ]
    if measured:
        raise InputError(
            f"limits.{measured[0]}: it is measured, which takes too long for {samples} candidates; leave it out"
        )
    wanted = {MACS.column, *(limit.cost.column for limit in plan.limits)}
    models = [model for model in {m.measure.column: m for m in (*PROGRAM_COSTS, *bench.costs)}.values()
              if model.measure.column in wanted]  # fmt: skip
    fitting, refused = [], 0
    blamed = dict.fromkeys((limit.cost.column for limit in plan.limits), 0)
    for number, blueprint in enumerate(drawn(bench, samples)):
        if blueprint is None:
            refused += 1
        else:
            costs = {model.measure.column: model.of(blueprint) for model in models}
            over = [limit.cost.column for limit in plan.limits if limit.excess(costs) > 0]
            for column in over:
                blamed[column] += 1
            if not over:
                fitting.append(costs[MACS.column])
        told(number + 1)
    limits = [f"{limit.cost.column} <= {limit.bound:,.0f}" for limit in plan.limits]
    return SpaceQuality(name, samples, refused, np.sort(np.array(fitting)), limits, blamed, time.monotonic() - started)


def drawn(bench: Bench, samples: int) -> Iterator[Blueprint | None]:
    """Yield the blueprints of candidates drawn at random; None for one that gives no network.

    Args:
        bench: with their space.
        samples: how many.
    """
    generator = np.random.default_rng(derive_seed(bench.seed, "space quality"))
    for _ in range(samples):
        candidate = bench.space.random(generator)
        try:
            with building():
                blueprint = bench.blueprint(candidate)
        except NotBuilt:
            yield None
        else:
            yield blueprint


def best_space(found: Sequence[SpaceQuality]) -> SpaceQuality | None:
    """Return the space whose candidates that fit compute most on average; None where none fits anywhere."""
    usable = [quality for quality in found if len(quality.macs)]
    return max(usable, key=lambda quality: quality.mean_macs) if usable else None
