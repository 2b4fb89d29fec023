"""The contract of a task."""

from __future__ import annotations

import io
import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from qanas.core.candidate import Value
from qanas.core.even_spread import evenly_spread
from qanas.core.measures import Direction
from qanas.search_space.settings import Setting
from qanas.tasks.base import Task, TaskData
from qanas.tasks.prepared import SPLITS, load_prepared, save_prepared
from qanas.tasks.resampling import metrics_of_draws, units_of
from qanas.tasks.samples import FloatArray, Split
from qanas.testing.front_ends import check_front_end
from qanas.testing.properties import difference, expect, extremes, hold, random_samples, refusal, through_pickle

BATCH = 6
"""Samples that losses and augmentation are tried on."""


class TaskCase:
    """A task and its data.

    Args:
        task: that is checked.
        output_shape: of one sample's output; by default a vector, or a map of the input's pixels where the loss
            refuses a vector.
    """

    def __init__(self, task: Task, output_shape: Sequence[int] | None = None) -> None:
        """Load nothing yet."""
        self.task = task
        self._output_shape = output_shape

    @cached_property
    def data(self) -> TaskData:
        """As the task loads it."""
        return self.task.load()

    @property
    def splits(self) -> dict[str, Split]:
        """By name."""
        return _splits(self.data)

    def batch(self) -> tuple[Tensor, Tensor]:
        """Return a few training samples: inputs, shape (batch, *input_shape), and targets, shape (batch, ...)."""
        inputs, targets = self.data.train.batch(np.arange(min(BATCH, len(self.data.train))))
        return torch.from_numpy(np.array(inputs)), torch.from_numpy(np.array(targets))

    @cached_property
    def output_shape(self) -> tuple[int, ...]:
        """Of one sample's output."""
        if self._output_shape is not None:
            return tuple(self._output_shape)
        vector = (self.data.output_size,)
        _, targets = self.batch()
        try:
            self.task.loss(self.task.losses[0], torch.zeros(len(targets), *vector), targets)
        except Exception:  # noqa: BLE001 - whatever it says of a vector, the pixels' answer counts
            return (*vector, *self.data.input_shape[1:])
        return vector

    def outputs(self, count: int, seed: int = 0) -> Tensor:
        """Return random outputs of a network, in the targets' unit, shape (count, *output_shape)."""
        return random_samples(count, self.output_shape, seed) * self.data.target_scale

    def perfect(self, split: Split) -> FloatArray | None:
        """Return the outputs that a split's targets ask for, shape (n, *output_shape); None where it isn't plain."""
        targets, shape = np.asarray(split.targets), (len(split), *self.output_shape)
        if targets.shape == shape and np.issubdtype(targets.dtype, np.floating):
            values: FloatArray = targets.astype(np.float32)
            return values
        classes = self.output_shape[0]
        if targets.shape == (len(split), *self.output_shape[1:]) and np.issubdtype(targets.dtype, np.integer):
            one_hot = targets[:, None] == np.arange(classes).reshape(1, classes, *[1] * (targets.ndim - 1))
            perfect: FloatArray = one_hot.astype(np.float32)
            return perfect
        return None


def check_task(task: Task, output_shape: Sequence[int] | None = None) -> None:
    """Hold a task against its contract, see `qanas.tasks.base`.

    Args:
        task: that is checked.
        output_shape: of one sample's output, where it is neither a vector nor a map of the input's pixels.

    Raises:
        AssertionError: which property is broken, and what was seen.
    """
    hold(type(task).__name__, TaskCase(task, output_shape), PROPERTIES)


def metrics_are_declared(case: TaskCase) -> None:
    """Metrics are declared, each with a direction; tolerances are of such."""
    metrics = case.task.metrics
    expect(isinstance(metrics, Mapping) and metrics, f"metrics is {metrics!r}")
    for name, way in metrics.items():
        expect(way in get_args(Direction), f"{name} is to {way!r}; minimize or maximize it")
    for name in case.task.parity_tolerance:
        expect(name in metrics, f"parity_tolerance names {name}, which is none of {', '.join(metrics)}")


