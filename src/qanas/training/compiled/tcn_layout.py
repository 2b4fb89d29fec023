"""Where the kernel finds what: records that Python fills and compiled code reads.

All values of the workspace are of shape (chunks, positions, channels, 16): 16 samples of the batch, a *row*, fill a
cache line; a chunk is the next 16 samples. The channels are rounded up to a multiple of four (`ROWS`), the rows that
the matrix loops take at once. Weights of channels that don't exist are zero, so that their values and gradients are
zero too, and stay so: no loop needs a remainder.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from qanas.training.compiled.lanes import PAIR

ROW = PAIR
"""Samples of a row."""

ROWS = 4
"""Rows that the matrix loops take at once."""

Record: TypeAlias = Any  # one of the records below, of which NumPy's types know nothing

CONVOLUTION = np.dtype(
    [
        (name, np.int64)
        for name in (
            "weights",  # where they start: (out_channels, taps, in_channels)
            "taps",
            "stride",
            "padding",  # positions of zeros in front of the input; negative: positions of the input left out there
            "in_positions",
            "in_channels",
            "out_positions",
            "out_channels",
        )
    ]
)
"""A convolution."""

NORM = np.dtype(
    [
        (name, np.int64)
        for name in (
            "weights",  # where they start: (2, channels), factors and offsets
            "statistics",  # where the norm's channels start in the array of statistics
            "positions",
            "channels",
        )
    ]
)
"""A batch norm."""

BLOCK = np.dtype(
    [
        ("first", CONVOLUTION),
        ("first_norm", NORM),
        ("second", CONVOLUTION),
        ("second_norm", NORM),
        ("shortcut", CONVOLUTION),  # of no taps: there is none, and only stride and padding count
        *(
            (name, np.int64)
            for name in (
                "shortcut_bias",  # where it starts among the weights
                "inputs",  # from here on: where values start in the workspace
                "first_sums",  # what the first convolution gives
                "hidden",  # and that normalised, behind its ReLU
                "second_sums",
                "around",  # what the shortcut gives
                "outputs",
                "input_gradients",
                "first_gradients",
                "second_gradients",
                "output_gradients",
                "packed",  # see `weight_gradients`
            )
        ),
    ]
)
"""A residual block."""

NETWORK = np.dtype(
    [
        ("features", np.int64),  # of the data
        ("masks", np.int64),  # where they start in the workspace: one for a sample of the batch, zero for a filler
        ("head", np.int64),  # where its weights start: (outputs, channels), then the bias
        ("scale", np.float64),  # of the head
    ]
)
"""The network around its blocks."""


def rounded_up(channels: int) -> int:
    """Return the channels that are computed in place of some channels.

    >>> rounded_up(1), rounded_up(4), rounded_up(15)
    (4, 4, 16)
    """
    return -(-channels // ROWS) * ROWS
