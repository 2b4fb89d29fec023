"""A graph as far as its channels, the last stored axis, are concerned; some shuffles are single steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, groupby
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray

from qanas.quantization.graph import Graph, Node
from qanas.quantization.operators.arithmetic import Add, Multiply, WithConstant
from qanas.quantization.operators.base import Operator, Shape
from qanas.quantization.operators.convolution import Convolution
from qanas.quantization.operators.dense import Dense
from qanas.quantization.operators.extremes import Clamp, ExtremeOfTwo
from qanas.quantization.operators.functions import ElementwiseFunction
from qanas.quantization.operators.reductions import Mean
from qanas.quantization.operators.rescaling import HardSigmoid, Quantize, ReLU
from qanas.quantization.operators.resize import ResizeBilinear, ResizeNearest
from qanas.quantization.operators.shapes import Concatenate, Reshape, Slice, Transpose
from qanas.quantization.operators.tables import TabulatedFunction
from qanas.quantization.operators.windows import AveragePool, MaxPool, Pad

Numbers = NDArray[np.int64]

BY_CHANNEL = (
    Add,
    AveragePool,
    Clamp,
    Concatenate,
    Convolution,
    ElementwiseFunction,
    ExtremeOfTwo,
    HardSigmoid,
    MaxPool,
    Mean,
    Multiply,
    Pad,
    Quantize,
    ReLU,
    Reshape,
    ResizeBilinear,
    ResizeNearest,
    Slice,
    TabulatedFunction,
    Transpose,
    WithConstant,
)
"""Operators that put out as many channels as they get, each computed from the same channel of the inputs, unless they
go over the channels themselves."""


@dataclass(frozen=True)
class Flow:
    """Where the channels of a node's result come from, and what order its operator needs.

    Attributes:
        parts: for each input of a channel of the result, that one's number among the channels of all inputs in a row;
            empty where channels are made anew.
        reads: for each input, the place of each channel: channels of one place can stand in for each other, weights
            taking their order; None where all can.
        writes: the same for the result.
    """

    parts: tuple[Numbers, ...] = ()
    reads: tuple[Numbers | None, ...] = ()
    writes: Numbers | None = None


@dataclass(frozen=True)
class Step:
    """A node as far as channels are concerned.

    Attributes:
        name: of its result.
        inputs: names of values.
        size: channels of the result.
        flow: where they come from.
    """

    name: str
    inputs: tuple[str, ...]
    size: int
    flow: Flow


def channels_of(shape: Shape) -> int:
    """Return the number of channels of a stored value."""
    return shape[-1] if shape else 1


def flow_of(operator: Operator, inputs: Sequence[Shape], output: Shape) -> Flow:
    """Return what an operator does; one that nothing is known of needs every channel where it is.

    Args:
        operator: of a node.
        inputs: shapes of one sample.
        output: likewise.
    """
    sizes, size = [channels_of(shape) for shape in inputs], channels_of(output)
    if isinstance(operator, Dense):
        return Flow(reads=(None,))
    if isinstance(operator, Convolution) and not operator.kernel.by_channel(sizes[0]):
        return _in_groups(operator.kernel.groups, sizes[0], size)
    parts = _parts(operator, inputs, output)
    return Flow(parts, (None,) * len(inputs)) if parts else Flow((), tuple(map(np.arange, sizes)), np.arange(size))


def _parts(operator: Operator, inputs: Sequence[Shape], output: Shape) -> tuple[Numbers, ...]:
    """Return `Flow.parts`, shape (channels,) each, of an operator that leaves channels what they are, else nothing."""
    sizes, size = [channels_of(shape) for shape in inputs], channels_of(output)
    if isinstance(operator, Slice) and isinstance(entry := split_entry(operator, len(inputs[0])), slice):
        return (np.arange(sizes[0])[entry],)
    if isinstance(operator, Concatenate) and operator.axis == len(output) - 1:
        return (np.arange(size),)
    if _by_channel(type(operator)) and set(sizes) == {size} and not _over_channels(operator, inputs[0]):
        starts = accumulate(sizes[:-1], initial=0)
        return tuple(start + np.arange(size) for start in starts)
    return ()


@cache
def _by_channel(kind: type[Operator]) -> bool:
    """Tell whether operators of a kind are in `BY_CHANNEL`; the question is asked thousands of times."""
    return issubclass(kind, BY_CHANNEL)


def split_entry(operator: Slice, rank: int) -> slice | int | None:
    """Return how a slice takes channels, None where it takes all of them.

    Args:
        operator: the slice.
        rank: axes of one sample of its input.
    """
    entry = operator.indices[-1] if len(operator.indices) == rank else slice(None)
    return None if entry == slice(None) else entry


def _in_groups(groups: int, inputs: int, outputs: int) -> Flow:
    if groups == 1:
        return Flow(reads=(None,))
    return Flow((), (np.arange(inputs) // (inputs // groups),), np.arange(outputs) // (outputs // groups))


def _over_channels(operator: Operator, shape: Shape) -> bool:
    """Tell whether an operator that keeps the number of channels goes over them all the same."""
    last = len(shape) - 1
    match operator:
        case Mean():
            return last in operator.axes
        case Transpose():
            return operator.axes[-1] != last
        case Pad():
            return any(operator.padding[-1])
        case Slice():
            return isinstance(split_entry(operator, len(shape)), int)
    return False


@dataclass(frozen=True)
class Shuffle:
    """A reordering of channels.

    Attributes:
        nodes: names of the nodes that it consists of; the last one is its result.
        source: the value whose channels are reordered.
        order: for each channel of the result, its number in the source.
    """

    nodes: tuple[str, ...]
    source: str
    order: Numbers

    @property
    def result(self) -> str:
        """The name of the reordered value."""
        return self.nodes[-1]


def shuffles_of(graph: Graph) -> list[Shuffle]:
    """Return the shuffles of a graph, in the order of execution."""
    if not any(isinstance(node.operator, Transpose) for node in graph.nodes):
        return []
    uses = graph.uses
    only_user = {name: node for node in graph.nodes for name in node.inputs if uses[name] == 1}
    shuffles: list[Shuffle] = []
    taken: set[str] = set()
    for node in graph.nodes:
        if node.name not in taken and _moves(node):
            chain = [node]
            while (after := only_user.get(chain[-1].name)) is not None and _moves(after):
                chain.append(after)
            found = _longest(graph, chain)
            if found is not None:
                shuffles.append(found)
                taken.update(found.nodes)
    return shuffles


def _moves(node: Node) -> bool:
    return isinstance(node.operator, Reshape | Transpose)


def _longest(graph: Graph, chain: Sequence[Node]) -> Shuffle | None:
    """Return the shuffle that most of a chain's first nodes make up, None where none do."""
    source = chain[0].inputs[0]
    for length in range(len(chain), 0, -1):
        nodes = chain[:length]
        if any(isinstance(node.operator, Transpose) for node in nodes):
            order = _order(graph.shapes[source], nodes)
            if order is not None:
                return Shuffle(tuple(node.name for node in nodes), source, order)
    return None


