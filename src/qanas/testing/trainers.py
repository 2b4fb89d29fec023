"""The contract of a trainer, and the plain training that it is held against: torch's parts in torch's usual way."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from qanas.core.errors import TrainingFailed
from qanas.search_space.training_group import TrainingSettings
from qanas.testing.properties import difference, expect, hold, refusal, states
from qanas.training.loop import Epochs, fit
from qanas.training.trainer import NO_PENALTIES, Loss, Penalties, Trainer, TrainingSet

EPOCHS, SEED = 2, 3
SETTINGS = TrainingSettings(5e-3, "adam", "cosine", 32, "mse")
LEARNING_STEPS = 30
STEP_TOLERANCE = 1e-5
"""Of the first step's loss, relative to it."""

WEIGHTS_TOLERANCE = 2e-3
"""Of weights after a training: Adam divides by the gradient's size, so rounding errors of tiny ones count in full."""

Begin = Callable[[nn.Module, TrainingSet, TrainingSettings], Trainer]
"""Returns a trainer of a network with initial weights, on some data, with a loss of its own."""

Make = Callable[[], tuple[nn.Module, TrainingSet]]
"""Returns a network with initial weights, the same each time, and what it is trained on."""


def squared_error(kind: str, outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean squared error of outputs and targets of one shape, (batch, ...)."""
    del kind
    return (outputs - targets).square().mean()


def small_regression() -> tuple[nn.Module, TrainingSet]:
    """Return a network with a batch norm, and 90 images whose mean it has to find."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        inputs = torch.randn(90, 2, 4, 4)
        network = nn.Sequential(
            nn.Conv2d(2, 3, 3, bias=False), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 1)
        )
    return network, TrainingSet(inputs, inputs.mean((1, 2, 3))[:, None])


def penalty_value(network: nn.Module, penalties: Penalties) -> Tensor:
    """Return what penalties add to the loss, a scalar."""
    value = torch.zeros(())
    for name, penalty in penalties.items():
        weights = network.get_parameter(name)
        value = value + penalty.l1 * weights.abs().sum() + penalty.l2 * (weights * weights).sum()
    return value


def train_plainly(
    network: nn.Module,
    data: TrainingSet,
    loss: Loss,
    settings: TrainingSettings,
    *,
    epochs: int,
    seed: int,
    penalties: Penalties = NO_PENALTIES,
) -> list[float]:
    """Train as the documentation of `fit` says, with torch's parts in torch's usual way; return the epochs' losses.

    Args:
        network: with initial weights; trained in place.
        data: on the CPU.
        loss: of a batch.
        settings: how to train.
        epochs: passes over the data.
        seed: of the order of the samples.
        penalties: added to the loss.
    """
    parameters = list(network.parameters())
    optimizer: torch.optim.Optimizer = (
        torch.optim.Adam(parameters)
        if settings.optimizer == "adam"
        else torch.optim.RMSprop(parameters, alpha=0.9, eps=1e-7)
    )
    averages = [parameter.detach().clone() for parameter in parameters]
    generator = torch.Generator().manual_seed(seed)
    total = epochs * math.ceil(len(data.inputs) / settings.batch_size)
    losses, step = [], 0
    for _ in range(epochs):
        order, summed = torch.randperm(len(data.inputs), generator=generator), 0.0
        for indices in torch.split(order, settings.batch_size):
            done = step / total
            factors = {"none": 1.0, "cosine": (1.0 + math.cos(math.pi * done)) / 2.0, "exponential": 0.01**done}
            optimizer.param_groups[0]["lr"] = settings.learning_rate * factors[settings.scheduler]
            optimizer.zero_grad()
            value = loss(settings.loss, network(data.inputs[indices]), data.targets[indices])
            value = value + penalty_value(network, penalties)
            value.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(parameters, settings.gradient_clip)
            optimizer.step()
            step += 1
            decay = min(settings.ema_decay, (1.0 + step) / (10.0 + step))
            averages = [decay * a + (1.0 - decay) * p.detach() for a, p in zip(averages, parameters, strict=True)]
            summed += value.item() * len(indices)
        losses.append(summed / len(data.inputs))
    for parameter, average in zip(parameters, averages, strict=True):
        parameter.data = average
    update_bn([data.inputs], network)
    network.eval()
    return losses


@dataclass(frozen=True)
class TrainerCase:
    """How a trainer begins, and what it trains.

    Attributes:
        begin: returns the trainer.
        make: returns network and data.
        loss: that it trains by, where that is one of whole outputs: then it is held against the plain training.
    """

    begin: Begin
    make: Make
    loss: Loss | None

    def started(self) -> tuple[nn.Module, TrainingSet, Trainer]:
        """Return network, data and trainer before the first step."""
        network, data = self.make()
        return network, data, self.begin(network, data, SETTINGS)

    def batch(self, data: TrainingSet) -> Tensor:
        """Return the samples of the first batch, shape (batch,)."""
        return torch.arange(min(SETTINGS.batch_size, len(data)))

    def trained(self) -> nn.Module:
        """Return the network after a few epochs."""
        network, data, trainer = self.started()
        fit(trainer, Epochs(len(data), SETTINGS, EPOCHS, SEED))
        return network


def check_trainer(begin: Begin, make: Make = small_regression, loss: Loss | None = None) -> None:
    """Hold a trainer against its contract, see `qanas.training.trainer`.

    Args:
        begin: returns the trainer of a network, data and settings.
        make: returns what is trained; by default a small network of images.
        loss: that the trainer trains by. With it the first loss, the gradients and a whole training are held against
            torch's; None for one that trains otherwise, such as a supernet's paths.

    Raises:
        AssertionError: which property is broken, and what was seen.
    """
    _, _, trainer = TrainerCase(begin, make, loss).started()
    hold(type(trainer).__name__, TrainerCase(begin, make, loss), PROPERTIES)


