"""Convolutions and dense layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from qanas.deployment.onnx.builder import CHANNELS_FIRST, Builder, Real, Value
from qanas.deployment.onnx.elementwise import activated
from qanas.deployment.onnx.lowerings import Lowering
from qanas.quantization.operators.conv import QuantizedConvolution
from qanas.quantization.operators.dense import QuantizedDense


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


LOWERINGS: Mapping[type, Lowering] = {QuantizedConvolution: convolution, QuantizedDense: dense}
