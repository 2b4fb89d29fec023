"""The graph of a network: operators in order, on values as they are stored.

Images are stored as the runtime has them, (rows, columns, channels); what goes in and comes out here is as the torch
network has it, and the border of the graph says how the two belong together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import prod

import torch
from torch import Tensor

from qanas.quantization.operators.base import Operator, Shape
from qanas.quantization.program import Program, RuntimeTensor
from qanas.quantization.ranges import GatheredRanges, Ranges, chunks_of
from qanas.quantization.scheme import Scheme

INPUT = "input"
"""The name of the graph's input value."""


@dataclass(frozen=True)
class AxisOrder:
    """The order in which a file stores the axes of one sample; the batch stays in front.

    An image is (channels, height, width) in torch and (height, width, channels) in a file.

    Attributes:
        axes: for each stored axis, its number in torch, the batch not counted; empty where both orders are one.

    >>> AxisOrder((1, 2, 0)).to_stored(4)
    (0, 2, 3, 1)
    >>> AxisOrder((1, 2, 0)).to_torch(4)
    (0, 3, 1, 2)
    """

    axes: tuple[int, ...] = ()

    def to_stored(self, ndim: int) -> tuple[int, ...]:
        """Return the permutation of ``ndim`` axes, batch included, from torch's order to the stored one."""
        return (0, *(axis + 1 for axis in self.axes or range(ndim - 1)))

    def to_torch(self, ndim: int) -> tuple[int, ...]:
        """Return the permutation of ``ndim`` axes, batch included, from the stored order to torch's."""
        stored = self.to_stored(ndim)
        return tuple(sorted(range(ndim), key=lambda axis: stored[axis]))


@dataclass(frozen=True)
class Border:
    """How a network's input and output are stored.

    Attributes:
        input: of the input.
        output: of the output.
    """

    input: AxisOrder = field(default_factory=AxisOrder)
    output: AxisOrder = field(default_factory=AxisOrder)


class UnsupportedNetworkError(Exception):
    """A network that the graph can't hold: names the module's path and what to use instead."""


@dataclass(frozen=True)
class Node:
    """One operator and where its inputs come from.

    Attributes:
        name: also the name of its output value.
        operator: what it computes.
        inputs: names of values.
    """

    name: str
    operator: Operator
    inputs: tuple[str, ...]


@dataclass(frozen=True)
class Graph:
    """Operators in an order in which every input is there when it is needed.

    Attributes:
        input_shape: of one sample, as it is stored.
        nodes: in the order of execution.
        output: the name of the value that comes out.
        border: how input and output are stored.
        shared: for each value whose scale and zero point are those of another one, that one's name.
    """

    input_shape: Shape
    nodes: tuple[Node, ...]
    output: str
    border: Border = field(default_factory=Border)
    shared: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def shapes(self) -> Mapping[str, Shape]:
        """The shape of one sample of every value, as it is stored.

        Raises:
            UnsupportedNetworkError: shapes that don't fit.
        """
        shapes: dict[str, Shape] = {INPUT: self.input_shape}
        for node in self.nodes:
            try:
                shapes[node.name] = node.operator.output_shape(*(shapes[name] for name in node.inputs))
            except ValueError as error:
                raise UnsupportedNetworkError(f"{node.name}: {error}") from error
        return shapes

    @cached_property
    def largest_value(self) -> int:
        """Numbers of the largest value of one sample."""
        return max(map(prod, self.shapes.values()))

    @cached_property
    def last_uses(self) -> Mapping[str, tuple[str, ...]]:
        """For each node, the values that nothing behind it needs: forgotten, they leave the memory to others."""
        last = {name: node.name for node in self.nodes for name in node.inputs if name != self.output}
        return {node.name: tuple(name for name in last if last[name] == node.name) for node in self.nodes}

    def forward(self, inputs: Tensor) -> Tensor:
        """Compute in float32, shape (batch, *network_input_shape) to (batch, *network_output_shape)."""
        values = {INPUT: self.stored_input(inputs)}
        for node in self.nodes:
            values[node.name] = node.operator.forward(*(values[name] for name in node.inputs))
        return self.torch_output(values[self.output])

    @property
    def network_input_shape(self) -> Shape:
        """The shape of one sample as the torch network takes it."""
        stored = (1, *self.input_shape)
        return tuple(stored[axis] for axis in self.border.input.to_torch(len(stored)))[1:]

    @property
    def network_output_shape(self) -> Shape:
        """The shape of one sample as the torch network puts it out."""
        stored = (1, *self.shapes[self.output])
        return tuple(stored[axis] for axis in self.border.output.to_torch(len(stored)))[1:]

    def stored_input(self, inputs: Tensor) -> Tensor:
        """Return inputs of the torch network, shape (batch, *network_input_shape), as they are stored."""
        return inputs.permute(self.border.input.to_stored(inputs.ndim))

    def torch_output(self, outputs: Tensor) -> Tensor:
        """Return stored outputs, shape (batch, *stored), codes or real values, as the torch network has them."""
        return outputs.permute(self.border.output.to_torch(outputs.ndim))

    def calibrate(self, samples: Tensor, scheme: Scheme | None = None) -> dict[str, Ranges]:
        """Return the ranges of everything on some samples, as `observe`.

        Args:
            samples: inputs of the torch network.
            scheme: how ranges are taken.

        Raises:
            ValueError: no samples, those of another shape, or values that are not finite.
        """
        return self.observe(samples, scheme)[0]

    @torch.no_grad()
    def observe(self, samples: Tensor, scheme: Scheme | None = None) -> tuple[dict[str, Ranges], Tensor]:
        """Return the ranges of everything on some samples, and the outputs for them.

        Args:
            samples: inputs of the torch network; enough of them: 64 windows clip the head of an LSTM by several dB.
            scheme: how ranges are taken; None: the smallest and the largest values.

        Raises:
            ValueError: no samples, those of another shape, or values that are not finite.
        """
        if len(samples) == 0:
            raise ValueError("no samples to calibrate on")
        if tuple(samples.shape[1:]) != self.network_input_shape:
            raise ValueError(
                f"samples of shape {tuple(samples.shape[1:])}; the network takes {self.network_input_shape}"
            )
        ranges = GatheredRanges(Scheme() if scheme is None else scheme, len(samples))
        outputs = [self._observed(chunk, ranges) for chunk in chunks_of(samples, self.largest_value)]
        return ranges.found(), torch.cat(outputs)

    def _observed(self, samples: Tensor, ranges: GatheredRanges) -> Tensor:
        # In the order of memory that every kernel behind keeps: an image as torch has it is slower to go through.
        values = {INPUT: self.stored_input(samples).contiguous()}
        ranges.add(INPUT, values[INPUT])
        for node in self.nodes:
            values[node.name], internals = node.operator.observe(*(values[name] for name in node.inputs))
            ranges.add(node.name, values[node.name], internals)
            for name in self.last_uses[node.name]:
                del values[name]
        return self.torch_output(values[self.output])

    def program(self) -> Program:
        """Return the float32 program."""
        tensors = {name: RuntimeTensor((1, *shape), "float32") for name, shape in self.shapes.items()}
        program = Program(tensors[INPUT], tensors[self.output])
        for node in self.nodes:
            node.operator.lower(program, [tensors[name] for name in node.inputs], tensors[node.name])
        return program

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one sample."""
        return sum(node.operator.macs(*(self.shapes[name] for name in node.inputs)) for node in self.nodes)

    @property
    def parameters(self) -> int:
        """The number of weights and biases."""
        return sum(node.operator.parameters() for node in self.nodes)
