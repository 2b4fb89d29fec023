"""What a task is: the contract that built-in tasks and a user's ``module:Class`` share."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass, replace
from typing import Any, ClassVar, Self

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
from qanas.tasks.samples import Batch, DecodedSplit, FloatArray, Indices, Split, ragged

__all__ = ["Arrays", "Batch", "DecodedSplit", "FloatArray", "Indices", "Outputs", "Split", "Task", "TaskData", "ragged"]
"""What a class of one's own needs comes from here, whatever file it lies in."""

Outputs = Any
"""What a network puts out: an array of shape (n, ...), or arrays by the outputs' names where there are several
(`qanas.quantization.border.named_parts`). A task says itself which of them it takes."""
Arrays = Mapping[str, NDArray[Any]]


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
