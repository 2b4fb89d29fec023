"""Pointwise convolutions with a stride, of which the CPU library that torch uses gets the weights' gradients wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

FEW_CHANNELS = 16
"""Floats in a vector of AVX-512."""


def strides_first(network: nn.Module) -> AbstractContextManager[object]:
    """Return the context in which a network's outputs are to be computed that a loss is traced back from.

    With the channels next to each other in memory, as here while training, oneDNN's gradient of the weights of a
    pointwise convolution with a stride writes beyond its workspace where it has fewer input channels than a vector has
    floats: wrong weights, an endless loop or a crash (uxlfoundation/oneDNN#6035; torch 2.13). In this context such a
    convolution is given every so many-th pixel and has no stride, which is the same.

    Args:
        network: nothing is changed for one that has no such weights, or lies elsewhere than on a CPU.
    """
    return _StridesFirst() if any(map(_in_danger, network.parameters())) else nullcontext()


def _in_danger(weight: Tensor) -> bool:
    """Tell whether a weight may be that of such a convolution, shape (out, in, 1, 1) or (out, 1, 1, in)."""
    if weight.ndim != 4 or weight.device.type != "cpu":  # noqa: PLR2004 - that of a convolution over images
        return False
    _, first, middle, last = weight.shape
    return middle == 1 and ((last == 1 and first < FEW_CHANNELS) or (first == 1 and last < FEW_CHANNELS))


class _StridesFirst(TorchFunctionMode):
    """Takes the pixels that a stride leaves before a pointwise convolution, not in it."""

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> object:
        """Call a function of torch's."""
        del types
        if func is torch.conv2d:
            return func(*_without_stride(*args, **(kwargs or {})))
        return func(*args, **(kwargs or {}))


def _without_stride(
    input: Tensor,  # noqa: A002 - torch's names
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int, ...] = 1,
    padding: int | tuple[int, ...] | str = 0,
    dilation: int | tuple[int, ...] = 1,
    groups: int = 1,
) -> tuple[Any, ...]:
    """Return the arguments of a convolution that computes the same: those given where it isn't pointwise."""
    rows, columns = _pair(stride)
    unpadded = padding == "valid" if isinstance(padding, str) else _pair(padding) == (0, 0)
    if tuple(weight.shape[2:]) == (1, 1) and max(rows, columns) > 1 and unpadded:
        return input[..., ::rows, ::columns], weight, bias, 1, 0, 1, groups
    return input, weight, bias, stride, padding, dilation, groups


def _pair(value: int | tuple[int, ...]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[-1])
