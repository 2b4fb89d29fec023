"""Biases that take up the mean error of rounded weights (Nagel et al. 2019): better values for no byte.

Rounding a weight adds (W' - W) x to an output. Behind a ReLU inputs are never negative, so that this has a mean, the
same for every sample. It is known beforehand, from the mean input, and the bias takes it off.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from qanas.core.even_spread import evenly_spread
from qanas.quantization.border import Tensors, tensors_by_name
from qanas.quantization.graph import Graph, Node
from qanas.quantization.operators.base import Operator
from qanas.quantization.quantized_graph import QuantizedGraph
from qanas.quantization.ranges import Ranges, chunks_by_name
from qanas.quantization.scheme import Scheme

MEANS_OF = 256
"""Samples that means are taken over: they are known sooner than how far values reach."""


@torch.no_grad()
def without_mean_error(graph: Graph, samples: Tensors, ranges: Mapping[str, Ranges], scheme: Scheme) -> Graph:
    """Return a graph whose biases take up what the rounding of its weights adds on average.

    Args:
        graph: with its weights.
        samples: of the calibration, each of shape (n, *input shape), as the torch network takes them.
        ranges: of every value.
        scheme: by which it will be quantized.

    Raises:
        UnsupportedSchemeError: a kernel doesn't have the scheme.
    """
    quantized = QuantizedGraph.quantize(graph, ranges, scheme)
    # With QUANTIZE in front of what computes in other bits.
    sources = {node.name: node.inputs for node in quantized.graph.nodes}
    means = _mean_inputs(graph, tensors_by_name(samples, graph.border.input_names))

    def corrected(node: Node) -> Operator:
        if node.name not in means:
            return node.operator
        affines = [quantized.affines[name] for name in sources[node.name]]
        weight, bias = (node.operator.tensors()[field] for field in ("weight", "bias"))
        rounded = node.operator.quantized_weights(affines, scheme.of(node.name))["weight"].dequantize()
        lost = node.operator.products(weight - rounded, means[node.name])
        assert lost is not None  # noqa: S101 - it has a mean input
        return replace(node.operator, bias=bias + lost.flatten(0, -2).mean(0))  # type: ignore[type-var]

    return replace(graph, nodes=tuple(replace(node, operator=corrected(node)) for node in graph.nodes))


def _mean_inputs(graph: Graph, samples: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the mean input, shape (1, *shape), of every node whose bias can take an error up, by its name."""
    few = {name: values[torch.from_numpy(evenly_spread(len(values), MEANS_OF))] for name, values in samples.items()}
    means: dict[str, Tensor] = {}
    count = len(next(iter(few.values())))
    for chunk in chunks_by_name(few, graph.largest_value):
        values = dict(graph.stored_inputs(chunk))
        for node, inputs in graph.walk(values):
            if type(node.operator).products is not Operator.products:
                means[node.name] = means.get(node.name, 0.0) + inputs[0].sum(0, keepdim=True) / count
            values[node.name] = node.operator.forward(*inputs)
    return means
