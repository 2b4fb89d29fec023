"""The compiled way back through an LSTM, from what `qanas.training.compiled.lstm_forward` has left in the workspace."""

from __future__ import annotations

import numpy as np

from qanas.core.compilation import entry_point, part
from qanas.training.compiled.lanes import (
    PAIR,
    WIDTH,
    FloatArray,
    IntArray,
    add_lane_sums,
    broadcast,
    fma,
    lane_sum,
    load,
    splat,
    store,
)

ROWS = 4
"""Rows of a layer's inputs whose gradients are computed at once."""


@part
def _gate_gradients(space: FloatArray, at: tuple[int, ...], sizes: tuple[int, ...], from_above: bool) -> None:
    """Turn the gradient of h_t, and that of c_t from the step after, into those of the gates, in their place.

    With tc = tanh(c_t) and the derivatives of sigmoid and tanh by their values::

        dc  = dc_next + dh o (1 - tc^2)
        d_i = dc g i (1 - i)      d_f = dc c_(t-1) f (1 - f)
        d_g = dc i (1 - g^2)      d_o = dh tc o (1 - o)           dc_(t-1) = dc f

    Args:
        space: the workspace, shape (floats,).
        at: where gates, cells, tanhs, dcells, dh from the step after and dh from the layer above start.
        sizes: units, lanes, used lanes.
        from_above: whether there is a layer above.
    """
    gates, cells, tanhs, dcells, dh_after, dh_above = at
    units, lanes, used = sizes
    one = splat(1.0)
    for unit in range(units):
        for q in range(unit * lanes, unit * lanes + used, WIDTH):
            gate = gates + 3 * unit * lanes + q
            i, f = load(space, gate), load(space, gate + lanes)
            g, o = load(space, gate + 2 * lanes), load(space, gate + 3 * lanes)
            tc = load(space, tanhs + q)
            dh = load(space, dh_after + q)
            if from_above:
                dh = dh + load(space, dh_above + q)
            dc = fma(dh * o, one - tc * tc, load(space, dcells + q))
            store(space, gate, dc * g * (i - i * i))
            store(space, gate + lanes, dc * load(space, cells + q) * (f - f * f))
            store(space, gate + 2 * lanes, dc * i * (one - g * g))
            store(space, gate + 3 * lanes, dh * tc * (o - o * o))
            store(space, dcells + q, dc * f)


@part
def _row_gradients(
    weights: FloatArray,
    space: FloatArray,
    at: tuple[int, ...],
    sizes: tuple[int, ...],
    wanted: tuple[int, int],
) -> None:
    """Gradients of a range of rows of one step: the transposed weights times the gates' gradients.

    Four rows of 16 samples at once, 8 sums in registers. The last block is moved back to overlap the one
    before it rather than be a smaller one.

    Args:
        weights: all parameters, shape (weights,).
        space: the workspace, shape (floats,).
        at: where the layer's weights, the step's gates and the step's drows start.
        sizes: rows, units, lanes, used lanes.
        wanted: first row, and the one after the last.
    """
    w, gates, drows = at
    rows, units, lanes, used = sizes
    start, stop = wanted
    if stop - start < ROWS:
        for k in range(start, stop):
            for q in range(0, used, WIDTH):
                total = splat(0.0)
                for unit in range(units):
                    for s in range(4):
                        d = load(space, gates + (4 * unit + s) * lanes + q)
                        total = fma(broadcast(weights, w + 4 * (unit * rows + k) + s), d, total)
                store(space, drows + k * lanes + q, total)
        return
    for block in range(start, stop, ROWS):
        k = min(block, stop - ROWS)
        for q in range(0, used, PAIR):
            a0 = a1 = b0 = b1 = c0 = c1 = d0 = d1 = splat(0.0)
            source = gates + q
            factor = w + 4 * k
            for _ in range(units):
                for s in range(4):
                    x0 = load(space, source)
                    x1 = load(space, source + WIDTH)
                    wa = broadcast(weights, factor + s)
                    a0 = fma(wa, x0, a0)
                    a1 = fma(wa, x1, a1)
                    wb = broadcast(weights, factor + s + 4)
                    b0 = fma(wb, x0, b0)
                    b1 = fma(wb, x1, b1)
                    wc = broadcast(weights, factor + s + 8)
                    c0 = fma(wc, x0, c0)
                    c1 = fma(wc, x1, c1)
                    wd = broadcast(weights, factor + s + 12)
                    d0 = fma(wd, x0, d0)
                    d1 = fma(wd, x1, d1)
                    source += lanes
                factor += 4 * rows
            target = drows + k * lanes + q
            store(space, target, a0)
            store(space, target + WIDTH, a1)
            store(space, target + lanes, b0)
            store(space, target + lanes + WIDTH, b1)
            store(space, target + 2 * lanes, c0)
            store(space, target + 2 * lanes + WIDTH, c1)
            store(space, target + 3 * lanes, d0)
            store(space, target + 3 * lanes + WIDTH, d1)


