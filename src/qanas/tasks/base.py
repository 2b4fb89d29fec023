"""What a task is: the contract that built-in tasks and a user's ``module:Class`` share."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass, replace
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from torch import Generator, Tensor

from qanas.core.candidate import Value
from qanas.core.classes import FEWEST_CLASSES, confusion
from qanas.core.even_spread import evenly_spread
from qanas.core.measures import Direction
from qanas.search_space.settings import Setting
from qanas.tasks.back_end import BackEnd
from qanas.tasks.front_end import FrontEnd

FloatArray = NDArray[np.float32]
Outputs = Any
"""What a network puts out: an array of shape (n, ...), or arrays by the outputs' names where there are several
(`qanas.quantization.border.named_parts`). A task says itself which of them it takes."""
Arrays = Mapping[str, NDArray[Any]]
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


@dataclass(frozen=True)
class TaskData:
    """A task's data, prepared.

    Attributes:
        train: what is trained and calibrated on.
        val: what the search scores on.
        test: touched for the reference and the finalists only.
        output_size: how many values the network puts out per sample, or per pixel of it.
        target_scale: the network's output is in units of the target; its last layer is multiplied by this
            constant, so that weights of ordinary size reach targets of this size.
        preprocessing: what firmware has to do before the network; goes onto the card as it is.
        protocol: how the numbers come about (split, cap, ...); goes onto the card as it is.
        remarks: what a person should know of the data before anything is trained on it, a line each: what was
            found, and what was made of it.
    """

    train: Split
    val: Split
    test: Split
    output_size: int
    target_scale: float = 1.0
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    protocol: Mapping[str, Any] = field(default_factory=dict)
    remarks: Sequence[str] = ()

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one sample."""
        return self.train.input_shape


FINGERPRINTED = 256
"""Decoded samples of a split that the default fingerprint is of."""


