"""Writes a quantized graph as an ONNX model: the same integer weights, scales and zero points.

Values are int8 codes between QuantizeLinear and DequantizeLinear (QDQ), operators between them are ONNX's own in
floating point, which runtimes fuse into integer ones. Input and output are real numbers in the order that torch has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from qanas.deployment.onnx.builder import CHANNELS_FIRST, Builder, Order, Real, Value
from qanas.deployment.onnx.further import LOWERINGS as FURTHER
from qanas.deployment.onnx.further import Lowering, activated, without
from qanas.quantization.operators.arithmetic import QuantizedAdd, QuantizedMultiply, QuantizedWithConstant
from qanas.quantization.operators.base import QuantizedOperator, Shape
from qanas.quantization.operators.convolution import QuantizedConvolution
from qanas.quantization.operators.dense import QuantizedDense
from qanas.quantization.operators.functions import (
    Absolute,
    ElementwiseFunction,
    HardSwish,
    LeakyReLU,
    Logistic,
    QuantizedFunction,
    Tanh,
)
from qanas.quantization.operators.gru import QuantizedGRU
from qanas.quantization.operators.lstm import QuantizedLSTM
from qanas.quantization.operators.masked_softmax import QuantizedMaskedSoftmax
from qanas.quantization.operators.reductions import QuantizedMean, QuantizedSoftmax
from qanas.quantization.operators.rescaling import QuantizedHardSigmoid, QuantizedReLU
from qanas.quantization.operators.resize import QuantizedResize, ResizeBilinear, ResizeNearest
from qanas.quantization.operators.shapes import (
    Index,
    QuantizedConcatenate,
    QuantizedReshape,
    QuantizedSlice,
    QuantizedTranspose,
)
from qanas.quantization.operators.windows import QuantizedAveragePool, QuantizedMaxPool, QuantizedPad, Window
from qanas.quantization.quantized_graph import QuantizedGraph


class UnsupportedOnnxError(Exception):
    """A network with an operator that ONNX doesn't have quantized: one line with the operator's name in the graph."""


def write_onnx(quantized: QuantizedGraph) -> bytes:
    """Return the bytes of the .onnx file of a quantized graph; the batch's size is left open.

    An output that has the name of an input gets ``_out`` behind it: in ONNX each value has a name of its own.

    Raises:
        UnsupportedOnnxError: an operator that ONNX doesn't have quantized, or values of 16 bits.
    """
    graph, border = quantized.graph, quantized.graph.border
    _check_widths(quantized)
    names = {name: f"{name}_out" if name in border.input_names else name for name in border.output_names}
    model = Builder((*border.input_names, *names.values()))
    inputs: dict[str, Real] = {}
    values: dict[str, Value] = {}
    for port, (name, shape) in zip(border.inputs, graph.inputs.items(), strict=True):
        model.place = name
        inputs[port.name] = Real(port.name, shape, port.order.to_torch(len(shape) + 1))
        values[name] = model.quantized(inputs[port.name], quantized.affines[name])
    for node in graph.nodes:
        operator = quantized.operators[node.name]
        lowering = _lowering(node.name, operator)
        model.place = node.name
        result = lowering(model, operator, [values[name] for name in node.inputs])
        if result.shape != graph.shapes[node.name]:
            raise ValueError(f"{node.name}: lowered to the shape {result.shape} instead of {graph.shapes[node.name]}")
        values[node.name] = model.quantized(result, quantized.affines[node.name])
    outputs = {
        names[port.name]: (values[name], port.order.to_torch(len(graph.shapes[name]) + 1))
        for port, name in zip(border.outputs, graph.outputs, strict=True)
    }
    return model.model(inputs, outputs)


def _check_widths(quantized: QuantizedGraph) -> None:
    wide = [name for name, affine in quantized.affines.items() if affine.wide]
    if wide:
        raise UnsupportedOnnxError(
            f"{wide[0]}: values of 16 bits are not written as ONNX; export the network as tflite, or with "
            "activation_bits = 8"
        )


def _lowering(name: str, operator: QuantizedOperator) -> Lowering:
    if isinstance(operator, QuantizedLSTM | QuantizedGRU):
        kind = type(operator).__name__.removeprefix("Quantized")
        raise UnsupportedOnnxError(
            f"{name}: ONNX has no integer {kind}, only one that quantizes anew at each step; export it as tflite"
        )
    found = LOWERINGS.get(type(operator))
    if found is None:
        kind = type(operator).__name__.removeprefix("Quantized")
        raise UnsupportedOnnxError(f"{name}: {kind} has no quantized form in ONNX; export the network as tflite")
    return found


FUNCTIONS: Mapping[type[ElementwiseFunction], str] = {
    Absolute: "Abs",
    HardSwish: "HardSwish",
    LeakyReLU: "LeakyRelu",
    Logistic: "Sigmoid",
    Tanh: "Tanh",
}

LARGEST_SHARE = 255.0 / 256.0
"""What the largest code of a softmax stands for. ONNX Runtime's own int8 softmax (to 1.31 at least) turns a 1 into the
smallest code (its issue 29727); it doesn't put that in place of a softmax whose result goes through a minimum."""


