"""What moves or repeats numbers without a look at their values, apart from `shapes`: order, repetition, reflection."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from qanas.quantization.numbers.affine import Affine
from qanas.quantization.operators.base import Operator, QuantizedMove, QuantizedOperator, Shape
from qanas.quantization.operators.windows import Padding
from qanas.quantization.program import Program, RuntimeOperator, RuntimeTensor
from qanas.quantization.ranges import Ranges
from qanas.quantization.scheme import Scheme


class Move(Operator):
    """An operator whose output has the input's numbers, and so its parameters."""

    parameters_from = "input"

    kind: ClassVar[str]
    """The builtin operator."""

    version: ClassVar[int]
    """The same for codes and real values."""

    def arguments(self, program: Program, output: RuntimeTensor) -> Sequence[RuntimeTensor]:
        """Return the inputs behind the value."""
        del program, output
        return ()

    @property
    @abstractmethod
    def options(self) -> Mapping[str, int]:
        """The fields of the option table."""

    def quantize(self, inputs: Sequence[Affine], ranges: Ranges, scheme: Scheme) -> tuple[QuantizedOperator, Affine]:
        """Keep the input's parameters."""
        del ranges, scheme
        return Moved(self), inputs[0]

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append the operator; the same for codes and real values."""
        arguments = [inputs[0], *self.arguments(program, output)]
        program.append(RuntimeOperator(self.kind, self.version, arguments, [output], self.options))


@dataclass(frozen=True)
class Moved(QuantizedMove):
    """The same of codes.

    Attributes:
        move: which.
    """

    move: Move

    def forward(self, *codes: Tensor) -> Tensor:
        """Move codes, shape (batch, *shape)."""
        return self.move.forward(*codes)

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append the operator."""
        self.move.lower(program, inputs, output)


@dataclass(frozen=True)
class Reverse(Move):
    """The positions of an axis in the opposite order.

    Attributes:
        axis: of the sample, counted from 0.
    """

    axis: int

    kind = "REVERSE_V2"
    version = 1

    @property
    def options(self) -> Mapping[str, int]:
        """Return none."""
        return {}

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the input's shape."""
        if not 0 <= self.axis < len(inputs[0]):
            raise ValueError(f"axis {self.axis} of the shape {inputs[0]} reversed")
        return inputs[0]

    def forward(self, *inputs: Tensor) -> Tensor:
        """Reverse shape (batch, *shape); codes and real values alike."""
        return inputs[0].flip(self.axis + 1)

    def arguments(self, program: Program, output: RuntimeTensor) -> Sequence[RuntimeTensor]:
        """Return the axis."""
        del output
        return (program.indices([self.axis + 1]),)


