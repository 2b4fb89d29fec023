"""The compiled TCN trainer against torch's."""

from __future__ import annotations

import copy
import dataclasses
import logging
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import Tensor, nn

from qanas.core.errors import TrainingFailed
from qanas.layers.conv import ChannelNorm
from qanas.networks.tcn import TCNNetwork
from qanas.search_space.layer_training import Penalty
from qanas.search_space.training_group import Optimizer, Scheduler, TrainingSettings
from qanas.training import fit as fit_module
from qanas.training.fit import TorchTrainer, TrainingSet, fit, make_trainer
from qanas.training.fused_tcn.normalization import RUNNING_MEAN, RUNNING_VARIANCE
from qanas.training.fused_tcn.support import supports
from qanas.training.fused_tcn.trainer import FusedTCNTrainer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

SCALE = 10.0

FEWEST = 8
"""Samples of a batch. Two values normalised are 1 and -1, whatever the weights: their gradients are rounding errors."""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # on small matrices torch's threads mostly wait for each other
    yield
    torch.set_num_threads(before)


def loss(kind: str, outputs: Tensor, targets: Tensor) -> Tensor:
    error = (outputs - targets) / SCALE
    return error.abs().mean() if kind == "mae" else error.square().mean()


def training(
    channels: Sequence[int],
    *,
    anywhere: bool = True,
    kernel_size: int = 3,
    dilation_base: int = 2,
    window: int = 12,
    features: int = 5,
    outputs: int = 1,
    samples: int = 90,
) -> tuple[TCNNetwork, TrainingSet]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = TCNNetwork((window, features), channels, kernel_size, dilation_base, outputs, SCALE)
        for parameter in network.parameters() if anywhere else ():
            nn.init.uniform_(parameter, -0.7, 0.7)
        inputs = torch.randn(samples, window, features)
        targets = inputs[:, -2:].mean(dim=(1, 2))[:, None] * SCALE + torch.arange(outputs)
    return network, TrainingSet(inputs, targets)


def settings(**changes: Any) -> TrainingSettings:  # noqa: ANN401
    base = TrainingSettings(5e-3, "rmsprop", "none", 32, "mse")
    return dataclasses.replace(base, **changes)


def relative_errors(network: nn.Module, flat: NDArray[np.float32]) -> list[float]:
    """The largest error of each parameter's gradient, relative to the largest entry of that gradient."""
    gradients = [parameter.grad.reshape(-1).numpy() for parameter in network.parameters() if parameter.grad is not None]
    parts = np.split(flat, np.cumsum([len(gradient) for gradient in gradients])[:-1])
    return [
        float(np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-6))
        for found, expected in zip(parts, gradients, strict=True)
    ]


def flat_gradient(network: nn.Module) -> NDArray[np.float32]:
    return torch.cat([p.grad.reshape(-1) for p in network.parameters() if p.grad is not None]).numpy()


def norms(network: nn.Module) -> list[ChannelNorm]:
    return [module for module in network.modules() if isinstance(module, ChannelNorm)]


def assert_statistics_are(trainer: FusedTCNTrainer, network: nn.Module) -> None:
    """Compare each batch norm's running mean and variance; the kernel's channels are rounded up to fours."""
    records = [block[name] for block in trainer.blocks for name in ("first_norm", "second_norm")]
    for record, norm in zip(records, norms(network), strict=True):
        for row, expected in ((RUNNING_MEAN, norm.running_mean), (RUNNING_VARIANCE, norm.running_var)):
            assert expected is not None
            found = trainer.statistics[row, record["statistics"] :][: norm.num_features]
            np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-5)


