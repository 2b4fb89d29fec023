"""Where a model's values lie in its memory; what is a part of another value, as it lies there, has none of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from qanas.deployment.memory_plan import Allocation, planned_offsets
from qanas.quantization.program import Program, RuntimeOperator, RuntimeTensor

WORD = 4
"""Bytes that values are aligned at."""

Scratch = Callable[[RuntimeOperator], int]
"""Returns the bytes that a kernel works in while it runs."""

Views = Callable[[RuntimeOperator], Sequence[int] | None]
"""Returns where in its input each output of an operator begins, in bytes; None where they lie otherwise."""


@dataclass(frozen=True)
class Layout:
    """A model's memory.

    Attributes:
        size: in bytes.
        offsets: of values, by their identity.
        scratch: of operators that work in memory of their own, by their identity.
    """

    size: int
    offsets: Mapping[int, int] = field(default_factory=dict)
    scratch: Mapping[int, int] = field(default_factory=dict)

    def offset(self, tensor: RuntimeTensor) -> int:
        """Return where a value begins, in bytes."""
        return self.offsets[id(tensor)]


def computed(tensors: Sequence[RuntimeTensor | None]) -> list[RuntimeTensor]:
    """Return those that lie in the model's memory: what goes in or is computed, and has any numbers."""
    return [t for t in tensors if t is not None and t.data is None and not t.variable and t.elements > 0]


def _aligned(size: int) -> int:
    return -(-size // WORD) * WORD


def laid_out(program: Program, views: Views, scratch: Scratch) -> Layout:
    """Place all values of a program.

    Inputs are there before the first operator, outputs stay until the last one is done.

    Args:
        program: with its operators in the order of execution.
        views: of an operator.
        scratch: of an operator.
    """
    parts = _parts(program, views)
    whole: dict[int, RuntimeTensor] = {}
    steps: dict[int, list[int]] = {}
    for step, tensor in _uses(program):
        owner, _ = parts.get(id(tensor), (tensor, 0))
        whole[id(owner)] = owner
        steps.setdefault(id(owner), []).append(step)
    working = [(step, operator) for step, operator in enumerate(program.operators) if scratch(operator)]
    allocations = [Allocation(_aligned(t.stored_bytes), min(steps[key]), max(steps[key])) for key, t in whole.items()]
    allocations += [Allocation(_aligned(scratch(operator)), step, step) for step, operator in working]
    places = planned_offsets(allocations)
    offsets = dict(zip(whole, places, strict=False))
    offsets |= {key: offsets[id(owner)] + start for key, (owner, start) in parts.items() if id(owner) in offsets}
    size = max((place + allocation.size for place, allocation in zip(places, allocations, strict=True)), default=WORD)
    by_operator = {id(operator): place for (_, operator), place in zip(working, places[len(whole) :], strict=True)}
    return Layout(size, offsets, by_operator)


def _parts(program: Program, views: Views) -> dict[int, tuple[RuntimeTensor, int]]:
    """Return what is a part of another value, by its identity: of which, and where it begins there."""
    found: dict[int, tuple[RuntimeTensor, int]] = {}
    for operator in program.operators:
        starts = views(operator)
        sources = computed(operator.inputs)
        if starts is None or not sources:
            continue
        owner, first = found.get(id(sources[0]), (sources[0], 0))
        found |= {id(part): (owner, first + start) for part, start in zip(operator.outputs, starts, strict=True)}
    return found


def _uses(program: Program) -> Iterator[tuple[int, RuntimeTensor]]:
    """Yield every use of a value, with the position of the operator."""
    yield from ((0, tensor) for tensor in program.inputs.values())
    for step, operator in enumerate(program.operators):
        yield from ((step, tensor) for tensor in computed([*operator.inputs, *operator.outputs]))
    last = max(len(program.operators) - 1, 0)
    yield from ((last, tensor) for tensor in computed(list(program.outputs.values())))
