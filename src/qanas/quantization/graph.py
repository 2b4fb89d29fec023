"""The graph of a network: operators in order, as traced from a torch module."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, fx, nn

from qanas.quantization.fold import fold_batch_norm, fuse_activation
from qanas.quantization.operators import OPERATORS
from qanas.quantization.operators.base import Operator, Ranges, Shape
from qanas.quantization.operators.batch_norm import BatchNorm
from qanas.quantization.program import Program, RuntimeTensor
from qanas.quantization.ranges import range_of
from qanas.quantization.scheme import Scheme

INPUT = "input"
"""The name of the graph's input value."""


class UnsupportedNetworkError(Exception):
    """A network that the graph can't hold: names the module's path and what to use instead."""


@dataclass(frozen=True)
class Node:
    """One operator and where its inputs come from.

    Attributes:
        name: also the name of its output value.
        operator: what it computes.
        inputs: names of values.
    """

    name: str
    operator: Operator
    inputs: tuple[str, ...]


@dataclass(frozen=True)
class Graph:
    """Operators in an order in which every input is there when it is needed.

    Attributes:
        input_shape: of one sample.
        nodes: in the order of execution.
        output: the name of the value that comes out.
    """

    input_shape: Shape
    nodes: tuple[Node, ...]
    output: str

    @cached_property
    def shapes(self) -> Mapping[str, Shape]:
        """The shape of one sample of every value.

        Raises:
            UnsupportedNetworkError: shapes that don't fit.
        """
        shapes: dict[str, Shape] = {INPUT: self.input_shape}
        for node in self.nodes:
            try:
                shapes[node.name] = node.operator.output_shape(*(shapes[name] for name in node.inputs))
            except ValueError as error:
                raise UnsupportedNetworkError(f"{node.name}: {error}") from error
        return shapes

    def forward(self, inputs: Tensor) -> Tensor:
        """Compute in float32, (batch, *input_shape) to the output."""
        values = {INPUT: inputs}
        for node in self.nodes:
            values[node.name] = node.operator.forward(*(values[name] for name in node.inputs))
        return values[self.output]

    @torch.no_grad()
    def calibrate(self, samples: Tensor, scheme: Scheme | None = None) -> dict[str, Ranges]:
        """Return the ranges of everything on some samples.

        Args:
            samples: shape (n, *input_shape); enough of them: 64 windows clip the head of an LSTM by several dB.
            scheme: how ranges are taken; None: the smallest and the largest values.

        Raises:
            ValueError: no samples, those of another shape, or values that are not finite.
        """
        if len(samples) == 0:
            raise ValueError("no samples to calibrate on")
        if tuple(samples.shape[1:]) != self.input_shape:
            raise ValueError(f"samples of shape {tuple(samples.shape[1:])}; the network takes {self.input_shape}")
        scheme = Scheme() if scheme is None else scheme
        values = {INPUT: samples}
        ranges = {INPUT: Ranges(range_of(INPUT, samples, scheme.of(INPUT).ranges), {})}
        for node in self.nodes:
            values[node.name], internals = node.operator.observe(*(values[name] for name in node.inputs))
            method = scheme.of(node.name).ranges
            ranges[node.name] = Ranges(
                range_of(node.name, values[node.name], method),
                {name: range_of(f"{node.name}.{name}", value, method) for name, value in internals.items()},
            )
        return ranges

    def program(self) -> Program:
        """Return the float32 program."""
        tensors = {name: RuntimeTensor((1, *shape), "float32") for name, shape in self.shapes.items()}
        program = Program(tensors[INPUT], tensors[self.output])
        for node in self.nodes:
            node.operator.lower(program, [tensors[name] for name in node.inputs], tensors[node.name])
        return program

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one sample."""
        return sum(node.operator.macs(*(self.shapes[name] for name in node.inputs)) for node in self.nodes)

    @property
    def parameters(self) -> int:
        """The number of weights and biases."""
        return sum(node.operator.parameters() for node in self.nodes)

    @classmethod
    def trace(cls, network: nn.Module, input_shape: Shape) -> Graph:
        """Return the graph of a network, batch norms folded and activations fused.

        The weights are referred to, not copied.

        Raises:
            UnsupportedNetworkError: an operator that the graph doesn't have, data-dependent control flow, or
                shapes that don't fit.
        """
        tracer = _Tracer()
        try:
            traced = tracer.trace(network)
        except fx.proxy.TraceError as error:
            raise UnsupportedNetworkError(
                f"{type(network).__name__}: {error}; remove control flow on values"
            ) from error
        nodes: list[Node] = []
        names: dict[fx.Node, str] = {}
        output = INPUT
        for entry in traced.nodes:
            if entry.op == "placeholder":
                if names:
                    raise UnsupportedNetworkError(f"{entry.name}: a second input; the network must take one tensor")
                names[entry] = INPUT
            elif entry.op != "output" and not entry.users:
                raise UnsupportedNetworkError(f"{entry.name}: its result is not used; remove it from the network")
            elif entry.op == "output":
                output = names[_only_value(entry)]
            else:
                operator = _operator_of(network, entry)
                inputs = tuple(names[source] for source in _value_arguments(entry))
                nodes.append(Node(entry.name, operator, inputs))
                names[entry] = entry.name
        graph = cls(input_shape, tuple(nodes), output)
        graph = _absorb(graph, fold_batch_norm)
        for node in graph.nodes:
            if isinstance(node.operator, BatchNorm):
                raise UnsupportedNetworkError(
                    f"{node.name}: this batch norm can't be folded; put it right behind a convolution or a linear "
                    "layer whose output nothing else takes"
                )
        return _absorb(graph, fuse_activation)


def trace_shapes(build: Callable[[], nn.Module], input_shape: Shape) -> Graph:
    """Return the graph of a network with zero weights: enough for shapes and costs, and no time on initialising.

    Args:
        build: makes the network; called with torch's meta device as the default one.
        input_shape: of one sample.

    Raises:
        UnsupportedNetworkError: as `Graph.trace`.
    """
    with torch.device("meta"):
        network = build()
    # Tracing needs values it can look at; on the meta device even a detach() loads seconds' worth of torch.
    network = network.to_empty(device="cpu")
    with torch.no_grad():
        for tensor in (*network.parameters(), *network.buffers()):
            tensor.zero_()
    return Graph.trace(network, input_shape)


class _Tracer(fx.Tracer):
    """Stops at the modules that are operators; everything else is looked into."""

    known = tuple(module for operator in OPERATORS for module in operator.modules)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Tell whether the module is an operator, or torch's own and so unknown."""
        return isinstance(m, self.known) or super().is_leaf_module(m, module_qualified_name)


