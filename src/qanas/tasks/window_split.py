"""Windows of long recordings: cut when they are asked for, where all of them at once would fill the memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qanas.tasks.samples import Batch, FloatArray, Indices, Split
from qanas.tasks.window_front_end import WindowFrontEnd

Integers = NDArray[np.int64]

MOST_CUT_BYTES = 2**31
"""Of a split's windows, that are cut at once: 90 times those of C-MAPSS' FD004. Trainings read them faster so."""


@dataclass(frozen=True)
class Windows:
    """Where windows lie in the rows of several series; picklable.

    Attributes:
        front_end: makes a network's input of a window.
        rows: standardised, of all series behind each other, shape (rows, sensors).
        first: the first row of each window's series, shape (windows,).
        ends: the last row of each window, shape (windows,).
    """

    front_end: WindowFrontEnd
    rows: FloatArray
    first: Integers
    ends: Integers

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self.ends)

    def cut(self, chosen: Indices | slice) -> FloatArray:
        """Return the inputs of some windows, shape (chosen, *input_shape)."""
        return self.front_end.windows(self.rows, self.first[chosen], self.ends[chosen])

    def split(self, targets: NDArray[Any], extras: Mapping[str, NDArray[Any]]) -> Split:
        """Return the split of all windows: an array where that is small enough.

        Args:
            targets: shape (windows, ...).
            extras: as in `Split`.
        """
        window_bytes = self.cut(slice(1)).nbytes
        if len(self) * window_bytes > MOST_CUT_BYTES:
            return WindowSplit(self, targets, extras)
        return Split(self.cut(slice(None)), targets, extras)


class WindowSplit(Split):
    """The windows of one split, cut out whenever they are asked for; ``inputs`` cuts all of them.

    Attributes:
        windows: where they lie.
    """

    windows: Windows
    in_memory = False
    targets_in_memory = True

    def __init__(self, windows: Windows, targets: NDArray[Any], extras: Mapping[str, NDArray[Any]]) -> None:
        """Cut nothing yet.

        Args:
            windows: where they lie.
            targets: shape (windows, ...).
            extras: as in `Split`.
        """
        for name, value in {"windows": windows, "targets": targets, "extras": extras}.items():
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self.windows)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one window's input."""
        return tuple(self.windows.cut(slice(1)).shape[1:])

    @property
    def inputs(self) -> FloatArray:
        """All inputs, cut: shape (windows, *input_shape)."""
        return self.windows.cut(slice(None))

    def batch(self, indices: Indices) -> Batch:
        """Cut the inputs of some windows, in the order asked for.

        Args:
            indices: positions from 0, shape (batch,).
        """
        return self.windows.cut(indices), self.targets[indices]

    def chunks(self, size: int) -> Iterator[FloatArray]:
        """Cut and yield all inputs, at most ``size`` windows at a time, each of shape (size, *input_shape)."""
        for first in range(0, len(self), size):
            yield self.windows.cut(slice(first, first + size))
