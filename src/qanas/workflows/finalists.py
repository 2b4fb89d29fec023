"""Finalists: front points retrained with several seeds, exported, and re-measured in the runtime."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import save

from qanas.core.candidate import Candidate
from qanas.core.card import Precision, SplitName
from qanas.core.measurement import Objective
from qanas.core.pareto import spread
from qanas.core.run_folder import SEED_ID, RunFolder, write_atomically
from qanas.core.seeds import derive_seed
from qanas.deployment.litert import LiteRTModel, dequantize
from qanas.deployment.parity import ParitySteps, parity_failure
from qanas.deployment.tflite import write_tflite
from qanas.performance_estimation.base import TrainedNetwork
from qanas.tasks.base import FloatArray, Split
from qanas.workflows.plan import Setup
from qanas.workflows.predictions_file import save_predictions
from qanas.workflows.progress import Progress
from qanas.workflows.search import FrontPoint
from qanas.workflows.training_record import Metrics, Training, TrainingFiles
from qanas.workflows.training_units import TrainingUnit, make_training_executor
from qanas.workflows.units import Failure

logger = logging.getLogger("qanas")


@dataclass(frozen=True)
class Finalist:
    """A candidate that may ship.

    Attributes:
        identity: the name of its folder.
        candidate: its settings.
        start: a digest of the weights that its trainings start from; empty for random ones.
    """

    identity: str
    candidate: Candidate
    start: str = ""


def training_files(folder: RunFolder, finalist: Finalist, seed: int) -> TrainingFiles:
    """Return where a training of a finalist is kept."""
    key = finalist.candidate.key
    return TrainingFiles(folder.trainings / (f"{key}-{finalist.start}" if finalist.start else key), seed)


def choose_finalists(setup: Setup, front: Sequence[FrontPoint], objectives: Sequence[Objective]) -> list[Finalist]:
    """Return the seed network and points spread over the front, whose axes are ``objectives``.

    Sizes span decades, so costs are spread on a logarithmic scale where they are positive.
    """
    seed = setup.space.reference
    chosen = [Finalist(SEED_ID, seed)]
    distinct = list({record.candidate.key: record for record in front if record.candidate != seed}.values())
    if distinct:
        losses = np.array([[o.loss(r.measurement.value(o.name)) for o in objectives] for r in distinct])
        costs = [position for position, o in enumerate(objectives) if o.name in setup.plan.cost_names]
        for position in costs:
            if (losses[:, position] > 0).all():
                losses[:, position] = np.log(losses[:, position])
        picked = spread(losses, setup.plan.finalists.count)
        start = setup.problem.start
        digest = "" if start is None else start.digest
        chosen += [Finalist(distinct[i].candidate.key, distinct[i].candidate, digest) for i in picked]
    return chosen


@dataclass(frozen=True)
class FinalistUnit(TrainingUnit[Training]):
    """One training of a finalist, from initial weights to deployed metrics.

    Attributes:
        finalist: what is trained.
        seed: the training's number.
        files: where the result goes.
    """

    finalist: Finalist
    seed: int
    files: TrainingFiles

    @property
    def candidate(self) -> Candidate:  # type: ignore[override] # read only is enough
        """The finalist's."""
        return self.finalist.candidate

    def training_seed(self, setup: Setup) -> int:
        """Return the seed, which follows from the candidate and the training's number."""
        return derive_seed(setup.plan.seed, "finalist", self.finalist.candidate.key, self.seed)

    def finish(self, setup: Setup, trained: TrainedNetwork) -> Training:
        """Export, run in LiteRT on validation and test data, and keep everything."""
        started = time.process_time()
        content = write_tflite(trained.quantized.program())
        model = LiteRTModel(content, border=trained.quantized.graph.border)
        splits: dict[SplitName, Split] = {"val": setup.problem.data.val, "test": setup.problem.data.test}
        scored = {name: _score(setup, trained, model, split) for name, split in splits.items()}
        steps = ParitySteps.between(
            np.concatenate([entry.simulated for entry in scored.values()]),
            np.concatenate([entry.deployed for entry in scored.values()]),
        )
        metrics: Metrics = {
            precision: {name: entry.metrics[precision] for name, entry in scored.items()}
            for precision in ("float", "quantized", "deployed")
        }
        failure = self._parity_failure(setup, steps, metrics)
        write_atomically(self.files.model, content)
        write_atomically(self.files.weights, save(dict(trained.network.state_dict())))
        outputs = {name: entry.outputs for name, entry in scored.items()}
        save_predictions(self.files.predictions, setup, splits, outputs)
        seconds = trained.train_seconds + time.process_time() - started
        training = Training(self.seed, metrics, steps, failure, hashlib.sha256(content).hexdigest(), seconds)
        write_atomically(self.files.result, json.dumps(asdict(training)).encode())
        return training

    def _parity_failure(self, setup: Setup, steps: ParitySteps, metrics: Metrics) -> str:
        tolerance = dict(setup.plan.task.parity_tolerance)
        for split in ("val", "test"):
            simulated, deployed = metrics["quantized"][split], metrics["deployed"][split]
            reason = parity_failure(steps, dict(simulated), dict(deployed), tolerance)
            if reason is not None:
                return f"outside parity on {split}: {reason}"
        return ""


