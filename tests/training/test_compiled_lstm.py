"""The compiled LSTM trainer: its gradients, and what is its own among the trainers."""

from __future__ import annotations

import logging
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from tests.training.small import loss, lstm_training, relative_errors, settings

from qanas.layers.sequences import OneBiasLSTM
from qanas.networks.lstm import LSTMNetwork
from qanas.training import compiled
from qanas.training.choice import log_once, make_trainer
from qanas.training.compiled.lstm import CompiledLSTMTrainer
from qanas.training.compiled.supports import why_not_lstm
from qanas.training.torch_trainer import TorchTrainer
from qanas.training.trainer import TrainingSet

if TYPE_CHECKING:
    from torch import nn


@hypothesis_settings(max_examples=25, deadline=None, derandomize=True)
@given(
    units=st.lists(st.integers(1, 37), min_size=1, max_size=3),
    features=st.integers(1, 21),
    steps=st.integers(1, 12),
    outputs=st.integers(1, 3),
    batch=st.integers(1, 150),
    kind=st.sampled_from(["mse", "mae"]),
)
def test_gradients_are_torchs(units: list[int], features: int, steps: int, outputs: int, batch: int, kind: str) -> None:
    network, data = lstm_training(units, samples=160, steps=steps, features=features, outputs=outputs)
    trainer = CompiledLSTMTrainer(network, data, loss, settings(batch_size=batch, loss=kind))
    indices = torch.randperm(160, generator=torch.Generator().manual_seed(1))
    value = 0.0
    for part in torch.split(indices, batch):  # nothing may be left over from the batch before
        value = trainer.value_and_gradient(part)
    expected = loss(kind, network(data.inputs[part]), data.targets[part])
    expected.backward()  # type: ignore[no-untyped-call]
    assert value == pytest.approx(expected.item(), rel=1e-5)
    assert max(relative_errors(network, trainer.flat_gradient())) < 1e-4


@pytest.mark.parametrize("units", [[100], [64, 100]])
def test_gradients_of_wide_layers_are_torchs(units: list[int]) -> None:
    network, data = lstm_training(units, steps=30, features=14)
    trainer = CompiledLSTMTrainer(network, data, loss, settings(batch_size=64))
    indices = torch.arange(64)
    trainer.value_and_gradient(indices)
    loss("mse", network(data.inputs[indices]), data.targets[indices]).backward()  # type: ignore[no-untyped-call]
    assert max(relative_errors(network, trainer.flat_gradient())) < 1e-4


def test_saturated_gates_have_torchs_gradients() -> None:
    network, data = lstm_training([6])
    huge = TrainingSet(data.inputs * 200.0, data.targets)
    trainer = CompiledLSTMTrainer(network, huge, loss, settings())
    value = trainer.value_and_gradient(torch.arange(32))
    expected = loss("mse", network(huge.inputs[:32]), huge.targets[:32])
    expected.backward()  # type: ignore[no-untyped-call]
    assert value == pytest.approx(expected.item(), rel=1e-5)
    assert max(relative_errors(network, trainer.flat_gradient())) < 1e-4


@pytest.mark.parametrize(
    ("network", "reason"), [(OneBiasLSTM(5, 3), "not OneBiasLSTM"), (LSTMNetwork(5, [4, 193]), "193 units")]
)
def test_what_the_kernel_is_not_for_has_a_reason(network: nn.Module, reason: str) -> None:
    assert reason in str(why_not_lstm(network, lstm_training([4])[1], settings()))


def test_without_numba_torch_trains(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    network, data = lstm_training([4])
    log_once.cache_clear()
    for module in ("lanes", "step", "lstm", "lstm_forward", "lstm_backward"):
        monkeypatch.delitem(sys.modules, f"qanas.training.compiled.{module}", raising=False)
        monkeypatch.delattr(compiled, module, raising=False)
    monkeypatch.setitem(sys.modules, "numba", None)
    with caplog.at_level(logging.INFO, logger="qanas"):
        assert isinstance(make_trainer(network, data, loss, settings()), TorchTrainer)
    assert "numba" in caplog.text


def test_choosing_a_trainer_does_not_load_numba() -> None:
    script = "import sys; import qanas.training.choice, qanas.training.loop; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
