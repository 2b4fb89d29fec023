"""What a run comes to: decided on validation data, over the same resampled units, test data beside it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.core.test_card import make_card

from qanas.core.card import SPLITS, Card, Latency, SplitName, Statistic
from qanas.core.measures import Cost, Limit, Metric
from qanas.core.run_folder import RunFolder, write_atomically
from qanas.shipping.verdict import intervals_in, recommend
from qanas.tasks.resampling import drawn_units

Floats = NDArray[np.float64]
UNITS: dict[SplitName, int] = {"val": 20, "test": 30}
METRIC = Metric("mae", "quantized", "minimize")


def errors(split: SplitName, more: float, noise: float, seed: int) -> Floats:
    """Each unit's error: a level that all networks share, and a little of the network's own."""
    level = np.random.default_rng(0).normal(10, 3, UNITS[split])
    return level + more + np.random.default_rng(seed).normal(0, noise, UNITS[split])


def put(folder: RunFolder, name: str, weight_bytes: int, more: dict[SplitName, float], seed: int) -> Card:
    by_unit = {split: errors(split, more[split], 0.2, seed) for split in SPLITS}
    arrays = {f"{split}_resampled_mae": by_unit[split][drawn_units(UNITS[split])].mean(axis=1) for split in SPLITS}
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **arrays)
    metrics = {split: {"mae": Statistic.of([float(by_unit[split].mean())], 0)} for split in SPLITS}
    card = make_card(name, weight_bytes).model_copy(
        update={"metrics": {"deployed": metrics}, "intervals": intervals_in(file.getvalue(), "engine", UNITS)}
    )
    write_atomically(folder.model(name) / "card.json", card.to_json().encode())
    write_atomically(folder.model(name) / "predictions.npz", file.getvalue())
    return card


def test_the_smallest_that_is_not_told_from_the_best(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert recommend(folder, METRIC) is None
    card = put(folder, "seed", 9000, {"val": 0.0, "test": 0.0}, 1)
    assert card.intervals is not None
    bounds = card.intervals.deployed["val"]["mae"]
    assert bounds.low < card.metric("deployed", "val", "mae").shipped < bounds.high
    put(folder, "as_good", 300, {"val": 0.05, "test": 2.0}, 2)  # on test data it isn't, which decides nothing
    put(folder, "worse", 100, {"val": 1.0, "test": -1.0}, 3)  # within the best one's interval, but not pair by pair
    found = recommend(folder, METRIC)
    assert found is not None
    assert (found.name, found.best, found.unit) == ("as_good", "seed", "engine")
    assert bounds.low < found.differences["worse"]["val"].low + card.metric("deployed", "val", "mae").shipped
    assert found.differences["worse"]["val"].low > 0
    assert found.differences["seed"]["val"].holds(0.0)
    assert found.tau == pytest.approx(-1 / 3)
    first, second, third = found.sentences
    assert first.startswith(
        "Take as_good unless something else decides: the smallest that can't be told from the best, seed, on "
        "20 validation engines, "
        "but on test data they differ (difference "
    )
    assert "4,000 file bytes, 300 weight bytes, validation mae " in first
    assert second == "Of 3 shipped models 1 can't be told from seed on 20 validation engines: as_good."
    assert third.startswith("The ranking does not hold on test data (tau -0.33 over 3 finalists): seed, the best on ")
    assert ", where worse is the best with " in third
    told = found.as_json()
    assert told["recommended"] == "as_good"
    assert told["difference_from_best"]["worse"]["val"][0] > 0


def test_what_takes_less_flash_and_ram_is_told_though_its_weights_are_more(tmp_path: Path) -> None:
    # An LSTM of few weights is a file of many operators; a dense network of a few more weights is not.
    folder = RunFolder(tmp_path)
    sizes = {"lstm": (290, 4700, 8600), "dense": (400, 1400, 1700), "flat": (500, 1300, 9000), "worse": (300, 900, 900)}
    for place, (name, (weights, file_bytes, arena)) in enumerate(sizes.items()):
        card = put(folder, name, weights, dict.fromkeys(SPLITS, 2.0 if name == "worse" else 0.0), place)
        card = card.model_copy(update={"file_bytes": file_bytes, "arena_bytes": arena})
        write_atomically(folder.model(name) / "card.json", card.to_json().encode())
    found = recommend(folder, METRIC, costs=[Cost("weight_bytes")])
    assert found is not None
    assert found.name == "lstm"
    told = "As good, and less of the device: dense, 1,400 file bytes, 400 weight bytes, 1,700 arena bytes."
    assert found.sentences[1] == told
    fitting = recommend(folder, METRIC, [Limit(Cost("weight_bytes"), 299)], costs=[Cost("weight_bytes")])
    assert fitting is not None
    assert not any("less of the device" in sentence for sentence in fitting.sentences)


def test_what_is_smaller_but_over_a_limit_is_not_said_to_be_worse(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    put(folder, "seed", 9000, {"val": 0.0, "test": 0.0}, 1)
    slow = put(folder, "slow", 300, {"val": 0.05, "test": 0.05}, 2).model_copy(update={"macs": 10**9})
    write_atomically(folder.model("slow") / "card.json", slow.to_json().encode())
    found = recommend(folder, METRIC, [Limit(Cost("macs"), 10**8)])
    assert found is not None
    assert found.name == "seed"
    assert "the best on validation data, and nothing smaller within the limits is as good: " in found.sentences[0]


def test_a_better_model_over_a_limit_is_none_to_take_where_another_is_within(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    put(folder, "seed", 9000, {"val": 0.0, "test": 0.0}, 1)
    put(folder, "small", 300, {"val": 2.0, "test": 2.0}, 2)
    put(folder, "smallest", 200, {"val": 9.0, "test": 9.0}, 3)
    found = recommend(folder, METRIC, [Limit(Cost("weight_bytes"), 1000)])
    assert found is not None
    assert (found.name, found.best) == ("small", "small")
    assert found.sentences[0].startswith("Take small: the best on validation data, and nothing smaller")
    assert found.sentences[1] == "Better on validation data, but over the limits: seed."
    beyond = recommend(folder, METRIC, [Limit(Cost("weight_bytes"), 100)])
    assert beyond is not None
    assert (beyond.name, beyond.sentences[1]) == ("seed", "No shipped model that is a success is within the limits.")


def test_a_limit_on_another_device_holds(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for place, (name, ms) in enumerate((("seed", 50.0), ("found", 2.0))):
        card = put(folder, name, 9000, {"val": place, "test": place}, place)
        latency = {**card.latency_ms, "board": Latency(ms=ms, kernels="by a table")}
        write_atomically(
            folder.model(name) / "card.json", card.model_copy(update={"latency_ms": latency}).to_json().encode()
        )
    found = recommend(folder, METRIC, [Limit(Cost("latency_ms", "board"), 10)])
    assert found is not None
    assert found.name == "found"


def test_models_of_early_runs_are_left_out(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    old = make_card("old", 10)
    write_atomically(folder.model("old") / "card.json", old.to_json().encode())
    assert recommend(folder, METRIC) is None
    put(folder, "seed", 9000, {"val": 0.0, "test": 0.0}, 1)
    found = recommend(folder, METRIC)
    assert found is not None
    assert list(found.differences) == ["seed"]
    assert found.tau is None
    sentence, early = found.sentences
    assert early == "Not compared, for they have no intervals (of an earlier version): 1 of 2 models."
    assert sentence.startswith(
        "Take seed (the reference): the best on validation data, and nothing smaller is as good: 4,000 file bytes, "
    )


def test_a_metric_to_be_maximized(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    put(folder, "high", 9000, {"val": 0.0, "test": 0.0}, 1)
    put(folder, "low", 300, {"val": -5.0, "test": -5.0}, 2)
    found = recommend(folder, Metric("mae", "quantized", "maximize"))
    assert found is not None
    assert (found.name, found.best) == ("high", "high")
    assert found.differences["low"]["val"].high < 0
