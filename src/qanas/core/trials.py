"""Trials: what a search knows of the candidates that it looked at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from qanas.core.candidate import Candidate, Value
from qanas.core.measures import Measure, Measurement, setting_columns
from qanas.core.pareto import non_dominated

CurvePoint = Mapping[str, float]
"""A point of a learning curve: ``epoch``, and each metric of the FP32 network behind ``train_`` and ``val_``."""

Outcome = Literal["measured", "failed", "rejected"]


@dataclass(frozen=True)
class TrialRecord:
    """One candidate of a search: what was measured, or why it failed or was rejected.

    Attributes:
        index: of the counted trial, from 0, the reference; a rejected one has that of the trial it was to be. -1 for
            a network that a solver found: it is no trial.
        outcome: ``measured`` and ``failed`` ones count; ``rejected`` ones cost no training.
        config: the candidate's settings, group by group.
        costs: by column, before any training.
        metrics: what the estimator said, by column; empty unless measured.
        reason: why it failed or was rejected.
        blamed: the cost whose limit rejected it.
        is_seed: whether it is the reference.
        feasible: whether it meets every limit; the reference is measured even if not.
        train_seconds: CPU seconds spent in training.
        train_losses: on training data, by epoch; empty where nothing was trained, or weights were cached.
        curve: scores on training and on validation samples at a few epochs, the last one last; empty where nothing was
            trained, and in early runs.
        started_at: seconds since 1970 (UTC) at which it was asked for.
        finished_at: seconds since 1970 (UTC) at which its outcome was known.
        number: Optuna's number of the trial.
        origin: where it came from, by column: the rows of tables that a solver put it together from, a parent's key.
    """

    index: int
    outcome: Outcome
    config: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)
    costs: Mapping[str, float] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""
    blamed: str = ""
    is_seed: bool = False
    feasible: bool = True
    train_seconds: float = 0.0
    train_losses: Sequence[float] = field(default_factory=list)  # as JSON gives it back
    curve: Sequence[CurvePoint] = field(default_factory=list)
    started_at: float | None = None
    finished_at: float | None = None
    number: int = -1
    origin: Mapping[str, Value] = field(default_factory=dict)

    @property
    def candidate(self) -> Candidate:
        """What was tried."""
        return Candidate(**self.config)

    @property
    def measurement(self) -> Measurement:
        """What was measured."""
        return Measurement(self.metrics, self.costs, self.train_seconds)

    def row(self) -> dict[str, Any]:
        """Return the trial as a row of a table; no column stands for two things."""
        counted = self.index >= 0 and self.outcome in ("measured", "failed")
        return {
            "number": self.number,
            "index": self.index if counted else None,
            "key": self.candidate.key,
            "outcome": self.outcome,
            "reason": self.reason or None,
            "seed_network": self.is_seed,
            "feasible": self.feasible,
            **self.metrics,
            **self.costs,
            **setting_columns(self.config),
            **self.origin,
            "train_seconds": self.train_seconds,
            "started_at": self.started_at,
            "finished_at": self.finished_at,
        }

    def front_row(self) -> dict[str, Any]:
        """Return it as a row of front.csv: what is the same however often and wherever a search is run."""
        kept = {name: value for name, value in self.row().items() if name not in _UNSTABLE}
        return {"key": kept.pop("key"), **kept}


_UNSTABLE = frozenset({"number", "outcome", "reason", "train_seconds", "started_at", "finished_at", "feasible"})


def front_of(records: Iterable[TrialRecord], axes: Sequence[Measure]) -> list[TrialRecord]:
    """Return the networks within the limits that no other one dominates, sorted by the axes.

    Args:
        records: of one search, or of several.
        axes: of the front.
    """
    measured = [record for record in records if record.outcome == "measured" and record.feasible]
    measured.sort(key=lambda record: record.index)  # of equal points the first one stays: not the first to end
    if not measured:
        return []
    # Shape (networks, axes).
    losses = np.array([[axis.loss(record.measurement.value(axis)) for axis in axes] for record in measured])
    return [measured[position] for position in non_dominated(losses)]
