"""Writes a program as a .tflite file, straight into the flatbuffer: no converter framework.

Rules of the format that are easily missed: both builtin-code fields are set, buffer 0 is empty, constants are
aligned to 16 bytes, and scales and zero points have equal length. Inputs and outputs have names, which a signature
lists (some 170 bytes); tensors in between have none. What is equal by construction is written once; what is equal by
chance is not, so that the size depends on shapes and names alone and is known before any weight exists.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from qanas.deployment.operators import kind_of
from qanas.quantization.program import (
    ALIGNMENT,
    DType,
    Program,
    RuntimeOperator,
    RuntimeTensor,
    TensorQuantization,
)

FILE_IDENTIFIER = b"TFL3"
SCHEMA_VERSION = 3
ABSENT = -1
"""The index that stands for an optional input left out."""

MAX_DEPRECATED_CODE = 127
"""The old builtin-code field has 8 bits; larger codes put this there."""

SIGNATURE = "serving_default"
"""The name by which runtimes look for a signature, unless they are told another."""

TENSOR_TYPES: Mapping[DType, int] = {
    "int4": schema.TensorType.INT4,
    "int8": schema.TensorType.INT8,
    "int16": schema.TensorType.INT16,
    "int32": schema.TensorType.INT32,
    "int64": schema.TensorType.INT64,
    "float32": schema.TensorType.FLOAT32,
}


def write_tflite(program: Program) -> bytes:
    """Return the bytes of the .tflite file of a program.

    Raises:
        ValueError: a kind of operator that is not in `OPERATOR_KINDS`.
    """
    return _Writer(program).write()


class _Writer:
    """Builds one file, children first, as flatbuffers want it."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.builder = flatbuffers.Builder(4096)
        self.written: dict[Hashable, int] = {}
        self.tensors = program.tensors()
        self.index = {id(tensor): position for position, tensor in enumerate(self.tensors)}
        border = [*program.outputs.items(), *program.inputs.items()]
        self.names = {id(tensor): name for name, tensor in border}
        self.kinds = sorted({(operator.kind, operator.version) for operator in program.operators})

    def write(self) -> bytes:
        """Write everything."""
        # Constants first: later parts then lie in front of them, whatever their size.
        buffers = self._buffers()
        subgraphs = self._offsets([self._subgraph()])
        codes = self._offsets([self._operator_code(kind, version) for kind, version in self.kinds])
        signatures = self._offsets([self._signature()])
        model = self._table(
            "Model",
            Version=SCHEMA_VERSION,
            OperatorCodes=codes,
            Subgraphs=subgraphs,
            Buffers=buffers,
            SignatureDefs=signatures,
        )
        self.builder.Finish(model, FILE_IDENTIFIER)
        return bytes(self.builder.Output())

    # Flatbuffer pieces

    def _once(self, key: Hashable, write: Callable[[], int]) -> int:
        """Write a piece once; later uses of the same key refer to it."""
        if key not in self.written:
            self.written[key] = write()
        return self.written[key]

    def _table(self, name: str, **fields: float | bool | None) -> int:
        """Write a table with the given fields; None leaves a field out."""
        getattr(schema, f"{name}Start")(self.builder)
        for field, value in fields.items():
            if value is not None:
                getattr(schema, f"{name}Add{field}")(self.builder, value)
        return int(getattr(schema, f"{name}End")(self.builder))

    def _vector(self, values: NDArray[Any]) -> int:
        return int(self.builder.CreateNumpyVector(np.ascontiguousarray(values)))

    def _integers(self, values: Sequence[int]) -> int:
        """Write int32 values that follow from the structure: shapes and indices."""
        return self._once(("integers", *values), lambda: self._vector(np.array(values, np.int32)))

    def _offsets(self, offsets: Sequence[int]) -> int:
        self.builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self.builder.PrependUOffsetTRelative(offset)
        return int(self.builder.EndVector())

    # Parts of the model

    def _buffers(self) -> int:
        empty = self._table("Buffer")
        filled = [self._table("Buffer", Data=self._aligned(_stored(tensor))) for tensor in self.program.constants()]
        return self._offsets([empty, *filled])

    def _aligned(self, raw: bytes) -> int:
        """Write the bytes of a constant so that kernels can read it in place."""
        builder = self.builder
        builder.StartVector(1, len(raw), ALIGNMENT)
        builder.head -= len(raw)
        builder.Bytes[builder.head : builder.head + len(raw)] = raw
        return int(builder.EndVector())

    def _subgraph(self) -> int:
        buffer_of = {id(tensor): position for position, tensor in enumerate(self.program.constants(), start=1)}
        tensors = [self._tensor(tensor, buffer_of.get(id(tensor), 0)) for tensor in self.tensors]
        operators = [self._operator(operator) for operator in self.program.operators]
        inputs = self._positions(list(self.program.inputs.values()))
        outputs = self._positions(list(self.program.outputs.values()))
        listed_tensors, listed_operators = self._offsets(tensors), self._offsets(operators)
        return self._table(
            "SubGraph", Tensors=listed_tensors, Inputs=inputs, Outputs=outputs, Operators=listed_operators
        )

    def _signature(self) -> int:
        inputs, outputs = (
            self._offsets(
                [
                    self._table("TensorMap", Name=self._name(name), TensorIndex=self.index[id(tensor)])
                    for name, tensor in side.items()
                ]
            )
            for side in (self.program.inputs, self.program.outputs)
        )
        key = self._name(SIGNATURE)
        return self._table("SignatureDef", Inputs=inputs, Outputs=outputs, SignatureKey=key)

    def _name(self, name: str) -> int:
        return self._once(("name", name), lambda: int(self.builder.CreateString(name)))

    def _tensor(self, tensor: RuntimeTensor, buffer: int) -> int:
        name = self.names.get(id(tensor))
        named = None if name is None else self._name(name)
        shape = self._integers(tensor.shape)
        quantization = None if tensor.quantization is None else self._quantization(tensor.quantization)
        return self._table(
            "Tensor",
            Shape=shape,
            Type=TENSOR_TYPES[tensor.dtype],
            Buffer=buffer,
            Name=named,
            Quantization=quantization,
            IsVariable=tensor.variable,
        )

    def _quantization(self, quantization: TensorQuantization) -> int:
        def write() -> int:
            scales = self._vector(quantization.scales)
            points = quantization.zero_points
            # Zeros of symmetric tensors are one vector; other zero points are nobody else's, equal or not.
            key = ("zeros", len(points)) if quantization.symmetric else ("points", id(quantization))
            zero_points = self._once(key, lambda: self._vector(points))
            axis = quantization.axis or None
            return self._table("QuantizationParameters", Scale=scales, ZeroPoint=zero_points, QuantizedDimension=axis)

        return self._once(("quantization", id(quantization)), write)

    def _operator_code(self, kind: str, version: int) -> int:
        code = getattr(schema.BuiltinOperator, kind)
        return self._table(
            "OperatorCode",
            DeprecatedBuiltinCode=min(code, MAX_DEPRECATED_CODE),
            BuiltinCode=code,
            Version=version,
        )

    def _positions(self, tensors: Sequence[RuntimeTensor | None]) -> int:
        return self._integers([ABSENT if tensor is None else self.index[id(tensor)] for tensor in tensors])

    def _operator(self, operator: RuntimeOperator) -> int:
        inputs, outputs = self._positions(operator.inputs), self._positions(operator.outputs)
        intermediates = self._positions(operator.intermediates) if operator.intermediates else None
        table = kind_of(operator.kind).options
        options = None if table is None else self._options(table, operator.options)
        return self._table(
            "Operator",
            OpcodeIndex=self.kinds.index((operator.kind, operator.version)),
            Inputs=inputs,
            Outputs=outputs,
            BuiltinOptionsType=None if table is None else getattr(schema.BuiltinOptions, table),
            BuiltinOptions=options,
            Intermediates=intermediates,
        )

    def _options(self, table: str, options: Mapping[str, int | float | bool]) -> int:
        fields = {name[0].upper() + name[1:]: value for name, value in options.items()}
        return self._once((table, *fields.items()), lambda: self._table(table, **fields))


def _stored(tensor: RuntimeTensor) -> bytes:
    """Return the bytes of a constant."""
    values = np.ascontiguousarray(tensor.data)
    return (pack_int4(values) if tensor.dtype == "int4" else values).tobytes()


def pack_int4(codes: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Return codes of any shape, -8 to 7, two to a byte, the first in its lower half; an odd number leaves half a byte.

    >>> pack_int4(np.array([1, -1, 7], np.int8)).tobytes().hex()
    'f107'
    """
    halves: NDArray[np.uint8] = codes.reshape(-1).view(np.uint8) & np.uint8(0x0F)
    packed = halves[::2].copy()
    packed[: len(halves) // 2] |= halves[1::2] << np.uint8(4)
    return packed
