"""Whether a shipped file computes what the search scored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_STEPS = 3
"""Fast simulation and runtime may differ by this many output steps: the runtime's own two kernel sets do."""

MAX_MEAN_STEPS = 0.4
MAX_BIAS_STEPS = 0.15
"""Bounds on the mean distance and on the mean signed distance, in steps. On 24 trained LSTMs the unchanged simulation
stays below 0.21 and 0.04; rounding down instead of to nearest in the head gives a bias of 0.21 and more, in the hidden
state a mean of 0.44 and more, and any zero point that is off by one more still."""


@dataclass(frozen=True)
class ParitySteps:
    """Distance between simulated and deployed outputs, in steps of the output's scale.

    Attributes:
        max: the largest.
        mean: over all outputs.
        bias: the mean of deployed minus simulated, with its sign.
        n_outputs: how many were compared.
    """

    max: int
    mean: float
    bias: float
    n_outputs: int

    @classmethod
    def between(cls, simulated: NDArray[Any], deployed: NDArray[Any]) -> ParitySteps:
        """Compare output codes of one shape."""
        signed = deployed.astype(np.int32) - simulated.astype(np.int32)
        steps = np.abs(signed)
        return cls(int(steps.max()), float(steps.mean()), float(signed.mean()), steps.size)

    def failure(self) -> str | None:
        """Return which bound the distance breaks, or None where it breaks none."""
        if self.max > MAX_STEPS:
            return f"outputs differ by up to {self.max} steps, more than {MAX_STEPS}"
        if self.mean > MAX_MEAN_STEPS:
            return f"outputs differ by {self.mean:.2f} steps on average, more than {MAX_MEAN_STEPS}"
        if abs(self.bias) > MAX_BIAS_STEPS:
            return f"outputs are off by {self.bias:+.2f} steps to one side, more than {MAX_BIAS_STEPS}"
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
        if not gap <= allowed:
            return f"{metric} differs by {gap:.3g}, more than {allowed:g}"
    return None
