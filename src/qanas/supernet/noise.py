"""How far a block is from its teacher."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

VARIANCE_FLOOR = 1e-8
"""Below the variance of any channel that carries something; a channel that doesn't must not divide by 0."""


@dataclass(frozen=True)
class NoiseToSignal:
    """The noise-to-signal ratio of a block's output, ``mean over c of mean (y_c - t_c)^2 / var(t_c)``.

    The mean over samples and positions makes blocks comparable (Moons et al., ICCV 2021; Lu et al. 2023).

    Attributes:
        inverse_variance: one over the variance of each of the teacher's channels, shape (channels, 1, 1).
    """

    inverse_variance: Tensor

    @classmethod
    def of(cls, teacher: Tensor) -> NoiseToSignal:
        """Take the variances of the teacher's features, (n, channels, height, width)."""
        variance = teacher.var(dim=(0, 2, 3), correction=0)
        return cls(1.0 / variance.clamp(min=VARIANCE_FLOOR)[:, None, None])

    def __call__(self, outputs: Tensor, teacher: Tensor) -> Tensor:
        """Return the ratio of each sample, shape (batch,)."""
        error = outputs - teacher
        return (error.square() * self.inverse_variance).mean(dim=(1, 2, 3))
