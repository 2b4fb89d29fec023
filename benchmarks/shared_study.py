"""Two coordinators of two workers each on one PostgreSQL study, while workers and the database are killed.

    python benchmarks/shared_study.py --out docs/results/shared_study.json      the whole
    python benchmarks/shared_study.py --trials 40 --kills 4                     a shorter one

Protocol: 200 trials of small networks on noisy sines (`tests/cli/sine.py`), proposed at random, estimated by a class
that waits (`slow_estimate.py`): what is measured is who does what, not training. A worker process, drawn at random, is
killed (SIGKILL) every 5 s; the database's server is stopped at once ("immediate") at a third and at two thirds of the
kills, and started again 4 s later. Afterwards the rows of the study are counted, by their own storage: indices and
candidates that were measured, and trainings that were begun. The front is compared with that of one process on its own.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import polars as pl
from optuna.trial import TrialState

from qanas.core.run_folder import RunFolder, read_table
from qanas.planning.sharing import PASSWORD, SharedStudy
from qanas.recipe import load_plan
from qanas.workflows.coordinators import Session
from qanas.workflows.search import Search
from qanas.workflows.storages import Patient, find_study
from throwaway_postgres import Postgres, lacking

if TYPE_CHECKING:
    from qanas.planning.progress import Progress

HERE = Path(__file__).resolve().parent
SINE = HERE.parent / "tests" / "cli" / "sine.py"
STUDY = "shared"
LEASE_S = 30
EVERY_S = 5.0
AWAY_S = 4.0

RECIPE = """
[task]
name = "sine:Sine"
[space]
name = "sine:ConvOrLSTM"
most = 16
[strategy]
name = "random"
trials = {trials}
[estimation]
{estimation}
jobs = {jobs}
[objectives]
worst_quantized = "minimize"
weight_bytes = "minimize"
"""
WAITING = 'name = "slow_estimate:Waiting"\nwait = {wait}\nepochs = 1'
"""Of a recipe's ``[estimation]``: nothing is trained."""


class Lines:
    """Prints what is for people, and nothing of trials."""

    def message(self, text: str) -> None:
        """Print it."""
        print(text, flush=True)

    def __getattr__(self, name: str) -> Callable[..., None]:
        """Take everything else without a word."""
        return lambda *_, **__: None


def searched(recipe: Path, out: Path) -> None:
    """Be a coordinator: search, and leave the front."""
    plan = load_plan(recipe)
    folder = RunFolder(out)
    out.mkdir(parents=True, exist_ok=True)
    lines = cast("Progress", Lines())
    if plan.store is None:
        search = Search(plan, folder, lines)
        search.run()
    else:
        with Session(plan.store, Patient(plan.store, lines.message), out, plan.jobs) as session:
            search = Search(plan, folder, lines, session)
            search.run()
    search.write_tables()
    folder.write_table(folder.front, [record.front_row() for record in search.front()])


