"""The same values in another shape or order, parts of them, and several of them side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import prod

import torch
from torch import Tensor

from qanas.quantization.numbers.affine import Affine
from qanas.quantization.numbers.requantization import with_reachable_scale
from qanas.quantization.operators.base import Operator, QuantizedMove, QuantizedOperator, Shape
from qanas.quantization.operators.rescaling import append_quantize, requantized
from qanas.quantization.program import COMMON_VERSIONS, DType, Program, RuntimeOperator, RuntimeTensor, append_reshape
from qanas.quantization.ranges import Ranges
from qanas.quantization.scheme import Scheme
from qanas.quantization.simulation.fast import FastKernel, tabulated


@dataclass(frozen=True)
class Reshape(Operator):
    """The stored numbers of a sample under another shape; none is moved.

    Attributes:
        shape: of one sample of the output.
    """

    parameters_from = "input"

    shape: Shape

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the shape."""
        if prod(inputs[0]) != prod(self.shape):
            raise ValueError(f"a reshape from {inputs[0]} to {self.shape}")
        return self.shape

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return shape (batch, *shape); codes and real values alike."""
        return inputs[0].reshape(len(inputs[0]), *self.shape)

    def quantize(self, inputs: Sequence[Affine], ranges: Ranges, scheme: Scheme) -> tuple[QuantizedOperator, Affine]:
        """Keep the input's parameters."""
        del ranges, scheme
        return QuantizedReshape(self), inputs[0]

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append RESHAPE."""
        append_reshape(program, inputs[0], output)


@dataclass(frozen=True)
class QuantizedReshape(QuantizedMove):
    """The same codes in another shape.

    Attributes:
        reshape: which.
    """

    reshape: Reshape

    def forward(self, *codes: Tensor) -> Tensor:
        """Return shape (batch, *shape)."""
        return self.reshape.forward(*codes)

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append the operator."""
        self.reshape.lower(program, inputs, output)


TRANSPOSE_VERSIONS: Mapping[DType, int] = {"float32": 1, "int8": 2, "int16": 5}

MOST_TRANSPOSED_AXES = 6
"""Axes that the kernels transpose, the batch included."""


@dataclass(frozen=True)
class Transpose(Operator):
    """Axes in another order.

    Attributes:
        axes: for each axis of the output's sample, that of the input's sample.
    """

    parameters_from = "input"

    axes: tuple[int, ...]

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the sizes in the new order."""
        if sorted(self.axes) != list(range(len(inputs[0]))):
            raise ValueError(f"the order of axes {self.axes} for the shape {inputs[0]}")
        if len(self.axes) >= MOST_TRANSPOSED_AXES:
            raise ValueError(
                f"a transposition of {len(self.axes) + 1} axes; the runtime has {MOST_TRANSPOSED_AXES} at most"
            )
        return tuple(inputs[0][axis] for axis in self.axes)

    @property
    def batched_axes(self) -> tuple[int, ...]:
        """The order with the batch in front, which stays there."""
        return (0, *(axis + 1 for axis in self.axes))

    def forward(self, *inputs: Tensor) -> Tensor:
        """Transpose shape (batch, *shape); codes and real values alike."""
        return inputs[0].permute(self.batched_axes)

    def quantize(self, inputs: Sequence[Affine], ranges: Ranges, scheme: Scheme) -> tuple[QuantizedOperator, Affine]:
        """Keep the input's parameters."""
        del ranges, scheme
        return QuantizedTranspose(self), inputs[0]

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append TRANSPOSE."""
        order = program.indices(self.batched_axes)
        program.append(RuntimeOperator("TRANSPOSE", TRANSPOSE_VERSIONS[output.dtype], [inputs[0], order], [output]))


@dataclass(frozen=True)
class QuantizedTranspose(QuantizedMove):
    """Codes with their axes in another order.

    Attributes:
        transpose: which.
    """

    transpose: Transpose

    def forward(self, *codes: Tensor) -> Tensor:
        """Transpose shape (batch, *shape)."""
        return self.transpose.forward(*codes)

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append the operator."""
        self.transpose.lower(program, inputs, output)


SLICE_VERSIONS: Mapping[DType, int] = {"float32": 1, "int8": 2, "int16": 1}

