"""What is asked of a candidate and what was measured of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Direction = Literal["minimize", "maximize"]


@dataclass(frozen=True)
class Objective:
    """One axis of the front.

    Attributes:
        name: ``<metric>_float``, ``<metric>_quantized`` or the name of a cost.
        direction: which way is better.
    """

    name: str
    direction: Direction = "minimize"

    def loss(self, value: float) -> float:
        """Return ``value`` with the sign that makes smaller better."""
        return value if self.direction == "minimize" else -value


@dataclass(frozen=True)
class Limit:
    """An upper bound on a cost: ``cost <= bound``, checked before any training."""

    cost: str
    bound: float

    def excess(self, costs: Mapping[str, float]) -> float:
        """Return how far the cost is over the bound, relative to it; at most 0 where it is met."""
        return (costs[self.cost] - self.bound) / max(abs(self.bound), 1.0)


@dataclass(frozen=True)
class Measurement:
    """What one trial found out.

    Attributes:
        metrics: validation metrics, ``<metric>_float`` and ``<metric>_quantized``.
        costs: costs of the network as it ships, and of the FP32 network under ``float_``.
        train_seconds: CPU seconds spent in training.
    """

    metrics: Mapping[str, float]
    costs: Mapping[str, float]
    train_seconds: float = 0.0

    def value(self, objective: str) -> float:
        """Return the metric or cost that the objective names.

        Raises:
            KeyError: neither a metric nor a cost has that name.
        """
        return self.metrics[objective] if objective in self.metrics else self.costs[objective]
