"""Where and how fake quantization rounds: as torch has it, and as the runtime's kernels do.

Real numbers in, real numbers out: the numbers are multiples of a step, but nothing here knows the operators of
`qanas.quantization`, whose integer arithmetic it is held against. Rules of the kernels: LiteRT's reference kernels
(``MultiplyByQuantizedMultiplier``, ``AddElementwise``, ``ConvPerChannel``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from numpy.typing import NDArray
from torch import Tensor

from qanas.performance_estimation.block_table.layers import Codes, ObservedLayer, Row, ScoredSamples
from qanas.performance_estimation.block_table.walk import PrefixStatistics, Scores
from qanas.quantization.border import INPUT
from qanas.quantization.numbers.affine import Affine
from qanas.quantization.numbers.requantization import BOUNDS
from qanas.quantization.operators.arithmetic import Add
from qanas.quantization.operators.base import Operator
from qanas.quantization.operators.convolution import Convolution

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
    """Return torch's fake quantization of values of any shape: float32, times the scale's inverse, ties to even."""
    scale, zero_point = affine.scale, affine.zero_point
    return torch.fake_quantize_per_tensor_affine(values.float(), scale, zero_point, affine.low, affine.high)


def fake_quantized_weights(weight: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Return torch's fake quantization of weights by channel, symmetric, and its steps, shape (channels,)."""
    top = 2 ** (bits - 1) - 1
    steps = weight.abs().amax((1, 2, 3)) / top
    zeros = torch.zeros(len(weight), dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weight, steps, zeros, 0, -top, top), steps


def left_alone(bias: Tensor, steps: Tensor) -> Tensor:
    """Return real biases, shape (channels,)."""
    del steps
    return bias


def fake_quantized_sums(values: Tensor, steps: Tensor, output: Affine, bounds: Bounds) -> Tensor:
    """Return torch's fake quantization of what the activation leaves of sums, any shape."""
    del steps
    return fake_quantized(values if bounds == UNBOUNDED else values.clamp(*bounds), output)


def fake_quantized_addition(left: Tensor, right: Tensor, affines: tuple[Affine, Affine, Affine]) -> Tensor:
    """Return torch's fake quantization of a sum of two, any shape."""
    return fake_quantized(left + right, affines[2])


TORCH = Roundings(
    torch.float32, fake_quantized, fake_quantized_weights, left_alone, fake_quantized_sums, fake_quantized_addition
)


# The kernels': float64, so that nothing but what is written here rounds.


def to_even(values: Tensor) -> Tensor:
    """Round to whole numbers, any shape, ties to even."""
    return values.round()


def away_from_zero(values: Tensor) -> Tensor:
    """Round to whole numbers, any shape, ties away from zero."""
    return values.sign() * (values.abs() + 0.5).floor()


def upwards(values: Tensor) -> Tensor:
    """Round to whole numbers, any shape, ties up."""
    return (values + 0.5).floor()


def divided_in_float32(values: Tensor, affine: Affine) -> Tensor:
    """Return values of any shape rounded once, as QUANTIZE does: a division of float32 numbers, ties away from zero."""
    return on_codes(away_from_zero(values.float() / affine.scale).double(), affine)