@hypothesis_settings(max_examples=40, deadline=None, derandomize=True)
@given(
    channels=st.lists(st.integers(1, 21), min_size=1, max_size=4),
    kernel_size=st.integers(2, 7),
    dilation_base=st.integers(1, 3),
    window=st.integers(1, 30),
    features=st.integers(1, 17),
    outputs=st.integers(1, 3),
    batch=st.integers(FEWEST, 150),
    kind=st.sampled_from(["mse", "mae"]),
)
def test_gradients_and_statistics_are_torchs(
    channels: list[int],
    kernel_size: int,
    dilation_base: int,
    window: int,
    features: int,
    outputs: int,
    batch: int,
    kind: str,
) -> None:
    network, data = training(
        channels,
        kernel_size=kernel_size,
        dilation_base=dilation_base,
        window=window,
        features=features,
        outputs=outputs,
        samples=160,
    )
    trainer = FusedTCNTrainer(network, data, loss, settings(batch_size=batch, loss=kind))
    single, double = copy.deepcopy(network), copy.deepcopy(network).double()
    order = torch.randperm(160, generator=torch.Generator().manual_seed(1))
    value = 0.0
    for part in torch.split(order, batch):  # nothing may be left over from the batch before
        if len(part) < FEWEST:
            continue
        value = trainer.value_and_gradient(part)
        for network in (single, double):
            network.zero_grad()
            inputs = data.inputs[part].to(network.head.weight.dtype)
            expected = loss(kind, network(inputs), data.targets[part])
            expected.backward()  # type: ignore[no-untyped-call]
    assert value == pytest.approx(expected.item(), rel=1e-4)
    # what a norm takes the effect from has gradients of large terms that cancel: torch's own error is the measure
    precision = max(1e-4, 10.0 * max(relative_errors(double, flat_gradient(single))))
    assume(precision < 0.01)
    assert max(relative_errors(double, trainer.flat_gradient())) < precision
    assert_statistics_are(trainer, double)


@pytest.mark.parametrize("channels", [[64, 64, 64], [33, 64, 1]])
def test_gradients_of_wide_blocks_are_torchs(channels: list[int]) -> None:
    network, data = training(channels, kernel_size=7, window=30, features=15)
    trainer = FusedTCNTrainer(network, data, loss, settings(batch_size=64))
    indices = torch.arange(64)
    trainer.value_and_gradient(indices)
    loss("mse", network(data.inputs[indices]), data.targets[indices]).backward()  # type: ignore[no-untyped-call]
    assert max(relative_errors(network, trainer.flat_gradient())) < 1e-4


def test_a_single_value_a_channel_takes_the_running_statistics() -> None:
    network, data = training([4, 3], window=1)
    reference = copy.deepcopy(network)
    trainer = FusedTCNTrainer(network, data, loss, settings())
    for indices in (torch.arange(20), torch.tensor([7])):
        value = trainer.value_and_gradient(indices)
        reference.zero_grad()
        expected = loss("mse", reference(data.inputs[indices]), data.targets[indices])
        expected.backward()  # type: ignore[no-untyped-call]
    assert value == pytest.approx(expected.item(), rel=1e-5)
    assert max(relative_errors(reference, trainer.flat_gradient())) < 1e-4
    assert_statistics_are(trainer, reference)


def test_means_far_from_zero_cost_no_precision() -> None:
    network, data = training([6, 6])
    far = TrainingSet(data.inputs + 300.0, data.targets)
    reference = copy.deepcopy(network).double()
    trainer = FusedTCNTrainer(network, far, loss, settings())
    value = trainer.value_and_gradient(torch.arange(32))
    expected = loss("mse", reference(far.inputs[:32].double()), far.targets[:32])
    expected.backward()  # type: ignore[no-untyped-call]
    assert value == pytest.approx(expected.item(), rel=1e-3)
    assert max(relative_errors(reference, trainer.flat_gradient())) < 5e-3


PENALTIES = {
    "blocks.0.convolutions.0.weight": Penalty(l1=0.02),
    "blocks.1.convolutions.4.bias": Penalty(0.01, 0.03),
    "blocks.1.shortcut.weight": Penalty(l2=0.05),
}


