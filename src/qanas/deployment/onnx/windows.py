"""Pools and means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qanas.deployment.onnx.builder import CHANNELS_FIRST, Builder, Real, Value
from qanas.deployment.onnx.lowerings import Lowering
from qanas.quantization.operators.mean import QuantizedMean
from qanas.quantization.operators.pool import QuantizedAveragePool, QuantizedMaxPool
from qanas.quantization.operators.window import Window


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
    QuantizedAveragePool: average_pool,
    QuantizedMaxPool: max_pool,
    QuantizedMean: mean,
}
