"""What every trainer owes, whoever computes it: in the fit loop, the training that is written out plainly here."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from tests.training.small import (
    LSTM_PENALTIES,
    TCN_PENALTIES,
    loss,
    lstm_training,
    settings,
    tcn_training,
)
from torch import nn

from qanas.core.errors import TrainingFailed
from qanas.core.events import Event
from qanas.supernet.distillation import NoiseToSignal
from qanas.supernet.paths import PathsTrainer, paths_a_step, strictly_fair_paths
from qanas.testing.trainers import train_plainly
from qanas.training.compiled.lstm import CompiledLSTMTrainer
from qanas.training.compiled.tcn import CompiledTCNTrainer
from qanas.training.loop import Epochs, Passes, Schedule, fit
from qanas.training.torch_trainer import TorchTrainer
from qanas.training.trainer import Penalties, Trainer, TrainingSet

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from qanas.search_space.training_group import TrainingSettings

EPOCHS, SEED = 4, 3

# What is trained: two layers and 90 samples, so that in batches of 32 the last one of an epoch has 26


def small_lstm() -> tuple[nn.Module, TrainingSet]:
    return lstm_training([5, 3])


def small_tcn() -> tuple[nn.Module, TrainingSet]:
    # from the usual weights: a ReLU that lets everything pass before a norm leaves its norm's offset without effect,
    # and the optimizers would follow the rounding errors of its gradient
    return tcn_training([5, 3], anywhere=False)


def small_convolutions() -> tuple[nn.Module, TrainingSet]:
    inputs = torch.randn(90, 2, 4, 4)
    network = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 1))
    return network, TrainingSet(inputs, inputs.mean((1, 2, 3))[:, None])


class SmallSupernet(nn.Module):
    """Two layers of three and of two options."""

    def __init__(self) -> None:
        super().__init__()
        kernels = ((1, 3, 5), (1, 3))
        self.layers = nn.ModuleList(
            nn.ModuleList(nn.Sequential(nn.Conv2d(2, 2, k, padding=k // 2), nn.BatchNorm2d(2)) for k in options)
            for options in kernels
        )

    def forward(self, inputs: Tensor, path: tuple[int, ...]) -> Tensor:
        for options, chosen in zip(self.layers, path, strict=True):
            inputs = options[chosen](inputs)  # type: ignore[index]
        return inputs


OPTIONS = (3, 2)


def small_supernet() -> tuple[nn.Module, TrainingSet]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        inputs = torch.randn(90, 2, 4, 4)
        return SmallSupernet(), TrainingSet(inputs, inputs.roll(1, dims=3))


# Who trains it


@dataclass(frozen=True)
class Case:
    """A trainer in the fit loop.

    Attributes:
        make: a network with initial weights, and its data.
        begin: the trainer and its schedule, of network, data, settings, total and seed.
        total: epochs or passes of a training.
        gpu: needs one.
    """

    make: Callable[[], tuple[nn.Module, TrainingSet]]
    begin: Callable[[nn.Module, TrainingSet, TrainingSettings, int, int], tuple[Trainer, Schedule]]
    total: int = EPOCHS
    gpu: bool = False


def in_epochs(trainer: Any, **options: Any) -> Any:  # noqa: ANN401 - a class of trainers and further arguments
    def begin(
        network: nn.Module, data: TrainingSet, chosen: TrainingSettings, total: int, seed: int
    ) -> tuple[Trainer, Schedule]:
        return trainer(network, data, loss, chosen, **options), Epochs(len(data), chosen, total, seed)

    return begin


def in_paths(
    network: nn.Module, data: TrainingSet, chosen: TrainingSettings, total: int, seed: int
) -> tuple[Trainer, Schedule]:
    generator = torch.Generator().manual_seed(seed)
    noise = NoiseToSignal.of(data.targets)
    trainer = PathsTrainer(network, data, noise, options=OPTIONS, sampling="fair", generator=generator)
    a_step = paths_a_step("fair", OPTIONS)
    return trainer, Passes(len(data), chosen.batch_size, chosen.learning_rate, total, a_step, generator)


PENALTIES: dict[Any, Penalties] = {small_lstm: LSTM_PENALTIES, small_tcn: TCN_PENALTIES}
TRAINERS: dict[str, tuple[Callable[[], tuple[nn.Module, TrainingSet]], Any, dict[str, Any]]] = {
    "torch-lstm": (small_lstm, TorchTrainer, {}),
    "torch-tcn": (small_tcn, TorchTrainer, {}),
    "torch-lstm-cuda": (small_lstm, TorchTrainer, {"device": "cuda"}),
    "torch-tcn-cuda": (small_tcn, TorchTrainer, {"device": "cuda"}),
    "compiled-lstm": (small_lstm, CompiledLSTMTrainer, {}),
    "compiled-tcn": (small_tcn, CompiledTCNTrainer, {}),
}
"""Those that train in epochs as candidates' settings say: what, by which class, with what further arguments."""

