"""The compiled mathematics of `CompiledTCNTrainer`: a TCN's outputs, and the gradient of its parameters.

A small TCN spends its time in torch on the number of its operations, not on their work. Here every operation is a loop
over 16 samples at once (`qanas.training.compiled.lanes`), and a step is two calls. A batch norm needs the values of
all samples, so that each layer is computed for all chunks before the next one.
"""

from __future__ import annotations

import numba
import numpy as np

from qanas.core.compilation import entry_point, merged, part
from qanas.training.compiled.lanes import (
    WIDTH,
    FloatArray,
    IntArray,
    broadcast,
    fma,
    gather,
    lane_sum,
    load,
    splat,
    store,
)
from qanas.training.compiled.tcn_convolution import (
    bias_gradients,
    correlate,
    input_gradients,
    weight_gradients,
)
from qanas.training.compiled.tcn_layout import BLOCK, NETWORK, ROW, Record
from qanas.training.compiled.tcn_normalization import (
    batch_statistics,
    norm_gradients,
    normalise,
    normalise_and_add,
    relu_gradients,
)

_FLOATS, _MATRIX, _INDICES = numba.float32[::1], numba.float32[:, ::1], numba.int64[::1]
_BLOCKS, _NETWORK = numba.from_dtype(BLOCK)[::1], numba.from_dtype(NETWORK)


@merged
def _block_forward(
    weights: FloatArray, space: FloatArray, masks: int, statistics: FloatArray, block: Record, samples: int
) -> None:
    """Compute one block, of weights of shape (weights,), in memory of shape (floats,)."""
    chunks = (samples + ROW - 1) // ROW
    correlate(weights, space, block.first, block.inputs, block.first_sums, chunks, -1)
    batch_statistics(weights, space, masks, statistics, block.first_norm, block.first_sums, samples)
    normalise(weights, space, masks, statistics, block.first_norm, block.first_sums, block.hidden, chunks)
    correlate(weights, space, block.second, block.hidden, block.second_sums, chunks, -1)
    batch_statistics(weights, space, masks, statistics, block.second_norm, block.second_sums, samples)
    around = (block.inputs, block.shortcut.in_positions, -block.shortcut.padding, block.shortcut.stride)
    if block.shortcut.taps > 0:
        correlate(weights, space, block.shortcut, block.inputs, block.around, chunks, block.shortcut_bias)
        around = (block.around, block.shortcut.out_positions, 0, 1)
    at = (block.second_sums, block.outputs, around[0], around[1], around[2], around[3])
    normalise_and_add(weights, space, masks, statistics, block.second_norm, at, chunks)


@entry_point(numba.void(_FLOATS, _FLOATS, _MATRIX, _BLOCKS, _NETWORK, _FLOATS, _INDICES, _MATRIX))
def forward(
    weights: FloatArray,
    space: FloatArray,
    statistics: FloatArray,
    blocks: Record,
    network: Record,
    inputs: FloatArray,
    indices: IntArray,
    outputs: FloatArray,
) -> None:
    """Compute the network's outputs of a batch, and keep in the workspace what `backward` needs.

    Args:
        weights: all parameters, shape (weights,).
        space: the workspace, shape (floats,).
        statistics: shape (STATISTICS, channels of all norms); the running ones are moved.
        blocks: shape (blocks,), of `BLOCK`.
        network: a `NETWORK`.
        inputs: shape (samples * positions * features,), the steps that the network sees.
        indices: the batch, shape (batch,).
        outputs: shape (output_size, samples of all chunks), to be filled.

    Raises:
        IndexError: an index is not one of a sample.
    """
    features, head = network.features, network.head
    positions, channels = blocks[0].first.in_positions, blocks[0].first.in_channels
    known = len(inputs) // (positions * features)
    for index in indices:
        if index < 0 or index >= known:  # nothing else would keep it from reading some other memory
            raise IndexError("a batch has a sample that the data has not")
    samples = len(indices)
    chunks = (samples + ROW - 1) // ROW
    for sample in range(chunks * ROW):
        space[network.masks + sample] = np.float32(1.0) if sample < samples else np.float32(0.0)
    for chunk in range(chunks):
        start = blocks[0].inputs + chunk * positions * channels * ROW
        gather(inputs, indices, chunk * ROW, (positions, features, channels, ROW, ROW), space, start)
    for number in range(len(blocks)):
        _block_forward(weights, space, network.masks, statistics, blocks[number], samples)
    last = blocks[len(blocks) - 1]
    width, hidden = last.second.out_channels, last.outputs
    for output in range(len(outputs)):
        for q in range(0, chunks * ROW, WIDTH):
            row = hidden + q // ROW * width * ROW + q % ROW
            total = broadcast(weights, head + len(outputs) * width + output)
            for channel in range(width):
                total = fma(
                    broadcast(weights, head + output * width + channel), load(space, row + channel * ROW), total
                )
            store(outputs[output], q, total * splat(network.scale))


