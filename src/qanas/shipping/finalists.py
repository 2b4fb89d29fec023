"""Finalists: front points trained several times, exported, and re-measured in the runtime."""

from __future__ import annotations

import hashlib
import io
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from qanas.core.card import LayerNoise, SplitName
from qanas.core.errors import described
from qanas.core.even_spread import evenly_spread
from qanas.core.events import Event, Losses, Watch
from qanas.core.measures import Precision
from qanas.core.run_folder import SEED_ID, RunFolder, digest
from qanas.core.seeds import derive_seed
from qanas.deployment.litert import LiteRTModel, default_kernels_refusal, dequantize
from qanas.deployment.parity import ParitySteps, parity_failure
from qanas.deployment.tflite import write_tflite
from qanas.execution.executors import Failure, Unit
from qanas.execution.sharing import ALONE, Sharing, work_off_shared
from qanas.performance_estimation.bench import Bench
from qanas.performance_estimation.procedure import Procedure, TrainedNetwork
from qanas.performance_estimation.scoring import metrics_of, sample_of
from qanas.planning.plan import Plan
from qanas.planning.progress import Progress
from qanas.quantization.border import alone
from qanas.quantization.layer_noise import layer_noise, samples_affordable
from qanas.quantization.quantized_graph import QuantizedGraph
from qanas.quantization.tracing import trace, traced_difference
from qanas.shipping.mistaken import mistaken_inputs
from qanas.shipping.trainings import SHIPPED_SUFFIXES, Finalist, Metrics, Training, TrainingFiles, training_files
from qanas.tasks.base import Outputs, Task, TaskData
from qanas.tasks.resampling import resampled_metrics, units_of
from qanas.tasks.samples import Split
from qanas.training.packed import packed

RUN_AT_A_TIME = 256
"""Samples that the runtime is handed at a time."""

TRACED_ON = 16
"""Validation samples on which a traced network is held against torch."""

MOST_TRAIN_SAMPLES = 4096
"""Training samples that a finalist is scored on at most."""

logger = logging.getLogger("qanas")


def reference_finalist(plan: Plan, procedure: Procedure) -> Finalist:
    """Return the reference, to be trained by some procedure."""
    bench = plan.bench
    variant = variant_of(plan, procedure)
    return Finalist(SEED_ID, bench.reference, bench.reference_start, procedure, variant, "reference")


def variant_of(plan: Plan, procedure: Procedure) -> str:
    """Return what tells a procedure from the estimator's: a digest; empty for the estimator's own."""
    same = procedure == plan.estimator.procedure
    return "" if same else hashlib.sha256(repr(procedure).encode()).hexdigest()[:6]


@dataclass(frozen=True)
class FinalistUnit(Unit[Bench, Training]):
    """One training of a finalist, from the weights that it starts from to deployed metrics.

    Attributes:
        finalist: what is trained.
        repetition: the training's number.
        files: where the result goes.
    """

    finalist: Finalist
    repetition: int
    files: TrainingFiles

    @classmethod
    def of(cls, folder: RunFolder, finalist: Finalist, repetition: int) -> FinalistUnit:
        """Return a repetition of a finalist of a run."""
        return cls(finalist, repetition, training_files(folder, finalist, repetition))

    def run(self, bench: Bench, watch: Watch) -> Training:
        """Train, export, run in LiteRT on validation and test data, and keep everything."""
        finalist = self.finalist
        candidate = finalist.candidate
        seed = derive_seed(bench.seed, "finalist", candidate.key, self.repetition)
        losses = Losses(watch)
        trained = finalist.procedure.make(bench, candidate, finalist.start, seed, losses)
        started = time.process_time()
        content = write_tflite(trained.quantized.program())
        model = LiteRTModel(content, border=trained.quantized.graph.border)
        task, data = bench.task_of(candidate), bench.data_of(candidate)
        splits: dict[SplitName, Split] = {"val": data.val, "test": data.test}
        scored = {name: _score(task, trained, model, split) for name, split in splits.items()}
        parts = [
            ParitySteps.between(
                np.concatenate([entry.simulated[name] for entry in scored.values()]),
                np.concatenate([entry.deployed[name] for entry in scored.values()]),
            )
            for name in model.outputs
        ]
        steps = ParitySteps.together(parts)
        metrics: Metrics = {
            precision: {name: entry.metrics[precision] for name, entry in scored.items()}
            for precision in ("float", "quantized", "deployed")
        }
        reasons = [_not_the_network(trained, data.val, content)]
        reasons += [_parity_failure(task, part, metrics) for part in parts]
        failure = next(filter(None, reasons), "")
        kept = {name: _kept(task, scored[name], splits[name], data.preprocessing) for name in splits}
        contents = (content, packed(trained.network.state_dict()), packed_predictions(kept))
        seconds = trained.train_seconds + time.process_time() - started
        units = {name: int(units_of(task, split).max()) + 1 for name, split in splits.items()}
        noise = [layer.model_dump() for layer in _noise(trained.quantized, data.val)]
        training = Training(
            self.repetition, metrics, steps, failure, digest(content), seconds, units=units, losses=losses.values,
            train=_train_scores(task, trained, data), curve=list(trained.curve), noise=noise,
        )  # fmt: skip
        return self.files.write(training, dict(zip(SHIPPED_SUFFIXES, contents, strict=True)))


