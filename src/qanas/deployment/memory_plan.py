"""Where values lie in one piece of memory, as TFLite Micro's planner places them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Allocation:
    """Memory that is needed from one operator to another, both included.

    Attributes:
        size: bytes, aligned.
        first: index of the operator that writes it.
        last: index of the last operator that reads it.
    """

    size: int
    first: int
    last: int

    def overlaps(self, other: Allocation) -> bool:
        """Tell whether both are needed at the same time."""
        return self.first <= other.last and other.first <= self.last


def planned_offsets(allocations: Sequence[Allocation]) -> list[int]:
    """Return where each allocation begins, in bytes, when they are placed greedily, the largest first.

    Each is placed at the lowest offset where it overlaps none that is needed at the same time; of equally large ones
    the last comes first. That is TFLite Micro's GreedyMemoryPlanner, its order included.

    Args:
        allocations: tensors in the order of the file, scratch buffers behind them.

    >>> planned_offsets([Allocation(64, 0, 1), Allocation(32, 1, 2), Allocation(64, 2, 3)])
    [0, 64, 0]
    """
    placed: list[tuple[int, Allocation]] = []
    offsets = [0] * len(allocations)
    order = sorted(range(len(allocations)), key=lambda position: (allocations[position].size, position), reverse=True)
    for position in order:
        allocation, offset = allocations[position], 0
        for start, other in sorted(placed, key=lambda entry: entry[0]):
            if other.overlaps(allocation):
                if offset + allocation.size <= start:
                    break
                offset = max(offset, start + other.size)
        placed.append((offset, allocation))
        offsets[position] = offset
    return offsets


def plan_peak(allocations: Sequence[Allocation]) -> int:
    """Return the size in bytes of the memory in which allocations are placed so.

    >>> plan_peak([Allocation(64, 0, 1), Allocation(32, 1, 2), Allocation(64, 2, 3)])
    96
    """
    pairs = zip(planned_offsets(allocations), allocations, strict=True)
    return max((offset + entry.size for offset, entry in pairs), default=0)
