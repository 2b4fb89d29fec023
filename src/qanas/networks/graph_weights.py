"""The weights of a graph's network, layer by layer: whose channels hang together, and how they are replaced."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from qanas.networks.graph import INPUT, SUMS, Graph

Tensors = dict[str, Tensor]
Weights = dict[int, Tensors]
"""The tensors of each layer by its number, and of the classifier as `HEAD`."""

HEAD = 0


def weights_of(state: Mapping[str, Tensor]) -> Weights:
    """Return a state dict of a `GraphNetwork`, tensors of any shapes, by layer."""
    found: Weights = {}
    for name, tensor in state.items():
        first, _, rest = name.partition(".")
        number, _, own = rest.partition(".")
        key, own = (int(number) + 1, own) if first == "layers" else (HEAD, name)
        found.setdefault(key, {})[own] = tensor
    return found


def state_of(weights: Weights) -> dict[str, Tensor]:
    """Return the state dict, tensors of any shapes, of weights by layer."""
    return {
        own if number == HEAD else f"layers.{number - 1}.{own}": tensor.contiguous()
        for number, tensors in weights.items()
        for own, tensor in tensors.items()
    }


# Channels


@dataclass(frozen=True)
class Channels:
    """The channels of a value in terms of those that it had.

    Attributes:
        index: shape (n,): which of the old ones each is a copy of.
        share: shape (n,): of the weight that whoever takes the value gave that one. Shares of copies add up to 1.
    """

    index: Tensor
    share: Tensor


def _producing(graph: Graph, number: int, tensors: Tensors, channels: Channels) -> Tensors:
    """Return the tensors of a convolution whose output has other channels."""
    filters = "pointwise.conv.weight" if graph[number].operation == "separable" else "conv.weight"
    return {
        name: tensor[channels.index].clone() if name == filters or (".norm." in f".{name}" and tensor.dim()) else tensor
        for name, tensor in tensors.items()
    }


def consuming(graph: Graph, number: int, tensors: Tensors, channels: Channels) -> Tensors:
    """Return the tensors of a convolution, or the classifier, whose input has other channels."""
    changed = dict(tensors)
    if number == HEAD:
        name = next(name for name in tensors if name.endswith("weight"))
        changed[name] = tensors[name][:, channels.index] * channels.share.to(tensors[name])
        return changed
    name = "conv.weight"
    if graph[number].operation == "separable":
        name = "pointwise.conv.weight"
        changed["depthwise.weight"] = tensors["depthwise.weight"][channels.index].clone()
    share = channels.share.to(tensors[name])[None, :, None, None]
    changed[name] = tensors[name][:, channels.index] * share
    return changed


def tied(graph: Graph, number: int) -> frozenset[int] | None:
    """Return the convolutions whose channels change together with one's, since sums join them; None: they can't."""
    together = {number}
    while True:
        changed: dict[int, int] = {}  # which change a value has: that of the convolutions, or a concatenation's own
        further: set[int] = set()
        for value in graph.numbers:
            layer = graph[value]
            own = [changed.get(source) for source in layer.inputs]
            if value in together:
                changed[value] = HEAD
            elif layer.is_convolution or all(change is None for change in own):
                continue
            elif layer.operation == "concat":
                changed[value] = value
            elif len(set(own)) == 1 and own[0] is not None:
                changed[value] = own[0]
            elif any(change not in (None, HEAD) for change in own):
                return None
            else:
                roots = [
                    _roots(graph, source) for source, change in zip(layer.inputs, own, strict=True) if change is None
                ]
                if any(root is None for root in roots):
                    return None
                further |= {each for root in roots for each in root or ()}
        if further <= together:
            return frozenset(together)
        together |= further


def _roots(graph: Graph, number: int) -> set[int] | None:
    """Return the convolutions whose channels a value has; None: it has not those of convolutions alone."""
    if number == INPUT:
        return None
    layer = graph[number]
    if layer.is_convolution:
        return {number}
    if layer.operation == "concat":
        return None
    found = [_roots(graph, source) for source in layer.inputs]
    return None if any(each is None for each in found) else {one for each in found for one in each or ()}


def with_channels(graph: Graph, number: int, weights: Weights, channels: Channels) -> Weights:
    """Return weights where a convolution, and what is tied to it, has other channels."""
    widths = graph.widths(0)
    together = tied(graph, number) or frozenset()
    maps: dict[int, Channels] = dict.fromkeys(together, channels)
    found = dict(weights)
    for value in graph.numbers:
        layer = graph[value]
        given = maps.get(layer.inputs[0])
        if layer.is_convolution:
            if given is not None:
                found[value] = consuming(graph, value, found[value], given)
            if value in together:
                found[value] = _producing(graph, value, found[value], channels)
        elif layer.operation == "concat":
            if any(source in maps for source in layer.inputs):
                maps[value] = joined([(widths[source], maps.get(source)) for source in layer.inputs])
        elif given is not None:
            maps[value] = given
    last = maps.get(len(graph))
    return found if last is None else {**found, HEAD: consuming(graph, HEAD, found[HEAD], last)}


def joined(parts: Sequence[tuple[int, Channels | None]]) -> Channels:
    """Return the channels of values behind each other, given how many each had and how they changed."""
    first, index, share = 0, [], []
    for width, channels in parts:
        index.append(first + (torch.arange(width) if channels is None else channels.index))
        share.append(torch.ones(width) if channels is None else channels.share)
        first += width
    return Channels(torch.cat(index), torch.cat(share))


def resized(graph: Graph, number: int, channels: int) -> Graph:
    """Return the graph in which a convolution, and what is tied to it, has a step's channels."""
    together = tied(graph, number) or frozenset()
    layers = [
        replace(layer, channels=channels) if number in together else layer
        for number, layer in enumerate(graph.layers, 1)
    ]
    return Graph(tuple(layers))


# What values are expected to be


def moments(graph: Graph, weights: Weights) -> dict[int, tuple[Tensor, Tensor]]:
    """Return mean and variance of every channel of each layer's output, shape (channels,) each.

    What comes out of a batch norm is taken to be normal, so that its scale and offset tell; values that are added are
    taken to be independent, and pools to change nothing.
    """
    found: dict[int, tuple[Tensor, Tensor]] = {}
    for number in graph.numbers:
        layer = graph[number]
        if layer.is_convolution:
            prefix = "pointwise.norm." if layer.operation == "separable" else "norm."
            found[number] = _rectified(weights[number][prefix + "bias"], weights[number][prefix + "weight"])
            continue
        means, variances = zip(*(found[source] for source in layer.inputs), strict=True)
        if layer.operation == "concat":
            found[number] = torch.cat(means), torch.cat(variances)
        elif layer.operation in SUMS:
            shares = weights[number]["weight"] if layer.operation == "mix" else means[0].new_ones(len(means))
            found[number] = (
                (shares[:, None] * torch.stack(means)).sum(0).clamp(min=0),
                (shares[:, None] ** 2 * torch.stack(variances)).sum(0),
            )
        else:
            found[number] = means[0], variances[0]
    return found


def _rectified(mean: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance, shape (n,) each, of max(x, 0) for normal x of these means and standard deviations."""
    sd = scale.abs().clamp(min=1e-6)
    ratio = mean / sd
    below = 0.5 * (1 + torch.erf(ratio / math.sqrt(2)))
    density = torch.exp(-(ratio**2) / 2) / math.sqrt(2 * math.pi)
    first = mean * below + sd * density
    second = (mean**2 + sd**2) * below + mean * sd * density
    return first.clamp(min=0), (second - first**2).clamp(min=0)
