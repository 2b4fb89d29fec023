"""A linear layer whose output is in the target's unit."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor, nn


class ScaledLinear(nn.Linear):
    """``scale * (W x + b)`` with a constant scale.

    A regression target of size 100 needs either weights of size 100, which gradient descent reaches slowly, or
    an output in another unit than the target's, which firmware would have to know. With a constant factor the
    weights are of ordinary size and the output is in the target's unit; the quantized graph folds it into W and b.
    """

    def __init__(self, in_features: int, out_features: int, scale: float = 1.0) -> None:
        """Create W (Glorot uniform) and b (zero)."""
        super().__init__(in_features, out_features)
        self.scale = scale

    def reset_parameters(self) -> None:
        """Glorot-uniform weights and zero biases, as in Keras."""
        nn.init.xavier_uniform_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def folded(self) -> tuple[Tensor, Tensor]:
        """Return weight and bias with the scale folded in."""
        bias = self.bias if self.bias is not None else torch.zeros_like(self.weight[:, 0])
        return self.weight * self.scale, bias * self.scale

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (..., in_features) to (..., out_features)."""
        return F.linear(inputs, self.weight, self.bias) * self.scale
