"""A rehearsal before anything is trained: an untrained network goes through everything once; a look at the data.

What a user's class does at the end of a run, it does here first: a bug in it costs seconds instead of the hours after
which it would have been found.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from qanas.core.card import SplitName
from qanas.core.errors import InputError, users_code
from qanas.core.measures import PRECISIONS, Metric
from qanas.core.trials import TrialRecord
from qanas.deployment.firmware.folder import NO_PREPROCESSING
from qanas.deployment.parity import ParitySteps
from qanas.performance_estimation.bench import Bench
from qanas.performance_estimation.scoring import metrics_of
from qanas.planning.plan import Plan
from qanas.quantization.border import OUTPUT, alone, named_parts
from qanas.search_space.training_group import Penalty, TrainingSettings
from qanas.shipping.cards import make_card, statistics_of
from qanas.shipping.finalists import packed_predictions, reference_finalist
from qanas.shipping.trainings import Training
from qanas.tasks.base import Outputs, Task, TaskData
from qanas.tasks.resampling import units_of
from qanas.tasks.samples import Split

REHEARSED = 8
"""Samples that the untrained network is given; its outputs stand for those on all of a split."""

LOOKED_AT = 4096
"""Samples of a split at most that are looked at where each has to be decoded."""

FEW_CLASSES = 20

GRADIENT_TOLERANCE = 1e-3
"""Relative: of a gradient in single precision."""

Metrics = dict[SplitName, dict[str, float]]


def rehearse(plan: Plan) -> list[str]:
    """Pass an untrained reference once through all that a run does with it; return what the data is, a line each.

    Raises:
        InputError: something of it fails: one line with the place in the user's code.
    """
    threads, place = torch.get_num_threads(), Path.cwd()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            return _rehearse(plan)
    finally:
        torch.set_num_threads(threads)
        os.chdir(place)


def _rehearse(plan: Plan) -> list[str]:
    bench = plan.bench
    task, name = bench.task_of(bench.reference), type(bench.task).__name__
    data = bench.data_of(bench.reference)

    # 1. A step of training, without its change of weights.
    network = bench.build(bench.reference, 0)
    with users_code(f"{type(bench.networks).__name__}.penalties"):
        _check_penalties(bench.networks.penalties(bench.reference, network), network)
    _rehearse_step(bench, network)

    # 2. What is scored and kept of outputs.
    splits: dict[SplitName, Split] = {"val": data.val, "test": data.test}
    metrics: Metrics = {}
    kept: dict[SplitName, Mapping[str, NDArray[Any]]] = {}
    for split_name, split in splits.items():
        outputs = _outputs(network, split)
        with users_code(f"{name}.evaluate on {split_name}"):
            metrics[split_name] = metrics_of(task, outputs, split)
        with users_code(f"{name}.units on {split_name}"):
            units_of(task, split)
        with users_code(f"{name}.confusion on {split_name}"):
            _check_confusion(task.confusion(outputs, split))
        with users_code(f"{name}.predictions on {split_name}"):
            beside = task.float_predictions(outputs, split, data.preprocessing)
            kept[split_name] = {**beside, **task.predictions(outputs, split, data.preprocessing)}
    with users_code(f"{name}.predictions"):
        packed_predictions(kept)
    if not data.train.in_memory or _outputs_bytes(data.train, network) <= 1 << 26:
        with users_code(f"{name}.evaluate on train"):
            few = _few(data.train)
            metrics_of(task, _outputs(network, few), few)
    _require_defined(plan, metrics["val"], data)

    # 3. What is written of a trial and of a model.
    _rehearse_record(plan, metrics["val"])
    _rehearse_card(plan, metrics)
    with users_code(f"{name}.front_end"):
        if task.front_end(data.preprocessing) is not None:
            task.raw_inputs(data.val, np.zeros(1, np.int64))
    missing = [] if data.preprocessing else [f"preprocessing: {NO_PREPROCESSING}"]
    return [*data.remarks, *look(data, told=bool(data.remarks)), *missing]


def _rehearse_step(bench: Bench, network: torch.nn.Module) -> None:
    """Draw a batch, and take every loss and its gradient; a batch of one sample is the trainers' own affair."""
    task, settings = bench.task_of(bench.reference), TrainingSettings.from_group(bench.reference.training)
    name = type(task).__name__
    data = bench.training_set(bench.reference, 0)
    if settings.loss not in task.losses:
        raise InputError(f"space: the reference's loss '{settings.loss}' is none of {name}'s: {', '.join(task.losses)}")
    with users_code(f"{name}: a training batch"):
        train = bench.data_of(bench.reference).train
        indices = torch.from_numpy(rehearsed_samples(train, settings.batch_size, len(data)))
        inputs, targets = data.batch(indices)
        _check_augmented(train, indices, inputs)
    network.train(len(inputs) > 1)
    for kind in task.losses:
        with users_code(f"{name}.loss '{kind}'"):
            returned = network(inputs)
            _check_width(bench, returned)
            outputs: Any = alone(named_parts(returned, torch.Tensor))
            loss = task.loss(kind, outputs, targets)
            if not isinstance(loss, torch.Tensor) or loss.ndim:
                shape = f" of shape {tuple(loss.shape)}" if isinstance(loss, torch.Tensor) else ""
                raise TypeError(f"it returns a {type(loss).__name__}{shape}; return the batch's mean, a scalar tensor")
            if loss.requires_grad:
                loss.backward()  # type: ignore[no-untyped-call]
            elif any(parameter.requires_grad for parameter in network.parameters()):
                raise TypeError("it has no gradient; compute it with torch's operations on outputs")
        with users_code(f"{name}.loss_gradient '{kind}'"):
            _check_gradient(task, kind, network(inputs), targets)
        if kind == settings.loss and not torch.isfinite(loss):
            raise InputError(f"{name}.loss '{kind}' is {loss.item()} on the first training batch: look at its targets")
    network.zero_grad()
    network.eval()


