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

from qanas.core.even_spread import evenly_spread
from qanas.search_space.training_group import Penalty
from qanas.tasks.samples import Samples

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


IMAGE_AXES = 4


def channels_last(values: Tensor) -> Tensor:
    """Return images, shape (batch, channels, height, width), with the channels next to each other in memory.

    Convolutions on a CPU train 1.2 to 1.6 times faster on them (DeepLabv3 of width 0.5 at 96 x 128, one thread).
    Values of any other shape are returned as they are.
    """
    return values.contiguous(memory_format=torch.channels_last) if values.ndim == IMAGE_AXES else values


def ema_weight(decay: float, step: int) -> float:
    """Return the weight of the new value in the moving average after ``step`` steps (from 1).

    Early averages are short, so that the random initial weights are soon forgotten.
    """
    return 1.0 - min(decay, (1.0 + step) / (10.0 + step))


STATISTICS_SAMPLES = 8192
"""Training samples, spread evenly, whose statistics a batch norm has in the end."""

SNAPSHOT_SAMPLES = 1024
"""As many for a look on the way: all of them take longer than an epoch of a compiled trainer."""

STATISTICS_CHUNK, STATISTICS_FEWEST, STATISTICS_BYTES = 1024, 32, 8 << 20
"""Of them, computed at a time: as many as take so many bytes, within bounds. All of a chunk is in memory at once, and
convolutions are twice as fast on what stays in a processor's cache (DeepLabv3 at 96 x 128: 56 instead of 128)."""


@torch.no_grad()
def refresh_batch_norms(
    network: nn.Module, data: TrainingSet, device: str = "cpu", most: int = STATISTICS_SAMPLES
) -> None:
    """Give every batch norm the statistics that training data has under the network's present weights.

    Those gathered while training are of other weights than the averaged ones (Izmailov et al. 2018). Chunks are
    spread over the data as a whole is; variances are those of all samples: the mean of the chunks' variances and the
    variance of their means. What layers draw, such as a dropout's masks, is the same each time, and leaves the global
    generators as they were.

    Args:
        network: with or without batch norms; its mode stays as it is.
        data: that it was trained on.
        device: of the network.
        most: samples, spread evenly.
    """
    norms = [each for each in network.modules() if isinstance(each, _BatchNorm) and each.running_mean is not None]
    if not norms:
        return
    mode, momenta = network.training, [norm.momentum for norm in norms]
    gathered = [_Moments(norm) for norm in norms]
    network.train()
    for norm in norms:
        norm.momentum = None  # the plain mean over a chunk's calls: some networks call one norm several times
    with torch.random.fork_rng(devices=[] if device == "cpu" else None):
        torch.manual_seed(0)
        for chosen in _statistics_chunks(data, most):
            for norm in norms:
                norm.reset_running_stats()
            network(channels_last(data.drawn(chosen)[0].to(device)))
            for moments in gathered:
                moments.add(len(chosen))
    for moments, momentum in zip(gathered, momenta, strict=True):
        moments.write()
        moments.norm.momentum = momentum
    network.train(mode)


def _statistics_chunks(data: TrainingSet, most: int) -> list[Tensor]:
    """Return the samples that are computed at a time, by their positions, shape (chunk,) each."""
    chosen = torch.from_numpy(evenly_spread(len(data), most))
    sample_bytes = data.inputs[0].numel() * data.inputs.element_size()
    size = min(STATISTICS_CHUNK, max(STATISTICS_FEWEST, STATISTICS_BYTES // max(sample_bytes, 1)))
    chunks = -(-len(chosen) // size)
    return [chosen[first::chunks] for first in range(chunks)]


class _Moments:
    """Mean and variance of what a batch norm sees, over chunks of samples."""

    def __init__(self, norm: _BatchNorm) -> None:
        self.norm = norm
        self.samples = 0
        # Sums over samples of the chunk's mean, of its square and of the chunk's variance, shape (3, channels).
        self.sums = torch.zeros(3, norm.num_features, dtype=torch.float64)

    def add(self, samples: int) -> None:
        """Take the statistics that the norm has of a chunk; none where it was not called."""
        if self.norm.num_batches_tracked:
            mean, variance = (self.norm.get_buffer(name).cpu().double() for name in ("running_mean", "running_var"))
            self.samples += samples
            self.sums += samples * torch.stack([mean, mean.square(), variance])

    def write(self) -> None:
        """Give the norm the statistics of all chunks; as new where there were none."""
        self.norm.reset_running_stats()
        if self.samples:
            mean, square, variance = self.sums / self.samples
            self.norm.get_buffer("running_mean").copy_(mean)
            self.norm.get_buffer("running_var").copy_(variance + (square - mean.square()).clamp_min(0))
            self.norm.get_buffer("num_batches_tracked").fill_(1)
