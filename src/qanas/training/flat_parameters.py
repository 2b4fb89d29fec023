"""All weights of a network as one vector: an optimizer's step costs by the tensor more than by the weight."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from qanas.training.memory_order import flattened, unflattened


class FlatParameters:
    """The trainable parameters of a network as parts of one vector, and their gradients of another.

    Small networks have dozens of small tensors; clipping, the optimizer and the weight average then spend their
    time on the number of them. While this exists, a change of `values` is a change of the network.

    Args:
        parameters: of one type, on one device.

    Attributes:
        values: shape (n,).
        gradient: shape (n,); backward passes add to it.
    """

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        """Copy the parameters into one vector, and let them be views of it."""
        self.parameters = list(parameters)
        self.values = torch.cat([flattened(parameter.detach()) for parameter in self.parameters])
        self.gradient = torch.zeros_like(self.values)
        parts = zip(self.parameters, self._split(self.values), self._split(self.gradient), strict=True)
        for parameter, value, gradient in parts:
            parameter.data = value
            parameter.grad = gradient

    def _split(self, vector: Tensor) -> list[Tensor]:
        parts = torch.split(vector, [parameter.numel() for parameter in self.parameters])
        return [unflattened(part, p.shape) for part, p in zip(parts, self.parameters, strict=True)]

    def release(self, values: Tensor) -> None:
        """Give the parameters ``values``, each in memory of its own, and no gradient."""
        for parameter, value in zip(self.parameters, self._split(values), strict=True):
            parameter.data = value.clone(memory_format=torch.contiguous_format)
            parameter.grad = None
