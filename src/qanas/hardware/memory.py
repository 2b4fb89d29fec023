"""Peak working memory of a program, by planning its arena as a microcontroller's runtime does."""

from __future__ import annotations

from dataclasses import dataclass

from qanas.quantization.program import Program, RuntimeTensor

ALIGNMENT = 16


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


def aligned(size: int) -> int:
    """Round up to a multiple of the arena's alignment.

    >>> aligned(17)
    32
    """
    return -(-size // ALIGNMENT) * ALIGNMENT


def plan_peak(allocations: list[Allocation]) -> int:
    """Return the arena's size in bytes when allocations are placed greedily, the largest first.

    Each is placed at the lowest offset where it overlaps none that is needed at the same time: the greedy memory
    planner of TFLite Micro.

    >>> plan_peak([Allocation(64, 0, 1), Allocation(32, 1, 2), Allocation(64, 2, 3)])
    96
    """
    placed: list[tuple[int, Allocation]] = []
    for allocation in sorted(allocations, key=lambda entry: (-entry.size, entry.first)):
        offset = 0
        for start, other in sorted(placed, key=lambda entry: entry[0]):
            if other.overlaps(allocation):
                if offset + allocation.size <= start:
                    break
                offset = max(offset, start + other.size)
        placed.append((offset, allocation))
    return max((offset + entry.size for offset, entry in placed), default=0)


def peak_ram_bytes(program: Program) -> int:
    """Return the bytes of working memory that the tensors of a program need.

    That is the arena of activations and kernel scratch, and beside it the states that live as long as the model.
    The runtime's own book-keeping is not counted.
    """
    first: dict[int, int] = {id(program.input): 0}
    last: dict[int, int] = {id(program.output): len(program.operators) - 1}
    working: dict[int, RuntimeTensor] = {
        id(tensor): tensor
        for tensor in (
            program.input,
            program.output,
            *(tensor for operator in program.operators for tensor in operator.outputs),
        )
    }
    allocations: list[Allocation] = []
    for step, operator in enumerate(program.operators):
        for tensor in operator.outputs:
            first.setdefault(id(tensor), step)
            last[id(tensor)] = max(last.get(id(tensor), step), step)
        for source in operator.inputs:
            if source is not None and id(source) in working:
                last[id(source)] = max(last.get(id(source), step), step)
        if operator.scratch_bytes:
            allocations.append(Allocation(aligned(operator.scratch_bytes), step, step))
    allocations += [
        Allocation(aligned(tensor.stored_bytes), first[key], last.get(key, first[key]))
        for key, tensor in working.items()
    ]
    states = sum(aligned(tensor.stored_bytes) for tensor in program.tensors() if tensor.variable)
    return plan_peak(allocations) + states
