"""Layers with weights: convolutions over images and over time, linear layers, batch norms, LSTMs."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor, nn

from qanas.layers.images import SameConv2d, same_padding
from qanas.layers.sequences import ChannelNorm, Conv1xK, OneBiasLSTM, ScaledLinear
from qanas.quantization.operators.convolution import Convolution, Kernel
from qanas.quantization.operators.dense import BatchNorm, Dense
from qanas.quantization.operators.lstm import LSTM
from qanas.quantization.operators.windows import Window
from qanas.quantization.tracing.builder import Builder, Sizes, Translators, pair
from qanas.quantization.tracing.shapes import part
from qanas.quantization.tracing.values import (
    Factors,
    OtherwiseError,
    Stacked,
    Unavailable,
    Value,
    new_axis,
    positions,
    size_of,
)


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


def functional_batch_norm(  # noqa: PLR0913, PLR0917 - as torch has them
    builder: Builder,
    value: Value,
    /,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Value:
    """Take a batch norm over the first axis with running statistics, all of shape (channels,)."""
    del momentum
    if training or running_mean is None or running_var is None:
        raise OtherwiseError(
            "a batch norm over the statistics of the batch; give it running ones, and training=self.training"
        )
    return _norm(builder, _batch_norm(running_mean, running_var, weight, bias, eps), value, 0)


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
    mean, variance = module.running_mean, module.running_var
    if mean is None or variance is None:
        raise ValueError("a batch norm without running statistics; train it with track_running_stats=True")
    return _batch_norm(mean, variance, module.weight, module.bias, module.eps)


def _batch_norm(
    mean: Tensor, variance: Tensor, weight: Tensor | None, bias: Tensor | None, epsilon: float
) -> BatchNorm:
    """Return a batch norm of given statistics, weights and biases, each of shape (channels,)."""
    weight = torch.ones_like(mean) if weight is None else weight.detach()
    bias = torch.zeros_like(mean) if bias is None else bias.detach()
    return BatchNorm(weight, bias, mean, variance, epsilon)


def one_bias_lstm(builder: Builder, module: OneBiasLSTM, value: Value, /) -> Value:
    """Take a `OneBiasLSTM`."""
    return _layer(builder, value, module.weight_ih, module.weight_hh, module.bias)


def lstm(
    builder: Builder, module: nn.LSTM, value: Value, /, hx: object = None
) -> tuple[Value, tuple[Stacked, Unavailable]]:
    """Take an `nn.LSTM` of any number of layers, from a zero state; its two biases are added up."""
    for name, wanted in (("bidirectional", False), ("proj_size", 0)):
        if getattr(module, name) != wanted:
            raise ValueError(f"an LSTM with {name} = {getattr(module, name)}; take {name} = {wanted}")
    batch = 0 if module.batch_first else 1
    if value.batch != batch:
        raise ValueError(
            f"an LSTM with batch_first = {module.batch_first} and the batch as axis {value.batch}; "
            "take batch_first = True, or put the time in front"
        )
    if hx is not None and not (isinstance(hx, tuple) and all(_zeros(state) for state in hx)):
        raise ValueError("an LSTM that starts from a given state; start from zero: lstm(x)")
    value = replace(value, batch=0)
    outputs = []
    for layer in range(module.num_layers):
        kernel, recurrent = (getattr(module, f"weight_{part}_l{layer}") for part in ("ih", "hh"))
        bias = torch.zeros_like(kernel[:, 0])
        if module.bias:
            bias = getattr(module, f"bias_ih_l{layer}") + getattr(module, f"bias_hh_l{layer}")
        value = _layer(builder, value, kernel, recurrent, bias)
        outputs.append(value)
    hidden = Stacked(tuple(part(builder, output, (slice(None), -1)) for output in outputs))
    cell = Unavailable(hidden.whole_shape, "an LSTM's cell state as a value; take its hidden state")
    return replace(value, batch=batch), (hidden, cell)


def _zeros(state: object) -> bool:
    return isinstance(state, Tensor) and not state.any()


def _layer(builder: Builder, value: Value, kernel: Tensor, recurrent: Tensor, bias: Tensor) -> Value:
    if len(value.torch) != 2:  # noqa: PLR2004 - time, features
        raise ValueError(f"an LSTM got {value.shape}; it takes (time, features)")
    if value.shape[1] != kernel.shape[1]:
        raise ValueError(f"an LSTM of {kernel.shape[1]} features got {value.shape[1]}")
    time, features = value.torch
    source, order = builder.last(value, [time], features)
    stored_at = positions(features, order)
    kernel = kernel.detach() if stored_at is None else kernel.detach()[:, stored_at]
    axes = (time, new_axis(recurrent.shape[1]))
    return builder.emit(LSTM(kernel, recurrent.detach(), bias.detach()), [source], axes, axes)


TRANSLATORS = Translators(
    functions={
        F.conv2d: conv2d,
        F.conv1d: conv1d,
        F.linear: linear,
        F.batch_norm: functional_batch_norm,
    },
    modules={
        **dict.fromkeys((nn.Conv1d, nn.Conv2d), conv_module),
        SameConv2d: same_conv2d,
        Conv1xK: conv_1xk,
        nn.Linear: linear_module,
        ScaledLinear: scaled_linear,
        nn.BatchNorm1d: batch_norm,
        nn.BatchNorm2d: batch_norm,
        nn.SyncBatchNorm: batch_norm,
        ChannelNorm: channel_norm,
        OneBiasLSTM: one_bias_lstm,
        nn.LSTM: lstm,
    },
)
