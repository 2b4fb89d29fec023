"""One search: any strategy meets any estimator, what depends on what is said once, finalists have a procedure."""

from __future__ import annotations

import io
import itertools
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import optuna
import polars as pl
import pytest
import tomli_w
import torch
from rich.console import Console
from tests.workflows import blockwise_runs

import qanas
from qanas.core.errors import InputError
from qanas.core.measures import Metric
from qanas.core.run_folder import RunFolder
from qanas.deployment.parity import ParitySteps
from qanas.hardware.device import Device
from qanas.planning.dependence import STAGES, Stage, made_from
from qanas.planning.plan import Plan
from qanas.recipe import load_plan
from qanas.reporting.live import LiveDisplay
from qanas.shipping.models import median_training
from qanas.shipping.trainings import Training
from qanas.workflows.run import RunResult, run_search
from qanas.workflows.search import Search

TABLES: dict[str, dict[str, Any]] = {
    "task": {"name": "turbofan", "data": "synthetic", "stride": 40},
    "space": {"name": "lstm", "max_units": 3, "seed_layers": 1, "seed_units": 3},
    "strategy": {"name": "random", "trials": 3},
    "estimation": {"epochs": 1, "calibration_samples": 64},
    "objectives": {"mae_quantized": "minimize", "weight_bytes": "minimize"},
    "finalists": {"count": 1, "seeds": 1},
    "baselines": {"enabled": False},
}


def recipe(folder: Path, **changes: dict[str, Any]) -> Path:
    tables = {name: {**table, **changes.get(name, {})} for name, table in TABLES.items()}
    path = folder / "recipe.toml"
    path.write_text(tomli_w.dumps({**tables, **{k: v for k, v in changes.items() if k not in tables}}), "utf-8")
    return path


def run(path: Path, out: Path) -> tuple[Plan, RunResult]:
    plan = load_plan(path)
    plan.check()
    return plan, run_search(plan, RunFolder(out), LiveDisplay(Console(file=io.StringIO())))


# Combinations


@pytest.mark.parametrize(
    ("strategy", "told"),
    [
        ({"name": "exact", "trials": 2}, "does not offer; block_tables does, or take a strategy that samples"),
        ({"name": "dna", "budgets": [1000.0]}, "does not offer; block_tables does"),
    ],
)
def test_what_does_not_meet_is_refused_with_what_would(tmp_path: Path, strategy: dict[str, Any], told: str) -> None:
    path = recipe(tmp_path)
    tables = {**TABLES, "strategy": strategy}
    path.write_text(tomli_w.dumps(tables), "utf-8")
    with pytest.raises(InputError, match=told) as error:
        load_plan(path)
    assert "\n" not in str(error.value)


def test_a_solver_has_no_trials(tmp_path: Path) -> None:
    path = blockwise_runs.recipe(tmp_path, strategy={"name": "exact", "trials": 3})
    with pytest.raises(InputError, match=r"strategy.trials: 'exact' solves at once, without trials; leave it out"):
        load_plan(path)


def test_a_sampler_meets_block_tables_and_a_resumed_search_is_the_same(tmp_path: Path) -> None:
    """The estimate of a candidate is the sum of its rows' scores; no trial has a row on disk."""
    path = blockwise_runs.recipe(tmp_path, strategy={"name": "nsga2", "trials": 30}, table={"full": True})
    blockwise_runs.run(path, tmp_path / "sampled")
    folder = RunFolder(tmp_path / "sampled")
    assert not folder.study.exists()
    trials = pl.read_parquet(folder.trials)
    assert len(trials.filter(pl.col("outcome") == "measured")) == 30
    blocks = [name for name in trials.columns if name.startswith("nsr_") and name != "nsr_sum"]
    sums = trials.select(pl.sum_horizontal(blocks))
    assert sums.to_series().to_list() == pytest.approx(trials["nsr_sum"].to_list())
    front = folder.front.read_bytes()
    blockwise_runs.run(path, tmp_path / "sampled")
    assert folder.front.read_bytes() == front

    # What it found is nowhere better than the exact front.
    solved = blockwise_runs.recipe(tmp_path, strategy={"name": "exact"}, table={"full": True})
    for made in ("features", "blocks", "trainings"):  # the same tables
        shutil.copytree(tmp_path / "sampled" / made, tmp_path / "solved" / made)
    blockwise_runs.run(solved, tmp_path / "solved")
    exact, sampled = (pl.read_csv(tmp_path / name / "front.csv") for name in ("solved", "sampled"))
    for score, size in sampled.select("nsr_sum", "weight_bytes").iter_rows():
        best = exact.filter(pl.col("weight_bytes") <= size)["nsr_sum"].min()
        assert best is not None
        assert float(str(best)) <= score + 1e-12


