"""The compiled LSTM trainer against torch's."""

from __future__ import annotations

import copy
import dataclasses
import logging
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import Tensor, nn

from qanas.core.errors import TrainingFailed
from qanas.layers.lstm import OneBiasLSTM
from qanas.networks.lstm import LSTMNetwork
from qanas.search_space.layer_training import Penalty
from qanas.search_space.training_group import Optimizer, Scheduler, TrainingSettings
from qanas.training import fit as fit_module
from qanas.training.fit import TorchTrainer, TrainingSet, fit, make_trainer
from qanas.training.fused_lstm.support import supports
from qanas.training.fused_lstm.trainer import FusedLSTMTrainer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

SCALE = 10.0


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # on small matrices torch's threads mostly wait for each other
    yield
    torch.set_num_threads(before)


def loss(kind: str, outputs: Tensor, targets: Tensor) -> Tensor:
    error = (outputs - targets) / SCALE
    return error.abs().mean() if kind == "mae" else error.square().mean()


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


def training(
    units: Sequence[int],
    *,
    samples: int = 90,
    steps: int = 7,
    features: int = 5,
    outputs: int = 1,
    seed: int = 0,
) -> tuple[LSTMNetwork, TrainingSet]:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = LSTMNetwork(features, units, outputs, SCALE)
        for parameter in network.parameters():
            nn.init.uniform_(parameter, -0.7, 0.7)
        inputs = torch.randn(samples, steps, features)
        targets = inputs[:, -2:].mean(dim=(1, 2))[:, None] * SCALE + torch.arange(outputs)
    return network, TrainingSet(inputs, targets)


def settings(**changes: Any) -> TrainingSettings:  # noqa: ANN401
    base = TrainingSettings(5e-3, "rmsprop", "none", 32, "mse")
    return dataclasses.replace(base, **changes)


def batches(indices: Tensor, size: int) -> list[Tensor]:
    return [indices[start : start + size] for start in range(0, len(indices), size)]


def relative_errors(network: nn.Module, flat: NDArray[np.float32]) -> list[float]:
    """The largest error of each parameter's gradient, relative to the largest entry of that gradient."""
    errors = []
    for parameter, found in zip(network.parameters(), flat_split(network, flat), strict=True):
        assert parameter.grad is not None
        expected = parameter.grad.reshape(-1).numpy()
        errors.append(float(np.abs(found - expected).max() / max(float(np.abs(expected).max()), 1e-6)))
    return errors


