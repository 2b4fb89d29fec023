"""A program for an integer runtime: tensors and operators as a .tflite file holds them.

Quantized operators are lowered to it; the exporter writes it, and costs in bytes are read off it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from qanas.quantization.numbers.affine import Affine, BiasCodes, QuantizedWeights

DType = Literal["int4", "int8", "int16", "int32", "int64", "float32"]
ITEM_BITS: Mapping[DType, int] = {"int4": 4, "int8": 8, "int16": 16, "int32": 32, "int64": 64, "float32": 32}

CODE_TYPES: Mapping[int, DType] = {8: "int8", 16: "int16"}
"""The type of codes, by their bits."""

WEIGHT_TYPES: tuple[DType, ...] = ("int4", "int8", "int16", "float32")
"""Types of weights, and of none of the integers that biases are."""

COMMON_VERSIONS: Mapping[DType, int] = {"float32": 1, "int8": 2, "int16": 3}
"""The version of most operators, by the type of their values."""


def bytes_of(elements: int, dtype: DType) -> int:
    """Return the bytes of values that lie one behind the other; of an odd number of 4 bits half a byte is left.

    >>> bytes_of(5, "int4"), bytes_of(5, "int16")
    (3, 10)
    """
    return -(-elements * ITEM_BITS[dtype] // 8)


ALIGNMENT = 16
"""Of constants in a file, and of everything in a runtime's memory."""


