"""Peak working memory of a program, by planning its arena as TFLite Micro does."""

from __future__ import annotations

from qanas.deployment.memory_plan import Allocation, plan_peak
from qanas.deployment.operators import kind_of
from qanas.quantization.program import Program, aligned


def peak_ram_bytes(program: Program) -> int:
    """Return the bytes of working memory that the tensors of a program need.

    That is the arena of activations and kernel scratch, and beside it the states that live as long as the model.
    The runtime's own book-keeping is not counted.
    """
    states = sum(aligned(tensor.stored_bytes) for tensor in program.tensors() if tensor.variable)
    return plan_peak([*_activations(program), *_scratch(program)]) + states


def live_bytes(program: Program) -> list[int]:
    """Return how many bytes are needed while each operator runs: values that are alive, scratch, states, all aligned.

    The arena is at least the largest of them; where its pieces don't fit together it is larger.
    """
    states = sum(aligned(tensor.stored_bytes) for tensor in program.tensors() if tensor.variable)
    pieces = [*_activations(program), *_scratch(program)]
    return [
        states + sum(piece.size for piece in pieces if piece.first <= step <= piece.last)
        for step in range(len(program.operators))
    ]


def _activations(program: Program) -> list[Allocation]:
    """Return the memory of what is computed, in the order of the file's tensors."""
    steps: dict[int, list[int]] = {id(tensor): [0] for tensor in program.inputs.values()}
    for step, operator in enumerate(program.operators):
        for tensor in (*operator.inputs, *operator.outputs):
            steps.setdefault(id(tensor), []).append(step)
    for tensor in program.outputs.values():
        steps.setdefault(id(tensor), [0]).append(max(len(program.operators) - 1, 0))
    return [
        Allocation(aligned(tensor.stored_bytes), steps[id(tensor)][0], steps[id(tensor)][-1])
        for tensor in program.tensors()
        # Tensors without a value of their own (intermediates) are nobody's input or output, or empty.
        if tensor.data is None and not tensor.variable and id(tensor) in steps and tensor.elements
    ]


def _scratch(program: Program) -> list[Allocation]:
    """Return the buffers that kernels work in while they run."""
    return [
        Allocation(aligned(size), step, step)
        for step, operator in enumerate(program.operators)
        for size in kind_of(operator.kind).scratch(operator)
    ]
