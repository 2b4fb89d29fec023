"""What an operator of a file does: multiply-accumulates by kind of kernel, and the values that it moves.

Latency by formula, profiles and features for surrogates are read off it; whoever wrote the file, it is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from qanas.deployment.operators import kind_of
from qanas.quantization.program import Program, RuntimeOperator, RuntimeTensor

KernelKind = Literal["convolution", "depthwise", "dense", "recurrent", "moving"]
"""Kernels that take about as many cycles a multiply-accumulate; "moving" has none: it reads values and writes them."""

KERNEL_KINDS: tuple[KernelKind, ...] = get_args(KernelKind)


@dataclass(frozen=True)
class Work:
    """What one operator does in one inference.

    Attributes:
        kind: of its kernel.
        macs: multiply-accumulates.
        moved_bytes: of the values that it reads and writes, without weights.
        weight_bytes: of its constants.
    """

    kind: KernelKind
    macs: int
    moved_bytes: int
    weight_bytes: int


def _weights(operator: RuntimeOperator, place: int = 1) -> RuntimeTensor:
    found = operator.inputs[place] if place < len(operator.inputs) else None
    if found is None:
        raise ValueError(f"{operator.kind} lacks its weights")
    return found


def _elements(shape: Sequence[int]) -> int:
    return int(np.prod(shape, dtype=np.int64))


def _convolution(operator: RuntimeOperator) -> int:
    """Weights (out, kh, kw, in / groups), output (1, h, w, out): each output sums one filter."""
    return operator.outputs[0].elements * _elements(_weights(operator).shape[1:])


def _depthwise(operator: RuntimeOperator) -> int:
    """Weights (1, kh, kw, channels), output (1, h, w, channels)."""
    return operator.outputs[0].elements * _elements(_weights(operator).shape[1:3])


def _dense(operator: RuntimeOperator) -> int:
    """Weights (out, in), output (..., out)."""
    return operator.outputs[0].elements * _weights(operator).shape[-1]


def _transposed(operator: RuntimeOperator) -> int:
    """Weights (out, kh, kw, in), input (1, h, w, in): each input is added to one patch of every output channel."""
    weights = _weights(operator)
    return _weights(operator, 2).elements * _elements(weights.shape[:3])


def _matrix(operator: RuntimeOperator) -> int:
    """Inputs (..., n, k) and (..., k, m), or the second transposed; output (..., n, m)."""
    first = _weights(operator, 0)
    inner = first.shape[-2] if operator.options.get("adjX") else first.shape[-1]
    return operator.outputs[0].elements * inner


LSTM_MATRICES = slice(1, 9)
"""Weights of input and state of the four gates, among an LSTM's inputs."""

PRODUCTS_A_CELL = 3
"""Of gates with cells and states, a step."""


def _lstm(operator: RuntimeOperator) -> int:
    """Input (1, steps, in), or (steps, 1, in): each step multiplies all matrices once, and gates its cells."""
    steps, cells = _elements(_weights(operator, 0).shape[:-1]), operator.outputs[0].shape[-1]
    matrices = sum(tensor.elements for tensor in operator.inputs[LSTM_MATRICES] if tensor is not None)
    return steps * (matrices + PRODUCTS_A_CELL * cells)


_COUNTED: Mapping[str, tuple[KernelKind, Callable[[RuntimeOperator], int]]] = {
    "CONV_2D": ("convolution", _convolution),
    "DEPTHWISE_CONV_2D": ("depthwise", _depthwise),
    "TRANSPOSE_CONV": ("convolution", _transposed),
    "FULLY_CONNECTED": ("dense", _dense),
    "BATCH_MATMUL": ("dense", _matrix),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": ("recurrent", _lstm),
}


def work_of(operator: RuntimeOperator) -> Work:
    """Return what an operator does.

    Raises:
        ValueError: nothing is known of its kind: never work of zero.
    """
    kind_of(operator.kind)
    given = [tensor for tensor in operator.inputs if tensor is not None]
    moved = sum(tensor.stored_bytes for tensor in (*given, *operator.outputs) if tensor.data is None)
    stored = sum(tensor.stored_bytes for tensor in given if tensor.data is not None)
    if operator.kind not in _COUNTED:
        return Work("moving", 0, moved, stored)
    kind, count = _COUNTED[operator.kind]
    return Work(kind, count(operator), moved, stored)


def macs_by_kind(program: Program) -> dict[KernelKind, int]:
    """Return the multiply-accumulates of a program's operators, summed by the kind of kernel; kinds without are 0."""
    found: dict[KernelKind, int] = dict.fromkeys(KERNEL_KINDS, 0)
    for operator in program.operators:
        work = work_of(operator)
        found[work.kind] += work.macs
    return found
