"""Baselines: trained and shipped beside finalists, of which they change nothing."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import polars as pl
import pytest
import tomli_w
from numpy.typing import NDArray
from rich.console import Console
from tests.workflows import blockwise_runs
from torch import Tensor

from qanas.core.errors import InputError
from qanas.core.run_folder import RunFolder, read_table
from qanas.planning.plan import Plan
from qanas.recipe import load_plan
from qanas.reporting.live import LiveDisplay
from qanas.reporting.report import write_report
from qanas.shipping import baselines
from qanas.shipping.baselines import baselines_of, constant_scores
from qanas.shipping.finalists import variant_of
from qanas.shipping.shipped import pick_model, verify_models
from qanas.shipping.trainings import training_files
from qanas.tasks.base import Task, TaskData
from qanas.tasks.samples import FloatArray, Split
from qanas.workflows.run import RunResult, run_search

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.workflows.conftest import MakePlan

STEPS = 8


@dataclass(frozen=True)
class Slopes(Task):
    """Tell how steep noisy lines are; or, of their mean and slope, the same.

    Attributes:
        described: whether a network is given those.
    """

    described: bool = False

    metrics: ClassVar[Mapping[str, Any]] = {"mae": "minimize"}
    losses: ClassVar[tuple[str, ...]] = ("mse",)
    unit: ClassVar[str] = "line"

    def fingerprint(self) -> str:
        return "slopes"

    def load(self) -> TaskData:
        generator = np.random.default_rng(0)
        train, val, test = (self._split(generator, count) for count in (96, 40, 41))
        return TaskData(train, val, test, 1, preprocessing={"described": self.described})

    def _split(self, generator: np.random.Generator, count: int) -> Split:
        slopes = generator.normal(size=(count, 1))
        times = np.arange(STEPS) - (STEPS - 1) / 2
        lines = slopes * times + generator.normal(size=(count, STEPS))
        if self.described:
            lines = np.stack([lines.mean(axis=1), lines @ times / (times @ times)], axis=1)
        return Split(lines.astype(np.float32), slopes.astype(np.float32), {"line": np.arange(count) // 2})

    def with_features(self) -> Slopes:
        return replace(self, described=True)

    def units(self, split: Split) -> NDArray[Any]:
        return split.extras["line"]

    def loss(self, kind: str, outputs: Tensor, targets: Tensor) -> Tensor:
        del kind
        return ((outputs - targets) ** 2).mean()

    def evaluate(self, outputs: FloatArray, split: Split) -> dict[str, float]:
        return {"mae": float(np.abs(outputs - split.targets).mean())}


TABLES: dict[str, dict[str, Any]] = {
    "task": {"name": "tests.workflows.test_baselines:Slopes"},
    "space": {"name": "dense", "max_units": 8, "seed_units": 32},
    "strategy": {"name": "random", "trials": 2},
    "estimation": {"epochs": 2, "calibration_samples": 64},
    "objectives": {"mae_quantized": "minimize", "weight_bytes": "minimize"},
    "finalists": {"count": 1, "seeds": 2},
    "device": {"name": "host", "also": ["stm32l4r5"]},
}
NETWORKS = ["linear", "dense-4", "dense-12", "narrowed-4", "narrowed-8", "narrowed-16", "4-bits"]
MADE = [f"baseline-{name}" for name in NETWORKS]


def plan_of(folder: Path, **changes: dict[str, Any]) -> Plan:
    path = folder / "recipe.toml"
    path.write_text(tomli_w.dumps({**TABLES, **changes}), "utf-8")
    plan = load_plan(path)
    plan.check()
    return plan


def run(plan: Plan, folder: RunFolder) -> RunResult:
    return run_search(plan, folder, LiveDisplay(Console(file=io.StringIO())))


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Plan, RunResult]]:
    """A run with baselines after one without in the same folder; dense networks are trained for a moment."""
    folder = tmp_path_factory.mktemp("baselines")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baselines, "DENSE_STEPS", 60)
        without = plan_of(folder, baselines={"enabled": False})
        run(without, RunFolder(folder / "run"))
        (folder / "before").mkdir()
        for name in ("front.csv", "finalists.csv"):
            (folder / "before" / name).write_bytes((folder / "run" / name).read_bytes())
        plan = plan_of(folder)
        yield plan, run(plan, RunFolder(folder / "run"))


def test_they_ship_as_finalists_do(ran: tuple[Plan, RunResult]) -> None:
    plan, result = ran
    assert [shipment.finalist.identity for shipment in result.baselines] == MADE
    assert [shipment.failure for shipment in result.baselines] == [""] * len(MADE)
    cards = result.folder.cards()
    assert {name for name, card in cards.items() if card.kind == "baseline"} == set(MADE)
    assert cards["seed"].kind == "reference"
    dense, linear, narrow, bits = (cards[f"baseline-{n}"] for n in ("dense-4", "linear", "narrowed-4", "4-bits"))
    assert (dense.macs, linear.macs, cards["seed"].macs) == (2 * 4 + 4, 2, 32 * STEPS + 32)
    assert dense.protocol["baseline"] == "a dense network of 4 hidden units on the task's features"
    assert dense.preprocessing == {"described": True}
    assert narrow.config["architecture"]["units_1"] == 8
    assert bits.file_bytes < cards["seed"].file_bytes
    assert bits.metrics["float"] == cards["seed"].metrics["float"]  # the reference's own trainings
    assert [verdict.differences for verdict in verify_models(plan, result.folder)] == [()] * len(cards)
    assert {tuple(card.latency_ms) for card in cards.values()} == {("host", "stm32l4r5")}
    assert cards["seed"].latency_ms["stm32l4r5"].cycles > dense.latency_ms["stm32l4r5"].cycles  # type: ignore[operator]
    picked = pick_model(result.folder, [])
    assert picked.identity in cards


def test_the_tables_of_today_keep_their_values(ran: tuple[Plan, RunResult]) -> None:
    _, result = ran
    before = result.folder.path.parent / "before"
    assert result.folder.front.read_bytes() == (before / "front.csv").read_bytes()
    old, new = (read_table(folder / "finalists.csv") for folder in (before, result.folder.path))
    assert new.select(old.columns).head(len(old)).equals(old)
    added = new.tail(len(new) - len(old))
    assert added["candidate"].to_list() == [*MADE, "baseline-constant"]
    assert set(added["kind"]) == {"baseline"}
    assert new["kind"].head(len(old)).to_list() == ["reference", *["found"] * (len(old) - 1)]
    constant = new.filter(pl.col("status") == "scored")
    assert constant["weight_bytes"].is_null().all()
    assert 0.5 < constant["mae_float_test_mean"].item() < 1.5


def test_the_summary_and_the_report_tell_of_them(ran: tuple[Plan, RunResult]) -> None:
    _, result = ran
    summary = result.folder.read_summary()
    assert summary["finalists"]["shipped"] == result.shipped
    assert summary["baselines"]["shipped"] == len(MADE)
    assert set(summary["verdict"]["difference_from_best"]) == {"seed", *MADE, *_found(result)}
    assert summary["verdict"]["ranked"] == result.shipped
    page = write_report(result.folder).read_text("utf-8")
    assert f"besides the reference and {len(MADE)} baselines" in page
    assert "The best constant has MAE" in page
    assert "A square is a baseline" in page
    assert "a linear network on the task&#39;s features" in page
    for sentence in summary["verdict"]["sentences"]:
        assert sentence.split(" (")[0] in page.replace("&#39;", "'")


def _found(result: RunResult) -> list[str]:
    return [s.finalist.identity for s in result.shipments if s.finalist.kind == "found"]


def test_run_again_they_are_there_and_switched_off_they_are_not(ran: tuple[Plan, RunResult], tmp_path: Path) -> None:
    plan, result = ran
    files = {path: path.stat().st_mtime_ns for path in result.folder.models.rglob("*")}
    table = result.folder.finalists.read_bytes()
    run(plan, result.folder)
    assert {path: path.stat().st_mtime_ns for path in result.folder.models.rglob("*")} == files
    assert result.folder.finalists.read_bytes() == table
    run(plan_of(tmp_path, baselines={"names": ["linear"]}), result.folder)
    assert [name for name in result.folder.cards() if name.startswith("baseline")] == ["baseline-linear"]
    run(plan_of(tmp_path, baselines={"enabled": False}), result.folder)
    assert not [name for name in result.folder.cards() if name.startswith("baseline")]
    run(plan, result.folder)  # as it was, for whichever test is next
    assert result.folder.finalists.read_bytes() == table


def test_a_task_without_features_has_what_its_space_can_narrow(make_plan: MakePlan) -> None:
    plan = make_plan(baselines={"enabled": True})
    assert baselines_of(plan) == []  # nor are four bits smaller, of a network of nine weights
    scores = constant_scores(plan)
    assert scores.keys() == {"val", "test"}
    assert scores["val"].keys() == plan.bench.task.metrics.keys()


def test_of_classes_the_constant_is_their_shares(tmp_path: Path) -> None:
    plan = load_plan(blockwise_runs.recipe(tmp_path, baselines={"enabled": True}))
    data = plan.bench.data_of(plan.bench.reference)
    commonest = np.bincount(data.train.targets.reshape(-1)).argmax()
    found = constant_scores(plan)["val"]["pixel_accuracy"]
    assert found == pytest.approx((data.val.targets == commonest).mean())


def test_one_that_can_not_be_made_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plan = plan_of(tmp_path)

    def broken(*_: object) -> Task:
        raise ZeroDivisionError("no features today")

    monkeypatch.setattr(type(plan.bench.task), "with_features", broken)
    monkeypatch.setattr(type(plan.bench.task), "evaluate", broken)
    assert [baseline.finalist.identity for baseline in baselines_of(plan)] == MADE[3:]
    assert constant_scores(plan) == {}
    assert "baseline linear is left out: ZeroDivisionError: no features today" in caplog.text
    assert "baseline constant is left out" in caplog.text


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ({"names": ["dence"]}, r"baselines\.names\.0: 'dence' is not .*; did you mean 'dense'\?"),
        ({"enable": False}, r"baselines\.enable: unknown key; did you mean 'enabled'\?"),
    ],
)
def test_a_misspelt_one_is_refused(tmp_path: Path, table: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        plan_of(tmp_path, baselines=table)


def test_their_trainings_are_no_candidates_of_the_same_key(tmp_path: Path) -> None:
    """A dense network on features and the reference, four bits packed or not: other files of the same key."""
    space = {**TABLES["space"], "seed_units": 4, "search": ["quantization"], "weight_bits": [8, 4]}
    epochs = {"epochs": baselines.MOST_DENSE_EPOCHS}
    plan = plan_of(tmp_path, space=space, estimation=epochs, reference={"tune": 0})
    folder, procedure = RunFolder(tmp_path / "run"), plan.finalists.procedure
    made = {baseline.finalist.identity: baseline.finalist for baseline in baselines_of(plan)}
    assert made["baseline-dense-4"].candidate.key == plan.bench.reference.key
    for own in (made["baseline-dense-4"], made["baseline-4-bits"]):
        found = replace(own, identity=own.candidate.key, variant=variant_of(plan, procedure), described="")
        assert training_files(folder, own, 0).folder != training_files(folder, found, 0).folder