def _value_arguments(entry: fx.Node) -> list[fx.Node]:
    return [argument for argument in entry.args if isinstance(argument, fx.Node)]


def _only_value(entry: fx.Node) -> fx.Node:
    value = entry.args[0]
    if not isinstance(value, fx.Node):
        raise UnsupportedNetworkError(f"the network puts out {value}; it must put out one tensor")
    return value


def _operator_of(network: nn.Module, entry: fx.Node) -> Operator:
    """Return the operator of one traced call."""
    if entry.op == "call_module":
        module = network.get_submodule(str(entry.target))
        for operator in OPERATORS:
            if type(module) in operator.modules:
                return operator.from_module(module)
        raise UnsupportedNetworkError(
            f"{entry.target}: {type(module).__name__} has no operator; known are {_known_modules()}"
        )
    target: Any = entry.target
    if entry.op == "call_function":
        # In place or not, the value is the same.
        options = sorted(set(entry.kwargs) - {"inplace"})
        if options:
            raise UnsupportedNetworkError(f"{entry.name}: the options {', '.join(options)} are not known here")
        for operator in OPERATORS:
            if target in operator.functions:
                rest = [argument for argument in entry.args if not isinstance(argument, fx.Node)]
                try:
                    return operator.from_call(*rest)
                except ValueError as error:
                    raise UnsupportedNetworkError(f"{entry.name}: {error}") from error
    raise UnsupportedNetworkError(f"{entry.name}: {entry.op} {target} has no operator; known are {_known_modules()}")


def _known_modules() -> str:
    return ", ".join(sorted(module.__name__ for operator in OPERATORS for module in operator.modules))


def _absorb(graph: Graph, merged: Callable[[Operator, Operator], Operator | None]) -> Graph:
    """Merge each node into the one before it, where that feeds nothing else and ``merged`` gives an operator."""
    uses = Counter(name for node in graph.nodes for name in node.inputs)
    nodes: dict[str, Node] = {}
    renamed: dict[str, str] = {}
    for node in graph.nodes:
        inputs = tuple(renamed.get(name, name) for name in node.inputs)
        before = nodes.get(inputs[0])
        if before is not None and uses[node.inputs[0]] == 1:
            operator = merged(before.operator, node.operator)
            if operator is not None:
                nodes[before.name] = replace(before, operator=operator)
                renamed[node.name] = before.name
                continue
        nodes[node.name] = replace(node, inputs=inputs)
    return Graph(graph.input_shape, tuple(nodes.values()), renamed.get(graph.output, graph.output))
