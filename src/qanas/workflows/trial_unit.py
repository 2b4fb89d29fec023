"""A trial while it is at work: the estimate of one candidate, wherever that is made."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

from qanas.core.events import Watch
from qanas.core.seeds import derive_seed
from qanas.core.trials import Outcome, TrialRecord
from qanas.execution.executors import Unit
from qanas.performance_estimation.base import Estimate, Estimator
from qanas.performance_estimation.bench import Bench
from qanas.performance_estimation.scoring import number_of
from qanas.search_space.start import Proposal


@dataclass(frozen=True)
class TrialUnit(Unit[Bench, Estimate]):
    """The estimate of one candidate.

    Attributes:
        index: of the counted trial.
        proposal: what is estimated.
        costs: known before, by column.
        estimator: prepared.
        history: the trials that were finished when it was proposed, if the estimator reads them.
        started_at: seconds since 1970.
    """

    index: int
    proposal: Proposal
    costs: dict[str, float]
    estimator: Estimator
    history: tuple[TrialRecord, ...]
    started_at: float

    def run(self, bench: Bench, watch: Watch) -> Estimate:
        """Estimate, from a seed that follows from the index."""
        seed = derive_seed(bench.seed, "trial", self.index)
        found = self.estimator.estimate(bench, self.proposal, seed, self.history, watch)
        place = f"{type(self.estimator).__name__}.estimate"
        if not isinstance(found, Estimate):
            raise TypeError(
                f"{place} returns a {type(found).__name__}; return a qanas.performance_estimation.base.Estimate"
            )
        # Numbers of NumPy or torch, which no study keeps, are as good as Python's.
        scores = {column: number_of(f"{place}: {column}", value) for column, value in found.scores.items()}
        losses = [number_of(f"{place}: train_losses", value) for value in found.train_losses]
        return replace(found, scores=scores, train_losses=losses)

    def record(self, outcome: Outcome, **more: Any) -> TrialRecord:  # noqa: ANN401 - fields of the record
        """Return what is known of it so far as a trial."""
        proposal = self.proposal
        origin = {"parent": proposal.parent} if proposal.parent else {}
        return TrialRecord(
            self.index,
            outcome,
            proposal.candidate.config,
            self.costs,
            started_at=self.started_at,
            finished_at=time.time(),
            origin=origin,
            **more,
        )