KINDS_OF_TWO = {"ADD": "Add", "SUB": "Sub", "MUL": "Mul"}


def _of_two(
    model: Builder, operator: QuantizedAdd | QuantizedMultiply, names: Sequence[str], order: Order, shape: Sequence[int]
) -> Real:
    kind = KINDS_OF_TWO[operator.operator.kind]
    return Real(activated(model, model.node(kind, names), operator.operator.activation), tuple(shape), order)


def sum_or_product(model: Builder, operator: QuantizedAdd | QuantizedMultiply, inputs: Sequence[Value]) -> Real:
    """Append Add or Mul, both values in the order of the larger one."""
    order = max(inputs, key=lambda value: np.prod(value.shape)).order
    shape = [max(sizes) for sizes in zip(*(value.shape for value in inputs), strict=True)]
    return _of_two(model, operator, [model.real(value, order) for value in inputs], order, shape)


def with_constant(model: Builder, operator: QuantizedWithConstant, inputs: Sequence[Value]) -> Real:
    """Append Add or Mul with stored codes, in the order of the value."""
    (source,) = inputs
    inner = operator.operator
    if not isinstance(inner, QuantizedAdd | QuantizedMultiply):
        raise TypeError(f"{type(inner).__name__} with a constant has no lowering to ONNX")
    codes = operator.codes.numpy()
    axes = len(source.order)
    codes = codes.reshape((1,) * (axes - codes.ndim) + codes.shape).transpose(source.order)
    names = [model.real(source), model.constant_value(codes, operator.affine)]
    return _of_two(model, inner, names, source.order, source.shape)


def relu(model: Builder, operator: QuantizedReLU, inputs: Sequence[Value]) -> Real:
    """Append Relu or Clip."""
    (source,) = inputs
    return Real(activated(model, model.real(source), operator.activation), source.shape, source.order)


def function(model: Builder, operator: QuantizedFunction, inputs: Sequence[Value]) -> Real:
    """Append a function of single values."""
    (source,) = inputs
    kind = FUNCTIONS.get(type(operator.function))
    if kind is None:
        raise TypeError(f"{type(operator.function).__name__} has no lowering to ONNX")
    options: dict[str, Any] = {"alpha": operator.function.slope} if isinstance(operator.function, LeakyReLU) else {}
    return Real(model.node(kind, [model.real(source)], **options), source.shape, source.order)


def hard_sigmoid(model: Builder, operator: QuantizedHardSigmoid, inputs: Sequence[Value]) -> Real:
    """Append the sum that saturates, and the product."""
    if not isinstance(operator.shift, QuantizedWithConstant) or not isinstance(operator.scaling, QuantizedWithConstant):
        raise TypeError("a hard sigmoid is made of two operators with constants")
    shifted = model.quantized(with_constant(model, operator.shift, inputs), operator.shifted)
    return with_constant(model, operator.scaling, [shifted])


def softmax(model: Builder, operator: QuantizedSoftmax, inputs: Sequence[Value]) -> Real:
    """Append Softmax over what the graph stores last."""
    del operator
    (source,) = inputs
    axis = source.order.index(len(source.shape))
    shares = model.node("Softmax", [model.real(source)], axis=axis)
    largest = model.constant(np.array(LARGEST_SHARE, np.float32))
    return Real(model.node("Min", [shares, largest]), source.shape, source.order)


def masked_softmax(model: Builder, operator: QuantizedMaskedSoftmax, inputs: Sequence[Value]) -> Real:
    """Append what takes scores that don't count far down, and the softmax behind it."""
    if not isinstance(operator.masking, QuantizedWithConstant) or not isinstance(operator.softmax, QuantizedSoftmax):
        raise TypeError("a masked softmax is made of a sum with a constant and a softmax of 8 bits")
    scores = model.quantized(with_constant(model, operator.masking, inputs), operator.scores)
    return softmax(model, operator.softmax, [scores])


def convolution(model: Builder, operator: QuantizedConvolution, inputs: Sequence[Value]) -> Real:
    """Append Conv; its padding is that of the window."""
    (source,) = inputs
    kernel, weights = operator.kernel, operator.weights
    (above, below), (left, right) = kernel.window.read_padding(source.shape)
    codes = weights.codes.transpose(0, 3, 1, 2)
    sums = model.node(
        "Conv",
        [
            model.real(source, CHANNELS_FIRST),
            model.weights(weights, codes, axis=0),
            model.bias(weights, weights.quantize_bias(operator.bias, operator.input), operator.input),
        ],
        kernel_shape=codes.shape[2:],
        strides=kernel.window.stride,
        dilations=kernel.dilation,
        group=kernel.groups,
        pads=[above, left, below, right],
    )
    shape = (*kernel.window.positions(source.shape), len(codes))
    return Real(activated(model, sums, kernel.activation), shape, CHANNELS_FIRST)


