"""The compiled way forward through an LSTM: eight samples of the batch in one register.

The usual way turns each gate into a matrix product; for a few units those are too small to be fast. Here every
instruction works on eight samples (`qanas.training.compiled.lanes`).

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

from qanas.core.compilation import entry_point, inlined, part
from qanas.training.compiled.lanes import (
    PAIR,
    WIDTH,
    FloatArray,
    IntArray,
    Lanes,
    broadcast,
    clamp,
    fma,
    gather,
    load,
    power_of_two,
    splat,
    store,
)

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
        weights: all parameters, shape (weights,).
        space: the workspace, shape (floats,).
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


@entry_point("void(f4[::1], f4[::1], i8[:, ::1], i8[::1], f4, f4[::1], i8[::1], f4[:, ::1])")
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
        weights: all parameters, shape (weights,).
        space: the workspace of all chunks.
        layers: for each layer its inputs, units, and where its weights, rows, gates, cells, tanhs, drows and
            dcells start (all but the weights from the start of the chunk).
        shape: time steps, lanes of a chunk, floats of a chunk's workspace, where the head's weights start.
        scale: of the head.
        inputs: shape (samples * steps * features,).
        indices: the batch, shape (batch,).
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
