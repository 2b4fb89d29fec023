"""The quantized graph: scores what ships, and is lowered to what the runtime executes."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from qanas.quantization.graph import INPUT, Graph, Node
from qanas.quantization.numbers.affine import Affine
from qanas.quantization.operators.base import QuantizedOperator
from qanas.quantization.passes.parameters import with_equal_widths
from qanas.quantization.program import CODE_TYPES, Program, RuntimeTensor, TensorQuantization
from qanas.quantization.ranges import Ranges, chunks_of
from qanas.quantization.scheme import Scheme, UnknownLayerError, UnsupportedSchemeError
from qanas.quantization.simulation.fast import FastKernel, quantization


@dataclass(frozen=True)
class QuantizedGraph:
    """A graph whose weights are integers and whose values have a scale and a zero point.

    Attributes:
        graph: the network, activations fused, with QUANTIZE between values of different bits.
        operators: the quantized operator of every node.
        affines: the parameters of every value.
    """

    graph: Graph
    operators: Mapping[str, QuantizedOperator]
    affines: Mapping[str, Affine]

    @classmethod
    def quantize(cls, graph: Graph, ranges: Mapping[str, Ranges], scheme: Scheme) -> QuantizedGraph:
        """Quantize every node of a graph; arguments and errors as of `GraphQuantizer`."""
        return GraphQuantizer(graph, ranges, scheme).quantized()

    @classmethod
    def from_shapes(cls, graph: Graph, scheme: Scheme) -> QuantizedGraph:
        """Quantize with made-up ranges: everything that costs depend on, before any weight exists."""
        unit = (-1.0, 1.0)
        ranges = {name: Ranges(unit, _AnyInternal()) for name in graph.shapes}
        return cls.quantize(graph, ranges, scheme)

    @property
    def input(self) -> Affine:
        """Parameters of the input's codes."""
        return self.affines[INPUT]

    @property
    def output(self) -> Affine:
        """Parameters of the output's codes."""
        return self.affines[self.graph.output]

    @property
    def precision(self) -> str:
        """The types of the values in words, that of fewer bits first."""
        return " and ".join(CODE_TYPES[bits] for bits in sorted({affine.bits for affine in self.affines.values()}))

    def evaluator(self, arithmetic: Arithmetic = "exact", like: Evaluator | None = None) -> Evaluator:
        """Return what simulates the runtime, prepared for many calls; arguments as of `Evaluator.of`."""
        return Evaluator.of(self.graph, self.operators, self.affines, arithmetic, like)

    def codes(self, inputs: Tensor, arithmetic: Arithmetic = "exact") -> Tensor:
        """Simulate the runtime: real inputs, shape (n, *shape), to float32 codes, both in the torch network's order."""
        return self.evaluator(arithmetic).codes(inputs)

    def forward(self, inputs: Tensor, arithmetic: Arithmetic = "exact") -> Tensor:
        """Simulate the runtime: real inputs, shape (n, *shape), to real outputs."""
        return self.output.dequantize(self.codes(inputs, arithmetic))

    def program(self) -> Program:
        """Return the integer program.

        Values with equal parameters by construction (a slice of a value) share them in the file.
        """
        shared = {id(affine): TensorQuantization.of(affine) for affine in self.affines.values()}
        tensors = {
            name: RuntimeTensor((1, *shape), CODE_TYPES[self.affines[name].bits], shared[id(self.affines[name])])
            for name, shape in self.graph.shapes.items()
        }
        program = Program(tensors[INPUT], tensors[self.graph.output])
        for node in self.graph.nodes:
            inputs = [tensors[name] for name in node.inputs]
            self.operators[node.name].lower(program, inputs, tensors[node.name])
        return program


