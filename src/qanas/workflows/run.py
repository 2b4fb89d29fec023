"""A whole run: search, finalists, shipping. Run again on its folder, it goes on."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace

from qanas.core.run_folder import DONE, RunFolder
from qanas.core.trials import TrialRecord
from qanas.execution.sharing import ALONE, one_at_a_time
from qanas.performance_estimation.bench import Bench
from qanas.planning.dependence import check_resumable, made_from
from qanas.planning.plan import Plan
from qanas.planning.progress import NOBODY, Follower, Progress
from qanas.planning.scheme_sweep import with_scheme_chosen
from qanas.shipping.baselines import baselines_of, constant_row, constant_scores, train_baselines
from qanas.shipping.choice import choose, choose_finalists
from qanas.shipping.confirmation import Confirmation
from qanas.shipping.finalists import Finalist, Training, train_finalists
from qanas.shipping.latency import with_latency
from qanas.shipping.models import Shipment, front_rows, remove_stale_models, ship
from qanas.shipping.reference import tuned_reference
from qanas.shipping.verdict import recommend
from qanas.workflows.coordinators import Session, use_shared_folder
from qanas.workflows.following import Followed
from qanas.workflows.rehearsal import rehearse
from qanas.workflows.search import Search
from qanas.workflows.storages import Patient

logger = logging.getLogger("qanas")


@dataclass(frozen=True)
class RunResult:
    """What a run came to.

    Attributes:
        folder: with all files.
        front: sorted by the objectives.
        shipments: what became of the reference and the finalists.
        baselines: what became of those that were trained.
    """

    folder: RunFolder
    front: Sequence[TrialRecord]
    shipments: list[Shipment]
    baselines: list[Shipment] = field(default_factory=list)

    @property
    def shipped(self) -> int:
        """Models in ``models/``, without baselines."""
        return sum(shipment.card is not None for shipment in self.shipments)

    @property
    def failed(self) -> list[Shipment]:
        """Finalists that didn't ship."""
        return [shipment for shipment in self.shipments if shipment.card is None]


def run_search(plan: Plan, folder: RunFolder, progress: Progress, follower: Follower = NOBODY) -> RunResult:
    """Search, train the finalists, ship them, and write every table.

    Args:
        plan: with the bench, checked.
        folder: a new one, or that of an earlier session of the same recipe.
        progress: who watches.
        follower: shows the folder while the run goes on.

    Raises:
        InputError: the folder holds another run, or another process works in it.
    """
    check_resumable(plan, folder)
    remarks = rehearse(plan)
    with folder.locked():
        folder.write_recipe(plan.recipe)
        followed = Followed(progress, follower)
        follower.show(followed.doing)
        for remark in remarks:
            progress.message(f"data: {remark}")
        try:
            with _logged_to(folder, remarks), _shared(plan, folder) as bench:
                return _run(with_scheme_chosen(replace(plan, bench=bench), folder, followed), folder, followed)
        except BaseException:
            follower.end()
            raise


def _shared(plan: Plan, folder: RunFolder) -> AbstractContextManager[Bench]:
    """Return the bench with its data where workers find it."""
    if plan.engine.remote:
        return contextlib.nullcontext(plan.bench.carried())
    return plan.bench.shared(folder.prepared, plan.jobs)


def _session(plan: Plan, folder: RunFolder, progress: Progress) -> AbstractContextManager[Session | None]:
    """Return this run's time at the study that it shares with others, if it does."""
    if plan.store is None:
        return contextlib.nullcontext()
    progress.message(f"store: {plan.store.url}, study {plan.store.name}")
    if plan.store.folder is not None:
        use_shared_folder(folder, plan.store.folder / plan.store.name / made_from("front", plan.recipe))
    return Session(plan.store, Patient(plan.store, progress.message), folder.path, plan.jobs)


def _run(plan: Plan, folder: RunFolder, progress: Followed) -> RunResult:
    with _session(plan, folder, progress) as session:
        return _conducted(plan, folder, progress, session)