def _check_width(bench: Bench, outputs: object) -> None:
    """Refuse more or fewer outputs than the task says; where there are several by name, it alone knows them."""
    wanted = bench.shape.output_size
    if isinstance(outputs, torch.Tensor) and outputs.ndim > 1 and outputs.shape[1] != wanted:
        raise InputError(
            f"space: the reference network of {type(bench.networks).__name__} puts out values of shape "
            f"{tuple(outputs.shape[1:])} for a sample, and {type(bench.task).__name__} has output_size = {wanted}: "
            "build it with shape.output_size"
        )


def rehearsed_samples(train: Split, batch_size: int, count: int) -> NDArray[np.int64]:
    """Return the first samples of a training set, the smallest and the largest class among them, shape (batch,).

    A loss of classes fails on those that the network has no output for, of which the first ones may be none.
    """
    indices = np.arange(min(batch_size, count, REHEARSED))
    if not train.targets_in_memory or len(train) != count:
        return indices
    targets = np.asarray(train.targets)
    if targets.ndim != 1 or targets.dtype.kind not in "iu":
        return indices
    ends = [int(targets.argmax()), int(targets.argmin())]
    # As many samples as before, which is what a network's batch norms and the memory are known to take.
    return np.array(list(dict.fromkeys([*ends, *indices.tolist()])))[: len(indices)]


def _check_penalties(penalties: object, network: torch.nn.Module) -> None:
    """Refuse what is no penalty on a weight of the network."""
    if not isinstance(penalties, Mapping):
        raise TypeError(f"it returns a {type(penalties).__name__}; return a penalty for each weight's name")
    known = dict(network.named_parameters())
    for name, penalty in penalties.items():
        if name not in known:
            raise ValueError(f"the network has no weight '{name}'; it has {', '.join(list(known)[:FEW_CLASSES])}")
        if not isinstance(penalty, Penalty):
            raise TypeError(f"'{name}' has a {type(penalty).__name__}; give a Penalty of the training group")


