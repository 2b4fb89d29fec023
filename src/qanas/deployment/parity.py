"""Whether a shipped file computes what the search scored."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_STEPS = 3
"""Outputs may differ by this many steps of the output's scale at most."""

MAX_MEAN_STEPS = 0.02
"""Bound on the mean distance. The simulation of the operators that ship is that of the reference kernels bit by bit, so
that networks that are not changed have 0; one rounding rule changed inside a trained LSTM gives more than this."""


@dataclass(frozen=True)
class ParitySteps:
    """Distance between simulated and deployed outputs, in steps of the output's scale.

    Attributes:
        max: the largest.
        mean: over all outputs.
        n_outputs: how many were compared.
    """

    max: int
    mean: float
    n_outputs: int

    @classmethod
    def between(cls, simulated: NDArray[Any], deployed: NDArray[Any]) -> ParitySteps:
        """Compare output codes, both of the same shape."""
        steps = np.abs(simulated.astype(np.int32) - deployed.astype(np.int32))
        return cls(int(steps.max()), float(steps.mean()), steps.size)

    @classmethod
    def together(cls, parts: Sequence[ParitySteps]) -> ParitySteps:
        """Return the distance over several outputs, for that of each of at least one."""
        if len(parts) == 1:
            return parts[0]
        count = sum(part.n_outputs for part in parts)
        return cls(max(part.max for part in parts), sum(part.mean * part.n_outputs for part in parts) / count, count)

    def failure(self) -> str | None:
        """Return which bound the distance breaks, or None where it breaks none."""
        if self.max > MAX_STEPS:
            return f"outputs differ by up to {self.max} steps, more than {MAX_STEPS}"
        if self.mean > MAX_MEAN_STEPS:
            return f"outputs differ by {self.mean:.3f} steps on average, more than {MAX_MEAN_STEPS}"
        return None


def parity_failure(
    steps: ParitySteps,
    simulated: dict[str, float],
    deployed: dict[str, float],
    tolerance: dict[str, float],
) -> str | None:
    """Return why a model is outside parity, or None where it is within.

    Args:
        steps: distance between the outputs.
        simulated: the quantized graph's metrics.
        deployed: the runtime's metrics on the same samples.
        tolerance: how far each metric may be off; metrics it doesn't name are not judged.
    """
    reason = steps.failure()
    if reason is not None:
        return reason
    for metric, allowed in tolerance.items():
        gap = abs(simulated[metric] - deployed[metric])
        undefined = math.isnan(simulated[metric]) and math.isnan(deployed[metric])
        equal = simulated[metric] == deployed[metric]  # both may be infinite, as the ratio of a signal to no noise
        if not (undefined or equal or gap <= allowed):
            return f"{metric} differs by {gap:.3g}, more than {allowed:g}"
    return None
