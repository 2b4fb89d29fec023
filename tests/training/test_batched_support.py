"""Who may share a batch of LSTM networks, and what becomes of the others."""

from __future__ import annotations

import copy
import logging
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.training.small import later_settings, loss, lstm_training, settings, tcn_training
from torch import Tensor, nn

from qanas.layers.sequences import OneBiasLSTM
from qanas.networks.lstm import LSTMNetwork
from qanas.tasks.turbofan.task import Turbofan
from qanas.training import fit as fit_module
from qanas.training.batched.fit_many import fit_many
from qanas.training.batched.request import FitRequest
from qanas.training.batched.support import supports

if TYPE_CHECKING:
    from qanas.search_space.training_group import TrainingSettings


def test_every_loss_of_the_turbofan_task_can_be_batched() -> None:
    network, data = lstm_training([4])
    for kind in Turbofan.losses:
        assert supports(network, data, Turbofan("synthetic").loss, settings(loss=kind)) is None


def frozen() -> nn.Module:
    network = lstm_training([4])[0]
    network.head.weight.requires_grad_(False)
    return network


def no_bias() -> nn.Module:
    network = lstm_training([4])[0]
    network.head.register_parameter("bias", None)
    return network


def loss_that_branches(kind: str, outputs: Tensor, targets: Tensor) -> Tensor:
    value = loss(kind, outputs, targets)
    return value if value.item() < 1.0 else value.sqrt()


def loss_of_each_sample(kind: str, outputs: Tensor, targets: Tensor) -> Tensor:
    del kind
    return (outputs - targets).square().mean(dim=-1)


@pytest.mark.parametrize(
    ("network", "chosen", "reason"),
    [
        (tcn_training([4])[0], settings(), "not of TCNNetwork"),
        (OneBiasLSTM(5, 3), settings(), "not of OneBiasLSTM"),
        (lstm_training([4])[0], later_settings(), "settings dropout"),
        (lstm_training([4])[0].double(), settings(), "in float32"),
        (frozen(), settings(), "head.weight"),
        (no_bias(), settings(), "no bias"),
    ],
)
def test_what_can_not_share_a_batch_has_a_reason(network: nn.Module, chosen: TrainingSettings, reason: str) -> None:
    assert reason in str(supports(network, lstm_training([4])[1], loss, chosen))


def test_a_loss_that_looks_at_values_has_a_reason() -> None:
    network, data = lstm_training([4])
    assert "the loss mse can't be batched" in str(supports(network, data, loss_that_branches, settings()))
    assert "no scalar" in str(supports(network, data, loss_of_each_sample, settings()))


def test_what_can_not_share_a_batch_is_trained_alone_and_the_log_says_so(caplog: pytest.LogCaptureFixture) -> None:
    fit_module.log_once.cache_clear()
    network, data = lstm_training([4])
    odd: LSTMNetwork = copy.deepcopy(network)
    odd.head.weight.requires_grad_(False)
    before = nn.utils.parameters_to_vector(odd.lstm.parameters()).detach().clone()
    epochs: list[tuple[str, int]] = []
    with caplog.at_level(logging.INFO, logger="qanas"):
        failures = fit_many(
            [
                FitRequest(odd, settings(), 0, on_epoch=lambda epoch, _: epochs.append(("odd", epoch))),
                FitRequest(network, settings(), 0, on_epoch=lambda epoch, _: epochs.append(("batched", epoch))),
                FitRequest(copy.deepcopy(odd), settings(learning_rate=1e38, gradient_clip=1e38), 0),
            ],
            data,
            loss,
            epochs=2,
            device="cpu",
        )
    assert [failure is None for failure in failures] == [True, True, False]
    assert epochs == [("odd", 1), ("odd", 2), ("batched", 1), ("batched", 2)]
    assert (
        "trained one by one: the kernel trains all weights, in float32 on the CPU: head.weight isn't so" in caplog.text
    )
    assert not np.array_equal(before.numpy(), nn.utils.parameters_to_vector(odd.lstm.parameters()).detach().numpy())