def the_first_loss_is_the_untrained_networks(case: TrainerCase) -> None:
    """The first step returns the loss of the network as it was."""
    _, data, trainer = case.started()
    found = trainer.step(case.batch(data), 1e-3)
    expect(isinstance(found, float) and math.isfinite(found), f"it returns {found!r}")
    if case.loss is None:
        return
    plain, _ = case.make()
    inputs, targets = data.drawn(case.batch(data))
    expected = case.loss(SETTINGS.loss, plain.train()(inputs), targets).item()
    expect(math.isclose(found, expected, rel_tol=STEP_TOLERANCE), f"it is {found:.8g}, torch has {expected:.8g}")


def no_weight_moves_without_a_rate(case: TrainerCase) -> None:
    """Steps at a learning rate of 0 move no weight."""
    network, data, trainer = case.started()
    before = {name: values.detach().clone() for name, values in network.named_parameters()}
    for _ in range(3):
        trainer.step(case.batch(data), 0.0)
    trainer.finish()
    for name, values in network.named_parameters():
        gap = float((values.detach() - before[name]).abs().max())
        expect(gap <= 1e-6 * max(float(before[name].abs().max()), 1.0), f"{name} moved by {gap:.1e}")


def it_learns(case: TrainerCase) -> None:
    """Steps on the same batch make its loss smaller."""
    _, data, trainer = case.started()
    losses = [trainer.step(case.batch(data), SETTINGS.learning_rate) for _ in range(LEARNING_STEPS)]
    expect(losses[-1] < losses[0], f"the loss is {losses[0]:g}, after {LEARNING_STEPS} steps {losses[-1]:g}")


def a_snapshot_is_what_it_would_be_now(case: TrainerCase) -> None:
    """A snapshot after some steps is the network of a training that ended there, and changes nothing."""
    ended, data, shorter = case.started()
    for _ in range(LEARNING_STEPS):
        shorter.step(case.batch(data), SETTINGS.learning_rate)
    shorter.finish()
    looked_at, data, trainer = case.started()
    for _ in range(LEARNING_STEPS):
        trainer.step(case.batch(data), SETTINGS.learning_rate)
    look = getattr(trainer, "snapshot", None)  # a supernet's has none
    if look is None:
        return
    drawn = torch.random.get_rng_state()
    shown: nn.Module = look()
    expect(torch.equal(drawn, torch.random.get_rng_state()), "a random number was drawn")
    expect(not any(module.training for module in shown.modules()), "a module of it is in training mode")
    gap = difference(states(shown), states(ended))
    expect(not gap, f"it differs from what finish leaves: {gap}")
    trainer.finish()
    gap = difference(states(looked_at), states(ended))
    expect(not gap, f"with a look, finish leaves something else: {gap}")


def the_network_is_ready(case: TrainerCase) -> None:
    """In the end the network is on the CPU, in evaluation mode, its weights changed and finite."""
    before = states(case.make()[0])
    network = case.trained()
    expect(not any(module.training for module in network.modules()), "a module is in training mode")
    for name, tensor in network.state_dict().items():
        expect(tensor.device.type == "cpu", f"{name} is on {tensor.device}")
        expect(tensor.isfinite().all(), f"{name} is not finite")
    expect(difference(before, states(network)), "no weight has changed")


def the_same_again_is_the_same(case: TrainerCase) -> None:
    """The same training gives the same weights bit for bit."""
    seen = difference(states(case.trained()), states(case.trained()), "weights")
    expect(not seen, seen)


def the_data_is_only_read(case: TrainerCase) -> None:
    """The data is only read."""
    _, data, trainer = case.started()
    before = copy.deepcopy((data.inputs, data.targets))
    trainer.step(case.batch(data), 1e-3)
    trainer.finish()
    seen = difference(before, (data.inputs, data.targets), "the data")
    expect(not seen, seen)


def nan_fails_the_training(case: TrainerCase) -> None:
    """NaN in the data is not trained over: the loss is NaN, and the training fails."""
    network, data = case.make()
    data.targets[:] = torch.nan
    trainer = case.begin(network, data, SETTINGS)
    refusal(TrainingFailed, lambda: fit(trainer, Epochs(len(data), SETTINGS, 1, SEED)), "NaN in all targets")


def a_training_is_torchs(case: TrainerCase) -> None:
    """A training has the losses and the weights of one that is written out with torch."""
    if case.loss is None:
        return
    for settings in (SETTINGS, replace(SETTINGS, optimizer="rmsprop", scheduler="none", gradient_clip=0.1)):
        plain, data = case.make()
        train_plainly(plain, data, case.loss, settings, epochs=EPOCHS, seed=SEED)
        network, data = case.make()
        fit(case.begin(network, data, settings), Epochs(len(data), settings, EPOCHS, SEED))
        found, expected = states(network), states(plain)
        for name, values in expected.items():
            gap = float(np.abs(found[name] - values).max())
            most = WEIGHTS_TOLERANCE * max(float(np.abs(values).max()), 1.0)
            expect(gap <= most, f"{settings.optimizer}: {name} differs by {gap:.1e}")


PROPERTIES = (
    the_first_loss_is_the_untrained_networks,
    no_weight_moves_without_a_rate,
    it_learns,
    the_network_is_ready,
    the_same_again_is_the_same,
    the_data_is_only_read,
    nan_fails_the_training,
    a_training_is_torchs,
    a_snapshot_is_what_it_would_be_now,
)
"""What a trainer owes."""