def test_rows_of_tables_name_a_front_point(finished: tuple[Path, RunResult]) -> None:
    path, _ = finished
    out = path.parent / "run"
    tables = [pl.read_parquet(table) for table in sorted(out.glob("blocks/*/table-*.parquet"))]
    front = pl.read_csv(out / "front.csv")
    for row in front.iter_rows(named=True):
        scores = [table["nsr"][row[f"row_{place}"]] for place, table in enumerate(tables, 1)]
        assert sum(scores) == pytest.approx(row["nsr_sum"])


# Finalists


def test_finalists_have_epochs_of_their_own(tmp_path: Path) -> None:
    _, _ = run(recipe(tmp_path), tmp_path / "run")
    own = {entry.name for entry in (tmp_path / "run" / "trainings").iterdir()}
    plan, _ = run(recipe(tmp_path, finalists={"epochs": 2}), tmp_path / "run")  # goes on in the same folder
    assert (plan.estimator.procedure.epochs, plan.finalists.procedure.epochs) == (1, 2)
    trained = {entry.name for entry in (tmp_path / "run" / "trainings").iterdir()}
    assert len(trained) == 2 * len(own)
    assert all("-" not in name for name in own)


@pytest.mark.parametrize(("better", "shipped"), [("minimize", [2, 1]), ("maximize", [0, 1])])
def test_the_median_of_two_repetitions_is_the_better_one(tmp_path: Path, better: str, shipped: list[int]) -> None:
    class Metricless:
        main_metric = Metric("score", better=better)  # type: ignore[arg-type]

    def trainings(*scores: float) -> list[Training]:
        metrics = [{"quantized": {"val": {"score": score}}} for score in scores]
        return [Training(i, entry, ParitySteps(0, 0.0, 1)) for i, entry in enumerate(metrics)]  # type: ignore[arg-type]

    plan: Any = Metricless()
    two, three = trainings(3.0, 1.0), trainings(2.0, 5.0, 1.0)
    assert median_training(plan, two) == (1 if better == "minimize" else 0)
    assert median_training(plan, three) == 0
    del tmp_path, shipped


# What depends on what


def test_a_stage_is_named_by_its_own_keys_and_those_before_it() -> None:
    content: dict[str, Any] = {
        "task": {"name": "t", "data": "here"},
        "estimation": {"epochs": 3, "jobs": 1},
        "distillation": {"steps": 4, "seeds": 1},
        "table": {"bits": [8]},
        "finalists": {"count": 2},
    }

    def names(**changed: dict[str, Any]) -> dict[str, str]:
        now = {name: {**table, **changed.get(name, {})} for name, table in content.items()}
        return {stage: made_from(stage, now) for stage in ("reference", "supernets", "tables")}

    before = names()
    assert names(task={"data": "there"}, estimation={"jobs": 2}, finalists={"count": 3}) == before
    changed = {
        "task": names(task={"name": "u"}),
        "steps": names(distillation={"steps": 5}),
        "seeds": names(distillation={"seeds": 2}),
        "bits": names(table={"bits": [4]}),
    }
    differ = {what: {stage for stage in before if found[stage] != before[stage]} for what, found in changed.items()}
    assert differ == {
        "task": {"reference", "supernets", "tables"},
        "steps": {"supernets", "tables"},
        "seeds": {"tables"},
        "bits": {"tables"},
    }