@dataclass(frozen=True)
class _Scored:
    metrics: Mapping[Precision, Mapping[str, float]]
    simulated: NDArray[Any]
    deployed: NDArray[Any]
    outputs: FloatArray


def _score(setup: Setup, trained: TrainedNetwork, model: LiteRTModel, split: Split) -> _Scored:
    """Score the FP32 network, its simulation and the deployed file on the same samples."""
    affine = trained.quantized.output
    deployed = model.codes(split.inputs)
    simulated = trained.codes(split.inputs).numpy().astype(deployed.dtype)
    outputs = dequantize(deployed, affine)
    evaluate = setup.plan.task.evaluate
    metrics: dict[Precision, Mapping[str, float]] = {
        "float": evaluate(trained.float_outputs(split.inputs), split),
        "quantized": evaluate(dequantize(simulated, affine), split),
        "deployed": evaluate(outputs, split),
    }
    return _Scored(metrics, simulated, deployed, outputs)


def train_finalists(
    setup: Setup, folder: RunFolder, finalists: list[Finalist], progress: Progress
) -> tuple[dict[str, list[Training]], int]:
    """Return the trainings of every finalist, by identity, and how many weren't finished by an earlier session.

    Args:
        setup: plan and data.
        folder: of the run.
        finalists: what is trained.
        progress: who watches.
    """
    seeds = range(setup.plan.finalists.seeds)
    wanted = [FinalistUnit(f, seed, training_files(folder, f, seed)) for f in finalists for seed in seeds]
    trainings, trained = train(setup, "finalists", wanted, progress)
    return {f.identity: [trainings[f.identity, seed] for seed in seeds] for f in finalists}, trained


def train(
    setup: Setup, stage: str, wanted: Sequence[FinalistUnit], progress: Progress
) -> tuple[dict[tuple[str, int], Training], int]:
    """Return trainings by identity and seed, and how many weren't finished by an earlier session.

    Args:
        setup: plan and data.
        stage: its name, for who watches.
        wanted: the trainings.
        progress: who watches.
    """
    found = {(unit.finalist.identity, unit.seed): unit.files.read() for unit in wanted}
    finished = {place: training for place, training in found.items() if training is not None}
    waiting = [unit for unit in wanted if (unit.finalist.identity, unit.seed) not in finished]
    progress.stage(stage, len(wanted), len(finished))
    order = {id(unit): position for position, unit in enumerate(waiting)}

    def on_epoch(unit: TrainingUnit[Training], epoch: int, loss: float) -> None:
        progress.epoch(order[id(unit)], epoch, setup.plan.estimator.epochs, loss)

    with make_training_executor(setup, min(setup.plan.jobs, max(len(waiting), 1)), on_epoch) as executor:
        for unit, result in executor.work_off(waiting):
            assert isinstance(unit, FinalistUnit)  # noqa: S101 - nothing else was submitted
            training = result if isinstance(result, Training) else Training.failed(unit.seed, result.reason)
            if isinstance(result, Failure):
                logger.info("%s %s, training %d failed: %s", stage, unit.finalist.identity, unit.seed, result.reason)
            finished[unit.finalist.identity, unit.seed] = training
            progress.unit_finished(f"{unit.finalist.identity}, training {unit.seed + 1}")
    return finished, len(waiting)