def aligned(size: int) -> int:
    """Round bytes up to a multiple of the alignment.

    >>> aligned(17)
    32
    """
    return -(-size // ALIGNMENT) * ALIGNMENT


@dataclass(frozen=True, eq=False)
class TensorQuantization:
    """Scales and zero points of a stored tensor.

    Attributes:
        scales: float32, shape (1,) or (channels,).
        zero_points: int64, of the same shape.
        axis: the axis of the channels.
    """

    scales: NDArray[np.float32]
    zero_points: NDArray[np.int64]
    axis: int = 0

    @classmethod
    def of(cls, affine: Affine) -> TensorQuantization:
        """Return an activation's parameters."""
        return cls(np.array([affine.scale], np.float32), np.array([affine.zero_point], np.int64))

    @property
    def symmetric(self) -> bool:
        """Whether the kind of tensor, not chance, makes every zero point 0."""
        return False


@dataclass(frozen=True, eq=False)
class SymmetricQuantization(TensorQuantization):
    """Scales of a tensor whose zero points are 0 by construction: weights, biases, int16 states."""

    @classmethod
    def with_scales(cls, scales: NDArray[np.float32], axis: int = 0) -> SymmetricQuantization:
        """Return the parameters of a symmetric tensor."""
        return cls(scales, np.zeros(len(scales), np.int64), axis)

    @property
    def symmetric(self) -> bool:
        """Whether the kind of tensor, not chance, makes every zero point 0."""
        return True


@dataclass(frozen=True, eq=False)
class RuntimeTensor:
    """A tensor of the program; tensors are told apart by identity.

    Attributes:
        shape: with the batch of 1 in front, where it is an activation.
        dtype: how it is stored.
        quantization: None for indices and float tensors.
        data: the values of a constant, int4 ones as int8: the file packs them.
        bits: bits that a value needs; fewer than stored for few-bit weights.
        variable: whether it keeps its value between invocations (the state of an LSTM).
    """

    shape: tuple[int, ...]
    dtype: DType
    quantization: TensorQuantization | None = None
    data: NDArray[Any] | None = None
    bits: int = 0
    variable: bool = False

    @property
    def elements(self) -> int:
        """The number of values."""
        return int(np.prod(self.shape, dtype=np.int64))

    def equals(self, other: RuntimeTensor) -> bool:
        """Tell whether both are constants of the same type, values, scales and zero points."""
        if (self.shape, self.dtype, self.bits) != (other.shape, other.dtype, other.bits):
            return False
        if self.data is None or other.data is None or not np.array_equal(self.data, other.data):
            return False
        one, two = self.quantization, other.quantization
        if one is None or two is None:
            return one is two
        return np.array_equal(one.scales, two.scales) and np.array_equal(one.zero_points, two.zero_points)

    @property
    def stored_bytes(self) -> int:
        """Bytes that the values take."""
        return bytes_of(self.elements, self.dtype)

    @classmethod
    def weights(cls, weights: QuantizedWeights, shape: Sequence[int] | None = None) -> RuntimeTensor:
        """Return weights in their container, in another shape (not another order) if asked for."""
        codes = weights.codes if shape is None else weights.codes.reshape(shape)
        quantization = SymmetricQuantization.with_scales(weights.scales, weights.axis)
        return cls(codes.shape, weights.container, quantization, codes, weights.bits)

    @classmethod
    def codes(cls, codes: NDArray[Any], affine: Affine) -> RuntimeTensor:
        """Return stored codes with parameters of their own."""
        dtype = CODE_TYPES[affine.bits]
        return cls(codes.shape, dtype, TensorQuantization.of(affine), codes.astype(dtype), affine.bits)

    @classmethod
    def bias(cls, codes: BiasCodes, scales: NDArray[np.float32]) -> RuntimeTensor:
        """Return biases in the accumulator's unit and type."""
        dtype: DType = "int64" if codes.dtype == np.int64 else "int32"
        return cls(codes.shape, dtype, SymmetricQuantization.with_scales(scales), codes, ITEM_BITS[dtype])

    @classmethod
    def constant(cls, data: NDArray[Any]) -> RuntimeTensor:
        """Return a constant without quantization: indices, biases of an LSTM, float weights."""
        dtype: DType = "int32" if data.dtype == np.int32 else "float32"
        if data.dtype not in (np.int32, np.float32):
            raise TypeError(f"constants are int32 or float32, not {data.dtype}")
        return cls(data.shape, dtype, None, data, 32)


@dataclass(frozen=True, eq=False)
class RuntimeOperator:
    """One operator of the runtime.

    Attributes:
        kind: the name of the builtin operator, such as ``FULLY_CONNECTED``.
        version: the operator's version for these types.
        inputs: tensors; None where an optional input is left out.
        outputs: tensors.
        options: the fields of the operator's option table, by their name in the schema.
        intermediates: tensors that hold only the quantization of values inside the operator.
    """

    kind: str
    version: int
    inputs: Sequence[RuntimeTensor | None]
    outputs: Sequence[RuntimeTensor]
    options: Mapping[str, int | float | bool] = field(default_factory=dict)
    intermediates: Sequence[RuntimeTensor] = ()


@dataclass
class Program:
    """A straight-line program from inputs to outputs.

    Attributes:
        inputs: by the network's names for them, with the batch of 1 in front.
        outputs: likewise.
        operators: in the order of execution.
        origin: of the weights of what is appended (`Node.origin`); equal ones of one origin become one tensor.
        layer: the network's name for what is appended.
        layers: that name for every operator; empty ones where nobody told.
    """

    inputs: Mapping[str, RuntimeTensor]
    outputs: Mapping[str, RuntimeTensor]
    operators: list[RuntimeOperator] = field(default_factory=list)
    origin: str = ""
    layer: str = ""
    layers: list[str] = field(default_factory=list)
    _weights: dict[tuple[str, int], list[RuntimeTensor]] = field(default_factory=dict)
    _indices: dict[tuple[tuple[int, ...], bytes], RuntimeTensor] = field(default_factory=dict)

    def indices(self, values: Sequence[int] | Sequence[Sequence[int]]) -> RuntimeTensor:
        """Return a constant that follows from shapes alone (sizes, positions); equal ones are one tensor."""
        data = np.array(values, np.int32)
        return self._indices.setdefault((data.shape, data.tobytes()), RuntimeTensor.constant(data))

    def append(self, operator: RuntimeOperator) -> None:
        """Add an operator at the end, with the weights of an earlier one in place of its own if they are the same."""
        if self.origin:
            inputs = [self._stored_once(place, tensor) for place, tensor in enumerate(operator.inputs)]
            operator = replace(operator, inputs=inputs)
        self.operators.append(operator)
        self.layers.append(self.layer)

    def _stored_once(self, place: int, tensor: RuntimeTensor | None) -> RuntimeTensor | None:
        """Return the tensor, or the equal one of the same origin that another operator has.

        Biases are codes in steps of their operator's input: these are equal by chance alone.
        """
        if tensor is None or tensor.data is None or tensor.dtype not in WEIGHT_TYPES:
            return tensor
        known = self._weights.setdefault((self.origin, place), [])
        for other in known:
            if other.equals(tensor):
                return other
        known.append(tensor)
        return tensor

    def tensors(self) -> list[RuntimeTensor]:
        """Return every tensor once, in the order of first use."""
        seen: dict[int, RuntimeTensor] = {id(tensor): tensor for tensor in self.inputs.values()}
        for operator in self.operators:
            for tensor in (*operator.inputs, *operator.intermediates, *operator.outputs):
                if tensor is not None:
                    seen.setdefault(id(tensor), tensor)
        for tensor in self.outputs.values():
            seen.setdefault(id(tensor), tensor)
        return list(seen.values())

    def constants(self) -> list[RuntimeTensor]:
        """Return the tensors whose values the file stores."""
        return [tensor for tensor in self.tensors() if tensor.data is not None]


def append_reshape(program: Program, source: RuntimeTensor, output: RuntimeTensor) -> None:
    """Append RESHAPE."""
    program.append(RuntimeOperator("RESHAPE", 1, [source, program.indices(output.shape)], [output]))
