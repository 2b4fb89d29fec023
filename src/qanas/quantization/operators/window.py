"""Where the taps of a convolution, or the cells of a pool, lie on the rows and columns of an image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Pair = tuple[int, int]

PaddingMode = Literal["SAME", "VALID"]
PADDING_CODES: Mapping[PaddingMode, int] = {"SAME": 0, "VALID": 1}
"""The paddings that the runtime's operators have, and their number in the file format."""


def same_padding(size: int, taps: int, stride: int, dilation: int) -> Pair:
    """Return what the runtime's SAME puts in front of and behind ``size`` rows.

    As many outputs as ceil(size / stride); what can't be halved goes behind.

    >>> same_padding(8, 3, 2, 1), same_padding(9, 3, 2, 1)
    ((0, 1), (1, 1))
    """
    total = max((-(-size // stride) - 1) * stride + (taps - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2


@dataclass(frozen=True)
class Window:
    """Taps over rows and columns; the first entry of each pair is the rows'.

    Attributes:
        taps: how many.
        stride: rows and columns between two outputs.
        dilation: rows and columns between two taps.
        before: rows above, columns to the left that are padding.
        after: rows below, columns to the right that are padding.
    """

    taps: Pair
    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)
    before: Pair = (0, 0)
    after: Pair = (0, 0)

    def outputs(self, size: Pair) -> Pair:
        """Return the rows and columns of the output.

        Raises:
            ValueError: the taps reach further than the padded image.
        """
        rows, columns = (self._outputs(axis, size[axis]) for axis in (0, 1))
        if rows < 1 or columns < 1:
            raise ValueError(f"a window of {self.taps} taps with dilation {self.dilation} has no output on {size}")
        return rows, columns

    def _reach(self, axis: int) -> int:
        return (self.taps[axis] - 1) * self.dilation[axis] + 1

    def _outputs(self, axis: int, size: int) -> int:
        return (size + self.before[axis] + self.after[axis] - self._reach(axis)) // self.stride[axis] + 1

    def read_padding(self, size: Pair) -> tuple[Pair, Pair]:
        """Return the padding (before, after) of rows and of columns, without what is behind the last tap."""
        rows, columns = (self._read_padding(axis, size[axis]) for axis in (0, 1))
        return rows, columns

    def _read_padding(self, axis: int, size: int) -> Pair:
        read = (self._outputs(axis, size) - 1) * self.stride[axis] + self._reach(axis)
        return self.before[axis], max(read - size - self.before[axis], 0)

    def mode(self, size: Pair) -> PaddingMode | None:
        """Return the runtime's padding that gives this window's outputs, or None: then a PAD must come before VALID."""
        padding = self.read_padding(size)
        if padding == ((0, 0), (0, 0)):
            return "VALID"
        for axis in (0, 1):
            same = same_padding(size[axis], self.taps[axis], self.stride[axis], self.dilation[axis])
            if padding[axis] != same or self._outputs(axis, size[axis]) != -(-size[axis] // self.stride[axis]):
                return None
        return "SAME"

    def options(self, mode: PaddingMode) -> dict[str, Any]:
        """Return the fields that the file's option tables of convolutions and pools share."""
        return {"padding": PADDING_CODES[mode], "strideH": self.stride[0], "strideW": self.stride[1]}
