"""Full training of several candidates at once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from qanas.core.candidate import Candidate
from qanas.core.errors import InputError, TrainingFailed
from qanas.networks.lstm import LSTMSpace
from qanas.performance_estimation.base import Estimator, TrainedNetwork
from qanas.performance_estimation.full_training import FullTraining
from qanas.performance_estimation.problem import Problem
from qanas.tasks.turbofan.task import Turbofan

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Generator, Tensor

TASK = Turbofan("synthetic", stride=24)
DATA = TASK.load()
SPACE = LSTMSpace(seed_layers=2, seed_units=5, per_layer_training=False)
PROBLEM = Problem(TASK, DATA, SPACE)


def candidate(units: int, **training: float | str) -> Candidate:
    return Candidate({"layers": 1, "units_1": units}, {**PROBLEM.seed.training, **training}, PROBLEM.seed.quantization)


CANDIDATES = [(candidate(3), 1), (candidate(7, optimizer="adam", loss="huber"), 2), (PROBLEM.seed, 3)]


def ignored(position: int, epoch: int, loss: float) -> None:
    del position, epoch, loss


def outputs(outcome: TrainedNetwork | Exception) -> Tensor:
    assert isinstance(outcome, TrainedNetwork), outcome
    return torch.from_numpy(outcome.float_outputs(DATA.val.inputs))


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_each_is_what_train_makes_of_it(device: str) -> None:
    estimator = FullTraining(epochs=2, batch=4, device=device)  # type: ignore[arg-type]
    told: list[tuple[int, int]] = []
    outcomes = estimator.train_many(PROBLEM, CANDIDATES, lambda position, epoch, _: told.append((position, epoch)))
    assert sorted(told) == [(position, epoch) for position in range(3) for epoch in (1, 2)]
    for outcome, (chosen, seed) in zip(outcomes, CANDIDATES, strict=True):
        alone = estimator.train(PROBLEM, chosen, seed)
        torch.testing.assert_close(outputs(outcome), outputs(alone), rtol=0.0, atol=0.05)  # cycles
        assert isinstance(outcome, TrainedNetwork)
        assert not outcome.network.training
        assert outcome.quantized.codes(torch.from_numpy(DATA.val.inputs[:4])).shape == (4, 1)


def test_the_base_class_trains_one_after_the_other_to_the_bit() -> None:
    estimator = FullTraining(epochs=1)
    lost = (candidate(4, learning_rate=1e38, gradient_clip=1e38), 0)
    first, failure, last = Estimator.train_many(estimator, PROBLEM, [CANDIDATES[0], lost, CANDIDATES[1]], ignored)
    assert isinstance(failure, TrainingFailed)
    for outcome, (chosen, seed) in ((first, CANDIDATES[0]), (last, CANDIDATES[1])):
        assert torch.equal(outputs(outcome), outputs(estimator.train(PROBLEM, chosen, seed)))


def test_a_lost_candidate_is_the_only_one_lost() -> None:
    lost = (candidate(4, learning_rate=1e38, gradient_clip=1e38), 0)
    first, failure, last = FullTraining(epochs=1, batch=3).train_many(
        PROBLEM, [CANDIDATES[0], lost, CANDIDATES[1]], ignored
    )
    assert isinstance(failure, TrainingFailed)
    for outcome in (first, last):
        assert outputs(outcome).isfinite().all()


def test_what_the_cache_has_is_not_trained_again(tmp_path: Path) -> None:
    estimator = FullTraining(epochs=1, batch=3, cache=str(tmp_path))
    told: list[int] = []
    (kept,) = estimator.train_many(PROBLEM, CANDIDATES[1:2], ignored)
    outcomes = estimator.train_many(PROBLEM, CANDIDATES, lambda position, *_: told.append(position))
    assert sorted(told) == [0, 2]
    assert torch.equal(outputs(outcomes[1]), outputs(kept))
    assert len(list(tmp_path.iterdir())) == 3
    estimator.train_many(PROBLEM, CANDIDATES, lambda position, *_: told.append(position))
    assert sorted(told) == [0, 2]


class Augmented(Turbofan):
    """Adds noise to its samples."""

    def augment(self, inputs: Tensor, targets: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        return inputs + 0.1 * torch.randn(inputs.shape, generator=generator), targets


def test_random_changes_of_the_samples_are_each_candidates_own() -> None:
    problem = Problem(Augmented("synthetic", stride=24), DATA, SPACE)
    estimator = FullTraining(epochs=1, batch=3)
    outcomes = estimator.train_many(problem, CANDIDATES[:2], ignored)
    for outcome, (chosen, seed) in zip(outcomes, CANDIDATES[:2], strict=True):
        assert torch.equal(outputs(outcome), outputs(estimator.train(problem, chosen, seed)))


def test_a_device_that_can_not_be_used_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"set estimation\.batch"):
        FullTraining(device="cuda").check(PROBLEM)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    estimator = FullTraining(device="cuda", batch=8)
    with pytest.raises(InputError, match="torch finds no CUDA device"):
        estimator.check(PROBLEM)
    replace(estimator, device="cpu").check(PROBLEM)