def _check_augmented(train: Split, indices: torch.Tensor, inputs: torch.Tensor) -> None:
    """Refuse random changes that leave samples of another shape, or what can't be computed with.

    Args:
        train: the samples as they are.
        indices: of the batch, shape (batch,).
        inputs: changed, shape (batch, *input_shape).
    """
    before, after = train.batch(indices.numpy())[0].shape, tuple(inputs.shape)
    if before != after:
        raise TypeError(f"augment makes inputs of shape {after} of such of {before}")
    if not torch.isfinite(inputs).all():
        raise ValueError("inputs are NaN or infinite, as they are or by augment")


def _check_gradient(task: Task, kind: str, outputs: object, targets: object) -> None:
    """Refuse a loss and gradient of a task's own that aren't autograd's.

    Args:
        task: may offer them.
        kind: of the loss.
        outputs: shape (batch, output_size, ...); several have no such gradient.
        targets: shape (batch, ...).
    """
    if not isinstance(outputs, torch.Tensor) or not isinstance(targets, torch.Tensor):
        return
    offered = task.loss_gradient(kind, outputs.detach().numpy(), targets.numpy())
    if offered is None:
        return
    wanted = outputs.detach().clone().requires_grad_()
    loss = task.loss(kind, wanted, targets)
    (gradient,) = torch.autograd.grad(loss, wanted)
    same = np.isclose(offered[0], loss.item(), rtol=GRADIENT_TOLERANCE)
    scale = float(gradient.abs().max()) or 1.0
    if not same or np.abs(offered[1] - gradient.numpy()).max() > GRADIENT_TOLERANCE * scale:
        raise ValueError(f"it gives {offered[0]:.6g} where loss gives {loss.item():.6g}, or another gradient than that")


def _check_confusion(counts: object) -> None:
    """Refuse what is no count of classes taken for classes."""
    if counts is None:
        return
    if not isinstance(counts, np.ndarray) or counts.ndim != 2 or counts.shape[0] != counts.shape[1]:  # noqa: PLR2004
        shape = f" of shape {counts.shape}" if isinstance(counts, np.ndarray) else ""
        raise TypeError(f"it returns a {type(counts).__name__}{shape}; return an array (classes, classes), or None")


def _few(split: Split) -> Split:
    """Return the first samples of a split."""
    indices = np.arange(min(len(split), REHEARSED))
    inputs, targets = split.batch(indices)
    return Split(inputs, targets, {name: values[indices] for name, values in split.extras.items()})


@torch.no_grad()
def _outputs(network: torch.nn.Module, split: Split) -> Outputs:
    """Return a network's outputs on a few samples, over and over, as many as the split has samples.

    Shape (n, output_size, ...), by name where there are several.
    """
    inputs, _ = split.batch(np.arange(min(len(split), REHEARSED)))
    found = named_parts(network(torch.from_numpy(inputs)), torch.Tensor)
    again = np.arange(len(split)) % len(inputs)
    return alone({name: values.numpy()[again] for name, values in found.items()})


@torch.no_grad()
def _outputs_bytes(split: Split, network: torch.nn.Module) -> int:
    inputs, _ = split.batch(np.arange(1))
    found = named_parts(network(torch.from_numpy(inputs)), torch.Tensor)
    return 4 * len(split) * sum(int(values.numel()) for values in found.values())


def _require_defined(plan: Plan, found: Mapping[str, float], data: TaskData) -> None:
    """Refuse an objective that is not defined on validation data, whatever a network puts out."""
    asked = [measure for measure in plan.objectives if isinstance(measure, Metric)]
    undefined = [measure for measure in asked if not np.isfinite(found.get(measure.name, np.nan))]
    if not undefined:
        return
    # An untrained network may be the reason; noise predicts everything somewhere.
    task = plan.bench.task_of(plan.bench.reference)
    generator, scale = np.random.default_rng(0), np.float32(max(data.target_scale, 1.0))
    outputs = _outputs(plan.bench.build(plan.bench.reference, 0).eval(), data.val)
    named = outputs if isinstance(outputs, Mapping) else {OUTPUT: outputs}
    drawn = {name: generator.normal(size=values.shape).astype(np.float32) * scale for name, values in named.items()}
    noise = alone(drawn)
    with users_code(f"{type(task).__name__}.evaluate on val"):
        again = metrics_of(task, noise, data.val)
    for measure in undefined:
        if not np.isfinite(again[measure.name]):
            raise InputError(
                f"objectives.{measure.column}: {measure.name} is not defined on the validation data "
                f"({again[measure.name]}), whatever is predicted; take another objective, or other validation samples"
            )