def penalised_loss(network: TCNNetwork, data: TrainingSet) -> Tensor:
    """Add the penalties `PENALTIES` to the first 32 samples' loss, each written out."""
    first = network.get_parameter("blocks.0.convolutions.0.weight")
    offset = network.get_parameter("blocks.1.convolutions.4.bias")
    around = network.get_parameter("blocks.1.shortcut.weight")
    penalty = 0.02 * first.abs().sum() + 0.05 * around.square().sum()
    penalty = penalty + 0.01 * offset.abs().sum() + 0.03 * offset.square().sum()
    return loss("mse", network(data.inputs[:32]), data.targets[:32]) + penalty


def test_penalties_add_to_loss_and_gradient() -> None:
    network, data = training([4, 3])
    trainer = FusedTCNTrainer(network, data, loss, settings(), PENALTIES)
    value = trainer.value_and_gradient(torch.arange(32))
    expected = penalised_loss(network, data)
    expected.backward()  # type: ignore[no-untyped-call]
    assert value == pytest.approx(expected.item(), rel=1e-5)
    assert max(relative_errors(network, trainer.flat_gradient())) < 1e-4


def trained(
    maker: Callable[..., Any],
    chosen: TrainingSettings,
    monkeypatch: pytest.MonkeyPatch,
    channels: Sequence[int] = (5, 3),
    penalties: dict[str, Penalty] | None = None,
) -> tuple[dict[str, NDArray[np.float32]], list[float]]:
    """Return weights and statistics after a whole fit, and the losses of its epochs."""
    # from the usual weights: a ReLU that lets everything pass before a norm leaves its norm's offset without effect,
    # and the optimizers would follow the rounding errors of its gradient
    network, data = training(channels, anywhere=False)
    losses: list[float] = []
    monkeypatch.setattr(fit_module, "make_trainer", maker)
    fit(
        network,
        data,
        loss,
        chosen,
        epochs=4,
        seed=3,
        penalties=penalties or {},
        on_epoch=lambda _, value: losses.append(value),
    )
    assert not network.training
    return {name: values.numpy().copy() for name, values in network.state_dict().items()}, losses


def assert_close(found: dict[str, NDArray[np.float32]], expected: dict[str, NDArray[np.float32]]) -> None:
    """RMSProp and Adam divide by the gradient's size: rounding errors of tiny gradients count like large ones."""
    assert found.keys() == expected.keys()
    for name, values in found.items():
        np.testing.assert_allclose(values, expected[name], rtol=2e-3, atol=2e-3, err_msg=name)


@pytest.mark.parametrize("optimizer", ["rmsprop", "adam"])
@pytest.mark.parametrize("scheduler", ["none", "cosine", "exponential"])
@pytest.mark.parametrize("kind", ["mae", "mse"])
def test_a_fit_agrees_with_torchs(
    optimizer: Optimizer, scheduler: Scheduler, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = settings(optimizer=optimizer, scheduler=scheduler, loss=kind)  # 90 samples: the last batch has 26
    expected, expected_losses = trained(TorchTrainer, chosen, monkeypatch)
    found, losses = trained(FusedTCNTrainer, chosen, monkeypatch)
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-4)
    assert_close(found, expected)


