"""A value in parts along an axis: as many slices, for an operator of the graph has one output."""

from __future__ import annotations

from collections.abc import Sequence

from qanas.quantization.operators.slice import Slice


def split_into_slices(axis: int, sizes: Sequence[int]) -> list[Slice]:
    """Return the slices that are the parts of some sizes, in order.

    Args:
        axis: of the sample, counted from 0.
        sizes: of the parts; together the size of the axis.
    """
    ends = [sum(sizes[: position + 1]) for position in range(len(sizes))]
    leading = (slice(None),) * axis
    return [Slice((*leading, slice(end - size, end))) for end, size in zip(ends, sizes, strict=True)]
