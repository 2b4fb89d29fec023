"""The one fit loop."""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import update_bn

from qanas.core.errors import TrainingFailed
from qanas.core.even_spread import evenly_spread
from qanas.networks.lstm import LSTMNetwork
from qanas.networks.tcn import TCNNetwork
from qanas.search_space.training_group import Penalty, Scheduler, TrainingSettings
from qanas.training.flat_parameters import FlatParameters
from qanas.training.memory_order import channels_last

Loss = Callable[[str, Tensor, Tensor], Tensor]
"""``loss(kind, outputs, targets)``: a scalar tensor, as `qanas.tasks.base.Task.loss`."""

Penalties = Mapping[str, Penalty]
"""What is added to the loss, by the names of the network's parameters."""

NO_PENALTIES: Penalties = MappingProxyType({})

OnEpoch = Callable[[int, float], None]
"""Told after each epoch: its number from 1, and its mean training loss."""


@dataclass(frozen=True)
class TrainingSet:
    """What is trained on, as whole tensors.

    Attributes:
        inputs: shape (n, *input_shape).
        targets: shape (n, ...).
        augment: changes a batch of inputs and targets at random each time it is drawn; None leaves them as they are.
    """

    inputs: Tensor
    targets: Tensor
    augment: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return inputs and targets at ``indices``, as they are trained on."""
        inputs, targets = self.inputs[indices], self.targets[indices]
        return (inputs, targets) if self.augment is None else self.augment(inputs, targets)


class Trainer(Protocol):
    """One network in training: knows how to take a step and how to average its weights."""

    def step(self, indices: Tensor, learning_rate: float) -> float:
        """Take one optimizer step on the samples at ``indices`` and return the batch's mean loss."""

    def finish(self) -> None:
        """Write the averaged weights into the network."""


def learning_rate_factor(scheduler: Scheduler, progress: float) -> float:
    """Return the factor on the learning rate at ``progress`` in [0, 1) of all steps.

    >>> [round(learning_rate_factor(name, 0.5), 3) for name in ("none", "cosine", "exponential")]
    [1.0, 0.5, 0.1]
    """
    if scheduler == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * progress))
    if scheduler == "exponential":
        return float(0.01**progress)
    return 1.0


def ema_weight(decay: float, step: int) -> float:
    """Return the weight of the new value in the moving average after ``step`` steps (from 1).

    Early averages are short, so that the random initial weights are soon forgotten.
    """
    return 1.0 - min(decay, (1.0 + step) / (10.0 + step))


def diverged(loss: float, epoch: int, step: int) -> TrainingFailed:
    """Return how a training fails whose loss became NaN or infinite; epoch and step are from 1."""
    return TrainingFailed(f"the training loss became {loss} in epoch {epoch}, step {step}")