def _train_scores(task: Task, trained: TrainedNetwork, data: TaskData) -> dict[str, float]:
    """Return what the FP32 network scores on training samples spread over the split, as many as validation has."""
    try:
        seen = sample_of(data.train, min(len(data.val), MOST_TRAIN_SAMPLES))
        return metrics_of(task, trained.float_outputs(seen), seen)
    except Exception as error:  # noqa: BLE001 - a model ships without such scores rather than not at all
        logger.warning("no scores on training data: %s: %s", type(task).__name__, described(error, __file__))
        return {}


def _noise(quantized: QuantizedGraph, split: Split) -> list[LayerNoise]:
    inputs, _ = split.batch(evenly_spread(len(split), samples_affordable(quantized.graph)))
    return layer_noise(quantized, torch.from_numpy(inputs))


def _not_the_network(trained: TrainedNetwork, split: Split, content: bytes) -> str:
    """Return why `qanas export` would refuse what was trained; empty where it wouldn't.

    Traced anew: quantization-aware training changes the weights of the graph that ships, not the network's.
    """
    samples = torch.from_numpy(split.batch(evenly_spread(len(split), TRACED_ON))[0])
    apart = traced_difference(trace(trained.network, split.input_shape), trained.network, samples)
    refusal = None if apart else default_kernels_refusal(content)
    return apart or (f"LiteRT's default kernels can't load the file: {refusal}" if refusal else "")


def _parity_failure(task: Task, steps: ParitySteps, metrics: Metrics) -> str:
    tolerance = dict(task.parity_tolerance)
    for split in ("val", "test"):
        simulated, deployed = metrics["quantized"][split], metrics["deployed"][split]
        reason = parity_failure(steps, dict(simulated), dict(deployed), tolerance)
        if reason is not None:
            return f"outside parity on {split}: {reason}"
    return ""


RESAMPLED = "resampled_"
"""Of the arrays in ``predictions.npz`` that hold resampled metrics: between the split's name and the metric's."""


CONFUSION = "confusion"
"""Of the arrays in ``predictions.npz``: how often each class was taken for each, behind the split's name."""


def _kept(task: Task, scored: _Scored, split: Split, notes: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Return what is kept of a model's outputs on a split: what the task wants, confusions, resampled scores."""
    outputs = scored.outputs
    kept = {**task.float_predictions(scored.float_outputs, split, notes), **task.predictions(outputs, split, notes)}
    found = task.confusion(outputs, split)
    if found is not None:
        kept[CONFUSION] = found
    kept |= mistaken_inputs(outputs, split)
    try:
        drawn = resampled_metrics(task, outputs, split)
    except Exception as error:  # noqa: BLE001 - a model ships without intervals rather than not at all
        logger.warning("no intervals: %s on resampled units: %s", type(task).__name__, described(error, __file__))
        return kept
    return kept | {f"{RESAMPLED}{name}": values for name, values in drawn.items()}


def packed_predictions(kept: Mapping[SplitName, Mapping[str, NDArray[Any]]]) -> bytes:
    """Return what a task keeps of deployed outputs as an .npz file, each array with its split's name in front."""
    arrays = {f"{name}_{array}": values for name, entry in kept.items() for array, values in entry.items()}
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **arrays)
    return file.getvalue()


