"""What moves, cuts, joins or repeats numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from qanas.deployment.onnx.builder import CHANNELS_FIRST, Builder, Order, Real, Value
from qanas.deployment.onnx.lowerings import Lowering
from qanas.quantization.operators.base import Shape
from qanas.quantization.operators.concatenate import QuantizedConcatenate
from qanas.quantization.operators.pad import QuantizedPad
from qanas.quantization.operators.reshape import QuantizedReshape
from qanas.quantization.operators.resize import QuantizedResize, ResizeBilinear, ResizeNearest
from qanas.quantization.operators.slice import Index, QuantizedSlice
from qanas.quantization.operators.transpose import QuantizedTranspose

SAME_BATCH = 0
"""The size that takes over the input's."""


def reshape(model: Builder, operator: QuantizedReshape, inputs: Sequence[Value]) -> Real:
    """Append Reshape, of the numbers as they are stored."""
    (source,) = inputs
    shape = operator.reshape.shape
    sizes = model.integers([SAME_BATCH, *shape])
    name = model.node("Reshape", [model.real(source, source.stored_order), sizes])
    return Real(name, shape, tuple(range(len(shape) + 1)))


def transpose(model: Builder, operator: QuantizedTranspose, inputs: Sequence[Value]) -> Real:
    """Append nothing: the tensor stays, its axes are taken for others."""
    (source,) = inputs
    axes = operator.transpose.batched_axes
    shape = operator.transpose.output_shape(source.shape)
    return Real(model.real(source), shape, tuple(axes.index(axis) for axis in source.order))


def part(model: Builder, operator: QuantizedSlice, inputs: Sequence[Value]) -> Real:
    """Append Slice, and Squeeze where axes are dropped."""
    (source,) = inputs
    indices = operator.part.indices
    taken = [_positions(entry, size) for entry, size in zip(indices, source.shape, strict=False)]
    axes = [source.order.index(number + 1) for number in range(len(taken))]
    bounds = ([positions.start for positions in taken], [positions.stop for positions in taken], axes)
    steps = [positions.step for positions in taken]
    name = model.node("Slice", [model.real(source), *map(model.integers, (*bounds, steps))])
    dropped = [number for number, entry in enumerate(indices) if isinstance(entry, int)]
    if dropped:
        name = model.node("Squeeze", [name, model.integers(sorted(axes[number] for number in dropped))])
    order = _without(source.order, {number + 1 for number in dropped})
    return Real(name, operator.part.output_shape(source.shape), order)


def _positions(entry: Index, size: int) -> range:
    """Return what an index of an axis takes."""
    if isinstance(entry, int):
        start = range(size)[entry]
        return range(start, start + 1)
    return range(*entry.indices(size))


def _without(order: Order, dropped: set[int]) -> Order:
    """Return the order of the axes that are left, numbered anew."""
    left = sorted(set(order) - dropped)
    return tuple(left.index(axis) for axis in order if axis not in dropped)


def concatenate(model: Builder, operator: QuantizedConcatenate, inputs: Sequence[Value]) -> Real:
    """Append Concat, all in the order of the first; what has other parameters is brought to the result's behind it."""
    order = inputs[0].order
    axis = order.index(operator.concatenate.axis + 1)
    name = model.node("Concat", [model.real(value, order) for value in inputs], axis=axis)
    return Real(name, operator.concatenate.output_shape(*(value.shape for value in inputs)), order)


def pad(model: Builder, operator: QuantizedPad, inputs: Sequence[Value]) -> Real:
    """Append Pad with the real number that the code stands for."""
    (source,) = inputs
    amounts = [(0, 0), *operator.pad.padding]
    pairs = [amounts[axis] for axis in source.order]
    rows = model.integers([*(before for before, _ in pairs), *(behind for _, behind in pairs)])
    fill = np.float32((operator.code - source.affine.zero_point) * source.affine.scale)
    name = model.node("Pad", [model.real(source), rows, model.constant(np.array(fill, np.float32))])
    return Real(name, operator.pad.output_shape(source.shape), source.order)


def resize(model: Builder, operator: QuantizedResize, inputs: Sequence[Value]) -> Real:
    """Append Resize of height and width, or Gather where it would not be exact."""
    (source,) = inputs
    how = operator.resize
    if not isinstance(how, ResizeNearest | ResizeBilinear):
        raise TypeError(f"{type(how).__name__} has no lowering to ONNX")
    shape: Shape = how.output_shape(source.shape)
    real = model.real(source, CHANNELS_FIRST)
    whole = all(wanted % size == 0 for size, wanted in zip(source.shape[:2], shape[:2], strict=True))
    if isinstance(how, ResizeNearest) and not whole:
        name = _gathered(model, real, how, source.shape)
    else:
        # Sizes would name the batch, too; without it, ONNX Runtime's optimizer breaks them.
        factors = [1.0, 1.0, *map(_factor, source.shape[:2], shape[:2])]
        scales = model.constant(np.array(factors, np.float32))
        name = model.node("Resize", [real, "", scales], **_options(how))
    return Real(name, shape, CHANNELS_FIRST)


def _options(how: ResizeNearest | ResizeBilinear) -> Mapping[str, str]:
    """Return how pixels lie on each other."""
    if isinstance(how, ResizeBilinear):
        corners = "align_corners" if how.aligns_corners else "half_pixel"
        return {"mode": "linear", "coordinate_transformation_mode": corners}
    if how.from_centres:
        # Half a pixel less, then rounded up from the half: the pixel whose area holds the centre.
        return {
            "mode": "nearest",
            "coordinate_transformation_mode": "half_pixel",
            "nearest_mode": "round_prefer_ceil",
        }
    return {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}


def _gathered(model: Builder, name: str, how: ResizeNearest, shape: Shape) -> str:
    """Append the rows and columns that the graph takes: float32 factors that are not whole lead to others."""
    height, width = shape[:2]
    rows = how.resize_codes(torch.arange(height).reshape(1, -1, 1, 1).expand(1, height, width, 1))[0, :, 0, 0]
    columns = how.resize_codes(torch.arange(width).reshape(1, 1, -1, 1).expand(1, height, width, 1))[0, 0, :, 0]
    taken = model.node("Gather", [name, model.integers(rows.tolist())], axis=CHANNELS_FIRST.index(1))
    return model.node("Gather", [taken, model.integers(columns.tolist())], axis=CHANNELS_FIRST.index(2))


def _factor(size: int, wanted: int) -> np.float32:
    """Return the factor by which runtimes come from one size to the other, rounding down."""
    factor = np.float32(wanted / size)
    while float(factor) * size < wanted:
        factor = np.nextafter(factor, np.float32(np.inf))
    return factor


LOWERINGS: Mapping[type, Lowering] = {
    QuantizedConcatenate: concatenate,
    QuantizedPad: pad,
    QuantizedReshape: reshape,
    QuantizedResize: resize,
    QuantizedSlice: part,
    QuantizedTranspose: transpose,
}
