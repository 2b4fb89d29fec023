"""Another height and width, by the nearest or by interpolated values; the kernels rescale nothing."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from numpy.typing import NDArray
from torch import Tensor

from qanas.quantization.numbers.affine import Affine
from qanas.quantization.numbers.rounding import round_half_away
from qanas.quantization.operators.base import Operator, QuantizedOperator, Shape
from qanas.quantization.program import DType, Program, RuntimeOperator, RuntimeTensor
from qanas.quantization.ranges import Ranges
from qanas.quantization.scheme import Scheme
from qanas.quantization.simulation.fast import FastKernel

VERSIONS: Mapping[DType, int] = {"float32": 1, "int8": 2, "int16": 4}
VERSION_HALF_PIXEL = 3

FINE_BITS = 10
"""The bilinear kernel divides a pixel by 2^10."""

Positions = NDArray[np.int64]


class _Resize(Operator):
    """What is common to both."""

    parameters_from = "input"

    height: int
    width: int

    kind: ClassVar[str]

    @abstractmethod
    def options(self) -> Mapping[str, bool]:
        """Return the fields of the option table that are set."""

    @abstractmethod
    def resize_codes(self, codes: Tensor) -> Tensor:
        """Resize codes, shape (batch, height, width, channels), as the reference kernel does."""

    @abstractmethod
    def fast_kernel(self, zero_point: int) -> FastKernel:
        """Return the same on steps from a zero point."""

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return (height', width', channels)."""
        if len(inputs[0]) != 3:  # noqa: PLR2004 - height, width, channels
            raise ValueError(f"a resize of {inputs[0]}; it takes (height, width, channels)")
        if min(self.height, self.width) < 1:
            raise ValueError(f"a resize to {self.height} x {self.width}")
        return (self.height, self.width, inputs[0][-1])

    def quantize(self, inputs: Sequence[Affine], ranges: Ranges, scheme: Scheme) -> tuple[QuantizedOperator, Affine]:
        """Keep the input's parameters."""
        del ranges, scheme
        return QuantizedResize(self), inputs[0]

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append the operator; the same for codes and real values."""
        source, options = inputs[0], self.options()
        version = max(VERSIONS[source.dtype], VERSION_HALF_PIXEL if options else 0)
        size = program.indices([self.height, self.width])
        program.append(RuntimeOperator(self.kind, version, [source, size], [output], options))


@dataclass(frozen=True)
class ResizeNearest(_Resize):
    """The nearest pixel.

    Attributes:
        height: of the output.
        width: of the output.
        from_centres: whether pixels' centres are compared (torch's ``nearest-exact``) or their corners (``nearest``).
    """

    height: int
    width: int
    from_centres: bool = field(default=False, kw_only=True)

    kind = "RESIZE_NEAREST_NEIGHBOR"

    def options(self) -> Mapping[str, bool]:
        """Say from where distances are taken."""
        return {"halfPixelCenters": True} if self.from_centres else {}

    def sources(self, size: int, wanted: int) -> Tensor:
        """Return the position that each output is taken from, shape (wanted,), in the kernels' float32."""
        offset = np.float32(0.5 if self.from_centres else 0.0)
        positions = (np.arange(wanted).astype(np.float32) + offset) * (np.float32(size) / np.float32(wanted))
        return torch.from_numpy(np.minimum(np.floor(positions), size - 1).astype(np.int64))

    def resize_codes(self, codes: Tensor) -> Tensor:
        """Take rows and columns, shape (batch, height, width, channels); codes and real values alike."""
        _, height, width, _ = codes.shape
        return codes[:, self.sources(height, self.height)][:, :, self.sources(width, self.width)]

    def fast_kernel(self, zero_point: int) -> FastKernel:
        """Take rows and columns."""
        del zero_point
        return self.resize_codes

    def forward(self, *inputs: Tensor) -> Tensor:
        """Take rows and columns, shape (batch, height, width, channels)."""
        return self.resize_codes(inputs[0])


