"""A whole run: search, finalists, shipping. Run again on its folder, it goes on."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path

from qanas.core.card import SplitName
from qanas.core.own_modules import find_first_in
from qanas.core.run_folder import DONE, RunFolder
from qanas.core.trials import TrialRecord
from qanas.execution.sharing import ALONE, Sharing, one_at_a_time
from qanas.performance_estimation.bench import Bench
from qanas.planning.dependence import changed_sources, check_resumable, made_from
from qanas.planning.plan import Plan
from qanas.planning.progress import NOBODY, Follower, Progress
from qanas.planning.scheme_sweep import with_scheme_chosen
from qanas.shipping.baselines import baselines_of, constant_row, constant_scores, train_baselines
from qanas.shipping.choice import choose, choose_finalists
from qanas.shipping.confirmation import Confirmation
from qanas.shipping.finalists import train_finalists
from qanas.shipping.latency import with_latency
from qanas.shipping.models import Shipment, front_rows, remove_stale_models, ship
from qanas.shipping.reference import tuned_reference
from qanas.shipping.trainings import Finalist, Training
from qanas.shipping.verdict import recommend
from qanas.workflows.account import Account, counted, cpu_seconds
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
    find_first_in(Path(plan.recipe["source"]["folder"]))  # other recipes may have been read since this one
    check_resumable(plan, folder)
    remarks = [*changed_sources(plan, folder), *(f"data: {remark}" for remark in rehearse(plan))]
    remarks += [f"latency: {why}" for why in plan.lacking_latency()]
    with folder.locked():
        folder.write_recipe(plan.recipe)
        followed = Followed(progress, follower)
        follower.show(followed.doing)
        for remark in remarks:
            progress.message(remark)
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
    account = Account(plan, folder, search)
    _search(search, account, progress)
    files = ALONE if session is None else session.files
    with account.lasting("finalists"):
        found = _finalists(plan, search, account, progress, files)
    with account.lasting("baselines"):
        compared = _baselines(found, account, progress, files)
    timed = with_latency(plan.devices, folder, [*found.shipments, *compared.shipments], progress)
    shipments, simple = timed[: len(found.shipments)], timed[len(found.shipments) :]
    remove_stale_models(folder, timed)
    folder.write_table(folder.front, front_rows(found.plan, found.front, shipments))
    constants = [constant_row(found.constant)] if found.constant and "constant" in plan.baselines else []
    folder.write_table(folder.finalists, [*(shipment.row() for shipment in timed), *constants])
    verdict = recommend(folder, plan.main_metric, plan.limits, plan.goals, plan.costs)
    account.write(
        DONE,
        front=len(found.front),  # confirmed: another one than the search's
        finalists={**counted(shipments), **found.told},
        **({"baselines": counted(simple) | {"cpu_seconds": cpu_seconds(compared.trainings)}} if plan.baselines else {}),
        **found.further,
        **({} if verdict is None else {"verdict": verdict.as_json()}),
    )
    return RunResult(folder, found.front, shipments, simple)


def _search(search: Search, account: Account, progress: Followed) -> None:
    """Search, and leave what was found even where it ends early."""
    progress.save = lambda: account.save("running")
    try:
        search.run()
    finally:
        progress.save = _nothing
        account.save("interrupted")
    search.stop_clock()


@dataclass(frozen=True)
class _Trained:
    """What was trained to ship, before its latency is known.

    Attributes:
        plan: with what the reference was tuned to.
        folder: of the run.
        front: of the search, confirmed where that was asked for.
        constant: scores of the best constant, by split.
        finalists: the reference first.
        trainings: of each by identity.
        shipments: what became of them.
        told: of the finalists in the summary.
        further: tables of the summary.
    """

    plan: Plan
    folder: RunFolder
    front: Sequence[TrialRecord]
    constant: Mapping[SplitName, Mapping[str, float]]
    finalists: Sequence[Finalist]
    trainings: Mapping[str, Sequence[Training]]
    shipments: Sequence[Shipment]
    told: Mapping[str, object]
    further: Mapping[str, object]


def _finalists(plan: Plan, search: Search, account: Account, progress: Followed, files: Sharing) -> _Trained:
    """Confirm the front, tune the reference, and train what is to ship."""
    started, folder = time.monotonic(), search.folder
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
    if trained or tuned.trained or confirmation.trained:
        account.took("finalists", started)
    seconds = cpu_seconds(trainings)
    told: dict[str, object] = {
        "cpu_seconds": seconds,
        "further_cpu_seconds": seconds - _in_stages(search, finalists[0], trainings),
        **({"chosen": choice.reason} if choice.reason else {}),
    }
    further: dict[str, object] = {
        **({"confirmation": confirmation.summary()} if confirmation.budget else {}),
        **({"reference_tuning": tuned.as_json()} if tuned.scores else {}),
    }
    return _Trained(plan, folder, front, constant, finalists, trainings, shipments, told, further)


@dataclass(frozen=True)
class _Compared:
    """The baselines' trainings by identity, and what became of them."""

    trainings: Mapping[str, Sequence[Training]]
    shipments: Sequence[Shipment]


def _baselines(found: _Trained, account: Account, progress: Followed, files: Sharing) -> _Compared:
    """Train what the finalists are held against."""
    started, plan = time.monotonic(), found.plan
    baselines = baselines_of(plan)
    trainings, trained = train_baselines(plan, found.folder, baselines, found.finalists[0], progress, files)
    shipments = [
        ship(replace(plan, bench=b.bench), found.folder, b.finalist, trainings[b.finalist.identity], found.constant)
        for b in baselines
    ]
    if trained:
        account.took("baselines", started)
    return _Compared(trainings, shipments)


def _nothing() -> None:
    """All that is finished is in the folder."""


def _in_stages(search: Search, reference: Finalist, trainings: Mapping[str, Sequence[Training]]) -> float:
    """Return the CPU seconds of the finalists' trainings that a stage of the search has counted: the teacher's."""
    teacher = "teacher" in search.stages.effort and not reference.variant
    return trainings[reference.identity][0].cpu_seconds if teacher else 0.0


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
            logger.info("%s", line)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is not None:
            logger.error("the run ended early", exc_info=error)
        logger.removeHandler(self._handler)
        self._handler.close()
