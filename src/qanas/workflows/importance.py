"""How much each setting mattered to a search: ``importance.json``, which the report draws."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from optuna.importance import PedAnovaImportanceEvaluator
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from qanas.core.measures import Measure
from qanas.core.run_folder import write_atomically

SCHEMA_VERSION = 1
LEAST_TRIALS = 20
"""With fewer measured trials the shares are noise."""

QUANTILE, LEAST_GOOD = 0.1, 5
"""A trial is good if it is in the best tenth, which holds at least five trials: what the method asks for."""

FRONT = "front"
"""The target that asks for trials near the Pareto front, without preference for an objective."""

Target = Callable[[FrozenTrial], float]


def write_importance(path: Path, study: Study, objectives: Sequence[Measure]) -> None:
    """Write how important each setting is for reaching the front, and for each objective by itself.

    PED-ANOVA (Watanabe et al., IJCAI 2023), in the form for settings that not every candidate has (conditional
    PED-ANOVA, KDD 2026): how far the distribution of a setting among good trials is from that among all trials. The
    same study gives the same bytes.

    Args:
        path: of the file.
        study: with the finished trials.
        objectives: in the study's order.
    """
    measured = len(study.get_trials(deepcopy=False, states=[TrialState.COMPLETE]))
    content: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "method": "PED-ANOVA",
        "trials": measured,
        "least_trials": LEAST_TRIALS,
        "targets": {},
    }
    if measured >= LEAST_TRIALS:
        quantile = max(QUANTILE, LEAST_GOOD / measured)
        content["good_trials"] = math.ceil(quantile * measured)
        content["targets"] = {name: _shares(study, target, quantile) for name, target in _targets(objectives).items()}
    write_atomically(path, (json.dumps(content, indent=2) + "\n").encode())


def _targets(objectives: Sequence[Measure]) -> dict[str, Target | None]:
    """Return what is asked for: each a value to be minimised, or None for the front."""
    single: dict[str, Target | None] = {
        objective.column: _loss(place, objective) for place, objective in enumerate(objectives)
    }
    front: dict[str, Target | None] = {FRONT: None}
    return single if len(objectives) == 1 else front | single


def _loss(place: int, objective: Measure) -> Target:
    return lambda trial: objective.loss(trial.values[place])


def _shares(study: Study, target: Target | None, quantile: float) -> dict[str, float]:
    """Return each setting's share of the importance of all, the largest first; empty where none mattered."""
    evaluator = PedAnovaImportanceEvaluator(target_quantile=quantile)
    with warnings.catch_warnings():
        # It warns that low targets are sought, which they are, and of settings that few trials have.
        warnings.simplefilter("ignore")
        found = evaluator.evaluate(study, target=target)
    ordered = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    total = math.fsum(value for _, value in ordered)
    return {name: value / total for name, value in ordered} if total > 0 else {}
