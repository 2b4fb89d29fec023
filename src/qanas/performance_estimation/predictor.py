"""The estimator that trains some candidates, the anchors, and predicts what all others would score."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from qanas.core.candidate import Candidate
from qanas.core.errors import InputError, TrainingFailed, described
from qanas.core.events import Watch
from qanas.core.measures import Measure, Metric, Score, columns_of
from qanas.core.run_folder import write_atomically
from qanas.core.seeds import derive_seed
from qanas.core.trials import TrialRecord
from qanas.performance_estimation.base import Estimate, Estimator, StageFile, Stages, StageUnit
from qanas.performance_estimation.bench import Bench
from qanas.performance_estimation.features import Features
from qanas.performance_estimation.procedure import Procedure
from qanas.performance_estimation.proxy_scores import ProxyName
from qanas.regression.gaussian_process import GaussianProcess
from qanas.regression.models import Model, ModelName, cross_validated_tau, fitted, require_model
from qanas.search_space.start import Proposal

POOL = 20
"""Random candidates an anchor that spread ones are chosen from."""

ROUNDS = 4
"""In which anchors are trained where later ones are chosen by what was learnt of earlier ones."""

FEWEST_ANCHORS = 10


@dataclass(frozen=True)
class Predictor(Estimator):
    """Trains anchors by the procedure, fits a model to each metric, and predicts from then on.

    Before it is believed it has to rank its own anchors: predicted by models that hadn't seen them, Kendall's tau with
    what they scored has to reach `min_tau`, or the run ends with a line.

    Attributes:
        procedure: trains anchors and finalists.
        anchors: candidates that are trained, the reference included.
        model: that is fitted.
        choose: anchors at random; spread, as far from each other as can be; or in rounds, half of each later one where
            the model knows least, half where it expects the best.
        costs: whether sizes are features, too; then every prediction takes a network's tracing, about 10 ms.
        proxies: zero-cost proxies that are features.
        min_tau: Kendall's tau below which predictions aren't used.
    """

    procedure: Procedure
    anchors: Annotated[int, Field(ge=FEWEST_ANCHORS)] = 60
    model: ModelName = "gaussian_process"
    choose: Literal["random", "spread", "rounds"] = "random"
    costs: bool = False
    proxies: Annotated[tuple[ProxyName, ...], Field(strict=False)] = ()
    min_tau: Annotated[float, Field(ge=-1, le=1)] = 0.3

    stages = ("anchors",)
    cheap = True

    def __post_init__(self) -> None:
        """Refuse a model whose package isn't there."""
        require_model(self.model, "estimation.model")

    @cached_property
    def features(self) -> Features:
        """What the model sees."""
        return Features(self.costs, self.proxies)

    def __getstate__(self) -> dict[str, object]:
        """Pickle the fields alone."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    def axis(self, measure: Measure) -> Measure:
        """Return the prediction in place of a metric."""
        return prediction_of(measure) if isinstance(measure, Metric) else measure

    def prepare(self, bench: Bench, stages: Stages, measures: Sequence[Measure]) -> Predictions:
        """Train the anchors, and fit."""
        metrics = tuple(dict.fromkeys(measure for measure in measures if isinstance(measure, Metric)))
        chosen: list[Candidate] = []
        units: list[AnchorUnit] = []
        for number in range(ROUNDS if self.choose == "rounds" else 1):
            first = len(chosen)
            last = self.anchors if self.choose != "rounds" else round(self.anchors * (number + 1) / ROUNDS)
            chosen += self._more(bench, metrics, units, chosen, last - first)
            units += [
                AnchorUnit(self._file(stages, candidate, place), self.procedure, candidate, place)
                for place, candidate in enumerate(chosen[first:], first)
            ]
            stages.work_off("anchors", units)
        stages.keep_only([unit.file for unit in units])
        return self._believed(bench, stages, metrics, units)

    def _file(self, stages: Stages, candidate: Candidate, place: int) -> StageFile:
        return stages.file("anchors", f"anchor_{place:03d}_{candidate.key}", ".anchor", "anchors", candidate.key)

    def _more(
        self,
        bench: Bench,
        metrics: Sequence[Metric],
        before: Sequence[AnchorUnit],
        chosen: Sequence[Candidate],
        count: int,
    ) -> list[Candidate]:
        """Return further anchors; the first one is the reference."""
        generator = np.random.default_rng(derive_seed(bench.seed, "anchors", len(chosen)))
        known = {candidate.key for candidate in chosen}
        pool: dict[str, Candidate] = {}
        most = count * (1 if self.choose == "random" else POOL)
        # What can't be built is no anchor; of a pool that is looked at without building it, it fails like a trial.
        built = self.choose == "random" or self.costs
        for _ in range(3 * most):
            if len(pool) >= most:
                break
            candidate = bench.space.random(generator)
            if candidate.key not in known and not (built and bench.refusal(candidate)):
                pool[candidate.key] = candidate
        own = [] if chosen else [bench.reference]
        others = [candidate for candidate in pool.values() if candidate != bench.reference]
        wanted = count - len(own)
        if self.choose == "random" or (self.choose == "rounds" and not before):
            return [*own, *others[:wanted]]
        rows = self.features.rows(bench, [*chosen, *own, *others])
        fixed = len(chosen) + len(own)
        if self.choose == "spread":
            return [*own, *(others[place - fixed] for place in _farthest(rows, fixed, wanted))]
        return self._by_model(bench, metrics, before, others, rows[fixed:], wanted)

    def _by_model(
        self,
        bench: Bench,
        metrics: Sequence[Metric],
        before: Sequence[AnchorUnit],
        others: Sequence[Candidate],
        rows: NDArray[np.float64],
        wanted: int,
    ) -> list[Candidate]:
        """Return half of a round where the model knows least, half where it expects the best.

        Args:
            bench: what candidates are measured on.
            metrics: the first one is predicted.
            before: anchors that are trained.
            others: candidates to choose from.
            rows: of theirs, shape (others, columns).
            wanted: how many.
        """
        candidates, values = _scored(before, metrics)
        if len(candidates) < FEWEST_ANCHORS // 2:
            return list(others[:wanted])
        process = GaussianProcess(self.features.groups(bench), self.features.rows(bench, candidates), values[:, 0])
        mean, sd = process.predict(rows)
        unknown = np.argsort(-sd, kind="stable")[: wanted // 2].tolist()
        best = [place for place in np.argsort(mean, kind="stable").tolist() if place not in unknown]
        return [others[place] for place in (unknown + best)[:wanted]]

    def _believed(
        self, bench: Bench, stages: Stages, metrics: tuple[Metric, ...], units: Sequence[AnchorUnit]
    ) -> Predictions:
        """Fit the models, and hold each against the anchors.

        Raises:
            InputError: one ranks them too badly.
        """
        candidates, values = _scored(units, metrics)
        if len(candidates) < FEWEST_ANCHORS:
            raise InputError(
                f"estimation.anchors: {len(candidates)} of {len(units)} could be trained, {FEWEST_ANCHORS} are needed; "
                "raise it, or look into the log for why the others failed"
            )
        with stages.timed("predictor"):
            rows, groups = self.features.rows(bench, candidates), self.features.groups(bench)
            taus = [cross_validated_tau(self.model, groups, rows, column) for column in values.T]
            models = tuple(fitted(self.model, groups, rows, column) for column in values.T)
        for metric, tau in zip(metrics, taus, strict=True):
            told = f"Kendall's tau of predicted and trained {metric.column} over {len(candidates)} anchors is {tau:.2f}"
            stages.message(f"{told} (cross-validated)")
            if tau < self.min_tau:
                raise InputError(
                    f"estimation.min_tau = {self.min_tau:g}: {told}; raise anchors, take another model, or "
                    "estimation.name = 'training'"
                )
        return Predictions(self.procedure, self, metrics, models, tuple(taus), len(candidates))

    def estimate(
        self, bench: Bench, proposal: Proposal, seed: int, history: Sequence[TrialRecord], watch: Watch
    ) -> Estimate:
        """Refuse: there is no model before `prepare`."""
        del bench, proposal, seed, history, watch
        raise TypeError("a predictor estimates once it is prepared")

    def forecast(self, bench: Bench) -> float:
        """Return as many trainings of the reference as there are anchors: more than they take, mostly."""
        return self.anchors * self.procedure.forecast(bench, bench.reference)


def prediction_of(metric: Measure) -> Score:
    """Return what stands for a metric."""
    return Score(f"predicted_{metric.column}", metric.direction)


def _farthest(rows: NDArray[np.float64], fixed: int, wanted: int) -> list[int]:
    """Return rows, shape (n, columns), each as far as can be from the fixed first ones and those chosen before it."""
    gaps = np.full(len(rows), np.inf)
    for place in range(fixed):
        gaps = np.minimum(gaps, np.linalg.norm(rows - rows[place], axis=1))
    gaps[:fixed] = -1.0
    chosen: list[int] = []
    while len(chosen) < wanted and gaps.max() >= 0:
        chosen.append(int(np.argmax(gaps)))
        gaps = np.minimum(gaps, np.linalg.norm(rows - rows[chosen[-1]], axis=1))
        gaps[chosen] = -1.0
    return chosen


def _scored(units: Sequence[AnchorUnit], metrics: Sequence[Metric]) -> tuple[list[Candidate], NDArray[np.float64]]:
    """Return the anchors that could be trained and their losses, shape (anchors, metrics)."""
    candidates: list[Candidate] = []
    losses: list[list[float]] = []
    for unit in units:
        scores = unit.file.read_note().get("scores", {})
        found = [metric.loss(scores.get(metric.column, np.nan)) for metric in metrics]
        if np.isfinite(found).all():
            candidates.append(unit.candidate)
            losses.append(found)
    return candidates, np.array(losses, np.float64).reshape(len(candidates), len(metrics))


@dataclass(frozen=True)
class AnchorUnit(StageUnit):
    """One anchor.

    Attributes:
        procedure: trains it.
        candidate: that is trained.
        place: among the anchors; its seed follows from it.
    """

    procedure: Procedure
    candidate: Candidate
    place: int

    @property
    def label(self) -> str:
        """For people."""
        return f"anchor {self.place + 1}"

    def write(self, bench: Bench, watch: Watch) -> dict[str, Any]:
        """Train, score on validation data, and write that down."""
        started = time.process_time()
        seed = derive_seed(bench.seed, "anchor", self.place)
        try:
            start = bench.start_of(self.candidate)
            made = self.procedure.make(bench, self.candidate, start, seed, watch)
            scores = made.evaluate(bench.task_of(self.candidate), bench.data_of(self.candidate).val)
            note: dict[str, Any] = {"scores": scores}
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - as a trial that fails, in whatever way, ends no search
            note = {"scores": {}, "failed": str(error) if isinstance(error, TrainingFailed) else described(error)}
        content = {"config": self.candidate.config, **note, "cpu_seconds": time.process_time() - started}
        write_atomically(self.file.path, json.dumps(content).encode())
        return note


@dataclass(frozen=True)
class Predictions(Estimator):
    """A predictor that is fitted.

    Attributes:
        procedure: trains finalists.
        settings: that it was made by.
        metrics: that are predicted.
        models: one a metric.
        taus: of each, cross-validated.
        trained: anchors.
    """

    procedure: Procedure
    settings: Predictor
    metrics: tuple[Metric, ...]
    models: tuple[Model, ...] = field(repr=False)
    taus: tuple[float, ...]
    trained: int

    cheap = True

    def axis(self, measure: Measure) -> Measure:
        """Return the prediction in place of a metric."""
        return self.settings.axis(measure)

    def predict(self, bench: Bench, candidates: Sequence[Candidate]) -> dict[str, NDArray[np.float64]]:
        """Return predictions by column, shape (candidates,) each, of as many as there are, at once."""
        rows = self.settings.features.rows(bench, candidates)
        columns = columns_of(prediction_of(metric) for metric in self.metrics)
        found = zip(columns, self.metrics, self.models, strict=True)
        # A loss is a metric with its sign turned where more is better, and is turned back by the same.
        return {
            column: np.asarray(metric.loss(1.0) * model.predict(rows), np.float64) for column, metric, model in found
        }

    def estimate(
        self, bench: Bench, proposal: Proposal, seed: int, history: Sequence[TrialRecord], watch: Watch
    ) -> Estimate:
        """Predict."""
        del seed, history, watch
        found = self.predict(bench, [proposal.candidate])
        return Estimate({column: float(values[0]) for column, values in found.items()})

    def summary(self) -> dict[str, Any]:
        """Return how well it ranks."""
        taus = {metric.column: round(tau, 4) for metric, tau in zip(self.metrics, self.taus, strict=True)}
        return {"predictor": {"model": self.settings.model, "anchors": self.trained, "kendall_tau": taus}}