def started(recipe: Path, out: Path) -> subprocess.Popen[bytes]:
    """Start a coordinator in a process of its own."""
    command = [sys.executable, __file__, "--search", str(recipe), "--out", str(out)]
    with out.with_suffix(".log").open("wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)  # noqa: S603 - our own


def workers_of(process: int) -> list[int]:
    """Return the worker processes of a coordinator, as Linux tells."""
    children = Path(f"/proc/{process}/task/{process}/children")
    try:
        found = [int(number) for number in children.read_text().split()]
        return [child for child in found if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]
    except OSError:
        return []


def disturbed(processes: list[subprocess.Popen[bytes]], database: Postgres, kills: int) -> dict[str, int]:
    """Kill workers, and stop the database, until the coordinators are done."""
    generator, killed, restarts = random.Random(0), 0, 0  # noqa: S311 - no secret
    stops = {kills // 3, 2 * kills // 3}
    while any(process.poll() is None for process in processes):
        time.sleep(EVERY_S if killed < kills else 0.5)
        workers = [worker for process in processes for worker in workers_of(process.pid)]
        if killed < kills and workers:
            os.kill(generator.choice(workers), signal.SIGKILL)
            killed += 1
            if killed in stops:
                database.stop()
                time.sleep(AWAY_S)
                database.start()
                restarts += 1
    return {"workers killed": killed, "database restarts": restarts}


def counted(shared: SharedStudy) -> dict[str, Any]:
    """Count the rows of a study by their storage."""
    found = find_study(shared, shared.name)
    assert found is not None
    storage, study = found
    rows = storage.get_all_trials(study, deepcopy=False)
    measured = [row for row in rows if row.state == TrialState.COMPLETE]
    indices = Counter(row.user_attrs["index"] for row in measured)
    return {
        "rows": len(rows),
        "measured": len(measured),
        "distinct indices": len(indices),
        "distinct candidates": len({row.user_attrs["training"][0] for row in measured}),
        "measured twice": sum(count > 1 for count in indices.values()),
        "failed": sum(row.state == TrialState.FAIL for row in rows),
        "taken from a coordinator": sum(row.state == TrialState.PRUNED for row in rows),
        "open at the end": sum(not row.state.is_finished() for row in rows),
        "by coordinator": sorted(Counter(row.user_attrs["owner"] for row in measured).values()),
    }


def measure(trials: int, kills: int, wait: float) -> dict[str, Any]:
    """Return what became of the study."""
    with tempfile.TemporaryDirectory() as name, Postgres() as database:
        home = Path(name)
        for source in (SINE, HERE / "slow_estimate.py"):
            (home / source.name).write_text(source.read_text("utf-8"), "utf-8")
        recipe, alone = home / "shared.toml", home / "alone.toml"
        alone.write_text(RECIPE.format(trials=trials, estimation=WAITING.format(wait=0.0), jobs=1), "utf-8")
        store = f'[store]\nurl = "{database.url}"\nname = "{STUDY}"\nlease = {LEASE_S}\n'
        recipe.write_text(RECIPE.format(trials=trials, estimation=WAITING.format(wait=wait), jobs=2) + store, "utf-8")
        os.environ[PASSWORD] = database.password
        begun = time.monotonic()
        processes = [started(recipe, home / f"coordinator_{number}") for number in (1, 2)]
        done = disturbed(processes, database, kills)
        seconds = time.monotonic() - begun
        said = [path.read_text("utf-8") for path in sorted(home.glob("coordinator_*.log"))]
        assert all(process.returncode == 0 for process in processes), "\n".join(said)
        result: dict[str, Any] = {"trials": trials, "seconds": round(seconds, 1), **done}
        result |= counted(SharedStudy(database.url, STUDY))
        result["messages of the first coordinator"] = said[0].splitlines()
        assert started(alone, home / "alone").wait() == 0
        fronts = [read_table(home / run / "front.csv") for run in ("alone", "coordinator_1", "coordinator_2")]
        result["points on the front"] = len(fronts[0])
        result["fronts equal that of one machine"] = all(front.equals(fronts[0]) for front in fronts)
        tables = [pl.read_parquet(home / run / "trials.parquet") for run in ("alone", "coordinator_1")]
        keys = [dict(table.filter(outcome="measured").select("index", "key").iter_rows()) for table in tables]
        result["candidates equal those of one machine, index by index"] = keys[0] == keys[1]
        result["password in a file"] = any(
            database.password.encode() in path.read_bytes() for path in home.rglob("*") if path.is_file()
        )
    return result


def main() -> None:
    """Measure, or be a coordinator."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--wait", type=float, default=2.0, help="seconds of a trial")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--search", type=Path, help="a recipe, whose coordinator to be")
    given = parser.parse_args()
    if given.search is not None:
        searched(given.search, given.out)
        return
    if lacking():
        sys.exit(lacking())
    found = measure(given.trials, given.kills, given.wait)
    text = json.dumps(found, indent=2)
    print(text)
    if given.out is not None:
        given.out.write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
