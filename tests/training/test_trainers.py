"""What every trainer owes: the training that `fit` describes, whoever computes it."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
import pytest
import torch
from qanas.training.batched.fit_many import fit_many
from qanas.training.batched.request import FitRequest
from qanas.training.fit import OnEpoch, Penalties, TorchTrainer, TrainingSet, fit
from qanas.training.fused_lstm.trainer import FusedLSTMTrainer
from qanas.training.fused_tcn.trainer import FusedTCNTrainer
from tests.training.small import (
    LSTM_PENALTIES,
    TCN_PENALTIES,
    loss,
    lstm_training,
    settings,
    tcn_training,
    train_plainly,
)

from qanas.core.errors import TrainingFailed
from qanas.training import fit as fit_module

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from qanas.search_space.training_group import TrainingSettings

EPOCHS, SEED = 4, 3


@dataclass(frozen=True)
class Fitter:
    """Something that trains one network as `fit` does.

    Attributes:
        family: of the network.
        train: the network, its data, settings, seed, penalties, and who is told of epochs.
    """

    family: str
    train: Callable[[nn.Module, TrainingSet, TrainingSettings, int, Penalties, OnEpoch | None], None]


def with_trainer(maker: Any) -> Any:  # noqa: ANN401 - a class of trainers
    """Train in the fit loop with a certain trainer."""

    def train(
        network: nn.Module,
        data: TrainingSet,
        chosen: TrainingSettings,
        seed: int,
        penalties: Penalties,
        on_epoch: OnEpoch | None,
    ) -> None:
        with mock.patch.object(fit_module, "make_trainer", maker):
            fit(network, data, loss, chosen, epochs=EPOCHS, seed=seed, penalties=penalties, on_epoch=on_epoch)

    return train


def in_a_batch(device: str) -> Any:  # noqa: ANN401
    """Train in the middle of a batch, between a smaller and a larger network that learn in other ways."""

    def train(
        network: nn.Module,
        data: TrainingSet,
        chosen: TrainingSettings,
        seed: int,
        penalties: Penalties,
        on_epoch: OnEpoch | None,
    ) -> None:
        size = chosen.batch_size
        smaller = FitRequest(lstm_training([2])[0], settings(batch_size=size, optimizer="adam", loss="mae"), 0)
        larger = FitRequest(lstm_training([3, 8, 4])[0], settings(batch_size=size, learning_rate=0.1), 1)
        own = FitRequest(network, chosen, seed, penalties, on_epoch)
        _, failure, _ = fit_many([smaller, own, larger], data, loss, epochs=EPOCHS, device=device)
        if failure is not None:
            raise failure

    return train


FITTERS = {
    "torch-lstm": Fitter("lstm", with_trainer(TorchTrainer)),
    "torch-tcn": Fitter("tcn", with_trainer(TorchTrainer)),
    "fused-lstm": Fitter("lstm", with_trainer(FusedLSTMTrainer)),
    "fused-tcn": Fitter("tcn", with_trainer(FusedTCNTrainer)),
    "batched-lstm-cpu": Fitter("lstm", in_a_batch("cpu")),
    "batched-lstm-cuda": Fitter("lstm", in_a_batch("cuda")),
}
ON_A_GPU = {"batched-lstm-cuda"}

every_fitter = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.gpu] if name in ON_A_GPU else []) for name in FITTERS]
)

PENALTIES: dict[str, Penalties] = {"lstm": LSTM_PENALTIES, "tcn": TCN_PENALTIES}


def training(family: str) -> tuple[nn.Module, TrainingSet]:
    """Two layers and 90 samples: in batches of 32 the last one has 26."""
    if family == "lstm":
        return lstm_training([5, 3])
    # from the usual weights: a ReLU that lets everything pass before a norm leaves its norm's offset without effect,
    # and the optimizers would follow the rounding errors of its gradient
    return tcn_training([5, 3], anywhere=False)


@cache
def expected(family: str, chosen: TrainingSettings, penalised: bool) -> tuple[nn.Module, list[float]]:
    network, data = training(family)
    penalties = PENALTIES[family] if penalised else {}
    return network, train_plainly(network, data, chosen, epochs=EPOCHS, seed=SEED, penalties=penalties)


def trained(
    name: str, chosen: TrainingSettings, *, penalised: bool = False, seed: int = SEED
) -> tuple[nn.Module, list[float]]:
    """Return a network after a whole fit, and the losses of its epochs."""
    fitter, losses = FITTERS[name], []
    network, data = training(fitter.family)
    penalties = PENALTIES[fitter.family] if penalised else {}
    told: list[int] = []

    def on_epoch(epoch: int, value: float) -> None:
        told.append(epoch)
        losses.append(value)

    fitter.train(network, data, chosen, seed, penalties, on_epoch)
    assert told == list(range(1, EPOCHS + 1))
    return network, losses


def assert_trained_as_expected(name: str, chosen: TrainingSettings, *, penalised: bool = False) -> None:
    family = FITTERS[name].family
    reference, expected_losses = expected(family, chosen, penalised)
    network, losses = trained(name, chosen, penalised=penalised)
    assert not network.training
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-4)
    # RMSProp and Adam divide by the gradient's size: rounding errors of tiny gradients count like large ones
    rtol, atol = {"lstm": (0.0, 2e-4), "tcn": (2e-3, 2e-3)}[family]
    found = network.state_dict()
    for key, values in reference.state_dict().items():
        np.testing.assert_allclose(found[key].numpy(), values.numpy(), rtol=rtol, atol=atol, err_msg=key)


@every_fitter
@pytest.mark.parametrize("optimizer", ["rmsprop", "adam"])
@pytest.mark.parametrize("scheduler", ["none", "cosine", "exponential"])
@pytest.mark.parametrize("kind", ["mae", "mse"])
def test_a_fit_is_the_plain_one(name: str, optimizer: str, scheduler: str, kind: str) -> None:
    assert_trained_as_expected(name, settings(optimizer=optimizer, scheduler=scheduler, loss=kind))


@every_fitter
@pytest.mark.parametrize(
    "changes",
    [{"gradient_clip": 1e-3}, {"gradient_clip": 100.0}, {"ema_decay": 0.0}, {"batch_size": 89}, {"batch_size": 128}],
    ids=str,
)
def test_clipping_averaging_and_odd_batches_are_the_plain_ones(name: str, changes: dict[str, Any]) -> None:
    assert_trained_as_expected(name, settings(optimizer="adam", **changes))  # 89: the last batch is one sample


@every_fitter
@pytest.mark.parametrize("optimizer", ["rmsprop", "adam"])
def test_penalties_are_the_plain_ones(name: str, optimizer: str) -> None:
    assert_trained_as_expected(name, settings(optimizer=optimizer, gradient_clip=0.5), penalised=True)


@every_fitter
def test_the_same_again_is_the_same(name: str) -> None:
    first, second = (trained(name, settings())[0].state_dict() for _ in range(2))
    for key, values in first.items():
        if name in ON_A_GPU:
            torch.testing.assert_close(values, second[key])
        else:
            assert values.numpy().tobytes() == second[key].numpy().tobytes()


@every_fitter
def test_the_order_of_the_samples_is_the_seeds(name: str) -> None:
    first, second = (trained(name, settings(), seed=seed)[0].state_dict() for seed in (3, 4))
    assert not all(torch.equal(values, second[key]) for key, values in first.items())


@every_fitter
@pytest.mark.parametrize("optimizer", ["rmsprop", "adam"])
@pytest.mark.parametrize("where", ["inputs", "targets"])
def test_nan_in_the_data_fails_the_training(name: str, optimizer: str, where: str) -> None:
    network, data = training(FITTERS[name].family)
    order = torch.randperm(len(data.inputs), generator=torch.Generator().manual_seed(SEED))
    getattr(data, where)[order[40]] = torch.nan  # in the second batch
    with pytest.raises(TrainingFailed, match=r"became nan in epoch 1, step 2$"):
        FITTERS[name].train(network, data, settings(optimizer=optimizer), SEED, {}, None)


@every_fitter
def test_a_training_that_diverges_fails(name: str) -> None:
    network, data = training(FITTERS[name].family)
    before = copy.deepcopy(data)
    with pytest.raises(TrainingFailed, match=r"the training loss became (nan|inf) in epoch \d, step \d+"):
        FITTERS[name].train(network, data, settings(learning_rate=1e38, gradient_clip=1e38), SEED, {}, None)
    assert torch.equal(before.inputs, data.inputs)
