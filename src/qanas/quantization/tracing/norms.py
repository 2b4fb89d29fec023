"""Norms by statistics of the sample itself: means, squares and a root that is looked up."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor, nn

from qanas.quantization.operators.dense import FixedScaling
from qanas.quantization.operators.tables import InverseRoot
from qanas.quantization.tracing.builder import Builder, Translators
from qanas.quantization.tracing.layers import batch_norm, functional_batch_norm
from qanas.quantization.tracing.pointwise import add, multiply, subtract
from qanas.quantization.tracing.reductions import mean
from qanas.quantization.tracing.values import Value, positions


def layer_norm(
    builder: Builder,
    value: Value,
    /,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Value:
    """Take a layer norm over the last axes."""
    axes = _last_axes(value, normalized_shape)
    return _scaled(builder, normalized(builder, value, axes, eps), weight, bias)


def layer_norm_module(builder: Builder, module: nn.LayerNorm, value: Value, /) -> Value:
    """Take an `nn.LayerNorm`."""
    return layer_norm(builder, value, module.normalized_shape, module.weight, module.bias, module.eps)


def rms_norm(
    builder: Builder,
    value: Value,
    /,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Value:
    """Take values over the root of the mean of their squares."""
    axes = _last_axes(value, normalized_shape)
    epsilon = float(torch.finfo(torch.float32).eps) if eps is None else eps
    return _scaled(builder, normalized(builder, value, axes, epsilon, centred=False), weight, None)


def rms_norm_module(builder: Builder, module: nn.RMSNorm, value: Value, /) -> Value:
    """Take an `nn.RMSNorm`."""
    return rms_norm(builder, value, module.normalized_shape, module.weight, module.eps)


def group_norm(
    builder: Builder,
    value: Value,
    /,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Value:
    """Take a norm over groups of channels and all that lies behind them."""
    channels, *rest = value.shape
    grouped = builder.reshaped(value, (num_groups, channels // num_groups, *rest))
    axes = range(2, len(grouped.torch) + 1)
    result = builder.reshaped(normalized(builder, grouped, axes, eps), value.shape)
    return _scaled_channels(builder, result, weight, bias)


def group_norm_module(builder: Builder, module: nn.GroupNorm, value: Value, /) -> Value:
    """Take an `nn.GroupNorm`."""
    return group_norm(builder, value, module.num_groups, module.weight, module.bias, module.eps)


def instance_norm(builder: Builder, module: nn.InstanceNorm1d | nn.InstanceNorm2d, value: Value, /) -> Value:
    """Take a norm of each channel; with running statistics it is a batch norm."""
    if module.track_running_stats:
        return batch_norm(builder, module, value)  # type: ignore[arg-type]  # it has all that is read
    return functional_instance_norm(builder, value, None, None, module.weight, module.bias, eps=module.eps)


def functional_instance_norm(  # noqa: PLR0913, PLR0917 - as torch has it
    builder: Builder,
    value: Value,
    /,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Value:
    """Take a norm of each channel that is called as a function; all tensors are of shape (channels,)."""
    if not use_input_stats:
        return functional_batch_norm(builder, value, running_mean, running_var, weight, bias, False, momentum, eps)
    axes = range(2, len(value.torch) + 1)
    return _scaled_channels(builder, normalized(builder, value, axes, eps), weight, bias)


def normalized(builder: Builder, value: Value, axes: Sequence[int], epsilon: float, *, centred: bool = True) -> Value:
    """Return a value less its mean, over the root of the mean square of that.

    Args:
        builder: appends the operators.
        value: of any shape.
        axes: torch's numbers of those that the means are over.
        epsilon: added to the mean square.
        centred: whether the mean is subtracted.
    """
    if centred:
        value = subtract(builder, value, mean(builder, value, axes, keepdim=True))
    squares = mean(builder, multiply(builder, value, value), axes, keepdim=True)
    return multiply(builder, value, builder.unary(InverseRoot.of(epsilon), squares))


def _last_axes(value: Value, shape: Sequence[int]) -> list[int]:
    if value.shape[-len(shape) :] != tuple(shape):
        raise ValueError(f"a norm over {tuple(shape)} of a value of shape {value.shape}")
    return list(range(-len(shape), 0))


def _scaled(builder: Builder, value: Value, weight: Tensor | None, bias: Tensor | None) -> Value:
    """Return a value times weights plus biases, of the shape of its last axes."""
    if weight is None and bias is None:
        return value
    if weight is not None and weight.ndim > 1:
        value = multiply(builder, value, weight.detach())
        return value if bias is None else add(builder, value, bias.detach())
    return _scaled_along(builder, value, weight, bias, len(value.torch) - 1)


def _scaled_channels(builder: Builder, value: Value, weight: Tensor | None, bias: Tensor | None) -> Value:
    """Return a value times weights plus biases, one a channel."""
    return value if weight is None and bias is None else _scaled_along(builder, value, weight, bias, 0)


def _scaled_along(builder: Builder, value: Value, weight: Tensor | None, bias: Tensor | None, number: int) -> Value:
    """Append factors and offsets along a torch axis, which what stands around them takes over where it can."""
    source, order = builder.ending_in(value, number)
    size = value.shape[number]
    factors = torch.ones(size) if weight is None else weight.detach()
    offsets = torch.zeros(size) if bias is None else bias.detach()
    stored_at = positions(value.torch[number], order)
    if stored_at is not None:
        factors, offsets = factors[stored_at], offsets[stored_at]
    return builder.emit(FixedScaling(factors, offsets), [source], source.torch, source.stored)


TRANSLATORS = Translators(
    functions={
        **dict.fromkeys((F.layer_norm, torch.layer_norm), layer_norm),
        F.rms_norm: rms_norm,
        F.instance_norm: functional_instance_norm,
        **dict.fromkeys((F.group_norm, torch.group_norm), group_norm),
    },
    modules={
        nn.LayerNorm: layer_norm_module,
        nn.RMSNorm: rms_norm_module,
        nn.GroupNorm: group_norm_module,
        **dict.fromkeys((nn.InstanceNorm1d, nn.InstanceNorm2d), instance_norm),
    },
)
