"""The estimator that trains nothing: a zero-cost proxy stands for the metric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qanas.core.events import Watch
from qanas.core.measures import Measure, Metric, Score
from qanas.core.trials import TrialRecord
from qanas.performance_estimation.base import Estimate, Estimator
from qanas.performance_estimation.bench import Bench
from qanas.performance_estimation.procedure import Procedure
from qanas.performance_estimation.proxy_scores import ProxyName, proxies_of
from qanas.search_space.start import Proposal


@dataclass(frozen=True)
class Proxies(Estimator):
    """Scores untrained networks; finalists are trained by the procedure.

    Attributes:
        procedure: trains finalists.
        proxy: what stands for the metric, more of it being better.
    """

    procedure: Procedure
    proxy: ProxyName = "parameters"

    cheap = True

    def axis(self, measure: Measure) -> Measure:
        """Return the proxy in place of a metric."""
        return Score(f"predicted_by_{self.proxy}", "maximize") if isinstance(measure, Metric) else measure

    def estimate(
        self, bench: Bench, proposal: Proposal, seed: int, history: Sequence[TrialRecord], watch: Watch
    ) -> Estimate:
        """Compute the proxy."""
        del seed, history, watch
        found = proxies_of(bench, proposal.candidate, [self.proxy])
        return Estimate({f"predicted_by_{self.proxy}": found[self.proxy]})
