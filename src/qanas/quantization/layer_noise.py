"""Where integers lose it: how much of a network's noise each of its layers makes.

One layer after the other is replaced by its float self: real weights and real arithmetic between the codes that come in
and the codes that go out; everything else stays exact integers. What the outputs' noise falls by is that layer's part.
Parts need not add up: errors of one layer cancel or feed another's, and the rounding of the values between layers
belongs to none of them. `coarse_steps` tells of those whose step no range can make finer, `vanishing` of those whose
range a few values have made too coarse for all others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from qanas.core.card import LayerNoise
from qanas.quantization.border import Tensors, tensors_by_name
from qanas.quantization.graph import Graph, Node
from qanas.quantization.operators.base import Operator
from qanas.quantization.quantized_graph import QuantizedGraph

Values = dict[str, Tensor]

FAINTEST = 1e-20
"""Signal over noise where there is no signal: JSON has no infinity."""


WORK = 10**9
"""Multiply-accumulates that it may take, about: seconds of CPU time."""

FEWEST_SAMPLES, MOST_SAMPLES = 2, 16


def samples_affordable(graph: Graph) -> int:
    """Return how many samples of a network `layer_noise` can be had of in `WORK`: each layer runs what is behind it."""
    return max(FEWEST_SAMPLES, min(MOST_SAMPLES, WORK // max(1, graph.macs * len(graph.nodes) // 2)))


@torch.no_grad()
def layer_noise(quantized: QuantizedGraph, inputs: Tensors, floating: Graph | None = None) -> list[LayerNoise]:
    """Return what every layer adds to the noise, the largest share first; layers that only move codes are left out.

    Noise is the outputs' squared error against the float network over the squared signal, summed over outputs. Time
    grows with the square of the number of layers.

    Args:
        quantized: the network.
        inputs: samples, see `samples_affordable`, of shape (n, *shape) as the torch network takes them;
            tensors by name where it has several.
        floating: the network that it is of, where its own real weights are others (`without_mean_error`).
    """
    graph = quantized.graph
    known = {} if floating is None else {node.name: node.operator for node in floating.nodes}
    operators = {node.name: known.get(node.name, node.operator) for node in graph.nodes}
    stored = graph.stored_inputs(tensors_by_name(inputs, graph.border.input_names))
    real = dict(stored)
    codes = {name: quantized.affines[name].quantize(values) for name, values in stored.items()}
    for node in graph.nodes:
        real[node.name] = operators[node.name].forward(*(real[name] for name in node.inputs))
        codes[node.name] = _integers(quantized, node, codes)
    whole = _noise(quantized, real, codes)
    found = []
    for position, node in enumerate(graph.nodes):
        itself = _float_self(quantized, operators[node.name], node, codes)
        if torch.equal(itself, codes[node.name]):
            continue
        noise = _noise(quantized, real, _passed_on(quantized, position, itself, codes))
        share = 1.0 - noise / whole if whole else 0.0
        own = _own_sqnr_db(quantized, node, itself, codes[node.name])
        operator = type(node.operator).__name__
        found.append(LayerNoise(layer=node.name, operator=operator, own_sqnr_db=own, share=share))
    return sorted(found, key=lambda layer: -layer.share)


COARSE_DB = 20.0
"""Of values over the noise of their rounding: below it, these values spoil what the layers around them keep."""


@torch.no_grad()
def coarse_steps(quantized: QuantizedGraph, inputs: Tensors, floating: Graph) -> dict[str, float]:
    """Return values between layers for which the kernel's own step is coarse, and how coarse, in dB.

    Kernels of 8 bits put out what is between 0 and 1 in steps of 1/256, whatever there is of it: attention over n
    positions that are looked at alike has values of 1 / n. Values of 16 bits have finer ones. The noise of rounding is
    step² / 12 (Bennett 1948).

    Args:
        quantized: the network.
        inputs: a few samples, of shape (n, *shape) as the torch network takes them; by name where it has several.
        floating: the network that it is of.
    """
    asked = {
        node.name
        for node in floating.nodes
        if node.operator.parameters_from == "kernel"
        and node.name not in floating.outputs
        and (affine := quantized.affines.get(node.name)) is not None
        and max(node.operator.activation_bits) > affine.bits
    }
    if not asked:
        return {}
    values = floating.stored_inputs(tensors_by_name(inputs, floating.border.input_names))
    found = {}
    for node, sources in floating.walk(values):
        values[node.name] = node.operator.forward(*sources)
        if node.name in asked:
            noise = quantized.affines[node.name].scale ** 2 / 12.0
            signal = float(values[node.name].double().square().mean())
            found[node.name] = 10.0 * math.log10(max(signal / noise, FAINTEST))
    return {name: ratio for name, ratio in found.items() if ratio < COARSE_DB}


@torch.no_grad()
def vanishing(quantized: QuantizedGraph, inputs: Tensors, floating: Graph) -> dict[str, tuple[float, float]]:
    """Return values between layers that hardly outlast their rounding: their largest magnitude, and their step.

    Many of those that aren't 0 are below half a step there, as others reach far, and much farther than what they are
    made of: so it is behind a division by what is near 0.

    Args:
        quantized: the network.
        inputs: some samples, of shape (n, *shape) as the torch network takes them; by name where it has several.
        floating: the network that it is of.
    """
    values = floating.stored_inputs(tensors_by_name(inputs, floating.border.input_names))
    found = {}
    for node, sources in floating.walk(values):
        values[node.name] = node.operator.forward(*sources)
        affine = quantized.affines.get(node.name)
        sizes = values[node.name].abs()
        there, largest = sizes[sizes > 0], float(sizes.max())
        before = max((float(value.abs().max()) for value in sources), default=math.inf)
        if affine is None or largest < max(map(abs, affine.span)) / 2 or largest < FARTHER * before:
            continue  # a range that these samples don't need is the calibration's
        if float((there < affine.scale / 2).float().mean()) > SMALL_SHARE:
            found[node.name] = (largest, affine.scale)
    return found


SMALL_SHARE, FARTHER = 0.25, 10
"""Of values; times what they are made of."""


def _integers(quantized: QuantizedGraph, node: Node, codes: Mapping[str, Tensor]) -> Tensor:
    """Return a node's output codes as the runtime computes them."""
    return quantized.operators[node.name].forward(*(codes[name] for name in node.inputs))


def _float_self(quantized: QuantizedGraph, operator: Operator, node: Node, codes: Mapping[str, Tensor]) -> Tensor:
    """Return a node's output codes as real arithmetic has them; what follows takes nothing but codes."""
    sources = [quantized.affines[name].dequantize(codes[name]) for name in node.inputs]
    return quantized.affines[node.name].quantize(operator.forward(*sources))


def _passed_on(quantized: QuantizedGraph, position: int, changed: Tensor, codes: Mapping[str, Tensor]) -> Values:
    """Return all codes with those of one node changed, and of all nodes that it reaches."""
    first, *behind = quantized.graph.nodes[position:]
    values, reached = {**codes, first.name: changed}, {first.name}
    for node in behind:
        if not reached.isdisjoint(node.inputs):
            values[node.name] = _integers(quantized, node, values)
            reached.add(node.name)
    return values


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
    return 10.0 * math.log10(max(float(signal / noise), FAINTEST))
