"""Runs that end early go on where they were; the same recipe and seed give the same files."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import Workplace

RUN = Path("runs") / "tiny"
TRAIN = "qanas.performance_estimation.procedure:FullTraining.make"
TRIALS, FINALISTS, SEEDS = 5, 2, 2

# A limit that rejects some candidates, so that rejections are resumed too.
LIMITS = {"limits": {"weight_bytes": 150}}


def tables(place: Workplace) -> tuple[bytes, bytes]:
    return tuple((place.folder / RUN / name).read_bytes() for name in ("front.csv", "finalists.csv"))  # type: ignore[return-value]


def trials(place: Workplace) -> pl.DataFrame:
    return pl.read_parquet(place.folder / RUN / "trials.parquet")


def measured(place: Workplace) -> list[int]:
    """The indices of the measured trials, in the order in which they were asked for."""
    return trials(place).filter(pl.col("outcome") == "measured")["index"].to_list()


def told(place: Workplace) -> list[int]:
    """The trials that the log tells of, in its order."""
    log = (place.folder / RUN / "log.txt").read_text("utf-8")
    return [int(index) for index in re.findall(r"INFO trial (\d+) ", log)]


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, finished_once: Workplace) -> tuple[bytes, bytes, int]:
    """The tables of a run that nobody stopped, and how many trainings it took."""
    place = finished_once.elsewhere(tmp_path_factory.mktemp("uninterrupted"))
    outcome = place.qanas("run", place.recipe(LIMITS), count=TRAIN)
    assert outcome.code == 0, outcome.err
    assert "rejected" in trials(place)["outcome"], "the limit rejects nothing"
    return *tables(place), len(place.calls.read_text().splitlines())


def test_the_same_recipe_and_seed_give_the_same_tables(
    workplace: Workplace, uninterrupted: tuple[bytes, bytes, int]
) -> None:
    assert workplace.qanas("run", workplace.recipe(LIMITS)).code == 0
    assert tables(workplace) == uninterrupted[:2]


def test_another_seed_gives_other_tables(workplace: Workplace, uninterrupted: tuple[bytes, bytes, int]) -> None:
    assert workplace.qanas("run", workplace.recipe(LIMITS), "--set", "run.seed=4").code == 0
    assert tables(workplace)[1] != uninterrupted[1]


MOMENTS = [  # the second of a kind is left to the slow tests
    ("qanas.workflows.trial_store:TrialStore.__init__", 1),
    pytest.param(*("qanas.core.run_folder:write_atomically", 1), marks=pytest.mark.slow),
    pytest.param(*(TRAIN, 1), marks=pytest.mark.slow),
    (TRAIN, 3),
    ("qanas.workflows.search:Search._on_event", 4),
    ("qanas.workflows.trial_store:TrialStore._keep", 1),
    ("qanas.workflows.trial_store:TrialStore.suggest", 3),
    pytest.param(*("qanas.workflows.trial_store:TrialStore.tell", 2), marks=pytest.mark.slow),
    ("qanas.workflows.trial_store:TrialStore._close", 2),
    pytest.param(*("qanas.workflows.trial_store:TrialStore._close", 4), marks=pytest.mark.slow),
    pytest.param(*("qanas.workflows.trial_store:TrialStore.set_search_seconds", 3), marks=pytest.mark.slow),
    pytest.param(*("qanas.workflows.trial_store:TrialStore._keep", 3), marks=pytest.mark.slow),
    ("optuna.storages._rdb.storage:RDBStorage._create_new_trial", 3),
    pytest.param(*("qanas.core.run_folder:RunFolder.write_table", 2), marks=pytest.mark.slow),
    (TRAIN, TRIALS + 2),
    pytest.param(*("qanas.shipping.finalists:packed_predictions", 3), marks=pytest.mark.slow),
    ("qanas.shipping.finalists:ParitySteps.between", 2),
    pytest.param(*("qanas.core.run_folder:folder_written_atomically", 2), marks=pytest.mark.slow),
    ("qanas.core.card:Card.to_json", 3),
    pytest.param(*("shutil:rmtree", 2), marks=pytest.mark.slow),
    pytest.param(*("qanas.shipping.models:remove_stale_models", 1), marks=pytest.mark.slow),
    ("qanas.core.run_folder:RunFolder.write_summary", 2),
    ("qanas.reporting.report:render", 2),
]


@pytest.mark.parametrize(("function", "call"), MOMENTS)
def test_killed_at_any_moment_the_same_command_goes_on(
    workplace: Workplace, uninterrupted: tuple[bytes, bytes, int], function: str, call: int
) -> None:
    recipe = workplace.recipe(LIMITS)
    killed = workplace.qanas("run", recipe, kill=(function, call), count=TRAIN)
    assert killed.code == -signal.SIGKILL
    resumed = workplace.qanas("run", recipe, count=TRAIN)
    assert resumed.code == 0, resumed.err
    assert resumed.err == ""
    assert tables(workplace) == uninterrupted[:2]
    trainings = len(workplace.calls.read_text().splitlines())
    assert trainings <= uninterrupted[2] + 1, "more than what was under way was trained again"
    assert not list((workplace.folder / RUN).rglob("*.partial*"))
    assert measured(workplace) == list(range(TRIALS))


def test_killed_again_and_again_the_same_command_ends(
    workplace: Workplace, uninterrupted: tuple[bytes, bytes, int]
) -> None:
    recipe = workplace.recipe(LIMITS)
    kills = 0
    # Each session gets as far as its second training, stored or not.
    while workplace.qanas("run", recipe, kill=(TRAIN, 2), count=TRAIN).code == -signal.SIGKILL:
        kills += 1
        assert kills < 20
    assert kills >= TRIALS
    assert tables(workplace) == uninterrupted[:2]
    assert len(workplace.calls.read_text().splitlines()) <= uninterrupted[2] + kills
    assert sorted(told(workplace)) == list(range(TRIALS)), "a finished trial was measured twice"


def children(process: int) -> list[int]:
    listed = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [int(child) for child in listed]


def alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


ENDLESS = {"estimation": {"epochs": 100_000}}


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="looks for processes in /proc")
def test_no_worker_survives_the_main_process(workplace: Workplace) -> None:
    process = workplace.start("run", workplace.recipe(ENDLESS), "--set", "estimation.jobs=2")
    try:
        wait_until(lambda: len(children(process.pid)) >= 3)  # two workers and multiprocessing's resource tracker
        workers = children(process.pid)
        time.sleep(5)  # into the training
    finally:
        process.kill()
        process.communicate()
    wait_until(lambda: not any(alive(worker) for worker in workers), seconds=15)


@pytest.mark.parametrize(
    ("jobs", "sent"),
    [
        (1, signal.SIGINT),
        pytest.param(2, signal.SIGINT, marks=pytest.mark.slow),
        pytest.param(1, signal.SIGTERM, marks=pytest.mark.slow),
    ],
)
def test_an_interrupted_run_says_how_to_go_on_and_does(workplace: Workplace, jobs: int, sent: signal.Signals) -> None:
    """Ctrl-C reaches the whole process group."""
    recipe = workplace.recipe({"strategy": {"trials": 400}, "estimation": {"epochs": 1, "jobs": jobs}})
    process = workplace.start("run", recipe, "--out", "my run")
    log = workplace.folder / "my run" / "log.txt"
    wait_until(lambda: log.is_file() and "INFO trial 2 " in log.read_text("utf-8"))
    if sent == signal.SIGINT:
        os.killpg(process.pid, sent)
    else:
        process.send_signal(sent)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 130
    assert err == f"stopped; nothing finished is lost. To go on: qanas run {recipe} --out 'my run'\n"
    done = len(re.findall("INFO trial", log.read_text("utf-8")))
    args = ("--out", "my run", "--set", f"strategy.trials={done + 1}", "--set", "estimation.jobs=1")
    resumed = workplace.qanas("run", recipe, *args, count=TRAIN)
    assert resumed.code in (0, 1), resumed.err  # 1: after one epoch all may be degenerate
    assert f"resumed: {done} of {done + 1} trials done before" in resumed.out


def test_a_second_run_in_the_same_folder_is_refused(workplace: Workplace) -> None:
    recipe = workplace.recipe(ENDLESS)
    process = workplace.start("run", recipe)
    try:
        wait_until((workplace.folder / RUN / "lock.pid").is_file)
        second = workplace.qanas("run", recipe)
        assert second.code == 2
        assert f"another qanas run (process {process.pid}) works in this folder" in second.line
    finally:
        process.kill()
        process.communicate()
    quick = {"strategy": {"trials": 1}, "estimation": {"epochs": 1}}
    assert "estimation.epochs" in workplace.refusal("run", workplace.recipe(quick))


def test_two_jobs_measure_as_many_trials(workplace: Workplace) -> None:
    outcome = workplace.qanas("run", workplace.recipe(LIMITS), "--set", "estimation.jobs=2")
    # Which two are measured at once decides what others learn of: now and then all models are degenerate, code 1.
    assert outcome.code in (0, 1), outcome.err
    assert outcome.code or outcome.err == ""
    assert sorted(measured(workplace)) == list(range(TRIALS))
    again = workplace.qanas("run", workplace.recipe(LIMITS), "--set", "estimation.jobs=1", count=TRAIN)
    assert again.code == outcome.code, again.err
    assert not workplace.calls.exists()


# What may change


def test_more_trials_are_added_to_the_first_ones(finished: Workplace) -> None:
    before = trials(finished).rows(named=True)
    changes = ("--set", "strategy.trials=7", "--set", "strategy.hours=2.0")
    outcome = finished.qanas("run", finished.recipe(), *changes, count=TRAIN)
    assert outcome.code == 0, outcome.err
    after = trials(finished).rows(named=True)
    assert len(after) == 7
    for old, new in zip(before, after, strict=False):
        assert old.items() <= new.items()
    assert told(finished) == list(range(7))


def test_other_finalists_are_trained_without_another_search(finished: Workplace) -> None:
    changes = ("--set", "finalists.count=1", "--set", "finalists.seeds=3")
    outcome = finished.qanas("run", finished.recipe(), *changes)
    assert outcome.code == 0, outcome.err
    assert told(finished) == list(range(TRIALS))
    finalists = pl.read_csv(finished.folder / RUN / "finalists.csv", schema_overrides={"candidate": pl.String})
    assert finalists["mae_deployed_val_n"].to_list() == [3, 3]
    models = sorted(path.name for path in (finished.folder / RUN / "models").iterdir())
    assert models == sorted(finalists["candidate"])
    assert finished.qanas("verify", RUN).code == 0


@pytest.mark.parametrize(
    ("key", "value", "before"),
    [
        ("run.seed", "4", "3"),
        ("estimation.epochs", "3", "2"),
        ("strategy.name", "random", "tpe"),
        ("strategy.startup_trials", "3", "2"),
        ("space.max_units", "4", "3"),
        ("space.search", "['architecture']", "['architecture', 'training', 'quantization']"),
        ("task.window", "6", "5"),
        ("limits.macs", "1000", "not set"),
        ("objectives.macs", "minimize", "not set"),
    ],
)
def test_anything_else_is_refused_with_the_difference(
    finished_once: Workplace, key: str, value: str, before: str
) -> None:
    recipe = finished_once.folder / "tiny.toml"
    drop = ("--set", "strategy.startup_trials=2") if key != "strategy.startup_trials" else ()
    args = drop if value != "random" else ()
    if value == "random":
        recipe = finished_once.recipe({"strategy": {"startup_trials": None}})
    try:
        message = finished_once.refusal("run", recipe, "--set", f"{key}={value}", *args)
    finally:
        finished_once.recipe()
    assert message.startswith(f"qanas: {finished_once.folder / RUN}: holds the run of another recipe (")
    assert f"{key} was {before}, now {value}" in message
    assert "--out" in message


def test_other_objectives_are_refused(finished_once: Workplace) -> None:
    path = finished_once.recipe({"objectives": {"mae_quantized": None, "mae_float": "minimize"}}, name="float.toml")
    message = finished_once.refusal("run", path, "--out", RUN)
    assert "objectives.mae_float was not set, now minimize" in message
    assert "objectives.mae_quantized was minimize, now not set" in message
    path.unlink()


def test_other_data_is_refused(finished: Workplace) -> None:
    recipe = finished.recipe()
    path = finished.data / "train_FD001.txt"
    path.write_text(path.read_text("ascii").replace("100.0000", "100.0001"), "ascii")
    assert "data_fingerprint was " in finished.refusal("run", recipe)


def test_the_same_data_may_lie_elsewhere(finished: Workplace) -> None:
    finished.data.rename(finished.folder / "moved")
    outcome = finished.qanas("run", finished.recipe(), "--set", "task.data=moved", count=TRAIN)
    assert outcome.code == 0, outcome.err
    assert not finished.calls.exists()


ANCHORS = {"name": "predictor", "anchors": 10, "min_tau": -1.0, "choose": "rounds"}
RUNGS = {"name": "early_stopping", "rungs": [1, 2], "epochs": 3, "keep": 0.3}
LOOKING = "qanas.performance_estimation.procedure:FullTraining.make_looking"


@pytest.mark.parametrize(
    ("estimation", "moment"),
    [
        pytest.param(ANCHORS, (TRAIN, 6), id="anchors"),
        pytest.param(ANCHORS, (TRAIN, 10), id="last anchor", marks=pytest.mark.slow),
        pytest.param(RUNGS, ("qanas.performance_estimation.stopping:SizeAwareHalving.goes_on", 5), id="rungs"),
        pytest.param(RUNGS, (LOOKING, 4), id="between rungs", marks=pytest.mark.slow),
    ],
)
def test_killed_in_what_an_estimator_trains_the_same_command_goes_on(
    workplace: Workplace, tmp_path_factory: pytest.TempPathFactory, estimation: dict[str, Any], moment: tuple[str, int]
) -> None:
    changes = {"estimation": estimation, "strategy": {"trials": 8}}
    once = workplace.elsewhere(tmp_path_factory.mktemp("once"))
    assert once.qanas("run", once.recipe(changes)).code in (0, 1)  # 1: after so few epochs all may be degenerate
    killed = workplace.qanas("run", workplace.recipe(changes), kill=moment)
    assert killed.code == -signal.SIGKILL
    assert workplace.qanas("run", workplace.recipe(changes)).code in (0, 1)
    assert tables(workplace) == tables(once)


@pytest.mark.slow
def test_killed_in_a_pilot_the_same_command_goes_on(
    workplace: Workplace, tmp_path_factory: pytest.TempPathFactory
) -> None:
    once = workplace.elsewhere(tmp_path_factory.mktemp("once"))
    whole = once.qanas("advise", once.recipe(), "--candidates", "4")
    assert whole.code == 0, whole.err
    assert workplace.qanas("advise", workplace.recipe(), "--candidates", "4", kill=(LOOKING, 3)).code == -signal.SIGKILL
    resumed = workplace.qanas("advise", workplace.recipe(), "--candidates", "4")
    assert resumed.out.splitlines()[-1] == whole.out.splitlines()[-1]
