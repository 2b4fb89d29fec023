"""The compiled mathematics of `FusedLSTMTrainer`: eight samples of the batch in one register.

The usual way turns each gate into a matrix product; for a few units those are too small to be fast. Here every
instruction works on eight samples (`qanas.training.fused.lanes`).

Memory, in floats. The batch is cut into chunks of `lanes` samples, each with its own workspace. With d inputs
and h units, a layer has in there (the last axis is always the sample)::

    rows   (steps + 1, d + h + 1, lanes)   x_t, h_(t-1) and a row of ones for the bias
    gates  (steps, h, 4, lanes)            i, f, g, o; on the way back their gradients before the nonlinearity
    cells  (steps + 1, h, lanes)           c_(t-1)
    tanhs  (steps, h, lanes)               tanh(c_t)
    drows  (steps + 1, d + h + 1, lanes)   gradients of `rows`
    dcells (h, lanes)                      gradient of c_t, of the current step

and its weights are (h, d + h + 1, 4): unit, row, gate. The head's are (outputs, h + 1), the bias last.
"""

from __future__ import annotations

import numpy as np

from qanas.core.compilation import entry_point, inlined, part
from qanas.training import fused
from qanas.training.fused.lanes import (
    PAIR,
    WIDTH,
    FloatArray,
    IntArray,
    Lanes,
    add_lane_sums,
    broadcast,
    clamp,
    fma,
    lane_sum,
    load,
    power_of_two,
    splat,
    store,
)
from qanas.training.fused.samples import gather

ROWS = 4
"""Rows of a layer's inputs whose gradients are computed at once."""

# ------------------------------------------------ nonlinearities


@inlined
def exp(x: Lanes) -> Lanes:
    """Exponential function within 1e-7 relative for -87 <= x <= 88, clamped beyond.

    2^n times a polynomial of the rest r, |r| <= ln(2) / 2 (Cephes).
    """
    x = clamp(x, splat(-87.0), splat(88.0))
    shifted = fma(x, splat(1.4426950408889634), splat(12582912.0))  # the sum rounds to an integer
    n = shifted - splat(12582912.0)
    # x - n ln 2 with ln 2 in two parts, the first of few bits so that its product is exact
    r = fma(n, splat(2.12194440e-4), fma(n, splat(-0.693359375), x))
    p = fma(splat(1.9875691500e-4), r, splat(1.3981999507e-3))
    p = fma(p, r, splat(8.3334519073e-3))
    p = fma(p, r, splat(4.1665795894e-2))
    p = fma(p, r, splat(1.6666665459e-1))
    p = fma(p, r, splat(5.0000001201e-1))
    p = fma(p, r * r, r + splat(1.0))
    return p * power_of_two(shifted)


@inlined
def sigmoid(x: Lanes) -> Lanes:
    """Logistic function 1 / (1 + exp(-x))."""
    return splat(1.0) / (splat(1.0) + exp(splat(0.0) - x))


@inlined
def tanh(x: Lanes) -> Lanes:
    """Hyperbolic tangent as x P(x^2) / Q(x^2), which keeps the relative error of small values small.

    The rational approximation that Eigen and XLA use.
    """
    x = clamp(x, splat(-7.90531110763549805), splat(7.90531110763549805))
    s = x * x
    p = fma(splat(-2.76076847742355e-16), s, splat(2.00018790482477e-13))
    p = fma(p, s, splat(-8.60467152213735e-11))
    p = fma(p, s, splat(5.12229709037114e-08))
    p = fma(p, s, splat(1.48572235717979e-05))
    p = fma(p, s, splat(6.37261928875436e-04))
    p = fma(p, s, splat(4.89352455891786e-03))
    q = fma(splat(1.19825839466702e-06), s, splat(1.18534705686654e-04))
    q = fma(q, s, splat(2.26843463243900e-03))
    q = fma(q, s, splat(4.89352518554385e-03))
    return x * p / q


# ------------------------------------------------ forward


@inlined
def _cell(
    space: FloatArray,
    pre: tuple[Lanes, Lanes, Lanes, Lanes],
    gate: int,
    cell: int,
    next_cell: int,
    tanh_cell: int,
    lanes: int,
) -> Lanes:
    """Apply the gates' nonlinearities, keep what the way back needs, and return h_t."""
    i, f, g, o = sigmoid(pre[0]), sigmoid(pre[1]), tanh(pre[2]), sigmoid(pre[3])
    store(space, gate, i)
    store(space, gate + lanes, f)
    store(space, gate + 2 * lanes, g)
    store(space, gate + 3 * lanes, o)
    c = fma(f, load(space, cell), i * g)
    store(space, next_cell, c)
    squashed = tanh(c)
    store(space, tanh_cell, squashed)
    return o * squashed


