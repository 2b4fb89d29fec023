"""The trials of a run, in Optuna's storage, and as one typed table."""

from __future__ import annotations

import json
import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import optuna
import polars as pl
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from qanas.core.candidate import GROUPS, Value
from qanas.core.measures import Cost, Limit, Measure, columns_of, setting_columns
from qanas.core.run_folder import write_atomically
from qanas.core.trials import TrialRecord
from qanas.execution.interrupts import interrupts_deferred
from qanas.search_space.space import SearchSpace
from qanas.search_space.start import Proposal

STUDY = "qanas"
RECORD = "record"
SEARCH_SECONDS = "search_seconds"


class TrialStore:
    """All trials of a run, kept by Optuna: in SQLite, where its dashboard opens the file, or in memory.

    A trial is there as a whole or as one that is still running. Of those that were running when their process
    died, the ones that have a record are closed as it says when the store is opened again; the others are closed
    without one, and their index is free again.

    Args:
        path: the SQLite file; None for trials that cost nothing and are done anew instead of kept.
        axes: of the front.
        limits: bounds on costs, known to samplers as constraints.
    """

    @interrupts_deferred()
    def __init__(self, path: Path | None, axes: Sequence[Measure], limits: Sequence[Limit]) -> None:
        """Open the study, or create it."""
        self.axes = axes
        self.limits = limits
        self.study = _open(path, axes)
        self._asked: dict[int, Trial] = {}
        for trial in self.study.get_trials(deepcopy=False, states=[TrialState.RUNNING, TrialState.WAITING]):
            self._close(trial.number, _record(trial) if RECORD in trial.user_attrs else None)
        trials = self.study.get_trials(deepcopy=False)
        self.records = [_record(t) for t in trials if t.state.is_finished() and RECORD in t.user_attrs]

    @property
    def search_seconds(self) -> float:
        """Wall-clock seconds that the search has taken, over all sessions."""
        return float(self.study.user_attrs.get(SEARCH_SECONDS, 0.0))

    @interrupts_deferred()
    def set_search_seconds(self, seconds: float) -> None:
        """Store the wall-clock seconds."""
        self.study.set_user_attr(SEARCH_SECONDS, seconds)

    @interrupts_deferred()
    def suggest(self, space: SearchSpace, sampler: BaseSampler) -> Proposal:
        """Return a new trial with the candidate that a sampler proposes for it."""
        self.study.sampler = sampler
        trial = self.study.ask()
        self._asked[trial.number] = trial
        return Proposal(space.sample(partial(suggest, trial)), number=trial.number)

    @interrupts_deferred()
    def tell(self, space: SearchSpace, number: int | None, record: TrialRecord) -> None:
        """Add what became of a candidate.

        Args:
            space: whose settings samplers learn from one that they didn't propose.
            number: of the trial that it was proposed for; None where it is no sampler's of Optuna.
            record: what became of it.
        """
        if number is None:
            number = self._add(space, record)
        else:
            trial = self._asked.pop(number)
            for limit in self.limits:
                if limit.cost.column in record.costs:
                    trial.set_constraint(limit.cost.column, limit.excess(record.costs))
            trial.set_user_attr(RECORD, _stored(record))
            self._close(number, record)
        self.records.append(replace(record, number=number))

    def _add(self, space: SearchSpace, record: TrialRecord) -> int:
        """Add a trial in one piece; samplers learn its settings as far as they are searched."""
        parameters, distributions = space.parameters(record.candidate)
        measured = record.outcome == "measured"
        failed = TrialState.PRUNED if record.outcome == "rejected" else TrialState.FAIL
        self.study.add_trial(
            optuna.trial.create_trial(
                state=TrialState.COMPLETE if measured else failed,
                values=self._values(record) if measured else None,
                params=parameters,
                distributions=distributions,
                user_attrs={RECORD: _stored(record)},
                constraints={limit.cost.column: limit.excess(record.costs) for limit in self.limits},
            )
        )
        return len(self.study.get_trials(deepcopy=False)) - 1

    def _close(self, number: int, record: TrialRecord | None) -> None:
        """End a running trial as its record says; failed where there is none."""
        if record is not None and record.outcome == "measured":
            self.study.tell(number, self._values(record))
            return
        # Pruned, a rejected trial teaches samplers which limit it broke; failed ones teach nothing.
        rejected = record is not None and record.outcome == "rejected"
        self.study.tell(number, state=TrialState.PRUNED if rejected else TrialState.FAIL)

    def _values(self, record: TrialRecord) -> list[float]:
        return [record.measurement.value(axis) for axis in self.axes]


def _open(path: Path | None, axes: Sequence[Measure]) -> optuna.Study:
    directions = [axis.direction for axis in axes]
    if path is None:
        return optuna.create_study(study_name=STUDY, directions=directions)
    if not path.exists():
        # Created beside and renamed: a half-made database would stop every later run.
        partial_path = path.with_name(f".{path.name}.partial")
        partial_path.unlink(missing_ok=True)
        study = optuna.create_study(study_name=STUDY, storage=_url(partial_path), directions=directions)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            study.set_metric_names(columns_of(axes))
        partial_path.replace(path)
    return optuna.load_study(study_name=STUDY, storage=_url(path))


