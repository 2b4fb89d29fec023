"""What moves or repeats numbers: as parts of a value that lies there already, else by copies from order to order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

import numpy as np

from qanas.deployment.standalone.emitter import Emitter
from qanas.deployment.standalone.memory import computed
from qanas.quantization.program import RuntimeOperator, RuntimeTensor

Shape = Sequence[int]


def steps_of(shape: Shape) -> list[int]:
    """Return how far the next number of each axis is.

    >>> steps_of((2, 3, 4))
    [12, 4, 1]
    """
    return [prod(shape[axis + 1 :]) for axis in range(len(shape))]


@dataclass(frozen=True)
class Copy:
    """Numbers taken from one order into another.

    Attributes:
        sizes: of the axes that are gone through.
        source: how far the next number is in the source, by axis.
        target: likewise in the target.
        start: where the first one is in the source.
        into: where it goes in the target.
    """

    sizes: tuple[int, ...]
    source: tuple[int, ...]
    target: tuple[int, ...]
    start: int = 0
    into: int = 0

    def merged(self) -> list[tuple[int, int, int]]:
        """Return (size, source, target) of as few axes as it takes, at least one.

        >>> Copy((2, 3, 4), (12, 4, 1), (12, 4, 1)).merged()
        [(24, 1, 1)]
        """
        axes: list[tuple[int, int, int]] = []
        for size, source, target in zip(self.sizes, self.source, self.target, strict=True):
            if size == 1:
                continue
            if axes and axes[-1][1:] == (source * size, target * size):
                axes[-1] = (axes[-1][0] * size, source, target)
            else:
                axes.append((size, source, target))
        return axes or [(1, 1, 1)]

    @property
    def contiguous(self) -> bool:
        """Whether they lie one behind the other in both."""
        return len(self.merged()) == 1 and self.merged()[0][1:] == (1, 1)


def present(operator: RuntimeOperator, position: int = 0) -> RuntimeTensor:
    """Return an input that is there."""
    tensor = operator.inputs[position]
    if tensor is None:
        raise ValueError(f"{operator.kind}: an input is left out that the kernel needs")
    return tensor


def values_of(operator: RuntimeOperator, position: int) -> list[int]:
    """Return the numbers of an input that is a list of indices."""
    return [int(value) for value in np.asarray(present(operator, position).data).reshape(-1)]


def whole(operator: RuntimeOperator) -> list[Copy]:
    """Return the copy of a value as it is."""
    count = present(operator).elements
    return [Copy((count,), (1,), (1,))]


def part(operator: RuntimeOperator) -> list[Copy]:
    """Return the copy of a slice."""
    source = present(operator)
    starts, stops, steps = (values_of(operator, position) for position in (1, 2, 3))
    ranges = [range(*bounds) for bounds in zip(starts, stops, steps, strict=True)]
    strides, sizes = steps_of(source.shape), tuple(map(len, ranges))
    taken = tuple(stride * each.step for stride, each in zip(strides, ranges, strict=True))
    start = sum(stride * each.start for stride, each in zip(strides, ranges, strict=True))
    return [Copy(sizes, taken, tuple(steps_of(sizes)), start)]


def transposed(operator: RuntimeOperator) -> list[Copy]:
    """Return the copy into another order of axes."""
    source, order = present(operator), values_of(operator, 1)
    strides = steps_of(source.shape)
    sizes = tuple(source.shape[axis] for axis in order)
    return [Copy(sizes, tuple(strides[axis] for axis in order), tuple(steps_of(sizes)))]


def split(operator: RuntimeOperator) -> list[Copy]:
    """Return the copies of equal parts along an axis."""
    source, axis = present(operator, 1), values_of(operator, 0)[0]
    return _parts(source, axis, [output.shape[axis] for output in operator.outputs])


def unpacked(operator: RuntimeOperator) -> list[Copy]:
    """Return the copies of every position of an axis."""
    source, axis = present(operator), int(operator.options["axis"])
    return _parts(source, axis, [1] * len(operator.outputs))


def _parts(source: RuntimeTensor, axis: int, sizes: Sequence[int]) -> list[Copy]:
    strides, found, start = steps_of(source.shape), [], 0
    for size in sizes:
        shape = (*source.shape[:axis], size, *source.shape[axis + 1 :])
        found.append(Copy(shape, tuple(strides), tuple(steps_of(shape)), start * strides[axis]))
        start += size
    return found


def views(operator: RuntimeOperator) -> list[int] | None:
    """Return where each output lies in the input, or None where it has to be copied."""
    found = VIEWS.get(operator.kind)
    copies = found(operator) if found else []
    return [copy.start for copy in copies] if copies and all(copy.contiguous for copy in copies) else None


VIEWS = {"RESHAPE": whole, "SPLIT": split, "STRIDED_SLICE": part, "TRANSPOSE": transposed, "UNPACK": unpacked}
"""What outputs are of the input, by kind of operator."""


def emit_copy(emitter: Emitter, copy: Copy, source: RuntimeTensor, output: RuntimeTensor) -> None:
    """Emit one copy."""
    axes = copy.merged()
    emitter.require(source.dtype == output.dtype == "int8", f"values of {output.dtype}, not of 8 bits")
    steps = emitter.array("axes", "int32_t", np.array(axes))
    start, into = emitter.address(source, copy.start), emitter.address(output, copy.into)
    emitter.call("move", steps, str(len(axes)), start, into)


def move(emitter: Emitter, operator: RuntimeOperator) -> None:
    """Emit the copies of an operator whose outputs are parts of its input; none where they lie there already."""
    if views(operator) is not None:
        return
    (source,) = computed(operator.inputs)
    for copy, output in zip(VIEWS[operator.kind](operator), operator.outputs, strict=True):
        emit_copy(emitter, copy, source, output)


def _joined(operator: RuntimeOperator) -> list[Copy]:
    """Return, for each input, where it goes: side by side along an axis."""
    output = operator.outputs[0]
    axis = int(operator.options["axis"]) % len(output.shape)
    strides, copies, at = steps_of(output.shape), [], 0
    for tensor in operator.inputs:
        shape = tensor.shape if tensor is not None else ()
        if operator.kind == "PACK":
            shape = (*shape[:axis], 1, *shape[axis:])
        copies.append(Copy(shape, tuple(steps_of(shape)), tuple(strides), into=at * strides[axis]))
        at += shape[axis]
    return copies


def join(emitter: Emitter, operator: RuntimeOperator) -> None:
    """Emit a copy for each input."""
    for copy, source in zip(_joined(operator), operator.inputs, strict=True):
        assert source is not None  # noqa: S101 - the writer gives all
        emit_copy(emitter, copy, source, operator.outputs[0])


def pad(emitter: Emitter, operator: RuntimeOperator) -> None:
    """Emit the padding's code everywhere, and the value on it."""
    source, output = present(operator), operator.outputs[0]
    before = values_of(operator, 1)[::2]
    code = values_of(operator, 2)[0] if operator.kind == "PADV2" else emitter.affine(source).zero_point
    strides = steps_of(output.shape)
    into = sum(rows * stride for rows, stride in zip(before, strides, strict=True))
    emitter.call("fill", emitter.address(output), str(code), str(output.elements))
    emit_copy(emitter, Copy(source.shape, tuple(steps_of(source.shape)), tuple(strides), into=into), source, output)


