"""The statistics of batch norms after training are those of the averaged weights."""

import pytest
import torch
from torch import Tensor, nn

from qanas.layers.sequences import ChannelNorm
from qanas.search_space.training_group import TrainingSettings
from qanas.training import trainer as trainer_module
from qanas.training.loop import Epochs, fit
from qanas.training.torch_trainer import TorchTrainer
from qanas.training.trainer import TrainingSet, refresh_batch_norms

SETTINGS = TrainingSettings(0.05, "adam", "none", batch_size=16, loss="mae")


def loss(kind: str, outputs: Tensor, targets: Tensor) -> Tensor:
    del kind
    return (outputs - targets).abs().mean()


def trained(samples: int, epochs: int = 3) -> tuple[nn.Sequential, Tensor]:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 5), ChannelNorm(5), nn.ReLU(), nn.Linear(5, 1))
    inputs = torch.randn(samples, 3).cumsum(0)  # samples that drift, as those of a run do
    trainer = TorchTrainer(network, TrainingSet(inputs, inputs.sum(1, keepdim=True)), loss, SETTINGS)
    fit(trainer, Epochs(samples, SETTINGS, epochs, seed=0))
    return network, inputs


@pytest.mark.parametrize("chunk", [1024, 25])
def test_statistics_are_those_of_the_training_data_under_the_averaged_weights(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer_module, "STATISTICS_CHUNK", chunk)
    network, inputs = trained(100)
    values = network[0](inputs).detach()
    norm = network[1]
    assert isinstance(norm, ChannelNorm)
    assert torch.allclose(norm.get_buffer("running_mean"), values.mean(0), atol=1e-4)
    assert torch.allclose(norm.get_buffer("running_var"), values.var(0), rtol=0.1)
    assert norm.momentum == 0.1
    assert not network.training


def test_a_last_batch_of_one_sample_is_trained_on() -> None:
    network, inputs = trained(33)
    assert torch.isfinite(network(inputs)).all()


def test_networks_without_batch_norm_are_left_alone() -> None:
    network = nn.Linear(3, 1)
    refresh_batch_norms(network, TrainingSet(torch.randn(4, 3), torch.zeros(4, 1)))
    assert network.training
