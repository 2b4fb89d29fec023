"""The tensor arena that a model needs in TFLite Micro: its values, and what the runtime itself puts beside them.

The runtime's part is that of tflite-micro 0.dev20261023182759 with its reference kernels, built for 64 bits, the
recording allocator included: read from its sources, and by operator from what it reports. On a 32-bit microcontroller
pointers are half as long, so that this is enough there; of what optimized kernels ask for beyond that, what CMSIS-NN's
LSTMs keep is counted, the rest is not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from qanas.deployment.operators import kind_of
from qanas.deployment.tflite_reader import read_tflite
from qanas.quantization.program import Program, RuntimeOperator, RuntimeTensor, aligned, bytes_of

BASE_BYTES = 736
"""Allocator, planner, and the structures of one input and one output."""

BORDER_TENSOR_BYTES = 64 + 24 + 8
"""A TfLiteTensor with its quantization, of every further input and output."""

TENSOR_BYTES = 24
"""A TfLiteEvalTensor."""

OPERATOR_BYTES = 64 + 96
"""A NodeAndRegistration with the options and the data of an operator of most kinds."""

PLANNED_TENSOR_BYTES, PLANNED_SCRATCH_BYTES, PLANNED_BUFFER_BYTES = 32, 16 + 32, 40
"""What the planner takes while it plans: by tensor, by buffer of a kernel, and by value or buffer that it places."""

PREPARED_TENSOR_BYTES, PREPARED_QUANTIZATION_BYTES, PREPARED_SCALE_BYTES = 64, 24 + 8, 4
"""What a kernel takes while it is prepared: by tensor that it has, if that is quantized, and by scale of it."""


def arena_bytes(content: bytes, peak_ram_bytes: int) -> int:
    """Return a tensor arena that suffices, in bytes, a multiple of 16.

    Args:
        content: a .tflite file with values of 8 or 16 bits.
        peak_ram_bytes: working memory of its values and states.
    """
    return program_arena_bytes(read_tflite(content), peak_ram_bytes)


def program_arena_bytes(program: Program, peak_ram_bytes: int) -> int:
    """Return the same of what a file will hold, also before any weight exists: it depends on shapes and kinds alone.

    Args:
        program: with values of 8 or 16 bits.
        peak_ram_bytes: working memory of its values and states.
    """
    borders = len(program.inputs) + len(program.outputs)
    return _arena(program.tensors(), program.operators, borders, peak_ram_bytes)


def _arena(
    tensors: Sequence[RuntimeTensor], operators: Sequence[RuntimeOperator], borders: int, peak_ram_bytes: int
) -> int:
    """Return the arena of a graph, in bytes.

    Args:
        tensors: all of them.
        operators: all of them.
        borders: how many inputs and outputs there are.
        peak_ram_bytes: working memory of its values and states.
    """
    states = sum(aligned(tensor.stored_bytes) for tensor in tensors if tensor.variable)
    lasting = BASE_BYTES + TENSOR_BYTES * len(tensors) + states + sum(map(_lasting_bytes, operators))
    lasting += BORDER_TENSOR_BYTES * (borders - 2)
    scratch = sum(len(kind_of(operator.kind).scratch(operator)) for operator in operators)
    # In the planned part lies what is neither a constant nor a state, nor without values.
    computed = sum(tensor.data is None and not tensor.variable and tensor.elements > 0 for tensor in tensors)
    planning = PLANNED_TENSOR_BYTES * len(tensors) + PLANNED_SCRATCH_BYTES * scratch
    planning += PLANNED_BUFFER_BYTES * (scratch + computed)
    # Kernels are prepared and the plan is made where the values will lie: the largest decides.
    return aligned(lasting + max(peak_ram_bytes - states, planning, *map(_prepared_bytes, operators)))


def _lasting_bytes(operator: RuntimeOperator) -> int:
    """Return what is kept for an operator as long as the model is."""
    kind = kind_of(operator.kind)
    channels = operator.outputs[0].shape[-1] if kind.by_channel else 0
    sums = kind.sums_a_channel * aligned(bytes_of(operator.outputs[0].shape[-1], "int32"))
    return OPERATOR_BYTES + kind.further_bytes + 2 * aligned(bytes_of(channels, "int32")) + sums


def _prepared_bytes(operator: RuntimeOperator) -> int:
    """Return what is taken while an operator's kernel is prepared."""
    given = [tensor for tensor in (*operator.inputs, *operator.outputs) if tensor is not None]
    scales = [len(tensor.quantization.scales) for tensor in given if tensor.quantization is not None]
    needed = PREPARED_TENSOR_BYTES * len(given)
    needed += sum(PREPARED_QUANTIZATION_BYTES + PREPARED_SCALE_BYTES * count for count in scales)
    # A convolution's tensors are had twice.
    return 2 * needed if kind_of(operator.kind).by_channel else needed


def operator_kinds(content: bytes) -> list[str]:
    """Return the kinds of operators in a .tflite file, each once."""
    return sorted(operator_counts(content))


def operator_counts(content: bytes) -> Counter[str]:
    """Return how many operators of each kind a .tflite file has."""
    return Counter(operator.kind for operator in read_tflite(content).operators)


def has_states(content: bytes) -> bool:
    """Return whether a .tflite file keeps values from one invocation to the next, as a fused LSTM does."""
    return any(tensor.variable for tensor in read_tflite(content).tensors())
