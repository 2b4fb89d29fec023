"""What the compiled trainers owe beyond the contract of all: when they are taken, their gradients, their memory."""

from __future__ import annotations

import copy
import logging
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from tests.training.small import (
    LSTM_PENALTIES,
    SCALE,
    TCN_PENALTIES,
    later_settings,
    loss,
    lstm_training,
    relative_errors,
    settings,
    tcn_training,
)
from torch import Tensor, nn

from qanas.networks.lstm import LSTMNetwork
from qanas.networks.tcn import TCNNetwork
from qanas.testing.trainers import penalty_value
from qanas.training.choice import log_once, make_trainer
from qanas.training.compiled.lstm import CompiledLSTMTrainer
from qanas.training.compiled.supports import why_not_lstm, why_not_tcn
from qanas.training.compiled.tcn import CompiledTCNTrainer
from qanas.training.loop import Epochs, fit
from qanas.training.torch_trainer import TorchTrainer
from qanas.training.trainer import TrainingSet

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from qanas.search_space.training_group import Penalty


@dataclass(frozen=True)
class Compiled:
    """A compiled trainer, and what it trains.

    Attributes:
        trainer: the class.
        training: makes a network of given widths, and data.
        why_not: why it wouldn't.
        penalties: for a network of two layers.
        module: of the trainer.
    """

    trainer: Any
    training: Callable[..., tuple[Any, TrainingSet]]
    why_not: Callable[..., str | None]
    penalties: Mapping[str, Penalty]
    module: str


LSTM = Compiled(CompiledLSTMTrainer, lstm_training, why_not_lstm, LSTM_PENALTIES, "lstm")
TCN = Compiled(CompiledTCNTrainer, tcn_training, why_not_tcn, TCN_PENALTIES, "tcn")
both = pytest.mark.parametrize("compiled", [LSTM, TCN], ids=["lstm", "tcn"])


class LossWithGradient:
    def __init__(self) -> None:
        self.asked = 0

    def loss(self, kind: str, outputs: Tensor, targets: Tensor) -> Tensor:
        return loss(kind, outputs, targets)

    def loss_gradient(
        self, kind: str, outputs: NDArray[np.float32], targets: NDArray[np.float32]
    ) -> tuple[float, NDArray[np.float32]] | None:
        self.asked += 1
        if kind == "mae":
            return None
        error = (outputs - targets) / np.float32(SCALE)
        return float(np.square(error).mean()), error * np.float32(2.0 / (SCALE * error.size))


@both
def test_penalties_add_to_loss_and_gradient(compiled: Compiled) -> None:
    network, data = compiled.training([4, 3])
    trainer = compiled.trainer(network, data, loss, settings(), compiled.penalties)
    value = trainer.value_and_gradient(torch.arange(32))
    expected = loss("mse", network(data.inputs[:32]), data.targets[:32]) + penalty_value(network, compiled.penalties)
    expected.backward()  # type: ignore[no-untyped-call]
    assert value == pytest.approx(expected.item(), rel=1e-5)
    assert max(relative_errors(network, trainer.flat_gradient())) < 1e-4


@both
def test_classes_are_learnt_as_torch_learns_them(compiled: Compiled) -> None:
    """Any number of outputs, any loss: targets are whole numbers, and the loss is the task's own."""
    network, data = compiled.training([4, 3], outputs=3)
    classes = TrainingSet(data.inputs, torch.arange(len(data.inputs)) % 3)
    assert compiled.why_not(network, classes, settings()) is None

    def loss_of_classes(kind: str, outputs: Tensor, targets: Tensor) -> Tensor:
        assert kind == "cross_entropy"
        return nn.functional.cross_entropy(outputs, targets)

    trainer = compiled.trainer(network, classes, loss_of_classes, settings(loss="cross_entropy"))
    value = trainer.value_and_gradient(torch.arange(32))
    expected = loss_of_classes("cross_entropy", network(classes.inputs[:32]), classes.targets[:32])
    expected.backward()  # type: ignore[no-untyped-call]
    assert value == pytest.approx(expected.item(), rel=1e-5)
    assert max(relative_errors(network, trainer.flat_gradient())) < 1e-4


@both
def test_a_losses_own_gradient_is_used(compiled: Compiled) -> None:
    network, data = compiled.training([4])
    offered = LossWithGradient()
    indices = torch.arange(32)
    for kind in ("mse", "mae"):  # it knows the first, and leaves the second to autograd
        own = compiled.trainer(network, data, offered.loss, settings(loss=kind))
        autograd = compiled.trainer(network, data, loss, settings(loss=kind))
        assert own.value_and_gradient(indices) == pytest.approx(autograd.value_and_gradient(indices), rel=1e-6)
        np.testing.assert_allclose(own.flat_gradient(), autograd.flat_gradient(), rtol=1e-5, atol=1e-7)
    assert offered.asked == 2


