"""Distributions that weights are drawn from before training, by their names in the field."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal, get_args

import torch
from torch import Tensor, nn

Initializer = Literal["glorot_uniform", "glorot_normal", "he_uniform", "he_normal", "orthogonal"]
INITIALIZERS: tuple[Initializer, ...] = get_args(Initializer)

BiasInitializer = Literal["zeros", "unit_forget", "uniform"]

UNIFORM_BIAS = 0.05
"""Uniform biases are between minus and plus this, as in Keras."""

TRUNCATED_DEVIATION = 0.87962566
"""Standard deviation of a unit normal that is cut at two deviations."""


def _uniform(weight: Tensor, variance: float) -> None:
    bound = math.sqrt(3.0 * variance)
    nn.init.uniform_(weight, -bound, bound)


def _normal(weight: Tensor, variance: float) -> None:
    """Fill any shape from a normal cut at two deviations, with the wanted variance after the cut (as in Keras)."""
    deviation = math.sqrt(variance) / TRUNCATED_DEVIATION
    nn.init.trunc_normal_(weight, 0.0, deviation, -2.0 * deviation, 2.0 * deviation)


_DRAW: Mapping[str, Callable[[Tensor, float], None]] = {"uniform": _uniform, "normal": _normal}


def initialize(weight: Tensor, initializer: Initializer, fan_in: int, fan_out: int) -> None:
    """Draw a weight matrix in place, from torch's global generator.

    Variances are 2 / (fan_in + fan_out) (Glorot & Bengio 2010) or 2 / fan_in (He et al. 2015); an orthogonal
    matrix (Saxe et al. 2014) needs no fans.

    Args:
        weight: shape (outputs, ...); further axes count as inputs.
        initializer: the distribution.
        fan_in: inputs that an output sums over.
        fan_out: outputs that an input goes to.
    """
    if initializer == "orthogonal":
        nn.init.orthogonal_(weight)
        return
    family, _, distribution = initializer.partition("_")
    _DRAW[distribution](weight, 2.0 / (fan_in + fan_out) if family == "glorot" else 2.0 / fan_in)


@torch.no_grad()
def initialize_bias(bias: Tensor, initializer: BiasInitializer) -> None:
    """Set biases in place: to zero, or to small random values.

    Args:
        bias: any shape; for ``unit_forget`` those of an LSTM's gates i, f, g, o one behind the other.
        initializer: ``unit_forget`` is zero but 1 for the forget gate (Jozefowicz et al. 2015).
    """
    if initializer == "uniform":
        bias.uniform_(-UNIFORM_BIAS, UNIFORM_BIAS)
        return
    bias.zero_()
    if initializer == "unit_forget":
        bias.chunk(4)[1].fill_(1.0)