@dataclass(frozen=True)
class ResizeBilinear(_Resize):
    """Bilinear interpolation.

    Attributes:
        height: of the output.
        width: of the output.
        aligns_corners: whether the corner pixels' centres stay where they are, instead of the image's edges.
    """

    height: int
    width: int
    aligns_corners: bool = field(default=False, kw_only=True)

    kind = "RESIZE_BILINEAR"

    def options(self) -> Mapping[str, bool]:
        """Say how pixels lie on each other."""
        return {"alignCorners": True} if self.aligns_corners else {"halfPixelCenters": True}

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return (height', width', channels).

        Raises:
            ValueError: so large an output that the kernel's rounded steps lead beyond the input.
        """
        shape = super().output_shape(*inputs)
        for size, wanted in zip(inputs[0], shape[:2], strict=False):
            if self._lines(size, wanted)[0].max() >= size:
                raise ValueError(
                    f"a bilinear resize from {inputs[0]} to {shape}; the kernel would read beyond the input"
                )
        return shape

    def forward(self, *inputs: Tensor) -> Tensor:
        """Compute in float32, shape (batch, height, width, channels)."""
        images = inputs[0].permute(0, 3, 1, 2)
        resized = F.interpolate(images, (self.height, self.width), mode="bilinear", align_corners=self.aligns_corners)
        return resized.permute(0, 2, 3, 1)

    def steps(self, size: int, wanted: int) -> tuple[int, int]:
        """Return where the first output lies, and how far the next one is, in steps of 2^-10 of a pixel."""
        spans, steps = (size - 1, wanted - 1) if self.aligns_corners and wanted > 1 else (size, wanted)
        scale = ((spans << FINE_BITS) + steps // 2) // steps
        return 0 if self.aligns_corners else scale // 2 - (1 << (FINE_BITS - 1)), scale

    def _lines(self, size: int, wanted: int) -> tuple[Positions, Positions, Positions]:
        """Return the two lines that each output lies between, and 2^10 times the second one's weight."""
        start, step = self.steps(size, wanted)
        fine = np.arange(wanted, dtype=np.int64) * step + start
        # Divisions are those of C; what is below 0 lies on the first line.
        lower = np.maximum(fine, 0) >> FINE_BITS
        upper = np.minimum(np.maximum(fine + (1 << FINE_BITS) - 1, 0) >> FINE_BITS, size - 1)
        return lower, upper, fine - (lower << FINE_BITS)

    def resize_codes(self, codes: Tensor) -> Tensor:
        """Interpolate in steps of 2^-10 of a pixel, shape (batch, height, width, channels), and round once."""
        _, height, width, _ = codes.shape
        columns = self._between(codes.to(torch.float64), 1, self._lines(height, self.height))
        fine = self._between(columns, 2, self._lines(width, self.width))
        return round_half_away(fine / 2.0 ** (2 * FINE_BITS)).to(torch.float32)

    def fast_kernel(self, zero_point: int) -> FastKernel:
        """Interpolate in one pass."""
        from qanas.quantization.simulation.compiled import interpolate

        lines = cache(lambda size, wanted: np.stack(self._lines(size, wanted)))

        def kernel(steps: Tensor) -> Tensor:
            batch, height, width, channels = steps.shape
            resized = steps.new_empty(batch, self.height, self.width, channels)
            rows, columns = lines(height, self.height), lines(width, self.width)
            interpolate(steps.contiguous().numpy(), rows, columns, zero_point, resized.numpy())
            return resized

        return kernel

    @staticmethod
    def _between(values: Tensor, axis: int, lines: tuple[Positions, Positions, Positions]) -> Tensor:
        """Return the weighted sums of two lines each, 2^10 times too large."""
        lower, upper, weights = (torch.from_numpy(array) for array in lines)
        weight = weights.reshape([-1 if position == axis else 1 for position in range(values.ndim)])
        below, above = values.index_select(axis, lower), values.index_select(axis, upper)
        return below * ((1 << FINE_BITS) - weight) + above * weight


@dataclass(frozen=True)
class QuantizedResize(QuantizedOperator):
    """Codes of another height and width.

    Attributes:
        resize: which.
    """

    resize: _Resize

    def forward(self, *codes: Tensor) -> Tensor:
        """Resize, shape (batch, height, width, channels) to (batch, height', width', channels)."""
        return self.resize.resize_codes(codes[0])

    def fast_kernel(self, inputs: Sequence[Affine], output: Affine) -> FastKernel:
        """Resize steps."""
        del inputs
        return self.resize.fast_kernel(output.zero_point)

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append the operator."""
        self.resize.lower(program, inputs, output)