def _order(shape: Shape, nodes: Sequence[Node]) -> Numbers | None:
    """Return the order, shape (channels,), that nodes put channels into, None where they do anything else."""
    places = torch.arange(prod(shape)).reshape(1, *shape)
    for node in nodes:
        places = node.operator.forward(places)
    if tuple(places.shape[1:]) != shape:
        return None
    channels = channels_of(shape)
    moved = places.reshape(-1, channels).numpy()
    order: Numbers = moved[0].astype(np.int64)
    return order if np.array_equal(moved, np.arange(len(moved))[:, None] * channels + order) else None


OUTPUT = "the network's output"
"""Of several ones, each but the first has its number behind it."""


@dataclass(frozen=True)
class Split:
    """Slices of the channels of one value.

    Attributes:
        size: channels of the value.
        slices: names and channels of the parts.
    """

    size: int
    slices: tuple[tuple[str, range], ...]


@dataclass(frozen=True)
class Steps:
    """The steps of a graph that have to do with the channels of some shuffles, wherever these come from and go.

    Attributes:
        steps: in the order of execution; the network's input first, what reads its output last.
        shuffles: names of the steps that are to be left out.
        splits: what may be split another way without them, in the order of execution.
    """

    steps: tuple[Step, ...]
    shuffles: frozenset[str]
    splits: tuple[Split, ...]

    @classmethod
    def of(cls, graph: Graph, shuffles: Sequence[Shuffle]) -> Steps:
        """Return the steps of a graph, given shuffles being a step each, all others what they consist of."""
        steps = _steps(graph, shuffles)
        results = {shuffle.result for shuffle in shuffles}
        together = _tied(steps, results)
        kept = (_within(step, together) for step in steps)
        return cls(
            tuple(step for step in kept if step.size or step.inputs),
            frozenset(results),
            _splits(graph, _reached(steps, results)),
        )


