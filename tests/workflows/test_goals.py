"""Scores that are to be reached, and which points of a front are worth training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.workflows.test_verdict import METRIC, put

from qanas.core.card import Latency, Statistic
from qanas.core.errors import InputError
from qanas.core.measures import Cost, Goal
from qanas.core.run_folder import RunFolder, write_atomically
from qanas.core.trials import TrialRecord
from qanas.reporting.headline import sentences
from qanas.reporting.models import model_table
from qanas.reporting.report import write_report
from qanas.reporting.run_data import read_run
from qanas.shipping.choice import choose
from qanas.shipping.shipped import goals_of, parse_goal, parse_limit, pick_model
from qanas.shipping.verdict import recommend

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.workflows.conftest import MakePlan

    from qanas.planning.plan import Plan

DIRECTIONS: Any = {"mae": "minimize", "accuracy": "maximize"}


def test_a_goal_is_at_least_or_at_most_by_its_metric() -> None:
    least, most = (Goal.parse(name, bound, DIRECTIONS) for name, bound in (("accuracy_quantized", 0.9), ("mae", 9)))
    assert (least.told(), most.told()) == ("accuracy >= 0.9", "mae <= 9")
    assert least.lacking(0.91) < 0 < least.lacking(0.89)
    assert most.lacking(9.0) == 0
    assert most.lacking(float("nan")) == float("inf")
    for wrong in ("acuracy_quantized", "weight_bytes", "accuracy_deploid"):
        with pytest.raises(InputError, match=f"goals.{wrong}: unknown goal"):
            Goal.parse(wrong, 1.0, DIRECTIONS)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """Three models of mean errors of about 10, 10.5 and 12, the worst one the smallest."""
    folder = RunFolder(tmp_path)
    tables: dict[str, Any] = {"task": {"name": "lines"}, "goals": {"mae_quantized": 11.0}}
    folder.write_recipe(tables | {"objectives": {"mae_quantized": "minimize", "weight_bytes": "minimize"}})
    put(folder, "seed", 9000, {"val": 0.0, "test": 0.0}, 1)
    put(folder, "good", 900, {"val": 0.5, "test": 3.0}, 2)
    put(folder, "small", 90, {"val": 2.0, "test": 2.0}, 3)
    return folder


def test_what_is_over_a_limit_of_the_recipe_is_picked_only_where_nothing_else_is_left(run: RunFolder) -> None:
    run.write_recipe(run.read_recipe() | {"limits": {"weight_bytes": 1000.0}})
    assert pick_model(run, []).identity == "good"
    assert "of the 2 of 3 shipped models with weight_bytes <= 1000" in pick_model(run, []).reason
    assert pick_model(run, [parse_limit("weight_bytes=10 kB")]).identity == "seed"  # in place of the recipe's
    run.write_recipe(run.read_recipe() | {"limits": {"weight_bytes": 1048576.0}})
    assert "with weight_bytes <= 1048576;" in pick_model(run, []).reason  # not 1.04858e+06
    run.write_recipe(run.read_recipe() | {"limits": {"weight_bytes": 10.0}})
    picked = pick_model(run, [])
    assert picked.identity == "seed"
    assert picked.warning == "seed is over the recipe's limits: weight_bytes 9000 > 10"


def test_a_score_that_is_not_defined_is_the_worst(run: RunFolder) -> None:
    seed = run.cards()["seed"]
    undefined = {"deployed": {split: {"mae": Statistic.of([float("nan")], 0)} for split in ("val", "test")}}
    write_atomically(run.model("seed") / "card.json", seed.model_copy(update={"metrics": undefined}).to_json().encode())
    assert pick_model(run, []).identity == "good"


def test_a_model_of_which_a_cost_is_not_known_is_over_any_limit_on_it(run: RunFolder) -> None:
    good = run.cards()["good"].model_copy(update={"latency_ms": {}})
    write_atomically(run.model("good") / "card.json", good.to_json().encode())
    assert pick_model(run, [parse_limit("latency_ms=1"), parse_limit("latency_ms@host=1")]).identity == "seed"


def test_the_smallest_that_reaches_it_is_recommended_and_picked(run: RunFolder) -> None:
    goals = goals_of(run)
    found = recommend(run, METRIC, (), goals)
    assert found is not None
    assert (found.name, found.best) == ("good", "seed")
    assert found.sentences[0].startswith(
        "Take good: the smallest that reaches mae <= 11 on validation data, as 2 of 3 shipped models do: "
    )
    assert found.sentences[0].endswith(", which misses it.")  # on test data
    assert pick_model(run, [], goals).identity == "good"
    assert pick_model(run, []).identity == "seed"
    assert pick_model(run, [], [parse_goal("mae=20", run)]).identity == "small"
    with pytest.raises(InputError, match=r"reaches mae <= 11 on validation data; the closest is small"):
        pick_model(run, [parse_limit("weight_bytes=100")], goals)
    nothing = recommend(run, METRIC, (), [parse_goal("mae=1", run)])
    assert nothing is not None
    assert nothing.sentences[0].startswith("No shipped model within the limits reaches mae <= 1 on validation data")
    assert nothing.sentences[1].startswith("Take seed")
    with pytest.raises(InputError, match="--goal mae: give a metric and a number"):
        parse_goal("mae", run)


def test_what_is_picked_of_a_run_that_has_not_ended_is_not_the_last_word(run: RunFolder) -> None:
    for status, told in (("done", ""), ("interrupted", "the run has not ended, and may ship others: ")):
        run.write_summary({"status": status})
        for wanted in ([], goals_of(run)):
            assert pick_model(run, [], wanted).warning.partition("go on")[0] == told


def test_the_closest_to_a_goal_is_within_the_limits(run: RunFolder) -> None:
    found = recommend(run, METRIC, [parse_limit("weight_bytes=100")], goals_of(run))
    assert found is not None
    assert found.name == "small"
    assert found.sentences[0].startswith(
        "No shipped model within the limits reaches mae <= 11 on validation data; the closest is small with mae "
    )
    nothing = recommend(run, METRIC, [parse_limit("weight_bytes=10")], goals_of(run))
    assert nothing is not None
    assert nothing.sentences[0] == "No shipped model is within the limits, so that none there reaches mae <= 11."


def test_a_file_that_reaches_it_by_luck_says_so(run: RunFolder) -> None:
    card = run.cards()["good"]
    lucky = Statistic.of([card.metric("deployed", "val", "mae").shipped, 13.0], 0)
    card.metrics["deployed"]["val"]["mae"] = lucky
    (run.model("good") / "card.json").write_text(card.to_json())
    found = recommend(run, METRIC, (), goals_of(run))
    assert found is not None
    told = f"; this file does, its network not always: mae {lucky.mean:.4g} on average over 2 trainings."
    assert found.sentences[0].endswith(told)


def test_tables_and_headline_follow_it(run: RunFolder) -> None:
    found = recommend(run, METRIC, (), goals_of(run))
    assert found is not None
    run.write_summary({"status": "done", "verdict": found.as_json()})
    data = read_run(run)
    column = next(column for column in model_table(data).columns if column.title == "goal")
    assert [cell.text for cell in column.cells] == ["reached", "missed", "reached"]
    assert column.unit == "mae <= 11"
    told = sentences(data)
    assert told[0] == found.sentences[0]
    assert any(sentence.startswith("The smallest, good, has") for sentence in told)
    assert "mae &lt;= 11" in write_report(run).read_text("utf-8")


def test_where_a_devices_latency_is_searched_the_fastest_is_taken(run: RunFolder) -> None:
    cost = Cost("latency_ms", "board")
    run.write_recipe(run.read_recipe() | {"objectives": {"mae_quantized": "minimize", cost.column: "minimize"}})
    for name, ms in {"seed": 5.0, "good": 4.0, "small": 3.0}.items():
        card = run.cards()[name]
        slower = {"host": card.latency_ms["host"], cost.device: Latency(ms=ms, kernels="a formula")}
        larger = card.model_copy(update={"latency_ms": slower, "file_bytes": 10**5 - card.file_bytes})
        write_atomically(run.model(name) / "card.json", larger.to_json().encode())
    goals = [parse_goal("mae=20", run)]
    found = recommend(run, METRIC, (), goals, [cost])
    assert found is not None
    assert found.name == pick_model(run, [], goals).identity == "small"
    run.write_summary({"status": "done"})
    told = sentences(read_run(run))
    assert any(sentence.startswith("The fastest, good, has 4 ms of latency on board") for sentence in told)


def test_without_intervals_the_best_is_recommended(run: RunFolder) -> None:
    for path in run.models.glob("*/card.json"):
        content = json.loads(path.read_text("utf-8"))
        del content["intervals"]
        path.write_text(json.dumps(content), "utf-8")
    found = recommend(run, METRIC)
    assert found is not None
    (sentence,) = found.sentences
    assert sentence.startswith("Take seed (the reference) unless something else decides: the best on validation data: ")


def _front(plan: Plan, scores: list[float]) -> list[TrialRecord]:
    """Points of which the better are the larger ones; sizes and scores alone are told."""
    config = plan.bench.reference.config
    return [
        TrialRecord(place, "measured", config, {"weight_bytes": 100.0 / score}, {"worst_quantized": score})
        for place, score in enumerate(scores)
    ]


@pytest.mark.parametrize(
    ("scores", "constant", "kept"),
    [
        ([1.0, 2.0, 4.0, 8.0, 9.0], 10.0, [1.0, 2.0, 4.0]),  # 8 and 9 are nearer to the constant's 10
        ([1.0, 2.0], 2.0, [1.0]),
        ([3.0, 4.0], 2.0, [3.0, 4.0]),  # none is better than the constant: there is nothing to choose by
        ([1.0, 2.0], None, [1.0, 2.0]),
    ],
)
def test_finalists_are_where_scores_are_useful(
    make_plan: MakePlan, scores: list[float], constant: float | None, kept: list[float]
) -> None:
    plan = make_plan()
    found = choose(plan, _front(plan, scores), {} if constant is None else {"val": {"worst": constant}})
    assert [record.metrics["worst_quantized"] for record in found.front] == kept
    assert bool(found.reason) == (len(kept) < len(scores))


def test_finalists_reach_the_goal_the_smallest_first(make_plan: MakePlan) -> None:
    plan = make_plan(goals={"worst_quantized": 4.0}, finalists={"count": 4})
    found = choose(plan, _front(plan, [1.0, 2.0, 4.0, 8.0, 9.0]), {})
    assert [record.metrics["worst_quantized"] for record in found.front] == [4.0, 2.0, 1.0, 8.0]
    assert [record.metrics["worst_quantized"] for record in found.first] == [4.0]
    assert found.reason == ("3 of 5 front points reach worst <= 4 in the search; with them 1 that misses it by least")
    assert plan.recipe["goals"] == {"worst_quantized": 4.0}


def test_a_wrong_goal_is_refused(make_plan: Callable[..., Plan]) -> None:
    with pytest.raises(InputError, match=r"goals.wurst_quantized: unknown goal .*did you mean 'worst_quantized'"):
        make_plan(goals={"wurst_quantized": 4.0})