def losses_are_declared(case: TaskCase) -> None:
    """Losses are declared, as a tuple of names."""
    losses = case.task.losses
    expect(isinstance(losses, tuple) and losses, f"losses is {losses!r}")
    expect(all(isinstance(kind, str) for kind in losses), f"losses is {losses!r}")


def fingerprint_is_stable(case: TaskCase) -> None:
    """The fingerprint is a text, the same each time, in pickled copies too."""
    first, second = case.task.fingerprint(), through_pickle(case.task).fingerprint()
    expect(isinstance(first, str) and first, f"it is {first!r}")
    expect(first == second, f"it is {first!r}, then {second!r}")


def loading_twice_is_the_same(case: TaskCase) -> None:
    """Loading again, from a pickled copy as in workers, gives the same data."""
    _expect_same_data(case.data, through_pickle(case.task).load(), SPLITS)


def splits_fit_together(case: TaskCase) -> None:
    """Every split has samples of one shape, in float32 and finite, with as many targets."""
    for name, split in case.splits.items():
        inputs, targets = np.asarray(split.inputs), split.targets
        expect(len(split) > 0, f"{name} is empty")
        expect(len(inputs) == len(targets) == len(split), f"{name}: {len(inputs)} inputs, {len(targets)} targets")
        expect(inputs.dtype == np.float32, f"{name}: inputs are {inputs.dtype}")
        shape = tuple(inputs.shape[1:])
        expect(shape == case.data.input_shape, f"{name}: {shape}, train: {case.data.input_shape}")
        expect(np.isfinite(inputs).all(), f"{name}: inputs have NaN or infinity")


def batches_are_the_samples_asked_for(case: TaskCase) -> None:
    """A batch has the samples that are asked for, in that order."""
    for name, split in case.splits.items():
        indices = np.array([len(split) - 1, 0])
        inputs, targets = split.batch(indices)
        seen = difference(np.asarray(split.inputs)[indices], np.asarray(inputs), f"{name}.inputs")
        expect(not seen, seen)
        seen = difference(np.asarray(split.targets)[indices], np.asarray(targets), f"{name}.targets")
        expect(not seen, seen)


def extras_have_a_row_a_sample(case: TaskCase) -> None:
    """Extras have a row a sample."""
    for name, split in case.splits.items():
        for extra, values in split.extras.items():
            expect(len(values) == len(split), f"{name}.{extra} has {len(values)} rows for {len(split)} samples")


def data_can_be_kept(case: TaskCase) -> None:
    """Prepared data comes back from disk as it was, notes for cards included."""
    json.dumps({"preprocessing": case.data.preprocessing, "protocol": case.data.protocol})
    with tempfile.TemporaryDirectory() as folder:
        save_prepared(case.data, Path(folder))
        _expect_same_data(case.data, load_prepared(Path(folder)), SPLITS)


def losses_can_be_trained_on(case: TaskCase) -> None:
    """Every loss is a finite scalar whose gradient reaches the outputs."""
    _, targets = case.batch()
    for kind in case.task.losses:
        outputs = case.outputs(len(targets)).requires_grad_()
        value = case.task.loss(kind, outputs, targets)
        expect(isinstance(value, Tensor) and value.ndim == 0, f"{kind} is {type(value).__name__}, no scalar tensor")
        expect(math.isfinite(value.item()), f"{kind} is {value.item()}")
        (gradient,) = torch.autograd.grad(value, outputs, allow_unused=True) if value.requires_grad else (None,)
        if gradient is None:
            raise AssertionError(f"{kind} has no gradient")
        expect(gradient.isfinite().all() and gradient.any(), f"the gradient of {kind} is 0 or not finite")


