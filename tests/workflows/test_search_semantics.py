from __future__ import annotations

import csv
import io
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from qanas.core.errors import InputError
from qanas.core.events import go_on
from qanas.core.measures import Metric
from qanas.core.run_folder import RunFolder, read_table
from qanas.deployment.litert import LiteRTModel
from qanas.performance_estimation.procedure import FullTraining
from qanas.reporting.live import LiveDisplay
from qanas.shipping import finalists as finalists_module
from qanas.shipping.finalists import FinalistUnit
from qanas.shipping.models import median_training
from qanas.shipping.trainings import Training, TrainingFiles
from qanas.workflows.run import RunResult, run_search
from qanas.workflows.search import Search
from qanas.workflows.trial_store import TrialStore

if TYPE_CHECKING:
    from tests.workflows.conftest import MakePlan

    from qanas.core.candidate import Candidate
    from qanas.core.events import Watch
    from qanas.core.trials import TrialRecord
    from qanas.deployment.parity import ParitySteps
    from qanas.performance_estimation.bench import Bench
    from qanas.performance_estimation.procedure import TrainedNetwork
    from qanas.planning.plan import Plan
    from qanas.search_space.start import Start
    from qanas.shipping.trainings import Metrics
    from qanas.tasks.base import Task


def run(plan: Plan, path: Path) -> RunResult:
    return run_search(plan, RunFolder(path / "run"), LiveDisplay(Console(file=io.StringIO())))


def records(plan: Plan, path: Path) -> list[TrialRecord]:
    return TrialStore(RunFolder(path / "run").study, plan.axes, plan.limits).records


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Candidate]:
    """The candidates that were trained, in order."""
    calls: list[Candidate] = []
    make = FullTraining.make

    def counted(
        self: FullTraining, bench: Bench, candidate: Candidate, start: Start, seed: int, watch: Watch = go_on
    ) -> TrainedNetwork:
        calls.append(candidate)
        return make(self, bench, candidate, start, seed, watch)

    monkeypatch.setattr(FullTraining, "make", counted)
    return calls


class Follower:
    """Looks into the folder as often as it is let, and gives up at some time."""

    def __init__(self, folder: RunFolder, patience: int = 1000) -> None:
        self.folder, self.patience = folder, patience
        self.seen: list[tuple[str, int, object]] = []
        self.ended = False

    def due(self) -> bool:
        return True

    def show(self, doing: str) -> None:
        trials = read_table(self.folder.trials)
        self.seen.append((doing, len(trials), self.folder.read_summary().get("status")))
        if len(self.seen) > self.patience:
            raise KeyboardInterrupt

    def end(self) -> None:
        self.ended = True


def test_who_follows_a_run_finds_its_folder_up_to_date(make_plan: MakePlan, tmp_path: Path) -> None:
    plan = make_plan(strategy={"trials": 3}, finalists={"count": 1, "seeds": 1})
    folder = RunFolder(tmp_path / "run")
    follower = Follower(folder, patience=3)
    with pytest.raises(KeyboardInterrupt):
        run_search(plan, folder, LiveDisplay(Console(file=io.StringIO())), follower)
    assert follower.ended
    assert [entry[0] for entry in follower.seen[:2]] == ["it starts", "search: 0 of 3 trials done"]
    follower = Follower(folder)
    run_search(plan, folder, LiveDisplay(Console(file=io.StringIO())), follower)
    assert not follower.ended
    told = dict.fromkeys(doing.partition(":")[0] for doing, *_ in follower.seen)
    assert list(told)[:3] == ["it starts", "search", "finalists"]
    searched = [entry for entry in follower.seen if entry[0].startswith("search")]
    assert searched[-1] == ("search: 3 of 3 trials done", 3, "running")
    assert all(f"{trials} of 3" in doing for doing, trials, _ in searched)
    assert folder.read_summary()["status"] == "done"


