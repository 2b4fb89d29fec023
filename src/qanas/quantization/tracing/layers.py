"""Layers with weights: convolutions over images and over time, transposed ones, linear layers, batch norms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor, nn

from qanas.layers.images import SameConv2d, same_padding
from qanas.layers.sequences import ChannelNorm, Conv1xK, ScaledLinear
from qanas.quantization.operators.convolution import Convolution, Kernel
from qanas.quantization.operators.dense import BatchNorm, Dense
from qanas.quantization.operators.transposed import Spread, TransposedConvolution
from qanas.quantization.operators.windows import Window
from qanas.quantization.tracing.builder import Builder, Sizes, Translators, pair
from qanas.quantization.tracing.joining import pad
from qanas.quantization.tracing.shapes import as_row
from qanas.quantization.tracing.values import Factors, OtherwiseError, Value, new_axis, positions, size_of


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
    # What torch has joined to the batch are the rows.
    output, (channels, rows, time) = _convolve(builder, value, (channels, value.beside, time), weight, bias, kernel)
    return replace(output, torch=(channels, time), beside=rows)


def conv_module(builder: Builder, module: nn.Conv1d | nn.Conv2d, value: Value, /) -> Value:
    """Take an `nn.Conv1d` or `nn.Conv2d`."""
    translate = conv1d if isinstance(module, nn.Conv1d) else conv2d
    padding: Sizes | str = module.padding
    if module.padding_mode != "zeros":
        value = pad(builder, value, module._reversed_padding_repeated_twice, module.padding_mode)
        padding = 0
    return translate(builder, value, module.weight, module.bias, module.stride, padding, module.dilation, module.groups)


def conv_transpose2d(  # noqa: PLR0913, PLR0917 - as torch has it
    builder: Builder,
    value: Value,
    /,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
) -> Value:
    """Take a transposed convolution of (channels, rows, columns), weights of (in, out / groups, rows, columns)."""
    if len(value.torch) != 3:  # noqa: PLR2004 - channels, rows, columns
        raise ValueError(f"a transposed convolution got {value.shape}; it takes (channels, rows, columns)")
    channels, rows, columns = value.torch
    if size_of(channels) != weight.shape[0]:
        raise ValueError(f"a transposed convolution of {weight.shape[0]} channels got {size_of(channels)}")
    whole = _spread_weights(weight.detach(), groups, pair(dilation))
    bias = torch.zeros_like(whole[:, 0, 0, 0]) if bias is None else bias.detach()
    source, order = builder.last(value, (rows, columns), channels)
    if order != channels:
        whole = whole[..., positions(channels, order)]
    stride, front = pair(stride), pair(padding)
    sizes = [
        (size_of(axis) - 1) * step + taps - 2 * cut + further
        for axis, step, taps, cut, further in zip(
            (rows, columns), stride, whole.shape[1:3], front, pair(output_padding), strict=True
        )
    ]
    spread = Spread(stride, front, (sizes[0], sizes[1]))
    out, down, across = map(new_axis, (len(whole), *sizes))
    return builder.emit(TransposedConvolution(whole, bias, spread), [source], (out, down, across), (down, across, out))


def _spread_weights(weight: Tensor, groups: int, dilation: tuple[int, int]) -> Tensor:
    """Return weights of shape (in, out / groups, rows, columns) as (out, rows, columns, in), zeros in all gaps."""
    inputs, outputs, *taps = weight.shape
    rows, columns = ((tap - 1) * gap + 1 for tap, gap in zip(taps, dilation, strict=True))
    whole = weight.new_zeros(groups, outputs, rows, columns, groups, inputs // groups)
    for group, part in enumerate(weight.chunk(groups)):
        whole[group, :, :: dilation[0], :: dilation[1], group] = part.permute(1, 2, 3, 0)
    return whole.reshape(groups * outputs, rows, columns, inputs)


def conv_transpose1d(  # noqa: PLR0913, PLR0917 - as torch has it
    builder: Builder,
    value: Value,
    /,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
) -> Value:
    """Take a transposed convolution of (channels, time), as one over images of one row."""
    steps, cut, further, gap = (pair(sizes)[1] for sizes in (stride, padding, output_padding, dilation))
    return as_row(conv_transpose2d)(
        builder, value, weight[:, :, None], bias, (1, steps), (0, cut), (0, further), groups, (1, gap)
    )


def conv_transpose_module(
    builder: Builder,
    module: nn.ConvTranspose1d | nn.ConvTranspose2d,
    value: Value,
    /,
    output_size: Sequence[int] | None = None,
) -> Value:
    """Take an `nn.ConvTranspose1d` or `nn.ConvTranspose2d`, of whose outputs' sizes one may be asked for."""
    translate, axes = (conv_transpose1d, 1) if isinstance(module, nn.ConvTranspose1d) else (conv_transpose2d, 2)
    assert not isinstance(module.padding, str)  # noqa: S101 - torch takes numbers alone
    further: Sizes = module.output_padding
    if output_size is not None:  # torch's own rule, which reads no more than the shape of what comes in
        further = module._output_padding(
            torch.empty(value.whole_shape),
            list(output_size),
            list(module.stride),
            list(module.padding),
            list(module.kernel_size),
            axes,
            list(module.dilation),
        )
    return translate(
        builder,
        value,
        module.weight,
        module.bias,
        module.stride,
        module.padding,
        further,
        module.groups,
        module.dilation,
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
    """Append a convolution, weights of shape (out, in / groups, rows, columns); return its output and its axes."""
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


def linear(builder: Builder, value: Value, /, weight: Tensor, bias: Tensor | None = None) -> Value:
    """Take a linear layer, weights of shape (outputs, features) in the order in which the numbers are stored."""
    if value.shape[-1:] != weight.shape[1:]:
        raise ValueError(f"a linear layer of {weight.shape[1]} features got {value.shape}")
    if len(value.torch) == 1:
        source, order = builder.last(value, (), value.torch[0])
    else:
        source, order = builder.ending_in(value, len(value.torch) - 1)
    stored_at = positions(value.torch[-1], order)
    weight = weight.detach() if stored_at is None else weight.detach()[:, stored_at]
    bias = torch.zeros_like(weight[:, 0]) if bias is None else bias.detach()
    output = new_axis(weight.shape[0])
    return builder.emit(Dense(weight, bias), [source], (*source.torch[:-1], output), (*source.stored[:-1], output))


def linear_module(builder: Builder, module: nn.Linear, value: Value, /) -> Value:
    """Take an `nn.Linear`."""
    return linear(builder, value, module.weight, module.bias)


def scaled_linear(builder: Builder, module: ScaledLinear, value: Value, /) -> Value:
    """Take a `ScaledLinear`, its constant scale folded in."""
    return linear(builder, value, *module.folded())


def batch_norm(builder: Builder, module: nn.BatchNorm1d | nn.BatchNorm2d, value: Value, /) -> Value:
    """Take the running statistics of a batch norm over the first axis, whatever mode it is in."""
    return _norm(builder, _operator(module), value, 0)


def functional_batch_norm(  # noqa: PLR0913, PLR0917 - as torch has it
    builder: Builder,
    value: Value,
    /,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float | None = 0.1,
    eps: float = 1e-5,
) -> Value:
    """Take the running statistics of a batch norm that is called as a function.

    All tensors are of shape (channels,). With ``training`` torch itself has those of the batch.
    """
    del momentum
    if training or running_mean is None or running_var is None:
        raise OtherwiseError(
            "a batch norm over the statistics of the batch in training; give it running ones, and "
            "training=self.training"
        )
    return _norm(builder, _statistics(running_mean, running_var, weight, bias, eps), value, 0)


def channel_norm(builder: Builder, module: ChannelNorm, value: Value, /) -> Value:
    """Take those of a batch norm over the last axis."""
    return _norm(builder, _operator(module), value, len(value.torch) - 1)


def _norm(builder: Builder, norm: BatchNorm, value: Value, number: int) -> Value:
    if value.shape[number] != len(norm.mean):
        raise ValueError(f"a batch norm of {len(norm.mean)} channels got {value.shape[number]}")
    source, order = builder.ending_in(value, number)
    stored_at = positions(value.torch[number], order)
    if stored_at is not None:
        norm = BatchNorm(
            norm.weight[stored_at], norm.bias[stored_at], norm.mean[stored_at], norm.variance[stored_at], norm.epsilon
        )
    return builder.emit(norm, [source], source.torch, source.stored)


def _operator(module: nn.BatchNorm1d | nn.BatchNorm2d) -> BatchNorm:
    """Return a batch norm with the statistics gathered in training."""
    return _statistics(module.running_mean, module.running_var, module.weight, module.bias, module.eps)


def _statistics(
    mean: Tensor | None, variance: Tensor | None, weight: Tensor | None, bias: Tensor | None, epsilon: float
) -> BatchNorm:
    """Return a batch norm; all tensors are of shape (channels,)."""
    if mean is None or variance is None:
        raise ValueError("a batch norm without running statistics; train it with track_running_stats=True")
    weight = torch.ones_like(mean) if weight is None else weight.detach()
    bias = torch.zeros_like(mean) if bias is None else bias.detach()
    return BatchNorm(weight, bias, mean, variance, epsilon)


TRANSLATORS = Translators(
    functions={
        F.conv2d: conv2d,
        F.conv1d: conv1d,
        F.conv_transpose2d: conv_transpose2d,
        F.conv_transpose1d: conv_transpose1d,
        F.linear: linear,
        F.batch_norm: functional_batch_norm,
    },
    modules={
        **dict.fromkeys((nn.Conv1d, nn.Conv2d), conv_module),
        **dict.fromkeys((nn.ConvTranspose1d, nn.ConvTranspose2d), conv_transpose_module),
        SameConv2d: same_conv2d,
        Conv1xK: conv_1xk,
        nn.Linear: linear_module,
        ScaledLinear: scaled_linear,
        nn.BatchNorm1d: batch_norm,
        nn.BatchNorm2d: batch_norm,
        nn.SyncBatchNorm: batch_norm,
        ChannelNorm: channel_norm,
    },
)