CASES = {
    name: Case(make, in_epochs(trainer, **options), gpu="device" in options)
    for name, (make, trainer, options) in TRAINERS.items()
} | {"paths": Case(small_supernet, in_paths, total=301)}


def marked(name: str) -> Any:  # noqa: ANN401 - pytest's parameter
    return pytest.param(name, marks=[pytest.mark.gpu] if CASES[name].gpu else [])


every_trainer = pytest.mark.parametrize("name", [marked(name) for name in CASES])
in_candidates_epochs = pytest.mark.parametrize("name", [marked(name) for name in TRAINERS])


def trained(name: str, *, seed: int = SEED, chosen: TrainingSettings | None = None) -> nn.Module:
    """Return a network after a whole fit."""
    case = CASES[name]
    network, data = case.make()
    assert fit(*case.begin(network, data, chosen or settings(), case.total, seed))
    return network


class Told:
    """A watch that remembers, and says stop at some number of events."""

    def __init__(self, stop_after: float = math.inf) -> None:
        self.events: list[Event] = []
        self.stop_after = stop_after

    def __call__(self, event: Event) -> bool:
        self.events.append(event)
        return len(self.events) < self.stop_after


# The contract


@every_trainer
def test_the_same_again_is_the_same(name: str) -> None:
    first, second = (trained(name).state_dict() for _ in range(2))
    for key, values in first.items():
        if CASES[name].gpu:
            torch.testing.assert_close(values, second[key])
        else:
            assert values.numpy().tobytes() == second[key].numpy().tobytes()


@every_trainer
def test_the_order_of_the_samples_is_the_seeds(name: str) -> None:
    first, second = (trained(name, seed=seed).state_dict() for seed in (3, 4))
    assert not all(torch.equal(values, second[key]) for key, values in first.items())


@every_trainer
def test_in_the_end_the_network_is_ready_on_the_cpu_and_has_learnt(name: str) -> None:
    case, told = CASES[name], Told()
    network, data = case.make()
    assert fit(*case.begin(network, data, settings(), case.total, SEED), told)
    assert not network.training
    for values in network.state_dict().values():
        assert values.device.type == "cpu"
        assert values.isfinite().all()
    assert told.events[-1].loss < told.events[0].loss


@every_trainer
def test_the_watch_is_told_of_all_in_order(name: str) -> None:
    case, told = CASES[name], Told()
    fit(*case.begin(*case.make(), settings(), case.total, SEED), told)
    done = [event.done for event in told.events]
    assert done == sorted(set(done))
    assert done[-1] == case.total
    assert {event.total for event in told.events} == {case.total}
    assert all(math.isfinite(event.loss) for event in told.events)


@every_trainer
def test_no_weight_moves_at_a_learning_rate_of_zero(name: str) -> None:
    network, data = CASES[name].make()
    before = copy.deepcopy(dict(network.named_parameters()))
    trainer, _ = CASES[name].begin(network, data, settings(), 1, SEED)
    losses = [trainer.step(torch.arange(32), 0.0) for _ in range(3)]
    trainer.finish()
    assert losses[0] > 0.0
    for key, values in network.named_parameters():
        torch.testing.assert_close(values, before[key], rtol=0.0, atol=1e-6)  # an average of equal numbers is rounded


@every_trainer
@pytest.mark.parametrize("stopped", [1, 2])
def test_a_watch_that_says_stop_is_the_last_to_be_told_and_the_trainer_finishes(name: str, stopped: int) -> None:
    case, told = CASES[name], Told(stopped)
    network, data = case.make()
    before = copy.deepcopy(network.state_dict())
    assert not fit(*case.begin(network, data, settings(), case.total, SEED), told)
    assert len(told.events) == stopped
    assert not network.training
    changed = [not torch.equal(values, before[key]) for key, values in network.state_dict().items()]
    assert any(changed)


