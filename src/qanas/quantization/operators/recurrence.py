"""What recurrent layers have in common, whatever their gates."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from torch import Tensor

from qanas.quantization.operators.base import Operator, Shape


@dataclass(frozen=True)
class Recurrence(Operator):
    """One recurrent layer over a whole sequence from a zero state; shapes (time, features) to (time, units).

    Attributes:
        weight_ih: shape (gates * units, features).
        weight_hh: shape (gates * units, units).
    """

    activation_bits = (8,)

    weight_ih: Tensor
    weight_hh: Tensor

    @property
    def units(self) -> int:
        """Size of the state."""
        return self.weight_hh.shape[1]

    def reading(self, positions: Tensor) -> Self:
        """Return the layer for features that come in another order, given by their positions in torch's."""
        return replace(self, weight_ih=self.weight_ih[:, positions])

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return (time, units)."""
        time, features = inputs[0]
        if features != self.weight_ih.shape[1]:
            raise ValueError(f"{type(self).__name__} of {self.weight_ih.shape[1]} features got {features}")
        return time, self.units