class Task(ABC):
    """Data, splits, losses and metrics. Its constructor's arguments are the keys of a recipe's ``[task]``.

    What the network is given may be searched, too: a task that offers `input_settings` can be asked for its
    data `with_input` of other values.
    """

    losses: ClassVar[tuple[str, ...]]
    """Kinds of training loss that `loss` knows; the first one is the default."""

    parity_tolerance: ClassVar[Mapping[str, float]] = {}
    """How far a deployed metric may be from the simulated one."""

    unit: ClassVar[str] = "sample"
    """What is independent of what, for people: an engine, an image, a speaker; see `units`."""

    @property
    @abstractmethod
    def metrics(self) -> Mapping[str, Direction]:
        """Metrics that `evaluate` returns, and which way each is better; the first one is the task's main metric.

        A class variable where they don't depend on the settings.
        """

    def fingerprint(self) -> str:
        """Return a digest of the raw data: a run refuses to be resumed on other data.

        By default it is of what `load` returns, which is loaded once more for it: of every sample in memory, of decoded
        ones of some spread over the split. A task that can look at its files is quicker.

        Raises:
            InputError: the data is not there.
        """
        data, found = self.load(), hashlib.sha256()
        for split in (data.train, data.val, data.test):
            found.update(str(len(split)).encode())
            count = len(split) if split.in_memory else min(len(split), FINGERPRINTED)
            indices = evenly_spread(len(split), count)
            for first in range(0, count, FINGERPRINTED):
                for array in split.batch(indices[first : first + FINGERPRINTED]):
                    for part in array if array.dtype == object else [array]:
                        found.update(f"{part.shape} {part.dtype}".encode())
                        found.update(np.ascontiguousarray(part).tobytes())
        return found.hexdigest()

    @abstractmethod
    def load(self) -> TaskData:
        """Read, check, split and preprocess the data. Deterministic.

        Raises:
            InputError: the data is missing or damaged; the message names file, line and mend.
        """

    def input_settings(self) -> Sequence[Setting]:
        """Return the settings of the group ``input``: what of the network's input can be searched; by default nothing.

        Each is named as the constructor's argument that it stands for, and has this task's own value as its reference.
        """
        return ()

    def with_input(self, values: Mapping[str, Value]) -> Task:
        """Return the task as it is with these input settings; itself where there are none.

        Its data has other inputs, preprocessing and protocol. Samples of val and test, their order, targets and extras
        are those of this task whatever the values, so that scores can be compared; `TaskData.train` may differ.

        Args:
            values: a candidate's group ``input``: by the names of `input_settings`.

        Raises:
            ValueError: no such input setting.
            TypeError: the task is no dataclass and doesn't say itself what it is with other settings.
        """
        return self._replaced(values)

    def _replaced(self, values: Mapping[str, Value], **further: object) -> Self:
        """Return the task with input settings, and where there are any with further arguments changed."""
        unknown = set(values) - {setting.name for setting in self.input_settings()}
        if unknown:
            raise ValueError(f"{type(self).__name__} has no input setting '{min(unknown)}'")
        if not values:
            return self
        if not is_dataclass(self):
            raise TypeError(f"{type(self).__name__}.with_input: it is no dataclass: write the method for it")
        return replace(self, **values, **further)

    def with_features(self) -> Task | None:
        """Return the task with hand-made features as a network's input, or None, by default: there are no such.

        What a person would try first: baselines are dense networks on them. Inputs are vectors, shape (features,), or,
        where there is an output for every pixel, shape (features, height, width); of val and test, samples, order,
        targets and extras are those of this task; what firmware has to do is in `TaskData.preprocessing`.
        """
        return None

    def front_end(self, preprocessing: Mapping[str, Any]) -> FrontEnd | None:
        """Return what makes a network's input of a raw one, also in C, or None, by default.

        Then firmware is given the constants of the preprocessing alone.

        Args:
            preprocessing: as in `TaskData`, or as JSON gives it back.
        """
        del preprocessing
        return None

    def back_end(self, preprocessing: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> BackEnd | None:
        """Return what makes an answer of a network's outputs, also in C, or None, by default.

        Args:
            preprocessing: as in `TaskData`, or as JSON gives it back.
            shapes: of a sample's outputs by name, as the torch network has them.
        """
        del preprocessing, shapes
        return None

    def raw_inputs(self, val: Split, indices: Indices) -> Sequence[NDArray[Any]]:
        """Return what the `front_end` makes the inputs of some validation samples of, each of shape (rows, row_size).

        Args:
            val: the split.
            indices: of its samples, from 0, shape (batch,).

        Raises:
            NotImplementedError: the task has no front end.
        """
        raise NotImplementedError

    @abstractmethod
    def loss(self, kind: str, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean training loss of a batch, a scalar; of a candidate, that of the task `with_input` of its own.

        Args:
            kind: one of `losses`.
            outputs: shape (batch, output_size, ...).
            targets: shape (batch, ...) as in `Split.targets`.
        """

    def augment(self, inputs: Tensor, targets: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Return a training batch with random changes, drawn anew each time it is seen; by default none.

        Args:
            inputs: shape (batch, *input_shape); not to be changed in place.
            targets: shape (batch, ...); likewise.
            generator: all random numbers come from it.
        """
        del generator
        return inputs, targets

    def loss_gradient(self, kind: str, outputs: FloatArray, targets: FloatArray) -> tuple[float, FloatArray] | None:
        """Return `loss` and its gradient by the outputs, of the same shape, or None: then autograd does that.

        Offering it saves small networks the better part of a training step; the result must be autograd's.
        """
        del kind, outputs, targets
        return None

    def predictions(self, outputs: Outputs, split: Split, preprocessing: Mapping[str, Any]) -> Arrays:
        """Return what is kept of a shipped model's predictions; by default outputs, targets and extras as they are.

        A task with large outputs keeps what its plots need: every training of every finalist keeps as much.

        Args:
            outputs: of the deployed model on the split's samples, shape (n, output_size, ...).
            split: the samples.
            preprocessing: as in `TaskData`.

        Returns:
            Arrays by name; ``predictions.npz`` holds them with the split's name in front.
        """
        del preprocessing
        named = outputs if isinstance(outputs, Mapping) else {"outputs": outputs}
        return {**named, "targets": split.targets, **split.extras}

    def float_predictions(self, outputs: Outputs, split: Split, preprocessing: Mapping[str, Any]) -> Arrays:
        """Return what is kept of the FP32 network's predictions beside, for views that hold both against each other.

        By default nothing. Names are others than those of `predictions`.

        Args:
            outputs: of the FP32 network on the split's samples, shape (n, output_size, ...).
            split: the samples.
            preprocessing: as in `TaskData`.
        """
        del outputs, split, preprocessing
        return {}

    @abstractmethod
    def evaluate(self, outputs: Outputs, split: Split) -> dict[str, float]:
        """Return every metric of `metrics`.

        Args:
            outputs: shape (n, output_size, ...), the network's output on the split's samples; of a network with several
                outputs a mapping from their names to such arrays.
            split: the samples.
        """

    def confusion(self, outputs: Outputs, split: Split) -> NDArray[np.int64] | None:
        """Return how often each true class (row) was taken for each class, shape (classes, classes), or None.

        None: nothing of the kind, as where numbers are predicted. By default an output a class is expected, of which
        the largest is the answer, and targets that are whole numbers: one a sample, or one a place of its output.
        A class that is there and never answered is told wherever the model is. Names of the classes are
        ``TaskData.preprocessing["classes"]``.

        Args:
            outputs: shape (n, output_size, ...).
            split: the samples.
        """
        if not isinstance(outputs, np.ndarray) or outputs.ndim < FEWEST_CLASSES:
            return None
        targets, classes = np.asarray(split.targets), outputs.shape[1]
        if classes < FEWEST_CLASSES or targets.dtype.kind not in "iu" or targets.size * classes != outputs.size:
            return None
        return confusion(outputs.argmax(axis=1), targets, classes)

    def units(self, split: Split) -> NDArray[Any]:
        """Return which independent unit each sample is of, shape (n,): by default each is its own.

        Windows of one engine, frames of one recording and pictures of one person are not independent: the intervals of
        scores are over what `unit` names.
        """
        return np.arange(len(split))

    def constant_outputs(self, data: TaskData, shapes: Mapping[str, tuple[int, ...]]) -> Outputs | None:
        """Return the best output of someone who doesn't look at inputs, of one sample, or None, by default.

        None: it follows from the targets, the median of numbers, or the logarithms of the classes' shares.

        Args:
            data: as `load` returns it.
            shapes: of a sample's outputs by name.
        """
        del data, shapes
        return None

    def evaluate_draws(
        self, outputs: Outputs, split: Split, unit_of: NDArray[np.intp], draws: NDArray[np.intp]
    ) -> Mapping[str, NDArray[np.float64]] | None:
        """Return every metric over units drawn with replacement, each of shape (draws,), or None: then by `evaluate`.

        A task whose `evaluate` is slow offers it: it adds up what its metrics are made of, unit by unit. So does one
        whose `evaluate` tells units apart by an extra: one that is drawn several times has to count as often.

        Args:
            outputs: shape (n, output_size, ...).
            split: the samples.
            unit_of: the unit of each sample, numbered from 0, shape (n,).
            draws: which units each draw has, shape (draws, units).
        """
        del outputs, split, unit_of, draws
        return None
