"""Which axis of a torch network's value each stored axis is."""

from __future__ import annotations

from dataclasses import dataclass, field


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
