"""The graph of a network: operators in order, on values as they are stored.

Images are stored as the runtime has them, (rows, columns, channels); what goes in and comes out here is as the torch
network has it, and the border of the graph says how the two belong together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import prod

import torch
from torch import Tensor

from qanas.quantization.border import Border, Tensors, only, tensors_by_name, tensors_like
from qanas.quantization.operators.base import Operator, Shape
from qanas.quantization.program import Program, RuntimeTensor
from qanas.quantization.ranges import GatheredRanges, Ranges, chunks_by_name, joined
from qanas.quantization.scheme import Scheme


class UnsupportedNetworkError(Exception):
    """A network that the graph can't hold: names the module's path and what to use instead."""


class OtherNetworkError(UnsupportedNetworkError):
    """A network of which the graph would be another one: it has operators for all of it, but torch does more."""


@dataclass(frozen=True)
class Node:
    """One operator and where its inputs come from.

    Attributes:
        name: also the name of its output value.
        operator: what it computes.
        inputs: names of values.
        origin: where its weights come from (modules, parameters): nodes of one origin have the same ones, which a
            file stores once; empty where that isn't known, or nothing but these nodes may have them.
    """

    name: str
    operator: Operator
    inputs: tuple[str, ...]
    origin: str = ""


@dataclass(frozen=True)
class Graph:
    """Operators in an order in which every input is there when it is needed.

    Attributes:
        inputs: the shape of one sample of every value that goes in, as it is stored, by the value's name.
        nodes: in the order of execution.
        outputs: the names of the values that come out.
        border: how inputs and outputs are called and stored, in the same order.
        shared: for each value whose scale and zero point are those of another one, that one's name.
    """

    inputs: Mapping[str, Shape]
    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]
    border: Border = field(default_factory=Border)
    shared: Mapping[str, str] = field(default_factory=dict)

    @property
    def input_shape(self) -> Shape:
        """The shape of one sample of the only input, as it is stored."""
        return only(list(self.inputs.values()), "inputs")

    @property
    def output(self) -> str:
        """The name of the only value that comes out."""
        return only(self.outputs, "outputs")

    @cached_property
    def shapes(self) -> Mapping[str, Shape]:
        """The shape of one sample of every value, as it is stored.

        Raises:
            UnsupportedNetworkError: shapes that don't fit.
        """
        shapes: dict[str, Shape] = dict(self.inputs)
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
        last = {name: node.name for node in self.nodes for name in node.inputs if name not in self.outputs}
        return {node.name: tuple(name for name in last if last[name] == node.name) for node in self.nodes}

    @property
    def uses(self) -> Counter[str]:
        """How often every value is read, by nodes or as an output."""
        uses = Counter(name for node in self.nodes for name in node.inputs)
        uses.update(self.outputs)
        return uses

    def walk(self, values: dict[str, Tensor]) -> Iterator[tuple[Node, list[Tensor]]]:
        """Yield every node with its inputs, and forget each value behind its last use: outputs are what is left.

        Args:
            values: those that go in, by name; whoever walks puts in each node's own.
        """
        for node in self.nodes:
            yield node, [values[name] for name in node.inputs]
            for name in self.last_uses[node.name]:
                del values[name]

    def forward(self, inputs: Tensors) -> Tensors:
        """Compute in float32, one tensor or tensors by name, each of shape (batch, *shape), in torch's order."""
        values = self.stored_inputs(inputs)
        for node, sources in self.walk(values):
            values[node.name] = node.operator.forward(*sources)
        return tensors_like(inputs, self.torch_outputs(values))

    @property
    def network_input_shape(self) -> Shape:
        """The shape of one sample of the only input as the torch network takes it."""
        return self.border.input.torch_shape(self.input_shape)

    @property
    def network_output_shape(self) -> Shape:
        """The shape of one sample of the only output as the torch network puts it out."""
        return self.border.output.torch_shape(self.shapes[self.output])

    @property
    def network_input_shapes(self) -> dict[str, Shape]:
        """The shapes of one sample as the torch network takes them, by the inputs' names."""
        pairs = zip(self.border.inputs, self.inputs.values(), strict=True)
        return {port.name: port.order.torch_shape(shape) for port, shape in pairs}

    def stored_inputs(self, inputs: Tensor | Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return inputs of the torch network, each of shape (batch, *shape), as they are stored, by the values' names.

        Raises:
            ValueError: not all of them, or others.
        """
        given = tensors_by_name(inputs, self.border.input_names)
        return {
            value: given[port.name].permute(port.order.to_stored(given[port.name].ndim))
            for value, port in zip(self.inputs, self.border.inputs, strict=True)
        }

    def torch_outputs(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the outputs among values, shape (batch, *stored), as the torch network has them, by their names."""
        return {
            port.name: values[value].permute(port.order.to_torch(values[value].ndim))
            for value, port in zip(self.outputs, self.border.outputs, strict=True)
        }

    def stored_input(self, inputs: Tensor) -> Tensor:
        """Return the only input of the torch network, shape (batch, *network_input_shape), as it is stored."""
        return inputs.permute(self.border.input.to_stored(inputs.ndim))

    def torch_output(self, outputs: Tensor) -> Tensor:
        """Return the only output, shape (batch, *stored), codes or real values, as the torch network has it."""
        return outputs.permute(self.border.output.to_torch(outputs.ndim))

    def calibrate(self, samples: Tensor | Mapping[str, Tensor], scheme: Scheme | None = None) -> dict[str, Ranges]:
        """Return the ranges of everything on some samples, as `observe`.

        Args:
            samples: inputs of the torch network, by name where it has several.
            scheme: how ranges are taken.

        Raises:
            ValueError: no samples, those of another shape, or values that are not finite.
        """
        return self.observe(tensors_by_name(samples, self.border.input_names), scheme)[0]

    @torch.no_grad()
    def observe(self, samples: Tensors, scheme: Scheme | None = None) -> tuple[dict[str, Ranges], Tensors]:
        """Return the ranges of everything on some samples, and the outputs for them.

        Args:
            samples: inputs of the torch network, by name where it has several; enough of them: 64 windows clip the
                head of an LSTM by several dB.
            scheme: how ranges are taken; None: the smallest and the largest values.

        Raises:
            ValueError: no samples, those of another shape, or values that are not finite.
        """
        given = tensors_by_name(samples, self.border.input_names)
        count = self._check(given)
        ranges = GatheredRanges(Scheme() if scheme is None else scheme, count)
        outputs = [self._observed(chunk, ranges) for chunk in chunks_by_name(given, self.largest_value)]
        return ranges.found(), tensors_like(samples, joined(outputs))

    def _check(self, samples: Mapping[str, Tensor]) -> int:
        """Return the number of samples.

        Raises:
            ValueError: none, not one for each input, or those of another shape.
        """
        counts = {len(part) for part in samples.values()}
        if counts == {0}:
            raise ValueError("no samples to calibrate on")
        if len(counts) > 1:
            raise ValueError(f"{' and '.join(map(str, sorted(counts)))} samples; give as many of every input")
        for name, shape in self.network_input_shapes.items():
            if tuple(samples[name].shape[1:]) != shape:
                whose = "the network" if len(samples) == 1 else f"its input '{name}'"
                raise ValueError(f"samples of shape {tuple(samples[name].shape[1:])}; {whose} takes {shape}")
        return counts.pop()

    def _observed(self, samples: Mapping[str, Tensor], ranges: GatheredRanges) -> dict[str, Tensor]:
        # In the order of memory that every kernel behind keeps: an image as torch has it is slower to go through.
        values = {name: value.contiguous() for name, value in self.stored_inputs(samples).items()}
        for name, value in values.items():
            ranges.add(name, value)
        for node, sources in self.walk(values):
            values[node.name], internals = node.operator.observe(*sources)
            ranges.add(node.name, values[node.name], internals)
        return self.torch_outputs(values)

    def program(self) -> Program:
        """Return the float32 program."""
        tensors = {name: RuntimeTensor((1, *shape), "float32") for name, shape in self.shapes.items()}
        program = self.empty_program(tensors)
        for node in self.nodes:
            program.origin, program.layer = node.origin, node.name
            node.operator.lower(program, [tensors[name] for name in node.inputs], tensors[node.name])
        return program

    def empty_program(self, tensors: Mapping[str, RuntimeTensor]) -> Program:
        """Return a program from the inputs to the outputs, without operators yet, for the tensors of all values."""
        names = (self.border.input_names, self.border.output_names)
        sides = zip(names, (self.inputs, self.outputs), strict=True)
        inputs, outputs = (
            {name: tensors[value] for name, value in zip(ports, values, strict=True)} for ports, values in sides
        )
        return Program(inputs, outputs)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one sample."""
        return sum(node.operator.macs(*(self.shapes[name] for name in node.inputs)) for node in self.nodes)

    @property
    def parameters(self) -> int:
        """The number of weights and biases, those that several nodes have counted once."""
        owners = {node.origin or f"node {node.name}": node for node in self.nodes}
        return sum(node.operator.parameters() for node in owners.values())