@both
@pytest.mark.parametrize("threads", [1, 2])
def test_the_number_of_threads_changes_no_bit(compiled: Compiled, threads: int) -> None:
    found = []
    for count in (1, threads):
        torch.set_num_threads(count)
        network, data = compiled.training([20, 17])
        fit(make_trainer(network, data, loss, settings()), Epochs(len(data), settings(), 4, seed=3))
        found.append(nn.utils.parameters_to_vector(network.parameters()).detach().numpy().tobytes())
    assert found[0] == found[1]


@both
def test_the_network_is_left_alone_until_the_end(compiled: Compiled) -> None:
    network, data = compiled.training([4])
    before = copy.deepcopy(network.state_dict())
    trainer = compiled.trainer(network, data, loss, settings())
    trainer.step(torch.arange(32), 1e-2)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    trainer.finish()
    assert not all(torch.equal(before[name], value) for name, value in network.state_dict().items())


@both
def test_a_batch_that_would_leave_the_memory_is_refused(compiled: Compiled) -> None:
    network, data = compiled.training([4])
    trainer = compiled.trainer(network, data, loss, settings())
    with pytest.raises(ValueError, match="33 samples"):
        trainer.step(torch.arange(33), 1e-2)
    with pytest.raises(IndexError):
        trainer.step(torch.tensor([0, 90]), 1e-2)
    with pytest.raises(IndexError):
        trainer.step(torch.tensor([-1]), 1e-2)


# When they are taken


@both
def test_it_is_chosen_by_itself(compiled: Compiled) -> None:
    network, data = compiled.training([4])
    assert isinstance(make_trainer(network, data, loss, settings()), compiled.trainer)


def frozen_weight(compiled: Compiled) -> nn.Module:
    network: nn.Module = compiled.training([4])[0]
    network.get_parameter("head.weight").requires_grad_(False)
    return network


def hooked(compiled: Compiled) -> nn.Module:
    network: nn.Module = compiled.training([4])[0]
    network.get_submodule("head").register_forward_hook(lambda *_: None)
    return network


def other_layer(compiled: Compiled) -> nn.Module:
    network: LSTMNetwork | TCNNetwork = compiled.training([4])[0]
    layers = network.lstm if isinstance(network, LSTMNetwork) else network.residual_blocks[0].convolutions
    layers.append(nn.Dropout(0.1))
    return network


@both
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda _: nn.Linear(5, 3), "not Linear"),
        (lambda compiled: compiled.training([4])[0].double(), "in float32"),
        (frozen_weight, "head.weight"),
        (hooked, "hooks"),
        (other_layer, "layer Dropout"),
    ],
    ids=["linear", "double", "frozen", "hooked", "dropout"],
)
def test_other_networks_have_a_reason(compiled: Compiled, change: Callable[[Compiled], nn.Module], reason: str) -> None:
    found = compiled.why_not(change(compiled), compiled.training([4])[1], settings())
    assert found is not None
    assert reason in found


@both
def test_other_settings_and_data_have_a_reason(compiled: Compiled) -> None:
    network, data = compiled.training([4])
    assert "settings dropout" in str(compiled.why_not(network, data, later_settings()))
    assert "optimizer sgd" in str(compiled.why_not(network, data, settings(optimizer="sgd")))
    double = TrainingSet(data.inputs.double(), data.targets)
    assert "float64" in str(compiled.why_not(network, double, settings()))
    single = TrainingSet(data.inputs[0], data.targets)
    assert "sequences" in str(compiled.why_not(network, single, settings()))
    changed = TrainingSet(data.inputs, data.targets, lambda inputs, targets: (inputs, targets))
    assert "at random" in str(compiled.why_not(network, changed, settings()))


@both
def test_falling_back_is_logged_once(compiled: Compiled, caplog: pytest.LogCaptureFixture) -> None:
    network, data = frozen_weight(compiled), compiled.training([4])[1]
    log_once.cache_clear()
    with caplog.at_level(logging.INFO, logger="qanas"):
        for _ in range(2):
            assert isinstance(make_trainer(network, data, loss, settings()), TorchTrainer)
    assert [record.getMessage() for record in caplog.records] == [
        "trained with torch: the kernel trains all weights, in float32 on the CPU: head.weight isn't so"
    ]


@both
def test_without_numba_torch_trains(
    compiled: Compiled, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, data = compiled.training([4])
    log_once.cache_clear()
    monkeypatch.setitem(sys.modules, f"qanas.training.compiled.{compiled.module}", None)  # as its import of Numba fails
    with caplog.at_level(logging.INFO, logger="qanas"):
        assert isinstance(make_trainer(network, data, loss, settings()), TorchTrainer)
    assert f"{type(network).__name__} is trained with torch, several times slower" in caplog.text