def test_rejected_trials_cost_no_training_and_do_not_count(
    make_plan: MakePlan, tmp_path: Path, trained: list[Candidate]
) -> None:
    plan = make_plan(limits={"weight_bytes": 100}, finalists={"count": 1, "seeds": 1}, strategy={"trials": 5})
    result = run(plan, tmp_path)
    found = records(plan, tmp_path)
    rejected = [record for record in found if record.outcome == "rejected"]
    assert rejected
    assert sorted(record.index for record in found if record.outcome == "measured") == [0, 1, 2, 3, 4]
    assert len(trained) == 5 + len(result.shipments)
    assert not {record.candidate for record in rejected} & set(trained)
    for record in rejected:
        assert record.reason == f"weight_bytes {record.costs['weight_bytes']:g} > 100"
        assert record.train_seconds == 0
        assert not record.metrics
    assert all(point.measurement.costs["weight_bytes"] <= 100 for point in result.front)


def test_where_all_that_the_limits_leave_is_measured_the_search_ends(make_plan: MakePlan, tmp_path: Path) -> None:
    """Candidates that were rejected before are not rejected again, until the budget for that is spent."""
    few = {"name": "sine:ConvOrLSTM", "search": ["architecture"]}
    plan = make_plan(
        space=few, limits={"weight_bytes": 110}, finalists={"count": 1, "seeds": 1}, strategy={"trials": 40}
    )
    run(plan, tmp_path)
    found = records(plan, tmp_path)
    keys = {name: [r.candidate.key for r in found if r.outcome == name] for name in ("measured", "rejected")}
    assert 1 < len(keys["measured"]) < 40
    assert keys["rejected"]
    assert all(len(set(own)) == len(own) for own in keys.values())


def test_the_seed_network_is_trial_0_and_exempt_from_rejection(make_plan: MakePlan, tmp_path: Path) -> None:
    plan = make_plan(limits={"weight_bytes": 100}, strategy={"trials": 3, "max_rejected": 40})
    result = run(plan, tmp_path)
    seed = next(record for record in records(plan, tmp_path) if record.is_seed)
    assert (seed.index, seed.outcome, seed.feasible) == (0, "measured", False)
    assert seed.candidate == plan.bench.reference
    assert plan.bench.reference not in {point.candidate for point in result.front}
    assert result.shipments[0].finalist.identity == "seed"
    assert result.shipments[0].card is not None


PICKY = """
from sine import ConvOrLSTM
class Picky(ConvOrLSTM):
    def build(self, candidate, shape):
        if candidate.architecture["kind"] == "lstm":
            raise ValueError("no LSTM\\ntoday")
        return super().build(candidate, shape)
"""


def test_candidates_that_can_not_be_built_are_rejected_with_the_reason(
    make_plan: MakePlan, tmp_path: Path, trained: list[Candidate]
) -> None:
    (tmp_path / "picky.py").write_text(PICKY, "utf-8")
    plan = make_plan(space={"name": "picky:Picky"}, strategy={"trials": 5}, finalists={"count": 1, "seeds": 1})
    result = run(plan, tmp_path)
    found = records(plan, tmp_path)
    rejected = [record for record in found if record.outcome == "rejected"]
    assert {record.reason for record in rejected} == {"it can't be built: ValueError: no LSTM today (picky.py, line 6)"}
    assert {record.candidate.architecture["kind"] for record in rejected} == {"lstm"}
    assert not any(record.costs or record.metrics for record in rejected)
    assert sorted(record.index for record in found if record.outcome == "measured") == [0, 1, 2, 3, 4]
    assert {candidate.architecture["kind"] for candidate in trained} == {"conv"}
    assert result.shipped == 2


def test_a_space_that_refuses_nearly_everything_ends_the_run_with_the_reason(
    make_plan: MakePlan, tmp_path: Path
) -> None:
    (tmp_path / "picky.py").write_text(PICKY, "utf-8")
    plan = make_plan(space={"name": "picky:Picky"}, strategy={"trials": 500, "max_rejected": 2})
    with pytest.raises(InputError, match=r"^space: 2 of 2 candidates were rejected .*, the last: it can't be built"):
        run(plan, tmp_path)


