"""Where and how fake quantization rounds: as torch has it, and as the runtime's kernels do.

Real numbers in, real numbers out: the numbers are multiples of a step, but nothing here knows the operators of
`qanas.quantization`, whose integer arithmetic it is held against. Rules of the kernels: LiteRT's reference kernels
(``MultiplyByQuantizedMultiplier``, ``AddElementwise``, ``ConvPerChannel``).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from qanas.quantization.numbers.affine import Affine

Bounds = tuple[float, float]
UNBOUNDED: Bounds = (-math.inf, math.inf)

MULTIPLIER_BITS = 31
FINE_STEPS_OF_ADD = 2.0**20


@dataclass(frozen=True)
class Roundings:
    """The places in which fake quantization of convolutions and additions rounds, and how it does in each.

    Attributes:
        dtype: of the arithmetic between two roundings.
        given: values that come from outside, with their parameters.
        weights: of a convolution, output channels in front, with their bits; also returns the steps, one a channel.
        bias: in front of the steps of the sums of products, both one a channel.
        sums: of products, shape (batch, channels, rows, columns), with their steps, the output's parameters, and the
            bounds that the activation cuts them to.
        addition: of two values, with the parameters of both and of the output.
    """

    dtype: torch.dtype
    given: Callable[[Tensor, Affine], Tensor]
    weights: Callable[[Tensor, int], tuple[Tensor, Tensor]]
    bias: Callable[[Tensor, Tensor], Tensor]
    sums: Callable[[Tensor, Tensor, Affine, Bounds], Tensor]
    addition: Callable[[Tensor, Tensor, tuple[Affine, Affine, Affine]], Tensor]


# Torch's: once a value, float32, ties to even.


def fake_quantized(values: Tensor, affine: Affine) -> Tensor:
    """Return torch's fake quantization of values: float32, times the scale's inverse, ties to even."""
    scale, zero_point = affine.scale, affine.zero_point
    return torch.fake_quantize_per_tensor_affine(values.float(), scale, zero_point, affine.low, affine.high)


def fake_quantized_weights(weight: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Return torch's fake quantization of weights by channel, symmetric, and its steps."""
    top = 2 ** (bits - 1) - 1
    steps = weight.abs().amax((1, 2, 3)) / top
    zeros = torch.zeros(len(weight), dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weight, steps, zeros, 0, -top, top), steps


def left_alone(bias: Tensor, steps: Tensor) -> Tensor:
    """Return real biases."""
    del steps
    return bias


def fake_quantized_sums(values: Tensor, steps: Tensor, output: Affine, bounds: Bounds) -> Tensor:
    """Return torch's fake quantization of what the activation leaves of sums."""
    del steps
    return fake_quantized(values if bounds == UNBOUNDED else values.clamp(*bounds), output)


def fake_quantized_addition(left: Tensor, right: Tensor, affines: tuple[Affine, Affine, Affine]) -> Tensor:
    """Return torch's fake quantization of a sum of two."""
    return fake_quantized(left + right, affines[2])


TORCH = Roundings(
    torch.float32, fake_quantized, fake_quantized_weights, left_alone, fake_quantized_sums, fake_quantized_addition
)


# The kernels': float64, so that nothing but what is written here rounds.


def to_even(values: Tensor) -> Tensor:
    """Round to whole numbers, ties to even."""
    return values.round()


def away_from_zero(values: Tensor) -> Tensor:
    """Round to whole numbers, ties away from zero."""
    return values.sign() * (values.abs() + 0.5).floor()


def upwards(values: Tensor) -> Tensor:
    """Round to whole numbers, ties up."""
    return (values + 0.5).floor()


def divided_in_float32(values: Tensor, affine: Affine) -> Tensor:
    """Return values rounded once, as QUANTIZE does: a division of float32 numbers, ties away from zero."""
    return on_codes(away_from_zero(values.float() / affine.scale).double(), affine)


