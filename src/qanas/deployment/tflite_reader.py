"""Reads a .tflite file back into the program that it holds: whoever wrote it, a profile or a table can be made of it.

What a file doesn't tell is lost: how many bits of a byte few-bit weights need, and which zero points are 0 by
construction.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from qanas.core.errors import InputError
from qanas.deployment.tflite import FILE_IDENTIFIER, TENSOR_TYPES
from qanas.quantization.border import Border
from qanas.quantization.program import (
    ITEM_BITS,
    DType,
    Program,
    RuntimeOperator,
    RuntimeTensor,
    TensorQuantization,
    bytes_of,
)

_DTYPES: Mapping[int, DType] = {code: name for name, code in TENSOR_TYPES.items()}

_KINDS: Mapping[int, str] = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}


def read_tflite(content: bytes, border: Border | None = None) -> Program:
    """Return the program of a .tflite file: of its first subgraph, with its constants.

    Tensors keep their names only where they are inputs or outputs; options have the schema's names, and those are there
    that the writer left at their default.

    Args:
        content: the file.
        border: how inputs and outputs are called; None: as in the file.

    Raises:
        InputError: it is no such file, it is cut off, or it has values of a type that no kernel of ours has.
    """
    if content[4:8] != FILE_IDENTIFIER:
        raise InputError("it is no .tflite file: it lacks the format's mark")
    try:
        model = schema.ModelT.InitFromPackedBuf(content, 0)
        return _program(model, border)
    except (IndexError, struct.error, TypeError, AttributeError, ValueError, UnicodeDecodeError) as error:
        raise InputError("it is no whole .tflite file: part of it is missing or damaged") from error


def _program(model: Any, border: Border | None) -> Program:  # noqa: ANN401 - the schema's classes have no types
    graph = model.subgraphs[0]
    tensors = [_tensor(tensor, model.buffers[tensor.buffer].data) for tensor in graph.tensors]
    called = (border.input_names, border.output_names) if border is not None else (None, None)
    sides = zip((graph.inputs, graph.outputs), called, strict=True)
    inputs, outputs = (_border(positions, names, graph, tensors) for positions, names in sides)
    program = Program(inputs, outputs)
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex]
        program.append(
            RuntimeOperator(
                kind=_KINDS[max(code.builtinCode, code.deprecatedBuiltinCode)],  # old files have the second alone
                version=code.version,
                inputs=_listed(operator.inputs, tensors),
                outputs=[tensors[place] for place in operator.outputs],
                options=_options(operator.builtinOptions),
                intermediates=[tensors[place] for place in _places(operator.intermediates)],
            )
        )
    return program


def _places(positions: Any) -> Sequence[int]:  # noqa: ANN401 - an array, a list or nothing
    return [] if positions is None else [int(place) for place in positions]


def _listed(positions: Any, tensors: Sequence[RuntimeTensor]) -> list[RuntimeTensor | None]:  # noqa: ANN401
    return [None if place < 0 else tensors[place] for place in _places(positions)]


def _border(
    positions: Any,  # noqa: ANN401
    names: Sequence[str] | None,
    graph: Any,  # noqa: ANN401
    tensors: Sequence[RuntimeTensor],
) -> dict[str, RuntimeTensor]:
    places = _places(positions)
    if names is None:
        names = [(graph.tensors[place].name or b"").decode() or f"tensor_{place}" for place in places]
    return {name: tensors[place] for name, place in zip(names, places, strict=True)}


def _tensor(tensor: Any, raw: Any) -> RuntimeTensor:  # noqa: ANN401
    if tensor.type not in _DTYPES:
        known = {code: name for name, code in vars(schema.TensorType).items() if isinstance(code, int)}
        raise InputError(f"it has values of type {known.get(tensor.type, tensor.type)}, which no kernel here has")
    dtype, shape = _DTYPES[tensor.type], tuple(_places(tensor.shape))
    data = None if raw is None or not len(raw) else _values(np.asarray(raw, np.uint8), dtype, shape)
    return RuntimeTensor(shape, dtype, _quantization(tensor.quantization), data, ITEM_BITS[dtype], tensor.isVariable)


def _values(raw: NDArray[np.uint8], dtype: DType, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return a constant's values in its shape; int4 ones as int8."""
    elements = int(np.prod(shape, dtype=np.int64))
    if len(raw) < bytes_of(elements, dtype):
        raise ValueError("a constant is cut off")
    if dtype != "int4":
        return np.frombuffer(raw.tobytes(), np.dtype(dtype), elements).reshape(shape)
    halves = np.stack([raw << np.uint8(4), raw], axis=1).reshape(-1).view(np.int8) >> 4
    return halves[:elements].reshape(shape)


def _quantization(stored: Any) -> TensorQuantization | None:  # noqa: ANN401
    if stored is None or stored.scale is None or not len(stored.scale):
        return None
    points = np.zeros(len(stored.scale), np.int64) if stored.zeroPoint is None else np.asarray(stored.zeroPoint)
    return TensorQuantization(np.asarray(stored.scale, np.float32), points.astype(np.int64), stored.quantizedDimension)


def _options(stored: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return all fields of an operator's option table that have a value."""
    found = {} if stored is None else vars(stored)
    return {name: value for name, value in found.items() if value is not None}
