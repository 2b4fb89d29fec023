"""Where integers lose it: how much of a network's noise each of its layers makes.

One layer after the other is replaced by its float self: real weights and real arithmetic between the codes that come in
and the codes that go out; everything else stays exact integers. What the outputs' noise falls by is that layer's part.
Parts need not add up: errors of one layer cancel or feed another's, and the rounding of the values between layers
belongs to none of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from qanas.quantization.border import Tensors, tensors_by_name
from qanas.quantization.graph import Node
from qanas.quantization.quantized_graph import QuantizedGraph

Values = dict[str, Tensor]


@dataclass(frozen=True)
class LayerNoise:
    """What one layer adds to a network's noise.

    Attributes:
        name: of the layer, as in the scheme's ``layers``.
        operator: what it computes, such as ``Convolution``.
        own_sqnr_db: of its output: the float layer's on the same codes over the difference to the integer one's;
            infinite where both put out the same codes.
        share: of the outputs' noise that goes with the layer in float; negative where that makes it more.
    """

    name: str
    operator: str
    own_sqnr_db: float
    share: float


@torch.no_grad()
def layer_noise(quantized: QuantizedGraph, inputs: Tensors) -> list[LayerNoise]:
    """Return what every layer adds to the noise, the largest share first; layers that only move codes are left out.

    Noise is the outputs' squared error against the float network over the squared signal, summed over outputs. Time
    grows with the square of the number of layers: a few dozen samples are enough.

    Args:
        quantized: the network.
        inputs: samples of shape (n, *shape) as the torch network takes them; tensors by name where it has several.
    """
    graph = quantized.graph
    stored = graph.stored_inputs(tensors_by_name(inputs, graph.border.input_names))
    real = dict(stored)
    codes = {name: quantized.affines[name].quantize(values) for name, values in stored.items()}
    for node in graph.nodes:
        real[node.name] = node.operator.forward(*(real[name] for name in node.inputs))
        codes[node.name] = _integers(quantized, node, codes)
    whole = _noise(quantized, real, codes)
    found = []
    for position, node in enumerate(graph.nodes):
        floating = _float_self(quantized, node, codes)
        if torch.equal(floating, codes[node.name]):
            continue
        noise = _noise(quantized, real, _passed_on(quantized, position, floating, codes))
        share = 1.0 - noise / whole if whole else 0.0
        own = _own_sqnr_db(quantized, node, floating, codes[node.name])
        found.append(LayerNoise(node.name, type(node.operator).__name__, own, share))
    return sorted(found, key=lambda layer: -layer.share)


def _integers(quantized: QuantizedGraph, node: Node, codes: Mapping[str, Tensor]) -> Tensor:
    """Return a node's output codes as the runtime computes them."""
    return quantized.operators[node.name].forward(*(codes[name] for name in node.inputs))


def _float_self(quantized: QuantizedGraph, node: Node, codes: Mapping[str, Tensor]) -> Tensor:
    """Return a node's output codes as real arithmetic has them; what follows takes nothing but codes."""
    sources = [quantized.affines[name].dequantize(codes[name]) for name in node.inputs]
    return quantized.affines[node.name].quantize(node.operator.forward(*sources))


def _passed_on(quantized: QuantizedGraph, position: int, changed: Tensor, codes: Mapping[str, Tensor]) -> Values:
    """Return all codes with those of one node changed, and of all nodes that it reaches."""
    nodes = quantized.graph.nodes
    fresh: Values = {nodes[position].name: changed}
    for node in nodes[position + 1 :]:
        if any(name in fresh for name in node.inputs):
            fresh[node.name] = _integers(quantized, node, {**codes, **fresh})
    return {**codes, **fresh}


def _noise(quantized: QuantizedGraph, real: Mapping[str, Tensor], codes: Mapping[str, Tensor]) -> float:
    """Return the outputs' squared error over their squared signal, summed over outputs."""
    total = 0.0
    for name in quantized.graph.outputs:
        signal = real[name].double()
        error = quantized.affines[name].dequantize(codes[name]).double() - signal
        total += float(error.square().sum() / signal.square().sum().clamp_min(1e-30))
    return total


def _own_sqnr_db(quantized: QuantizedGraph, node: Node, floating: Tensor, integers: Tensor) -> float:
    """Return a layer's own signal-to-noise ratio from both of its outputs' codes."""
    affine = quantized.affines[node.name]
    signal = affine.dequantize(floating).double().square().sum()
    noise = (affine.dequantize(floating) - affine.dequantize(integers)).double().square().sum()
    return 10.0 * math.log10(float(signal / noise)) if float(signal) else -math.inf