@every_trainer
def test_a_stop_at_the_very_end_is_none(name: str) -> None:
    case = CASES[name]
    assert fit(*case.begin(*case.make(), settings(), case.total, SEED), lambda event: event.done < case.total)


@every_trainer
@pytest.mark.parametrize("where", ["inputs", "targets"])
def test_nan_in_the_data_fails_the_training(name: str, where: str) -> None:
    case = CASES[name]
    network, data = case.make()
    trainer, schedule = case.begin(network, data, settings(), case.total, SEED)
    getattr(data, where)[:] = torch.nan
    with pytest.raises(TrainingFailed, match=rf"^the training loss became nan in {schedule.unit} \d, step 1$"):
        fit(trainer, schedule)


@every_trainer
def test_the_data_is_only_read(name: str) -> None:
    case = CASES[name]
    network, data = case.make()
    before = copy.deepcopy(data)
    fit(*case.begin(network, data, settings(), case.total, SEED))
    assert torch.equal(before.inputs, data.inputs)
    assert torch.equal(before.targets, data.targets)


# The trainings of candidates, in epochs


@cache
def expected(name: str, chosen: TrainingSettings, penalised: bool) -> tuple[nn.Module, list[float]]:
    network, data = CASES[name].make()
    penalties = PENALTIES[CASES[name].make] if penalised else {}
    return network, train_plainly(network, data, loss, chosen, epochs=EPOCHS, seed=SEED, penalties=penalties)


def assert_trained_as_expected(name: str, chosen: TrainingSettings, *, penalised: bool = False) -> None:
    make, trainer, options = TRAINERS[name]
    network, data = make()
    penalties = PENALTIES[make] if penalised else {}
    told = Told()
    begun: tuple[Trainer, Schedule] = in_epochs(trainer, penalties=penalties, **options)(
        network, data, chosen, EPOCHS, SEED
    )
    fit(*begun, told)
    reference, losses = expected(name, chosen, penalised)
    np.testing.assert_allclose([event.loss for event in told.events], losses, rtol=1e-4)
    # RMSProp and Adam divide by the gradient's size: rounding errors of tiny gradients count like large ones
    rtol, atol = {small_lstm: (0.0, 2e-4), small_tcn: (2e-3, 2e-3)}[make]
    found = network.state_dict()
    for key, values in reference.state_dict().items():
        np.testing.assert_allclose(found[key].numpy(), values.numpy(), rtol=rtol, atol=atol, err_msg=key)


@in_candidates_epochs
@pytest.mark.parametrize("optimizer", ["rmsprop", "adam"])
@pytest.mark.parametrize("scheduler", ["none", "cosine", "exponential"])
@pytest.mark.parametrize("kind", ["mae", "mse"])
def test_a_fit_is_the_plain_one(name: str, optimizer: str, scheduler: str, kind: str) -> None:
    assert_trained_as_expected(name, settings(optimizer=optimizer, scheduler=scheduler, loss=kind))


@in_candidates_epochs
@pytest.mark.parametrize(
    "changes",
    [{"gradient_clip": 1e-3}, {"gradient_clip": 100.0}, {"ema_decay": 0.0}, {"batch_size": 89}, {"batch_size": 128}],
    ids=str,
)
def test_clipping_averaging_and_odd_batches_are_the_plain_ones(name: str, changes: dict[str, Any]) -> None:
    assert_trained_as_expected(name, settings(optimizer="adam", **changes))  # 89: the last batch is one sample


@in_candidates_epochs
@pytest.mark.parametrize("optimizer", ["rmsprop", "adam"])
def test_penalties_are_the_plain_ones(name: str, optimizer: str) -> None:
    assert_trained_as_expected(name, settings(optimizer=optimizer, gradient_clip=0.5), penalised=True)


