"""Quantization-aware training: a graph that trains in float32 on the values that its integers will stand for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from qanas.quantization.border import alone
from qanas.quantization.graph import Graph, Node
from qanas.quantization.numbers.affine import Affine, QuantizedWeights
from qanas.quantization.numbers.rounding import round_half_away
from qanas.quantization.operators.base import Operator
from qanas.quantization.quantized_graph import QuantizedGraph
from qanas.quantization.ranges import Ranges
from qanas.quantization.scheme import Scheme


class FakeQuantizedGraph(nn.Module):
    """A graph as a module whose weights and values are rounded to what their codes stand for (Jacob et al. 2018).

    Weights are quantized anew at every step as `QuantizedGraph` will quantize them, but for biases, whose 32 bits
    are not rounded. Values are quantized at every node's output; those inside an operator, such as the cell of an
    LSTM, are not. Gradients pass the rounding unchanged (straight-through, Bengio et al. 2013) and are zero where
    the codes saturate.

    Args:
        graph: with its weights, batch norms folded; is not changed.
        ranges: of every value, from `Graph.calibrate`; they stay as they are.
        scheme: that it will ship with.
    """

    def __init__(self, graph: Graph, ranges: Mapping[str, Ranges], scheme: Scheme) -> None:
        """Copy the graph's weights into parameters."""
        super().__init__()
        self._graph = graph
        self._scheme = scheme
        quantized = QuantizedGraph.quantize(graph, ranges, scheme)
        self._widened, self._affines = quantized.graph, quantized.affines
        self._places: list[tuple[str, str, int]] = []
        parameters: list[Tensor] = []
        known: dict[tuple[str, str], list[int]] = {}
        for node in graph.nodes:
            for field, tensor in node.operator.tensors().items():
                # Nodes of one origin train the same weights: they stay equal, and are stored once.
                numbers = known.setdefault((node.origin or f"node {node.name}", field), [])
                number = next((other for other in numbers if torch.equal(parameters[other], tensor)), len(parameters))
                if number == len(parameters):
                    # Some are views of torch's weights in the stored order; optimisers want them in one piece.
                    parameters.append(tensor.detach().clone(memory_format=torch.contiguous_format))
                    numbers.append(number)
                self._places.append((node.name, field, number))
        self._tensors = nn.ParameterList(parameters)

    def forward(self, inputs: Tensor | Mapping[str, Tensor]) -> Tensor | Mapping[str, Tensor]:
        """Map inputs, shape (batch, *shape), to outputs, both in the torch network's order.

        Args:
            inputs: one tensor, or tensors by name, whose outputs come by name as well; several outputs always do.
        """
        trained = self._by_node()
        stored = self._graph.stored_inputs(inputs)
        values = {name: fake_quantize(value, self._affines[name]) for name, value in stored.items()}
        for node in self._widened.nodes:
            operator = self._fake(node, trained.get(node.name, {}))
            result = operator.forward(*(values[name] for name in node.inputs))
            values[node.name] = fake_quantize(result, self._affines[node.name])
        outputs = self._graph.torch_outputs(values)
        return outputs if isinstance(inputs, Mapping) else alone(outputs)

    def graph(self) -> Graph:
        """Return the graph with the trained weights, not rounded: to be calibrated and quantized as any other."""
        trained = self._by_node()
        nodes = tuple(
            replace(node, operator=_with(node.operator, {k: v.detach().clone() for k, v in tensors.items()}))
            for node in self._graph.nodes
            for tensors in [trained.get(node.name, {})]
        )
        return replace(self._graph, nodes=nodes)

    def _by_node(self) -> dict[str, dict[str, Tensor]]:
        found: dict[str, dict[str, Tensor]] = {}
        tensors = list(self._tensors)
        for name, field, number in self._places:
            found.setdefault(name, {})[field] = tensors[number]
        return found

    def _fake(self, node: Node, tensors: Mapping[str, Tensor]) -> Operator:
        """Return a node's operator with the present weights, rounded."""
        operator = _with(node.operator, tensors)
        inputs = [self._affines[name] for name in node.inputs]
        quantized = operator.quantized_weights(inputs, self._scheme.of(node.name))
        return _with(operator, {name: fake_quantize_weights(tensors[name], quantized[name]) for name in quantized})


def _with(operator: Operator, tensors: Mapping[str, Tensor]) -> Operator:
    """Return an operator with other weights."""
    return replace(operator, **tensors) if tensors else operator  # type: ignore[type-var]


def fake_quantize(values: Tensor, affine: Affine) -> Tensor:
    """Return what the codes of ``values``, any shape, stand for; see `FakeQuantizedGraph` for the gradient."""
    with torch.no_grad():
        codes = round_half_away(values / affine.scale) + affine.zero_point
        inside = (codes >= affine.low) & (codes <= affine.high)
        rounded = affine.dequantize(codes.clamp(affine.low, affine.high))
    result: Tensor = _StraightThrough.apply(values, rounded, inside)  # type: ignore[no-untyped-call]
    return result


def fake_quantize_weights(values: Tensor, quantized: QuantizedWeights) -> Tensor:
    """Return the values that ``quantized``, the codes of ``values``, stand for, of the same shape.

    Scales are set by the largest magnitude, so that no weight is outside its codes: all of the gradient passes.
    """
    rounded = quantized.dequantize()
    result: Tensor = _StraightThrough.apply(values, rounded, torch.ones_like(rounded, dtype=torch.bool))  # type: ignore[no-untyped-call]
    return result


class _StraightThrough(Function):
    """Rounded values forward, the gradient of the values themselves backward."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch's context
        values: Tensor,
        rounded: Tensor,
        inside: Tensor,
    ) -> Tensor:
        del values
        ctx.save_for_backward(inside)
        return rounded

    @staticmethod
    def backward(
        ctx: Any,  # noqa: ANN401 - torch's context
        gradient: Tensor,
    ) -> tuple[Tensor, None, None]:
        (inside,) = ctx.saved_tensors
        return gradient * inside, None, None
