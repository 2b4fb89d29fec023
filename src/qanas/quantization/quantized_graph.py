"""The quantized graph: scores what ships, and is lowered to what the runtime executes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from torch import Tensor

from qanas.quantization.affine import Affine
from qanas.quantization.evaluator import Arithmetic, Evaluator
from qanas.quantization.graph import INPUT, Graph
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
        """Quantize every node of a graph.

        Args:
            graph: with its weights.
            ranges: of every value, from `Graph.calibrate`.
            scheme: for the whole network, with what differs by layer.

        Raises:
            UnsupportedSchemeError: a kernel doesn't have the scheme, or it names a layer that the network lacks.
        """
        unknown = scheme.unknown_layers(graph.shapes)
        if unknown:
            known = ", ".join(graph.shapes)
            raise UnknownLayerError(f"layers.{unknown[0]}: the network has no such layer; it has {known}")
        widened = with_equal_widths(graph, scheme)
        return cls._of(widened.graph, widened.ranges(ranges), partial(widened.scheme, scheme))

    @classmethod
    def _of(cls, graph: Graph, ranges: Mapping[str, Ranges], scheme_of: Callable[[str], Scheme]) -> QuantizedGraph:
        """Quantize every node between inputs and an output of the same bits."""
        affines = {INPUT: scheme_of(INPUT).affine(*ranges[INPUT].output)}
        owned: dict[str, Affine] = {}
        operators: dict[str, QuantizedOperator] = {}
        for node in graph.nodes:
            inputs = [affines[name] for name in node.inputs]
            owner = graph.shared.get(node.name, node.name)
            covered = scheme_of(owner).affine(*ranges[owner].output).span
            try:
                quantized = node.operator.quantize(
                    inputs, replace(ranges[node.name], output=covered), scheme_of(node.name)
                )
            except UnsupportedSchemeError as error:
                raise UnsupportedSchemeError(f"{node.name}: {error}") from error
            operators[node.name], affine = quantized
            # One object for all that share: equal by construction, not by chance.
            affines[node.name] = owned.setdefault(owner, affine)
            if affines[node.name] != affine:
                raise ValueError(f"{node.name} can't have the parameters of {owner}: {affine}, {owned[owner]}")
        return cls(graph, operators, affines)

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

    def evaluator(self, arithmetic: Arithmetic = "exact") -> Evaluator:
        """Return what simulates the runtime, prepared for many calls."""
        return Evaluator.of(self.graph, self.operators, self.affines, arithmetic)

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


class _AnyInternal(dict[str, tuple[float, float]]):
    """Made-up ranges for whatever internal value an operator asks for."""

    def __missing__(self, name: str) -> tuple[float, float]:
        return (-1.0, 1.0)