@part
def _weight_gradients(  # noqa: PLR0915 - unrolled, so that the sums stay in registers
    gradient: FloatArray,
    space: FloatArray,
    at: tuple[int, int, int],
    sizes: tuple[int, int, int, int],
    steps: int,
) -> None:
    """Add one layer's weight gradients.

    Those of a unit and three rows are 12 sums over steps and samples that stay in registers. Four units in
    turn use the same three rows while those are in the first-level cache.

    Args:
        gradient: of all parameters, shape (weights,), added to.
        space: the workspace, shape (floats,).
        at: where the layer's weights, rows and gates start.
        sizes: rows, units, lanes, used lanes.
        steps: time steps.
    """
    w, first_row, gates = at
    rows, units, lanes, used = sizes
    for first_unit in range(0, units, 4):
        for k in range(0, rows - 2, 3):
            for unit in range(first_unit, min(units, first_unit + 4)):
                i0 = i1 = i2 = f0 = f1 = f2 = g0 = g1 = g2 = o0 = o1 = o2 = splat(0.0)
                for t in range(steps):
                    x = first_row + (t * rows + k) * lanes
                    d = gates + 4 * (t * units + unit) * lanes
                    for q in range(0, used, PAIR):
                        x0 = load(space, x + q)
                        x1 = load(space, x + q + lanes)
                        x2 = load(space, x + q + 2 * lanes)
                        di = load(space, d + q)
                        i0 = fma(di, x0, i0)
                        i1 = fma(di, x1, i1)
                        i2 = fma(di, x2, i2)
                        df = load(space, d + q + lanes)
                        f0 = fma(df, x0, f0)
                        f1 = fma(df, x1, f1)
                        f2 = fma(df, x2, f2)
                        dg = load(space, d + q + 2 * lanes)
                        g0 = fma(dg, x0, g0)
                        g1 = fma(dg, x1, g1)
                        g2 = fma(dg, x2, g2)
                        do = load(space, d + q + 3 * lanes)
                        o0 = fma(do, x0, o0)
                        o1 = fma(do, x1, o1)
                        o2 = fma(do, x2, o2)
                        x0 = load(space, x + q + WIDTH)
                        x1 = load(space, x + q + lanes + WIDTH)
                        x2 = load(space, x + q + 2 * lanes + WIDTH)
                        di = load(space, d + q + WIDTH)
                        i0 = fma(di, x0, i0)
                        i1 = fma(di, x1, i1)
                        i2 = fma(di, x2, i2)
                        df = load(space, d + q + lanes + WIDTH)
                        f0 = fma(df, x0, f0)
                        f1 = fma(df, x1, f1)
                        f2 = fma(df, x2, f2)
                        dg = load(space, d + q + 2 * lanes + WIDTH)
                        g0 = fma(dg, x0, g0)
                        g1 = fma(dg, x1, g1)
                        g2 = fma(dg, x2, g2)
                        do = load(space, d + q + 3 * lanes + WIDTH)
                        o0 = fma(do, x0, o0)
                        o1 = fma(do, x1, o1)
                        o2 = fma(do, x2, o2)
                target = w + 4 * (unit * rows + k)
                add_lane_sums(gradient, target, i0, f0, g0, o0)
                add_lane_sums(gradient, target + 4, i1, f1, g1, o1)
                add_lane_sums(gradient, target + 8, i2, f2, g2, o2)
    for unit in range(units):
        for k in range(rows - rows % 3, rows):
            i0 = i1 = f0 = f1 = g0 = g1 = o0 = o1 = splat(0.0)
            for t in range(steps):
                x = first_row + (t * rows + k) * lanes
                d = gates + 4 * (t * units + unit) * lanes
                for q in range(0, used, PAIR):
                    x0, x1 = load(space, x + q), load(space, x + q + WIDTH)
                    i0 = fma(load(space, d + q), x0, i0)
                    i1 = fma(load(space, d + q + WIDTH), x1, i1)
                    f0 = fma(load(space, d + q + lanes), x0, f0)
                    f1 = fma(load(space, d + q + lanes + WIDTH), x1, f1)
                    g0 = fma(load(space, d + q + 2 * lanes), x0, g0)
                    g1 = fma(load(space, d + q + 2 * lanes + WIDTH), x1, g1)
                    o0 = fma(load(space, d + q + 3 * lanes), x0, o0)
                    o1 = fma(load(space, d + q + 3 * lanes + WIDTH), x1, o1)
            add_lane_sums(gradient, w + 4 * (unit * rows + k), i0 + i1, f0 + f1, g0 + g1, o0 + o1)