def float64_weights(weight: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Return weights rounded in float64 to multiples of float32 steps, and these; ties to even."""
    top = 2 ** (bits - 1) - 1
    weight = weight.double()
    steps = (weight.abs().amax((1, 2, 3)) / top).float().double()
    steps = torch.where(steps > 0, steps, 1.0)
    by_channel = steps.view(-1, 1, 1, 1)
    return to_even(weight / by_channel).clamp(-top, top) * by_channel, steps


def in_steps(bias: Tensor, steps: Tensor) -> Tensor:
    """Return biases rounded to the steps of the sums, as int32 holds them."""
    return to_even(bias.double() / steps) * steps


def once(
    values: Tensor,
    steps: Tensor,
    output: Affine,
    bounds: Bounds = UNBOUNDED,
    ties: Callable[[Tensor], Tensor] = away_from_zero,
) -> Tensor:
    """Return sums rounded once, in float64."""
    del steps
    return cut(on_codes(ties(values / output.scale), output), output, bounds)


def twice(values: Tensor, steps: Tensor, output: Affine, bounds: Bounds) -> Tensor:
    """Return sums rounded as an integer is that is multiplied by a `fixed_point` factor."""
    by_channel = steps.view(-1, 1, 1)
    rounded = on_codes(fixed_point(values / by_channel, by_channel / output.scale), output)
    return cut(rounded, output, bounds)


def cut(rounded: Tensor, output: Affine, bounds: Bounds) -> Tensor:
    """Return codes' values cut to the codes of an activation's bounds."""
    if bounds == UNBOUNDED:
        return rounded
    low, high = (float(divided_in_float32(torch.tensor(bound), output)) for bound in bounds)
    return rounded.clamp(low, high)


def directly(left: Tensor, right: Tensor, affines: tuple[Affine, Affine, Affine]) -> Tensor:
    """Return a sum of two rounded once, in float64."""
    return once(left + right, torch.ones(1), affines[2])


def over_a_fine_grid(left: Tensor, right: Tensor, affines: tuple[Affine, Affine, Affine]) -> Tensor:
    """Return a sum of two, each rounded to 2^-20 of twice the larger scale, and the sum to the output's scale."""
    first, second, output = affines
    common = 2.0 * max(first.scale, second.scale)
    fine = common / FINE_STEPS_OF_ADD

    def fine_steps(values: Tensor, affine: Affine) -> Tensor:
        factor = torch.tensor(affine.scale / common, dtype=torch.float64)
        return fixed_point(values / affine.scale * FINE_STEPS_OF_ADD, factor)

    total = fine_steps(left, first) + fine_steps(right, second)
    return on_codes(fixed_point(total, torch.tensor(fine / output.scale, dtype=torch.float64)), output)


def fixed_point(whole: Tensor, factors: Tensor) -> Tensor:
    """Return whole numbers times factors, rounded twice.

    Factors are ``m * 2^e`` with ``m`` in [1/2, 1), of 31 bits. The product with ``m`` (and ``2^e`` if that is more than
    1) is rounded, ties up; a shift by the rest rounds again, ties away from zero.
    """
    mantissas, exponents = torch.frexp(factors)
    multipliers = upwards(mantissas * 2.0**MULTIPLIER_BITS) / 2.0**MULTIPLIER_BITS
    ahead, behind = torch.exp2(exponents.clamp(min=0).double()), torch.exp2(exponents.clamp(max=0).double())
    return away_from_zero(upwards(whole * ahead * multipliers) * behind)


def on_codes(steps: Tensor, affine: Affine) -> Tensor:
    """Return the real values of whole steps, cut to those that there are codes for."""
    return steps.clamp(affine.low - affine.zero_point, affine.high - affine.zero_point) * affine.scale


KERNELS = Roundings(torch.float64, divided_in_float32, float64_weights, in_steps, twice, over_a_fine_grid)