def test_stages_refer_to_stages() -> None:
    assert all(isinstance(STAGES[name], Stage) for stage in STAGES.values() for name in stage.after)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"estimation": {"epochs": 2}}, "estimation.epochs was 1, now 2"),
        ({"space": {"max_units": 4}}, "space.max_units was 3, now 4"),
        ({"limits": {"weight_bytes": 9000}}, "limits.weight_bytes was not set, now 9000"),
        ({"run": {"seed": 1}}, "run.seed was 0, now 1"),
    ],
)
def test_what_can_not_be_made_anew_is_refused(tmp_path: Path, changes: dict[str, dict[str, Any]], told: str) -> None:
    plan = load_plan(recipe(tmp_path))
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    folder.write_recipe(plan.recipe)
    before = folder.recipe.read_bytes()
    with pytest.raises(InputError, match=told):
        run(recipe(tmp_path, **changes), folder.path)
    assert folder.recipe.read_bytes() == before


def test_a_folder_of_version_0_1_goes_on(tmp_path: Path) -> None:
    plan, _ = run(recipe(tmp_path), tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    old = {name: dict(table) if isinstance(table, dict) else table for name, table in plan.recipe.items()}
    del old["task"]["stride_in_window"], old["finalists"]["start"]
    old["estimation"]["batch"] = 16
    folder.write_recipe(old)
    front = folder.front.read_bytes()
    run(recipe(tmp_path), folder.path)
    assert folder.front.read_bytes() == front
    load_plan(folder.recipe)  # `verify` reads the run's own


def test_batches_of_version_0_1_are_said_to_be_gone_and_change_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plan = load_plan(recipe(tmp_path))
    assert load_plan(recipe(tmp_path, estimation={"batch": 16})).recipe == plan.recipe
    assert "estimation.batch is no longer read" in caplog.text


# Inputs


def test_the_input_is_searched_and_everything_follows_from_the_candidate(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"space": {"search": ["input"]}, "strategy": {"trials": 5}, "estimation": {"jobs": 2}}
    changes["objectives"] = {"macs": "minimize", "peak_ram_bytes": "minimize", "weight_bytes": "minimize"}
    plan, result = run(recipe(tmp_path, finalists={"count": 3}, **changes), tmp_path / "run")
    assert not RunFolder(tmp_path / "run").prepared.exists()
    trials = pl.read_parquet(tmp_path / "run" / "trials.parquet")
    assert trials["window"].n_unique() > 2
    assert trials.select("window", "stride_in_window", "macs").unique().height == trials["macs"].n_unique()
    tried = [dict(row) for row in trials.select("window", "stride_in_window").iter_rows(named=True)]
    data = [plan.bench.data.of(values) for values in tried]
    assert len({entry.input_shape for entry in data}) > 2
    assert result.shipped
    for first, second in itertools.pairwise(data):  # the same samples, whatever their input
        assert (first.val.targets == second.val.targets).all()
        assert (first.test.extras["engine"] == second.test.extras["engine"]).all()
    for name, card in RunFolder(tmp_path / "run").cards().items():
        config = card.config["input"]
        steps = -(-int(config["window"]) // int(config["stride_in_window"]))
        assert card.input is not None
        assert card.input.shape[1] == steps
        assert card.preprocessing["window"] == config["window"], name
        (header,) = (tmp_path / "run" / "models" / name / "firmware").glob("src/run_*_preprocessing.h")
        assert f"_WINDOW {config['window']}\n" in header.read_text("utf-8")


# Columns


def test_a_setting_overwrites_no_column(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "odd_names.py").write_text(ODD_NAMES, "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    path = recipe(tmp_path, space={"name": "odd_names:OddNames"}, strategy={"trials": 4})
    content = re.sub(r"(max_units|seed_layers|seed_units) = \d\n", "", path.read_text("utf-8"))
    path.write_text(content, "utf-8")
    _, result = run(path, tmp_path / "run")
    trials = pl.read_parquet(tmp_path / "run" / "trials.parquet")
    front = pl.read_csv(tmp_path / "run" / "front.csv", infer_schema_length=None)
    for table in (trials, front):
        assert set(table["architecture.macs"]) <= {1, 2, 3}
        assert table["macs"].min() > 3  # type: ignore[operator]
        assert table["key"].str.len_chars().unique().to_list() == [12]
        assert set(table["architecture.key"]) <= {"a", "b"}
        assert set(table["architecture.mae_quantized"]) <= {"yes", "no"}
    assert trials["index"].to_list() == [0, 1, 2, 3]
    assert result.shipped


ODD_NAMES = """
from qanas.networks.lstm import LSTMNetwork
from qanas.search_space.network_space import NetworkSpace
from qanas.search_space.quantization_group import quantization_settings
from qanas.search_space.settings import Choice, Integer
from qanas.search_space.training_group import TrainingSettings, training_settings


class OddNames(NetworkSpace):
    def settings(self, shape):
        return [
            Integer("macs", "architecture", 2, low=1, high=3),
            Integer("index", "architecture", 2, low=1, high=3),
            Choice("key", "architecture", "a", options=("a", "b")),
            Choice("mae_quantized", "architecture", "yes", options=("yes", "no")),
            *training_settings(shape.losses, TrainingSettings(0.01, "adam", "none", 32, shape.losses[0])),
            *quantization_settings(),
        ]

    def build(self, candidate, shape):
        units = candidate.architecture["macs"]
        return LSTMNetwork(shape.input_shape[-1], [units], shape.output_size, shape.output_scale)
"""


# Latency, and the process around a run


def test_latency_is_measured_while_no_worker_is_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objectives = {"weight_bytes": "minimize", "latency_ms": "minimize"}
    plan = load_plan(recipe(tmp_path, objectives=objectives, estimation={"jobs": 2}, strategy={"trials": 6}))
    plan.check()
    search = Search(plan, _folder(tmp_path / "run"), LiveDisplay(Console(file=io.StringIO())))
    submitted = 0
    busy: list[int] = []

    def figure(self: Device, name: str, contents: list[bytes]) -> list[float]:
        del self, name
        busy.append(submitted)
        return [float(len(content)) for content in contents]

    monkeypatch.setattr(Device, "figure", figure)
    finish, submit = Search._finish, Search._next_units

    def next_units(self: Search, *args: Any) -> Any:  # noqa: ANN401 - passed on
        nonlocal submitted
        units = submit(self, *args)
        submitted += len(units)
        return units

    def finished(self: Search, *args: Any) -> None:  # noqa: ANN401 - passed on
        nonlocal submitted
        submitted -= 1
        finish(self, *args)

    monkeypatch.setattr(Search, "_next_units", next_units)
    monkeypatch.setattr(Search, "_finish", finished)
    search.run()
    assert len(busy) == 6
    assert set(busy) == {0}


def _folder(path: Path) -> RunFolder:
    path.mkdir()
    return RunFolder(path)


def test_a_run_leaves_the_callers_process_as_it_was(tmp_path: Path) -> None:
    path, verbosity, threads = list(sys.path), optuna.logging.get_verbosity(), torch.get_num_threads()
    torch.set_num_threads(2)
    optuna.logging.set_verbosity(optuna.logging.INFO)
    try:
        qanas.run(recipe(tmp_path), out=tmp_path / "run", progress=LiveDisplay(Console(file=io.StringIO())))
        assert torch.get_num_threads() == 2
        assert optuna.logging.get_verbosity() == optuna.logging.INFO
        assert sys.path == path
    finally:
        torch.set_num_threads(threads)
        optuna.logging.set_verbosity(verbosity)