def losses_are_means(case: TaskCase) -> None:
    """A batch that is seen twice in one batch has the same loss."""
    _, targets = case.batch()
    outputs = case.outputs(len(targets))
    for kind in case.task.losses:
        once = case.task.loss(kind, outputs, targets).item()
        twice = case.task.loss(kind, torch.cat([outputs, outputs]), torch.cat([targets, targets])).item()
        expect(math.isclose(once, twice, rel_tol=1e-4, abs_tol=1e-6), f"{kind} is {once:g}, then {twice:g}")


def offered_gradients_are_autograds(case: TaskCase) -> None:
    """`loss_gradient`, where it is offered, is loss and gradient of `loss`."""
    _, targets = case.batch()
    for kind in case.task.losses:
        outputs = case.outputs(len(targets))
        offered = case.task.loss_gradient(kind, outputs.numpy().copy(), targets.numpy().astype(np.float32))
        if offered is None:
            continue
        value = case.task.loss(kind, outputs.requires_grad_(), targets)
        (gradient,) = torch.autograd.grad(value, outputs)
        expect(math.isclose(offered[0], value.item(), rel_tol=1e-4), f"{kind}: loss {offered[0]:g}, {value.item():g}")
        gap = float(np.abs(offered[1] - gradient.numpy()).max() / gradient.abs().max())
        expect(gap < 1e-4, f"{kind}: gradients differ by {gap:.1e} of the largest")  # noqa: PLR2004 - rounding


def augmentation_keeps_shapes(case: TaskCase) -> None:
    """Augmentation keeps shapes and types, and changes nothing in place."""
    inputs, targets = case.batch()
    before = inputs.clone(), targets.clone()
    changed = case.task.augment(inputs, targets, torch.Generator().manual_seed(1))
    expect(torch.equal(inputs, before[0]) and torch.equal(targets, before[1]), "the batch that it was given changed")
    for name, old, new in zip(("inputs", "targets"), before, changed, strict=True):
        found, expected = (f"{tensor.dtype} {tuple(tensor.shape)}" for tensor in (new, old))
        expect(found == expected, f"{name}: {expected} become {found}")


def augmentation_is_its_generators(case: TaskCase) -> None:
    """Augmentation takes all its random numbers from its generator."""
    first, second = (_augmented(case, state) for state in (0, 1))
    seen = difference(first, second, "the batch")
    expect(not seen, seen)


def _augmented(case: TaskCase, state: int) -> list[Tensor]:
    """Return some changed batches, each of inputs and targets, whatever the global generators' state."""
    random, generator = np.random.get_state(), torch.Generator().manual_seed(1)  # noqa: NPY002 - others' use of it
    inputs, targets = case.batch()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(state)
        np.random.seed(state)  # noqa: NPY002
        try:
            batches = [case.task.augment(inputs, targets, generator) for _ in range(3)]
        finally:
            np.random.set_state(random)  # noqa: NPY002
    return [tensor for batch in batches for tensor in batch]


def evaluation_gives_what_is_declared(case: TaskCase) -> None:
    """`evaluate` returns every declared metric, finite, the same each time."""
    for name in ("val", "test"):
        split = case.splits[name]
        outputs = case.outputs(len(split)).numpy()
        first, second = (case.task.evaluate(outputs, split) for _ in range(2))
        expect(list(first) == list(case.task.metrics), f"{name}: {list(first)} for {list(case.task.metrics)}")
        for metric, value in first.items():
            expect(isinstance(value, int | float) and math.isfinite(value), f"{name}: {metric} is {value!r}")
        expect(first == second, f"{name}: {first}, then {second}")