@pytest.mark.parametrize(
    "changes", [{"gradient_clip": 1e-3}, {"gradient_clip": 100.0}, {"ema_decay": 0.0}, {"batch_size": 89}]
)
def test_clipping_averaging_and_a_last_single_sample_agree_with_torchs(
    changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = settings(optimizer="adam", **changes)
    expected, _ = trained(TorchTrainer, chosen, monkeypatch, penalties=PENALTIES)
    found, _ = trained(FusedTCNTrainer, chosen, monkeypatch, penalties=PENALTIES)
    assert_close(found, expected)


@pytest.mark.parametrize("threads", [1, 2])
def test_two_runs_are_bitwise_equal_whatever_the_threads(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = trained(FusedTCNTrainer, settings(), monkeypatch, channels=(20, 17))
    torch.set_num_threads(threads)
    second, _ = trained(FusedTCNTrainer, settings(), monkeypatch, channels=(20, 17))
    for name, values in first.items():
        if "running" not in name:  # those come out of torch's products
            assert values.tobytes() == second[name].tobytes()


@pytest.mark.parametrize("optimizer", ["rmsprop", "adam"])
@pytest.mark.parametrize("where", ["inputs", "targets"])
def test_nan_in_the_data_fails_the_training(optimizer: Optimizer, where: str) -> None:
    network, data = training([4])
    getattr(data, where)[40] = torch.nan
    with pytest.raises(TrainingFailed, match="nan"):
        fit(network, data, loss, settings(optimizer=optimizer), epochs=1, seed=0)


def test_channels_that_fill_up_stay_zero() -> None:
    network, data = training([5, 3])
    trainer = FusedTCNTrainer(network, data, loss, settings(optimizer="adam"))
    for start in range(0, 64, 32):
        trainer.step(torch.arange(start, start + 32), 1e-2)
    filled = np.ones(len(trainer.weights), bool)
    filled[trainer.places] = False
    assert filled.any()
    assert not trainer.weights[filled].any()
    assert len(np.unique(trainer.places)) == sum(parameter.numel() for parameter in network.parameters())


def test_the_fused_trainer_is_chosen_by_itself() -> None:
    network, data = training([4])
    assert isinstance(make_trainer(network, data, loss, settings()), FusedTCNTrainer)


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
    network.residual_blocks[0].convolutions.append(nn.Dropout(0.1))
    return network


def other_momentum() -> nn.Module:
    network = training([4])[0]
    norms(network)[1].momentum = 0.2
    return network


@dataclasses.dataclass(frozen=True)
class LaterSettings(TrainingSettings):
    dropout: float = 0.0


@pytest.mark.parametrize(
    ("network", "chosen", "reason"),
    [
        (nn.Linear(5, 3), settings(), "not Linear"),
        (training([4])[0], LaterSettings(5e-3, "adam", "none", 32, "mse"), "settings dropout"),
        (training([4])[0], settings(optimizer="sgd"), "optimizer sgd"),
        (training([4])[0].double(), settings(), "in float32"),
        (frozen_weight(), settings(), "head.weight"),
        (hooked(), settings(), "hooks"),
        (other_layer(), settings(), "layer Dropout"),
        (other_momentum(), settings(), "momentum"),
        (training([4, 129])[0], settings(), "129 channels"),
        (training([4], window=11)[0], settings(), "(12, 5)"),
        (training([4], features=6)[0], settings(), "(12, 5)"),
    ],
)
def test_what_the_kernel_does_not_know_has_a_reason(network: nn.Module, chosen: TrainingSettings, reason: str) -> None:
    found = supports(network, training([4])[1], loss, chosen)
    assert found is not None
    assert reason in found


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
    monkeypatch.setitem(sys.modules, "qanas.training.fused_tcn.trainer", None)  # as its import of Numba fails
    with caplog.at_level(logging.INFO, logger="qanas"):
        assert isinstance(make_trainer(network, data, loss, settings()), TorchTrainer)
    assert "TCNNetwork is trained with torch, several times slower" in caplog.text


def test_the_network_is_left_alone_until_the_end() -> None:
    network, data = training([4])
    before = copy.deepcopy(network.state_dict())
    trainer = FusedTCNTrainer(network, data, loss, settings())
    trainer.step(torch.arange(32), 1e-2)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    trainer.finish()
    assert not all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_a_batch_that_would_leave_the_memory_is_refused() -> None:
    network, data = training([4])
    trainer = FusedTCNTrainer(network, data, loss, settings())
    with pytest.raises(ValueError, match="33 samples"):
        trainer.step(torch.arange(33), 1e-2)
    with pytest.raises(IndexError):
        trainer.step(torch.tensor([0, 90]), 1e-2)
    with pytest.raises(IndexError):
        trainer.step(torch.tensor([-1]), 1e-2)
