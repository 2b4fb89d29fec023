"""The quantized graph: scores what ships, and is lowered to what the runtime executes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from qanas.quantization.affine import Affine
from qanas.quantization.evaluator import Arithmetic, Evaluator
from qanas.quantization.graph import INPUT, Graph, Node
from qanas.quantization.operators.base import QuantizedOperator, Ranges
from qanas.quantization.program import CODE_TYPES, Program, RuntimeTensor, TensorQuantization
from qanas.quantization.scheme import Scheme, UnknownLayerError, UnsupportedSchemeError
from qanas.quantization.widths import with_equal_widths


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
        """Simulate the runtime: real inputs to the output's codes as float32, both in the torch network's order."""
        return self.evaluator(arithmetic).codes(inputs)

    def forward(self, inputs: Tensor, arithmetic: Arithmetic = "exact") -> Tensor:
        """Simulate the runtime: real inputs to real outputs."""
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