def perfect_outputs_are_no_worse_than_noise(case: TaskCase) -> None:
    """Outputs that are the targets score no worse than noise in the main metric."""
    split = case.data.val
    perfect = case.perfect(split)
    if perfect is None:
        return
    metric, way = next(iter(case.task.metrics.items()))
    best = case.task.evaluate(perfect, split)[metric]
    noise = case.task.evaluate(case.outputs(len(split)).numpy(), split)[metric]
    no_worse = best <= noise if way == "minimize" else best >= noise
    expect(no_worse, f"{metric}: {best:g} for targets, {noise:g} for noise")


def predictions_can_be_kept(case: TaskCase) -> None:
    """What is kept of predictions are arrays that no pickle is needed for."""
    split = case.data.test
    kept = case.task.predictions(case.outputs(len(split)).numpy(), split, case.data.preprocessing)
    for name, values in kept.items():
        expect(isinstance(values, np.ndarray), f"{name} is {type(values).__name__}")
        if values.dtype != object:  # ragged targets are the run's to flatten
            np.save(io.BytesIO(), values, allow_pickle=False)


def input_settings_stand_for_arguments(case: TaskCase) -> None:
    """Input settings have the group ``input``, names of their own, and the task's own values as references."""
    settings = case.task.input_settings()
    names = [setting.name for setting in settings]
    expect(len(set(names)) == len(names), f"two settings are called alike: {names}")
    for setting in settings:
        expect(setting.group == "input", f"{setting.name} is in the group {setting.group}")
        own: Any = getattr(case.task, setting.name, setting.reference)
        expect(own == setting.reference, f"{setting.name}: reference {setting.reference!r}, the task has {own!r}")


def without_input_settings_it_stays_as_it_is(case: TaskCase) -> None:
    """With no input settings the task is itself; unknown ones are refused."""
    expect(case.task.with_input({}) is case.task, "with_input({}) is another task")
    refusal(ValueError, lambda: case.task.with_input({"no such setting": 1}), "an unknown input setting")


def other_inputs_keep_what_is_scored(case: TaskCase) -> None:
    """Val and test keep samples, order, targets and extras whatever the input; the data follows from the values."""
    for values in _other_inputs(case.task.input_settings()):
        other = case.task.with_input(values).load()
        for name in ("val", "test"):
            seen = difference(_kept(case.splits[name]), _kept(_splits(other)[name]), f"{values}: {name}")
            expect(not seen, seen)
        shapes = {split.input_shape for split in _splits(other).values()}
        expect(len(shapes) == 1, f"{values}: splits of shapes {sorted(shapes)}")


def features_keep_what_is_scored(case: TaskCase) -> None:
    """Features, where offered, are vectors, of samples or of pixels; val and test keep what else they have."""
    described = case.task.with_features()
    if described is None or described is case.task:
        return
    data = described.load()
    expect(len(data.input_shape) in (1, 3), f"a sample's features have shape {data.input_shape}")
    for name, split in _splits(data).items():
        expect(split.input_shape == data.input_shape, f"{name}: {split.input_shape}, train: {data.input_shape}")
        expect(np.isfinite(np.asarray(split.inputs)).all(), f"{name}: features have NaN or infinity")
        seen = name != "train" and difference(_kept(case.splits[name]), _kept(split), name)
        expect(not seen, str(seen))


def front_ends_make_the_inputs(case: TaskCase) -> None:
    """A front end makes validation inputs of raw ones, from constants that were JSON, in C as in Python."""
    front_end = case.task.front_end(json.loads(json.dumps(case.data.preprocessing)))
    if front_end is None:
        return
    val = case.data.val
    chosen = evenly_spread(len(val), BATCH)
    raw, (inputs, _) = case.task.raw_inputs(val, chosen), val.batch(chosen)
    expect(len(raw) == len(chosen), f"{len(raw)} raw inputs for {len(chosen)} samples")
    for index, rows, wanted in zip(chosen, raw, inputs, strict=True):
        found = front_end.input_of(rows)
        expect(found.shape == wanted.shape, f"an input of shape {found.shape}, val's have {wanted.shape}")
        expect(np.allclose(found, wanted, atol=1e-6), f"val {index}: off by {np.abs(found - wanted).max():g}")
    check_front_end(front_end, raw)


