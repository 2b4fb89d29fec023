"""The quantized graph: scores what ships, and is lowered to what the runtime executes."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from qanas.quantization.border import Tensors, only, tensors_by_name, tensors_like
from qanas.quantization.graph import Graph, Node
from qanas.quantization.numbers.affine import Affine
from qanas.quantization.operators.base import QuantizedOperator
from qanas.quantization.passes.parameters import with_equal_widths
from qanas.quantization.program import CODE_TYPES, Program, RuntimeTensor, TensorQuantization
from qanas.quantization.ranges import Ranges, chunks_by_name, joined
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
        """Parameters of the only input's codes."""
        return only(list(self.inputs.values()), "inputs")

    @property
    def output(self) -> Affine:
        """Parameters of the only output's codes."""
        return self.affines[self.graph.output]

    @property
    def inputs(self) -> dict[str, Affine]:
        """Parameters of the inputs' codes by their names."""
        names = zip(self.graph.border.input_names, self.graph.inputs, strict=True)
        return {name: self.affines[value] for name, value in names}

    @property
    def outputs(self) -> dict[str, Affine]:
        """Parameters of the outputs' codes by their names."""
        names = zip(self.graph.border.output_names, self.graph.outputs, strict=True)
        return {name: self.affines[value] for name, value in names}

    @property
    def precision(self) -> str:
        """The types of the values in words, that of fewer bits first."""
        return " and ".join(CODE_TYPES[bits] for bits in sorted({affine.bits for affine in self.affines.values()}))

    def evaluator(self, arithmetic: Arithmetic = "exact", like: Evaluator | None = None) -> Evaluator:
        """Return what simulates the runtime, prepared for many calls; arguments as of `Evaluator.of`."""
        return Evaluator.of(self.graph, self.operators, self.affines, arithmetic, like)

    def codes(self, inputs: Tensors, arithmetic: Arithmetic = "exact") -> Tensors:
        """Simulate the runtime: real inputs, shape (n, *shape), to float32 codes, both in the torch network's order.

        Args:
            inputs: one tensor, or tensors by name; the outputs come alike.
            arithmetic: see `Evaluator.of`.
        """
        return self.evaluator(arithmetic).codes(inputs)

    def forward(self, inputs: Tensors, arithmetic: Arithmetic = "exact") -> Tensors:
        """Simulate the runtime as `codes` does: real inputs, shape (n, *shape), to real outputs."""
        codes = self.codes(tensors_by_name(inputs, self.graph.border.input_names), arithmetic)
        return tensors_like(inputs, {name: self.outputs[name].dequantize(values) for name, values in codes.items()})

    def program(self) -> Program:
        """Return the integer program.

        Values with equal parameters by construction (a slice of a value) share them in the file.
        """
        shared = {id(affine): TensorQuantization.of(affine) for affine in self.affines.values()}
        tensors = {
            name: RuntimeTensor((1, *shape), CODE_TYPES[self.affines[name].bits], shared[id(self.affines[name])])
            for name, shape in self.graph.shapes.items()
        }
        program = self.graph.empty_program(tensors)
        for node in self.graph.nodes:
            program.origin, program.layer = node.origin, node.name
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
        self._inputs = {name: schemes[name].affine(*ranges[name].output) for name in self.graph.inputs}
        self._asked: dict[str, tuple[Ranges, Scheme]] = {}
        for node in self.graph.nodes:
            owner = self.graph.shared.get(node.name, node.name)
            covered = schemes[owner].affine(*ranges[owner].output).span
            self._asked[node.name] = replace(ranges[node.name], output=covered), schemes[node.name]
        self._known: dict[tuple[str, tuple[Affine, ...]], tuple[QuantizedOperator, Affine]] = {}

    def quantized(self, given: Affine | None = None) -> QuantizedGraph:
        """Quantize every node between inputs and an output of the same bits.

        Args:
            given: parameters of the only input's codes; those of its range if there are none.

        Raises:
            UnsupportedSchemeError: a kernel doesn't have the scheme.
        """
        affines = dict(self._inputs)
        if given is not None:
            affines[only(list(affines), "inputs")] = given
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
        quantize: what quantizes each input, by the value's name.
        operators: the quantized operator of every node.
        kernels: what computes each node; from codes to codes, in fast arithmetic from steps to steps.
        zero_points: from what the last kernels return to codes, by the output's value.
    """

    graph: Graph
    quantize: Mapping[str, FastKernel]
    operators: Mapping[str, QuantizedOperator]
    kernels: Mapping[str, FastKernel]
    zero_points: Mapping[str, int]

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
        if arithmetic == "fast":
            try:
                kernels = {
                    node.name: like.kernels[node.name]
                    if like is not None and like.operators[node.name] is operators[node.name]
                    else operators[node.name].fast_kernel([affines[name] for name in node.inputs], affines[node.name])
                    for node in graph.nodes
                }
                quantize = {name: quantization(affines[name]) for name in graph.inputs}
                return cls(graph, quantize, operators, kernels, {n: affines[n].zero_point for n in graph.outputs})
            except ImportError as error:
                logger.warning("integer networks are evaluated slowly, the compiled kernels are missing: %s", error)
        exact = {name: operator.forward for name, operator in operators.items()}
        rounding = {name: affines[name].quantize for name in graph.inputs}
        return cls(graph, rounding, operators, exact, dict.fromkeys(graph.outputs, 0))

    @torch.no_grad()
    def codes(self, inputs: Tensors) -> Tensors:
        """Return the outputs' codes, float32, for real inputs, shape (n, *shape), all in the torch network's order.

        Args:
            inputs: one tensor, or tensors by name; the outputs come alike.
        """
        given = tensors_by_name(inputs, self.graph.border.input_names)
        chunks = chunks_by_name(given, self.graph.largest_value)
        return tensors_like(inputs, joined([self._codes(chunk) for chunk in chunks]))

    def _codes(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        stored = self.graph.stored_inputs(inputs)
        values = self._passed_on({name: self.quantize[name](value) for name, value in stored.items()})
        return self.graph.torch_outputs({name: value + self.zero_points[name] for name, value in values.items()})

    def pass_on(self, values: Tensor) -> Tensor:
        """Return the only output as the last kernel leaves it for the only input as the first one takes it, as stored.

        In fast arithmetic those are steps: networks behind each other hand them on without a rounding.
        """
        return self._passed_on({only(list(self.graph.inputs), "inputs"): values})[self.graph.output]

    def _passed_on(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        kept = dict(values)
        for node, sources in self.graph.walk(kept):
            kept[node.name] = self.kernels[node.name](*sources)
        return {name: kept[name] for name in self.graph.outputs}
