"""Contract tests and plain references, also for classes of a user's own: ``docs/contracts.md``."""

from __future__ import annotations

from qanas.testing.costs import check_cost, check_latency
from qanas.testing.estimation import check_estimator, check_procedure
from qanas.testing.executors import check_executor
from qanas.testing.front_ends import check_front_end
from qanas.testing.growth import check_growth
from qanas.testing.named import check
from qanas.testing.operators import check_operator
from qanas.testing.spaces import check_blocks, check_space
from qanas.testing.starts import check_start
from qanas.testing.stores import check_store
from qanas.testing.strategies import check_sampler, check_solver
from qanas.testing.tasks import check_task
from qanas.testing.trainers import check_trainer

__all__ = [
    "check",
    "check_blocks",
    "check_cost",
    "check_estimator",
    "check_executor",
    "check_front_end",
    "check_growth",
    "check_latency",
    "check_operator",
    "check_procedure",
    "check_sampler",
    "check_solver",
    "check_space",
    "check_start",
    "check_store",
    "check_task",
    "check_trainer",
]