@part
def _forward_step(
    weights: FloatArray, space: FloatArray, at: tuple[int, ...], sizes: tuple[int, ...], first_step: bool
) -> None:
    """Compute one layer at one time step: all gates of a unit for 16 samples at once, 8 sums in registers.

    Args:
        weights: all parameters.
        space: the workspace.
        at: where this step's weights, rows, gates, cells and tanhs start, and where h_t goes to: the next
            step's rows, and the rows of the layer above (or -1).
        sizes: inputs, units, lanes, used lanes.
        first_step: h is still zero: leave its products out.
    """
    w, x, gate, cell, tanh_cell, h_next, h_above = at
    inputs, units, lanes, used = sizes
    rows = inputs + units
    summed = inputs if first_step else rows
    for _ in range(units):
        for q in range(0, used, PAIR):
            bias = w + 4 * rows
            i0 = i1 = broadcast(weights, bias)
            f0 = f1 = broadcast(weights, bias + 1)
            g0 = g1 = broadcast(weights, bias + 2)
            o0 = o1 = broadcast(weights, bias + 3)
            for k in range(summed):
                x0 = load(space, x + k * lanes + q)
                x1 = load(space, x + k * lanes + q + WIDTH)
                wi = broadcast(weights, w + 4 * k)
                i0 = fma(wi, x0, i0)
                i1 = fma(wi, x1, i1)
                wf = broadcast(weights, w + 4 * k + 1)
                f0 = fma(wf, x0, f0)
                f1 = fma(wf, x1, f1)
                wg = broadcast(weights, w + 4 * k + 2)
                g0 = fma(wg, x0, g0)
                g1 = fma(wg, x1, g1)
                wo = broadcast(weights, w + 4 * k + 3)
                o0 = fma(wo, x0, o0)
                o1 = fma(wo, x1, o1)
            c_next = cell + units * lanes + q
            h0 = _cell(space, (i0, f0, g0, o0), gate + q, cell + q, c_next, tanh_cell + q, lanes)
            s = q + WIDTH
            h1 = _cell(space, (i1, f1, g1, o1), gate + s, cell + s, c_next + WIDTH, tanh_cell + s, lanes)
            store(space, h_next + q, h0)
            store(space, h_next + s, h1)
            if h_above >= 0:
                store(space, h_above + q, h0)
                store(space, h_above + s, h1)
        w += 4 * (rows + 1)
        gate += 4 * lanes
        cell += lanes
        tanh_cell += lanes
        h_next += lanes
        if h_above >= 0:
            h_above += lanes


@entry_point("void(f4[::1], f4[::1], i8[:, ::1], i8[::1], f4, f4[::1], i8[::1], f4[:, ::1])", fused)
def forward(
    weights: FloatArray,
    space: FloatArray,
    layers: IntArray,
    shape: IntArray,
    scale: float,
    inputs: FloatArray,
    indices: IntArray,
    outputs: FloatArray,
) -> None:
    """Compute the network's outputs of a batch, and keep in the workspace what `backward` needs.

    Args:
        weights: all parameters.
        space: the workspace of all chunks.
        layers: for each layer its inputs, units, and where its weights, rows, gates, cells, tanhs, drows and
            dcells start (all but the weights from the start of the chunk).
        shape: time steps, lanes of a chunk, floats of a chunk's workspace, where the head's weights start.
        scale: of the head.
        inputs: shape (samples * steps * features,).
        indices: the batch.
        outputs: shape (output_size, lanes of all chunks), to be filled.

    Raises:
        IndexError: an index is not one of a sample.
    """
    steps, lanes, chunk_size, head = shape[0], shape[1], shape[2], shape[3]
    samples = len(inputs) // (steps * layers[0, 0])
    for index in indices:
        if index < 0 or index >= samples:  # nothing else would keep it from reading some other memory
            raise IndexError("a batch has a sample that the data has not")
    for first in range(0, len(indices), lanes):
        base = first // lanes * chunk_size
        used = min(lanes, (len(indices) - first + PAIR - 1) // PAIR * PAIR)
        features, units = layers[0, 0], layers[0, 1]
        sizes = (steps, features, features + units + 1, lanes, used)
        gather(inputs, indices, first, sizes, space, base + layers[0, 3])
        for layer in range(len(layers)):
            d, h = layers[layer, 0], layers[layer, 1]
            w, rows, gates, cells = layers[layer, 2], layers[layer, 3], layers[layer, 4], layers[layer, 5]
            row = (d + h + 1) * lanes
            top = layer + 1 == len(layers)
            row_above = 0 if top else (layers[layer + 1, 0] + layers[layer + 1, 1] + 1) * lanes
            for t in range(steps):
                at = (
                    w,
                    base + rows + t * row,
                    base + gates + t * 4 * h * lanes,
                    base + cells + t * h * lanes,
                    base + layers[layer, 6] + t * h * lanes,
                    base + rows + (t + 1) * row + d * lanes,
                    -1 if top else base + layers[layer + 1, 3] + t * row_above,
                )
                _forward_step(weights, space, at, (d, h, lanes, used), t == 0)
        last = len(layers) - 1
        d, h = layers[last, 0], layers[last, 1]
        hidden = base + layers[last, 3] + (steps * (d + h + 1) + d) * lanes
        for output in range(len(outputs)):
            w = head + output * (h + 1)
            for q in range(0, used, WIDTH):
                total = broadcast(weights, w + h)
                for unit in range(h):
                    total = fma(broadcast(weights, w + unit), load(space, hidden + unit * lanes + q), total)
                store(outputs[output], first + q, total * splat(scale))


# ------------------------------------------------ backward


@part
def _gate_gradients(space: FloatArray, at: tuple[int, ...], sizes: tuple[int, ...], from_above: bool) -> None:
    """Turn the gradient of h_t, and that of c_t from the step after, into those of the gates, in their place.

    With tc = tanh(c_t) and the derivatives of sigmoid and tanh by their values::

        dc  = dc_next + dh o (1 - tc^2)
        d_i = dc g i (1 - i)      d_f = dc c_(t-1) f (1 - f)
        d_g = dc i (1 - g^2)      d_o = dh tc o (1 - o)           dc_(t-1) = dc f

    Args:
        space: the workspace.
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
        weights: all parameters.
        space: the workspace.
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
        gradient: of all parameters, added to.
        space: the workspace.
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
        weights: all parameters.
        gradient: of all parameters, added to.
        space: the workspace.
        douts: gradients of the outputs.
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


@entry_point("void(f4[::1], f4[::1], f4[::1], i8[:, ::1], i8[::1], f4, f4[:, ::1], i8)", fused)
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
        weights: all parameters.
        gradient: to be filled.
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
