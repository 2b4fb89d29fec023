"""Compiled: convolutions over time, and their gradients. Eight sums stay in registers.

See `qanas.training.compiled.tcn_layout` for the records and the shapes.
"""

from __future__ import annotations

from qanas.core.compilation import inlined, part
from qanas.training.compiled.lanes import (
    WIDTH,
    FloatArray,
    Lanes,
    add_lane_sums,
    broadcast,
    fma,
    lane_sum,
    load,
    splat,
    store,
)
from qanas.training.compiled.tcn_layout import ROW, ROWS, Record

GROUP = 16
"""Positions, of one chunk or several, over which weight gradients are summed in registers at least."""


@inlined
def _store_rows(space: FloatArray, target: int, rows: tuple[Lanes, ...]) -> None:
    """Store four rows in memory of shape (floats,)."""
    store(space, target, rows[0])
    store(space, target + WIDTH, rows[1])
    store(space, target + ROW, rows[2])
    store(space, target + ROW + WIDTH, rows[3])
    store(space, target + 2 * ROW, rows[4])
    store(space, target + 2 * ROW + WIDTH, rows[5])
    store(space, target + 3 * ROW, rows[6])
    store(space, target + 3 * ROW + WIDTH, rows[7])


@inlined
def _pack(space: FloatArray, to: int, source: int, places: int, apart: int) -> None:
    """Copy four rows each from places ``apart`` floats from each other to one piece of memory of shape (floats,)."""
    for place in range(places):
        for at in range(0, ROWS * ROW, WIDTH):
            store(space, to + place * ROWS * ROW + at, load(space, source + place * apart + at))


@part
def correlate(weights: FloatArray, space: FloatArray, conv: Record, x: int, y: int, chunks: int, bias: int) -> None:
    """Compute a convolution: four channels of 16 samples at once.

    Args:
        weights: all parameters, shape (weights,).
        space: the workspace, shape (floats,).
        conv: a `CONVOLUTION`.
        x: where its inputs start.
        y: where its outputs go.
        chunks: of 16 samples.
        bias: where it starts among the weights, or -1.
    """
    stride, padding = conv.stride, conv.padding
    in_positions, in_channels = conv.in_positions, conv.in_channels
    out_positions, out_channels = conv.out_positions, conv.out_channels
    kernel, first_weight = conv.taps * in_channels, conv.weights
    for chunk in range(chunks):
        for position in range(out_positions):
            start = position * stride - padding
            unseen = max(0, -start)  # taps that see nothing but padding
            length = kernel - unseen * in_channels
            source = x + (chunk * in_positions + start + unseen) * in_channels * ROW
            target = y + (chunk * out_positions + position) * out_channels * ROW
            for channel in range(0, out_channels, ROWS):
                w = first_weight + channel * kernel + unseen * in_channels
                a0 = a1 = b0 = b1 = c0 = c1 = d0 = d1 = splat(0.0)
                if bias >= 0:
                    a0 = a1 = broadcast(weights, bias + channel)
                    b0 = b1 = broadcast(weights, bias + channel + 1)
                    c0 = c1 = broadcast(weights, bias + channel + 2)
                    d0 = d1 = broadcast(weights, bias + channel + 3)
                for k in range(length):
                    x0 = load(space, source + k * ROW)
                    x1 = load(space, source + k * ROW + WIDTH)
                    wa = broadcast(weights, w + k)
                    a0 = fma(wa, x0, a0)
                    a1 = fma(wa, x1, a1)
                    wb = broadcast(weights, w + k + kernel)
                    b0 = fma(wb, x0, b0)
                    b1 = fma(wb, x1, b1)
                    wc = broadcast(weights, w + k + 2 * kernel)
                    c0 = fma(wc, x0, c0)
                    c1 = fma(wc, x1, c1)
                    wd = broadcast(weights, w + k + 3 * kernel)
                    d0 = fma(wd, x0, d0)
                    d1 = fma(wd, x1, d1)
                _store_rows(space, target + channel * ROW, (a0, a1, b0, b1, c0, c1, d0, d1))