@part
def _head_backward(
    weights: FloatArray,
    gradient: FloatArray,
    space: FloatArray,
    douts: FloatArray,
    at: tuple[int, ...],
    sizes: tuple[int, ...],
    scale: float,
) -> None:
    """Add the head's weight gradients, and write the gradient of the last hidden state.

    Args:
        weights: all parameters, shape (weights,).
        gradient: of all parameters, shape (weights,), added to.
        space: the workspace, shape (floats,).
        douts: gradients of the outputs, shape (output_size, samples of all chunks).
        at: where the head's weights, the last hidden state and its gradient start, and the chunk's first
        sample.
        sizes: units, lanes, used lanes.
        scale: of the head.
    """
    head, hidden, dhidden, first = at
    units, lanes, used = sizes
    for unit in range(units + 1):
        for output in range(len(douts)):
            w = head + output * (units + 1) + unit
            total = splat(0.0)
            for q in range(0, used, WIDTH):
                d = load(douts[output], first + q) * splat(scale)
                if unit == units:
                    total = total + d
                    continue
                total = fma(d, load(space, hidden + unit * lanes + q), total)
                at_dh = dhidden + unit * lanes + q
                dh = d * broadcast(weights, w)
                if output > 0:
                    dh = dh + load(space, at_dh)
                store(space, at_dh, dh)
            gradient[w] += lane_sum(total)


@entry_point("void(f4[::1], f4[::1], f4[::1], i8[:, ::1], i8[::1], f4, f4[:, ::1], i8)")
def backward(
    weights: FloatArray,
    gradient: FloatArray,
    space: FloatArray,
    layers: IntArray,
    shape: IntArray,
    scale: float,
    douts: FloatArray,
    batch: int,
) -> None:
    """Compute the gradient of all parameters, from the workspace that `forward` has left. The gates are lost.

    Args:
        weights: all parameters, shape (weights,).
        gradient: to be filled, shape (weights,).
        space: as in `forward`.
        layers: as in `forward`.
        shape: as in `forward`.
        scale: of the head.
        douts: gradient of the loss by the outputs, shape (output_size, lanes of all chunks), zero beyond the
        batch.
        batch: samples of the batch.
    """
    steps, lanes, chunk_size, head = shape[0], shape[1], shape[2], shape[3]
    gradient[:] = np.float32(0.0)
    for first in range(0, batch, lanes):
        base = first // lanes * chunk_size
        used = min(lanes, (batch - first + PAIR - 1) // PAIR * PAIR)
        for layer in range(len(layers) - 1, -1, -1):
            d, h = layers[layer, 0], layers[layer, 1]
            w, rows, gates, cells = layers[layer, 2], layers[layer, 3], layers[layer, 4], layers[layer, 5]
            tanhs, drows, dcells = layers[layer, 6], layers[layer, 7], layers[layer, 8]
            row = (d + h + 1) * lanes
            top = layer + 1 == len(layers)
            if top:
                last = steps * row + d * lanes
                at_head = (head, base + rows + last, base + drows + last, first)
                _head_backward(weights, gradient, space, douts, at_head, (h, lanes, used), scale)
            space[base + dcells : base + dcells + h * lanes] = np.float32(0.0)
            row_above = 0 if top else (layers[layer + 1, 0] + layers[layer + 1, 1] + 1) * lanes
            above = 0 if top else base + layers[layer + 1, 7]
            for t in range(steps - 1, -1, -1):
                gates_t = base + gates + t * 4 * h * lanes
                at = (
                    gates_t,
                    base + cells + t * h * lanes,
                    base + tanhs + t * h * lanes,
                    base + dcells,
                    base + drows + (t + 1) * row + d * lanes,
                    above + t * row_above,
                )
                _gate_gradients(space, at, (h, lanes, used), not top)
                # the network's inputs need no gradient, nor does the zero state before the first step
                wanted = (d if layer == 0 else 0, d if t == 0 else d + h)
                at_rows = (w, gates_t, base + drows + t * row)
                _row_gradients(weights, space, at_rows, (d + h + 1, h, lanes, used), wanted)
            at_weights = (w, base + rows, base + gates)
            _weight_gradients(gradient, space, at_weights, (d + h + 1, h, lanes, used), steps)
