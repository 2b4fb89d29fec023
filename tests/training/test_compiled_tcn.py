"""The compiled TCN trainer: its gradients and statistics, and what is its own among the trainers."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from tests.training.small import loss, relative_errors, settings, tcn_training

from qanas.layers.sequences import ChannelNorm
from qanas.training.compiled.supports import why_not_tcn
from qanas.training.compiled.tcn import CompiledTCNTrainer
from qanas.training.compiled.tcn_normalization import RUNNING_MEAN, RUNNING_VARIANCE
from qanas.training.trainer import TrainingSet

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

FEWEST = 8
"""Samples of a batch. Two values normalised are 1 and -1, whatever the weights: their gradients are rounding errors."""


def flat_gradient(network: nn.Module) -> NDArray[np.float32]:
    return torch.cat([p.grad.reshape(-1) for p in network.parameters() if p.grad is not None]).numpy()


def norms(network: nn.Module) -> list[ChannelNorm]:
    return [module for module in network.modules() if isinstance(module, ChannelNorm)]


def assert_statistics_are(trainer: CompiledTCNTrainer, network: nn.Module) -> None:
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
    network, data = tcn_training(
        channels,
        kernel_size=kernel_size,
        dilation_base=dilation_base,
        window=window,
        features=features,
        outputs=outputs,
        samples=160,
    )
    trainer = CompiledTCNTrainer(network, data, loss, settings(batch_size=batch, loss=kind))
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
    network, data = tcn_training(channels, kernel_size=7, window=30, features=15)
    trainer = CompiledTCNTrainer(network, data, loss, settings(batch_size=64))
    indices = torch.arange(64)
    trainer.value_and_gradient(indices)
    loss("mse", network(data.inputs[indices]), data.targets[indices]).backward()  # type: ignore[no-untyped-call]
    assert max(relative_errors(network, trainer.flat_gradient())) < 1e-4


def test_a_single_value_a_channel_takes_the_running_statistics() -> None:
    network, data = tcn_training([4, 3], window=1)
    reference = copy.deepcopy(network)
    trainer = CompiledTCNTrainer(network, data, loss, settings())
    for indices in (torch.arange(20), torch.tensor([7])):
        value = trainer.value_and_gradient(indices)
        reference.zero_grad()
        expected = loss("mse", reference(data.inputs[indices]), data.targets[indices])
        expected.backward()  # type: ignore[no-untyped-call]
    assert value == pytest.approx(expected.item(), rel=1e-5)
    assert max(relative_errors(reference, trainer.flat_gradient())) < 1e-4
    assert_statistics_are(trainer, reference)


def test_means_far_from_zero_cost_no_precision() -> None:
    network, data = tcn_training([6, 6])
    far = TrainingSet(data.inputs + 300.0, data.targets)
    reference = copy.deepcopy(network).double()
    trainer = CompiledTCNTrainer(network, far, loss, settings())
    value = trainer.value_and_gradient(torch.arange(32))
    expected = loss("mse", reference(far.inputs[:32].double()), far.targets[:32])
    expected.backward()  # type: ignore[no-untyped-call]
    assert value == pytest.approx(expected.item(), rel=1e-3)
    assert max(relative_errors(reference, trainer.flat_gradient())) < 5e-3


def test_channels_that_fill_up_stay_zero() -> None:
    network, data = tcn_training([5, 3])
    trainer = CompiledTCNTrainer(network, data, loss, settings(optimizer="adam"))
    for start in range(0, 64, 32):
        trainer.step(torch.arange(start, start + 32), 1e-2)
    filled = np.ones(len(trainer.weights), bool)
    filled[trainer.places] = False
    assert filled.any()
    assert not trainer.weights[filled].any()
    assert len(np.unique(trainer.places)) == sum(parameter.numel() for parameter in network.parameters())


def other_momentum() -> nn.Module:
    network = tcn_training([4])[0]
    norms(network)[1].momentum = 0.2
    return network


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (other_momentum(), "momentum"),
        (tcn_training([4, 129])[0], "129 channels"),
        (tcn_training([4], window=11)[0], "(12, 5)"),
        (tcn_training([4], features=6)[0], "(12, 5)"),
    ],
)
def test_what_the_kernel_is_not_for_has_a_reason(network: nn.Module, reason: str) -> None:
    assert reason in str(why_not_tcn(network, tcn_training([4])[1], settings()))
