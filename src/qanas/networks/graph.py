"""Networks that are data: a graph of layers, written down as one line of text, and the module that is built of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from qanas.core.errors import InputError
from qanas.layers.images import ConvNormActivation, SameAvgPool2d, SameConv2d, SameMaxPool2d
from qanas.networks.staged import image_stem, mean_head
from qanas.search_space.network_space import TaskShape, image_shape

Operation = Literal["conv", "separable", "max_pool", "avg_pool", "add", "mix", "concat"]

CONVOLUTIONS: tuple[Operation, ...] = ("conv", "separable")
POOLS: tuple[Operation, ...] = ("max_pool", "avg_pool")
SUMS: tuple[Operation, ...] = ("add", "mix")
JOINTS: tuple[Operation, ...] = (*SUMS, "concat")

INPUT = 0
"""The number of the network's input; that of the first layer is 1."""


@dataclass(frozen=True)
class Layer:
    """A layer of a graph.

    All but sums are what they say, at ceil(size / stride) positions a side. Nothing that a layer puts out is negative:
    behind convolutions is a batch norm and a ReLU, behind ``mix`` a ReLU.

    Attributes:
        operation: ``conv``; ``separable``, a depthwise convolution and a 1 x 1 one with nothing between; ``max_pool``,
            ``avg_pool``; ``add``, a sum; ``mix``, a sum with learnt weights, one an input; ``concat``, of channels.
        inputs: numbers of earlier layers, or `INPUT`.
        channels: of the output of a convolution; 0 elsewhere, where they follow.
        kernel: taps a side of convolutions and pools.
        stride: likewise.
    """

    operation: Operation
    inputs: tuple[int, ...]
    channels: int = 0
    kernel: int = 1
    stride: int = 1

    @property
    def is_convolution(self) -> bool:
        """Whether it has filters of its own."""
        return self.operation in CONVOLUTIONS


@dataclass(frozen=True)
class Graph:
    """Layers in an order in which each comes behind its inputs; the last one's output is averaged and classified.

    Attributes:
        layers: numbered from 1.

    Raises:
        ValueError: a layer's inputs don't fit, or its output goes nowhere.
    """

    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        """Check every layer."""
        if not self.layers:
            raise ValueError("a graph has one layer at least")
        for number, layer in enumerate(self.layers, 1):
            _require_sound(number, layer)
        widths = self.widths(1)
        for number, layer in enumerate(self.layers, 1):
            if len({self.shrinkage[source] for source in layer.inputs}) > 1:
                raise ValueError(f"layer {number}: its inputs are of several sizes")
            if layer.operation in SUMS and len({widths[source] for source in layer.inputs}) > 1:
                raise ValueError(f"layer {number}: its inputs have several numbers of channels")
        unused = set(range(1, len(self.layers))) - {source for layer in self.layers for source in layer.inputs}
        if unused:
            raise ValueError(f"layer {min(unused)}: nothing takes its output")

    @classmethod
    def parse(cls, text: str) -> Graph:
        """Return the graph that a text describes.

        >>> Graph.parse('[["conv",[0],8,3,2],["max_pool",[1],0,2,2]]').layers[1].operation
        'max_pool'

        Raises:
            InputError: it describes none.
        """
        try:
            rows = json.loads(text)
            return cls(tuple(Layer(operation, tuple(inputs), *sizes) for operation, inputs, *sizes in rows))
        except (ValueError, TypeError) as error:
            raise InputError(f"architecture.graph: {text[:60]!r} is no graph: {error}") from error

    @cached_property
    def text(self) -> str:
        """The graph as JSON in one line: a row a layer, which has operation, inputs, channels, kernel and stride."""
        rows = [
            [layer.operation, list(layer.inputs), layer.channels, layer.kernel, layer.stride] for layer in self.layers
        ]
        return json.dumps(rows, separators=(",", ":"))

    def __getitem__(self, number: int) -> Layer:
        """Return the layer of a number, from 1."""
        return self.layers[number - 1]

    def __len__(self) -> int:
        """Return how many layers there are, which is the number of the last one."""
        return len(self.layers)

    @property
    def numbers(self) -> range:
        """The numbers of all layers."""
        return range(1, len(self.layers) + 1)

    def consumers(self, number: int) -> list[int]:
        """Return the layers that take an output; the classifier, which takes the last one's, isn't among them."""
        return [other for other in self.numbers if number in self[other].inputs]

    @cached_property
    def shrinkage(self) -> Sequence[int]:
        """By how much the sides of the input, and of each layer's output, are smaller than the input's."""
        found = [1]
        for layer in self.layers:
            found.append(found[layer.inputs[0]] * layer.stride)
        return found

    def widths(self, channels: int) -> list[int]:
        """Return the channels of the input and of each layer's output.

        Args:
            channels: of the input.
        """
        found = [channels]
        for layer in self.layers:
            own = [found[source] for source in layer.inputs]
            found.append(layer.channels or (sum(own) if layer.operation == "concat" else own[0]))
        return found

    @property
    def depth(self) -> int:
        """How many convolutions there are."""
        return sum(layer.is_convolution for layer in self.layers)

    def describe(self) -> str:
        """Return in a few words what it is."""
        convolutions = [layer for layer in self.layers if layer.is_convolution]
        shown = "-".join(f"{layer.channels}{'s' if layer.operation == 'separable' else ''}" for layer in convolutions)
        joints = sum(layer.operation in JOINTS for layer in self.layers)
        return f"{shown} channels" + (f", {joints} joints" if joints else "")