@in_candidates_epochs
def test_stopped_after_two_epochs_it_is_a_training_of_two(name: str) -> None:
    case = CASES[name]
    network, data = case.make()
    fit(*case.begin(network, data, settings(), case.total, SEED), lambda event: event.done < 2)
    shorter, data = case.make()
    fit(*case.begin(shorter, data, settings(), 2, SEED))
    for key, values in shorter.state_dict().items():
        torch.testing.assert_close(network.state_dict()[key], values, rtol=0.0, atol=1e-6 if case.gpu else 0.0)


@in_candidates_epochs
@pytest.mark.parametrize("optimizer", ["rmsprop", "adam"])
@pytest.mark.parametrize("where", ["inputs", "targets"])
def test_a_single_nan_fails_the_step_that_it_is_in(name: str, optimizer: str, where: str) -> None:
    case = CASES[name]
    network, data = case.make()
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(SEED))
    getattr(data, where)[order[40]] = torch.nan  # in the second batch
    with pytest.raises(TrainingFailed, match=r"became nan in epoch 1, step 2$"):
        fit(*case.begin(network, data, settings(optimizer=optimizer), case.total, SEED))


@in_candidates_epochs
def test_a_training_that_diverges_fails(name: str) -> None:
    case = CASES[name]
    chosen = settings(learning_rate=1e38, gradient_clip=1e38)
    with pytest.raises(TrainingFailed, match=r"the training loss became (nan|inf) in epoch \d, step \d+"):
        fit(*case.begin(*case.make(), chosen, case.total, SEED))


@pytest.mark.parametrize("make", [small_lstm, small_tcn, small_convolutions])
def test_torchs_step_has_all_that_it_computes_with_on_its_device(
    make: Callable[[], tuple[nn.Module, TrainingSet]],
) -> None:
    """Without a GPU: the device ``meta`` refuses other devices' tensors as CUDA does, and has no values to return."""
    trainer = TorchTrainer(*make(), loss, settings(), {}, "meta")
    with pytest.raises(RuntimeError, match=r"Tensor\.item\(\) cannot be called on meta tensors"):
        trainer.step(torch.arange(32), 1e-2)
    assert trainer.steps == 1


# What layers draw


@pytest.mark.parametrize("schedule", ["epochs", "passes"])
def test_a_dropouts_masks_follow_from_the_seed_and_not_from_what_was_drawn_before(schedule: str) -> None:
    _, data = small_convolutions()
    layers = nn.Conv2d(2, 4, 3), nn.Dropout2d(0.5), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 1)
    initial = nn.Sequential(*layers)

    def weights(state: int, seed: int = SEED) -> dict[str, Tensor]:
        torch.manual_seed(state)
        network = copy.deepcopy(initial)
        trainer = TorchTrainer(network, data, loss, settings())
        passes = Passes(len(data), 32, 5e-3, 12, 1, torch.Generator().manual_seed(seed))
        before = torch.random.get_rng_state()
        fit(trainer, Epochs(len(data), settings(), EPOCHS, seed) if schedule == "epochs" else passes)
        assert torch.equal(torch.random.get_rng_state(), before)
        return network.state_dict()

    first, second = weights(state=0), weights(state=1)
    for key, values in first.items():
        assert torch.equal(values, second[key]), key
    assert not torch.equal(first["0.weight"], weights(state=0, seed=SEED + 1)["0.weight"])


# The training of paths


def test_paths_are_trained_as_plainly() -> None:
    total, size, rate = 301, 8, 0.05
    network, data = small_supernet()
    plain = copy.deepcopy(network)
    chosen = replace(settings(), batch_size=size, learning_rate=rate)
    assert fit(*in_paths(network, data, chosen, total, SEED))
    noise = NoiseToSignal.of(data.targets)
    generator = torch.Generator().manual_seed(SEED)
    optimizer = torch.optim.SGD(plain.parameters(), rate, momentum=0.9)
    plain.train()
    for passes in range(0, total, 3):
        optimizer.param_groups[0]["lr"] = rate * (1.0 - passes / total) ** 0.9
        batch = torch.randint(len(data), (size,), generator=generator)
        optimizer.zero_grad()
        for path in strictly_fair_paths(OPTIONS, generator):
            noise(plain(data.inputs[batch], path), data.targets[batch]).mean().backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
        optimizer.step()
    for key, values in plain.state_dict().items():
        torch.testing.assert_close(network.state_dict()[key], values, rtol=1e-3, atol=1e-4)
