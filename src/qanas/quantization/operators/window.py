"""Where a window of two axes is put on a value (height, width, channels), and how the file format says so."""

from __future__ import annotations

from dataclasses import dataclass

from qanas.quantization.operators.base import Shape
from qanas.quantization.operators.pad import Padding

SAME, VALID = 0, 1
"""The paddings' numbers in the file format."""

Pair = tuple[int, int]


@dataclass(frozen=True)
class Window:
    """A window that moves over height and width.

    Attributes:
        size: rows and columns that it covers, counted with the gaps of a dilation.
        stride: rows and columns from one position to the next.
        padding: rows above and below, columns left and right.
    """

    size: Pair
    stride: Pair
    padding: tuple[Pair, Pair] = ((0, 0), (0, 0))

    def positions(self, shape: Shape) -> Pair:
        """Return the number of positions along height and width.

        Raises:
            ValueError: a value that isn't (height, width, channels), or is smaller than the window.
        """
        if len(shape) != 3:  # noqa: PLR2004 - height, width, channels
            raise ValueError(f"a window over {shape}; it takes (height, width, channels)")
        height, width = (self._positions(shape[axis], axis) for axis in (0, 1))
        if min(height, width) < 1:
            raise ValueError(f"a window of {self.size[0]} x {self.size[1]} on {shape}, padded by {self.padding}")
        return height, width

    def _positions(self, size: int, axis: int) -> int:
        return (size + sum(self.padding[axis]) - self.size[axis]) // self.stride[axis] + 1

    def read_padding(self, shape: Shape) -> tuple[Pair, Pair]:
        """Return the padding without what lies behind the last position: nobody reads it."""
        above_below, left_right = (
            (
                self.padding[axis][0],
                max(0, (count - 1) * self.stride[axis] + self.size[axis] - shape[axis] - self.padding[axis][0]),
            )
            for axis, count in enumerate(self.positions(shape))
        )
        return above_below, left_right

    def is_same(self, shape: Shape) -> bool:
        """Tell whether this is TensorFlow's SAME: ceil(size / stride) positions, of the padding half in front."""
        return all(
            count == -(-shape[axis] // self.stride[axis]) and before == (before + behind) // 2
            for axis, (count, (before, behind)) in enumerate(
                zip(self.positions(shape), self.read_padding(shape), strict=True)
            )
        )

    def is_valid(self, shape: Shape) -> bool:
        """Tell whether no padding is read."""
        return not any(map(any, self.read_padding(shape)))

    def sample_padding(self, shape: Shape) -> Padding:
        """Return the padding that is read, an entry for each axis of the sample."""
        return (*self.read_padding(shape), (0, 0))
