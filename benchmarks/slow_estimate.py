"""An estimator that trains nothing, and a unit that does nothing. For measurements."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qanas.core.events import Watch
from qanas.core.trials import TrialRecord
from qanas.execution.executors import Unit
from qanas.performance_estimation.base import Estimate, Estimator
from qanas.performance_estimation.bench import Bench
from qanas.performance_estimation.procedure import Procedure
from qanas.search_space.start import Proposal


@dataclass(frozen=True)
class Waiting(Estimator):
    """Waits for every candidate.

    Attributes:
        procedure: of finalists.
        wait: seconds; 0 for a trial that does nothing.
        work: further CPU seconds that it is busy.
    """

    procedure: Procedure
    wait: float = 0.0
    work: float = 0.0

    def check(self, bench: Bench, measures: Sequence[Any]) -> None:
        """Everything can be waited for."""

    def estimate(
        self, bench: Bench, proposal: Proposal, seed: int, history: Sequence[TrialRecord], watch: Watch
    ) -> Estimate:
        """Return scores between 0 and 1 that follow from the candidate."""
        del seed, history, watch
        time.sleep(self.wait)
        until = time.process_time() + self.work
        while time.process_time() < until:
            pass
        drawn = float(np.random.default_rng(int(proposal.candidate.key, 16)).random())
        return Estimate({f"{name}_{kind}": drawn for name in bench.task.metrics for kind in ("float", "quantized")})


@dataclass(frozen=True)
class Nothing(Unit[None, int]):
    """Does nothing."""

    number: int

    def run(self, bench: None, watch: Watch) -> int:
        """Return its number."""
        del bench, watch
        return self.number
