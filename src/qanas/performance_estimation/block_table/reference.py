"""The same scores in plain ways, every path by itself: what tests and benchmarks hold the table against."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from numpy.typing import NDArray
from torch import Tensor

from qanas.performance_estimation.block_table.layers import Row
from qanas.performance_estimation.block_table.quantized_layer import Codes, ObservedLayer
from qanas.performance_estimation.block_table.roundings import TORCH, Roundings
from qanas.performance_estimation.block_table.samples import ScoredSamples
from qanas.performance_estimation.block_table.statistics import PrefixStatistics
from qanas.performance_estimation.block_table.walk import Scores
from qanas.quantization.graph import INPUT
from qanas.quantization.numbers.affine import Affine
from qanas.quantization.numbers.requantization import BOUNDS
from qanas.quantization.operators.arithmetic import Add
from qanas.quantization.operators.base import Operator
from qanas.quantization.operators.convolution import Convolution


def score_one_by_one(statistics: PrefixStatistics, samples: ScoredSamples, rows: Iterable[Row]) -> Scores:
    """Return the scores of some rows on integer codes, nothing shared between them."""
    return {row: score_alone(statistics, samples, row) for row in rows}


def score_alone(statistics: PrefixStatistics, samples: ScoredSamples, row: Row) -> NDArray[np.float64]:
    """Return the score of one row on every sample, from calibration to score."""
    scores: NDArray[np.float64] = samples.ratios(integer_codes(statistics, samples, row).dequantized()).numpy()
    return scores


@torch.no_grad()
def integer_codes(statistics: PrefixStatistics, samples: ScoredSamples, row: Row) -> Codes:
    """Return the codes at the end of one row's path."""
    bits, path = row
    scheme = statistics.layers.with_bits(bits)
    codes = Codes.of_input(statistics.input, samples)
    for observed in _observed(statistics, path):
        codes = observed.quantized(codes.affine, scheme)(codes)
    return codes


def score_fake_quantized(
    statistics: PrefixStatistics, samples: ScoredSamples, row: Row, roundings: Roundings = TORCH
) -> NDArray[np.float64]:
    """Return the score of one row on every sample in fake quantization; arguments as of `fake_quantized_values`."""
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
        float32, by chunk.
    """
    bits, path = row
    values = [roundings.given(chunk.inputs, statistics.input) for chunk in samples.chunks]
    given = statistics.input
    for observed in _observed(statistics, path):
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
        """Return what the layer makes of values."""
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
