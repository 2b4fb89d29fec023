"""Convolutions over images and over time."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor, nn

from qanas.layers.conv import Conv1xK
from qanas.layers.same_conv import SameConv2d, same_padding
from qanas.quantization.operators.conv import Convolution, Kernel
from qanas.quantization.operators.window import Window
from qanas.quantization.tracing.builder import Builder
from qanas.quantization.tracing.translators import FunctionTranslators, ModuleTranslators, Sizes, pair
from qanas.quantization.tracing.values import Factors, Value, new_axis, positions, size_of


def conv2d(
    builder: Builder,
    value: Value,
    /,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes | str = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Value:
    """Take a convolution of (channels, rows, columns)."""
    if len(value.torch) != 3:  # noqa: PLR2004 - channels, rows, columns
        raise ValueError(f"a convolution over images got {value.shape}; it takes (channels, rows, columns)")
    channels, rows, columns = value.torch
    kernel = _kernel(weight, stride, padding, dilation, groups)
    output, image = _convolve(builder, value, (channels, rows, columns), weight, bias, kernel)
    return output.with_torch_axes(image)


def conv1d(
    builder: Builder,
    value: Value,
    /,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes | str = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Value:
    """Take a convolution of (channels, time), as one over images of one row."""
    if len(value.torch) != 2:  # noqa: PLR2004 - channels, time
        raise ValueError(f"a convolution over time got {value.shape}; it takes (channels, time)")
    channels, time = value.torch
    if not isinstance(padding, str):
        padding = (0, pair(padding)[1])
    weight = weight[:, :, None]
    kernel = _kernel(weight, (1, pair(stride)[1]), padding, (1, pair(dilation)[1]), groups)
    output, (channels, _, time) = _convolve(builder, value, (channels, (), time), weight, bias, kernel)
    return output.with_torch_axes((channels, time))


def conv_module(builder: Builder, module: nn.Conv1d | nn.Conv2d, value: Value, /) -> Value:
    """Take an `nn.Conv1d` or `nn.Conv2d`."""
    if module.padding_mode != "zeros":
        raise ValueError(f"padding_mode = {module.padding_mode!r}; pad with zeros")
    translate = conv1d if isinstance(module, nn.Conv1d) else conv2d
    return translate(
        builder,
        value,
        module.weight,
        module.bias,
        module.stride,
        module.padding,
        module.dilation,
        module.groups,
    )


def same_conv2d(builder: Builder, module: SameConv2d, value: Value, /) -> Value:
    """Take a `SameConv2d`."""
    channels, rows, columns = value.torch
    taps = (module.weight.shape[2], module.weight.shape[3])
    sides = [
        same_padding(*axis)
        for axis in zip((size_of(rows), size_of(columns)), taps, module.stride, module.dilation, strict=True)
    ]
    kernel = _kernel(module.weight, module.stride, 0, module.dilation, module.groups)
    kernel = replace(kernel, window=replace(kernel.window, padding=(sides[0], sides[1])))
    output, image = _convolve(builder, value, (channels, rows, columns), module.weight, module.bias, kernel)
    return output.with_torch_axes(image)


def conv_1xk(builder: Builder, module: Conv1xK, value: Value, /) -> Value:
    """Take a `Conv1xK`, which has time and channels behind all other axes."""
    *leading, time, channels = value.torch
    if any(leading):
        raise ValueError(
            f"a convolution over time got {value.shape}; it takes (time, channels) and (1, time, channels)"
        )
    weight = module.weight[:, :, None]
    reach = (module.weight.shape[2] - 1) * module.dilation + 1
    window = Window((1, reach), (1, module.stride), ((0, 0), (module.left_padding, 0)))
    kernel = Kernel(window, (1, module.dilation))
    output, (channels, _, time) = _convolve(builder, value, (channels, (), time), weight, module.bias, kernel)
    return output.with_torch_axes((*leading, time, channels))


def _kernel(weight: Tensor, stride: Sizes, padding: Sizes | str, dilation: Sizes, groups: int) -> Kernel:
    """Return the kernel of torch's arguments; ``same`` puts what can't be halved behind."""
    dilations = pair(dilation)
    gaps = ((weight.shape[2] - 1) * dilations[0], (weight.shape[3] - 1) * dilations[1])
    if padding == "same":
        sides = [(gap // 2, gap - gap // 2) for gap in gaps]
    else:
        sides = [(amount, amount) for amount in ((0, 0) if isinstance(padding, str) else pair(padding))]
    window = Window((gaps[0] + 1, gaps[1] + 1), pair(stride), (sides[0], sides[1]))
    return Kernel(window, dilations, groups)


Image = tuple[Factors, Factors, Factors]
"""Channels, rows, columns."""


def _convolve(
    builder: Builder, value: Value, image: Image, weight: Tensor, bias: Tensor | None, kernel: Kernel
) -> tuple[Value, Image]:
    """Append a convolution with weights (out, in / groups, rows, columns); return its output and that one's axes."""
    channels, rows, columns = image
    inputs = weight.shape[1] * kernel.groups
    if size_of(channels) != inputs:
        raise ValueError(f"a convolution of {inputs} channels got {size_of(channels)}")
    weight = weight.detach().permute(0, 2, 3, 1)
    bias = torch.zeros_like(weight[:, 0, 0, 0]) if bias is None else bias.detach()
    by_channel = kernel.by_channel(inputs)
    if kernel.groups == 1 or by_channel:
        source, order = builder.last(value, (rows, columns), channels)
    else:  # the channels of a group must be next to each other
        source, order = builder.arranged(value, (rows, columns, channels)), channels
    out_axis = stored = new_axis(weight.shape[0])
    if order != channels and by_channel:
        # Each output stays with its input: their order is that of the inputs.
        each = new_axis(weight.shape[0] // inputs)
        out_axis, stored = (*channels, *each), (*order, *each)
        stored_at = positions(out_axis, stored)
        weight, bias = weight[stored_at], bias[stored_at]
    elif order != channels:
        weight = weight[..., positions(channels, order)]
    size = kernel.window.positions((size_of(rows), size_of(columns), inputs))
    down, across = new_axis(size[0]), new_axis(size[1])
    output = builder.emit(Convolution(weight, bias, kernel), [source], (out_axis, down, across), (down, across, stored))
    return output, (out_axis, down, across)


FUNCTIONS: FunctionTranslators = {F.conv2d: conv2d, F.conv1d: conv1d}
MODULES: ModuleTranslators = {
    **dict.fromkeys((nn.Conv1d, nn.Conv2d), conv_module),
    SameConv2d: same_conv2d,
    Conv1xK: conv_1xk,
}
