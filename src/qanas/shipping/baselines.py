"""Baselines: what a person would try first, trained and shipped like finalists; they tell what the search is worth.

A baseline is a finalist with a bench of its own: dense networks are given a task's features, the reference is narrowed,
or has fewer bits. A constant is scored, and ships nothing. None of them can end a run: one that can't be made is left
out, and the log says why.
"""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qanas.core.candidate import Candidate
from qanas.core.card import SPLITS, SplitName
from qanas.core.errors import described
from qanas.core.measures import Cost
from qanas.core.run_folder import RunFolder
from qanas.execution.sharing import ALONE, Sharing
from qanas.networks.dense import DenseSpace, PixelSpace
from qanas.performance_estimation.bench import Bench, PreparedData
from qanas.performance_estimation.procedure import Procedure
from qanas.performance_estimation.scoring import metrics_of
from qanas.planning.plan import BaselineName, Plan
from qanas.planning.progress import Progress
from qanas.quantization.numbers.affine import WeightBits
from qanas.search_space.start import RANDOM
from qanas.search_space.training_group import TrainingSettings
from qanas.shipping.finalists import FinalistUnit, train, variant_of
from qanas.shipping.trainings import Finalist, Training, training_files
from qanas.tasks.base import Outputs, TaskData
from qanas.tasks.samples import Split
from qanas.training.pretrained import FileStart

logger = logging.getLogger("qanas")

PREFIX = "baseline-"
"""Of the folders of baselines under ``models/``."""

HIDDEN_UNITS = (4, 12)
"""Of the dense networks; a network of more has to earn it."""

DENSE_STEPS = 6000
PIXEL_STEPS = 400
MOST_DENSE_EPOCHS = 40
"""How long networks on features are trained: at most so many steps and passes over the data, seconds of CPU time. A
step over images is over all of their pixels."""

NARROWED_TO = (2, 4, 8, 16)
"""Of the reference's widths one part in so many; weights go by about the square."""

MOST_NARROWED = 3
"""Narrowed references at most: the smallest of those that a space has."""

FEWER_BITS: WeightBits = 4
SMALLER = 0.9
"""Of a cost: fewer bits that save less than a tenth, as where the runtime has no kernel for them, are no baseline."""


@dataclass(frozen=True)
class Baseline:
    """A simple network that is trained and shipped like a finalist.

    Attributes:
        finalist: how it is made.
        bench: what it is measured on.
        of_reference: whether it is the reference, trained, which only is quantized otherwise.
    """

    finalist: Finalist
    bench: Bench
    of_reference: bool = False

    def unit(self, folder: RunFolder, repetition: int, reference: Finalist) -> FinalistUnit:
        """Return one of its trainings.

        Args:
            folder: of the run.
            repetition: its number.
            reference: trained before, where it starts from that.
        """
        finalist = self.finalist
        if self.of_reference:
            weights = FileStart(training_files(folder, reference, repetition).weights)
            finalist = replace(finalist, start=weights)
        return FinalistUnit.of(folder, finalist, repetition)


# What there is


def _finalist(plan: Plan, name: str, candidate: Candidate, procedure: Procedure, described: str) -> Finalist:
    """Return a baseline as a finalist whose trainings nothing else has.

    A candidate of the search may have the same key, and other data, or weights in another container.
    """
    variant = "-".join(part for part in (name, variant_of(plan, procedure)) if part)
    return Finalist(f"{PREFIX}{name}", candidate, RANDOM, procedure, variant, "baseline", described)


FeatureBench = Callable[[], Bench | None]
"""Makes the bench of the networks on features once, however often it is asked for."""


def feature_bench(plan: Plan) -> Bench | None:
    """Return the bench on which networks are given the task's features; None where it offers none."""
    task = plan.bench.task.with_features()
    if task is None:
        return None
    scheme = replace(plan.bench.scheme, layers={})
    data = PreparedData(task)
    of_pixels = len(data.of({}).input_shape) > 1
    networks = (PixelSpace if of_pixels else DenseSpace)(seed_units=HIDDEN_UNITS[0])
    return replace(
        plan.bench, data=data, networks=networks, search=("architecture",), encoding="conditional",
        scheme=scheme, reference_start=RANDOM,
    )  # fmt: skip


