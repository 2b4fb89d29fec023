"""The step of many candidates' optimizers: each row has its own optimizer, learning rate, clipping and average."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from qanas.search_space.training_group import TrainingSettings
from qanas.training.fit import ema_weight, learning_rate_factor

ADAM = (0.9, 0.999, 1e-8)
"""Decays of the two moments, and epsilon."""

RMSPROP = (0.0, 0.9, 1e-7)
"""As Adam's, with a first moment that is the gradient itself."""


class BatchedOptimizer:
    """Clips, steps and averages rows of weights, as ``clip_grad_norm_``, ``Adam`` or ``RMSprop``, and ``lerp`` do.

    Args:
        settings: of each row.
        weights: shape (candidates, size); changed by every step.

    Attributes:
        mean: the first moment.
        square: the second moment.
        average: moving average of the weights.
    """

    def __init__(self, settings: Sequence[TrainingSettings], weights: Tensor) -> None:
        """Start from zero moments."""
        self.settings = settings
        self.weights = weights
        self.mean = torch.zeros_like(weights)
        self.square = torch.zeros_like(weights)
        self.average = weights.clone()
        constants = [ADAM if entry.optimizer == "adam" else RMSPROP for entry in settings]
        decay_1, decay_2, epsilon = zip(*constants, strict=True)
        self.new_in_mean = self._column([1.0 - decay for decay in decay_1])
        self.decay_2 = self._column(decay_2)
        self.new_in_square = self._column([1.0 - decay for decay in decay_2])
        self.epsilon = self._column(epsilon)
        self.clip = self._column([entry.gradient_clip for entry in settings])

    @property
    def state(self) -> list[Tensor]:
        """All that a step changes."""
        return [self.weights, self.mean, self.square, self.average]

    def factors(self, step: int, total: int) -> Tensor:
        """Return what of a step changes over time, shape (3, candidates, 1).

        These are the learning rate, divided by Adam's correction of the mean; Adam's correction of the root of the
        second moment; the weight of the new weights in the average.

        Args:
            step: from 1.
            total: steps of the whole training.
        """
        rates, corrections, averaging = [], [], []
        for entry in self.settings:
            rate = entry.learning_rate * learning_rate_factor(entry.scheduler, (step - 1) / total)
            adam = entry.optimizer == "adam"
            rates.append(rate / (1.0 - ADAM[0] ** step) if adam else rate)
            corrections.append((1.0 - ADAM[1] ** step) ** 0.5 if adam else 1.0)
            averaging.append(ema_weight(entry.ema_decay, step))
        return torch.tensor([rates, corrections, averaging], dtype=self.weights.dtype)[:, :, None]

    def step(self, gradient: Tensor, factors: Tensor) -> None:
        """Take a step; a row with a gradient of NaN becomes NaN, the others don't notice.

        Args:
            gradient: shape (candidates, size).
            factors: as `factors` gives them, on the weights' device.
        """
        rate, correction, averaging = factors.unbind(0)
        norm = gradient.square().sum(dim=1, keepdim=True).sqrt()
        clipped = gradient * torch.clamp(self.clip / (norm + 1e-6), max=1.0)
        self.mean.lerp_(clipped, self.new_in_mean)
        self.square.mul_(self.decay_2).addcmul_(clipped.square(), self.new_in_square)
        self.weights.sub_(rate * self.mean / (self.square.sqrt() / correction + self.epsilon))
        self.average.lerp_(self.weights, averaging)

    def _column(self, values: Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=self.weights.dtype, device=self.weights.device)[:, None]
