"""Whether a shipped file computes what the search scored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_STEPS = 3
"""Fast simulation and runtime may differ by this many output steps: the runtime's own two kernel sets do."""


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
        """Compare output codes of one shape."""
        steps = np.abs(simulated.astype(np.int32) - deployed.astype(np.int32))
        return cls(int(steps.max()), float(steps.mean()), steps.size)


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
    if steps.max > MAX_STEPS:
        return f"outputs differ by up to {steps.max} steps, more than {MAX_STEPS}"
    for metric, allowed in tolerance.items():
        gap = abs(simulated[metric] - deployed[metric])
        if not gap <= allowed:
            return f"{metric} differs by {gap:.3g}, more than {allowed:g}"
    return None
