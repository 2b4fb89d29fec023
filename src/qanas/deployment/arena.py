"""The tensor arena that a model needs in TFLite Micro: its values, and what the runtime itself puts beside them.

The runtime's part is that of tflite-micro 0.dev20261023182759 with its reference kernels, built for 64 bits, the
recording allocator included: read from its sources, and by operator from what it reports. On a 32-bit microcontroller
pointers are half as long, so that this is enough there; optimized kernels (CMSIS-NN, Ethos-U) ask for buffers of their
own, which are not counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

from ai_edge_litert import schema_py_generated as schema

from qanas.deployment.tflite import TENSOR_TYPES
from qanas.quantization.program import DType, bytes_of

ALIGNMENT = 16

BASE_BYTES = 736
"""Allocator, planner, and the structures of input and output."""

TENSOR_BYTES = 24
"""A TfLiteEvalTensor."""

OPERATOR_BYTES = 64 + 96
"""A NodeAndRegistration with the options and the data of an operator of most kinds."""

FURTHER_OPERATOR_BYTES: Mapping[str, int] = {
    "CONV_2D": 32,
    "DEPTHWISE_CONV_2D": 32,
    "FULLY_CONNECTED": 32,
    "STRIDED_SLICE": 32,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": 640,
}
"""What some kinds have beyond that."""

REQUANTIZED_BY_CHANNEL = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D"})
"""Kinds that keep a multiplier and a shift, int32 each, for every output channel."""

SCRATCH_BUFFERS: Mapping[str, int] = {"MEAN": 3, "UNIDIRECTIONAL_SEQUENCE_LSTM": 4}
"""How many buffers a kernel asks for; the others ask for none, but for one that int4 weights are unpacked to."""

PLANNED_TENSOR_BYTES, PLANNED_SCRATCH_BYTES, PLANNED_BUFFER_BYTES = 32, 16 + 32, 40
"""What the planner takes while it plans: by tensor, by buffer of a kernel, and by value or buffer that it places."""

PREPARED_TENSOR_BYTES, PREPARED_QUANTIZATION_BYTES, PREPARED_SCALE_BYTES = 64, 24 + 8, 4
"""What a kernel takes while it is prepared: by tensor that it has, if that is quantized, and by scale of it."""

DTYPES: Mapping[int, DType] = {number: dtype for dtype, number in TENSOR_TYPES.items()}
"""Types of tensors by their number in the file."""


def arena_bytes(content: bytes, peak_ram_bytes: int) -> int:
    """Return a tensor arena that suffices, in bytes, a multiple of 16.

    Args:
        content: a .tflite file with values of 8 or 16 bits.
        peak_ram_bytes: working memory of its values and states.
    """
    model = schema.Model.GetRootAs(content)
    graph = model.Subgraphs(0)
    operators = [graph.Operators(index) for index in range(graph.OperatorsLength())]
    tensors = [graph.Tensors(index) for index in range(graph.TensorsLength())]
    kinds = [_kind(model, operator) for operator in operators]
    states = sum(_aligned(_bytes(tensor)) for tensor in tensors if tensor.IsVariable())
    lasting = BASE_BYTES + TENSOR_BYTES * len(tensors) + OPERATOR_BYTES * len(kinds) + states
    for kind, operator in zip(kinds, operators, strict=True):
        lasting += FURTHER_OPERATOR_BYTES.get(kind, 0)
        if kind in REQUANTIZED_BY_CHANNEL:
            lasting += 2 * _aligned(4 * int(tensors[operator.Outputs(0)].ShapeAsNumpy()[-1]))
    scratch = sum(SCRATCH_BUFFERS.get(kind, 0) for kind in kinds)
    scratch += sum(_has_int4_weights(operator, tensors) for operator in operators)
    placed = scratch + sum(_is_computed(model, tensor) for tensor in tensors)
    planning = PLANNED_TENSOR_BYTES * len(tensors) + PLANNED_SCRATCH_BYTES * scratch + PLANNED_BUFFER_BYTES * placed
    preparing = max(_prepared_bytes(kind, operator, tensors) for kind, operator in zip(kinds, operators, strict=True))
    # Kernels are prepared and the plan is made where the values will lie: the largest decides.
    return _aligned(lasting + max(peak_ram_bytes - states, planning, preparing))


def operator_kinds(content: bytes) -> list[str]:
    """Return the kinds of operators in a .tflite file, each once."""
    model = schema.Model.GetRootAs(content)
    names = _operator_names()
    return sorted({names[model.OperatorCodes(index).BuiltinCode()] for index in range(model.OperatorCodesLength())})


def _operator_names() -> Mapping[int, str]:
    return {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}


def _kind(model: schema.Model, operator: schema.Operator) -> str:
    return _operator_names()[model.OperatorCodes(operator.OpcodeIndex()).BuiltinCode()]


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _bytes(tensor: schema.Tensor) -> int:
    return bytes_of(prod(map(int, tensor.ShapeAsNumpy())), DTYPES[tensor.Type()])


def _is_computed(model: schema.Model, tensor: schema.Tensor) -> bool:
    """Tell whether a tensor lies in the planned part: neither a constant nor a state, nor without values."""
    return model.Buffers(tensor.Buffer()).DataLength() == 0 and not tensor.IsVariable() and _bytes(tensor) > 0


def _has_int4_weights(operator: schema.Operator, tensors: Sequence[schema.Tensor]) -> bool:
    positions = operator.InputsAsNumpy()
    return any(tensors[position].Type() == schema.TensorType.INT4 for position in positions if position >= 0)


def _prepared_bytes(kind: str, operator: schema.Operator, tensors: Sequence[schema.Tensor]) -> int:
    positions = [*operator.InputsAsNumpy(), *operator.OutputsAsNumpy()]
    given = [tensors[position].Quantization() for position in positions if position >= 0]
    scales = [int(quantization.ScaleLength()) for quantization in given if quantization is not None]
    needed = PREPARED_TENSOR_BYTES * len(given)
    needed += sum(PREPARED_QUANTIZATION_BYTES + PREPARED_SCALE_BYTES * count for count in scales if count)
    # A convolution's tensors are had twice.
    return 2 * needed if kind in REQUANTIZED_BY_CHANNEL else needed