@dataclass(frozen=True)
class _Scored:
    """One split's outputs and metrics.

    Attributes:
        metrics: by precision.
        simulated: codes of every output by its name, shape (n, output_size, ...).
        deployed: codes of the runtime, of the same shapes.
        outputs: of the deployed model, real values of the same shapes; one of them by itself.
        float_outputs: of the FP32 network, likewise.
    """

    metrics: Mapping[Precision, Mapping[str, float]]
    simulated: Mapping[str, NDArray[Any]]
    deployed: Mapping[str, NDArray[Any]]
    outputs: Outputs
    float_outputs: Outputs


def _score(task: Task, trained: TrainedNetwork, model: LiteRTModel, split: Split) -> _Scored:
    """Score the FP32 network, its simulation and the deployed file on the same samples."""
    (source,), affines = model.inputs, trained.quantized.outputs
    chunks = [model.codes({source: chunk}) for chunk in split.chunks(RUN_AT_A_TIME)]
    deployed = {name: np.concatenate([chunk[name] for chunk in chunks]) for name in model.outputs}
    codes = trained.codes_by_name(split)
    simulated = {name: codes[name].numpy().astype(values.dtype) for name, values in deployed.items()}
    outputs, expected = (
        alone({name: dequantize(values, affines[name]) for name, values in side.items()})
        for side in (deployed, simulated)
    )
    of_floats = trained.float_outputs(split)
    metrics: dict[Precision, Mapping[str, float]] = {
        "float": metrics_of(task, of_floats, split),
        "quantized": metrics_of(task, expected, split),
        "deployed": metrics_of(task, outputs, split),
    }
    return _Scored(metrics, simulated, deployed, outputs, of_floats)


def train_finalists(
    plan: Plan, folder: RunFolder, finalists: list[Finalist], progress: Progress, sharing: Sharing = ALONE
) -> tuple[dict[str, list[Training]], int]:
    """Return the trainings of every finalist, by identity, and how many weren't finished by an earlier session.

    Args:
        plan: with the bench.
        folder: of the run.
        finalists: what is trained.
        progress: who watches.
        sharing: with other coordinators.
    """
    repetitions = range(plan.finalists.repetitions)
    wanted = [FinalistUnit.of(folder, finalist, number) for finalist in finalists for number in repetitions]
    trainings, trained = train(plan, "finalists", wanted, progress, sharing)
    return {f.identity: [trainings[f.identity, number] for number in repetitions] for f in finalists}, trained


def _name_of(unit: Unit[Any, Any]) -> str:
    """Return what a training is called among coordinators."""
    assert isinstance(unit, FinalistUnit)  # noqa: S101 - nothing else was submitted
    return f"training {unit.files.folder.name}/{unit.repetition}"


def _is_done(unit: Unit[Any, Any]) -> bool:
    assert isinstance(unit, FinalistUnit)  # noqa: S101 - see above
    return unit.files.read() is not None


def train(
    plan: Plan, stage: str, wanted: Sequence[FinalistUnit], progress: Progress, sharing: Sharing = ALONE
) -> tuple[dict[tuple[str, int], Training], int]:
    """Return trainings by identity and repetition, and how many weren't finished by an earlier session.

    Args:
        plan: with the bench.
        stage: its name, for who watches.
        wanted: the trainings.
        progress: who watches.
        sharing: with other coordinators, in a folder that all of them see.
    """
    found = {(unit.finalist.identity, unit.repetition): unit.files.read() for unit in wanted}
    finished = {place: training for place, training in found.items() if training is not None}
    waiting = [unit for unit in wanted if (unit.finalist.identity, unit.repetition) not in finished]
    progress.stage(stage, len(wanted), len(finished))
    order = {id(unit): position for position, unit in enumerate(waiting)}

    def on_event(unit: Unit[Any, Any], event: Event) -> bool:
        progress.epoch(order[id(unit)], event)
        return True

    with plan.engine.executor(plan.bench, min(plan.jobs, max(len(waiting), 1)), on_event) as executor:
        for unit, result in work_off_shared(executor, waiting, sharing, _name_of, _is_done):
            assert isinstance(unit, FinalistUnit)  # noqa: S101 - nothing else was submitted
            identity, repetition = unit.finalist.identity, unit.repetition
            ended = result or unit.files.read() or Failure("it was left on another machine")
            training = ended if isinstance(ended, Training) else Training.failed(repetition, ended.reason)
            if isinstance(ended, Failure):
                logger.info("%s %s, training %d failed: %s", stage, identity, repetition, ended.reason)
            finished[identity, repetition] = training
            progress.unit_finished(f"{identity}, training {repetition + 1}")
    return finished, len(waiting)
