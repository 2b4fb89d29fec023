"""Data that a test has at hand, instead of what the task would prepare."""

from __future__ import annotations

from collections.abc import Mapping

from qanas.core.candidate import Value
from qanas.performance_estimation.bench import Bench, PreparedData
from qanas.search_space.network_space import NetworkSpace
from qanas.tasks.base import Task, TaskData


class Given(PreparedData):
    """The same data for every input."""

    def __init__(self, task: Task, data: TaskData) -> None:
        super().__init__(task)
        self.data = data

    def of(self, values: Mapping[str, Value]) -> TaskData:
        del values
        return self.data


def bench_of(task: Task, data: TaskData, networks: NetworkSpace) -> Bench:
    """Return a bench on given data."""
    return Bench(Given(task, data), networks)