SYSTEMS = {
    "NAS": (["architecture"], {"worst_float": "minimize", "float_weight_bytes": "minimize"}),
    "NAS & HPO": (["architecture", "training"], {"worst_float": "minimize", "float_weight_bytes": "minimize"}),
    "QA-NAS & HPO": (
        ["architecture", "training", "quantization"],
        {"worst_quantized": "minimize", "weight_bytes": "minimize"},
    ),
}


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_recipe_alone_tells_the_systems_apart(make_plan: MakePlan, tmp_path: Path, system: str) -> None:
    search, objectives = SYSTEMS[system]
    left_out = dict.fromkeys(("worst_quantized", "weight_bytes"))
    plan = make_plan(
        space={"search": search}, objectives={**left_out, **objectives}, strategy={"trials": 8, "name": "tpe"}
    )
    result = run(plan, tmp_path)
    found = records(plan, tmp_path)
    seed = plan.bench.reference
    assert len({record.candidate for record in found}) > 1
    assert all((record.candidate.training == seed.training) == ("training" not in search) for record in found[1:])
    scored, cost = objectives
    best = [tuple(point.measurement.value(axis) for axis in plan.axes) for point in result.front]
    assert [axis.column for axis in plan.axes] == [scored, cost]
    for record in found:
        point = (record.metrics[scored], record.costs[cost])
        assert point in best or any(a <= point[0] and b <= point[1] for a, b in best)


def test_a_metric_that_is_better_large(make_plan: MakePlan, tmp_path: Path) -> None:
    plan = make_plan(objectives={"worst_quantized": None, "weight_bytes": None, "r2_quantized": "maximize"})
    result = run(plan, tmp_path)
    found = records(plan, tmp_path)
    assert [point.measurement.value(Metric("r2", better="maximize")) for point in result.front] == [
        max(record.metrics["r2_quantized"] for record in found)
    ]


def test_nan_fails_the_trial_with_its_reason_and_the_run_goes_on(make_plan: MakePlan, tmp_path: Path) -> None:
    plan = make_plan(task={"level": float("nan")})
    result = run(plan, tmp_path)
    found = records(plan, tmp_path)
    assert [record.outcome for record in found] == ["failed"] * 4
    assert all("the training loss became nan in epoch 1" in record.reason for record in found)
    assert (result.shipped, [s.finalist.identity for s in result.failed]) == (0, ["seed"])
    assert "nan" in result.failed[0].failure


