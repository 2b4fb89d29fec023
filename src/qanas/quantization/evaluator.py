"""The evaluator: runs a quantized graph as the runtime does, in one of two arithmetics.

``exact`` computes every operator as LiteRT's reference kernels do, whatever the weights: the oracle that finalists,
cards and tests are held against. ``fast`` rounds in the same places, in compiled passes over chunks that fit the
cache; it sums products and interpolates in float32, which is exact up to 2^24. What differs is bounded by the tests
and measured in docs/results/evaluator.md.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from qanas.quantization.affine import Affine
from qanas.quantization.chunks import chunks_of
from qanas.quantization.graph import INPUT, Graph
from qanas.quantization.operators.base import FastKernel, QuantizedOperator
from qanas.quantization.operators.fast import quantization

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
        """Return the output's codes, float32, for real inputs, both in the torch network's order."""
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
