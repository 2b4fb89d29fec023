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
    assert torch.allclose(norm.get_buffer("running_var"), values.var(0), rtol=0.05)
    assert norm.momentum == 0.1
    assert not network.training


def test_a_last_batch_of_one_sample_is_trained_on() -> None:
    network, inputs = trained(33)
    assert torch.isfinite(network(inputs)).all()


def test_networks_without_batch_norm_are_left_alone() -> None:
    network = nn.Linear(3, 1)
    refresh_batch_norms(network, TrainingSet(torch.randn(4, 3), torch.zeros(4, 1)))
    assert network.training


class Sizes(nn.BatchNorm2d):
    """Notes how many samples it is given."""

    def forward(self, inputs: Tensor) -> Tensor:
        self.seen = [*getattr(self, "seen", []), len(inputs)]
        return super().forward(inputs)


def test_large_images_are_computed_a_few_at_a_time() -> None:
    norm = Sizes(3)
    images = torch.randn(100, 3, 192, 256).cumsum(0)
    refresh_batch_norms(norm, TrainingSet(images, torch.zeros(100, 1)))
    assert norm.seen == [25, 25, 25, 25]
    assert torch.allclose(norm.get_buffer("running_mean"), images.mean((0, 2, 3)), rtol=1e-4)
    assert torch.allclose(norm.get_buffer("running_var"), images.var((0, 2, 3)), rtol=1e-3)


class Twice(nn.Module):
    """Calls one norm on two sides, and another one never."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.idle = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
        self.idle.get_buffer("running_mean").fill_(5.0)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.norm(inputs) + self.norm(2 + 3 * inputs)
        return outputs


def test_a_norm_that_is_called_twice_has_the_mean_of_both() -> None:
    network, inputs = Twice(), torch.randn(50, 2)
    refresh_batch_norms(network, TrainingSet(inputs, torch.zeros(50, 1)))
    assert torch.allclose(network.norm.get_buffer("running_mean"), 1 + 2 * inputs.mean(0), atol=1e-5)
    assert torch.allclose(network.norm.get_buffer("running_var"), 5 * inputs.var(0), rtol=1e-4)
    assert network.idle.get_buffer("running_mean").tolist() == [0.0, 0.0]
    assert network.norm.momentum == 0.1
    assert network.training