def flat_split(network: nn.Module, flat: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    return np.split(flat, np.cumsum([p.numel() for p in network.parameters()])[:-1])


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
    network, data = training(units, samples=160, steps=steps, features=features, outputs=outputs)
    trainer = FusedLSTMTrainer(network, data, loss, settings(batch_size=batch, loss=kind))
    indices = torch.randperm(160, generator=torch.Generator().manual_seed(1))
    value = 0.0
    for part in batches(indices, batch):  # nothing may be left over from the batch before
        value = trainer.value_and_gradient(part)
    expected = loss(kind, network(data.inputs[part]), data.targets[part])
    expected.backward()  # type: ignore[no-untyped-call]
    assert value == pytest.approx(expected.item(), rel=1e-5)
    assert max(relative_errors(network, trainer.flat_gradient())) < 1e-4


@pytest.mark.parametrize("units", [[100], [64, 100]])
def test_gradients_of_wide_layers_are_torchs(units: list[int]) -> None:
    network, data = training(units, steps=30, features=14)
    trainer = FusedLSTMTrainer(network, data, loss, settings(batch_size=64))
    indices = torch.arange(64)
    trainer.value_and_gradient(indices)
    loss("mse", network(data.inputs[indices]), data.targets[indices]).backward()  # type: ignore[no-untyped-call]
    assert max(relative_errors(network, trainer.flat_gradient())) < 1e-4


def test_saturated_gates_have_torchs_gradients() -> None:
    network, data = training([6])
    huge = TrainingSet(data.inputs * 200.0, data.targets)
    trainer = FusedLSTMTrainer(network, huge, loss, settings())
    value = trainer.value_and_gradient(torch.arange(32))
    expected = loss("mse", network(huge.inputs[:32]), huge.targets[:32])
    expected.backward()  # type: ignore[no-untyped-call]
    assert value == pytest.approx(expected.item(), rel=1e-5)
    assert max(relative_errors(network, trainer.flat_gradient())) < 1e-4


PENALTIES = {
    "lstm.0.weight_ih": Penalty(l1=0.02),
    "lstm.1.weight_hh": Penalty(l2=0.05),
    "lstm.1.bias": Penalty(0.01, 0.03),
}


def penalised_loss(network: LSTMNetwork, data: TrainingSet) -> Tensor:
    """Add the penalties `PENALTIES` to the first 32 samples' loss, each written out."""
    first, second = network.layers
    penalty = 0.02 * first.weight_ih.abs().sum() + 0.05 * second.weight_hh.square().sum()
    penalty = penalty + 0.01 * second.bias.abs().sum() + 0.03 * second.bias.square().sum()
    return loss("mse", network(data.inputs[:32]), data.targets[:32]) + penalty


def test_penalties_add_to_loss_and_gradient() -> None:
    network, data = training([4, 3])
    trainer = FusedLSTMTrainer(network, data, loss, settings(), PENALTIES)
    value = trainer.value_and_gradient(torch.arange(32))
    expected = penalised_loss(network, data)
    expected.backward()  # type: ignore[no-untyped-call]
    assert value == pytest.approx(expected.item(), rel=1e-5)
    assert max(relative_errors(network, trainer.flat_gradient())) < 1e-4


@pytest.mark.parametrize("maker", [TorchTrainer, FusedLSTMTrainer])
def test_a_step_follows_the_penalties_gradient(maker: Any) -> None:  # noqa: ANN401
    network, data = training([4, 3])
    reference = copy.deepcopy(network)
    chosen = settings(optimizer="rmsprop", gradient_clip=0.5)
    trainer = maker(network, data, loss, chosen, PENALTIES)
    value = trainer.step(torch.arange(32), 0.01)
    expected = penalised_loss(reference, data)
    optimizer = torch.optim.RMSprop(reference.parameters(), lr=0.01, alpha=0.9, eps=1e-7)
    expected.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(reference.parameters(), 0.5)
    optimizer.step()
    trainer.settings = settings(ema_decay=0.0)
    if isinstance(trainer, FusedLSTMTrainer):
        trainer.moments[2] = trainer.weights
        trainer.finish()
    assert value == pytest.approx(expected.item(), rel=1e-5)
    for found, wanted in zip(network.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def trained(
    maker: Callable[..., Any],
    chosen: TrainingSettings,
    monkeypatch: pytest.MonkeyPatch,
    units: Sequence[int] = (5, 3),
) -> tuple[NDArray[np.float32], list[float]]:
    """Return the weights after a whole fit, and the losses of its epochs."""
    network, data = training(units)
    losses: list[float] = []
    monkeypatch.setattr(fit_module, "make_trainer", maker)
    fit(network, data, loss, chosen, epochs=4, seed=3, on_epoch=lambda _, value: losses.append(value))
    assert not network.training
    return nn.utils.parameters_to_vector(network.parameters()).detach().numpy(), losses


@pytest.mark.parametrize("optimizer", ["rmsprop", "adam"])
@pytest.mark.parametrize("scheduler", ["none", "cosine", "exponential"])
@pytest.mark.parametrize("kind", ["mae", "mse"])
def test_a_fit_agrees_with_torchs(
    optimizer: Optimizer, scheduler: Scheduler, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = settings(optimizer=optimizer, scheduler=scheduler, loss=kind)  # 90 samples: the last batch has 26
    expected, expected_losses = trained(TorchTrainer, chosen, monkeypatch)
    found, losses = trained(FusedLSTMTrainer, chosen, monkeypatch)
    # RMSProp and Adam divide by the gradient's size: rounding errors of tiny gradients count like large ones
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-4)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-4)


@pytest.mark.parametrize("changes", [{"gradient_clip": 1e-3}, {"gradient_clip": 100.0}, {"ema_decay": 0.0}])
def test_clipping_and_averaging_agree_with_torchs(changes: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = settings(optimizer="adam", **changes)
    expected, _ = trained(TorchTrainer, chosen, monkeypatch)
    found, _ = trained(FusedLSTMTrainer, chosen, monkeypatch)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-4)


@pytest.mark.parametrize("threads", [1, 2])
def test_two_runs_are_bitwise_equal_whatever_the_threads(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = trained(FusedLSTMTrainer, settings(), monkeypatch, units=(20, 17))
    torch.set_num_threads(threads)
    second, _ = trained(FusedLSTMTrainer, settings(), monkeypatch, units=(20, 17))
    assert first.tobytes() == second.tobytes()


def test_a_losses_own_gradient_is_used() -> None:
    network, data = training([4])
    offered = LossWithGradient()
    indices = torch.arange(32)
    for kind in ("mse", "mae"):  # it knows the first, and leaves the second to autograd
        own = FusedLSTMTrainer(network, data, offered.loss, settings(loss=kind))
        autograd = FusedLSTMTrainer(network, data, loss, settings(loss=kind))
        assert own.value_and_gradient(indices) == pytest.approx(autograd.value_and_gradient(indices), rel=1e-6)
        np.testing.assert_allclose(own.flat_gradient(), autograd.flat_gradient(), rtol=1e-5, atol=1e-7)
    assert offered.asked == 2


@pytest.mark.parametrize("optimizer", ["rmsprop", "adam"])
@pytest.mark.parametrize("where", ["inputs", "targets"])
def test_nan_in_the_data_fails_the_training(optimizer: Optimizer, where: str) -> None:
    network, data = training([4])
    getattr(data, where)[40] = torch.nan
    with pytest.raises(TrainingFailed, match="nan"):
        fit(network, data, loss, settings(optimizer=optimizer), epochs=1, seed=0)


def test_the_fused_trainer_is_chosen_by_itself() -> None:
    network, data = training([4])
    assert isinstance(make_trainer(network, data, loss, settings()), FusedLSTMTrainer)


@dataclasses.dataclass(frozen=True)
class LaterSettings(TrainingSettings):
    dropout: float = 0.0


def frozen_weight() -> nn.Module:
    network = training([4])[0]
    network.head.weight.requires_grad_(False)
    return network


def hooked() -> nn.Module:
    network = training([4])[0]
    network.head.register_forward_hook(lambda *_: None)
    return network


def other_layer() -> nn.Module:
    network = training([4])[0]
    network.lstm.append(nn.Dropout(0.1))
    return network


@pytest.mark.parametrize(
    ("network", "chosen", "reason"),
    [
        (OneBiasLSTM(5, 3), settings(), "not OneBiasLSTM"),
        (training([4])[0], LaterSettings(5e-3, "adam", "none", 32, "mse"), "settings dropout"),
        (training([4])[0], settings(optimizer="sgd"), "optimizer sgd"),
        (training([4])[0].double(), settings(), "in float32"),
        (frozen_weight(), settings(), "head.weight"),
        (hooked(), settings(), "hooks"),
        (other_layer(), settings(), "layer Dropout"),
        (LSTMNetwork(5, [4, 193]), settings(), "193 units"),
    ],
)
def test_what_the_kernel_does_not_know_has_a_reason(network: nn.Module, chosen: TrainingSettings, reason: str) -> None:
    found = supports(network, training([4])[1], loss, chosen)
    assert found is not None
    assert reason in found


def test_other_data_has_a_reason() -> None:
    network, data = training([4])
    assert "float64" in str(supports(network, TrainingSet(data.inputs.double(), data.targets), loss, settings()))
    assert "sequences" in str(supports(network, TrainingSet(data.inputs[0], data.targets), loss, settings()))


def test_falling_back_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    network, data = training([4])
    network.head.weight.requires_grad_(False)
    fit_module._log_once.cache_clear()
    with caplog.at_level(logging.INFO, logger="qanas"):
        for _ in range(2):
            assert isinstance(make_trainer(network, data, loss, settings()), TorchTrainer)
    assert [record.getMessage() for record in caplog.records] == [
        "trained with torch: the kernel trains all weights, in float32 on the CPU: head.weight isn't so"
    ]


def test_without_numba_torch_trains(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    network, data = training([4])
    fit_module._log_once.cache_clear()
    for module in ("trainer", "kernel"):
        monkeypatch.delitem(sys.modules, f"qanas.training.fused_lstm.{module}", raising=False)
    monkeypatch.delattr("qanas.training.fused_lstm.kernel", raising=False)
    monkeypatch.setitem(sys.modules, "numba", None)
    with caplog.at_level(logging.INFO, logger="qanas"):
        assert isinstance(make_trainer(network, data, loss, settings()), TorchTrainer)
    assert "numba" in caplog.text


def test_the_network_is_left_alone_until_the_end() -> None:
    network, data = training([4])
    before = copy.deepcopy(network.state_dict())
    trainer = FusedLSTMTrainer(network, data, loss, settings())
    trainer.step(torch.arange(32), 1e-2)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    trainer.finish()
    assert not all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_a_batch_that_would_leave_the_memory_is_refused() -> None:
    network, data = training([4])
    trainer = FusedLSTMTrainer(network, data, loss, settings())
    with pytest.raises(ValueError, match="33 samples"):
        trainer.step(torch.arange(33), 1e-2)
    with pytest.raises(IndexError):
        trainer.step(torch.tensor([0, 90]), 1e-2)
    with pytest.raises(IndexError):
        trainer.step(torch.tensor([-1]), 1e-2)
