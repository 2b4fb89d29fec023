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
from qanas.performance_estimation.block_table.samples import ScoredSamples
from qanas.performance_estimation.block_table.statistics import PrefixStatistics
from qanas.performance_estimation.block_table.walk import Scores
from qanas.quantization.affine import Affine
from qanas.quantization.graph import INPUT
from qanas.quantization.operators.add import Add
from qanas.quantization.operators.base import Operator
from qanas.quantization.operators.conv import Convolution


def score_one_by_one(statistics: PrefixStatistics, samples: ScoredSamples, rows: Iterable[Row]) -> Scores:
    """Return the scores of some rows on integer codes, nothing shared between them."""
    return {row: score_alone(statistics, samples, row) for row in rows}


@torch.no_grad()
def score_alone(statistics: PrefixStatistics, samples: ScoredSamples, row: Row) -> NDArray[np.float64]:
    """Return the score of one row on every sample, from calibration to score."""
    bits, path = row
    scheme = statistics.layers.with_bits(bits)
    codes = Codes.of_input(statistics.input, samples)
    for observed in _observed(statistics, path):
        codes = observed.quantized(codes.affine, scheme)(codes)
    scores: NDArray[np.float64] = samples.ratios(codes.dequantized()).numpy()
    return scores


@torch.no_grad()
def score_fake_quantized(statistics: PrefixStatistics, samples: ScoredSamples, row: Row) -> NDArray[np.float64]:
    """Return the score of one row in torch's fake quantization: real numbers, rounded where the codes are.

    Written for MBConv layers: convolutions and additions, weights by channel, values by tensor. The runtime's kernels
    round a few values in a thousand to the code beside, which this doesn't know.
    """
    bits, path = row
    values = [_rounded(chunk.inputs, statistics.input) for chunk in samples.chunks]
    for observed in _observed(statistics, path):
        values = [_fake_quantized(observed, chunk, bits) for chunk in values]
    scores: NDArray[np.float64] = samples.ratios(values).numpy()
    return scores


def _observed(statistics: PrefixStatistics, path: tuple[int, ...]) -> Iterable[ObservedLayer]:
    state = statistics.start()
    for length in range(1, len(path) + 1):
        observed, state = statistics.enter(path[:length], state)
        yield observed


def _fake_quantized(observed: ObservedLayer, values: Tensor, bits: int) -> Tensor:
    known = {INPUT: values}
    for node in observed.graph.nodes:
        computed = _computed(node.operator, [known[name] for name in node.inputs], bits)
        known[node.name] = _rounded(computed, Affine.from_range(*observed.ranges[node.name].output))
    return known[observed.graph.output]


def _computed(operator: Operator, operands: list[Tensor], bits: int) -> Tensor:
    """Compute an operator of an MBConv layer on (batch, channels, rows, columns), its weights rounded."""
    if isinstance(operator, Add):
        return operands[0] + operands[1]
    if not isinstance(operator, Convolution):
        raise TypeError(f"{type(operator).__name__} is no part of an MBConv layer")
    top = 2 ** (bits - 1) - 1
    weight = operator.weight.permute(0, 3, 1, 2)
    zeros = torch.zeros(len(weight), dtype=torch.int32)
    weight = torch.fake_quantize_per_channel_affine(weight, weight.abs().amax((1, 2, 3)) / top, zeros, 0, -top, top)
    window = operator.kernel.window
    (above, below), (left, right) = window.padding
    image = F.pad(operands[0], (left, right, above, below))
    outputs = F.conv2d(image, weight, operator.bias, window.stride, 0, operator.kernel.dilation, operator.kernel.groups)
    return F.relu6(outputs) if operator.kernel.activation == "relu6" else outputs


def _rounded(values: Tensor, affine: Affine) -> Tensor:
    return torch.fake_quantize_per_tensor_affine(values, affine.scale, affine.zero_point, affine.low, affine.high)