def linked(graph: Graph, shuffles: Sequence[Shuffle]) -> list[list[Shuffle]]:
    """Return shuffles in groups: two are in one if what one of them reorders is reordered by the other one again."""
    steps = _steps(graph, shuffles)
    groups: list[list[Shuffle]] = []
    for shuffle in shuffles:
        near = [group for group in groups if shuffle.source in _reached(steps, {entry.result for entry in group})]
        groups = [group for group in groups if group not in near]
        groups.append([*(entry for group in near for entry in group), shuffle])
    return groups


def _steps(graph: Graph, shuffles: Sequence[Shuffle]) -> list[Step]:
    by_result = {shuffle.result: shuffle for shuffle in shuffles}
    inside = {name for shuffle in shuffles for name in shuffle.nodes[:-1]}
    sizes = {name: channels_of(shape) for name, shape in graph.shapes.items()}
    steps = [Step(name, (), sizes[name], Flow(writes=np.arange(sizes[name]))) for name in graph.inputs]
    for node in graph.nodes:
        if node.name in by_result:
            shuffle = by_result[node.name]
            steps.append(Step(node.name, (shuffle.source,), sizes[node.name], Flow((shuffle.order,), (None,))))
        elif node.name not in inside:
            shapes = [graph.shapes[name] for name in node.inputs]
            flow = flow_of(node.operator, shapes, graph.shapes[node.name])
            steps.append(Step(node.name, node.inputs, sizes[node.name], flow))
    for place, name in enumerate(graph.outputs):
        whole = np.arange(sizes[name])
        steps.append(Step(f"{OUTPUT} {place}" if place else OUTPUT, (name,), len(whole), Flow((whole,), (whole,))))
    return steps


def _reached(steps: Sequence[Step], names: set[str]) -> set[str]:
    """Return the values that have channels of given ones."""
    reached = set(names)
    for step in steps:
        if step.flow.parts and reached.intersection(step.inputs):
            reached.add(step.name)
    return reached


def _tied(steps: Sequence[Step], names: set[str]) -> set[str]:
    """Return the values whose order of channels has to do with that of given ones."""
    tied, before = set(names), 0
    while len(tied) > before:
        before = len(tied)
        for step in steps:
            if step.flow.parts and not tied.isdisjoint((step.name, *step.inputs)):
                tied.update((step.name, *step.inputs))
    return tied


def _within(step: Step, values: set[str]) -> Step:
    """Return what is left of a step where only some values matter."""
    if step.flow.parts:
        return step if step.name in values else Step(step.name, (), 0, Flow())
    read = [
        pair for pair in zip(step.inputs, step.flow.reads, strict=True) if pair[0] in values and pair[1] is not None
    ]
    inside = step.name in values
    flow = Flow((), tuple(place for _, place in read), step.flow.writes if inside else None)
    return Step(step.name, tuple(name for name, _ in read), step.size if inside else 0, flow)


def _splits(graph: Graph, touched: set[str]) -> tuple[Split, ...]:
    parts: list[tuple[str, str, range]] = []
    for node in graph.nodes:
        source = node.inputs[0]
        if isinstance(node.operator, Slice) and source in touched:
            entry = split_entry(node.operator, len(graph.shapes[source]))
            if isinstance(entry, slice):
                parts.append((source, node.name, range(channels_of(graph.shapes[source]))[entry]))
    sources = [source for source, _ in groupby(parts, key=lambda part: part[0])]
    return tuple(
        Split(
            channels_of(graph.shapes[source]), tuple((name, taken) for other, name, taken in parts if other == source)
        )
        for source in dict.fromkeys(sources)
    )
