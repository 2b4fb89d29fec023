"""From the accumulator's unit to the output's codes, with the fused activation."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qanas.quantization.numbers.affine import Affine, QuantizedWeights
from qanas.quantization.numbers.rounding import round_half_away

EXACT_IN_FLOAT32 = 2.0**24
"""Whole numbers up to this are exact in float32, whatever the order in which they are added."""

Activation = Literal["none", "relu", "relu6"]
"""What an operator applies to its results."""

BOUNDS: Mapping[Activation, tuple[float, float]] = {
    "none": (-math.inf, math.inf),
    "relu": (0.0, math.inf),
    "relu6": (0.0, 6.0),
}
"""What each activation clamps to."""


def composed(first: Activation, second: Activation) -> Activation:
    """Return the activation that does what two do, one after the other."""
    return "relu6" if "relu6" in {first, second} else second


def activate(values: Tensor, activation: Activation) -> Tensor:
    """Apply an activation function to what was just computed, in place; floating point, any shape."""
    return values if activation == "none" else values.clamp_(*BOUNDS[activation])


def clamp_codes(codes: Tensor, output: Affine, activation: Activation) -> Tensor:
    """Saturate codes of any shape to what the output type and the fused activation allow."""
    return codes.clamp(*_code_bounds(output, activation))


def _code_bounds(output: Affine, activation: Activation) -> tuple[float, float]:
    """Return the lowest and the highest code."""
    low, high = (_code_of_bound(bound, output) for bound in BOUNDS[activation])
    return max(low, output.low), min(high, output.high)


def step_bounds(output: Affine, activation: Activation) -> tuple[float, float]:
    """Return the same counted from the zero point."""
    low, high = _code_bounds(output, activation)
    return low - output.zero_point, high - output.zero_point


def _code_of_bound(bound: float, output: Affine) -> float:
    """Return the code of a bound as the kernels have it: a division of float32 numbers, not clamped."""
    if math.isinf(bound):
        return bound
    return output.zero_point + math.floor(float(np.float32(bound) / np.float32(output.scale)) + 0.5)


def exact_dtype(weights: Tensor, source: Affine) -> torch.dtype:
    """Return the cheapest floating-point type in which no sum of products of codes is rounded.

    Args:
        weights: integers, shape (channels, ...), output channels in front.
        source: parameters of what they are multiplied with.
    """
    reach = max(source.high - source.zero_point, source.zero_point - source.low)
    return torch.float32 if largest_sum(weights, reach) < EXACT_IN_FLOAT32 else torch.float64


def largest_sum(weights: Tensor, reach: float) -> float:
    """Return how large sums of products with numbers up to ``reach`` can be; weights of shape (out, ...)."""
    return float(weights.abs().flatten(1).sum(1, dtype=torch.float64).max()) * reach


LARGEST_FACTOR = 2.0**14
"""From a kernel's integers to the output's codes: products of two codes, shifted left by this, still fit 32 bits."""


def largest_factor_of_products(inputs: Sequence[Affine]) -> float:
    """Return the same for products of codes of 16 bits, too, which leave no room for a shift."""
    return 0.5 if any(affine.wide for affine in inputs) else LARGEST_FACTOR


def with_reachable_scale(output: Affine, step: float, largest_factor: float = LARGEST_FACTOR) -> Affine:
    """Return ``output`` with a scale that integer kernels reach from values in units of ``step``.

    Their factors shift left in 32 bits, and overflow unchecked. Only an output that is constant on all samples that
    were looked at (a product with zeros, say) gets so fine a scale; a coarser one loses nothing there.
    """
    if step <= largest_factor * output.scale:
        return output
    return replace(output, scale=float(np.float32(step / largest_factor)))


def float32_factor(numerators: Sequence[float], denominator: float) -> float:
    """Return a product over a denominator, rounded to float32 after each step: what C makes of float operands."""
    product = reduce(operator.mul, map(np.float32, numerators))
    return float(product / np.float32(denominator))


@dataclass(frozen=True)
class FixedPoint:
    """Real factors as integer kernels have them: 31 bits and a power of two, each product rounded twice.

    One rounding instead changes 0.1-0.4 % of the values by 1; a network in front of a head of large weights turns
    each of those into several output steps.

    Attributes:
        multipliers: float64 in [0.5, 1), whole multiples of 2^-31; a scalar or one a channel of the last axis.
        before: float64, the power of two that values are multiplied by before the first rounding, 1 or more.
        after: float64, the one that they are multiplied by before the second, 1 or less.
    """

    multipliers: Tensor
    before: Tensor
    after: Tensor

    @classmethod
    def of_sums(cls, factors: NDArray[np.float64] | float) -> FixedPoint:
        """Return what brings sums of 64 bits to codes: multipliers cut to 15 bits, products rounded once.

        Args:
            factors: a scalar, or one a channel, shape (channels,).
        """
        whole = cls.of(factors)
        multipliers = torch.floor(whole.multipliers * 2.0**15 + 0.5).clamp(max=2.0**15 - 1.0) / 2.0**15
        return cls(multipliers * whole.after, whole.before, torch.ones_like(whole.after))

    @classmethod
    def of(cls, factors: NDArray[np.float64] | float) -> FixedPoint:
        """Return the fixed-point form of positive factors, a number or shape (channels,)."""
        mantissas, exponents = np.frexp(factors)
        multipliers = np.floor(mantissas * 2.0**31 + 0.5) / 2.0**31
        # A mantissa that is rounded up to 1 is brought back under it, as in the kernels: it decides the first rounding.
        whole = multipliers == 1.0
        multipliers, exponents = np.where(whole, 0.5, multipliers), exponents + whole
        shifts = np.ldexp(1.0, exponents)
        return cls(
            torch.from_numpy(np.asarray(multipliers)),
            torch.from_numpy(np.asarray(np.maximum(shifts, 1.0))),
            torch.from_numpy(np.asarray(np.minimum(shifts, 1.0))),
        )

    def __call__(self, values: Tensor) -> Tensor:
        """Return the rounded products of whole numbers, float64 below 2^31, shape (..., channels).

        The kernels' 64-bit product has more digits than a float64, whose error of 2^-53 can only matter within as
        little of a tie of the first rounding.
        """
        high = torch.floor(values * (self.multipliers * self.before) + 0.5)
        return round_half_away(high * self.after)


def _factors(weights: QuantizedWeights, source: Affine, output: Affine) -> NDArray[np.float64]:
    """Return input scale x weight scale / output scale in float64, shape (groups,); the scales are float32."""
    return weights.scales.astype(np.float64) * np.float64(np.float32(source.scale)) / output.scale


@dataclass(frozen=True)
class Requantization:
    """``clamp(round(sum * factor) + zero point)`` in double precision, as the reference kernel of dense layers does.

    Attributes:
        factors: float64, input scale x weight scale / output scale, a scalar or one a channel of the last axis.
        output: parameters of the output's codes.
        activation: fused.
    """

    factors: Tensor
    output: Affine
    activation: Activation

    @classmethod
    def of(cls, weights: QuantizedWeights, source: Affine, output: Affine, activation: Activation) -> Requantization:
        """Return the requantization of products of ``source`` and ``weights``."""
        return cls(torch.from_numpy(_factors(weights, source, output)), output, activation)

    def __call__(self, sums: Tensor) -> Tensor:
        """Return the output's codes, float32, for integer sums in float64, shape (..., channels)."""
        codes = round_half_away(sums * self.factors).to(torch.float32) + self.output.zero_point
        return clamp_codes(codes, self.output, self.activation)


@dataclass(frozen=True)
class FixedPointRequantization:
    """`Requantization` as the integer kernels of convolutions do it.

    Attributes:
        factors: input scale x weight scale / output scale, one a channel of the last axis.
        output: parameters of the output's codes.
        activation: fused.
    """

    factors: FixedPoint
    output: Affine
    activation: Activation

    @classmethod
    def of(
        cls, weights: QuantizedWeights, source: Affine, output: Affine, activation: Activation
    ) -> FixedPointRequantization:
        """Return the requantization of products of ``source`` and ``weights``."""
        fixed_point = FixedPoint.of_sums if source.wide else FixedPoint.of
        return cls(fixed_point(_factors(weights, source, output)), output, activation)

    def __call__(self, sums: Tensor) -> Tensor:
        """Return the output's codes, float32, for integer sums in float64, shape (..., channels)."""
        codes = self.factors(sums).to(torch.float32) + self.output.zero_point
        return clamp_codes(codes, self.output, self.activation)
