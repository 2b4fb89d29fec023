"""The reference, tuned: how long it trains is chosen on validation data before anything is held against it.

A reference that is trained for too long makes whatever is found look good. It is trained as long as the recipe says,
half as long, a quarter, and so on, several times each; the schedule follows the epochs: each is a training of its own.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qanas.core.errors import InputError
from qanas.core.events import Event, Watch
from qanas.core.measures import Metric
from qanas.core.run_folder import RunFolder, write_atomically
from qanas.core.seeds import derive_seed
from qanas.core.trials import TrialRecord
from qanas.execution.executors import Failure, Unit
from qanas.performance_estimation.bench import Bench
from qanas.performance_estimation.procedure import Procedure
from qanas.planning.plan import Plan
from qanas.planning.progress import Progress
from qanas.shipping.finalists import variant_of

logger = logging.getLogger("qanas")

HALVINGS = 4
METRIC = "metric"
"""The key of the file of scores that tells which metric they are of."""

FEWEST_EPOCHS = 3
"""Of a training that is tried, but for one that the recipe asks for."""


@dataclass(frozen=True)
class TunedReference:
    """How long the reference trains.

    Attributes:
        procedure: with the epochs that were chosen.
        metric: that decided, on validation data.
        scores: of every training, by epochs; empty where there was nothing to choose.
        trained: how many trainings weren't done by an earlier session.
        cpu_seconds: of all trainings but the search's own.
    """

    procedure: Procedure
    metric: str
    scores: Mapping[int, Sequence[float]]
    trained: int = 0
    cpu_seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """Return it for ``summary.json``."""
        return {
            "epochs": self.procedure.epochs,
            "metric": self.metric,
            "cpu_seconds": self.cpu_seconds,
            "scores": {str(epochs): list(scores) for epochs, scores in self.scores.items()},
        }


@dataclass(frozen=True)
class TuningUnit(Unit[Bench, tuple[float, float]]):
    """One training of the reference, scored on validation data.

    Attributes:
        procedure: with its epochs.
        repetition: its number.
        metric: that is scored.
    """

    procedure: Procedure
    repetition: int
    metric: Metric

    @property
    def name(self) -> str:
        """Of the training, for people and for the file of scores."""
        return f"{self.procedure.epochs} epochs, training {self.repetition + 1}"

    def run(self, bench: Bench, watch: Watch) -> tuple[float, float]:
        """Train, quantize, and score on validation data; return the score and the CPU seconds."""
        started = time.process_time()
        reference = bench.reference
        seed = derive_seed(bench.seed, "tuned reference", self.procedure.epochs, self.repetition)
        trained = self.procedure.make(bench, reference, bench.reference_start, seed, watch)
        scores = trained.evaluate(bench.task_of(reference), bench.data_of(reference).val)
        return scores[self.metric.column], time.process_time() - started


def epochs_tried(epochs: int) -> list[int]:
    """Return the lengths that are tried, the recipe's own first.

    >>> epochs_tried(12), epochs_tried(100), epochs_tried(2)
    ([12, 6, 3], [100, 50, 25, 12, 6], [2])
    """
    shorter = [epochs // 2**halvings for halvings in range(1, HALVINGS + 1)]
    return [epochs, *(fewer for fewer in shorter if fewer >= FEWEST_EPOCHS)]


def tuned_reference(
    plan: Plan, folder: RunFolder, progress: Progress, records: Sequence[TrialRecord] = ()
) -> TunedReference:
    """Return how long the reference trains that ships, and that everything is held against.

    What earlier sessions have tried stays.

    Args:
        plan: says how often each length is tried; with weights that are not trained there is nothing to choose.
        folder: of the run.
        progress: who watches.
        records: of the search, whose training of the reference counts where it was as long as finalists'.

    Raises:
        InputError: the reference can't be trained.
    """
    own, metric = plan.finalists.procedure, plan.main_metric
    lengths = epochs_tried(own.epochs)
    if not plan.finalists.tune or plan.bench.reference_start.trained or len(lengths) == 1:
        return TunedReference(own, metric.name, {})
    place = folder.trainings / f"{plan.bench.reference.key}-tuning{variant_of(plan, own)}.json"
    done = _read(place, metric)
    if own == plan.estimator.procedure:
        for record in records:
            if record.is_seed and metric.column in record.metrics:
                done[TuningUnit(own, 0, metric).name] = record.metrics[metric.column], 0.0
    units = [
        TuningUnit(own.with_settings(epochs=epochs), repetition, metric)
        for epochs in lengths
        for repetition in range(plan.finalists.tune)
    ]
    waiting = [unit for unit in units if unit.name not in done]
    progress.stage("tuning of the reference", len(units), len(units) - len(waiting))
    order = {unit.name: position for position, unit in enumerate(waiting)}

    def on_event(unit: Unit[Any, Any], event: Event) -> bool:
        progress.epoch(order[unit.name], event)  # type: ignore[attr-defined]  # of the units below
        return True

    with plan.engine.executor(plan.bench, min(plan.jobs, max(len(waiting), 1)), on_event) as executor:
        for unit, result in executor.work_off(waiting):
            assert isinstance(unit, TuningUnit)  # noqa: S101 - nothing else was submitted
            if isinstance(result, Failure):
                raise InputError(f"reference.tune: the reference can't be trained: {result.reason}")
            done[unit.name] = result
            write_atomically(place, json.dumps({**done, METRIC: metric.column}, sort_keys=True).encode())
            progress.unit_finished(unit.name)
    scores = {epochs: [done[unit.name][0] for unit in units if unit.procedure.epochs == epochs] for epochs in lengths}
    losses = np.array([np.mean([metric.loss(score) for score in scores[epochs]]) for epochs in lengths])
    best = lengths[int(np.argmin(np.where(np.isfinite(losses), losses, np.inf)))]
    logger.info("reference: %d epochs, of %s", best, scores)
    chosen = own.with_settings(epochs=best) if best != own.epochs else own
    return TunedReference(chosen, metric.name, scores, len(waiting), sum(done[unit.name][1] for unit in units))


def _read(path: Path, metric: Metric) -> dict[str, tuple[float, float]]:
    """Return what earlier sessions found; nothing where the file was damaged, or is of another metric: it is replaced.

    Args:
        path: of the file; early runs didn't say there which metric it is of.
        metric: that is asked for.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
        if content.pop(METRIC, metric.column) != metric.column:
            return {}
        return {str(name): (float(score), float(seconds)) for name, (score, seconds) in content.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
