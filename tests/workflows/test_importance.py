"""How much each setting mattered: on studies in which that is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.trial import create_trial

from qanas.core.measures import Cost, Measure, Metric
from qanas.core.trials import TrialRecord
from qanas.workflows.importance import LEAST_TRIALS, write_importance

OBJECTIVES = (Metric("mae"), Metric("r2", better="maximize"))
UNIT = FloatDistribution(0.0, 1.0)


def _study(trials: int, objectives: tuple[Measure, ...] = OBJECTIVES) -> optuna.Study:
    """Settings on a grid: ``width`` alone decides the first objective, ``rate`` the second, ``idle`` nothing."""
    study = optuna.create_study(directions=[objective.direction for objective in objectives])
    for k in range(trials):
        setting = {"width": k * 0.618034 % 1, "rate": k * 0.754878 % 1, "idle": k * 0.569840 % 1}
        values = [setting["width"], setting["rate"]][: len(objectives)]
        distributions: dict[str, BaseDistribution] = dict.fromkeys(setting, UNIT)
        study.add_trial(create_trial(values=values, params=setting, distributions=distributions))
    return study


def _written(path: Path, study: optuna.Study, objectives: tuple[Measure, ...] = OBJECTIVES) -> dict[str, Any]:
    write_importance(path, study, objectives)
    content: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return content


def test_the_setting_that_decides_an_objective_is_the_most_important_one(tmp_path: Path) -> None:
    told = _written(tmp_path / "a.json", _study(100))
    assert told["trials"] == 100
    assert told["good_trials"] == 10
    targets = told["targets"]
    assert list(targets) == ["front", "mae_quantized", "r2_quantized"]
    assert next(iter(targets["mae_quantized"])) == "width"
    assert next(iter(targets["r2_quantized"])) == "rate"
    assert targets["mae_quantized"]["width"] > 0.8
    assert list(targets["front"])[-1] == "idle"
    assert all(sum(shares.values()) == pytest.approx(1) for shares in targets.values())


def test_one_objective_has_one_target(tmp_path: Path) -> None:
    told = _written(tmp_path / "a.json", _study(30, OBJECTIVES[:1]), OBJECTIVES[:1])
    assert list(told["targets"]) == ["mae_quantized"]
    assert told["good_trials"] == 5


def test_few_trials_have_no_importance(tmp_path: Path) -> None:
    told = _written(tmp_path / "a.json", _study(LEAST_TRIALS - 1))
    assert told["targets"] == {}
    assert told["trials"] == LEAST_TRIALS - 1


def test_the_same_study_gives_the_same_bytes(tmp_path: Path) -> None:
    study = _study(40)
    for name in ("a", "b"):
        write_importance(tmp_path / name, study, OBJECTIVES)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_settings_that_do_not_matter_have_no_share(tmp_path: Path) -> None:
    study = optuna.create_study(directions=["minimize", "maximize"])
    for _ in range(LEAST_TRIALS):
        study.add_trial(create_trial(values=[1.0, 1.0], params={"x": 0.5}, distributions={"x": UNIT}))
    assert _written(tmp_path / "a.json", study)["targets"]["mae_quantized"] == {}


def test_shares_have_intervals_that_say_how_sure_they_are(tmp_path: Path) -> None:
    few, many = (_written(tmp_path / str(trials), _study(trials)) for trials in (LEAST_TRIALS, 100))
    assert (many["level"], many["draws"]) == (0.9, 20)
    for told in (few, many):
        low, high = told["intervals"]["mae_quantized"]["width"]
        assert low - 0.01 <= told["targets"]["mae_quantized"]["width"] <= high + 0.01 <= 1.01
    widths = [high - low for low, high in (t["intervals"]["mae_quantized"]["width"] for t in (few, many))]
    assert widths[0] > widths[1], "of more trials more is known"


def test_what_cannot_act_on_an_objective_has_no_share_in_it(tmp_path: Path) -> None:
    """A penalty that happens to go with small networks explains no byte of them."""
    objectives = (Metric("mae", "float"), Cost("weight_bytes"))
    study = optuna.create_study(directions=["minimize", "minimize"])
    for k in range(30):
        setting = {"width": k * 0.618034 % 1, "penalty": k * 0.618034 % 1, "bits": k * 0.569840 % 1}
        distributions: dict[str, BaseDistribution] = dict.fromkeys(setting, UNIT)
        study.add_trial(
            create_trial(values=[setting["bits"], setting["width"]], params=setting, distributions=distributions)
        )
    config = {"architecture": {"width": 0.1}, "training": {"penalty": 0.1}, "quantization": {"bits": 0.1}}
    write_importance(tmp_path / "a.json", study, objectives, [TrialRecord(0, "measured", config)])
    targets = json.loads((tmp_path / "a.json").read_text("utf-8"))["targets"]
    assert targets["weight_bytes"].keys() == {"width", "bits"}
    assert sum(targets["weight_bytes"].values()) == pytest.approx(1)
    assert targets["mae_float"].keys() == {"width", "penalty"}
    assert targets["front"].keys() == {"width", "penalty", "bits"}