MOST_SLICED_AXES = 4
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
        """Take the part of shape (batch, *shape); codes and real values alike."""
        return inputs[0][(slice(None), *self.indices)]

    def quantize(self, inputs: Sequence[Affine], ranges: Ranges, scheme: Scheme) -> tuple[QuantizedOperator, Affine]:
        """Keep the input's parameters."""
        del ranges, scheme
        return QuantizedSlice(self), inputs[0]

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append STRIDED_SLICE, dropped axes in its mask; beyond `MOST_SLICED_AXES` a RESHAPE on either side of it."""
        source = inputs[0]
        bounds = [(range(1), False), *self._bounds(source.shape[1:])]
        if len(bounds) <= MOST_SLICED_AXES:
            _append_slice(program, source, bounds, output)
            return
        shape, bounds = _with_whole_axes_as_one(source.shape, bounds)
        merged, part = replace(source, shape=shape), replace(source, shape=tuple(len(kept) for kept, _ in bounds))
        append_reshape(program, source, merged)
        _append_slice(program, merged, bounds, part)
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


def _append_slice(program: Program, source: RuntimeTensor, bounds: Sequence[Bounds], output: RuntimeTensor) -> None:
    start, stop, step = (
        program.indices([getattr(positions, name) for positions, _ in bounds]) for name in ("start", "stop", "step")
    )
    mask = sum(1 << axis for axis, (_, dropped) in enumerate(bounds) if dropped)
    inputs, options = [source, start, stop, step], {"shrinkAxisMask": mask}
    program.append(RuntimeOperator("STRIDED_SLICE", SLICE_VERSIONS[source.dtype], inputs, [output], options))


@dataclass(frozen=True)
class QuantizedSlice(QuantizedMove):
    """The same part of the codes.

    Attributes:
        part: which.
    """

    part: Slice

    def forward(self, *codes: Tensor) -> Tensor:
        """Take the part of shape (batch, *shape)."""
        return self.part.forward(*codes)

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append the operator."""
        self.part.lower(program, inputs, output)


def split_into_slices(axis: int, sizes: Sequence[int]) -> list[Slice]:
    """Return the slices that are the parts of some sizes, in order.

    Args:
        axis: of the sample, counted from 0.
        sizes: of the parts; together the size of the axis.
    """
    ends = [sum(sizes[: position + 1]) for position in range(len(sizes))]
    leading = (slice(None),) * axis
    return [Slice((*leading, slice(end - size, end))) for end, size in zip(ends, sizes, strict=True)]


@dataclass(frozen=True)
class Concatenate(Operator):
    """Values side by side.

    Attributes:
        axis: of the sample, counted from 0.
        shared: for each input, whether whoever computes it takes the output's parameters, so that nothing is left to
            rescale; empty where that is not known (`qanas.quantization.passes.parameters` finds out).
    """

    axis: int
    shared: tuple[bool, ...] = ()

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the shape whose size along the axis is the sum of all."""
        first = inputs[0]
        if not 0 <= self.axis < len(first):
            raise ValueError(f"a concatenation along axis {self.axis} of the shape {first}")
        if len({(*shape[: self.axis], 0, *shape[self.axis + 1 :]) for shape in inputs}) > 1:
            raise ValueError(f"a concatenation along axis {self.axis} of {' and '.join(map(str, inputs))}")
        return (*first[: self.axis], sum(shape[self.axis] for shape in inputs), *first[self.axis + 1 :])

    def forward(self, *inputs: Tensor) -> Tensor:
        """Concatenate values of shape (batch, *shape); codes of one scale and real values alike."""
        return torch.cat(inputs, self.axis + 1)

    def quantize(self, inputs: Sequence[Affine], ranges: Ranges, scheme: Scheme) -> tuple[QuantizedOperator, Affine]:
        """Bring all inputs to the output's parameters; the kernel itself rescales nothing.

        Inputs that share one object of parameters need no rescaling, and the output shares it, too: equal by
        construction, not by chance, so that the file's size depends on shapes alone.
        """
        if any(self.shared):
            output = inputs[self.shared.index(True)]
        elif all(affine is inputs[0] for affine in inputs):
            output = inputs[0]
        else:
            coarsest = max(affine.scale for affine in inputs)
            output = with_reachable_scale(Affine.from_range(*ranges.output, bits=scheme.activation_bits), coarsest)
        return QuantizedConcatenate(self, tuple(inputs), output), output

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append CONCATENATION; the same for codes and real values."""
        version, options = COMMON_VERSIONS[output.dtype], {"axis": self.axis + 1}
        program.append(RuntimeOperator("CONCATENATION", version, inputs, [output], options))


@dataclass(frozen=True)
class QuantizedConcatenate(QuantizedOperator):
    """Codes side by side.

    Attributes:
        concatenate: along which axis.
        inputs: parameters of the inputs' codes; rescaled are those that are not the output's object.
        output: parameters of the output's codes.
    """

    concatenate: Concatenate
    inputs: tuple[Affine, ...]
    output: Affine

    def forward(self, *codes: Tensor) -> Tensor:
        """Rescale and concatenate codes of shape (batch, *shape)."""
        return self.concatenate.forward(
            *(
                part if affine is self.output else requantized(part, affine, self.output)
                for part, affine in zip(codes, self.inputs, strict=True)
            )
        )

    def fast_kernel(self, inputs: Sequence[Affine], output: Affine) -> FastKernel:
        """Rescale by tables."""
        rescaled = [
            None
            if affine is self.output
            else tabulated(partial(requantized, source=affine, output=self.output), affine, output)
            for affine in inputs
        ]

        def kernel(*steps: Tensor) -> Tensor:
            pairs = zip(steps, rescaled, strict=True)
            return self.concatenate.forward(*(part if rescale is None else rescale(part) for part, rescale in pairs))

        return kernel

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append the integer operator, QUANTIZE in front where needed."""
        parts = []
        for source, affine in zip(inputs, self.inputs, strict=True):
            part = source
            if affine is not self.output:
                part = RuntimeTensor(source.shape, source.dtype, output.quantization)
                append_quantize(program, source, part)
            parts.append(part)
        self.concatenate.lower(program, parts, output)
