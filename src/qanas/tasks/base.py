"""What a task is: the contract that built-in tasks and a user's ``module:Class`` share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Generator, Tensor

from qanas.core.measurement import Direction

FloatArray = NDArray[np.float32]
Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Split:
    """The samples of one split.

    Attributes:
        inputs: shape (n, *input_shape).
        targets: shape (n, ...): numbers in the unit of the network's output, or classes.
        extras: further arrays of n rows that metrics or plots need (which engine, uncapped targets, ...).
    """

    inputs: FloatArray
    targets: NDArray[Any]
    extras: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.inputs)


@dataclass(frozen=True)
class TaskData:
    """A task's data, prepared.

    Attributes:
        train: what is trained and calibrated on.
        val: what the search scores on.
        test: touched for the seed network and the finalists only.
        output_size: how many values the network puts out per sample, or per pixel of it.
        target_scale: the network's output is in units of the target; its last layer is multiplied by this
            constant, so that weights of ordinary size reach targets of this size.
        preprocessing: what firmware has to do before the network; goes onto the card as it is.
        protocol: how the numbers come about (split, cap, ...); goes onto the card as it is.
    """

    train: Split
    val: Split
    test: Split
    output_size: int
    target_scale: float = 1.0
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    protocol: Mapping[str, Any] = field(default_factory=dict)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one sample."""
        return tuple(self.train.inputs.shape[1:])


class Task(ABC):
    """Data, splits, losses and metrics. Its constructor's arguments are the keys of a recipe's ``[task]``."""

    losses: ClassVar[tuple[str, ...]]
    """Kinds of training loss that `loss` knows; the first one is the default."""

    parity_tolerance: ClassVar[Mapping[str, float]] = {}
    """How far a deployed metric may be from the simulated one."""

    @property
    @abstractmethod
    def metrics(self) -> Mapping[str, Direction]:
        """Metrics that `evaluate` returns, and which way each is better; the first one is the task's main metric.

        A class variable where they don't depend on the settings.
        """

    @abstractmethod
    def fingerprint(self) -> str:
        """Return a digest of the raw data: a run refuses to be resumed on other data.

        Raises:
            InputError: the data is not there.
        """

    @abstractmethod
    def load(self) -> TaskData:
        """Read, check, split and preprocess the data. Deterministic.

        Raises:
            InputError: the data is missing or damaged; the message names file, line and mend.
        """

    @abstractmethod
    def loss(self, kind: str, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean training loss of a batch, a scalar.

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
        """Return `loss` and its gradient by the outputs, or None where the task leaves that to autograd.

        Offering it saves small networks the better part of a training step; the result must be autograd's.
        """
        del kind, outputs, targets
        return None

    def predictions(self, outputs: FloatArray, split: Split, preprocessing: Mapping[str, Any]) -> Arrays:
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
        return {"outputs": outputs, "targets": split.targets, **split.extras}

    @abstractmethod
    def evaluate(self, outputs: FloatArray, split: Split) -> dict[str, float]:
        """Return every metric of `metrics`.

        Args:
            outputs: shape (n, output_size, ...), the network's output on the split's samples.
            split: the samples.
        """