@part
def input_gradients(
    weights: FloatArray, space: FloatArray, conv: Record, dy: int, dx: int, chunks: int, adds: bool
) -> None:
    """Compute the gradients of a convolution's inputs: four channels of 16 samples at once.

    Args:
        weights: all parameters, shape (weights,).
        space: the workspace, shape (floats,).
        conv: a `CONVOLUTION`.
        dy: where the gradients of its outputs start.
        dx: where those of its inputs go.
        chunks: of 16 samples.
        adds: to what is there.
    """
    taps, stride, padding = conv.taps, conv.stride, conv.padding
    in_positions, in_channels = conv.in_positions, conv.in_channels
    out_positions, out_channels = conv.out_positions, conv.out_channels
    kernel, first_weight = taps * in_channels, conv.weights
    for chunk in range(chunks):
        for position in range(in_positions):
            for channel in range(0, in_channels, ROWS):
                target = dx + ((chunk * in_positions + position) * in_channels + channel) * ROW
                a0 = a1 = b0 = b1 = c0 = c1 = d0 = d1 = splat(0.0)
                if adds:
                    a0, a1 = load(space, target), load(space, target + WIDTH)
                    b0, b1 = load(space, target + ROW), load(space, target + ROW + WIDTH)
                    c0, c1 = load(space, target + 2 * ROW), load(space, target + 2 * ROW + WIDTH)
                    d0, d1 = load(space, target + 3 * ROW), load(space, target + 3 * ROW + WIDTH)
                for tap in range(taps):
                    ahead = position + padding - tap
                    output = ahead // stride
                    if ahead < 0 or output >= out_positions or output * stride != ahead:
                        continue  # no output sees this position through this tap
                    source = dy + (chunk * out_positions + output) * out_channels * ROW
                    w = first_weight + tap * in_channels + channel
                    for _ in range(out_channels):
                        x0 = load(space, source)
                        x1 = load(space, source + WIDTH)
                        wa = broadcast(weights, w)
                        a0 = fma(wa, x0, a0)
                        a1 = fma(wa, x1, a1)
                        wb = broadcast(weights, w + 1)
                        b0 = fma(wb, x0, b0)
                        b1 = fma(wb, x1, b1)
                        wc = broadcast(weights, w + 2)
                        c0 = fma(wc, x0, c0)
                        c1 = fma(wc, x1, c1)
                        wd = broadcast(weights, w + 3)
                        d0 = fma(wd, x0, d0)
                        d1 = fma(wd, x1, d1)
                        source += ROW
                        w += kernel
                _store_rows(space, target, (a0, a1, b0, b1, c0, c1, d0, d1))


@part
def weight_gradients(
    gradient: FloatArray, space: FloatArray, conv: Record, x: int, dy: int, chunks: int, packed: int
) -> None:
    """Add the gradients of a convolution's weights: those of two outputs by four inputs at once.

    Their sums stay in registers for a chunk, or for several where a chunk has few positions. The rows of four inputs
    are copied next to each other first: all outputs read them, and where positions are a power of two apart they would
    drive each other out of the first-level cache (64 channels: 1.3 to 1.5 times the time).

    Args:
        gradient: of all parameters, shape (weights,), added to.
        space: the workspace, shape (floats,).
        conv: a `CONVOLUTION`.
        x: where its inputs start.
        dy: where the gradients of its outputs start.
        chunks: of 16 samples.
        packed: where there is room for four rows by max(`GROUP`, out_positions).
    """
    taps, stride, padding = conv.taps, conv.stride, conv.padding
    in_positions, in_channels = conv.in_positions, conv.in_channels
    out_positions, out_channels = conv.out_positions, conv.out_channels
    kernel, first_weight = taps * in_channels, conv.weights
    group = max(1, GROUP // out_positions)
    for first in range(0, chunks, group):
        last = min(chunks, first + group)
        for tap in range(taps):
            unseen = max(0, (padding - tap + stride - 1) // stride)  # outputs that see padding through this tap
            seen = out_positions - unseen
            start = unseen * stride + tap - padding
            for channel in range(0, in_channels, ROWS):
                to = packed
                for chunk in range(first, last):
                    source = x + ((chunk * in_positions + start) * in_channels + channel) * ROW
                    _pack(space, to, source, seen, stride * in_channels * ROW)
                    to += seen * ROWS * ROW
                w = first_weight + tap * in_channels + channel
                for output in range(0, out_channels, 2):
                    a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = splat(0.0)
                    row = packed
                    for chunk in range(first, last):
                        out = dy + ((chunk * out_positions + unseen) * out_channels + output) * ROW
                        for _ in range(seen):
                            for q in range(0, ROW, WIDTH):
                                da = load(space, out + q)
                                db = load(space, out + ROW + q)
                                x0 = load(space, row + q)
                                a0 = fma(da, x0, a0)
                                b0 = fma(db, x0, b0)
                                x1 = load(space, row + ROW + q)
                                a1 = fma(da, x1, a1)
                                b1 = fma(db, x1, b1)
                                x2 = load(space, row + 2 * ROW + q)
                                a2 = fma(da, x2, a2)
                                b2 = fma(db, x2, b2)
                                x3 = load(space, row + 3 * ROW + q)
                                a3 = fma(da, x3, a3)
                                b3 = fma(db, x3, b3)
                            row += ROWS * ROW
                            out += out_channels * ROW
                    add_lane_sums(gradient, w + output * kernel, a0, a1, a2, a3)
                    add_lane_sums(gradient, w + output * kernel + kernel, b0, b1, b2, b3)


@part
def bias_gradients(gradient: FloatArray, space: FloatArray, conv: Record, bias: int, dy: int, chunks: int) -> None:
    """Add the gradients of a convolution's bias.

    Args:
        gradient: of all parameters, shape (weights,), added to.
        space: the workspace, shape (floats,).
        conv: a `CONVOLUTION`.
        bias: where it starts among the parameters.
        dy: where the gradients of its outputs start.
        chunks: of 16 samples.
    """
    channels = conv.out_channels
    for channel in range(channels):
        total = splat(0.0)
        for place in range(chunks * conv.out_positions):
            row = dy + (place * channels + channel) * ROW
            total = total + (load(space, row) + load(space, row + WIDTH))
        gradient[bias + channel] += lane_sum(total)
