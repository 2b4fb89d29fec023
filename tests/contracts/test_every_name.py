"""Every name that recipes know: made from a recipe, and run tiny; what doesn't fit is refused in one line."""

from __future__ import annotations

from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
import tomli_w

from qanas.core.errors import InputError
from qanas.core.run_folder import RunFolder
from qanas.recipe import load_plan
from qanas.recipe.registry import ESTIMATORS, SPACES, STRATEGIES, TASKS
from qanas.reporting.live import LiveDisplay
from qanas.tasks.detection.synthetic import write_scenes
from qanas.tasks.segmentation.synthetic import write_synthetic
from qanas.workflows.run import run_search

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from qanas.planning.plan import Plan

Tables = dict[str, dict[str, Any]]

TASK_TABLES: dict[str, dict[str, Any]] = {
    "anomaly": {"data": "synthetic", "sample_rate": 8000, "seconds": 0.5, "bands": 8, "context": 2},
    "audio": {"data": "synthetic", "sample_rate": 8000, "seconds": 0.5, "bands": 8},
    "detection": {"data": "synthetic", "width": 49, "aspect": 1.0},
    "images": {"data": "synthetic", "size": 8},
    "segmentation": {"data": "synthetic", "height": 16, "width": 32},
    "timeseries": {"data": "synthetic", "window": 10, "hop": 40},
    "turbofan": {"data": "synthetic", "stride": 40, "window": 8},
}
SPACE_TABLES: dict[str, dict[str, Any]] = {
    "autoencoder": {"max_units": 4, "seed_units": 4},
    "cells": {"seed_channels": 2},
    "deeplabv3": {"width": 0.25, "layers": [1, 1, 1, 1, 1, 1], "kernels": [3]},
    "conv1d": {"seed_width": 0.05, "widths": [0.05], "kernels": [3]},
    "dense": {"max_units": 4, "seed_units": 4},
    "ds_cnn": {"seed_width": 0.1, "widths": [0.1], "kernels": [3]},
    "fastestdet": {"seed_width": 0.25, "channels": [24], "widths": [0.25]},
    "growing": {"seed_channels": 4, "max_channels": 8, "stages": 2},
    "gru": {"max_units": 4, "seed_units": 4},
    "lstm": {"max_units": 4, "seed_units": 4},
    "mobilenet": {"reference": "mobilenet_v3_small", "seed_width": 0.1, "widths": [0.1], "kernels": [3], "halvings": 2},
    "multi_branch": {"seed_channels": 4, "blocks": 2, "branches": 2, "max_channels": 4},
    "random_wiring": {"seed_channels": 2, "max_nodes": 4},
    "resnet": {"seed_width": 0.25, "widths": [0.25], "kernels": [3]},
    "tcn": {"max_channels": 4, "max_blocks": 2},
}
SOLVERS: dict[str, dict[str, Any]] = {
    "dna": {"budgets": [1500, 2500.0, 1e9]},
    "exact": {},
    "gradient": {"alphas": [0.1, 3.0], "steps": 4, "batch_size": 8},
}
MET_BY = {"dna": "block_tables", "exact": "block_tables", "gradient": "weight_sharing"}
"""The estimator that offers what a solver needs."""
SAMPLERS: dict[str, dict[str, Any]] = {
    "evolution": {"population_size": 2},
    "gp": {"startup_trials": 2},
    "hill_climbing": {"neighbours": 2, "morphisms": 1},
    "lemonade": {"drawn": 2},
    "morphism_bo": {"startup_trials": 2, "pool": 4},
    "nsga2": {"population_size": 2},
    "random": {},
    "reinforce": {},
    "size_aware": {"startup_trials": 2},
    "tpe": {"startup_trials": 2},
}
ESTIMATOR_TABLES: dict[str, Tables] = {
    "block_tables": {"distillation": {"steps": 8}, "table": {"calibration_samples": 8}},
    "early_stopping": {"estimation": {"epochs": 2, "rungs": [1]}},
    "learning_curve": {"estimation": {"epochs": 2, "first": 1}},
    "predictor": {"estimation": {"anchors": 10, "min_tau": -1.0}},
    "proxies": {"estimation": {"proxy": "synflow"}},
    "training": {},
    "weight_sharing": {
        "supernet": {"steps": 8, "batch_size": 8, "statistics_samples": 8, "cost": "macs", "windows": 2},
        "space": {"name": "qanas.testing.small:SmallSpace", "search": ["architecture", "quantization"]},
    },
}
TRIALS = 3


def test_every_name_is_tried_here() -> None:
    """A name that is registered and stands in no table above would be tried by nothing."""
    assert TASK_TABLES.keys() == TASKS.keys()
    assert SPACE_TABLES.keys() == SPACES.keys()
    assert SOLVERS.keys() | SAMPLERS.keys() == STRATEGIES.keys()
    assert ESTIMATOR_TABLES.keys() == ESTIMATORS.keys()


def plan_of(folder: Path, tables: Tables) -> Plan:
    path = folder / "recipe.toml"
    path.write_text(tomli_w.dumps(tables), "utf-8")
    return load_plan(path)


