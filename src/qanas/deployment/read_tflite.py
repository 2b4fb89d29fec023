"""Reads a .tflite file of qanas as the program that it was written from: the inverse of `tflite.write_tflite`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from qanas.deployment.tflite import ABSENT, TENSOR_TYPES
from qanas.quantization.border import Border
from qanas.quantization.program import (
    ITEM_BITS,
    DType,
    Program,
    RuntimeOperator,
    RuntimeTensor,
    TensorQuantization,
)

DTYPES: Mapping[int, DType] = {number: dtype for dtype, number in TENSOR_TYPES.items()}
"""Types of tensors by their number in the file."""


def read_program(content: bytes, border: Border | None = None) -> Program:
    """Return the program of a .tflite file.

    Args:
        content: the file.
        border: how inputs and outputs are called; None: as in the file.
    """
    model = schema.Model.GetRootAs(content)
    graph, names = model.Subgraphs(0), operator_names()
    tensors = [_tensor(model, graph.Tensors(index)) for index in range(graph.TensorsLength())]
    inputs, outputs = graph.InputsAsNumpy().tolist(), graph.OutputsAsNumpy().tolist()
    called = (border.input_names, border.output_names) if border else (_names(graph, inputs), _names(graph, outputs))
    program = Program(_by_name(called[0], inputs, tensors), _by_name(called[1], outputs, tensors))
    for index in range(graph.OperatorsLength()):
        operator = graph.Operators(index)
        code = model.OperatorCodes(operator.OpcodeIndex())
        program.operators.append(
            RuntimeOperator(
                names[code.BuiltinCode()],
                code.Version(),
                [tensors[at] if at != ABSENT else None for at in operator.InputsAsNumpy()],
                [tensors[at] for at in operator.OutputsAsNumpy()],
                _options(operator),
                [tensors[at] for at in operator.IntermediatesAsNumpy()] if operator.IntermediatesLength() else (),
            )
        )
    return program


def operator_names() -> Mapping[int, str]:
    """Return the names of builtin operators by their number."""
    return {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}


def _names(graph: schema.SubGraph, positions: Sequence[int]) -> list[str]:
    return [graph.Tensors(position).Name().decode() for position in positions]


def _by_name(
    names: Sequence[str], positions: Sequence[int], tensors: Sequence[RuntimeTensor]
) -> dict[str, RuntimeTensor]:
    return {name: tensors[position] for name, position in zip(names, positions, strict=True)}


def _tensor(model: schema.Model, tensor: schema.Tensor) -> RuntimeTensor:
    shape, dtype = tuple(map(int, tensor.ShapeAsNumpy())) if tensor.ShapeLength() else (), DTYPES[tensor.Type()]
    quantization = tensor.Quantization()
    return RuntimeTensor(
        shape,
        dtype,
        None if quantization is None or not quantization.ScaleLength() else _quantization(quantization),
        _values(model.Buffers(tensor.Buffer()), shape, dtype),
        ITEM_BITS[dtype],
        bool(tensor.IsVariable()),
    )


def _quantization(quantization: schema.QuantizationParameters) -> TensorQuantization:
    scales, points = quantization.ScaleAsNumpy(), quantization.ZeroPointAsNumpy()
    return TensorQuantization(scales, points, quantization.QuantizedDimension())


def _values(buffer: schema.Buffer, shape: tuple[int, ...], dtype: DType) -> NDArray[Any] | None:
    """Return a constant, of its shape; None for what is computed."""
    if not buffer.DataLength():
        return None
    raw = buffer.DataAsNumpy()
    values = _unpacked(raw, shape) if dtype == "int4" else raw.view(dtype)
    return values.reshape(shape)


def _unpacked(packed: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.int8]:
    """Return codes of 4 bits as int8, shape (numbers of the shape,), from two a byte, the first in its lower half."""
    lower, upper = (packed << 4).view(np.int8) >> 4, packed.view(np.int8) >> 4
    codes: NDArray[np.int8] = np.stack([lower, upper], axis=1).reshape(-1)[: int(np.prod(shape, dtype=np.int64))]
    return codes


def _options(operator: schema.Operator) -> dict[str, int | float | bool]:
    """Return all fields of an operator's option table, those that the writer left at their default as well."""
    found = schema.BuiltinOptionsCreator(operator.BuiltinOptionsType(), operator.BuiltinOptions())
    return {} if found is None else {name: value for name, value in vars(found).items() if value is not None}
