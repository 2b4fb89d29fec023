"""Values of a traced network: their axes as torch numbers them, and as they are stored.

Torch reshapes, permutes and flattens without moving a number, and so does the trace: such a call only says anew which
torch axis each number belongs to. Numbers are moved (TRANSPOSE) where an operator needs an order that they are not
stored in, and nowhere else. For that, axes are taken apart into *factors*: 12 channels seen as 3 groups of 4 are two
factors; a channel shuffle swaps them, in torch; stored, they stay where they are, and the convolution behind it takes
its weights in their order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from qanas.quantization.operators.base import Shape


class OtherwiseError(ValueError):
    """A call that has an operator, where torch does something else: no bad input, but a difference."""


@dataclass(frozen=True, eq=False)
class Factor:
    """A part of an axis that stays in one piece; factors are told apart by identity.

    Attributes:
        size: more than 1.
    """

    size: int


Factors = tuple[Factor, ...]
"""An axis: its factors, the slowest first. An axis of size 1 has none."""

Axes = tuple[Factors, ...]


def new_axis(size: int) -> Factors:
    """Return an axis in one piece."""
    return (Factor(size),) if size > 1 else ()


def size_of(factors: Iterable[Factor]) -> int:
    """Return the size of an axis."""
    size = 1
    for factor in factors:  # of a handful: half the time of `prod`
        size *= factor.size
    return size


def shape_of(axes: Axes) -> Shape:
    """Return the sizes of axes."""
    return tuple(map(size_of, axes))


def flat(axes: Axes) -> Factors:
    """Return the factors of all axes, the slowest first: the order of the numbers in memory."""
    return tuple(factor for axis in axes for factor in axis)


def positions(axis: Factors, stored: Factors) -> Tensor | None:
    """Return where the numbers of a stored axis lie on the torch axis, None where they lie in order.

    Args:
        axis: in torch's order.
        stored: the same factors in the stored order.

    >>> three, two = Factor(3), Factor(2)
    >>> positions((three, two), (two, three))
    tensor([0, 2, 4, 1, 3, 5])
    """
    if axis == stored:
        return None
    numbers = torch.arange(size_of(axis)).reshape([factor.size for factor in axis])
    return numbers.permute([axis.index(factor) for factor in stored]).flatten()


@dataclass(frozen=True)
class Value:
    """A value of the network.

    Attributes:
        name: of the graph's value that holds the numbers.
        torch: its axes as torch has them, the batch left out.
        stored: its axes as they are stored: the same factors in any order and grouping.
        batch: where torch has the batch among all axes; a file has it in front.
        beside: what torch has joined to the batch, behind it in the same axis: the windows of images as samples.
        inner: whether the batch is behind it instead: ``x.view(time * batch, ...)`` of a value with the time in front.
    """

    name: str
    torch: Axes
    stored: Axes
    batch: int = 0
    beside: Factors = ()
    inner: bool = False

    @property
    def shape(self) -> Shape:
        """One sample's shape in torch."""
        return shape_of(self.torch)

    @property
    def whole_shape(self) -> Shape:
        """The shape in torch, with a batch of 1."""
        return (*self.shape[: self.batch], size_of(self.beside), *self.shape[self.batch :])

    @property
    def apart(self) -> Value:
        """The value with what is beside the batch as an axis of its own, in front of the others."""
        return replace(self, torch=(self.beside, *self.torch), batch=0, beside=(), inner=False)

    @property
    def joined(self) -> Value:
        """The value with its first axis beside the batch."""
        return replace(self, torch=self.torch[1:], beside=self.torch[0])

    def axis(self, number: int) -> int:
        """Return the number of a sample's axis for torch's, which counts the batch and may count from the back.

        Raises:
            ValueError: no such axis, or the batch.
        """
        rank = len(self.torch) + 1
        if not -rank <= number < rank:
            raise ValueError(f"axis {number} of a value of {rank} axes")
        if number % rank == self.batch:
            raise ValueError("an operator over the batch; each sample must be computed by itself")
        return number % rank - (number % rank > self.batch)

    def in_torch(self, numbers: Tensor) -> Tensor:
        """Return stored numbers, shape (n, *stored), as torch has them, shape (n, *shape), the batch where it is."""
        factors = flat(self.stored)
        split = numbers.reshape(len(numbers), *(factor.size for factor in factors))
        beside, rest = ([factors.index(factor) + 1 for factor in part] for part in (self.beside, flat(self.torch)))
        ordered = split.permute(*((*beside, 0) if self.inner else (0, *beside)), *rest)
        return ordered.reshape(len(numbers) * size_of(self.beside), *self.shape).movedim(0, self.batch)

    def with_torch_axes(self, axes: Iterable[Factors]) -> Value:
        """Return the same stored numbers under other torch axes."""
        return replace(self, torch=tuple(axes))

    def regrouped(self, shape: Shape) -> Value | None:
        """Return the value under another torch shape, factors split where needed; None where they can't be."""
        torch_axes: list[Factors] = []
        stored = self.stored
        rest = list(flat(self.torch))
        for size in shape:
            axis: list[Factor] = []
            missing = size
            while missing > 1:
                factor = rest.pop(0)
                if missing % factor.size:
                    if factor.size % missing:
                        return None
                    parts = (Factor(missing), Factor(factor.size // missing))
                    stored = tuple(_with_parts(stored_axis, factor, parts) for stored_axis in stored)
                    factor = parts[0]
                    rest.insert(0, parts[1])
                axis.append(factor)
                missing //= factor.size
            torch_axes.append(tuple(axis))
        return Value(self.name, tuple(torch_axes), stored)

    def renamed(self, other: Value) -> Value | None:
        """Return the value with the factors of another one of the same torch shape; None where they don't match."""
        mine, theirs = flat(self.torch), flat(other.torch)
        sizes, others = ([[factor.size for factor in axis] for axis in axes] for axes in (self.torch, other.torch))
        if sizes != others:
            return None
        names = dict(zip(mine, theirs, strict=True))
        return Value(self.name, other.torch, tuple(tuple(names[factor] for factor in axis) for axis in self.stored))


@dataclass(frozen=True, eq=False)
class Stacked:
    """Values side by side along a new axis in front of the batch, as an LSTM gives its layers' last states.

    Attributes:
        parts: of one shape, the batch in front.
    """

    parts: tuple[Value, ...]

    @property
    def whole_shape(self) -> Shape:
        """The shape in torch, with a batch of 1."""
        return (len(self.parts), 1, *self.parts[0].shape)


@dataclass(frozen=True, eq=False)
class Unavailable:
    """A value that torch has and no fused kernel gives out: it may be there as long as nothing uses it.

    Attributes:
        whole_shape: the shape in torch, with a batch of 1.
        layer: that gives it where its steps are operators of their own.
    """

    whole_shape: Shape
    layer: nn.Module


class LackingCellError(ValueError):
    """The cell state of an LSTM is used, which its fused kernel keeps to itself.

    Attributes:
        layer: the LSTM.
    """

    def __init__(self, layer: nn.Module) -> None:
        """Note the layer."""
        super().__init__("the cell state of an LSTM, which its kernel keeps to itself; take its hidden state")
        self.layer = layer


def _with_parts(axis: Factors, factor: Factor, parts: Sequence[Factor]) -> Factors:
    return tuple(part for entry in axis for part in (parts if entry is factor else (entry,)))


def refined(one: Value, other: Value) -> tuple[Value, Value] | None:
    """Return two values of one torch shape with common factors; None where there are none.

    Each axis is split at every border of either value's factors.
    """
    sizes: list[int] = []
    for axis, opposite in zip(one.torch, other.torch, strict=True):
        parts = _common_parts([factor.size for factor in axis], [factor.size for factor in opposite])
        if parts is None:
            return None
        sizes += parts
    first, second = one.regrouped(tuple(sizes)), other.regrouped(tuple(sizes))
    if first is None or second is None:
        return None
    first, second = (_grouped(part, one.shape) for part in (first, second))
    renamed = second.renamed(first)
    return None if renamed is None else (first, renamed)


def _common_parts(one: Sequence[int], other: Sequence[int]) -> list[int] | None:
    """Return the coarsest list of sizes from which both lists are had by multiplying neighbours."""

    def borders(sizes: Sequence[int]) -> set[int]:
        # Sizes of the tails: the borders of a mixed-radix number.
        return {prod(sizes[start:]) for start in range(len(sizes) + 1)}

    tails = sorted(borders(one) | borders(other), reverse=True)
    parts = []
    for tail, after in pairwise(tails):
        if tail % after:
            return None
        parts.append(tail // after)
    return parts


def _grouped(value: Value, shape: Shape) -> Value:
    grouped = value.regrouped(shape)
    assert grouped is not None  # noqa: S101 - the value's factors came from this shape
    return grouped


PLAIN = frozenset({bool, int, float, str, type(None)})
"""Types of entries that hold nothing, and are nobody's kind."""


def mapped(entry: Any, kind: type | tuple[type, ...], change: Callable[[Any], Any]) -> Any:  # noqa: ANN401, PLR0911
    """Return a structure with everything of a kind changed."""
    if type(entry) in PLAIN:  # most entries of most calls
        return entry
    if isinstance(entry, kind):
        return change(entry)
    if type(entry) is tuple:
        return tuple([mapped(part, kind, change) for part in entry]) if entry else entry
    if type(entry) is dict:
        return {name: mapped(part, kind, change) for name, part in entry.items()}
    if isinstance(entry, tuple) and hasattr(entry, "_fields"):
        return type(entry)(*(mapped(part, kind, change) for part in entry))
    if isinstance(entry, list):
        return [mapped(part, kind, change) for part in entry]
    if isinstance(entry, Mapping):
        return {name: mapped(part, kind, change) for name, part in entry.items()}
    if isinstance(entry, slice):
        return slice(*(mapped(part, kind, change) for part in (entry.start, entry.stop, entry.step)))
    return entry


def holds(entry: object, kind: type) -> bool:
    """Tell whether anything in a structure is of a kind."""
    if isinstance(entry, Mapping):
        return any(holds(part, kind) for part in entry.values())
    if isinstance(entry, list | tuple):
        return any(holds(part, kind) for part in entry)
    return isinstance(entry, kind)
