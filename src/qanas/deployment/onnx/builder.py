"""Collects the nodes of an ONNX model whose values are codes between QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from qanas.quantization.numbers.affine import Affine, BiasCodes, QuantizedWeights
from qanas.quantization.operators.base import Shape

OPSET = 18

IR_VERSION = 8
"""The file format that came with the set of operators."""

BATCH = "n"

Order = tuple[int, ...]
"""For each axis of a tensor, the stored axis (batch included) that it is."""


@dataclass(frozen=True)
class Real:
    """A float tensor.

    Attributes:
        name: in the model.
        shape: of one sample, as the graph stores it.
        order: of the tensor's axes.
    """

    name: str
    shape: Shape
    order: Order


@dataclass(frozen=True)
class Value:
    """A tensor of codes.

    Attributes:
        codes: its name.
        affine: parameters of the codes.
        shape: of one sample, as the graph stores it.
        order: of the tensor's axes: images are (channels, height, width) here, and nothing is moved until an operator
            needs another order.
    """

    codes: str
    affine: Affine
    shape: Shape
    order: Order

    @property
    def stored_order(self) -> Order:
        """The order of the graph."""
        return tuple(range(len(self.order)))


CHANNELS_FIRST: Order = (0, 3, 1, 2)
"""Of (rows, columns, channels)."""


class Builder:
    """The model so far.

    Attributes:
        place: what the next nodes' names begin with.
    """

    def __init__(self, taken: Iterable[str] = ()) -> None:
        """Begin; no node in between gets one of the names that are taken."""
        self.place = ""
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._made: dict[Hashable, str] = {}
        self._names: set[str] = set(taken)

    def node(self, kind: str, inputs: Sequence[str], name: str | None = None, **attributes: Any) -> str:  # noqa: ANN401
        """Append a node and return the name of its output; an input of the name "" is left out."""
        name = self._fresh(f"{self.place}.{kind}") if name is None else name
        self._nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def constant(self, values: NDArray[Any]) -> str:
        """Return the name of a stored constant of any shape.

        Each is a tensor of its own, equal or not: ONNX Runtime rewrites weights and their parameters in place, and
        refuses models in which other nodes refer to the same ones.
        """
        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.array(values, order="C"), name))
        return name

    def integers(self, values: Sequence[int]) -> str:
        """Return the name of stored sizes or positions."""
        return self.constant(np.array(values, np.int64))

    def real(self, value: Value, order: Order | None = None) -> str:
        """Return the name of a value's real numbers, in its own order of axes or another one."""
        codes = self._arranged(value, value.order if order is None else order)
        key = ("real", codes)
        if key not in self._made:
            self._made[key] = self.node("DequantizeLinear", [codes, *self._parameters(value.affine)])
        return self._made[key]

    def quantized(self, real: Real, affine: Affine) -> Value:
        """Return real numbers as codes."""
        codes = self.node("QuantizeLinear", [real.name, *self._parameters(affine)])
        return Value(codes, affine, real.shape, real.order)

    def constant_value(self, codes: NDArray[Any], affine: Affine) -> str:
        """Return the name of the real numbers of a constant's codes, any shape."""
        stored = self.constant(codes.astype(np.int8))
        return self.node("DequantizeLinear", [stored, *self._parameters(affine)])

    def weights(self, weights: QuantizedWeights, codes: NDArray[np.int8], axis: int) -> str:
        """Return the name of weights' real numbers.

        Args:
            weights: integers and scales.
            codes: the integers in the order that the operator wants, shape (..., channels, ...).
            axis: of the output channels there.
        """
        scales = _scales(weights)
        return self._scaled(codes, scales, axis)

    def bias(self, weights: QuantizedWeights, bias: BiasCodes, source: Affine) -> str:
        """Return the name of the real numbers of biases, shape (channels,), in steps of input scale x weight scale."""
        return self._scaled(bias, (_scales(weights) * np.float32(source.scale)).astype(np.float32), 0)

    def model(self, inputs: Mapping[str, Real], outputs: Mapping[str, tuple[Value, Order]]) -> bytes:
        """Return the file.

        Args:
            inputs: real numbers by their names.
            outputs: what comes out by their names, and the order of its axes in the file.
        """
        for name, (value, order) in outputs.items():
            codes = self._arranged(value, order)
            self.node("DequantizeLinear", [codes, *self._parameters(value.affine)], name=name)
        sources = [_described(name, real.shape, real.order) for name, real in inputs.items()]
        targets = [_described(name, value.shape, order) for name, (value, order) in outputs.items()]
        graph = helper.make_graph(self._nodes, "qanas", sources, targets, self._constants)
        model = helper.make_model(
            graph, producer_name="qanas", ir_version=IR_VERSION, opset_imports=[helper.make_opsetid("", OPSET)]
        )
        onnx.checker.check_model(model, full_check=True)
        return bytes(model.SerializeToString(deterministic=True))

    def _arranged(self, value: Value, order: Order) -> str:
        """Return the name of a value's codes in an order of axes, moved only where needed."""
        if value.order == order:
            return value.codes
        key = ("arranged", value.codes, order)
        if key not in self._made:
            axes = [value.order.index(axis) for axis in order]
            self._made[key] = self.node("Transpose", [value.codes], perm=axes)
        return self._made[key]

    def _parameters(self, affine: Affine) -> tuple[str, str]:
        return self.constant(np.array(affine.scale, np.float32)), self.constant(np.array(affine.zero_point, np.int8))

    def _scaled(self, codes: NDArray[Any], scales: NDArray[np.float32], axis: int) -> str:
        """Return the name of integers, any shape, times scales, one or one an entry of an axis; zero points are 0."""
        whole = len(scales) == 1
        zeros = np.zeros(() if whole else scales.shape, codes.dtype)
        stored = scales.reshape(()) if whole else scales
        inputs = [self.constant(codes), self.constant(stored), self.constant(zeros)]
        options: dict[str, Any] = {} if whole else {"axis": axis}
        return self.node("DequantizeLinear", inputs, **options)

    def _fresh(self, name: str) -> str:
        candidate, count = name, 1
        while candidate in self._names:
            count += 1
            candidate = f"{name}_{count}"
        self._names.add(candidate)
        return candidate


def _scales(weights: QuantizedWeights) -> NDArray[np.float32]:
    """Return one scale, or one an output channel, shape (1,) or (out,)."""
    if weights.groups == 1:
        return weights.scales
    return np.repeat(weights.scales, len(weights.codes) // weights.groups)


def _described(name: str, shape: Shape, order: Order) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, _sizes(shape, order))


def _sizes(shape: Shape, order: Order) -> list[str | int]:
    stored: list[str | int] = [BATCH, *shape]
    return [stored[axis] for axis in order]