def suggest(trial: Trial, name: str, distribution: BaseDistribution) -> Value:
    """Let the trial's sampler choose a value from a range."""
    match distribution:
        case IntDistribution():
            return trial.suggest_int(name, distribution.low, distribution.high, log=distribution.log)
        case FloatDistribution():
            return trial.suggest_float(name, distribution.low, distribution.high, log=distribution.log)
        case CategoricalDistribution():
            return cast("Value", trial.suggest_categorical(name, distribution.choices))
    raise TypeError(f"{name}: no setting has a {type(distribution).__name__}")


def _url(path: Path) -> str:
    return f"sqlite:///{path}"


def _stored(record: TrialRecord) -> dict[str, Any]:
    return asdict(record)


def _record(trial: FrozenTrial) -> TrialRecord:
    known = {entry.name for entry in fields(TrialRecord)}
    kept = {name: value for name, value in trial.user_attrs[RECORD].items() if name in known}
    return TrialRecord(**{**kept, "number": trial.number})


def most_blamed(records: Iterable[TrialRecord]) -> tuple[str, int]:
    """Return the cost whose limit rejected most, empty where none did, and how many."""
    return Counter(record.blamed for record in records if record.outcome == "rejected").most_common(1)[0]


_TIME = pl.Datetime("us", "UTC")

FIRST_COLUMNS: dict[str, pl.DataType] = {
    "number": pl.Int64(),
    "index": pl.Int64(),
    "key": pl.String(),
    "outcome": pl.String(),
    "reason": pl.String(),
    "seed_network": pl.Boolean(),
    "feasible": pl.Boolean(),
}
LAST_COLUMNS: dict[str, pl.DataType] = {
    "train_seconds": pl.Float64(),
    "started_at": _TIME,
    "finished_at": _TIME,
}
"""What every trial has; in between are its metrics, its costs and its settings."""


def trial_table(records: Iterable[TrialRecord]) -> pl.DataFrame:
    """Return all trials, one row each, in the order in which they were asked for.

    Metrics and latency are floats, other costs integers, settings of the type of their values; what a trial doesn't
    have is null: metrics of one that wasn't measured, settings of a third layer in a network of two.
    ``docs/analysis.md`` lists the columns.

    Args:
        records: in any order.
    """
    ordered = sorted(records, key=lambda record: record.number)
    rows = [record.row() for record in ordered]
    by_group = [{group: record.config.get(group, {}) for group in GROUPS} for record in ordered]
    metrics = _names(record.metrics for record in ordered)
    costs = _names(record.costs for record in ordered)
    settings = _names(setting_columns({group: config[group]}) for group in GROUPS for config in by_group)
    types = dict(FIRST_COLUMNS)
    types |= dict.fromkeys(metrics, pl.Float64())
    types |= {name: _cost_type(name, [row.get(name) for row in rows]) for name in costs}
    types |= {name: _setting_type([row.get(name) for row in rows]) for name in settings}
    types |= dict.fromkeys(_names(record.origin for record in ordered), pl.String())
    types |= LAST_COLUMNS
    return pl.DataFrame([_series(name, [row.get(name) for row in rows], types[name]) for name in types])


def _names(tables: Iterable[Iterable[str]]) -> list[str]:
    """Return all keys, in the order of first use."""
    return list(dict.fromkeys(name for table in tables for name in table))


def _series(name: str, values: list[Value | None], dtype: pl.DataType) -> pl.Series:
    if dtype == _TIME:
        return pl.Series(name, [_microseconds(value) for value in values], pl.Int64()).cast(_TIME)
    if dtype == pl.String():
        return pl.Series(name, [None if value is None else str(value) for value in values], dtype)
    return pl.Series(name, values, dtype, strict=False)


def _microseconds(seconds: Value | None) -> int | None:
    return None if seconds is None else round(float(seconds) * 10**6)


def _cost_type(name: str, values: Sequence[Value | None]) -> pl.DataType:
    """Return whole numbers for what is counted from shapes; what is measured, latency, is a float."""
    cost = Cost.parse(name)
    counted = cost is not None and not cost.measured
    whole = counted and all(value is None or float(value).is_integer() for value in values)
    return pl.Int64() if whole else pl.Float64()


def _setting_type(values: Sequence[Value | None]) -> pl.DataType:
    """Return the narrowest type that holds all values; text where they are of several kinds."""
    kinds = {type(value) for value in values if value is not None}
    if kinds == {bool}:
        return pl.Boolean()
    if kinds == {int}:
        return pl.Int64()
    return pl.Float64() if kinds and kinds <= {int, float} else pl.String()


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