def small(strategy: str, estimator: str) -> Tables:
    budget = {"trials": TRIALS} if strategy in SAMPLERS else {}
    tables: Tables = {
        "task": {"name": "qanas.testing.small:SmallTask"},
        "space": {"name": "qanas.testing.small:SmallSpace"},
        "strategy": {"name": strategy, **budget, **(SOLVERS | SAMPLERS)[strategy]},
        "estimation": {"name": estimator, "epochs": 1, "calibration_samples": 8},
        "objectives": {"accuracy_quantized": "maximize", "weight_bytes": "minimize"},
        "finalists": {"count": 1, "seeds": 1},
        "baselines": {"enabled": False},
    }
    return {
        name: tables.get(name, {}) | own.get(name, {})
        for own in [ESTIMATOR_TABLES[estimator]]
        for name in {**tables, **own}
    }


PAIRS = [*product(STRATEGIES, ("block_tables", "training")), *product(("exact", "size_aware"), ESTIMATORS)]
"""A strategy sees nothing of an estimator but its scores: what is new is tried with one of a kind. (`gradient` runs in
tests/workflows/test_gradient_search.py.)"""


@pytest.mark.parametrize(("strategy", "estimator"), list(dict.fromkeys(PAIRS)))
def test_every_strategy_meets_every_estimator_or_is_refused(tmp_path: Path, strategy: str, estimator: str) -> None:
    tables = small(strategy, estimator)
    if MET_BY.get(strategy, estimator) != estimator:
        told = rf"{MET_BY[strategy]} does, or take a strategy that samples, such as tpe$"
        with pytest.raises(InputError, match=told):
            plan_of(tmp_path, tables)
        return
    plan = plan_of(tmp_path, tables)
    plan.check()
    with LiveDisplay() as display:
        result = run_search(plan, RunFolder(tmp_path / "run"), display)
    assert result.front
    assert not result.failed
    assert result.shipped >= 1
    front = pl.read_csv(result.folder.front)
    axes = [axis.column for axis in plan.axes]
    assert len(front) == len(result.front)
    assert front.select(axes).null_count().sum_horizontal().item() == 0
    assert result.folder.front.read_bytes() == resumed_front(plan, result.folder)


def resumed_front(plan: Plan, folder: RunFolder) -> bytes:
    """Run again what is finished, which changes nothing."""
    with LiveDisplay() as display:
        run_search(plan, folder, display)
    return folder.front.read_bytes()


NETWORKS = {
    "autoencoder": "anomaly",
    "cells": "images",
    "conv1d": "timeseries",
    "deeplabv3": "segmentation",
    "dense": "turbofan",
    "ds_cnn": "audio",
    "fastestdet": "detection",
    "growing": "audio",
    "gru": "turbofan",
    "lstm": "turbofan",
    "mobilenet": "images",
    "multi_branch": "images",
    "random_wiring": "audio",
    "resnet": "images",
    "tcn": "timeseries",
}
DRAWN: dict[str, Callable[[Path, int], None]] = {
    "detection": partial(write_scenes, pictures=36),
    "segmentation": write_synthetic,
}
METRICS = {
    **dict.fromkeys(("audio", "images", "timeseries"), ("accuracy", "maximize")),
    "anomaly": ("auc", "maximize"),
    "detection": ("ap50", "maximize"),
    "segmentation": ("miou", "maximize"),
    "turbofan": ("mae", "minimize"),
}


@pytest.mark.parametrize(("space", "task"), NETWORKS.items())
def test_every_space_and_every_task_run(tmp_path: Path, space: str, task: str) -> None:
    metric, way = METRICS[task]
    tables: Tables = {
        "task": {"name": task, **TASK_TABLES.get(task, {})},
        "space": {"name": space, **SPACE_TABLES[space]},
        "strategy": {"name": "random", "trials": 2},
        "estimation": {"epochs": 1, "calibration_samples": 16},
        "objectives": {f"{metric}_quantized": way, "macs": "minimize"},
        "finalists": {"count": 1, "seeds": 1},
        "baselines": {"enabled": False},
    }
    if task in DRAWN:  # once, where "synthetic" is drawn anew each time that it is read
        (tmp_path / "scenes").mkdir()
        DRAWN[task](tmp_path / "scenes", 0)
        tables["task"]["data"] = "scenes"
    plan = plan_of(tmp_path, tables)
    plan.check()
    with LiveDisplay() as display:
        result = run_search(plan, RunFolder(tmp_path / "run"), display)
    assert result.shipped >= 1
    assert not result.failed


def test_every_task_is_run_by_a_space() -> None:
    assert {*NETWORKS.values()} == set(TASKS)
    assert NETWORKS.keys() == SPACES.keys()


@pytest.mark.parametrize(
    ("section", "registry"),
    [("task", TASKS), ("space", SPACES), ("strategy", STRATEGIES), ("estimation", ESTIMATORS)],
)
def test_a_misspelt_name_is_refused_with_the_one_that_is_meant(
    tmp_path: Path, section: str, registry: dict[str, str]
) -> None:
    for name in registry:
        tables = small("random", "training")
        tables[section]["name"] = f"{name}x"
        with pytest.raises(InputError, match=rf"did you mean '{name}'\?"):
            plan_of(tmp_path, tables)
