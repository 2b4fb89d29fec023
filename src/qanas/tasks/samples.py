"""The samples of a task: arrays in memory, or decoded whenever they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
Indices = NDArray[np.integer[Any]]
Batch = tuple[FloatArray, NDArray[Any]]
"""Inputs, shape (batch, *input_shape), and targets, shape (batch, ...), or (batch,) of arrays where `ragged`."""


class Samples(Protocol):
    """What loops over samples need of them: `Split` and `DecodedSplit` have it."""

    def __len__(self) -> int:
        """Return the number of samples."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one sample's input."""

    def batch(self, indices: Indices) -> Batch:
        """Return inputs and targets of some samples, in the order asked for.

        Args:
            indices: positions from 0, shape (batch,).
        """


@dataclass(frozen=True)
class Split:
    """The samples of one split, as arrays in memory or memory-mapped.

    Attributes:
        inputs: shape (n, *input_shape).
        targets: shape (n, ...): numbers in the unit of the network's output, or classes. Where each sample has its own
            number of them, an array of n arrays, shape (n,), as `ragged` makes it.
        extras: further arrays of n rows that metrics or plots need (which engine, uncapped targets, ...).
    """

    inputs: FloatArray
    targets: NDArray[Any]
    extras: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.inputs)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one sample's input."""
        return tuple(self.inputs.shape[1:])

    in_memory: ClassVar[bool] = True
    """Whether `inputs` is there at no cost; where it isn't, loops go by `chunks` and `batch`."""

    targets_in_memory: ClassVar[bool] = True
    """Whether `targets` is."""

    def batch(self, indices: Indices) -> Batch:
        """Return inputs and targets of some samples, in the order asked for.

        Args:
            indices: positions from 0, shape (batch,).
        """
        return self.inputs[indices], self.targets[indices]

    def chunks(self, size: int) -> Iterator[FloatArray]:
        """Yield all inputs, at most ``size`` samples at a time, each of shape (size, *input_shape)."""
        for first in range(0, len(self), size):
            yield self.inputs[first : first + size]

    def remembering(self, most_bytes: int) -> Split:
        """Return the same samples as a training repeats them; arrays are there already.

        Args:
            most_bytes: of inputs that may be kept once they are decoded.
        """
        del most_bytes
        return self


Join = Callable[[Sequence[NDArray[Any]]], NDArray[Any]]
"""Makes one array of the targets of n samples, of n rows: `numpy.stack` or `ragged`."""


def ragged(rows: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Return targets of which each sample has its own number, such as boxes: an array of n arrays, shape (n,).

    Args:
        rows: an array a sample; all axes but the first are equally long.

    >>> boxes = ragged([np.zeros((2, 4)), np.zeros((0, 4)), np.zeros((2, 4))])
    >>> boxes.shape, boxes[[2, 1]][0].shape
    ((3,), (2, 4))
    """
    array = np.empty(len(rows), dtype=object)
    for index, row in enumerate(rows):
        array[index] = row
    return array


class DecodedSplit(Split):
    """The samples of one split, decoded whenever they are asked for, nothing kept: pictures that fill no memory.

    Loops use `batch`. ``inputs`` and ``targets`` decode all samples at once, which metrics need of targets, and which
    only small splits stand of inputs.

    Other processes get the split pickled: sources and callables have to be picklable (paths and numbers; functions of a
    module, or `functools.partial` of them), and the files have to stay where they are while a run lasts.

    Attributes:
        sources: what each sample is decoded from, such as an image's path and its boxes; n of them, at least one.
        decode_input: returns a source's input, shape input_shape, in single precision.
        decode_target: returns a source's target, shape (...).
        join: makes one array of targets.
    """

    sources: Sequence[Any]
    decode_input: Callable[[Any], FloatArray]
    decode_target: Callable[[Any], NDArray[Any]]
    join: Join

    def __init__(
        self,
        sources: Sequence[Any],
        decode_input: Callable[[Any], FloatArray],
        decode_target: Callable[[Any], NDArray[Any]],
        extras: Mapping[str, NDArray[Any]] | None = None,
        join: Join = np.stack,
    ) -> None:
        """Decode nothing yet.

        Args:
            sources: see the class.
            decode_input: likewise.
            decode_target: likewise.
            extras: as in `Split`.
            join: see the class.

        Raises:
            ValueError: there are no sources, so that no shape is known.
        """
        if len(sources) == 0:
            raise ValueError("a split needs at least one sample")
        own = {"sources": sources, "decode_input": decode_input, "decode_target": decode_target, "join": join}
        for name, value in {**own, "extras": extras or {}}.items():
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.sources)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one sample's input: the first one's, decoded."""
        return tuple(self.decode_input(self.sources[0]).shape)

    @property
    def inputs(self) -> FloatArray:
        """All inputs, decoded: shape (n, *input_shape)."""
        return np.stack([self.decode_input(source) for source in self.sources])

    @property
    def targets(self) -> NDArray[Any]:
        """All targets, decoded: shape (n, ...), or (n,) where they are ragged."""
        return self.join([self.decode_target(source) for source in self.sources])

    in_memory = False
    targets_in_memory = False

    def chunks(self, size: int) -> Iterator[FloatArray]:
        """Decode and yield all inputs, at most ``size`` samples at a time, each of shape (size, *input_shape)."""
        for first in range(0, len(self), size):
            yield np.stack([self.decode_input(source) for source in self.sources[first : first + size]])

    def batch(self, indices: Indices) -> Batch:
        """Decode inputs and targets of some samples, in the order asked for.

        Args:
            indices: positions from 0, shape (batch,).
        """
        chosen = [self.sources[index] for index in indices]
        inputs = np.stack([self.decode_input(source) for source in chosen])
        return inputs, self.join([self.decode_target(source) for source in chosen])

    def remembering(self, most_bytes: int) -> Split:
        """Return the same samples, whose inputs are kept once they are decoded, up to so many bytes: the first ones."""
        return RememberedSplit(self, most_bytes)


class RememberedSplit(DecodedSplit):
    """The samples of a split, whose inputs are decoded once and kept as far as there is room: what a training repeats.

    It lives as long as one training, as nobody knows which split is asked for next.
    """

    def __init__(self, split: DecodedSplit, most_bytes: int) -> None:
        """Keep nothing yet but the room, which no page of memory is taken for before it is written to.

        Args:
            split: that is decoded.
            most_bytes: of inputs that are kept, the first ones.
        """
        super().__init__(split.sources, split.decode_input, split.decode_target, split.extras, split.join)
        first = self.decode_input(self.sources[0])
        room = min(len(self), most_bytes // max(1, first.nbytes))
        object.__setattr__(self, "_inputs", np.empty((room, *first.shape), first.dtype))
        object.__setattr__(self, "_known", np.zeros(room, bool))
        if room:
            self._inputs[0], self._known[0] = first, True

    def batch(self, indices: Indices) -> Batch:
        """Return inputs and targets of some samples, in the order asked for; decode what isn't kept.

        Args:
            indices: positions from 0, shape (batch,).
        """
        inputs = np.stack([self._input_of(int(index)) for index in indices])
        return inputs, self.join([self.decode_target(self.sources[index]) for index in indices])

    _inputs: FloatArray
    _known: NDArray[np.bool_]

    def _input_of(self, index: int) -> FloatArray:
        if index >= len(self._known):
            return self.decode_input(self.sources[index])
        if not self._known[index]:
            self._inputs[index] = self.decode_input(self.sources[index])
            self._known[index] = True
        kept: FloatArray = self._inputs[index]
        return kept
