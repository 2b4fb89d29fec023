"""Scores on training and on validation data while a candidate is trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.performance_estimation.given import bench_of

from qanas.core.events import Event
from qanas.networks.tcn import TCNSpace
from qanas.performance_estimation import learning
from qanas.performance_estimation.bench import RANDOM
from qanas.performance_estimation.learning import LearningCurve
from qanas.performance_estimation.procedure import FullTraining, TrainedNetwork
from qanas.performance_estimation.scoring import float_outputs, metrics_of, sample_of
from qanas.tasks.base import Outputs
from qanas.tasks.samples import Split
from qanas.tasks.turbofan.task import Turbofan

TASK = Turbofan("synthetic", stride=24)
DATA = TASK.load()
BENCH = bench_of(TASK, DATA, TCNSpace(seed_blocks=2, seed_channels=6))
EPOCHS = 4


@pytest.fixture(autouse=True)
def _many_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a tiny training be looked at as a long one is."""
    monkeypatch.setattr(learning, "SHARE", 10.0)


def trained(epochs: int = EPOCHS, cache: Path | None = None) -> TrainedNetwork:
    procedure = FullTraining(epochs=epochs, cache=None if cache is None else str(cache))
    return procedure.make(BENCH, BENCH.reference, RANDOM, 3)


def test_points_are_scores_of_the_network_that_would_come_out_there() -> None:
    outcome = trained()
    assert [point["epoch"] for point in outcome.curve] == [1, 2, 3, EPOCHS]
    stopped = FullTraining(epochs=EPOCHS).make(BENCH, BENCH.reference, RANDOM, 3, lambda event: event.done < 2)
    for split, samples in (("train", sample_of(DATA.train, 256)), ("val", sample_of(DATA.val, 256))):
        for point, network in ((outcome.curve[1], stopped.network), (outcome.curve[-1], outcome.network)):
            for metric, value in metrics_of(TASK, float_outputs(network, samples), samples).items():
                assert point[f"{split}_{metric}"] == pytest.approx(value, rel=1e-5)


def test_nobody_notices_that_a_training_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome, told = trained(), list[Event]()

    def watch(event: Event) -> bool:
        told.append(event)
        return True

    monkeypatch.setattr(LearningCurve, "add", lambda *_: None)
    monkeypatch.setattr(LearningCurve, "watching", lambda _self, _trainer, _network, watch: watch)
    unseen = FullTraining(epochs=EPOCHS).make(BENCH, BENCH.reference, RANDOM, 3, watch)
    assert len(told) == EPOCHS
    assert not unseen.curve
    for ours, theirs in zip(outcome.network.state_dict().values(), unseen.network.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)


def test_cached_weights_have_their_last_point(tmp_path: Path) -> None:
    first, again = (trained(cache=tmp_path) for _ in range(2))
    assert len(first.curve) == EPOCHS
    assert again.curve == first.curve[-1:]


def test_a_look_has_its_price(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning, "SHARE", 0.03)
    assert [point["epoch"] for point in trained(epochs=2).curve] == [2], "short trainings have the last point alone"


class Whole(Turbofan):
    """Scores whole splits alone."""

    def evaluate(self, outputs: Outputs, split: Split) -> dict[str, float]:
        if len(split) < len(DATA.val):
            raise ValueError("not the whole split")
        return super().evaluate(outputs, split)


def test_a_task_that_cant_score_samples_has_no_curve_and_the_network_nevertheless(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(learning, "FEWEST_SAMPLES", 8)
    monkeypatch.setattr(learning, "SHARE", 0.001)
    task = Whole("synthetic", stride=24)
    outcome = FullTraining(epochs=1).make(
        replace(BENCH, data=bench_of(task, DATA, BENCH.networks).data), BENCH.reference, RANDOM, 3
    )
    assert not outcome.curve
    assert outcome.evaluate(task, DATA.val)
