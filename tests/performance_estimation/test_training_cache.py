"""The cache of trained weights: hits only where nothing that matters differs, and changes no result."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from safetensors.torch import load
from tests.performance_estimation.given import bench_of

from qanas.core.candidate import Candidate
from qanas.core.events import Watch, go_on
from qanas.networks.lstm import LSTMSpace
from qanas.networks.tcn import TCNSpace
from qanas.performance_estimation.bench import RANDOM, Bench
from qanas.performance_estimation.procedure import FullTraining
from qanas.search_space.start import RandomStart
from qanas.tasks.turbofan.task import Turbofan
from qanas.training.loop import Epochs, fit

if TYPE_CHECKING:
    from pathlib import Path

    from qanas.training.trainer import Trainer

TASK = Turbofan("synthetic", stride=24)
DATA = TASK.load()
SPACE = TCNSpace(seed_blocks=1, seed_channels=3)  # with batch norms: their statistics have to be kept too
BENCH = bench_of(TASK, DATA, SPACE)


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that every training is added to."""
    done: list[int] = []

    def counted(trainer: Trainer, schedule: Epochs, watch: Watch = go_on) -> bool:
        done.append(schedule.seed)
        return fit(trainer, schedule, watch)

    monkeypatch.setattr("qanas.performance_estimation.procedure.fit", counted)
    return done


def procedure(folder: Path) -> FullTraining:
    return FullTraining(epochs=1, cache=str(folder))


def test_the_second_time_nothing_is_trained_and_nothing_differs(tmp_path: Path, trainings: list[int]) -> None:
    plain = FullTraining(epochs=1).make(BENCH, BENCH.reference, RANDOM, 3)
    first = procedure(tmp_path).make(BENCH, BENCH.reference, RANDOM, 3)
    second = procedure(tmp_path).make(BENCH, BENCH.reference, RANDOM, 3)
    assert len(trainings) == 2
    for outcome in (first, second):
        assert not outcome.network.training
        for name, tensor in plain.network.state_dict().items():
            assert torch.equal(outcome.network.state_dict()[name], tensor)
        assert torch.equal(outcome.codes(DATA.val), plain.codes(DATA.val))
    assert second.train_seconds == pytest.approx(first.train_seconds, rel=0.9)


def test_bits_of_the_same_training_share_it(tmp_path: Path, trainings: list[int]) -> None:
    reference = BENCH.reference
    few = Candidate(reference.architecture, reference.training, {"weight_bits": 4})
    eight, four = (procedure(tmp_path).make(BENCH, candidate, RANDOM, 3) for candidate in (reference, few))
    assert len(trainings) == 1
    assert not torch.equal(eight.codes(DATA.val), four.codes(DATA.val))


class Elsewhere(RandomStart):
    """Weights that come from somewhere, such as distilled blocks."""

    @property
    def digest(self) -> str:
        return "1a2b3c4d"


def changed(change: str) -> tuple[Bench, Candidate, int, int]:
    """Return what is trained, with one thing different."""
    bench, candidate, seed, epochs = BENCH, BENCH.reference, 3, 1
    if change == "seed":
        seed = 4
    elif change == "epochs":
        epochs = 2
    elif change == "architecture":
        candidate = replace(candidate, architecture={**candidate.architecture, "channels_1": 4})
    elif change == "training":
        candidate = replace(candidate, training={**candidate.training, "learning_rate": 0.01})
    elif change == "task":
        bench = bench_of(replace(TASK, rul_cap=124.0), DATA, SPACE)
    elif change == "networks":
        bench = bench_of(TASK, DATA, LSTMSpace(seed_layers=1, seed_units=3))
        candidate = bench.reference
    elif change == "data":
        inputs = DATA.train.inputs.copy()
        inputs[0, 0, 0] += np.float32(1e-3)
        bench = bench_of(TASK, replace(DATA, train=replace(DATA.train, inputs=inputs)), SPACE)
    return bench, candidate, seed, epochs


@pytest.mark.parametrize("change", ["seed", "epochs", "architecture", "training", "task", "networks", "data", "start"])
def test_what_differs_is_trained(tmp_path: Path, trainings: list[int], change: str) -> None:
    procedure(tmp_path).make(BENCH, BENCH.reference, RANDOM, 3)
    start = Elsewhere() if change == "start" else RANDOM
    bench, candidate, seed, epochs = changed(change)
    replace(procedure(tmp_path), epochs=epochs).make(bench, candidate, start, seed)
    assert len(trainings) == 2


@pytest.mark.parametrize("damage", [b"", b"damaged", None])
def test_a_damaged_file_is_trained_anew(tmp_path: Path, trainings: list[int], damage: bytes | None) -> None:
    procedure(tmp_path).make(BENCH, BENCH.reference, RANDOM, 3)
    (kept,) = tmp_path.iterdir()
    content = kept.read_bytes()
    kept.write_bytes(content[:-5] if damage is None else damage)
    procedure(tmp_path).make(BENCH, BENCH.reference, RANDOM, 3)
    assert len(trainings) == 2
    wanted, anew = load(content), load(kept.read_bytes())
    assert all(torch.equal(wanted[name], anew[name]) for name in {*wanted, *anew})
