"""A graph as far as its channels are concerned, some shuffles being single steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from qanas.quantization.channel_order.components import Step
from qanas.quantization.channel_order.flow import Flow, channels_of, flow_of, split_entry
from qanas.quantization.channel_order.shuffles import Shuffle
from qanas.quantization.graph import INPUT, Graph
from qanas.quantization.operators.slice import Slice

OUTPUT = "the network's output"


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
    steps = [Step(INPUT, (), sizes[INPUT], Flow(writes=np.arange(sizes[INPUT])))]
    for node in graph.nodes:
        if node.name in by_result:
            shuffle = by_result[node.name]
            steps.append(Step(node.name, (shuffle.source,), sizes[node.name], Flow((shuffle.order,), (None,))))
        elif node.name not in inside:
            shapes = [graph.shapes[name] for name in node.inputs]
            flow = flow_of(node.operator, shapes, graph.shapes[node.name])
            steps.append(Step(node.name, node.inputs, sizes[node.name], flow))
    whole = np.arange(sizes[graph.output])
    return [*steps, Step(OUTPUT, (graph.output,), len(whole), Flow((whole,), (whole,)))]


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