def _on_features(plan: Plan, features: FeatureBench, hidden: Sequence[int]) -> Iterator[Baseline]:
    """Yield networks on the task's features; 0 hidden units are a linear one."""
    bench = features()
    if bench is None:
        return
    reference = bench.reference
    steps = math.ceil(len(bench.data_of(reference).train) / TrainingSettings.from_group(reference.training).batch_size)
    most = PIXEL_STEPS if isinstance(bench.networks, PixelSpace) else DENSE_STEPS
    epochs = max(1, min(MOST_DENSE_EPOCHS, most // steps))
    procedure = plan.finalists.procedure.alone().with_settings(epochs=epochs)
    for units in hidden:
        architecture = {"layers": 1, "units_1": units} if units else {"layers": 0}
        named = f"dense-{units}" if units else "linear"
        told = f"a dense network of {units} hidden units" if units else "a linear network"
        candidate = replace(reference, architecture=architecture)
        yield Baseline(_finalist(plan, named, candidate, procedure, f"{told} on the task's features"), bench)


def _narrowed(plan: Plan, features: FeatureBench) -> Iterator[Baseline]:
    """Yield the reference with a share of its widths."""
    del features
    bench = plan.bench
    spaces = [(part, space) for part in NARROWED_TO if (space := bench.networks.narrowed(1 / part)) is not None]
    sizes = {bench.costs_of(bench.reference)["weight_bytes"]}
    for part, space in spaces[-MOST_NARROWED:]:
        own = replace(bench, networks=space, reference_start=RANDOM)
        candidate, size = own.reference, own.costs_of(own.reference)["weight_bytes"]
        if size in sizes:
            continue
        sizes.add(size)
        name, told = f"narrowed-{part}", f"the reference with 1/{part} of its widths"
        finalist = _finalist(plan, name, candidate, plan.finalists.of_reference, told)
        of_search = (
            bench.costs_of(candidate)["weight_bytes"] == size
        )  # widths are settings: the run's own bench makes it
        yield Baseline(finalist, bench if of_search else own)


def _fewer_bits(plan: Plan, features: FeatureBench) -> Iterator[Baseline]:
    """Yield the reference's own trainings with weights of fewer bits, two to a byte, where that makes it smaller."""
    del features
    bench, reference = plan.bench, plan.bench.reference
    own = [name for name in reference.quantization if name.startswith("weight_bits")] or ["weight_bits"]
    candidate = replace(reference, quantization={**reference.quantization, **dict.fromkeys(own, FEWER_BITS)})
    packed = replace(bench, scheme=replace(bench.scheme, container="int4"))
    before, now = bench.costs_of(reference), packed.costs_of(candidate)
    asked = [cost.column for cost in plan.objectives if isinstance(cost, Cost) and not cost.of_device] or [
        "weight_bytes"
    ]
    if any(now[name] <= SMALLER * before[name] for name in asked):
        told = f"the reference with weights of {FEWER_BITS} bits"
        finalist = _finalist(plan, f"{FEWER_BITS}-bits", candidate, plan.finalists.of_reference, told)
        yield Baseline(finalist, packed, of_reference=True)


_MADE: Mapping[BaselineName, Callable[[Plan, FeatureBench], Iterator[Baseline]]] = {
    "linear": functools.partial(_on_features, hidden=(0,)),
    "dense": functools.partial(_on_features, hidden=HIDDEN_UNITS),
    "narrowed": _narrowed,
    "fewer_bits": _fewer_bits,
}
"""How the networks are made, by name; `constant_scores` is none."""


def baselines_of(plan: Plan, names: Sequence[BaselineName] | None = None) -> list[Baseline]:
    """Return the networks that a run has as baselines; one that can't be made is left out.

    Args:
        plan: of the run.
        names: the plan's own if None.
    """
    found: list[Baseline] = []
    features = functools.cache(lambda: feature_bench(plan))
    for name in plan.baselines if names is None else names:
        if name not in _MADE:
            continue
        try:
            made = list(_MADE[name](plan, features))
            for baseline in made:
                baseline.bench.costs_of(baseline.finalist.candidate)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a user's class may fail in any way, and a baseline ends no run
            logger.warning("baseline %s is left out: %s", name, described(error, __file__))
        else:
            found += made
    return found


def bench_of(plan: Plan, identity: str) -> Bench:
    """Return what a shipped model was measured on.

    Args:
        plan: of the run.
        identity: of the model.
    """
    if not identity.startswith(PREFIX):
        return plan.bench
    return next((b.bench for b in baselines_of(plan, list(_MADE)) if b.finalist.identity == identity), plan.bench)


# What becomes of them


def train_baselines(
    plan: Plan,
    folder: RunFolder,
    baselines: Sequence[Baseline],
    reference: Finalist,
    progress: Progress,
    sharing: Sharing = ALONE,
) -> tuple[dict[str, list[Training]], int]:
    """Return the trainings of every baseline, by identity, and how many weren't finished by an earlier session.

    Args:
        plan: of the run; its reference is trained.
        folder: of the run.
        baselines: what is trained.
        reference: as a finalist.
        progress: who watches.
        sharing: with other coordinators.
    """
    repetitions = range(plan.finalists.repetitions)
    found: dict[str, list[Training]] = {}
    trained = 0
    for bench in dict.fromkeys(id(baseline.bench) for baseline in baselines):
        group = [baseline for baseline in baselines if id(baseline.bench) == bench]
        units = [baseline.unit(folder, number, reference) for baseline in group for number in repetitions]
        own = replace(plan, bench=group[0].bench)
        trainings, waited = train(own, "baselines", units, progress, sharing)
        trained += waited
        for identity in (baseline.finalist.identity for baseline in group):
            found[identity] = [trainings[identity, number] for number in repetitions]
    return found, trained


def constant_scores(plan: Plan) -> dict[SplitName, dict[str, float]]:
    """Return what the best constant scores, by split; empty where the targets tell none.

    That is the median of each output's training targets, or the logarithm of each class's share of them.
    """
    bench = plan.bench
    task, data = bench.task_of(bench.reference), bench.data_of(bench.reference)
    try:
        graph = bench.blueprint(bench.reference).graph
        ports = zip(graph.border.outputs, graph.outputs, strict=True)
        shapes = {port.name: port.order.torch_shape(graph.shapes[value]) for port, value in ports}
        sample = task.constant_outputs(data, shapes)
        if sample is None and len(shapes) == 1:
            plain, shape = _constant(data), graph.network_output_shape
            sample = None if plain is None else np.broadcast_to(plain.reshape(-1, *[1] * (len(shape) - 1)), shape)
        if sample is None:
            return {}
        scores: dict[SplitName, dict[str, float]] = {}
        for name in SPLITS:
            split: Split = getattr(data, name)
            scores[name] = metrics_of(task, _repeated(sample, len(split)), split)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - see above
        logger.warning("baseline constant is left out: %s", described(error, __file__))
        return {}
    return scores


def _repeated(sample: Outputs, count: int) -> Outputs:
    """Return the outputs of a sample, of any shape, by name if there are several, so many times behind each other."""
    if isinstance(sample, Mapping):
        return {name: _repeated(values, count) for name, values in sample.items()}
    return np.broadcast_to(np.asarray(sample, np.float32), (count, *sample.shape))


def _constant(data: TaskData) -> NDArray[np.float32] | None:
    """Return the constant output of a sample, or of each of its pixels, shape (output_size,)."""
    if not data.train.targets_in_memory:
        return None
    targets = np.asarray(data.train.targets)
    if np.issubdtype(targets.dtype, np.floating) and targets.shape == (len(data.train), data.output_size):
        return np.asarray(np.median(targets, axis=0), np.float32)
    if np.issubdtype(targets.dtype, np.integer):
        counts = np.bincount(targets.reshape(-1), minlength=data.output_size)[: data.output_size]
        return np.asarray(np.log((counts + 1) / (counts + 1).sum()), np.float32)
    return None


def constant_row(scores: Mapping[SplitName, Mapping[str, float]]) -> dict[str, Any]:
    """Return a constant as a row of the finalists' table: it has no file, and costs nothing.

    Args:
        scores: by split and metric.
    """
    row: dict[str, Any] = {"candidate": f"{PREFIX}constant", "key": "", "status": "scored", "reason": ""}
    row["kind"] = "baseline"
    for split, metrics in scores.items():
        for metric, value in metrics.items():
            prefix = f"{metric}_float_{split}"
            row |= {f"{prefix}_mean": value, f"{prefix}_std": 0.0, f"{prefix}_n": 1}
    return row