@part
def _head_backward(
    weights: FloatArray,
    gradient: FloatArray,
    space: FloatArray,
    douts: FloatArray,
    at: tuple[int, int, int],
    sizes: tuple[int, int],
    scale: float,
) -> None:
    """Add the head's weight gradients, and write the gradients of its inputs.

    Args:
        weights: all parameters, shape (weights,).
        gradient: of all parameters, shape (weights,), added to.
        space: the workspace, shape (floats,).
        douts: gradients of the outputs, shape (output_size, samples of all chunks).
        at: where the head's weights, its inputs and their gradients start.
        sizes: channels, chunks.
        scale: of the head.
    """
    head, hidden, dhidden = at
    width, chunks = sizes
    for output in range(len(douts)):
        bias_total = splat(0.0)
        for q in range(0, chunks * ROW, WIDTH):
            bias_total = bias_total + load(douts[output], q) * splat(scale)
        gradient[head + len(douts) * width + output] += lane_sum(bias_total)
        for channel in range(width):
            w = head + output * width + channel
            total = splat(0.0)
            for q in range(0, chunks * ROW, WIDTH):
                row = (q // ROW * width + channel) * ROW + q % ROW
                d = load(douts[output], q) * splat(scale)
                total = fma(d, load(space, hidden + row), total)
                dh = d * broadcast(weights, w)
                if output > 0:
                    dh = dh + load(space, dhidden + row)
                store(space, dhidden + row, dh)
            gradient[w] += lane_sum(total)


@part
def _add_around(space: FloatArray, block: Record, chunks: int) -> None:
    """Add gradients of a block's outputs to those of inputs that went around unchanged, memory of shape (floats,)."""
    shortcut = block.shortcut
    channels = shortcut.in_channels
    for chunk in range(chunks):
        for position in range(shortcut.out_positions):
            source = block.output_gradients + (chunk * shortcut.out_positions + position) * channels * ROW
            kept = position * shortcut.stride - shortcut.padding
            target = block.input_gradients + (chunk * shortcut.in_positions + kept) * channels * ROW
            for at in range(0, channels * ROW, WIDTH):
                store(space, target + at, load(space, target + at) + load(space, source + at))


@merged
def _block_backward(
    weights: FloatArray,
    gradient: FloatArray,
    space: FloatArray,
    masks: int,
    statistics: FloatArray,
    block: Record,
    samples: int,
    wanted: bool,
) -> None:
    """Add one block's weight gradients, shape (weights,), and, where ``wanted``, write those of its inputs."""
    chunks = (samples + ROW - 1) // ROW
    dout, dsecond, dfirst = block.output_gradients, block.second_gradients, block.first_gradients
    rows = chunks * block.second.out_positions * block.second.out_channels
    relu_gradients(space, block.outputs, dout, rows)
    at_second = (block.second_sums, dout, dsecond)
    norm_gradients(weights, gradient, space, masks, statistics, block.second_norm, at_second, samples)
    weight_gradients(gradient, space, block.second, block.hidden, dsecond, chunks, block.packed)
    input_gradients(weights, space, block.second, dsecond, dfirst, chunks, False)
    at_first = (block.first_sums, dfirst, dfirst)
    norm_gradients(weights, gradient, space, masks, statistics, block.first_norm, at_first, samples)
    weight_gradients(gradient, space, block.first, block.inputs, dfirst, chunks, block.packed)
    if block.shortcut.taps > 0:
        weight_gradients(gradient, space, block.shortcut, block.inputs, dout, chunks, block.packed)
        bias_gradients(gradient, space, block.shortcut, block.shortcut_bias, dout, chunks)
    if wanted:
        input_gradients(weights, space, block.first, dfirst, block.input_gradients, chunks, False)
        if block.shortcut.taps > 0:
            input_gradients(weights, space, block.shortcut, dout, block.input_gradients, chunks, True)
        else:
            _add_around(space, block, chunks)


@entry_point(numba.void(_FLOATS, _FLOATS, _FLOATS, _MATRIX, _BLOCKS, _NETWORK, _MATRIX, numba.int64))
def backward(
    weights: FloatArray,
    gradient: FloatArray,
    space: FloatArray,
    statistics: FloatArray,
    blocks: Record,
    network: Record,
    douts: FloatArray,
    samples: int,
) -> None:
    """Compute the gradient of all parameters, from what `forward` has left.

    Args:
        weights: all parameters, shape (weights,).
        gradient: to be filled, shape (weights,).
        space: as in `forward`.
        statistics: as in `forward`.
        blocks: as in `forward`.
        network: as in `forward`.
        douts: gradient of the loss by the outputs, shape (output_size, samples of all chunks), zero beyond the batch.
        samples: of the batch.
    """
    gradient[:] = np.float32(0.0)
    last = blocks[len(blocks) - 1]
    at = (network.head, last.outputs, last.output_gradients)
    sizes = (last.second.out_channels, (samples + ROW - 1) // ROW)
    _head_backward(weights, gradient, space, douts, at, sizes, network.scale)
    for number in range(len(blocks) - 1, -1, -1):
        _block_backward(weights, gradient, space, network.masks, statistics, blocks[number], samples, number > 0)
