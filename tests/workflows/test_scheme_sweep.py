"""The choice of a quantization scheme before the search."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from rich.console import Console

from qanas.core.card import Card
from qanas.core.errors import InputError
from qanas.core.events import go_on
from qanas.core.run_folder import RunFolder
from qanas.core.seeds import derive_seed
from qanas.performance_estimation.procedure import FullTraining, TrainedNetwork
from qanas.planning import plan as plan_module
from qanas.planning import scheme_sweep
from qanas.planning.scheme_sweep import with_scheme_chosen
from qanas.quantization.scheme import Scheme, named_schemes
from qanas.reporting.live import LiveDisplay
from qanas.tasks.base import TaskData
from qanas.workflows.run import run_search

if TYPE_CHECKING:
    from pathlib import Path

    from tests.workflows.conftest import MakePlan

    from qanas.core.candidate import Candidate
    from qanas.core.events import Watch
    from qanas.performance_estimation.bench import Bench
    from qanas.search_space.start import Start

AUTO = {"quantization": {"scheme": "auto"}, "strategy": {"trials": 2}, "finalists": {"count": 1, "seeds": 1}}


def display() -> LiveDisplay:
    return LiveDisplay(Console(file=io.StringIO()))


def rows(folder: RunFolder) -> list[dict[str, str]]:
    with folder.scheme_sweep.open(newline="") as file:
        return list(csv.DictReader(file))


def card(folder: RunFolder) -> Card:
    return folder.cards()["seed"]


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The seeds of all trainings, in order."""
    seeds: list[int] = []
    make = FullTraining.make

    def counted(
        self: FullTraining, bench: Bench, candidate: Candidate, start: Start, seed: int, watch: Watch = go_on
    ) -> TrainedNetwork:
        seeds.append(seed)
        return make(self, bench, candidate, start, seed, watch)

    monkeypatch.setattr(FullTraining, "make", counted)
    return seeds


def test_the_best_of_all_schemes_on_the_seed_network_is_what_ships(
    make_plan: MakePlan, tmp_path: Path, trainings: list[int]
) -> None:
    plan, folder = make_plan(**AUTO), RunFolder(tmp_path / "run")
    run_search(plan, folder, display())
    found = rows(folder)
    assert [row["scheme"] for row in found] == scheme_sweep.swept_schemes()
    assert {row["metric"] for row in found} == {"worst_quantized"}
    best = min(found, key=lambda row: float(row["score"]))
    assert [row["scheme"] for row in found if row["chosen"] == "true"] == [best["scheme"]]
    assert len({row["score"] for row in found}) > 3
    sweep = derive_seed(plan.bench.seed, "scheme sweep")
    assert trainings.count(sweep) == 1, "the reference is trained once"
    # The score is that of the reference, trained with this seed and quantized so.
    bench = plan.with_scheme(best["scheme"]).bench
    again = plan.estimator.procedure.make(bench, bench.reference, bench.reference_start, sweep)
    val = bench.data_of(bench.reference).val
    assert again.evaluate(bench.task, val)["worst_quantized"] == float(best["score"])
    protocol = card(folder).protocol
    assert protocol["scheme"] == best["scheme"]
    assert protocol["quantization"] == named_schemes()[best["scheme"]].description()
    assert "minimal worst (quantized, validation) of the reference" in protocol["scheme_chosen"]


def test_a_metric_to_be_maximized_is(make_plan: MakePlan, tmp_path: Path) -> None:
    objectives = {"r2_quantized": "maximize", "worst_quantized": None, "weight_bytes": "minimize"}
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    with_scheme_chosen(make_plan(**AUTO, objectives=objectives), folder, display())
    found = rows(folder)
    best = max(found, key=lambda row: float(row["score"]))
    assert best["chosen"] == "true"