def _conducted(plan: Plan, folder: RunFolder, progress: Followed, session: Session | None) -> RunResult:
    search = Search(plan, folder, progress, session)
    finalist_seconds, baseline_seconds = _seconds_before(folder, "finalists"), _seconds_before(folder, "baselines")

    def write_summary(status: str, **more: object) -> None:
        found = search.summary()
        seconds = {"search": found.pop("seconds"), "finalists": finalist_seconds}
        if plan.baselines:
            seconds["baselines"] = baseline_seconds
        found |= {"metrics": dict(plan.bench.task.metrics)}
        folder.write_summary(found | {"status": status, **more, "seconds": seconds})

    def save(status: str) -> None:
        search.write_tables()
        folder.write_table(folder.front, front_rows(plan, search.front(), []))
        write_summary(status)

    progress.save = lambda: save("running")
    try:
        search.run()
    finally:
        progress.save = _nothing
        save("interrupted")
    search.stop_clock()
    started = time.monotonic()
    files = ALONE if session is None else session.files
    with one_at_a_time(files, "confirmation and tuning"):  # what each of them leaves is one file
        confirmation = Confirmation(plan, folder, search.records, progress)
        front = confirmation.front() if confirmation.budget else search.front()
        tuned = tuned_reference(plan, folder, progress, search.records)
    plan = replace(plan, finalists=replace(plan.finalists, tuned=tuned.procedure))
    constant = constant_scores(plan)
    choice = choose(plan, front, constant)
    if choice.reason:
        progress.message(f"finalists: {choice.reason}")
    finalists = choose_finalists(plan, search.estimator, choice.front, choice.first)
    trainings, trained = train_finalists(plan, folder, finalists, progress, files)
    shipments = [ship(plan, folder, finalist, trainings[finalist.identity], constant) for finalist in finalists]
    finalist_seconds += time.monotonic() - started if trained or tuned.trained or confirmation.trained else 0.0
    started = time.monotonic()
    baselines = baselines_of(plan)
    simple, trained = train_baselines(plan, folder, baselines, finalists[0], progress, files)
    compared = [
        ship(replace(plan, bench=b.bench), folder, b.finalist, simple[b.finalist.identity], constant) for b in baselines
    ]
    baseline_seconds += time.monotonic() - started if trained else 0.0
    timed = with_latency(plan.devices, folder, [*shipments, *compared], progress)
    shipments, compared = timed[: len(shipments)], timed[len(shipments) :]
    result = RunResult(folder, front, shipments, compared)
    remove_stale_models(folder, timed)
    folder.write_table(folder.front, front_rows(plan, front, shipments))
    constants = [constant_row(constant)] if constant and "constant" in plan.baselines else []
    folder.write_table(folder.finalists, [*(shipment.row() for shipment in timed), *constants])
    found = recommend(folder, plan.main_metric, plan.limits, plan.goals, plan.main_cost)
    write_summary(
        DONE,
        finalists=_counted(result.shipments)
        | {
            "cpu_seconds": _cpu_seconds(trainings),
            "further_cpu_seconds": _cpu_seconds(trainings) - _in_stages(search, finalists[0], trainings),
        }
        | ({"chosen": choice.reason} if choice.reason else {}),
        **({"baselines": _counted(compared) | {"cpu_seconds": _cpu_seconds(simple)}} if plan.baselines else {}),
        **({"confirmation": confirmation.summary()} if confirmation.budget else {}),
        **({"reference_tuning": tuned.as_json()} if tuned.scores else {}),
        **({} if found is None else {"verdict": found.as_json()}),
    )
    return result


def _nothing() -> None:
    """All that is finished is in the folder."""


def _cpu_seconds(trainings: Mapping[str, Sequence[Training]]) -> float:
    return sum(training.cpu_seconds for each in trainings.values() for training in each)


def _in_stages(search: Search, reference: Finalist, trainings: Mapping[str, Sequence[Training]]) -> float:
    """Return the CPU seconds of the finalists' trainings that a stage of the search has counted: the teacher's."""
    teacher = "teacher" in search.stages.effort and not reference.variant
    return trainings[reference.identity][0].cpu_seconds if teacher else 0.0


def _seconds_before(folder: RunFolder, part: str) -> float:
    """Return what a part has taken in earlier sessions."""
    return folder.seconds_before("seconds").get(part, 0.0)


def _counted(shipments: Sequence[Shipment]) -> dict[str, object]:
    failed = [shipment for shipment in shipments if shipment.card is None]
    failures = [{"candidate": s.finalist.identity, "reason": s.failure} for s in failed]
    return {"shipped": len(shipments) - len(failed), "failed": len(failed), "failures": failures}


class _LogFile(logging.FileHandler):
    """A log that can't be written, as on a full disk, is neither a traceback on the screen nor the end of a run."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Leave the record out."""

    def close(self) -> None:
        """Close, whether or not what is left of it can be written."""
        with contextlib.suppress(OSError):
            super().close()


class _logged_to:  # noqa: N801 - used as a function
    """Send the package's log to the run's log.txt while the run lasts."""

    def __init__(self, folder: RunFolder, first: Sequence[str]) -> None:
        self._first = first
        self._handler: logging.Handler = _LogFile(folder.log, encoding="utf-8", errors="backslashreplace")
        self._handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))

    def __enter__(self) -> None:
        logger.setLevel(logging.INFO)
        logger.addHandler(self._handler)
        for line in self._first:
            logger.info("data: %s", line)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is not None:
            logger.error("the run ended early", exc_info=error)
        logger.removeHandler(self._handler)
        self._handler.close()