def _rehearse_record(plan: Plan, metrics: Mapping[str, float]) -> None:
    """Write down a trial as the study does."""
    scores = {Metric(name, "quantized").column: value for name, value in metrics.items()}
    record = TrialRecord(0, "measured", plan.bench.reference.config, {}, scores)
    with users_code("space: a trial's record"):
        json.dumps(asdict(record))
        json.dumps(record.row())


def _rehearse_card(plan: Plan, metrics: Metrics) -> None:
    """Write the card of an untrained reference."""
    bench = plan.bench
    finalist = reference_finalist(plan, plan.finalists.procedure)
    blueprint = bench.blueprint(bench.reference)
    content, costs = blueprint.file, bench.costs_of(bench.reference)
    training = Training(0, dict.fromkeys(PRECISIONS, metrics), ParitySteps(0, 0.0, 0), sha256="0" * 64)
    with users_code("a card, made of the task's preprocessing, protocol and metrics"):
        card = make_card(plan, finalist, training, statistics_of(plan, [training], 0), costs, blueprint, content)
        card.to_json()


def look(data: TaskData, *, told: bool = False) -> list[str]:
    """Return what a person should know of samples, whatever the task.

    Args:
        data: of the reference.
        told: whether the task has told the counts itself.

    Raises:
        InputError: inputs are NaN or infinite.
    """
    splits = {"train": data.train, "val": data.val, "test": data.test}
    lines = []
    seen: dict[str, Counter[int]] = {}
    for name, split in splits.items():
        found = _targets(split)
        seen[name] = _fingerprints(name, split)
        if not told:
            lines.append(f"{name}: {len(split)} samples{_classes(found)}")
        if found is not None and found.size and len(found) > 1 and (found == found.flat[0]).all():
            lines.append(f"{name}: every target is {found.flat[0]:g}")
    for name, other in (("val", "train"), ("test", "train"), ("test", "val")):
        shared = sum(count for sample, count in seen[name].items() if sample in seen[other])
        if shared:
            lines.append(f"{shared} of {seen[name].total()} {name} samples are in {other}, too: scores on them flatter")
    return lines


def _targets(split: Split) -> NDArray[Any] | None:
    """Return the targets, shape (n, ...), where they are at hand as one array of numbers."""
    if not split.targets_in_memory or split.targets.dtype == object:
        return None
    return split.targets


def _classes(targets: NDArray[Any] | None) -> str:
    """Return how often each class occurs, or the span of real targets."""
    if targets is None or not targets.size or not np.issubdtype(targets.dtype, np.number):
        return ""
    if not np.issubdtype(targets.dtype, np.integer):
        return f"; targets {targets.min():g} to {targets.max():g}"
    classes, counts = np.unique(targets, return_counts=True)
    if len(classes) > FEW_CLASSES:
        return f"; {len(classes)} classes, the rarest {counts.min()} times, the commonest {counts.max()} times"
    return f"; classes {', '.join(f'{label}: {count}' for label, count in zip(classes, counts, strict=True))}"


def _fingerprints(name: str, split: Split) -> Counter[int]:
    """Return how often each input occurs, by a hash of its bytes."""
    found: Counter[int] = Counter()
    most = len(split) if split.in_memory else min(len(split), LOOKED_AT)
    for first in range(0, most, REHEARSED):
        inputs, _ = split.batch(np.arange(first, min(first + REHEARSED, most)))
        if not np.isfinite(inputs).all():
            raise InputError(f"task: {name} data: inputs hold NaN or infinite values: mend or leave out such samples")
        found.update(hash(sample.tobytes()) for sample in inputs)
    return found
