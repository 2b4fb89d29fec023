"""The contract of trainers, over every one that there is and over broken ones."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
import torch
from tests.training.small import loss, lstm_training, tcn_training
from tests.training.test_trainers import OPTIONS, small_supernet

from qanas.supernet.distillation import NoiseToSignal
from qanas.supernet.paths import PathsTrainer
from qanas.testing import check_trainer
from qanas.testing.trainers import Begin, Make, small_regression, squared_error
from qanas.training.compiled.lstm import CompiledLSTMTrainer
from qanas.training.compiled.tcn import CompiledTCNTrainer
from qanas.training.torch_trainer import TorchTrainer

if TYPE_CHECKING:
    from torch import Tensor, nn

    from qanas.search_space.training_group import TrainingSettings
    from qanas.training.trainer import Loss, Trainer, TrainingSet


def begin(kind: Any, of_loss: Loss = loss, **options: Any) -> Begin:  # noqa: ANN401
    return lambda network, data, settings: kind(network, data, of_loss, settings, **options)


def small_lstm() -> tuple[nn.Module, TrainingSet]:
    return lstm_training([5, 3])


def small_tcn() -> tuple[nn.Module, TrainingSet]:
    return tcn_training([5, 3], anywhere=False)


@pytest.mark.parametrize(
    ("kind", "make", "of_loss"),
    [
        (TorchTrainer, small_regression, squared_error),
        (TorchTrainer, small_lstm, loss),
        (TorchTrainer, small_tcn, loss),
        (CompiledLSTMTrainer, small_lstm, loss),
        (CompiledTCNTrainer, small_tcn, loss),
    ],
)
def test_it_keeps_the_contract(kind: Any, make: Make, of_loss: Loss) -> None:  # noqa: ANN401
    check_trainer(begin(kind, of_loss), make, of_loss)


@pytest.mark.gpu
def test_torchs_on_a_gpu_keeps_the_contract() -> None:
    check_trainer(begin(TorchTrainer, squared_error, device="cuda"), small_regression, squared_error)


@pytest.mark.parametrize("sampling", ["fair", "uniform"])
def test_a_supernets_paths_keep_the_contract(sampling: Any) -> None:  # noqa: ANN401
    def paths(network: nn.Module, data: TrainingSet, settings: TrainingSettings) -> Trainer:
        generator = torch.Generator().manual_seed(0)
        noise = NoiseToSignal.of(data.targets)
        return PathsTrainer(network, data, noise, options=OPTIONS, sampling=sampling, generator=generator)

    check_trainer(paths, small_supernet)


class Faulty(TorchTrainer):
    """Torch's, with one fault."""

    def __init__(self, *arguments: Any, fault: str) -> None:  # noqa: ANN401
        super().__init__(*arguments)
        self.fault = fault

    def step(self, indices: Tensor, learning_rate: float) -> float:
        if self.fault == "impatient":
            learning_rate += 1e-3
        if self.fault == "random":
            own = torch.Generator()
            own.seed()  # torch's global one follows from the schedule's seed
            indices = indices[torch.randperm(len(indices), generator=own)[: len(indices) // 2]]
        if self.fault == "standing":
            learning_rate = 0.0
        if self.fault == "writing":
            self.data.inputs.mul_(0.5)
        found = super().step(indices, learning_rate)
        return {"late": found * 1.01, "deaf": 1.0 if found != found else found}.get(self.fault, found)  # noqa: PLR0124

    def snapshot(self) -> nn.Module:
        if self.fault == "restless":
            torch.rand(1)
        if self.fault == "touching":
            self.average.mul_(0.9)
        return copy.deepcopy(self.network).eval() if self.fault == "raw" else super().snapshot()

    def finish(self) -> None:
        super().finish()
        if self.fault == "training":
            self.network.train()
        if self.fault == "rough":
            for parameter in self.network.parameters():
                parameter.data += 0.01 * (parameter.data.abs().max() > 0) * bool(self.steps > 3)


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("late", "The first step returns the loss of the network as it was: it is"),
        ("impatient", "Steps at a learning rate of 0 move no weight"),
        ("standing", "Steps on the same batch make its loss smaller"),
        ("training", "a module is in training mode"),
        ("writing", "The data is only read: the data[0] has"),
        ("deaf", "NaN in all targets isn't refused"),
        ("restless", "a random number was drawn"),
        ("touching", "it differs from what finish leaves"),
        ("raw", "it differs from what finish leaves"),
        ("rough", "A training has the losses and the weights of one that is written out with torch: adam"),
    ],
)
def test_a_broken_one_is_caught(fault: str, told: str) -> None:
    with pytest.raises(AssertionError) as caught:
        check_trainer(begin(Faulty, squared_error, fault=fault), loss=squared_error)
    assert told in str(caught.value)


def test_a_trainer_with_random_numbers_of_its_own_is_caught() -> None:
    with pytest.raises(AssertionError, match="The same training gives the same weights bit for bit"):
        check_trainer(begin(Faulty, squared_error, fault="random"))
