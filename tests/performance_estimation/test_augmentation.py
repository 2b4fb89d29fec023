"""A task's random changes of its samples reach the training, and nothing else."""

from __future__ import annotations

import torch
from tests.performance_estimation.given import bench_of
from torch import Generator, Tensor

from qanas.networks.lstm import LSTMSpace
from qanas.performance_estimation.bench import RANDOM
from qanas.performance_estimation.procedure import FullTraining, TrainedNetwork
from qanas.tasks.turbofan.task import Turbofan


class Noisy(Turbofan):
    """Turbofan with noise on the inputs, and with a record of what came of it."""

    def augment(self, inputs: Tensor, targets: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        noise = torch.randn(inputs.shape, generator=generator)
        SEEN.append((inputs, noise))
        return inputs + 0.1 * noise, targets


SEEN: list[tuple[Tensor, Tensor]] = []
PLAIN = Turbofan("synthetic", stride=24)
DATA = PLAIN.load()
SPACE = LSTMSpace(seed_layers=1, seed_units=3)


def trained(task: Turbofan, seed: int = 0, qat_epochs: int = 0) -> TrainedNetwork:
    SEEN.clear()
    bench = bench_of(task, DATA, SPACE)
    return FullTraining(epochs=2, qat_epochs=qat_epochs).make(bench, bench.reference, RANDOM, seed)


def weights(outcome: TrainedNetwork) -> Tensor:
    return torch.cat([parameter.flatten() for parameter in outcome.network.parameters()])


def test_batches_are_changed_and_each_time_anew() -> None:
    noisy, plain = trained(Noisy("synthetic", stride=24)), None
    batches = -(-len(DATA.train) // 64)
    assert len(SEEN) == 2 * batches
    assert not any(torch.equal(SEEN[0][1], noise) for _, noise in SEEN[1:])
    plain = trained(PLAIN)
    assert not SEEN
    assert not torch.equal(weights(noisy), weights(plain))


def test_the_changes_follow_from_the_seed() -> None:
    task = Noisy("synthetic", stride=24)
    first, second, other = trained(task, 0), trained(task, 0), trained(task, 1)
    assert torch.equal(weights(first), weights(second))
    assert not torch.equal(weights(first), weights(other))


def test_the_data_itself_stays() -> None:
    before = DATA.train.inputs.copy()
    trained(Noisy("synthetic", stride=24))
    assert (DATA.train.inputs == before).all()
