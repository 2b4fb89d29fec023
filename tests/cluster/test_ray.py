"""Units on a real Ray cluster: the contract of executors, a node that dies, and a search."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.workflows.conftest import make_plan  # noqa: F401 - a fixture

from qanas.core.events import Watch
from qanas.core.run_folder import RunFolder
from qanas.execution.executors import Failure, Unit
from qanas.execution.ray_engine import RayEngine, RayExecutor
from qanas.reporting.live import LiveDisplay
from qanas.testing import check_executor
from qanas.workflows.search import Search

if TYPE_CHECKING:
    from tests.workflows.conftest import MakePlan

# Ray's own sockets and files are closed when its processes end.
pytestmark = [pytest.mark.cluster, pytest.mark.filterwarnings("ignore")]


@dataclass(frozen=True)
class Sleep(Unit[str, tuple[int, str]]):
    number: int
    folder: Path

    def run(self, bench: str, watch: Watch) -> tuple[int, str]:
        """Say where it runs, and sleep."""
        del watch
        import ray

        node = str(ray.get_runtime_context().get_node_id())
        (self.folder / f"{self.number}-{os.getpid()}").write_text(node, "utf-8")
        time.sleep(2)
        return self.number, node + bench


def test_it_keeps_the_contract(ray_cluster: Any) -> None:  # noqa: ANN401
    check_executor(partial(RayExecutor, jobs=2, engine=RayEngine(ray_cluster.address)))


def test_a_node_that_dies_loses_nothing(ray_cluster: Any, tmp_path: Path) -> None:  # noqa: ANN401
    doomed = ray_cluster.add_node(num_cpus=1, resources={"board": 2}, object_store_memory=100 * 2**20)
    spare = ray_cluster.add_node(num_cpus=1, resources={"board": 2}, object_store_memory=100 * 2**20)
    ray_cluster.wait_for_nodes()
    engine = RayEngine(ray_cluster.address, resources={"board": 1})
    units = [Sleep(number, tmp_path) for number in range(4)]
    with engine.executor("!", 4, lambda _unit, _event: True) as executor:
        for unit in units:
            executor.submit(unit)
        while not any(path.read_text("utf-8") == doomed.node_id for path in tmp_path.iterdir()):
            time.sleep(0.05)
        ray_cluster.remove_node(doomed, allow_graceful=False)
        ended = [executor.next_finished()[1] for _ in units]
    found = [result for result in ended if not isinstance(result, Failure)]
    assert sorted(number for number, _ in found) == [0, 1, 2, 3]
    assert {place for _, place in found} >= {spare.node_id + "!"}
    assert len(list(tmp_path.iterdir())) > len(units), "what ran on it was begun twice"
    ray_cluster.remove_node(spare)


def test_a_search_is_that_of_one_machine(
    ray_cluster: Any,  # noqa: ANN401
    make_plan: MakePlan,  # noqa: F811
    tmp_path: Path,
) -> None:
    tables = {"space": {"most": 8}, "strategy": {"trials": 6}}
    plans = [make_plan(**tables), make_plan(**tables, execution={"engine": "ray", "address": ray_cluster.address})]
    assert plans[1].engine == RayEngine(ray_cluster.address)
    found = []
    for number, plan in enumerate(plans):
        folder = RunFolder(tmp_path / str(number))
        folder.path.mkdir()
        search = Search(plan, folder, LiveDisplay())
        search.run()
        found.append([(record.index, record.candidate, record.metrics) for record in search.records])
    assert found[0] == found[1]