class GraphQuantizer:
    """Quantizes one graph, for an input of its own range or of others' parameters.

    A node is quantized once for the parameters of its inputs: asked with many inputs, only what these reach differs.

    Args:
        graph: with its weights.
        ranges: of every value, from `Graph.calibrate`.
        scheme: for the whole network, with what differs by layer.

    Raises:
        UnsupportedSchemeError: a kernel doesn't have the scheme, or it names a layer that the network lacks.
    """

    def __init__(self, graph: Graph, ranges: Mapping[str, Ranges], scheme: Scheme) -> None:
        """Look at what doesn't depend on the input."""
        unknown = scheme.unknown_layers(graph.shapes)
        if unknown:
            known = ", ".join(graph.shapes)
            raise UnknownLayerError(f"layers.{unknown[0]}: the network has no such layer; it has {known}")
        widened = with_equal_widths(graph, scheme)
        self.graph = widened.graph
        schemes = {name: widened.scheme(scheme, name) for name in self.graph.shapes}
        ranges = widened.ranges(ranges)
        self._input = schemes[INPUT].affine(*ranges[INPUT].output)
        self._asked: dict[str, tuple[Ranges, Scheme]] = {}
        for node in self.graph.nodes:
            owner = self.graph.shared.get(node.name, node.name)
            covered = schemes[owner].affine(*ranges[owner].output).span
            self._asked[node.name] = replace(ranges[node.name], output=covered), schemes[node.name]
        self._known: dict[tuple[str, tuple[Affine, ...]], tuple[QuantizedOperator, Affine]] = {}

    def quantized(self, given: Affine | None = None) -> QuantizedGraph:
        """Quantize every node between inputs and an output of the same bits.

        Args:
            given: parameters of the input's codes; those of its range if there are none.

        Raises:
            UnsupportedSchemeError: a kernel doesn't have the scheme.
        """
        affines = {INPUT: given or self._input}
        owned: dict[str, Affine] = {}
        operators: dict[str, QuantizedOperator] = {}
        for node in self.graph.nodes:
            owner = self.graph.shared.get(node.name, node.name)
            operators[node.name], affine = self._node(node, tuple(affines[name] for name in node.inputs))
            # One object for all that share: equal by construction, not by chance.
            affines[node.name] = owned.setdefault(owner, affine)
            if affines[node.name] != affine:
                raise ValueError(f"{node.name} can't have the parameters of {owner}: {affine}, {owned[owner]}")
        return QuantizedGraph(self.graph, operators, affines)

    def _node(self, node: Node, inputs: tuple[Affine, ...]) -> tuple[QuantizedOperator, Affine]:
        place = (node.name, inputs)
        if place not in self._known:
            ranges, scheme = self._asked[node.name]
            try:
                self._known[place] = node.operator.quantize(inputs, ranges, scheme)
            except UnsupportedSchemeError as error:
                raise UnsupportedSchemeError(f"{node.name}: {error}") from error
        return self._known[place]


class _AnyInternal(dict[str, tuple[float, float]]):
    """Made-up ranges for whatever internal value an operator asks for."""

    def __missing__(self, name: str) -> tuple[float, float]:
        return (-1.0, 1.0)


logger = logging.getLogger("qanas")

Arithmetic = Literal["exact", "fast"]


@dataclass(frozen=True)
class Evaluator:
    """A quantized graph, prepared for many calls.

    Attributes:
        graph: the network.
        quantize: what quantizes the input.
        operators: the quantized operator of every node.
        kernels: what computes each node; from codes to codes, in fast arithmetic from steps to steps.
        zero_point: from what the last kernel returns to codes.
    """

    graph: Graph
    quantize: FastKernel
    operators: Mapping[str, QuantizedOperator]
    kernels: Mapping[str, FastKernel]
    zero_point: int

    @classmethod
    def of(
        cls,
        graph: Graph,
        operators: Mapping[str, QuantizedOperator],
        affines: Mapping[str, Affine],
        arithmetic: Arithmetic,
        like: Evaluator | None = None,
    ) -> Evaluator:
        """Prepare the operators of a graph.

        Args:
            graph: the network.
            operators: the quantized operator of every node.
            affines: the parameters of every value.
            arithmetic: ``exact`` or ``fast``; exact, too, where Numba is missing.
            like: one of the same graph in the same arithmetic; its kernels of the same operators are taken over.
        """
        source, output = affines[INPUT], affines[graph.output]
        if arithmetic == "fast":
            try:
                kernels = {
                    node.name: like.kernels[node.name]
                    if like is not None and like.operators[node.name] is operators[node.name]
                    else operators[node.name].fast_kernel([affines[name] for name in node.inputs], affines[node.name])
                    for node in graph.nodes
                }
                return cls(graph, quantization(source), operators, kernels, output.zero_point)
            except ImportError as error:
                logger.warning("integer networks are evaluated slowly, the compiled kernels are missing: %s", error)
        exact = {name: operator.forward for name, operator in operators.items()}
        return cls(graph, source.quantize, operators, exact, 0)

    @torch.no_grad()
    def codes(self, inputs: Tensor) -> Tensor:
        """Return the output's codes, float32, for real inputs, shape (n, *shape), both in the torch network's order."""
        return torch.cat([self._codes(chunk) for chunk in chunks_of(inputs, self.graph.largest_value)])

    def _codes(self, inputs: Tensor) -> Tensor:
        values = self.pass_on(self.quantize(self.graph.stored_input(inputs)))
        return self.graph.torch_output(values + self.zero_point)

    def pass_on(self, values: Tensor) -> Tensor:
        """Return the output as the last kernel leaves it for an input as the first one takes it, both as stored.

        In fast arithmetic those are steps: networks behind each other hand them on without a rounding.
        """
        kept = {INPUT: values}
        for node in self.graph.nodes:
            kept[node.name] = self.kernels[node.name](*(kept[name] for name in node.inputs))
            for name in self.graph.last_uses[node.name]:
                del kept[name]
        return kept[self.graph.output]
