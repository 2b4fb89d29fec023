"""What `load` returns, held against the contract: other types are made what networks take, the rest is said."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from qanas.core.errors import InputError
from qanas.tasks.base import TaskData
from qanas.tasks.samples import DecodedSplit, Split

SPLITS = ("train", "val", "test")


def sound(data: object, place: str) -> TaskData:
    """Return data with inputs in single precision, targets and extras as plain arrays, a row a sample.

    What is so already stays as it is, and is not copied; a split that is decoded on demand is not looked at.

    Args:
        data: what `load` returned.
        place: names it in messages.

    Raises:
        InputError: says what of it is no data.
    """
    if not isinstance(data, TaskData):
        raise InputError(f"{place} returns a {type(data).__name__}; return a qanas.tasks.base.TaskData")
    splits = {name: _sound_split(getattr(data, name), f"{place}: {name}") for name in SPLITS}
    for name, split in splits.items():
        if split.input_shape != splits["train"].input_shape:
            shapes = f"{split.input_shape}, of train {splits['train'].input_shape}"
            raise InputError(f"{place}: {name}: a sample's inputs have shape {shapes}: they have to be equal")
    size, scale = data.output_size, data.target_scale
    if not isinstance(size, int | np.integer) or size < 1:
        raise InputError(f"{place}: output_size is {size!r}; give the number of values that a network puts out")
    if not isinstance(scale, int | float | np.number) or not math.isfinite(scale) or not scale:
        raise InputError(f"{place}: target_scale is {scale!r}; give a number that is not 0")
    for name in ("preprocessing", "protocol"):
        if not isinstance(getattr(data, name), Mapping):
            raise InputError(
                f"{place}: {name} is a {type(getattr(data, name)).__name__}; give a mapping, {{}} for none"
            )
    train, val, test = splits.values()
    return replace(data, train=train, val=val, test=test, output_size=int(size), target_scale=float(scale))


def _sound_split(split: object, place: str) -> Split:
    if not isinstance(split, Split):
        raise InputError(f"{place} is a {type(split).__name__}; give a qanas.tasks.base.Split")
    if isinstance(split, DecodedSplit):
        return split
    inputs = _numbers(split.inputs, f"{place}: inputs")
    if inputs.ndim < 2 or not inputs.size:  # noqa: PLR2004 - samples, and at least one axis of each
        raise InputError(f"{place}: inputs have shape {inputs.shape}; give at least one sample, one row each")
    targets = _numbers(split.targets, f"{place}: targets", ragged=True)
    extras = {name: np.asarray(values) for name, values in split.extras.items()}
    for name, values in {"targets": targets, **extras}.items():
        if not values.ndim or len(values) != len(inputs):
            rows = f"{len(values)} rows" if values.ndim else "one value"
            raise InputError(f"{place}: {name}: {rows} for {len(inputs)} samples")
    inputs = inputs.astype(np.float32, copy=False)
    if targets.dtype.kind in "bu" and targets.dtype != np.uint8:  # classes, of types that torch's losses don't take
        targets = targets.astype(np.int64)
    if targets.dtype.kind == "f":  # a loss is taken of outputs in single precision
        targets = targets.astype(np.float32, copy=False)
    return replace(split, inputs=inputs, targets=targets, extras=extras)


def _numbers(values: object, place: str, *, ragged: bool = False) -> NDArray[Any]:
    """Return an array of real numbers that torch takes, shape (n, ...); a copy only where it has to be."""
    try:
        array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asanyarray(values)
    except ValueError as error:  # rows of different lengths
        raise InputError(f"{place} are no array: {error}") from error
    if ragged and array.dtype == object and array.ndim == 1 and all(isinstance(row, np.ndarray) for row in array):
        return array
    if array.dtype.kind not in "biuf":
        mend = "; number the classes from 0" if array.dtype.kind in "USO" and ragged else ""
        raise InputError(f"{place} are of type {array.dtype}, not real numbers{mend}")
    if isinstance(array, np.ma.MaskedArray):
        raise InputError(f"{place} are a masked array, which networks know nothing of: fill in what is masked")
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if any(stride < 0 for stride in array.strides) or not (array.flags.writeable or isinstance(array, np.memmap)):
        array = array.copy()
    return array
