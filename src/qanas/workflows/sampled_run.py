"""A sampled search with its files: the study, the table of trials, the importance of settings."""

from __future__ import annotations

from collections import Counter
from typing import Any

from qanas.core.measurement import Objective
from qanas.core.run_folder import RunFolder
from qanas.core.tables import write_parquet
from qanas.workflows.importance import write_importance
from qanas.workflows.plan import SampledPlan, Setup
from qanas.workflows.progress import Progress
from qanas.workflows.sampled_search import SampledSearch, front_of
from qanas.workflows.search import Search
from qanas.workflows.trial_store import TrialRecord, TrialStore
from qanas.workflows.trial_table import trial_table


class SampledRun(Search):
    """A search by sampling in a run's folder.

    Args:
        setup: plan and data.
        sampled: the plan's own part for this kind of search.
        folder: of the run.
        progress: who watches.
    """

    def __init__(self, setup: Setup, sampled: SampledPlan, folder: RunFolder, progress: Progress) -> None:
        """Read what was finished before."""
        self._setup = setup
        self._folder = folder
        self._store = TrialStore(folder.study, setup.plan.objectives, setup.plan.limits)
        self._search = SampledSearch(setup, sampled, self._store, progress)

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """Those of the recipe."""
        return self._setup.plan.objectives

    def run(self) -> None:
        """Search until the budget is spent."""
        self._search.run()
        write_importance(self._folder.importance, self._store.study, self.objectives)

    def front(self) -> list[TrialRecord]:
        """Return the measured trials that no other one dominates."""
        return front_of(self._setup, self._search.records)

    def write_tables(self) -> None:
        """Write every trial."""
        write_parquet(self._folder.trials, trial_table(self._search.records))
        self._folder.trials_csv.unlink(missing_ok=True)

    def summary(self) -> dict[str, Any]:
        """Return how trials ended."""
        records = self._search.records
        outcomes = Counter(record.outcome for record in records)
        return {
            "trials": {outcome: outcomes[outcome] for outcome in ("measured", "rejected", "failed")},
            "train_cpu_seconds": sum(record.train_seconds for record in records),
            "seconds": self._store.search_seconds,
        }
