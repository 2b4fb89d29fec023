"""Parts of a value along its axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from qanas.quantization.affine import Affine
from qanas.quantization.operators.base import Operator, QuantizedMove, QuantizedOperator, Ranges, Shape
from qanas.quantization.operators.reshape import append_reshape
from qanas.quantization.program import DType, Program, RuntimeOperator, RuntimeTensor
from qanas.quantization.scheme import Scheme

VERSIONS: Mapping[DType, int] = {"float32": 1, "int8": 2, "int16": 1}

MOST_AXES = 4
"""What TFLite Micro's kernel takes, the batch included; LiteRT's takes one more."""

Index = int | slice

Bounds = tuple[range, bool]
"""Positions along an axis, and whether the axis is dropped."""


@dataclass(frozen=True)
class Slice(Operator):
    """``x[:, index_1, index_2, ...]``: whole numbers drop their axis, slices keep it.

    Attributes:
        indices: one an axis of the sample, the batch left out; axes beyond them are kept whole.
    """

    parameters_from = "input"

    indices: tuple[Index, ...]

    def _bounds(self, shape: Shape) -> list[Bounds]:
        """Return the positions and whether the axis is dropped, for every axis of the sample."""
        bounds: list[Bounds] = []
        for axis, size in enumerate(shape):
            entry = self.indices[axis] if axis < len(self.indices) else slice(None)
            if isinstance(entry, int):
                start = entry + size if entry < 0 else entry
                if not 0 <= start < size:
                    raise ValueError(f"the index {entry} of an axis of {size}")
                bounds.append((range(start, start + 1), True))
            else:
                positions = range(*entry.indices(size))
                if not positions:
                    raise ValueError(f"the empty slice {entry.start}:{entry.stop} of an axis of {size}")
                bounds.append((positions, False))
        return bounds

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the sizes of the axes that are kept."""
        if len(self.indices) > len(inputs[0]):
            raise ValueError(f"{len(self.indices)} indices into the shape {inputs[0]}")
        return tuple(len(positions) for positions, dropped in self._bounds(inputs[0]) if not dropped)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Take the part; codes and real values alike."""
        return inputs[0][(slice(None), *self.indices)]

    def quantize(self, inputs: Sequence[Affine], ranges: Ranges, scheme: Scheme) -> tuple[QuantizedOperator, Affine]:
        """Keep the input's parameters."""
        del ranges, scheme
        return QuantizedSlice(self), inputs[0]

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append STRIDED_SLICE, dropped axes in its mask; beyond `MOST_AXES` with a RESHAPE on either side of it."""
        source = inputs[0]
        bounds = [(range(1), False), *self._bounds(source.shape[1:])]
        if len(bounds) <= MOST_AXES:
            _append(program, source, bounds, output)
            return
        shape, bounds = _with_whole_axes_as_one(source.shape, bounds)
        merged, part = replace(source, shape=shape), replace(source, shape=tuple(len(kept) for kept, _ in bounds))
        append_reshape(program, source, merged)
        _append(program, merged, bounds, part)
        append_reshape(program, part, output)


def _with_whole_axes_as_one(shape: Shape, bounds: Sequence[Bounds]) -> tuple[Shape, list[Bounds]]:
    """Return shape and bounds with neighbours that are kept whole as one axis; no axis is dropped.

    >>> _with_whole_axes_as_one((1, 6, 7, 2, 3), [(range(size), False) for size in (1, 6, 7, 1, 3)])
    ((42, 2, 3), [(range(0, 42), False), (range(0, 1), False), (range(0, 3), False)])
    """
    sizes: list[int] = []
    kept: list[range] = []
    for size, (positions, _) in zip(shape, bounds, strict=True):
        if kept and positions == range(size) and kept[-1] == range(sizes[-1]):
            sizes[-1] *= size
            kept[-1] = range(sizes[-1])
        else:
            sizes.append(size)
            kept.append(positions)
    return tuple(sizes), [(positions, False) for positions in kept]


def _append(program: Program, source: RuntimeTensor, bounds: Sequence[Bounds], output: RuntimeTensor) -> None:
    start, stop, step = (
        program.indices([getattr(positions, name) for positions, _ in bounds]) for name in ("start", "stop", "step")
    )
    mask = sum(1 << axis for axis, (_, dropped) in enumerate(bounds) if dropped)
    inputs, options = [source, start, stop, step], {"shrinkAxisMask": mask}
    program.append(RuntimeOperator("STRIDED_SLICE", VERSIONS[source.dtype], inputs, [output], options))


@dataclass(frozen=True)
class QuantizedSlice(QuantizedMove):
    """The same part of the codes.

    Attributes:
        part: which.
    """

    part: Slice

    def forward(self, *codes: Tensor) -> Tensor:
        """Take the part."""
        return self.part.forward(*codes)

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append the operator."""
        self.part.lower(program, inputs, output)