def dense(model: Builder, operator: QuantizedDense, inputs: Sequence[Value]) -> Real:
    """Append Gemm, or MatMul and Add where there are axes beside the features."""
    (source,) = inputs
    weights = operator.weights
    real = model.real(source, source.stored_order)
    bias = model.bias(weights, weights.quantize_bias(operator.bias, operator.input), operator.input)
    if len(source.shape) == 1:
        sums = model.node("Gemm", [real, model.weights(weights, weights.codes, axis=0), bias], transB=1)
    else:
        transposed = np.ascontiguousarray(weights.codes.T)
        products = model.node("MatMul", [real, model.weights(weights, transposed, axis=1)])
        sums = model.node("Add", [products, bias])
    shape = (*source.shape[:-1], len(weights.codes))
    return Real(activated(model, sums, operator.activation), shape, source.stored_order)


SAME_BATCH = 0
"""The size that takes over the input's."""


def reshape(model: Builder, operator: QuantizedReshape, inputs: Sequence[Value]) -> Real:
    """Append Reshape, of the numbers as they are stored."""
    (source,) = inputs
    shape = operator.reshape.shape
    sizes = model.integers([SAME_BATCH, *shape])
    name = model.node("Reshape", [model.real(source, source.stored_order), sizes])
    return Real(name, shape, tuple(range(len(shape) + 1)))


def transpose(model: Builder, operator: QuantizedTranspose, inputs: Sequence[Value]) -> Real:
    """Append nothing: the tensor stays, its axes are taken for others."""
    (source,) = inputs
    axes = operator.transpose.batched_axes
    shape = operator.transpose.output_shape(source.shape)
    return Real(model.real(source), shape, tuple(axes.index(axis) for axis in source.order))


def part(model: Builder, operator: QuantizedSlice, inputs: Sequence[Value]) -> Real:
    """Append Slice, and Squeeze where axes are dropped."""
    (source,) = inputs
    indices = operator.part.indices
    taken = [_positions(entry, size) for entry, size in zip(indices, source.shape, strict=False)]
    axes = [source.order.index(number + 1) for number in range(len(taken))]
    bounds = ([positions.start for positions in taken], [positions.stop for positions in taken], axes)
    steps = [positions.step for positions in taken]
    name = model.node("Slice", [model.real(source), *map(model.integers, (*bounds, steps))])
    dropped = [number for number, entry in enumerate(indices) if isinstance(entry, int)]
    if dropped:
        name = model.node("Squeeze", [name, model.integers(sorted(axes[number] for number in dropped))])
    order = without(source.order, {number + 1 for number in dropped})
    return Real(name, operator.part.output_shape(source.shape), order)


def _positions(entry: Index, size: int) -> range:
    """Return what an index of an axis takes."""
    if isinstance(entry, int):
        start = range(size)[entry]
        return range(start, start + 1)
    return range(*entry.indices(size))


def concatenate(model: Builder, operator: QuantizedConcatenate, inputs: Sequence[Value]) -> Real:
    """Append Concat, all in the order of the first; what has other parameters is brought to the result's behind it."""
    order = inputs[0].order
    axis = order.index(operator.concatenate.axis + 1)
    name = model.node("Concat", [model.real(value, order) for value in inputs], axis=axis)
    return Real(name, operator.concatenate.output_shape(*(value.shape for value in inputs)), order)


def pad(model: Builder, operator: QuantizedPad, inputs: Sequence[Value]) -> Real:
    """Append Pad with the real number that the code stands for."""
    (source,) = inputs
    amounts = [(0, 0), *operator.pad.padding]
    pairs = [amounts[axis] for axis in source.order]
    rows = model.integers([*(before for before, _ in pairs), *(behind for _, behind in pairs)])
    fill = np.float32((operator.code - source.affine.zero_point) * source.affine.scale)
    name = model.node("Pad", [model.real(source), rows, model.constant(np.array(fill, np.float32))])
    return Real(name, operator.pad.output_shape(source.shape), source.order)


