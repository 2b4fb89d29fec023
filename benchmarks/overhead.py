"""What a trial costs beside its training: handing it to a worker, and keeping it, for every executor and every store.

    python benchmarks/overhead.py --out docs/results/overhead.json     the whole; needs PostgreSQL and Ray
    python benchmarks/overhead.py --units 100 --skip ray               a shorter one

Protocol: executors run 1,000 units that do nothing, two at a time (inline one), after ten that start the workers.
Stores keep 1,000 trials of three settings of which nothing is trained: claimed, begun and told where they are shared,
told where they are the run's own. Milliseconds of wall-clock time a unit or trial, the median of blocks of 50, and CPU
time of this process. Ray: 30 trials of networks on noisy sines, as a recipe has them, with one worker and with two,
and 30 that wait.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from qanas.core.candidate import Candidate
from qanas.core.measures import Cost, Score
from qanas.core.run_folder import RunFolder
from qanas.core.trials import TrialRecord
from qanas.execution.executors import Executor, Failure, InlineExecutor, ProcessExecutor
from qanas.planning.sharing import PASSWORD, SharedStudy
from qanas.recipe import load_plan
from qanas.reporting.live import LiveDisplay
from qanas.search_space.settings import Integer
from qanas.search_space.space import space_of
from qanas.search_space.start import Proposal
from qanas.workflows.coordinators import Session
from qanas.workflows.search import Search
from qanas.workflows.shared_store import SharedTrialStore
from qanas.workflows.storages import Patient
from qanas.workflows.trial_store import TrialStore
from shared_study import RECIPE, SINE, WAITING
from slow_estimate import Nothing
from throwaway_postgres import Postgres

BLOCK = 50
WARM = 10
AXES = (Score("error"), Cost("macs"))
REAL_TRIALS = 30

ON_RAY = """
[execution]
engine = "ray"
address = "{address}"
"""


def go_on(unit: object, event: object) -> bool:
    """Watch for nobody."""
    del unit, event
    return True


@dataclass
class Blocks:
    """Times of blocks of units.

    Attributes:
        wall: milliseconds a unit.
        cpu: likewise, of this process.
    """

    wall: list[float]
    cpu: list[float]

    @classmethod
    def of(cls, steps: Iterator[object]) -> Blocks:
        """Time an iterator, block by block."""
        found = cls([], [])
        while True:
            wall, cpu = time.perf_counter(), time.process_time()
            taken = sum(1 for _, _ in zip(range(BLOCK), steps, strict=False))
            if taken < BLOCK:
                return found
            found.wall.append((time.perf_counter() - wall) / BLOCK * 1e3)
            found.cpu.append((time.process_time() - cpu) / BLOCK * 1e3)

    def told(self) -> dict[str, float]:
        """Return medians."""
        return {
            "wall_ms": round(statistics.median(self.wall), 2),
            "slowest_block_ms": round(max(self.wall), 2),
            "cpu_ms": round(statistics.median(self.cpu), 2),
        }


def of_executor(make: Callable[[], Executor[None, int]], units: int) -> dict[str, float]:
    """Time units that do nothing."""
    with make() as executor:
        started = list(executor.work_off([Nothing(-number) for number in range(WARM)]))
        assert not any(isinstance(result, Failure) for _, result in started)
        return Blocks.of(iter(executor.work_off([Nothing(number) for number in range(units + 1)]))).told()


def of_store(store: TrialStore, trials: int) -> dict[str, float]:
    """Time trials that do nothing."""
    space = space_of(
        [Integer(f"s{place}", "architecture", 1, low=0, high=10**6) for place in range(3)], ["architecture"]
    )

    def kept() -> Iterator[int]:
        for index in range(trials + 1):
            candidate = Candidate(architecture={"s0": index, "s1": 1, "s2": 2})
            proposal = Proposal(candidate)
            store.news()
            assert store.claim(index)
            assert store.begin(space, index, proposal, (str(index), ""))
            costs, metrics = {"macs": 1.0}, {"error": float(index)}
            now = time.time()
            store.tell(space, None, TrialRecord(index, "measured", candidate.config, costs, metrics, started_at=now))
            yield index

    return Blocks.of(kept()).told()


@contextlib.contextmanager
def shared_store(url: str, folder: Path) -> Iterator[TrialStore]:
    """Give the store of a coordinator."""
    shared = SharedStudy(url, "overhead")
    with Session(shared, Patient(shared, print), folder, 1) as session:
        yield SharedTrialStore(session, {}, AXES, ())


def stores(trials: int) -> Iterator[tuple[str, dict[str, float]]]:
    """Time every store."""
    with tempfile.TemporaryDirectory() as name, Postgres() as server:
        home = Path(name)
        os.environ[PASSWORD] = server.password
        yield "SQLite, the run's own", of_store(TrialStore(home / "study.db", AXES, ()), trials)
        urls = {"PostgreSQL": server.url, "journal": f"journal://{home}/study.journal",
                "SQLite, shared": f"sqlite://{home}/shared.db"}  # fmt: skip
        for kind, url in urls.items():
            folder = home / kind
            folder.mkdir()
            with shared_store(url, folder) as store:
                yield kind, of_store(store, trials)


def speedup(address: str, estimation: str) -> dict[str, float]:
    """Return the seconds of 30 trials with one worker and with two, once the workers are there."""
    seconds = {}
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        for source in (SINE, Path(__file__).with_name("slow_estimate.py")):
            (home / source.name).write_text(source.read_text("utf-8"), "utf-8")
        for jobs, trials in ((2, WARM), (1, REAL_TRIALS), (2, REAL_TRIALS)):  # the first starts the workers
            recipe = home / "recipe.toml"
            text = RECIPE.format(trials=trials, estimation=estimation, jobs=jobs) + ON_RAY.format(address=address)
            recipe.write_text(text, "utf-8")
            plan = load_plan(recipe)
            plan = replace(plan, bench=plan.bench.carried())
            folder = RunFolder(Path(tempfile.mkdtemp(dir=home)))
            search = Search(plan, folder, LiveDisplay())
            begun = time.perf_counter()
            search.run()
            seconds[str(jobs)] = round(time.perf_counter() - begun, 2)
            assert all(record.outcome == "measured" for record in search.records)
    return {"one_worker_s": seconds["1"], "two_workers_s": seconds["2"],
            "speedup": round(seconds["1"] / seconds["2"], 3)}  # fmt: skip


def on_ray(units: int) -> Iterator[tuple[str, dict[str, float]]]:
    """Time Ray's executor, and two workers against one."""
    from qanas.execution.ray_engine import RayEngine
    from throwaway_ray import two_nodes

    with two_nodes() as cluster:
        engine = RayEngine(cluster.address)
        yield "executor", of_executor(lambda: engine.executor(None, 2, go_on), units)
        yield "waiting trials", speedup(cluster.address, WAITING.format(wait=2.0))
        yield "real trials", speedup(cluster.address, "epochs = 6000")


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, default=1000)
    parser.add_argument("--skip", nargs="*", default=[], choices=["executors", "stores", "ray"])
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    found: dict[str, Any] = {}
    if given.out is not None and given.out.is_file():
        found = json.loads(given.out.read_text("utf-8"))
        if found["units"] != given.units:
            parser.error(f"{given.out} is of {found['units']} units; --units {found['units']}, or another --out")

    def keep(name: str, part: object) -> None:
        """Write what is known so far: the whole takes a while."""
        found[name] = part
        found["load"] = [round(value, 1) for value in os.getloadavg()]
        print(name, part, flush=True)
        if given.out is not None:
            given.out.write_text(json.dumps(found, indent=2) + "\n", "utf-8")

    keep("units", given.units)
    if "executors" not in given.skip:
        keep("inline", of_executor(lambda: InlineExecutor(None, go_on), given.units))
        keep("processes", of_executor(lambda: ProcessExecutor(None, 2, go_on), given.units))
    if "stores" not in given.skip:
        for store, times in stores(given.units):
            keep("stores", found.get("stores", {}) | {store: times})
    if "ray" not in given.skip:
        for part, times in on_ray(given.units):
            keep("ray", found.get("ray", {}) | {part: times})


if __name__ == "__main__":
    main()