def float64_weights(weight: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Return weights rounded in float64 to multiples of float32 steps, and these, shape (channels,); ties to even."""
    top = 2 ** (bits - 1) - 1
    weight = weight.double()
    steps = (weight.abs().amax((1, 2, 3)) / top).float().double()
    steps = torch.where(steps > 0, steps, 1.0)
    by_channel = steps.view(-1, 1, 1, 1)
    return to_even(weight / by_channel).clamp(-top, top) * by_channel, steps


def in_steps(bias: Tensor, steps: Tensor) -> Tensor:
    """Return biases, shape (channels,), rounded to the steps of the sums, as int32 holds them."""
    return to_even(bias.double() / steps) * steps


def once(
    values: Tensor,
    steps: Tensor,
    output: Affine,
    bounds: Bounds = UNBOUNDED,
    ties: Callable[[Tensor], Tensor] = away_from_zero,
) -> Tensor:
    """Return sums of any shape rounded once, in float64."""
    del steps
    return cut(on_codes(ties(values / output.scale), output), output, bounds)


def twice(values: Tensor, steps: Tensor, output: Affine, bounds: Bounds) -> Tensor:
    """Return sums, shape (batch, channels, rows, columns), rounded as an integer times a `fixed_point` factor is."""
    by_channel = steps.view(-1, 1, 1)
    rounded = on_codes(fixed_point(values / by_channel, by_channel / output.scale), output)
    return cut(rounded, output, bounds)


def cut(rounded: Tensor, output: Affine, bounds: Bounds) -> Tensor:
    """Return codes' values, any shape, cut to the codes of an activation's bounds."""
    if bounds == UNBOUNDED:
        return rounded
    low, high = (float(divided_in_float32(torch.tensor(bound), output)) for bound in bounds)
    return rounded.clamp(low, high)


def directly(left: Tensor, right: Tensor, affines: tuple[Affine, Affine, Affine]) -> Tensor:
    """Return a sum of two, any shape, rounded once, in float64."""
    return once(left + right, torch.ones(1), affines[2])


def over_a_fine_grid(left: Tensor, right: Tensor, affines: tuple[Affine, Affine, Affine]) -> Tensor:
    """Return a sum of two, any shape, each rounded to 2^-20 of twice the larger scale, and the sum to the output's."""
    first, second, output = affines
    common = 2.0 * max(first.scale, second.scale)
    fine = common / FINE_STEPS_OF_ADD

    def fine_steps(values: Tensor, affine: Affine) -> Tensor:
        factor = torch.tensor(affine.scale / common, dtype=torch.float64)
        return fixed_point(values / affine.scale * FINE_STEPS_OF_ADD, factor)

    total = fine_steps(left, first) + fine_steps(right, second)
    return on_codes(fixed_point(total, torch.tensor(fine / output.scale, dtype=torch.float64)), output)


def fixed_point(whole: Tensor, factors: Tensor) -> Tensor:
    """Return whole numbers, any shape, times factors, rounded twice.

    Factors are ``m * 2^e`` with ``m`` in [1/2, 1), of 31 bits. The product with ``m`` (and ``2^e`` if that is more than
    1) is rounded, ties up; a shift by the rest rounds again, ties away from zero.
    """
    mantissas, exponents = torch.frexp(factors)
    multipliers = upwards(mantissas * 2.0**MULTIPLIER_BITS) / 2.0**MULTIPLIER_BITS
    ahead, behind = torch.exp2(exponents.clamp(min=0).double()), torch.exp2(exponents.clamp(max=0).double())
    return away_from_zero(upwards(whole * ahead * multipliers) * behind)


def on_codes(steps: Tensor, affine: Affine) -> Tensor:
    """Return the real values of whole steps, any shape, cut to those that there are codes for."""
    return steps.clamp(affine.low - affine.zero_point, affine.high - affine.zero_point) * affine.scale


KERNELS = Roundings(torch.float64, divided_in_float32, float64_weights, in_steps, twice, over_a_fine_grid)


def score_one_by_one(statistics: PrefixStatistics, samples: ScoredSamples, rows: Iterable[Row]) -> Scores:
    """Return the scores of some rows, shape (samples,), on integer codes, nothing shared between them."""
    return {row: score_alone(statistics, samples, row) for row in rows}


def score_alone(statistics: PrefixStatistics, samples: ScoredSamples, row: Row) -> NDArray[np.float64]:
    """Return the score of one row on every sample, shape (samples,), from calibration to score."""
    scores: NDArray[np.float64] = samples.ratios(integer_codes(statistics, samples, row).dequantized()).numpy()
    return scores


@torch.no_grad()
def integer_codes(statistics: PrefixStatistics, samples: ScoredSamples, row: Row) -> Codes:
    """Return the codes at the end of one row's path."""
    codes = Codes.of_input(statistics.input, samples)
    for observed, bits in zip(_observed(statistics, row.path), row.bits, strict=True):
        codes = observed.quantized(codes.affine, statistics.layers.with_bits(bits))(codes)
    return codes


def score_fake_quantized(
    statistics: PrefixStatistics, samples: ScoredSamples, row: Row, roundings: Roundings = TORCH
) -> NDArray[np.float64]:
    """Return the score of one row on every sample, shape (samples,); arguments as of `fake_quantized_values`."""
    scores: NDArray[np.float64] = samples.ratios(fake_quantized_values(statistics, samples, row, roundings)).numpy()
    return scores


@torch.no_grad()
def fake_quantized_values(
    statistics: PrefixStatistics, samples: ScoredSamples, row: Row, roundings: Roundings = TORCH
) -> list[Tensor]:
    """Return the values at the end of one row's path in fake quantization: real numbers, rounded where codes are.

    Written for MBConv layers: convolutions and additions, weights by channel, values by tensor.

    Args:
        statistics: where batch norms and ranges come from.
        samples: what is scored on.
        row: path and bits.
        roundings: how each place rounds. Torch's are not the runtime's, which rounds more than once.

    Returns:
        float32, by chunk, shape (samples, channels, height, width).
    """
    values = [roundings.given(chunk.inputs, statistics.input) for chunk in samples.chunks]
    given = statistics.input
    for observed, bits in zip(_observed(statistics, row.path), row.bits, strict=True):
        layer = FakeQuantizedLayer(observed, given, bits, roundings)
        values, given = [layer(chunk) for chunk in values], layer.affines[observed.graph.output]
    return [chunk.float() for chunk in values]


def _observed(statistics: PrefixStatistics, path: tuple[int, ...]) -> Iterable[ObservedLayer]:
    state = statistics.start()
    for length in range(1, len(path) + 1):
        observed, state = statistics.enter(path[:length], state)
        yield observed


class FakeQuantizedLayer:
    """An option of an MBConv layer on real numbers, shape (batch, channels, rows, columns).

    Args:
        observed: the layer.
        given: parameters of its input.
        bits: of its weights.
        roundings: how each place rounds.
    """

    def __init__(self, observed: ObservedLayer, given: Affine, bits: int, roundings: Roundings) -> None:
        """Take the parameters of every value from its range."""
        self.graph = observed.graph
        self.bits = bits
        self.roundings = roundings
        ranges = {name: observed.ranges[name].output for name in self.graph.shapes if name != INPUT}
        self.affines = {INPUT: given} | {name: Affine.from_range(*span) for name, span in ranges.items()}

    def __call__(self, values: Tensor) -> Tensor:
        """Return what the layer makes of values, shape (batch, channels, rows, columns)."""
        known = {INPUT: values}
        for node in self.graph.nodes:
            operands = [known[name] for name in node.inputs]
            affines = [self.affines[name] for name in (*node.inputs, node.name)]
            known[node.name] = self._computed(node.operator, operands, affines)
        return known[self.graph.output]

    def _computed(self, operator: Operator, operands: list[Tensor], affines: list[Affine]) -> Tensor:
        if isinstance(operator, Add):
            return self.roundings.addition(operands[0], operands[1], (affines[0], affines[1], affines[2]))
        if not isinstance(operator, Convolution):
            raise TypeError(f"{type(operator).__name__} is no part of an MBConv layer")
        return self._convolved(operator, operands[0], *affines)

    def _convolved(self, convolution: Convolution, values: Tensor, given: Affine, output: Affine) -> Tensor:
        roundings, kernel = self.roundings, convolution.kernel
        weight, steps = roundings.weights(convolution.weight.permute(0, 3, 1, 2), self.bits)
        sum_steps = steps * given.scale
        bias = roundings.bias(convolution.bias, sum_steps)
        (above, below), (left, right) = kernel.window.padding
        image, weight, bias = (part.to(roundings.dtype) for part in (values, weight, bias))
        image = F.pad(image, (left, right, above, below))
        sums = F.conv2d(image, weight, bias, kernel.window.stride, 0, kernel.dilation, kernel.groups)
        return roundings.sums(sums, sum_steps, output, BOUNDS[kernel.activation])