def mirror_pad(emitter: Emitter, operator: RuntimeOperator) -> None:
    """Emit a copy for the value itself, and for each border, corners included: backwards from the second row on."""
    source, output = present(operator), operator.outputs[0]
    amounts = np.reshape(values_of(operator, 1), (-1, 2)).tolist()
    strides, goes = steps_of(source.shape), steps_of(output.shape)
    parts = []
    for size, (before, behind) in zip(source.shape, amounts, strict=True):
        whole_axis = [(size, 1, 0, before), (before, -1, before, 0), (behind, -1, size - 2, before + size)]
        parts.append([entry for entry in whole_axis if entry[0] > 0])
    for chosen in product(*parts):
        sizes, turns, starts, into = zip(*chosen, strict=True)
        taken = tuple(stride * turn for stride, turn in zip(strides, turns, strict=True))
        start = sum(stride * at for stride, at in zip(strides, starts, strict=True))
        place = sum(stride * at for stride, at in zip(goes, into, strict=True))
        emit_copy(emitter, Copy(sizes, taken, tuple(goes), start, place), source, output)


def _reversed(operator: RuntimeOperator) -> Copy:
    source, axes = present(operator), values_of(operator, 1)
    strides = steps_of(source.shape)
    taken = tuple(-stride if axis in axes else stride for axis, stride in enumerate(strides))
    start = sum((source.shape[axis] - 1) * strides[axis] for axis in axes)
    return Copy(source.shape, taken, tuple(strides), start)


def _repeated(operator: RuntimeOperator) -> Copy:
    source, shape = present(operator), operator.outputs[0].shape
    strides = [0 if size == 1 else step for size, step in zip(source.shape, steps_of(source.shape), strict=True)]
    return Copy(shape, tuple(strides), tuple(steps_of(shape)))


def _of_blocks(operator: RuntimeOperator) -> Copy:
    """Return the copy between channels and square blocks of pixels."""
    block = int(operator.options["blockSize"])
    spreads = operator.kind == "DEPTH_TO_SPACE"
    # Rows and columns of blocks, and the channels of one pixel of those that are larger in number of pixels.
    coarse, fine = (present(operator), operator.outputs[0])[:: 1 if spreads else -1]
    _, rows, columns, _ = coarse.shape
    channels = fine.shape[3]
    sizes = (rows, columns, block, block, channels)
    behind = tuple(steps_of(sizes))
    width = columns * block * channels
    beside = (block * width, block * channels, width, channels, 1)
    return Copy(sizes, *((behind, beside) if spreads else (beside, behind)))


ONE_COPY = {
    "BROADCAST_TO": _repeated,
    "DEPTH_TO_SPACE": _of_blocks,
    "REVERSE_V2": _reversed,
    "SPACE_TO_DEPTH": _of_blocks,
}
"""The copy that makes the output, by kind of operator."""


def copied(emitter: Emitter, operator: RuntimeOperator) -> None:
    """Emit one copy."""
    emit_copy(emitter, ONE_COPY[operator.kind](operator), present(operator), operator.outputs[0])