@dataclass(frozen=True)
class Repeat(Move):
    """Axes of size 1 repeated.

    Attributes:
        shape: of one sample of the output.
    """

    shape: Shape

    kind = "BROADCAST_TO"
    version = 2

    @property
    def options(self) -> Mapping[str, int]:
        """Return none."""
        return {}

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the shape."""
        fits = len(inputs[0]) == len(self.shape) and all(
            size in (1, wanted) for size, wanted in zip(inputs[0], self.shape, strict=True)
        )
        if not fits:
            raise ValueError(f"the shape {inputs[0]} repeated to {self.shape}; only axes of size 1 can be")
        return self.shape

    def forward(self, *inputs: Tensor) -> Tensor:
        """Repeat to shape (batch, *shape); codes and real values alike."""
        return inputs[0].expand(-1, *self.shape)

    def arguments(self, program: Program, output: RuntimeTensor) -> Sequence[RuntimeTensor]:
        """Return the shape with the batch of 1 in front."""
        return (program.indices(output.shape),)


@dataclass(frozen=True)
class MirrorPad(Move):
    """A value with its own rows around it, mirrored at the outermost ones, which are not repeated.

    Attributes:
        padding: rows before and behind, an entry for each axis of the sample.
    """

    padding: Padding

    kind = "MIRROR_PAD"
    version = 2

    @property
    def options(self) -> Mapping[str, int]:
        """Return the mode REFLECT."""
        return {"mode": 0}

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the larger shape."""
        if len(self.padding) != len(inputs[0]):
            raise ValueError(f"padding of {len(self.padding)} axes for the shape {inputs[0]}")
        for size, rows in zip(inputs[0], self.padding, strict=True):
            if not 0 <= min(rows) <= max(rows) < size:
                raise ValueError(f"a reflection of {rows} rows of an axis of {size}; take 0 to {size - 1}")
        return tuple(size + sum(rows) for size, rows in zip(inputs[0], self.padding, strict=True))

    def forward(self, *inputs: Tensor) -> Tensor:
        """Pad shape (batch, *shape); codes and real values alike."""
        values = inputs[0]
        for axis, (before, behind) in enumerate(self.padding, start=1):
            size = values.shape[axis]
            positions = torch.arange(-before, size + behind).abs()
            values = values.index_select(axis, torch.minimum(positions, 2 * (size - 1) - positions))
        return values

    def arguments(self, program: Program, output: RuntimeTensor) -> Sequence[RuntimeTensor]:
        """Return the rows."""
        del output
        return (program.indices([(0, 0), *self.padding]),)


@dataclass(frozen=True)
class DepthToSpace(Move):
    """Channels spread over square blocks of pixels: (rows, columns, block * block * out), the last axis slowest first.

    Attributes:
        block: rows and columns that a pixel becomes.
    """

    activation_bits = (8,)

    block: int

    kind = "DEPTH_TO_SPACE"
    version = 1

    @property
    def options(self) -> Mapping[str, int]:
        """Return the block's size."""
        return {"blockSize": self.block}

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return (rows * block, columns * block, out)."""
        if len(inputs[0]) != 3 or inputs[0][2] % self.block**2:  # noqa: PLR2004 - rows, columns, channels
            raise ValueError(f"blocks of {self.block} x {self.block} pixels of the channels of {inputs[0]}")
        rows, columns, channels = inputs[0]
        return rows * self.block, columns * self.block, channels // self.block**2

    def forward(self, *inputs: Tensor) -> Tensor:
        """Spread shape (batch, rows, columns, channels); codes and real values alike."""
        batch, rows, columns, channels = inputs[0].shape
        parts = inputs[0].reshape(batch, rows, columns, self.block, self.block, channels // self.block**2)
        return parts.transpose(2, 3).reshape(batch, rows * self.block, columns * self.block, -1)


@dataclass(frozen=True)
class SpaceToDepth(Move):
    """The pixels of square blocks as channels, those of a pixel behind each other: what undoes `DepthToSpace`.

    Attributes:
        block: rows and columns that become one pixel.
    """

    block: int

    kind = "SPACE_TO_DEPTH"
    version = 1
    activation_bits = (8,)

    @property
    def options(self) -> Mapping[str, int]:
        """Return the block's size."""
        return {"blockSize": self.block}

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return (rows / block, columns / block, block * block * in)."""
        if len(inputs[0]) != 3 or any(size % self.block for size in inputs[0][:2]):  # noqa: PLR2004 - an image
            raise ValueError(f"blocks of {self.block} x {self.block} pixels of the shape {inputs[0]}")
        rows, columns, channels = inputs[0]
        return rows // self.block, columns // self.block, channels * self.block**2

    def forward(self, *inputs: Tensor) -> Tensor:
        """Gather shape (batch, rows, columns, channels); codes and real values alike."""
        batch, rows, columns, channels = inputs[0].shape
        block = self.block
        parts = inputs[0].reshape(batch, rows // block, block, columns // block, block, channels)
        return parts.transpose(2, 3).reshape(batch, rows // block, columns // block, -1)