def resize(model: Builder, operator: QuantizedResize, inputs: Sequence[Value]) -> Real:
    """Append Resize of height and width, or Gather where it would not be exact."""
    (source,) = inputs
    how = operator.resize
    if not isinstance(how, ResizeNearest | ResizeBilinear):
        raise TypeError(f"{type(how).__name__} has no lowering to ONNX")
    shape: Shape = how.output_shape(source.shape)
    real = model.real(source, CHANNELS_FIRST)
    whole = all(wanted % size == 0 for size, wanted in zip(source.shape[:2], shape[:2], strict=True))
    if isinstance(how, ResizeNearest) and not whole:
        name = _gathered(model, real, how, source.shape)
    else:
        # Sizes would name the batch, too; without it, ONNX Runtime's optimizer breaks them.
        factors = [1.0, 1.0, *map(_factor, source.shape[:2], shape[:2])]
        scales = model.constant(np.array(factors, np.float32))
        name = model.node("Resize", [real, "", scales], **_options(how))
    return Real(name, shape, CHANNELS_FIRST)


def _options(how: ResizeNearest | ResizeBilinear) -> Mapping[str, str]:
    """Return how pixels lie on each other."""
    if isinstance(how, ResizeBilinear):
        corners = "align_corners" if how.aligns_corners else "half_pixel"
        return {"mode": "linear", "coordinate_transformation_mode": corners}
    if how.from_centres:
        # Half a pixel less, then rounded up from the half: the pixel whose area holds the centre.
        return {
            "mode": "nearest",
            "coordinate_transformation_mode": "half_pixel",
            "nearest_mode": "round_prefer_ceil",
        }
    return {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}


def _gathered(model: Builder, name: str, how: ResizeNearest, shape: Shape) -> str:
    """Append the rows and columns that the graph takes: float32 factors that are not whole lead to others."""
    height, width = shape[:2]
    rows = how.resize_codes(torch.arange(height).reshape(1, -1, 1, 1).expand(1, height, width, 1))[0, :, 0, 0]
    columns = how.resize_codes(torch.arange(width).reshape(1, 1, -1, 1).expand(1, height, width, 1))[0, 0, :, 0]
    taken = model.node("Gather", [name, model.integers(rows.tolist())], axis=CHANNELS_FIRST.index(1))
    return model.node("Gather", [taken, model.integers(columns.tolist())], axis=CHANNELS_FIRST.index(2))


def _factor(size: int, wanted: int) -> np.float32:
    """Return the factor by which runtimes come from one size to the other, rounding down."""
    factor = np.float32(wanted / size)
    while float(factor) * size < wanted:
        factor = np.nextafter(factor, np.float32(np.inf))
    return factor


def max_pool(model: Builder, operator: QuantizedMaxPool, inputs: Sequence[Value]) -> Real:
    """Append MaxPool, whose padding is smaller than anything."""
    return _pooled(model, "MaxPool", operator.pool.window, inputs[0])


def average_pool(model: Builder, operator: QuantizedAveragePool, inputs: Sequence[Value]) -> Real:
    """Append AveragePool, with or without its padding."""
    pool = operator.pool
    return _pooled(model, "AveragePool", pool.window, inputs[0], count_include_pad=int(pool.counts_padding))


def _pooled(model: Builder, kind: str, window: Window, source: Value, **options: Any) -> Real:  # noqa: ANN401 - passed on
    (above, below), (left, right) = window.read_padding(source.shape)
    name = model.node(
        kind,
        [model.real(source, CHANNELS_FIRST)],
        kernel_shape=window.size,
        strides=window.stride,
        pads=[above, left, below, right],
        **options,
    )
    return Real(name, (*window.positions(source.shape), source.shape[-1]), CHANNELS_FIRST)


def mean(model: Builder, operator: QuantizedMean, inputs: Sequence[Value]) -> Real:
    """Append ReduceMean."""
    (source,) = inputs
    reduced = operator.mean
    axes = model.integers(sorted(source.order.index(axis) for axis in reduced.batched_axes))
    name = model.node("ReduceMean", [model.real(source), axes], keepdims=int(reduced.keeps_axes))
    order = source.order
    if not reduced.keeps_axes:
        left = sorted(set(order) - set(reduced.batched_axes))
        order = tuple(left.index(axis) for axis in order if axis in left)
    return Real(name, reduced.output_shape(source.shape), order)


LOWERINGS: Mapping[type, Lowering] = {
    **FURTHER,
    QuantizedAdd: sum_or_product,
    QuantizedAveragePool: average_pool,
    QuantizedConcatenate: concatenate,
    QuantizedConvolution: convolution,
    QuantizedDense: dense,
    QuantizedFunction: function,
    QuantizedHardSigmoid: hard_sigmoid,
    QuantizedMaxPool: max_pool,
    QuantizedMean: mean,
    QuantizedMultiply: sum_or_product,
    QuantizedPad: pad,
    QuantizedReLU: relu,
    QuantizedReshape: reshape,
    QuantizedResize: resize,
    QuantizedSlice: part,
    QuantizedMaskedSoftmax: masked_softmax,
    QuantizedSoftmax: softmax,
    QuantizedTranspose: transpose,
    QuantizedWithConstant: with_constant,
}
"""Every operator that ONNX has quantized."""
