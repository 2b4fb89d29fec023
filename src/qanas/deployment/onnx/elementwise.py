"""Sums, products and functions of single values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qanas.deployment.onnx.builder import Builder, Order, Real, Value
from qanas.deployment.onnx.lowerings import Lowering
from qanas.quantization.operators.add import QuantizedAdd
from qanas.quantization.operators.base import Activation
from qanas.quantization.operators.hard_sigmoid import QuantizedHardSigmoid
from qanas.quantization.operators.hard_swish import HardSwish
from qanas.quantization.operators.leaky_relu import LeakyReLU
from qanas.quantization.operators.lookup import ElementwiseFunction, QuantizedFunction
from qanas.quantization.operators.multiply import QuantizedMultiply
from qanas.quantization.operators.quantize import QuantizedQuantize
from qanas.quantization.operators.relu import QuantizedReLU
from qanas.quantization.operators.requantize import BOUNDS
from qanas.quantization.operators.sigmoids import Logistic, Tanh
from qanas.quantization.operators.softmax import QuantizedSoftmax
from qanas.quantization.operators.with_constant import QuantizedWithConstant

FUNCTIONS: Mapping[type[ElementwiseFunction], str] = {
    HardSwish: "HardSwish",
    LeakyReLU: "LeakyRelu",
    Logistic: "Sigmoid",
    Tanh: "Tanh",
}

LARGEST_SHARE = 255.0 / 256.0
"""What the largest code of a softmax stands for. ONNX Runtime's own int8 softmax (to 1.31 at least) turns a 1 into the
smallest code (its issue 29727); it doesn't put that in place of a softmax whose result goes through a minimum."""


def activated(model: Builder, name: str, activation: Activation) -> str:
    """Append a fused activation, and return the name of its result."""
    if activation == "none":
        return name
    if activation == "relu":
        return model.node("Relu", [name])
    bounds = [model.constant(np.array(bound, np.float32)) for bound in BOUNDS[activation]]
    return model.node("Clip", [name, *bounds])


def _of_two(
    model: Builder, operator: QuantizedAdd | QuantizedMultiply, names: Sequence[str], order: Order, shape: Sequence[int]
) -> Real:
    kind = "Add" if isinstance(operator, QuantizedAdd) else "Mul"
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


def quantize(model: Builder, operator: QuantizedQuantize, inputs: Sequence[Value]) -> Real:
    """Append nothing: the real numbers are the same, the codes will be others."""
    del operator
    (source,) = inputs
    return Real(model.real(source), source.shape, source.order)


LOWERINGS: Mapping[type, Lowering] = {
    QuantizedAdd: sum_or_product,
    QuantizedFunction: function,
    QuantizedHardSigmoid: hard_sigmoid,
    QuantizedMultiply: sum_or_product,
    QuantizedQuantize: quantize,
    QuantizedReLU: relu,
    QuantizedSoftmax: softmax,
    QuantizedWithConstant: with_constant,
}
