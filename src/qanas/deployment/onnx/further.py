"""What attention, decoders and activations of any kind are in ONNX."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from qanas.deployment.onnx.builder import CHANNELS_FIRST, Builder, Order, Real, Value
from qanas.quantization.numbers.requantization import BOUNDS, Activation
from qanas.quantization.operators.base import QuantizedOperator
from qanas.quantization.operators.extremes import Extreme, QuantizedClamp, QuantizedExtremeOfTwo
from qanas.quantization.operators.log_softmax import QuantizedLogSoftmax
from qanas.quantization.operators.matrix import QuantizedMatrixProduct
from qanas.quantization.operators.moves import DepthToSpace, MirrorPad, Move, Moved, Repeat, Reverse, SpaceToDepth
from qanas.quantization.operators.prelu import QuantizedParametricReLU
from qanas.quantization.operators.rescaling import QuantizedQuantize
from qanas.quantization.operators.tables import QuantizedTable
from qanas.quantization.operators.transposed import QuantizedTransposedConvolution

Lowering = Callable[..., Real]
"""Called with the builder, the quantized operator and the values that it takes; returns the real result."""


def activated(model: Builder, name: str, activation: Activation) -> str:
    """Append a fused activation, and return the name of its result."""
    if activation == "none":
        return name
    if activation == "relu":
        return model.node("Relu", [name])
    bounds = [model.constant(np.array(bound, np.float32)) for bound in BOUNDS[activation]]
    return model.node("Clip", [name, *bounds])


def rescaled(model: Builder, operator: QuantizedQuantize, inputs: Sequence[Value]) -> Real:
    """Append nothing: the real numbers are the same, the codes will be others."""
    del operator
    (source,) = inputs
    return Real(model.real(source), source.shape, source.order)


def clamp(model: Builder, operator: QuantizedClamp, inputs: Sequence[Value]) -> Real:
    """Append Clip: ONNX Runtime leaves out a change of codes that saturates."""
    (source,) = inputs
    bounds = [model.constant(np.array(bound, np.float32)) for bound in operator.output.span]
    return Real(model.node("Clip", [model.real(source), *bounds]), source.shape, source.order)


def without(order: Order, dropped: set[int]) -> Order:
    """Return the order of the axes that are left, numbered anew."""
    left = sorted(set(order) - dropped)
    return tuple(left.index(axis) for axis in order if axis not in dropped)


def moved(model: Builder, operator: Moved, inputs: Sequence[Value]) -> Real:
    """Append what a move is."""
    (source,) = inputs
    result: Real = MOVES[type(operator.move)](model, operator.move, source)
    return result


def _reverse(model: Builder, move: Reverse, source: Value) -> Real:
    axis = source.order.index(move.axis + 1)
    bounds = ([-1], [np.iinfo(np.int64).min], [axis], [-1])
    return Real(model.node("Slice", [model.real(source), *map(model.integers, bounds)]), source.shape, source.order)


def _repeat(model: Builder, move: Repeat, source: Value) -> Real:
    sizes = [1, *move.shape]
    name = model.node("Expand", [model.real(source), model.integers([sizes[axis] for axis in source.order])])
    return Real(name, move.shape, source.order)


def _mirror(model: Builder, move: MirrorPad, source: Value) -> Real:
    amounts = [(0, 0), *move.padding]
    pairs = [amounts[axis] for axis in source.order]
    rows = model.integers([*(before for before, _ in pairs), *(behind for _, behind in pairs)])
    name = model.node("Pad", [model.real(source), rows], mode="reflect")
    return Real(name, move.output_shape(source.shape), source.order)


def _blocks(model: Builder, move: DepthToSpace, source: Value) -> Real:
    name = model.node("DepthToSpace", [model.real(source, CHANNELS_FIRST)], blocksize=move.block, mode="DCR")
    return Real(name, move.output_shape(source.shape), CHANNELS_FIRST)


def _from_blocks(model: Builder, move: SpaceToDepth, source: Value) -> Real:
    name = model.node("SpaceToDepth", [model.real(source, CHANNELS_FIRST)], blocksize=move.block)
    return Real(name, move.output_shape(source.shape), CHANNELS_FIRST)


def _extreme(model: Builder, move: Extreme, source: Value) -> Real:
    reduced = {axis + 1 for axis in move.axes}
    axes = model.integers(sorted(source.order.index(axis) for axis in reduced))
    kind = "ReduceMax" if move.side == "largest" else "ReduceMin"
    name = model.node(kind, [model.real(source), axes], keepdims=int(move.keeps_axes))
    order = source.order if move.keeps_axes else without(source.order, reduced)
    return Real(name, move.output_shape(source.shape), order)


MOVES: Mapping[type[Move], Callable[..., Real]] = {
    DepthToSpace: _blocks,
    Extreme: _extreme,
    MirrorPad: _mirror,
    Repeat: _repeat,
    Reverse: _reverse,
    SpaceToDepth: _from_blocks,
}


def extreme_of_two(model: Builder, operator: QuantizedExtremeOfTwo, inputs: Sequence[Value]) -> Real:
    """Append Max or Min, both values in the order of the larger one."""
    order = max(inputs, key=lambda value: np.prod(value.shape)).order
    kind = "Max" if operator.extreme.side == "largest" else "Min"
    name = model.node(kind, [model.real(value, order) for value in inputs])
    return Real(name, operator.extreme.output_shape(*(value.shape for value in inputs)), order)


def table(model: Builder, operator: QuantizedTable, inputs: Sequence[Value]) -> Real:
    """Append what takes the results from a table by codes."""
    (source,) = inputs
    # ONNX counts positions in int32 or int64; its types are numbers there.
    whole = model.node("Cast", [source.codes], to=INT32)
    half = model.constant(np.array(len(operator.values) // 2, np.int32))
    values = operator.output.dequantize(operator.values).numpy().astype(np.float32)
    name = model.node("Gather", [model.constant(values), model.node("Add", [whole, half])], axis=0)
    return Real(name, source.shape, source.order)


INT32 = 6


def parametric_relu(model: Builder, operator: QuantizedParametricReLU, inputs: Sequence[Value]) -> Real:
    """Append PRelu with stored slopes."""
    (source,) = inputs
    codes = operator.slopes.numpy()
    codes = codes.reshape((1,) * (len(source.order) - 1) + codes.shape).transpose(source.order)
    name = model.node("PRelu", [model.real(source), model.constant_value(codes, operator.affine)])
    return Real(name, source.shape, source.order)


def log_softmax(model: Builder, operator: QuantizedLogSoftmax, inputs: Sequence[Value]) -> Real:
    """Append LogSoftmax over what the graph stores last."""
    del operator
    (source,) = inputs
    axis = source.order.index(len(source.shape))
    return Real(model.node("LogSoftmax", [model.real(source)], axis=axis), source.shape, source.order)


def matrix_product(model: Builder, operator: QuantizedMatrixProduct, inputs: Sequence[Value]) -> Real:
    """Append MatMul; of the second matrix, columns come last there."""
    first, second = inputs
    *leading, columns, inner = second.stored_order
    names = [model.real(first, first.stored_order), model.real(second, (*leading, inner, columns))]
    shape = operator.product.output_shape(first.shape, second.shape)
    return Real(model.node("MatMul", names), shape, first.stored_order)


def transposed_convolution(model: Builder, operator: QuantizedTransposedConvolution, inputs: Sequence[Value]) -> Real:
    """Append ConvTranspose, which cuts off what is not kept."""
    (source,) = inputs
    spread, weights = operator.spread, operator.weights
    codes = weights.codes.transpose(3, 0, 1, 2)
    taps = codes.shape[2:]
    behind = [
        (count - 1) * step + tap - cut - size
        for count, step, tap, cut, size in zip(
            source.shape, spread.stride, taps, spread.front, spread.size, strict=False
        )
    ]
    sums = model.node(
        "ConvTranspose",
        [
            model.real(source, CHANNELS_FIRST),
            model.weights(weights, codes, axis=1),
            model.bias(weights, weights.quantize_bias(operator.bias, operator.input), operator.input),
        ],
        kernel_shape=taps,
        strides=spread.stride,
        pads=[*spread.front, *(max(rows, 0) for rows in behind)],
        output_padding=[max(-rows, 0) for rows in behind],
    )
    shape = (*spread.size, len(weights.codes))
    return Real(activated(model, sums, spread.activation), shape, CHANNELS_FIRST)


LOWERINGS: Mapping[type[QuantizedOperator], Lowering] = {
    Moved: moved,
    QuantizedClamp: clamp,
    QuantizedExtremeOfTwo: extreme_of_two,
    QuantizedLogSoftmax: log_softmax,
    QuantizedMatrixProduct: matrix_product,
    QuantizedParametricReLU: parametric_relu,
    QuantizedQuantize: rescaled,
    QuantizedTable: table,
    QuantizedTransposedConvolution: transposed_convolution,
}