def batches(samples: int, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield the index tensors of one epoch: a fresh permutation, the last batch smaller where it must be."""
    order = torch.randperm(samples, generator=generator)
    yield from torch.split(order, batch_size)


STATISTICS_SAMPLES = 8192
"""Training samples, spread evenly, whose statistics a batch norm has in the end."""

STATISTICS_CHUNK = 1024
"""Of them, computed at a time."""


def refresh_batch_norms(network: nn.Module, inputs: Tensor) -> None:
    """Give every batch norm the statistics that training data has under the network's present weights.

    Those gathered while training are of other weights than the averaged ones (Izmailov et al. 2018). Chunks are
    spread over the data as a whole is, so that the mean of their variances is that of all samples.

    Args:
        network: with or without batch norms; its mode stays as it is.
        inputs: shape (n, *input_shape).
    """
    if any(isinstance(module, _BatchNorm) for module in network.modules()):
        chosen = evenly_spread(len(inputs), STATISTICS_SAMPLES)
        chunks = -(-len(chosen) // STATISTICS_CHUNK)
        update_bn([inputs[chosen[first::chunks]] for first in range(chunks)], network)


class TorchTrainer:
    """Any network, on any device, through torch's autograd.

    Args:
        network: trained in place.
        data: on the network's device.
        loss: the task's loss.
        settings: how to train.
        penalties: on the weights.
    """

    def __init__(
        self,
        network: nn.Module,
        data: TrainingSet,
        loss: Loss,
        settings: TrainingSettings,
        penalties: Penalties = NO_PENALTIES,
    ) -> None:
        """Create the optimizer and the averages."""
        self.network = network
        self.data = data
        self.loss = loss
        self.settings = settings
        self.flat = FlatParameters(p for p in network.parameters() if p.requires_grad)
        self.optimizer: torch.optim.Optimizer
        if settings.optimizer == "adam":
            self.optimizer = torch.optim.Adam([self.flat.values], lr=settings.learning_rate)
        else:
            self.optimizer = torch.optim.RMSprop([self.flat.values], lr=settings.learning_rate, alpha=0.9, eps=1e-7)
        self.penalties = [(network.get_parameter(name), penalty) for name, penalty in penalties.items()]
        self.flat.values.grad = self.flat.gradient
        self.average = self.flat.values.clone()
        self.steps = 0

    def step(self, indices: Tensor, learning_rate: float) -> float:
        """Take one step of gradient descent."""
        self.network.train()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.flat.gradient.zero_()
        inputs, targets = self.data.batch(indices)
        loss = self.loss(self.settings.loss, self.network(channels_last(inputs)), targets)
        for weights, penalty in self.penalties:
            loss = loss + penalty.l1 * weights.abs().sum() + penalty.l2 * weights.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_([self.flat.values], self.settings.gradient_clip)
        self.optimizer.step()
        self.steps += 1
        self.average.lerp_(self.flat.values, ema_weight(self.settings.ema_decay, self.steps))
        return loss.item()

    def finish(self) -> None:
        """Write the averaged weights into the network, and the statistics that go with them."""
        self.flat.release(self.average)
        refresh_batch_norms(self.network, self.data.inputs)
        self.network.eval()


def make_trainer(
    network: nn.Module,
    data: TrainingSet,
    loss: Loss,
    settings: TrainingSettings,
    penalties: Penalties = NO_PENALTIES,
) -> Trainer:
    """Return the fastest trainer that knows this network and these settings.

    If that is torch's, the log says why. The choice doesn't depend on the number of threads, so neither does
    the result.
    """
    reason = _why_not_fused(network, data, loss, settings)
    if reason is None:
        try:
            return _fused_trainer(network, data, loss, settings, penalties)
        except ImportError as error:
            log_once(logging.WARNING, f"{type(network).__name__} is trained with torch, several times slower: {error}")
    else:
        log_once(logging.INFO, f"trained with torch: {reason}")
    return TorchTrainer(network, data, loss, settings, penalties)


def _why_not_fused(network: nn.Module, data: TrainingSet, loss: Loss, settings: TrainingSettings) -> str | None:
    """Return why no compiled kernel should train this network, or None."""
    from qanas.training.fused_lstm.support import supports as lstm_supports
    from qanas.training.fused_tcn.support import supports as tcn_supports

    if isinstance(network, TCNNetwork):
        return tcn_supports(network, data, loss, settings)
    if isinstance(network, LSTMNetwork):
        return lstm_supports(network, data, loss, settings)
    return f"there is no kernel for {type(network).__name__}"


def _fused_trainer(
    network: nn.Module, data: TrainingSet, loss: Loss, settings: TrainingSettings, penalties: Penalties
) -> Trainer:
    """Return the trainer whose kernel takes this network.

    Raises:
        ImportError: Numba cannot be loaded.
    """
    if isinstance(network, TCNNetwork):
        from qanas.training.fused_tcn.trainer import FusedTCNTrainer

        return FusedTCNTrainer(network, data, loss, settings, penalties)
    from qanas.training.fused_lstm.trainer import FusedLSTMTrainer

    return FusedLSTMTrainer(cast("LSTMNetwork", network), data, loss, settings, penalties)


@functools.cache
def log_once(level: int, message: str) -> None:
    """Log a message the first time that this process has it."""
    logging.getLogger("qanas").log(level, message)


def fit(
    network: nn.Module,
    data: TrainingSet,
    loss: Loss,
    settings: TrainingSettings,
    *,
    epochs: int,
    seed: int,
    penalties: Penalties = NO_PENALTIES,
    on_epoch: OnEpoch | None = None,
) -> None:
    """Train a network in place; its weights are the moving average over the steps.

    The order of the samples depends on ``seed`` alone. The average is scored at the end instead of the best
    epoch on validation data, which would select on noise.

    Args:
        network: initialised; left in evaluation mode.
        data: on the network's device.
        loss: the task's loss.
        settings: how to train.
        epochs: passes over the data.
        seed: of the order of the samples.
        penalties: added to the loss.
        on_epoch: told after every epoch.

    Raises:
        TrainingFailed: the loss became NaN or infinite.
    """
    trainer = make_trainer(network, data, loss, settings, penalties)
    generator = torch.Generator().manual_seed(seed)
    samples = len(data.inputs)
    total = epochs * math.ceil(samples / settings.batch_size)
    step = 0
    for epoch in range(1, epochs + 1):
        summed = 0.0
        for indices in batches(samples, settings.batch_size, generator):
            factor = learning_rate_factor(settings.scheduler, step / total)
            summed += trainer.step(indices, settings.learning_rate * factor) * len(indices)
            step += 1
            if not math.isfinite(summed):
                raise diverged(summed, epoch, step)
        if on_epoch is not None:
            on_epoch(epoch, summed / samples)
    trainer.finish()
