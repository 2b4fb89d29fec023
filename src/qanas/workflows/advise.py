"""The pilot that advice rests on: some candidates trained in full, a few of them again, and what is cheaper beside."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from torch import nn

from qanas.core.candidate import Candidate
from qanas.core.errors import InputError, TrainingFailed
from qanas.core.events import Event, Watch
from qanas.core.measures import Cost, Metric
from qanas.core.run_folder import write_atomically
from qanas.core.seeds import derive_seed
from qanas.execution.executors import Failure, Unit
from qanas.performance_estimation.bench import Bench
from qanas.performance_estimation.features import Features
from qanas.performance_estimation.procedure import Procedure
from qanas.performance_estimation.proxy_scores import PROXIES, proxies_of
from qanas.performance_estimation.scoring import float_outputs, metrics_of, sample_of
from qanas.performance_estimation.stopping import Course, LearnedEnd, extrapolated, predicted_ends
from qanas.planning.advice import Advice, Pilot, advise
from qanas.planning.dependence import made_from
from qanas.planning.plan import Plan
from qanas.regression.models import cross_validated, folds
from qanas.search_space.start import RANDOM

logger = logging.getLogger("qanas")

Array = NDArray[np.float64]

REPEATED, REPETITIONS = 4, 2
"""Candidates that are trained again, and how often."""

LOOKED_AT = (0.1, 1 / 3)
"""Shares of the epochs after which a training is looked at for what ends early."""

FEWEST_FOR_PREDICTOR = 10
MOST_SAMPLES = 2048
PREDICTOR_ANCHORS = 60
FEWEST_FINISHED = LearnedEnd.fewest
"""Trainings that went to the end before a learned rule stops any."""


@dataclass(frozen=True)
class PilotUnit(Unit[Bench, dict[str, Any]]):
    """One training.

    Attributes:
        procedure: that trains.
        candidate: that is trained.
        seed: of all that is random.
        metric: that counts.
        name: of its file.
    """

    procedure: Procedure
    candidate: Candidate
    seed: int
    metric: Metric
    name: str

    def run(self, bench: Bench, watch: Watch) -> dict[str, Any]:
        """Train in full and look at the way there."""
        task, data = bench.task_of(self.candidate), bench.data_of(self.candidate)
        samples = sample_of(data.val, MOST_SAMPLES)
        curve: list[float] = []

        def look(event: Event, snapshot: Callable[[], nn.Module]) -> bool:
            del event
            curve.append(
                self.metric.loss(metrics_of(task, float_outputs(snapshot(), samples), samples)[self.metric.name])
            )
            return True

        started = time.process_time()
        try:
            if self.procedure.can_be_looked_at:
                made = self.procedure.make_looking(bench, self.candidate, RANDOM, self.seed, look, watch)
            else:
                made = self.procedure.make(bench, self.candidate, RANDOM, self.seed, watch)
        except TrainingFailed as error:
            return {"failed": str(error)}
        loss = self.metric.loss(made.evaluate(task, data.val)[self.metric.column])
        return {"loss": loss, "curve": curve, "seconds": time.process_time() - started}


def pilot_candidates(bench: Bench, count: int) -> list[Candidate]:
    """Return the candidates of a pilot: the reference, and random ones that can be built."""
    generator = np.random.default_rng(derive_seed(bench.seed, "pilot"))
    found = {bench.reference.key: bench.reference}
    for _ in range(20 * count):
        if len(found) >= count:
            break
        candidate = bench.space.random(generator)
        if refusal := bench.refusal(candidate):
            logger.info("no candidate of the pilot: %s", refusal)
        else:
            found[candidate.key] = candidate
    return list(found.values())


def run_pilot(plan: Plan, folder: Path, count: int, tell: Callable[[str], None]) -> Advice:
    """Train what isn't trained yet, each training a file in the folder, and return what follows.

    Args:
        plan: of the recipe.
        folder: of the pilot; one that was interrupted goes on.
        count: candidates that are trained in full.
        tell: told how far it has come, a line each.

    Raises:
        InputError: fewer than three candidates could be trained.
    """
    bench = plan.bench
    candidates = pilot_candidates(bench, count)
    results = _work_off(plan, _folder_of(folder, plan), _units(plan, candidates), tell)
    full = [results.get(f"full_{number:03d}_{each.key}", {}) for number, each in enumerate(candidates)]
    kept = [number for number, result in enumerate(full) if _scored(result)]
    if len(kept) < 3:  # noqa: PLR2004 - two rank nothing
        raise InputError(
            f"{folder}: {len(kept)} of {len(candidates)} candidates of the pilot could be trained; see above"
        )
    repeated = [
        [full[number]["loss"], *(results[name]["loss"] for name in names if _scored(results.get(name, {})))]
        for number in kept
        for names in [[f"again_{number:03d}_{candidates[number].key}_{again}" for again in range(REPETITIONS)]]
    ]
    pairs = [
        (full[number]["loss"], results[name]["loss"])
        for number in kept
        for name in [f"reference_{number:03d}_{candidates[number].key}"]
        if _scored(results.get(name, {}))
    ]
    losses = np.array([full[number]["loss"] for number in kept])
    seconds = float(np.mean([full[number]["seconds"] for number in kept]))
    chosen = [candidates[number] for number in kept]
    trials, curves = plan.budget.trials, [full[number]["curve"] for number in kept]
    estimates, shares = _estimates(bench, chosen, curves, seconds)
    cost = next((objective for objective in plan.objectives if isinstance(objective, Cost)), None)
    for name, own in _predicted(bench, chosen, curves, losses, trials, cost).items():
        estimates[name], shares[name] = own
    pilot = Pilot(losses, [values for values in repeated if len(values) > 1], pairs, estimates, shares, seconds)
    return advise(pilot, bench.space, trials, has_cost=cost is not None)


def _scored(result: Mapping[str, Any]) -> bool:
    """Tell whether a training has a loss that others can be held against."""
    return bool(np.isfinite(result.get("loss", np.nan)))


def _folder_of(folder: Path, plan: Plan) -> Path:
    """Return where trainings of this recipe on this data are kept: those of another one are not taken for them."""
    home = folder / made_from("reference", plan.recipe, plan.main_metric.column)
    home.mkdir(parents=True, exist_ok=True)
    return home


def _units(plan: Plan, candidates: Sequence[Candidate]) -> list[PilotUnit]:
    """Return every training of the pilot."""
    bench, procedure, metric = plan.bench, plan.estimator.procedure, plan.main_metric

    def unit(name: str, candidate: Candidate, *purpose: str | int) -> PilotUnit:
        return PilotUnit(procedure, candidate, derive_seed(bench.seed, "pilot", *purpose), metric, name)

    units = [unit(f"full_{number:03d}_{each.key}", each, number) for number, each in enumerate(candidates)]
    for number, candidate in list(enumerate(candidates))[1 : 1 + REPEATED]:  # not the reference, mostly the largest
        name = f"again_{number:03d}_{candidate.key}"
        units += [unit(f"{name}_{again}", candidate, number, again + 1) for again in range(REPETITIONS)]
    if "training" in bench.search:
        for number, candidate in list(enumerate(candidates))[1 : 1 + max(2, len(candidates) // 2)]:
            plain = replace(candidate, training=_reference_training(bench, candidate))
            units.append(unit(f"reference_{number:03d}_{candidate.key}", plain, number))
    return units


def _reference_training(bench: Bench, candidate: Candidate) -> Mapping[str, Any]:
    """Return the reference's training settings, for the layers that a candidate has."""
    settings = {setting.name: setting.reference for setting in bench.space.settings if setting.group == "training"}
    return {name: settings[name] for name in candidate.training}


