"""Collects the operators of a graph while a network is translated, and moves numbers where an operator needs it."""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from math import prod
from typing import Any

from torch import Tensor, nn

from qanas.quantization.border import INPUT, AxisOrder, Border, Port
from qanas.quantization.graph import Graph, Node
from qanas.quantization.operators.base import Operator, Shape
from qanas.quantization.operators.shapes import MOST_TRANSPOSED_AXES, Reshape, Transpose
from qanas.quantization.tracing.values import Axes, Factor, Factors, Value, flat, new_axis, refined, shape_of


class Builder:
    """The graph so far.

    Attributes:
        inputs: of the network, by its names for them.
        call: the name of the call that is being translated; its last operator gets it.
        origin: where the weights of the call come from, see `Node`.
        unrolled: LSTMs that are computed step by step, since their cells are read.
        rearranged: how many numbers of a sample are moved by transpositions, and how many operators it takes to
            store values otherwise; nothing where it takes none.
    """

    def __init__(
        self, shapes: Mapping[str, Shape], orders: Mapping[str, AxisOrder], unrolled: Collection[nn.Module] = ()
    ) -> None:
        """Start from inputs of torch shapes, by their names, stored in some order."""
        self.unrolled = unrolled
        self.call, self.origin = INPUT, ""
        self._moved = 0
        self._rearrangements = 0
        self._orders = dict(orders)
        self.inputs: dict[str, Value] = {}
        self._shapes: dict[str, Shape] = {}
        for name, shape in shapes.items():
            axes = tuple(map(new_axis, shape))
            stored = tuple(axes[number] for number in orders[name].axes) if orders[name].axes else axes
            value = INPUT if len(shapes) == 1 else name
            self.inputs[name] = Value(value, axes, stored)
            self._shapes[value] = shape_of(stored)
        self._nodes: list[Node] = []
        self._arranged: dict[_Layout, str] = {}

    @property
    def rearranged(self) -> tuple[int, ...]:
        """See the class."""
        return (self._moved, self._rearrangements) if self._rearrangements else ()

    @contextmanager
    def within(self, part: str) -> Iterator[None]:
        """Name what is appended by a part of the module that is translated as a whole, as torch's paths would.

        >>> builder = Builder({}, {})
        >>> builder.call = "encoder"
        >>> with builder.within("layers_0"), builder.within("linear1"):
        ...     builder.call
        'encoder_layers_0_linear1'
        >>> builder.call
        'encoder'
        """
        whole, self.call = self.call, f"{self.call}_{part}"
        try:
            yield
        finally:
            self.call = whole

    def emit(self, operator: Operator, inputs: Sequence[Value], torch: Axes, stored: Axes) -> Value:
        """Append an operator and return its output.

        Args:
            operator: what is computed, in the stored order.
            inputs: values as they are stored.
            torch: the axes of the output as torch has them.
            stored: and as they are stored.

        Raises:
            ValueError: shapes that don't fit.
        """
        name = self._append(self.call, operator, [value.name for value in inputs], self._next_origin(operator))
        if self._shapes[name] != shape_of(stored):
            raise ValueError(f"a result of shape {self._shapes[name]} in place of {shape_of(stored)}")
        return Value(name, torch, stored)

    def unary(self, operator: Operator, value: Value) -> Value:
        """Append an operator that treats every number alike, whatever the order."""
        return self.emit(operator, [value], value.torch, value.stored)

    def arranged(self, value: Value, stored: Axes) -> Value:
        """Return the value with its factors stored in a given order and grouping, moved only where needed."""
        if value.stored == stored:
            return value
        key = _layout(value, stored)
        if key not in self._arranged:
            name = value.name
            now, wanted = flat(value.stored), flat(stored)
            axes = value.stored
            for step in _steps(now, wanted):
                name = self._transposed(name, value.name, _runs(flat(axes), step), step)
                axes = _runs(step, step)
            if now != wanted:
                name = self._transposed(name, value.name, _cheapest_units(axes, stored), wanted)
            self._arranged[key] = self._reshaped(name, shape_of(stored))
        return Value(self._arranged[key], value.torch, stored)

    def _transposed(self, name: str, of: str, units: Axes, wanted: Factors) -> str:
        """Append a transposition of pieces, in their present order, to a wanted order of the factors."""
        name = self._reshaped(name, shape_of(units))
        order = tuple(sorted(range(len(units)), key=lambda unit: wanted.index(units[unit][0])))
        name = self._append(f"{of}_transpose", Transpose(order), [name])
        self._rearrangements += 1
        self._moved += prod(self._shapes[name])
        return name

    def natural(self, value: Value) -> Value:
        """Return the value with one stored axis for each torch axis, moved only where needed.

        The axes are in the order in which they are stored; axes of size 1 lie in front of torch's next axis.
        """
        if sorted(map(_identities, value.stored)) == sorted(map(_identities, value.torch)):
            return value
        return self.arranged(value, tuple(value.torch[number] for number in _order_of_storage(value)))

    def in_torch_order(self, value: Value) -> Value:
        """Return the value stored as torch has it."""
        return self.arranged(value, value.torch)

    def last(self, value: Value, leading: Iterable[Factors], axis: Factors) -> tuple[Value, Factors]:
        """Return the value with given leading axes, and ``axis`` behind them in whatever order it is stored.

        What reads a whole axis with weights takes these in the order of the numbers, which need not be moved then.

        Returns:
            The value, and the factors of its last axis as they are stored.
        """
        leading = tuple(leading)
        order = tuple(factor for factor in flat(value.stored) if factor in axis)
        if flat(value.stored) != (*flat(leading), *order):
            order = axis
        return self.arranged(value, (*leading, order)), order

    def ending_in(self, value: Value, number: int) -> tuple[Value, Factors]:
        """Return the value with a torch axis stored last, as `last` does; the other axes stay as they are stored."""
        axis = value.torch[number]
        if value.stored and set(value.stored[-1]) == set(axis):
            return value, value.stored[-1]
        leading = [value.torch[other] for other in _order_of_storage(value) if other != number]
        return self.last(value, leading, axis)

    def alike(self, one: Value, other: Value) -> tuple[Value, Value]:
        """Return two values of one torch shape, stored in one order."""
        pair = refined(one, other)
        if pair is None:
            one, other = self.merged(one), self.merged(other)
            pair = refined(one, other)
            assert pair is not None  # noqa: S101 - each axis is one factor now
        first, second = pair
        if _layout(first, second.stored) in self._arranged:  # that form is there: one RESHAPE less
            return self.arranged(first, second.stored), second
        return first, self.arranged(second, first.stored)

    def merged(self, value: Value) -> Value:
        """Return the value with every torch axis in one piece."""
        value = self.natural(value)
        merged = {axis: new_axis(size) for axis, size in zip(value.torch, value.shape, strict=True)}
        return Value(
            value.name,
            tuple(merged[axis] for axis in value.torch),
            tuple(merged[axis] for axis in value.stored),
        )

    def reshaped(self, value: Value, shape: Shape) -> Value:
        """Return the value under another torch shape; no number is moved if the new axes are parts of the old ones."""
        if prod(shape) != prod(value.shape):
            raise ValueError(f"a reshape from {value.shape} to {shape}")
        regrouped = value.regrouped(shape)
        if regrouped is not None:
            return regrouped
        axes = tuple(map(new_axis, shape))
        return Value(self._reshaped(self.in_torch_order(value).name, shape), axes, axes)

    def finished(self, outputs: Mapping[str, Value]) -> Graph:
        """Return the graph; the outputs' axes are stored in any order, their numbers in torch's.

        Args:
            outputs: by their names.

        Raises:
            ValueError: an input that no output depends on.
        """
        values: list[str] = []
        ports: list[Port] = []
        for name, output in outputs.items():
            stored = self.natural(output)
            axes = numbers(stored)
            value = stored.name
            if value in values or (len(outputs) > 1 and value in self._values_of_inputs):
                # A file's outputs are values of their own: runtimes don't agree on what else they may be.
                value = self._append(f"{value}_copy", Reshape(self._shapes[value]), [value])
            values.append(value)
            ports.append(Port(name, AxisOrder() if axes == tuple(sorted(axes)) else AxisOrder(axes)))
        nodes = self._needed(values)
        read = {name for node in nodes for name in node.inputs} | set(values)
        unread = [name for name, value in self.inputs.items() if value.name not in read]
        if unread:
            raise ValueError(f"no output depends on the input '{unread[0]}'; leave it out")
        inputs = {value.name: self._shapes[value.name] for value in self.inputs.values()}
        border = Border(tuple(Port(name, self._orders[name]) for name in self.inputs), tuple(ports))
        return Graph(inputs, nodes, tuple(values), border)

    def computed(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return every value in float32, shape (n, *stored), by its name.

        Args:
            inputs: each of shape (n, *shape) as torch has it, by the inputs' names.
        """
        values = {
            value.name: inputs[name].permute(self._orders[name].to_stored(inputs[name].ndim))
            for name, value in self.inputs.items()
        }
        for node in self._nodes:
            values[node.name] = node.operator.forward(*(values[name] for name in node.inputs))
        return values

    @property
    def _values_of_inputs(self) -> set[str]:
        return {value.name for value in self.inputs.values()}

    def _needed(self, outputs: Sequence[str]) -> tuple[Node, ...]:
        """Return the nodes that outputs depend on: not every part of a value that is split need be used."""
        needed = set(outputs)
        nodes = []
        for node in reversed(self._nodes):
            if node.name in needed:
                needed.update(node.inputs)
                nodes.append(node)
        return tuple(reversed(nodes))

    def _reshaped(self, name: str, shape: Shape) -> str:
        if self._shapes[name] == shape:
            return name
        self._rearrangements += 1
        return self._append(f"{name}_reshape", Reshape(shape), [name])

    def _next_origin(self, operator: Operator) -> str:
        """Return where an operator's weights come from; a call may have several operators with weights."""
        if not self.origin or not operator.tensors():
            return ""
        origin, self.origin = self.origin, f"{self.origin}'"
        return origin

    def _append(self, name: str, operator: Operator, inputs: Sequence[str], origin: str = "") -> str:
        if name in self._shapes:  # two underscores: `head_2` is of a module `head.2`
            name = next(other for number in count(2) if (other := f"{name}__{number}") not in self._shapes)
        self._shapes[name] = operator.output_shape(*(self._shapes[source] for source in inputs))
        self._nodes.append(Node(name, operator, tuple(inputs), origin))
        return name


class Names:
    """Names of the graph's values: each once, none that Python has."""

    def __init__(self, taken: Sequence[str]) -> None:
        """Begin with names that are taken."""
        self._taken = set(taken)
        self._counts: dict[str, int] = {}

    def new(self, wanted: str) -> str:
        """Return a name like the wanted one, with a number behind it where it is taken.

        >>> names = Names(["x"]); names.new("head.0"), names.new("relu"), names.new("relu"), names.new("0")
        ('head_0', 'relu', 'relu_1', '_0')
        """
        name = re.sub(r"\W+", "_", wanted)
        if name[:1].isdigit():
            name = f"_{name}"
        found = re.fullmatch(r"(.*)_(\d+)", name)
        base, number = (found[1], int(found[2])) if found else (name, 0)
        number = number or self._counts.get(base, 0)
        while name in self._taken or hasattr(builtins, name) or keyword.iskeyword(name):
            number += 1
            name = f"{base}_{number}"
        self._taken.add(name)
        self._counts[base] = number
        return name


def numbers(value: Value) -> tuple[int, ...]:
    """Return the torch axis that each stored axis is, for a value that has one for each.

    Axes of size 1 can't be told apart: they are taken for those of torch's order, or of an image's.
    """
    rank = len(value.torch)
    usual = [tuple(range(rank)), (*range(1, rank), 0)]
    for order in usual if rank else ():
        if value.stored == tuple(value.torch[number] for number in order):
            return order
    free = list(range(rank))
    axes = []
    for stored in value.stored:
        number = next(number for number in free if value.torch[number] == stored)
        free.remove(number)
        axes.append(number)
    return tuple(axes)


_Layout = tuple[str, Shape, tuple[tuple[int, int], ...]]


def _layout(value: Value, stored: Axes) -> _Layout:
    """Return a form of a value's numbers, whatever its factors are: its name, the shape, steps and sizes of runs."""
    steps: dict[Factor, int] = {}
    step = 1
    for factor in reversed(flat(value.stored)):
        steps[factor] = step
        step *= factor.size
    runs: list[tuple[int, int]] = []
    for factor in flat(stored):
        if runs and runs[-1][0] == steps[factor] * factor.size:
            runs[-1] = (steps[factor], runs[-1][1] * factor.size)
        else:
            runs.append((steps[factor], factor.size))
    return value.name, shape_of(stored), tuple(runs)


def _order_of_storage(value: Value) -> list[int]:
    """Return the torch axes in the order in which their first numbers are stored."""
    place = {factor: position for position, factor in enumerate(flat(value.stored))}
    keys: dict[int, int] = {}
    behind = len(place)
    for number in reversed(range(len(value.torch))):
        behind = min((place[factor] for factor in value.torch[number]), default=behind)
        keys[number] = behind
    return sorted(sorted(keys), key=lambda number: keys[number])


def _identities(axis: Factors) -> tuple[int, ...]:
    return tuple(map(id, axis))


def _cheapest_units(now: Axes, wanted: Axes) -> Axes:
    """Return the pieces that a transposition moves, in their present order: such that few reshapes are around it."""

    def moved(units: Axes) -> Axes:
        return tuple(sorted(units, key=lambda unit: flat(wanted).index(unit[0])))

    def reshapes(units: Axes) -> int:
        return (shape_of(units) != shape_of(now)) + (shape_of(moved(units)) != shape_of(wanted))

    choices = [_runs(flat(now), flat(wanted))]
    for axes in (now, wanted):
        units = tuple(sorted((axis for axis in axes if axis), key=lambda axis: flat(now).index(axis[0])))
        if flat(units) == flat(now) and flat(moved(units)) == flat(wanted):
            choices.append(units)
    return min(choices, key=reshapes)


def _steps(now: Factors, wanted: Factors) -> list[Factors]:
    """Return the orders in between where one transposition has more axes than the runtime: pieces move to the front."""
    steps: list[Factors] = []
    while len(_runs(now, wanted)) >= MOST_TRANSPOSED_AXES:
        units = sorted(_runs(now, wanted), key=lambda unit: wanted.index(unit[0]))
        there = int(units[0][0] is now[0])
        for further in (2, 1):
            front = flat(tuple(units[: there + further]))
            step = (*front, *(factor for factor in now if factor not in front))
            if len(_runs(now, step)) < MOST_TRANSPOSED_AXES:
                break
        now = step
        steps.append(now)
    return steps


def _runs(now: Factors, wanted: Factors) -> Axes:
    """Return the longest pieces that are next to each other in both orders."""
    runs: list[list[Factor]] = []
    for factor in now:
        if runs and _follows(runs[-1][-1], factor, wanted):
            runs[-1].append(factor)
        else:
            runs.append([factor])
    return tuple(map(tuple, runs))


def _follows(before: Factor, factor: Factor, order: Factors) -> bool:
    return order.index(factor) == order.index(before) + 1


Translator = Callable[..., Any]
"""Called as ``translator(builder, *arguments)`` with the arguments that the traced code passed, by position or by name.

Modules come as ``translator(builder, module, *arguments)``. Arguments are `Value` where they depend on the network's
input, else what they are in Python. Returns a `Value`, a tuple of them, or something of Python's that later calls take.
Raises ValueError, with what to use instead, for a use that no operator covers.
"""

FunctionTranslators = Mapping[Callable[..., Any] | str, Translator]
"""By function, or by the name of a tensor's method."""

ModuleTranslators = Mapping[type[nn.Module], Translator]


@dataclass(frozen=True)
class Translators:
    """What translates the calls of one kind.

    Attributes:
        functions: by function, or by the name of a tensor's method.
        modules: by module.
    """

    functions: FunctionTranslators
    modules: ModuleTranslators


def of_module(translate: Callable[..., Value]) -> Callable[..., Value]:
    """Return the translator of a module without settings that matter."""

    def translated(builder: Builder, module: nn.Module, value: Value, /) -> Value:
        del module
        return translate(builder, value)

    return translated


def with_settings(translate: Translator, *names: str) -> Translator:
    """Return the translator of a module whose settings of some names the function takes in that order."""

    def translated(builder: Builder, module: nn.Module, value: Value, /) -> Value:
        result: Value = translate(builder, value, *(getattr(module, name) for name in names))
        return result

    return translated


Sizes = int | Sequence[int]
"""One number for rows and columns, or two."""


def pair(sizes: Sizes) -> tuple[int, int]:
    """Return sizes of rows and columns."""
    return (sizes, sizes) if isinstance(sizes, int) else (int(sizes[0]), int(sizes[-1]))
