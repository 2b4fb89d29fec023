"""What trains a network, a step at a time, and what all such trainers share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import update_bn

from qanas.core.even_spread import evenly_spread
from qanas.search_space.training_group import Penalty
from qanas.tasks.base import Samples

Loss = Callable[[str, Tensor, Tensor], Tensor]
"""``loss(kind, outputs, targets)``: a scalar tensor, as `qanas.tasks.base.Task.loss`."""

Penalties = Mapping[str, Penalty]
"""What is added to the loss, by the names of the network's parameters."""

NO_PENALTIES: Penalties = MappingProxyType({})


class Trainer(Protocol):
    """One network in training; `qanas.training.loop.fit` is handed it.

    A trainer knows the network, what it is trained on and the loss: how to take a step. How many steps there are, on
    which samples and at which learning rate, a `qanas.training.loop.Schedule` says.
    """

    def step(self, indices: Tensor, learning_rate: float) -> float:
        """Take one optimizer step and return the batch's mean loss before it.

        Args:
            indices: samples of the batch, int64, shape (batch,).
            learning_rate: of this step.
        """

    def finish(self) -> None:
        """Leave the network as it is to be used: its final weights in it, on the CPU, in evaluation mode."""


class SnapshotTrainer(Trainer, Protocol):
    """A trainer that shows on the way what its network would be."""

    def snapshot(self) -> nn.Module:
        """Return a copy of the network as `finish` would leave it now; training goes on as if nobody had looked.

        Batch norms have the statistics of at most `SNAPSHOT_SAMPLES`.
        """


_SMALL_INTEGERS = (torch.int8, torch.uint8, torch.int16, torch.int32)


@dataclass(frozen=True)
class TrainingSet:
    """What is trained on, as whole tensors on the CPU; they may be mapped from files.

    Attributes:
        inputs: shape (n, *input_shape).
        targets: shape (n, ...).
        augment: changes a batch of inputs and targets at random each time it is drawn; None leaves them as they are.
    """

    inputs: Tensor
    targets: Tensor
    augment: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.inputs)

    in_memory: ClassVar[bool] = True
    """Whether `inputs` and `targets` are there at no cost."""

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return inputs, shape (batch, *input_shape), and targets, shape (batch, ...), as they are trained on.

        Args:
            indices: shape (batch,).
        """
        inputs, targets = self.drawn(indices)
        if self.augment is not None:
            inputs, targets = self.augment(inputs, targets)
        # Losses of torch take classes as int64 alone.
        return inputs, targets.long() if targets.dtype in _SMALL_INTEGERS else targets

    def drawn(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return inputs, shape (batch, *input_shape), and targets, shape (batch, ...), as they are.

        Args:
            indices: shape (batch,).
        """
        return self.inputs[indices], self.targets[indices]


@dataclass(frozen=True)
class DecodedSet(TrainingSet):
    """What is trained on, decoded batch by batch: only torch's trainer takes it.

    Attributes:
        samples: decodes some of them.
        inputs: of one sample, for its shape and type.
        targets: likewise.
    """

    in_memory = False
    samples: Samples = field(kw_only=True)

    @classmethod
    def of(cls, samples: Samples, augment: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None) -> DecodedSet:
        """Decode one sample and no more."""
        inputs, targets = samples.batch(np.zeros(1, np.intp))
        return cls(torch.from_numpy(inputs), torch.from_numpy(targets), augment, samples=samples)

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.samples)

    def drawn(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Decode some samples."""
        inputs, targets = self.samples.batch(indices.numpy())
        return torch.from_numpy(inputs), torch.from_numpy(targets)


@dataclass(frozen=True)
class PartOfSet(TrainingSet):
    """Some samples of a training set.

    Attributes:
        whole: that they are of; it changes batches at random.
        chosen: which, int64, shape (n,).
    """

    whole: TrainingSet = field(kw_only=True)
    chosen: Tensor = field(kw_only=True)

    @classmethod
    def of(cls, whole: TrainingSet, chosen: Tensor) -> PartOfSet:
        """Take the samples at some positions, shape (n,)."""
        return cls(whole.inputs, whole.targets, whole.augment, whole=whole, chosen=chosen)

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.chosen)

    def drawn(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return some of them, by their positions in this part, shape (batch,)."""
        return self.whole.drawn(self.chosen[indices])


def ema_weight(decay: float, step: int) -> float:
    """Return the weight of the new value in the moving average after ``step`` steps (from 1).

    Early averages are short, so that the random initial weights are soon forgotten.
    """
    return 1.0 - min(decay, (1.0 + step) / (10.0 + step))


STATISTICS_SAMPLES = 8192
"""Training samples, spread evenly, whose statistics a batch norm has in the end."""

SNAPSHOT_SAMPLES = 1024
"""As many for a look on the way: all of them take longer than an epoch of a compiled trainer."""

STATISTICS_CHUNK = 1024
"""Of them, computed at a time."""


def refresh_batch_norms(
    network: nn.Module, data: TrainingSet, device: str = "cpu", most: int = STATISTICS_SAMPLES
) -> None:
    """Give every batch norm the statistics that training data has under the network's present weights.

    Those gathered while training are of other weights than the averaged ones (Izmailov et al. 2018). Chunks are
    spread over the data as a whole is, so that the mean of their variances is that of all samples. What layers draw,
    such as a dropout's masks, is the same each time, and leaves the global generators as they were.

    Args:
        network: with or without batch norms; its mode stays as it is.
        data: that it was trained on.
        device: of the network.
        most: samples, spread evenly.
    """
    if any(isinstance(module, _BatchNorm) for module in network.modules()):
        chosen = torch.from_numpy(evenly_spread(len(data), most))
        chunks = -(-len(chosen) // STATISTICS_CHUNK)
        drawn = (data.drawn(chosen[first::chunks])[0] for first in range(chunks))
        with torch.random.fork_rng(devices=[] if device == "cpu" else None):
            torch.manual_seed(0)
            update_bn(drawn, network, torch.device(device))
