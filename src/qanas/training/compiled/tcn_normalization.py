"""Compiled: batch norm over samples and positions, as torch's in training, and the ReLUs around it.

See `qanas.training.compiled.tcn_layout` for the records and the shapes. The masks, of shape (chunks, 16) in the
workspace, are one for the samples of the batch and zero for what fills the last chunk up.
"""

from __future__ import annotations

import numpy as np

from qanas.core.compilation import part
from qanas.training.compiled.lanes import (
    WIDTH,
    FloatArray,
    broadcast,
    fma,
    lane_sum,
    load,
    relu,
    splat,
    store,
    where_positive,
)
from qanas.training.compiled.tcn_layout import ROW, Record

MEAN, INVERSE_DEVIATION, FACTOR, RUNNING_MEAN, RUNNING_VARIANCE = range(5)
"""The rows of the array of statistics; `FACTOR` is the inverse deviation times the norm's weight."""

STATISTICS = 5
"""Rows of that array."""

EPSILON = 1e-5
MOMENTUM = 0.1
"""Torch's defaults."""


@part
def batch_statistics(
    weights: FloatArray,
    space: FloatArray,
    masks: int,
    statistics: FloatArray,
    norm: Record,
    y: int,
    samples: int,
) -> None:
    """Compute mean and deviation of each channel, and move the running statistics.

    A single value has no deviation: it takes the running statistics, as in `ChannelNorm`.

    Args:
        weights: all parameters, shape (weights,).
        space: the workspace, shape (floats,).
        masks: where they start.
        statistics: shape (STATISTICS, channels of all norms).
        norm: a `NORM`.
        y: where the values start; zero beyond the batch.
        samples: of the batch.
    """
    channels, positions, first = norm.channels, norm.positions, norm.statistics
    chunks = (samples + ROW - 1) // ROW
    count = samples * positions
    for channel in range(channels):
        at = first + channel
        if count == 1:
            mean = np.float64(statistics[RUNNING_MEAN, at])
            variance = np.float64(statistics[RUNNING_VARIANCE, at])
        else:
            total = 0.0
            for chunk in range(chunks):
                sum0 = sum1 = splat(0.0)
                row = y + (chunk * positions * channels + channel) * ROW
                for _ in range(positions):
                    sum0 = sum0 + load(space, row)
                    sum1 = sum1 + load(space, row + WIDTH)
                    row += channels * ROW
                total += lane_sum(sum0 + sum1)
            mean = total / count
            total = 0.0
            middle = splat(mean)
            for chunk in range(chunks):
                mask0, mask1 = load(space, masks + chunk * ROW), load(space, masks + chunk * ROW + WIDTH)
                sum0 = sum1 = splat(0.0)
                row = y + (chunk * positions * channels + channel) * ROW
                for _ in range(positions):
                    away0 = (load(space, row) - middle) * mask0
                    away1 = (load(space, row + WIDTH) - middle) * mask1
                    sum0 = fma(away0, away0, sum0)
                    sum1 = fma(away1, away1, sum1)
                    row += channels * ROW
                total += lane_sum(sum0 + sum1)
            variance = total / count
            statistics[RUNNING_MEAN, at] += MOMENTUM * (mean - statistics[RUNNING_MEAN, at])
            statistics[RUNNING_VARIANCE, at] += MOMENTUM * (total / (count - 1) - statistics[RUNNING_VARIANCE, at])
        inverse = 1.0 / np.sqrt(variance + EPSILON)
        statistics[MEAN, at] = mean
        statistics[INVERSE_DEVIATION, at] = inverse
        statistics[FACTOR, at] = inverse * weights[norm.weights + channel]


@part
def normalise(
    weights: FloatArray,
    space: FloatArray,
    masks: int,
    statistics: FloatArray,
    norm: Record,
    y: int,
    h: int,
    chunks: int,
) -> None:
    """Compute relu(norm(y)), zero beyond the batch.

    Args:
        weights: all parameters, shape (weights,).
        space: the workspace, shape (floats,).
        masks: where they start.
        statistics: as `batch_statistics` leaves them.
        norm: a `NORM`.
        y: where the values start.
        h: where the results go.
        chunks: of 16 samples.
    """
    channels, positions, first = norm.channels, norm.positions, norm.statistics
    offsets = norm.weights + channels
    means, factors = statistics[MEAN], statistics[FACTOR]
    for chunk in range(chunks):
        mask0, mask1 = load(space, masks + chunk * ROW), load(space, masks + chunk * ROW + WIDTH)
        for position in range(positions):
            start = (chunk * positions + position) * channels * ROW
            for channel in range(channels):
                mean, factor = broadcast(means, first + channel), broadcast(factors, first + channel)
                offset = broadcast(weights, offsets + channel)
                row = start + channel * ROW
                v0 = fma(load(space, y + row) - mean, factor, offset)
                v1 = fma(load(space, y + row + WIDTH) - mean, factor, offset)
                store(space, h + row, relu(v0) * mask0)
                store(space, h + row + WIDTH, relu(v1) * mask1)


