"""The border of a network: the names of what goes in and comes out, and how a file stores it.

What a network takes and gives comes by name where there are several of them. One alone may come by itself: asked with
an array, a graph or a runtime answers with an array; asked with arrays by name, it answers with arrays by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Tensors = TypeVar("Tensors", Tensor, Mapping[str, Tensor])
"""One tensor, or tensors by name."""

Arrays = TypeVar("Arrays", NDArray[Any], Mapping[str, NDArray[Any]])
"""One array, or arrays by name."""

Part = TypeVar("Part")


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

    def torch_shape(self, stored: tuple[int, ...]) -> tuple[int, ...]:
        """Return one sample's shape in torch for the stored one, both without the batch."""
        whole = (1, *stored)
        return tuple(whole[axis] for axis in self.to_torch(len(whole)))[1:]

    def described(self, ndim: int) -> str:
        """Return how the ``ndim`` axes of a stored value, batch included, lie, in words."""
        rank = ndim - 1
        if not self.axes:
            return "axes as in torch"
        if self.axes == (*range(1, rank), 0):
            return "torch's first axis (channels) is stored last" + (": NHWC" if ndim == len("NHWC") else "")
        return f"torch's axes in the order {', '.join(map(str, self.axes))}"


@dataclass(frozen=True)
class Port:
    """One input or output of a network.

    Attributes:
        name: as the network has it: of the argument, or of the entry of what it returns (`named_parts`).
        order: how its axes are stored.
    """

    name: str
    order: AxisOrder = AxisOrder()


INPUT, OUTPUT = "input", "output"
"""The names of one input and one output that have no other."""


@dataclass(frozen=True)
class Border:
    """How a network's inputs and outputs are called and stored.

    Attributes:
        inputs: in the order of the file.
        outputs: in the order of the file.
    """

    inputs: tuple[Port, ...] = (Port(INPUT),)
    outputs: tuple[Port, ...] = (Port(OUTPUT),)

    @classmethod
    def of(cls, source: AxisOrder, target: AxisOrder) -> Border:
        """Return that of one input and one output without names of their own."""
        return cls((Port(INPUT, source),), (Port(OUTPUT, target),))

    @property
    def input(self) -> AxisOrder:
        """The order of the only input's axes."""
        return only([port.order for port in self.inputs], "inputs")

    @property
    def output(self) -> AxisOrder:
        """The order of the only output's axes."""
        return only([port.order for port in self.outputs], "outputs")

    @property
    def input_names(self) -> tuple[str, ...]:
        """The names of the inputs."""
        return tuple(port.name for port in self.inputs)

    @property
    def output_names(self) -> tuple[str, ...]:
        """The names of the outputs."""
        return tuple(port.name for port in self.outputs)


def only(parts: Sequence[Part], what: str) -> Part:
    """Return the only one of some inputs or outputs.

    Raises:
        ValueError: there are several.
    """
    if len(parts) != 1:
        raise ValueError(f"the network has {len(parts)} {what}; ask for them by name")
    return parts[0]


def tensors_by_name(given: Tensor | Mapping[str, Tensor], names: Sequence[str]) -> dict[str, Tensor]:
    """Return tensors that were given for inputs by name, in the order of the names; one may come by itself.

    Raises:
        ValueError: something is missing, or there is something else.
    """
    return {only(names, "inputs"): given} if isinstance(given, Tensor) else _in_order(given, names)


def arrays_by_name(given: NDArray[Any] | Mapping[str, NDArray[Any]], names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Return arrays that were given for inputs by name, in the order of the names; one may come by itself.

    Raises:
        ValueError: something is missing, or there is something else.
    """
    return {only(names, "inputs"): given} if isinstance(given, np.ndarray) else _in_order(given, names)


def _in_order(given: Mapping[str, Part], names: Sequence[str]) -> dict[str, Part]:
    if set(given) != set(names):
        raise ValueError(f"given {', '.join(given) or 'nothing'}; the network has {', '.join(names)}")
    return {name: given[name] for name in names}


def alone(named: Mapping[str, Part]) -> Part | Mapping[str, Part]:
    """Return the only one of some values by itself; several stay by name."""
    return next(iter(named.values())) if len(named) == 1 else named


def tensors_like(asked: Tensors, named: Mapping[str, Tensor]) -> Tensors:
    """Return outputs in the way in which the inputs were given: by itself, or by name."""
    return only(list(named.values()), "outputs") if isinstance(asked, Tensor) else named


def arrays_like(asked: Arrays, named: Mapping[str, NDArray[Any]]) -> Arrays:
    """Return outputs in the way in which the inputs were given: by itself, or by name."""
    if isinstance(asked, Mapping):
        return named  # type: ignore[return-value]  # an array is no mapping
    return only([*named.values()], "outputs")


def named_parts(returned: object, kind: type[Part]) -> dict[str, Part]:
    """Return what a network returns by name, flattened: the names of dicts, named tuples and dataclasses, else numbers.

    One value of a kind has the name ``output``, the parts of a tuple ``output_0``, ``output_1``; what is nested has
    both names, such as ``boxes_0``. None is left out.

    Args:
        returned: by the network, of any structure.
        kind: of the values.

    Raises:
        ValueError: there is something else, or two values have the same name.

    >>> named_parts(({"boxes": [1, 2]}, 3), int)
    {'output_0_boxes_0': 1, 'output_0_boxes_1': 2, 'output_1': 3}
    """
    found: dict[str, Part] = {}
    for path, value in _leaves(returned, kind, ()):
        # Names given by the user stand for themselves; a number alone says nothing.
        name = "_".join(path if path and not path[0].isdigit() else (OUTPUT, *path))
        if not isinstance(value, kind):
            what = f"output '{name}' is" if path else "it is"
            raise ValueError(  # noqa: TRY004 - of the network, not of the caller
                f"{what} a {type(value).__name__}, not a tensor with the samples in front that depends on an input; "
                "leave it out"
            )
        if name in found:
            raise ValueError(f"two outputs are called '{name}'; give one of them another name")
        found[name] = value
    if not found:
        raise ValueError("it is nothing; return a tensor")
    return found


def _leaves(value: object, kind: type, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], object]]:
    if value is None:
        return
    if isinstance(value, kind):
        yield path, value
        return
    entries: list[tuple[str, object]]
    if isinstance(value, Mapping):
        entries = [(str(name), part) for name, part in value.items()]
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        entries = list(zip(value._fields, value, strict=True))
    elif is_dataclass(value) and not isinstance(value, type):
        entries = [(field.name, getattr(value, field.name)) for field in fields(value)]
    elif isinstance(value, list | tuple):
        entries = [(str(number), part) for number, part in enumerate(value)]
    else:
        yield path, value
        return
    for name, part in entries:
        yield from _leaves(part, kind, (*path, name))
