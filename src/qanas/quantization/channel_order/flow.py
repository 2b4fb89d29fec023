"""What operators do with the channels, the last stored axis, of their inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from qanas.quantization.operators.add import Add
from qanas.quantization.operators.base import Operator, Shape
from qanas.quantization.operators.concatenate import Concatenate
from qanas.quantization.operators.conv import Convolution
from qanas.quantization.operators.dense import Dense
from qanas.quantization.operators.hard_sigmoid import HardSigmoid
from qanas.quantization.operators.lookup import ElementwiseFunction
from qanas.quantization.operators.mean import Mean
from qanas.quantization.operators.multiply import Multiply
from qanas.quantization.operators.pad import Pad
from qanas.quantization.operators.pool import AveragePool, MaxPool
from qanas.quantization.operators.quantize import Quantize
from qanas.quantization.operators.relu import ReLU
from qanas.quantization.operators.reshape import Reshape
from qanas.quantization.operators.resize import ResizeBilinear, ResizeNearest
from qanas.quantization.operators.slice import Slice
from qanas.quantization.operators.transpose import Transpose
from qanas.quantization.operators.with_constant import WithConstant

Numbers = NDArray[np.int64]

BY_CHANNEL = (
    Add,
    AveragePool,
    Concatenate,
    Convolution,
    ElementwiseFunction,
    HardSigmoid,
    MaxPool,
    Mean,
    Multiply,
    Pad,
    Quantize,
    ReLU,
    Reshape,
    ResizeBilinear,
    ResizeNearest,
    Slice,
    Transpose,
    WithConstant,
)
"""Operators that put out as many channels as they get, each computed from the same channel of the inputs, unless they
go over the channels themselves."""


@dataclass(frozen=True)
class Flow:
    """Where the channels of a node's result come from, and what order its operator needs.

    Attributes:
        parts: for each input of a channel of the result, that one's number among the channels of all inputs in a row;
            empty where channels are made anew.
        reads: for each input, the place of each channel: channels of one place can stand in for each other, weights
            taking their order; None where all can.
        writes: the same for the result.
    """

    parts: tuple[Numbers, ...] = ()
    reads: tuple[Numbers | None, ...] = ()
    writes: Numbers | None = None


def channels_of(shape: Shape) -> int:
    """Return the number of channels of a stored value."""
    return shape[-1] if shape else 1


def flow_of(operator: Operator, inputs: Sequence[Shape], output: Shape) -> Flow:
    """Return what an operator does; one that nothing is known of needs every channel where it is.

    Args:
        operator: of a node.
        inputs: shapes of one sample.
        output: likewise.
    """
    sizes, size = [channels_of(shape) for shape in inputs], channels_of(output)
    if isinstance(operator, Dense):
        return Flow(reads=(None,))
    if isinstance(operator, Convolution) and not operator.kernel.by_channel(sizes[0]):
        return _in_groups(operator.kernel.groups, sizes[0], size)
    parts = _parts(operator, inputs, output)
    return Flow(parts, (None,) * len(inputs)) if parts else Flow((), tuple(map(np.arange, sizes)), np.arange(size))


def _parts(operator: Operator, inputs: Sequence[Shape], output: Shape) -> tuple[Numbers, ...]:
    """Return `Flow.parts` of an operator that leaves channels what they are, nothing for others."""
    sizes, size = [channels_of(shape) for shape in inputs], channels_of(output)
    if isinstance(operator, Slice) and isinstance(entry := split_entry(operator, len(inputs[0])), slice):
        return (np.arange(sizes[0])[entry],)
    if isinstance(operator, Concatenate) and operator.axis == len(output) - 1:
        return (np.arange(size),)
    if _by_channel(type(operator)) and set(sizes) == {size} and not _over_channels(operator, inputs[0]):
        starts = accumulate(sizes[:-1], initial=0)
        return tuple(start + np.arange(size) for start in starts)
    return ()


@cache
def _by_channel(kind: type[Operator]) -> bool:
    """Tell whether operators of a kind are in `BY_CHANNEL`; the question is asked thousands of times."""
    return issubclass(kind, BY_CHANNEL)


def split_entry(operator: Slice, rank: int) -> slice | int | None:
    """Return how a slice takes channels, None where it takes all of them.

    Args:
        operator: the slice.
        rank: axes of one sample of its input.
    """
    entry = operator.indices[-1] if len(operator.indices) == rank else slice(None)
    return None if entry == slice(None) else entry


def _in_groups(groups: int, inputs: int, outputs: int) -> Flow:
    if groups == 1:
        return Flow(reads=(None,))
    return Flow((), (np.arange(inputs) // (inputs // groups),), np.arange(outputs) // (outputs // groups))


def _over_channels(operator: Operator, shape: Shape) -> bool:
    """Tell whether an operator that keeps the number of channels goes over them all the same."""
    last = len(shape) - 1
    match operator:
        case Mean():
            return last in operator.axes
        case Transpose():
            return operator.axes[-1] != last
        case Pad():
            return any(operator.padding[-1])
        case Slice():
            return isinstance(split_entry(operator, len(shape)), int)
    return False