@part
def normalise_and_add(
    weights: FloatArray,
    space: FloatArray,
    masks: int,
    statistics: FloatArray,
    norm: Record,
    at: tuple[int, int, int, int, int, int],
    chunks: int,
) -> None:
    """Compute relu(relu(norm(y)) + around), zero beyond the batch.

    Args:
        weights: all parameters, shape (weights,).
        space: the workspace, shape (floats,).
        masks: where they start.
        statistics: as `batch_statistics` leaves them.
        norm: a `NORM`.
        at: where y starts, where the results go; what goes around: where it starts, its positions, the first one
            that counts, and from which on every how manieth does.
        chunks: of 16 samples.
    """
    y, target, around, around_positions, kept, step = at
    channels, positions, first = norm.channels, norm.positions, norm.statistics
    offsets = norm.weights + channels
    means, factors = statistics[MEAN], statistics[FACTOR]
    for chunk in range(chunks):
        mask0, mask1 = load(space, masks + chunk * ROW), load(space, masks + chunk * ROW + WIDTH)
        for position in range(positions):
            start = (chunk * positions + position) * channels * ROW
            beside = around + (chunk * around_positions + kept + position * step) * channels * ROW
            for channel in range(channels):
                mean, factor = broadcast(means, first + channel), broadcast(factors, first + channel)
                offset = broadcast(weights, offsets + channel)
                row = start + channel * ROW
                other = beside + channel * ROW
                v0 = fma(load(space, y + row) - mean, factor, offset)
                v1 = fma(load(space, y + row + WIDTH) - mean, factor, offset)
                store(space, target + row, relu(relu(v0) + load(space, other)) * mask0)
                store(space, target + row + WIDTH, relu(relu(v1) + load(space, other + WIDTH)) * mask1)


@part
def relu_gradients(space: FloatArray, h: int, gradients: int, rows: int) -> None:
    """Turn the gradients of relu(v) into those of v, in their place.

    Args:
        space: the workspace, shape (floats,).
        h: where relu(v) starts.
        gradients: where the gradients start.
        rows: how many.
    """
    for at in range(0, rows * ROW, WIDTH):
        store(space, gradients + at, where_positive(load(space, h + at), load(space, gradients + at)))


@part
def norm_gradients(
    weights: FloatArray,
    gradient: FloatArray,
    space: FloatArray,
    masks: int,
    statistics: FloatArray,
    norm: Record,
    at: tuple[int, int, int],
    samples: int,
) -> None:
    """Turn the gradients of h = relu(norm(y)) into those of y, and add those of the norm's weights.

    With the gradient g before the ReLU, z = (y - mean) / deviation, and means over samples and positions
    (Ioffe & Szegedy 2015)::

        dy = weight / deviation * (g - mean(g) - z mean(g z))      dweight = sum(g z)      doffset = sum(g)

    Statistics that are not the batch's own are constants: then dy = weight / deviation * g.

    Args:
        weights: all parameters, shape (weights,).
        gradient: of all parameters, shape (weights,), added to.
        space: the workspace, shape (floats,).
        masks: where they start.
        statistics: as `batch_statistics` leaves them.
        norm: a `NORM`.
        at: where y, the gradients of h and those of y start; the latter two may be the same.
        samples: of the batch.
    """
    y, dh, dy = at
    channels, positions, first = norm.channels, norm.positions, norm.statistics
    chunks = (samples + ROW - 1) // ROW
    count = samples * positions
    for channel in range(channels):
        mean = broadcast(statistics[MEAN], first + channel)
        factor = broadcast(statistics[FACTOR], first + channel)
        offset = broadcast(weights, norm.weights + channels + channel)
        total = away_total = 0.0
        for chunk in range(chunks):
            mask0, mask1 = load(space, masks + chunk * ROW), load(space, masks + chunk * ROW + WIDTH)
            sum0 = sum1 = away_sum0 = away_sum1 = splat(0.0)
            row = (chunk * positions * channels + channel) * ROW
            for _ in range(positions):
                away0, away1 = load(space, y + row) - mean, load(space, y + row + WIDTH) - mean
                g0 = where_positive(fma(away0, factor, offset), load(space, dh + row)) * mask0
                g1 = where_positive(fma(away1, factor, offset), load(space, dh + row + WIDTH)) * mask1
                store(space, dy + row, g0)
                store(space, dy + row + WIDTH, g1)
                sum0 = sum0 + g0
                sum1 = sum1 + g1
                away_sum0 = fma(g0, away0, away_sum0)
                away_sum1 = fma(g1, away1, away_sum1)
                row += channels * ROW
            total += lane_sum(sum0 + sum1)
            away_total += lane_sum(away_sum0 + away_sum1)
        inverse = np.float64(statistics[INVERSE_DEVIATION, first + channel])
        gradient[norm.weights + channel] += away_total * inverse
        gradient[norm.weights + channels + channel] += total
        shared, slope = total / count, away_total / count * inverse * inverse
        if count == 1:
            shared = slope = 0.0
        middle, tilt = splat(shared), splat(slope)
        for chunk in range(chunks):
            row = (chunk * positions * channels + channel) * ROW
            for _ in range(positions):
                g0 = load(space, dy + row) - middle - (load(space, y + row) - mean) * tilt
                g1 = load(space, dy + row + WIDTH) - middle - (load(space, y + row + WIDTH) - mean) * tilt
                store(space, dy + row, g0 * factor)
                store(space, dy + row + WIDTH, g1 * factor)
                row += channels * ROW