def test_an_unexpected_error_fails_the_trial_and_its_traceback_is_in_the_log(
    make_plan: MakePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = FullTraining.make

    def fragile(
        self: FullTraining, bench: Bench, candidate: Candidate, start: Start, seed: int, watch: Watch = go_on
    ) -> TrainedNetwork:
        if candidate.architecture["kind"] == "lstm":
            raise ZeroDivisionError("over\nseveral lines")
        return make(self, bench, candidate, start, seed, watch)

    monkeypatch.setattr(FullTraining, "make", fragile)
    plan = make_plan(strategy={"trials": 8})
    run(plan, tmp_path)
    failed = [record for record in records(plan, tmp_path) if record.outcome == "failed"]
    assert failed
    (reason,) = {record.reason for record in failed}
    assert reason.startswith("ZeroDivisionError: over several lines (test_search_semantics.py, line ")
    assert "Traceback" in (tmp_path / "run" / "log.txt").read_text("utf-8")


@pytest.mark.slow
def test_a_worker_that_dies_fails_its_trial_and_not_the_run(make_plan: MakePlan, tmp_path: Path) -> None:
    plan = make_plan(
        space={"deadly": 1, "most": 2},
        estimation={"jobs": 2},
        strategy={"trials": 6},
        finalists={"count": 1, "seeds": 1},
    )
    result = run(plan, tmp_path)
    found = records(plan, tmp_path)
    assert len(found) == 6
    failed = [record for record in found if record.outcome == "failed"]
    assert failed
    (reason,) = {record.reason for record in failed}
    assert reason.startswith("the worker process ended with exit code -9 (killed, as the system does ")
    assert {record.config["architecture"]["width"] for record in failed} == {1}
    assert result.shipped


def test_hours_stop_the_search_and_the_finalists_still_ship(
    make_plan: MakePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += 60.0
        return now

    monkeypatch.setattr("qanas.workflows.search.time.monotonic", clock)
    plan = make_plan(strategy={"trials": 500, "hours": 0.5})
    result = run(plan, tmp_path)
    found = records(plan, tmp_path)
    assert 2 <= len(found) <= 30
    assert result.shipped >= 1
    again = run(plan, tmp_path)
    assert len(records(plan, tmp_path)) == len(found), "an exhausted budget is not renewed"
    assert again.shipped == result.shipped


def test_hours_are_spent_by_trials_that_are_cut_off_as_well(
    make_plan: MakePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> TrainedNetwork:
        time.sleep(0.2)
        raise KeyboardInterrupt

    monkeypatch.setattr(FullTraining, "make", interrupted)
    plan = make_plan(strategy={"trials": 500, "hours": 0.3 / 3600})
    for session in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            run(plan, tmp_path)
        seconds = RunFolder(tmp_path / "run").read_summary()["seconds"]["search"]
        assert seconds >= 0.2 * session
    monkeypatch.undo()
    search = Search(plan, RunFolder(tmp_path / "run"), LiveDisplay(Console(file=io.StringIO())))
    search.run()
    assert not search.records


def test_what_finalists_took_is_counted_where_they_end_early(
    make_plan: MakePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = FinalistUnit.run

    def interrupted(self: FinalistUnit, bench: Bench, watch: Watch) -> Training:
        if self.repetition:
            raise KeyboardInterrupt
        return train(self, bench, watch)

    monkeypatch.setattr(FinalistUnit, "run", interrupted)
    plan = make_plan(strategy={"trials": 1}, finalists={"count": 1, "seeds": 2})
    with pytest.raises(KeyboardInterrupt):
        run(plan, tmp_path)
    summary = RunFolder(tmp_path / "run").read_summary()
    before = summary["seconds"]["finalists"]
    assert summary["status"] == "interrupted"
    assert before > 0
    monkeypatch.setattr(FinalistUnit, "run", train)
    run(plan, tmp_path)
    assert RunFolder(tmp_path / "run").read_summary()["seconds"]["finalists"] > before


def test_the_median_training_ships(make_plan: MakePlan, tmp_path: Path) -> None:
    plan = make_plan()
    result = run(plan, tmp_path)
    for shipment in result.shipments:
        key = shipment.finalist.candidate.key
        paths = [tmp_path / "run" / "trainings" / key / f"{seed}.json" for seed in range(3)]
        trainings = [TrainingFiles(path.parent, int(path.stem)).read() for path in paths]
        scores = [t.metrics["quantized"]["val"]["worst"] for t in trainings if t is not None]
        assert shipment.card is not None
        assert shipment.card.metric("quantized", "val", "worst").shipped == sorted(scores)[1]
        assert shipment.card.metric("quantized", "val", "worst").mean == pytest.approx(sum(scores) / 3)
        assert shipment.card.metric("quantized", "val", "worst").n == 3
        shipped = next(
            t for t in trainings if t is not None and t.repetition == shipment.card.protocol["shipped_training"]
        )
        assert shipped.sha256 == shipment.card.sha256


@pytest.mark.parametrize(
    ("metric", "scores", "position"),
    [
        ("worst", [3.0, 1.0, 2.0], 2),
        ("worst", [4.0, 1.0, 3.0, 2.0], 3),
        ("worst", [5.0], 0),
        ("r2", [4.0, 1.0, 3.0, 2.0], 2),
    ],
)
def test_of_an_even_number_the_better_one_is_the_median(
    make_plan: MakePlan, metric: str, scores: list[float], position: int
) -> None:
    trainings = [
        replace(Training.failed(seed, ""), metrics={"quantized": {"val": {metric: score}}})
        for seed, score in enumerate(scores)
    ]
    directions = {"worst": "minimize", "r2": "maximize"}
    plan = make_plan(objectives={"worst_quantized": None, f"{metric}_quantized": directions[metric]})
    assert median_training(plan, trainings) == position


def test_a_model_outside_parity_is_reported_and_never_shipped(
    make_plan: MakePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: list[Candidate]
) -> None:
    plan = make_plan(strategy={"trials": 6})
    first = run(plan, tmp_path)
    other = next(s.finalist.identity for s in first.shipments if s.finalist.identity != "seed")
    assert (tmp_path / "run" / "models" / other).is_dir()

    judge = finalists_module._parity_failure

    def strict(task: Task, steps: ParitySteps, metrics: Metrics) -> str:
        mine = trained[-1].key == other  # parity is judged right after the training
        return "outside parity on val: made up" if mine else judge(task, steps, metrics)

    monkeypatch.setattr(finalists_module, "_parity_failure", strict)
    for path in (tmp_path / "run" / "trainings" / other).glob("*.json"):
        path.unlink()  # trained again, and judged more strictly
    result = run(plan, tmp_path)
    assert [(s.finalist.identity, s.failure) for s in result.failed] == [(other, "outside parity on val: made up")]
    assert result.shipped == first.shipped - 1
    assert not (tmp_path / "run" / "models" / other).exists()
    with (tmp_path / "run" / "finalists.csv").open(newline="") as file:
        told = {row["candidate"]: (row["status"], row["reason"]) for row in csv.DictReader(file)}
    assert told[other] == ("failed", "outside parity on val: made up")
    with (tmp_path / "run" / "front.csv").open(newline="") as file:
        assert other not in {row["candidate"] for row in csv.DictReader(file)}
    summary = RunFolder(tmp_path / "run").read_summary()
    assert summary["finalists"]["failed"] == 1
    assert summary["finalists"]["failures"] == [{"candidate": other, "reason": "outside parity on val: made up"}]


def test_parity_itself_is_judged_on_the_written_file(
    make_plan: MakePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = LiteRTModel.codes
    monkeypatch.setattr(
        LiteRTModel, "codes", lambda self, inputs: {name: found // 2 for name, found in codes(self, inputs).items()}
    )
    result = run(make_plan(), tmp_path)
    assert result.shipped == 0
    assert all("outside parity on val: outputs differ by up to" in s.failure for s in result.failed)
    assert not list((tmp_path / "run").glob("models/*"))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"space": {"name": "twice:Twice"}}, "two settings are called 'width'"),
        ({"space": {"name": "twice:Untrained"}}, "learning_rate"),
        ({"space": {"name": "twice:Unknown"}}, "lgamma has no operator"),
    ],
)
def test_a_space_that_cannot_be_searched(
    make_plan: MakePlan, tmp_path: Path, changes: dict[str, Any], expected: str
) -> None:
    (tmp_path / "twice.py").write_text(
        "import torch\n"
        "from torch import nn\n"
        "from sine import ConvOrLSTM\n"
        "class LogGamma(nn.Module):\n"
        "    def forward(self, x):\n"
        "        return torch.lgamma(x * x + 1.0)\n"
        "class Twice(ConvOrLSTM):\n"
        "    def settings(self, shape):\n"
        "        return super().settings(shape) + super().settings(shape)[1:2]\n"
        "class Untrained(ConvOrLSTM):\n"
        "    def settings(self, shape):\n"
        "        return super().settings(shape)[:3]\n"
        "class Unknown(ConvOrLSTM):\n"
        "    def build(self, candidate, shape):\n"
        "        return nn.Sequential(nn.Linear(1, 1), LogGamma())\n",
        "utf-8",
    )
    with pytest.raises(InputError, match=expected) as caught:
        run(make_plan(**changes), tmp_path)
    assert str(caught.value).startswith("space: ")