def test_the_sweep_is_the_same_every_time_and_an_earlier_sessions_choice_stays(
    make_plan: MakePlan, tmp_path: Path, trainings: list[int]
) -> None:
    folders = [RunFolder(tmp_path / name) for name in ("one", "two")]
    chosen = []
    for folder in folders:
        folder.path.mkdir()
        chosen.append(with_scheme_chosen(make_plan(**AUTO), folder, display()))
    assert folders[0].scheme_sweep.read_bytes() == folders[1].scheme_sweep.read_bytes()
    assert chosen[0].scheme.name == chosen[1].scheme.name != "auto"
    assert len(trainings) == 2
    other = next(name for name in named_schemes() if name != chosen[0].scheme.name)
    text = folders[0].scheme_sweep.read_text().replace("true", "false")
    lines = [line.replace("false", "true") if line.startswith(f"{other},") else line for line in text.splitlines()]
    folders[0].scheme_sweep.write_text("\n".join(lines) + "\n")
    assert with_scheme_chosen(make_plan(**AUTO), folders[0], display()).scheme.name == other
    assert len(trainings) == 2, "a resumed run doesn't train it again"


def test_a_damaged_sweep_is_refused(make_plan: MakePlan, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    folder.scheme_sweep.write_text("scheme,chosen\nint8,false\n")
    with pytest.raises(InputError, match=r"scheme_sweep\.csv: no row is the chosen one; remove the file"):
        with_scheme_chosen(make_plan(**AUTO), folder, display())


def test_schemes_that_a_network_can_not_have_are_listed_with_the_reason(
    make_plan: MakePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    schemes = {"elsewhere": Scheme(layers={"nowhere": {"weight_bits": 4}}), "int8": Scheme()}
    monkeypatch.setattr(scheme_sweep, "named_schemes", lambda: schemes)
    monkeypatch.setattr(plan_module, "named_schemes", lambda: schemes)
    plan = with_scheme_chosen(make_plan(**AUTO), folder, display())
    refused, chosen = rows(folder)
    assert (refused["scheme"], refused["score"], refused["chosen"]) == ("elsewhere", "", "false")
    assert "layers.nowhere: the network has no such layer" in refused["refused"]
    assert chosen["refused"] == ""
    assert plan.scheme.name == chosen["scheme"] == "int8"


def test_a_seed_network_that_can_not_be_trained_ends_the_run_with_one_line(make_plan: MakePlan, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    plan = make_plan(**AUTO, task={"level": math.nan})
    with pytest.raises(InputError, match=r"quantization\.scheme: the sweep over the reference failed: .*nan"):
        with_scheme_chosen(plan, folder, display())
    assert not folder.scheme_sweep.exists()


def test_a_named_scheme_is_what_ships_and_nothing_is_swept(make_plan: MakePlan, tmp_path: Path) -> None:
    plan, folder = make_plan(**{**AUTO, "quantization": {"scheme": "power_of_two_per_channel"}}), RunFolder(tmp_path)
    run_search(plan, folder, display())
    assert not folder.scheme_sweep.exists()
    found = card(folder)
    assert found.input is not None
    assert found.output is not None
    assert math.frexp(found.input.scale)[0] == math.frexp(found.output.scale)[0] == 0.5
    assert found.input.zero_point == found.output.zero_point == 0
    assert found.parity_steps.max == 0
    assert (found.protocol["scheme"], found.protocol["scheme_chosen"]) == ("power_of_two_per_channel", "by the recipe")
    assert folder.read_recipe()["quantization"] == {"scheme": "power_of_two_per_channel"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda values: np.full_like(values, 3.0), "every value of the calibration samples is 3"),
        (lambda values: np.where(values > 0.9, np.nan, values), "NaN"),
        (lambda values: np.where(values > 0.9, np.inf, values), "infinite"),
        (lambda values: values[:0], "give at least one sample"),
    ],
    ids=["constant", "NaN", "infinite", "empty"],
)
def test_data_that_no_range_can_be_taken_from_is_refused_before_anything_is_trained(
    make_plan: MakePlan,
    monkeypatch: pytest.MonkeyPatch,
    change: Any,  # noqa: ANN401
    message: str,
) -> None:
    sine = type(make_plan().bench.task)
    load = sine.load

    def changed(task: Any) -> TaskData:  # noqa: ANN401
        data: TaskData = load(task)
        inputs = change(data.train.inputs).astype(np.float32)
        return replace(data, train=replace(data.train, inputs=inputs, targets=data.train.targets[: len(inputs)]))

    monkeypatch.setattr(sine, "load", changed)
    with pytest.raises(InputError, match=f"^(task: training data|Sine.load: train): .*{message}"):
        make_plan()
