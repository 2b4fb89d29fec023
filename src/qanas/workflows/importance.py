"""How much each setting mattered in a search, how sure that is, and which of them could matter at all."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from qanas.core.json_values import json_value
from qanas.core.measures import Cost, Measure, Metric
from qanas.core.run_folder import write_atomically
from qanas.core.seeds import derive_seed
from qanas.core.trials import TrialRecord

SCHEMA_VERSION = 1
LEAST_TRIALS = 20
"""With fewer measured trials the shares are noise."""

DRAWS = 20
"""How often trials are drawn anew, with replacement: how far shares vary then is how sure they are."""

LEVEL = 0.9
"""Of the interval between the draws' quantiles."""

QUANTILE, LEAST_GOOD = 0.1, 5
"""A trial is good if it is in the best tenth, which holds at least five trials: what the method asks for."""

FRONT = "front"
"""The target that asks for trials near the Pareto front, without preference for an objective."""

Target = Callable[[FrozenTrial], float]


def write_importance(
    path: Path, study: Study, objectives: Sequence[Measure], records: Iterable[TrialRecord] = ()
) -> None:
    """Write how important each setting is for reaching the front, and for each objective by itself.

    PED-ANOVA (Watanabe et al., IJCAI 2023), in the form for settings that not every candidate has (conditional
    PED-ANOVA, KDD 2026): how far the distribution of a setting among good trials is from that among all trials. Shares
    have intervals over trials drawn with replacement. A setting that can't act on an objective has no share in it: how
    a network is trained changes none of its bytes. The same study gives the same bytes.

    Args:
        path: of the file.
        study: with the finished trials.
        objectives: in the study's order.
        records: of the trials: they tell which group each setting is of.
    """
    trials = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    measured = len(trials)
    content: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "method": "PED-ANOVA",
        "trials": measured,
        "least_trials": LEAST_TRIALS,
        "targets": {},
    }
    if measured >= LEAST_TRIALS:
        groups = {name: group for record in records for group, held in record.config.items() for name in held}
        found = _Importance(objectives, groups, max(QUANTILE, LEAST_GOOD / measured))
        content["good_trials"] = math.ceil(found.quantile * measured)
        content["targets"] = found.shares(study)
        content |= {"level": LEVEL, "draws": DRAWS, "intervals": found.intervals(study, trials)}
    write_atomically(path, (json.dumps(json_value(content), indent=2, allow_nan=False) + "\n").encode())


class _Importance:
    """Shares of settings in what is asked for.

    Args:
        objectives: in the study's order.
        groups: of settings, by their names.
        quantile: which share of the trials is good.
    """

    def __init__(self, objectives: Sequence[Measure], groups: Mapping[str, str], quantile: float) -> None:
        self._targets = _targets(objectives)
        self._idle = {objective.column: _idle(objective, groups) for objective in objectives}
        self._idle[FRONT] = frozenset.intersection(*self._idle.values())
        self.quantile = quantile

    def shares(self, study: Study) -> dict[str, dict[str, float]]:
        """Return the shares by target and setting, the largest first."""
        return {name: _shares(study, target, self.quantile, self._idle[name]) for name, target in self._targets.items()}

    def intervals(self, study: Study, trials: Sequence[FrozenTrial]) -> dict[str, dict[str, list[float]]]:
        """Return between which shares each setting lies over trials drawn with replacement, by target and setting."""
        generator = np.random.default_rng(derive_seed(0, "importance"))
        drawn: dict[str, dict[str, list[float]]] = {name: {} for name in self._targets}
        verbosity = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            for _ in range(DRAWS):
                again = optuna.create_study(directions=study.directions)
                again.add_trials([trials[place] for place in generator.integers(0, len(trials), len(trials))])
                for name, shares in self.shares(again).items():
                    for setting, share in shares.items():
                        drawn[name].setdefault(setting, []).append(share)
        finally:
            optuna.logging.set_verbosity(verbosity)
        bounds = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
        return {
            name: {
                setting: np.quantile([*values, *[0.0] * (DRAWS - len(values))], bounds).round(4).tolist()
                for setting, values in shares.items()
            }
            for name, shares in drawn.items()
        }


def _idle(objective: Measure, groups: Mapping[str, str]) -> frozenset[str]:
    """Return the settings that can't act on an objective, whatever they are.

    What is read off a network's shapes doesn't hang on how it is trained, and nothing of the FP32 network on how it is
    quantized.
    """
    still: set[str] = set()
    if isinstance(objective, Cost):
        still |= {"training"} | ({"quantization"} if objective.float_ else set())
    elif isinstance(objective, Metric) and objective.precision == "float":
        still |= {"quantization"}
    return frozenset(name for name, group in groups.items() if group in still)


def _targets(objectives: Sequence[Measure]) -> dict[str, Target | None]:
    """Return what is asked for: each a value to be minimised, or None for the front."""
    single: dict[str, Target | None] = {
        objective.column: _loss(place, objective) for place, objective in enumerate(objectives)
    }
    front: dict[str, Target | None] = {FRONT: None}
    return single if len(objectives) == 1 else front | single


def _loss(place: int, objective: Measure) -> Target:
    return lambda trial: objective.loss(trial.values[place])


def _shares(study: Study, target: Target | None, quantile: float, idle: frozenset[str]) -> dict[str, float]:
    """Return shares of the importance of all settings but idle ones, the largest first; empty where none mattered."""
    from optuna.importance import PedAnovaImportanceEvaluator  # imports scikit-learn where that is installed

    evaluator = PedAnovaImportanceEvaluator(target_quantile=quantile)
    with warnings.catch_warnings():
        # It warns that low targets are sought, which they are, and of settings that few trials have.
        warnings.simplefilter("ignore")
        found = evaluator.evaluate(study, target=target)
    able = {name: value for name, value in found.items() if name not in idle}
    ordered = sorted(able.items(), key=lambda item: (-item[1], item[0]))
    total = math.fsum(value for _, value in ordered)
    return {name: value / total for name, value in ordered} if total > 0 else {}
