"""Values side by side, and constant rows around them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import nn

from qanas.quantization.operators.concatenate import Concatenate
from qanas.quantization.operators.pad import Fill, Pad
from qanas.quantization.tracing.builder import Builder, numbers
from qanas.quantization.tracing.translators import FunctionTranslators, ModuleTranslators
from qanas.quantization.tracing.values import Value, new_axis

FILLS: dict[float, Fill] = {0.0: "zero", -math.inf: "lowest"}


def cat(builder: Builder, values: Sequence[Value], /, dim: int = 0) -> Value:
    """Take values side by side, stored in the order that most of them are stored in."""
    axis = values[0].axis(dim)
    shapes = {(*value.shape[:axis], *value.shape[axis + 1 :]) for value in values}
    if len(shapes) > 1 or len({len(value.shape) for value in values}) > 1:
        raise ValueError(f"a concatenation of shapes {', '.join(str(value.shape) for value in values)}")
    stored = [builder.natural(value) for value in values]
    order = Counter(map(numbers, stored)).most_common(1)[0][0]
    parts = [builder.arranged(value, tuple(value.torch[number] for number in order)) for value in stored]
    if len(parts) == 1:
        return parts[0]
    axes = list(parts[0].torch)
    axes[axis] = new_axis(sum(value.shape[axis] for value in values))
    return builder.emit(Concatenate(order.index(axis)), parts, tuple(axes), tuple(axes[number] for number in order))


def stack(builder: Builder, values: Sequence[Value], /, dim: int = 0) -> Value:
    """Take values side by side along a new axis."""
    rank = len(values[0].torch) + 2
    place = dim % rank - 1
    if place < 0:
        raise ValueError("a stack in front of the batch; stack behind it: torch.stack(values, 1)")
    wider = [value.with_torch_axes((*value.torch[:place], (), *value.torch[place:])) for value in values]
    return cat(builder, wider, place + 1)


def pad(
    builder: Builder,
    image: Value,
    /,
    pad: Sequence[int],
    mode: str = "constant",
    value: float | None = None,
) -> Value:
    """Take constant rows around a value; ``pad`` counts from the last axis."""
    fill = FILLS.get(value or 0.0)
    if mode != "constant" or fill is None:
        raise ValueError(f"padding with mode = {mode!r}, value = {value}; pad with zeros")
    sides = [(0, 0)] * (len(image.torch) - len(pad) // 2) + list(zip(pad[::2], pad[1::2], strict=True))[::-1]
    if len(sides) > len(image.torch):
        raise ValueError("padding of the batch; pad each sample")
    source = builder.natural(image)
    order = numbers(source)
    axes = [
        new_axis(size + sum(side)) if any(side) else axis
        for axis, size, side in zip(source.torch, source.shape, sides, strict=True)
    ]
    operator = Pad(tuple(sides[number] for number in order), fill)
    return builder.emit(operator, [source], tuple(axes), tuple(axes[number] for number in order))


def pad_module(builder: Builder, module: nn.ZeroPad2d | nn.ConstantPad2d, image: Value, /) -> Value:
    """Take an `nn.ZeroPad2d` or `nn.ConstantPad2d`."""
    return pad(builder, image, module.padding, value=module.value)


FUNCTIONS: FunctionTranslators = {
    **dict.fromkeys((torch.cat, torch.concat, torch.concatenate), cat),
    torch.stack: stack,
    F.pad: pad,
}
MODULES: ModuleTranslators = dict.fromkeys((nn.ZeroPad2d, nn.ConstantPad2d), pad_module)