def _work_off(
    plan: Plan, folder: Path, units: Sequence[PilotUnit], tell: Callable[[str], None]
) -> dict[str, dict[str, Any]]:
    """Return every training's result by name; made where it isn't in the folder, as nothing is that nobody expected."""
    results: dict[str, dict[str, Any]] = {}
    waiting = []
    for unit in units:
        kept = _read(folder / f"{unit.name}.json")
        if kept is None:
            waiting.append(unit)
        else:
            results[unit.name] = kept
    jobs = min(plan.jobs, max(1, len(waiting)))
    with plan.engine.executor(plan.bench, jobs, lambda *_: True) as executor:
        for done, result in executor.work_off(waiting):
            unit = cast("PilotUnit", done)
            found = {"failed": result.reason} if isinstance(result, Failure) else result
            if not isinstance(result, Failure):  # what ended it may be mended by the next time
                write_atomically(folder / f"{unit.name}.json", json.dumps(found).encode())
            results[unit.name] = found
            tell(f"{len(results)}/{len(units)} {unit.name}: {found.get('loss', found.get('failed'))}")
    return results


def _read(path: Path) -> dict[str, Any] | None:
    """Return what an earlier session found; None where there is nothing, or it was damaged: it is made anew."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    whole = isinstance(content, dict) and ("failed" in content or content.keys() >= {"loss", "curve", "seconds"})
    return content if whole else None


def _estimates(
    bench: Bench, candidates: Sequence[Candidate], curves: Sequence[Sequence[float]], seconds: float
) -> tuple[dict[str, Array], dict[str, float]]:
    """Return what cheaper ways say of candidates by themselves, shape (n,), and what each takes."""
    estimates: dict[str, Array] = {}
    shares: dict[str, float] = {}
    total = min((len(curve) for curve in curves), default=0)
    for epoch in _looked_at(total):
        name = f"early_stopping, looked at after {epoch} of {total} epochs"
        estimates[name], shares[name] = np.array([curve[epoch - 1] for curve in curves]), epoch / total
    third = total // 3
    if third >= 3:  # noqa: PLR2004 - points that a curve is fitted to
        at = np.arange(1.0, third + 1)
        ends = [extrapolated(at, np.array(curve[:third]), total)[0] for curve in curves]
        estimates["learning_curve"], shares["learning_curve"] = np.array(ends), third / total
    for proxy in PROXIES:
        started = time.process_time()
        try:
            values = [-proxies_of(bench, candidate, [proxy])[proxy] for candidate in candidates]
        except TrainingFailed as error:
            logger.info("%s", error)
            continue
        name = f"proxies, {proxy}"
        estimates[name] = np.array(values)
        shares[name] = (time.process_time() - started) / len(candidates) / max(seconds, 1e-9)
    return estimates, shares


def _predicted(
    bench: Bench,
    candidates: Sequence[Candidate],
    curves: Sequence[Sequence[float]],
    losses: Array,
    trials: int,
    cost: Cost | None,
) -> dict[str, tuple[Array, float]]:
    """Return what models of some candidates say of others that they haven't seen, and what so many trials take then.

    Without and with the loss early in the training: `predictor`, and `learning_curve` with `method = "learned"`. Both
    need trainings that went to the end.

    Args:
        bench: of the pilot.
        candidates: that were trained.
        curves: of their losses on validation data.
        losses: that they ended with, shape (candidates,).
        trials: of the search that is advised.
        cost: that is an objective beside the metric.
    """
    if len(candidates) < FEWEST_FOR_PREDICTOR:
        return {}
    features = Features()
    rows, groups = features.rows(bench, candidates), features.groups(bench)
    found: dict[str, tuple[Array, float]] = {}
    if trials > PREDICTOR_ANCHORS:
        ends = cross_validated("gaussian_process", groups, rows, losses)
        found["predictor"] = ends, PREDICTOR_ANCHORS / trials
    total = min(map(len, curves))
    in_full = min(1.0, FEWEST_FINISHED / trials)
    sizes = [bench.size_of(candidate, cost) for candidate in candidates]
    for epoch in _looked_at(total):
        if np.isfinite([curve[epoch - 1] for curve in curves]).all():
            courses = [
                Course(size, {epoch: curve[epoch - 1]}, float(loss), settings=row)
                for size, curve, loss, row in zip(sizes, curves, losses, rows.tolist(), strict=True)
            ]
            ends = np.empty(len(courses))
            for others, fold in folds(len(courses)):
                known, asked = ([courses[place] for place in places] for places in (others, fold))
                ends[fold], _ = predicted_ends(groups, known, asked, epoch)
            name = f'learning_curve, method = "learned", looked at after {epoch} of {total} epochs'
            found[name] = ends, in_full + (1 - in_full) * epoch / total
    return found


def _looked_at(total: int) -> list[int]:
    """Return the epochs after which a training of so many is looked at."""
    return [epoch for share in LOOKED_AT if 0 < (epoch := max(1, round(share * total))) < total]