def units_are_a_row_a_sample(case: TaskCase) -> None:
    """Each sample is of one independent unit."""
    expect(isinstance(case.task.unit, str) and case.task.unit, f"unit is {case.task.unit!r}")
    for split in case.splits.values():
        units_of(case.task, split)


def units_count_as_often_as_they_are_drawn(case: TaskCase) -> None:
    """In the draws that intervals are had of, a unit counts as often as it was drawn."""
    split = case.splits["val"]
    unit_of, outputs = units_of(case.task, split), case.outputs(len(split)).numpy()
    units = int(unit_of.max()) + 1
    if units < FEWEST_DRAWN:
        return
    # All but one, of which the next one is there twice, or the one behind it: of the same units, not as often.
    order = (np.arange(min(units, MOST_LEFT_OUT))[:, None] + np.arange(units)) % units
    draws = [np.concatenate([order[:, 1:], order[:, [twice]]], axis=1) for twice in (1, 2)]
    found = metrics_of_draws(case.task, outputs, split, unit_of, np.concatenate(draws))
    scores = np.nan_to_num(np.stack([*found.values()] or [np.zeros(2 * len(order))], axis=1))
    first, second = np.split(scores, 2)
    if (first == first[0]).all():  # of random outputs, as average precision may be
        return
    expect((first != second).any(), "whichever unit is there twice, metrics are the same: write evaluate_draws")


FEWEST_DRAWN, MOST_LEFT_OUT = 3, 8
"""Units that can be drawn unevenly without one of them, and those that are left out in turn."""


def _other_inputs(settings: Sequence[Setting]) -> list[dict[str, Value]]:
    """Return the inputs at both ends of every setting."""
    if not settings:
        return []
    ends = [extremes(setting) for setting in settings]
    return [{setting.name: end[which] for setting, end in zip(settings, ends, strict=True)} for which in (0, 1)]


def _kept(split: Split) -> dict[str, Any]:
    return {"targets": np.asarray(split.targets), **{name: np.asarray(values) for name, values in split.extras.items()}}


def _splits(data: TaskData) -> dict[str, Split]:
    return {name: getattr(data, name) for name in SPLITS}


def _expect_same_data(first: TaskData, second: TaskData, names: Sequence[str]) -> None:
    for name in names:
        before, after = _splits(first)[name], _splits(second)[name]
        seen = difference(
            {"inputs": np.asarray(before.inputs), **_kept(before)},
            {"inputs": np.asarray(after.inputs), **_kept(after)},
            name,
        )
        expect(not seen, seen)
    for name in ("output_size", "target_scale"):
        expect(getattr(first, name) == getattr(second, name), f"{name} differs")
    for name in ("preprocessing", "protocol"):
        old, new = (json.dumps(getattr(data, name), sort_keys=True) for data in (first, second))
        expect(old == new, f"{name} is {old}, then {new}")


PROPERTIES = (
    metrics_are_declared,
    losses_are_declared,
    fingerprint_is_stable,
    loading_twice_is_the_same,
    splits_fit_together,
    batches_are_the_samples_asked_for,
    extras_have_a_row_a_sample,
    data_can_be_kept,
    losses_can_be_trained_on,
    losses_are_means,
    offered_gradients_are_autograds,
    augmentation_keeps_shapes,
    augmentation_is_its_generators,
    evaluation_gives_what_is_declared,
    perfect_outputs_are_no_worse_than_noise,
    predictions_can_be_kept,
    input_settings_stand_for_arguments,
    without_input_settings_it_stays_as_it_is,
    other_inputs_keep_what_is_scored,
    features_keep_what_is_scored,
    front_ends_make_the_inputs,
    units_are_a_row_a_sample,
    units_count_as_often_as_they_are_drawn,
)
"""What a task owes."""