def _require_sound(number: int, layer: Layer) -> None:
    """Refuse a layer that no graph can have."""
    if layer.operation not in get_args(Operation):
        raise ValueError(f"layer {number}: there is no operation {layer.operation!r}")
    if not layer.inputs or not all(0 <= source < number for source in layer.inputs):
        raise ValueError(f"layer {number}: its inputs are {list(layer.inputs)}; give earlier layers")
    if layer.is_convolution != (layer.channels > 0) or min(layer.kernel, layer.stride) < 1:
        raise ValueError(
            f"layer {number}: {layer.operation} can't have channels {layer.channels}, kernel {layer.kernel}"
        )
    if layer.operation not in JOINTS and len(layer.inputs) != 1:
        raise ValueError(f"layer {number}: {layer.operation} has one input, not {len(layer.inputs)}")


class Separable(nn.Sequential):
    """A depthwise convolution, a 1 x 1 one, a batch norm and a ReLU.

    (batch, in_channels, height, width) to (batch, out_channels, ceil(height / stride), ceil(width / stride)).

    Args:
        in_channels: of the input.
        out_channels: of the output.
        kernel: taps a side of the depthwise one.
        stride: likewise.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int) -> None:
        """Create the layers."""
        depthwise = SameConv2d(in_channels, in_channels, kernel, stride=stride, groups=in_channels, bias=False)
        super().__init__()
        self.add_module("depthwise", depthwise)
        self.add_module("pointwise", ConvNormActivation(in_channels, out_channels, activation="relu"))


class Add(nn.Module):
    """A sum of tensors of one shape."""

    def forward(self, *inputs: Tensor) -> Tensor:
        """Add tensors of shape (batch, channels, height, width)."""
        total = inputs[0]
        for other in inputs[1:]:
            total = total + other
        return total


class Mix(nn.Module):
    """A sum of tensors of one shape with learnt weights, which are equal and add up to one at first, and a ReLU.

    Args:
        count: of inputs.
    """

    def __init__(self, count: int) -> None:
        """Create the weights."""
        super().__init__()
        self.weight = nn.Parameter(torch.full((count,), 1.0 / count))

    def forward(self, *inputs: Tensor) -> Tensor:
        """Map tensors of shape (batch, channels, height, width) to one of the same shape."""
        total = inputs[0] * self.weight[0]
        for place in range(1, len(inputs)):
            total = total + inputs[place] * self.weight[place]
        return torch.relu(total)


class Concat(nn.Module):
    """The channels of several tensors behind each other."""

    def forward(self, *inputs: Tensor) -> Tensor:
        """Map tensors of shape (batch, channels, height, width) to one of all their channels."""
        return torch.cat(inputs, 1)


class GraphNetwork(nn.Module):
    """The network of a graph: (batch, *input_shape) to (batch, output_size).

    A table, shape (batch, rows, columns), is an image of one channel.

    Args:
        graph: written down.
        shape: of the task.
    """

    def __init__(self, graph: Graph, shape: TaskShape) -> None:
        """Create the layers, with initial weights."""
        super().__init__()
        widths = graph.widths(image_shape("a graph", shape)[0])
        self.sources = [layer.inputs for layer in graph.layers]
        self.view = image_stem("a graph", shape, _nothing)
        self.layers = nn.ModuleList(_module(layer, widths) for layer in graph.layers)
        self.head = mean_head(shape, widths[-1])

    def forward(self, inputs: Tensor) -> Tensor:
        """Map shape (batch, *input_shape) to (batch, output_size)."""
        values = [self.view(inputs)]
        for sources, layer in zip(self.sources, self.layers, strict=True):
            values.append(layer(*(values[source] for source in sources)))
        outputs: Tensor = self.head(values[-1])
        return outputs


def _nothing(channels: int) -> nn.Module:
    """Return what leaves an image of so many channels as it is."""
    del channels
    return nn.Identity()


def _module(layer: Layer, widths: Sequence[int]) -> nn.Module:
    """Return a layer's module, given the channels of the input and of every layer."""
    channels = widths[layer.inputs[0]]
    match layer.operation:
        case "conv":
            return ConvNormActivation(channels, layer.channels, layer.kernel, "relu", stride=layer.stride)
        case "separable":
            return Separable(channels, layer.channels, layer.kernel, layer.stride)
        case "max_pool":
            return SameMaxPool2d(layer.kernel, layer.stride)
        case "avg_pool":
            return SameAvgPool2d(layer.kernel, layer.stride)
        case "mix":
            return Mix(len(layer.inputs))
    return Add() if layer.operation == "add" else Concat()


class Draft:
    """A graph while it is put together.

    Attributes:
        layers: so far.
        shrinkage: by how much the sides of the input, and of each layer's output, are smaller than the input's.
    """

    def __init__(self) -> None:
        """Start with the input alone."""
        self.layers: list[Layer] = []
        self.shrinkage = [1]

    def add(self, operation: Operation, *inputs: int, channels: int = 0, kernel: int = 1, stride: int = 1) -> int:
        """Add a layer behind all others and return its number; a joint of one input is that input."""
        if operation in JOINTS and len(inputs) == 1:
            return inputs[0]
        self.layers.append(Layer(operation, inputs, channels, kernel, stride))
        self.shrinkage.append(self.shrinkage[inputs[0]] * stride)
        return len(self.layers)

    def graph(self, last: int | None = None) -> Graph:
        """Return the graph of what a layer hangs on, which is the last one by default."""
        last = len(self.layers) if last is None else last
        needed, waiting = set[int](), [last]
        while waiting:
            number = waiting.pop()
            if number != INPUT and number not in needed:
                needed.add(number)
                waiting += self.layers[number - 1].inputs
        numbers = {INPUT: INPUT} | {number: place for place, number in enumerate(sorted(needed), 1)}
        kept = [self.layers[number - 1] for number in sorted(needed)]
        return Graph(tuple(replace(each, inputs=tuple(numbers[source] for source in each.inputs)) for each in kept))
