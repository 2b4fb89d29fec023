"""Objectives scaled to [0, 1], so that hypervolumes have no unit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from qanas.core.measurement import Objective
from qanas.reporting.wording import is_cost, number, title

if TYPE_CHECKING:
    from collections.abc import Sequence

_DECADE = 10.0


def spans_a_decade(values: Sequence[float]) -> bool:
    """Tell whether a logarithmic axis shows these values better."""
    return bool(values) and min(values) > 0 and max(values) / min(values) > _DECADE


@dataclass(frozen=True)
class ScaledAxis:
    """One objective, scaled so that the best of some values is 0 and the worst is 1.

    Attributes:
        objective: name and direction.
        best: value at 0.
        worst: value at 1.
        log: whether the values' log10 is scaled: costs that span more than a decade.
    """

    objective: Objective
    best: float
    worst: float
    log: bool

    @classmethod
    def over(cls, objective: Objective, values: Sequence[float]) -> ScaledAxis:
        """Return the axis that just holds all of the values."""
        best, worst = sorted((min(values), max(values)), key=objective.loss)
        return cls(objective, best, worst, is_cost(objective.name) and spans_a_decade(values))

    def scaled(self, value: float) -> float:
        """Return where a value lies; 0 where all values are equal."""
        best, worst, value = (np.log10(v) if self.log else v for v in (self.best, self.worst, value))
        return float((value - best) / (worst - best)) if worst != best else 0.0

    def unscaled(self, place: float) -> float:
        """Return the value that lies at a place."""
        best, worst = (np.log10(v) if self.log else v for v in (self.best, self.worst))
        value = best + place * (worst - best)
        return float(10**value) if self.log else float(value)

    def told(self) -> str:
        """Return the normalisation in words."""
        by = ", by its log10" if self.log else ""
        return f"{title(self.objective.name)} from {number(self.best)} (0) to {number(self.worst)} (1){by}"
