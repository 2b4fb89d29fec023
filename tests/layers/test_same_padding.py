"""SAME padding against loops that follow TFLite's reference kernels tap by tap."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from qanas.layers.images import (
    ChannelShuffle,
    ConvNorm,
    ConvNormReLU6,
    SameAvgPool2d,
    SameConv2d,
    SameMaxPool2d,
    same_padding,
)

Array = NDArray[np.float64]
SIDES = st.integers(1, 9)
KERNELS = st.integers(1, 5)
STRIDES = st.integers(1, 3)
DILATIONS = st.integers(1, 3)


def taps(output: int, size: int, kernel: int, stride: int, dilation: int) -> list[tuple[int, int]]:
    """Return (tap, position) of what one output sees; TFLite's formula, written as its C code has it."""
    effective = (kernel - 1) * dilation + 1
    outputs = (size + stride - 1) // stride
    total = max((outputs - 1) * stride + effective - size, 0)
    origin = output * stride - total // 2
    places = [(tap, origin + dilation * tap) for tap in range(kernel)]
    return [(tap, place) for tap, place in places if 0 <= place < size]


def naive_conv(inputs: Array, weight: Array, stride: tuple[int, int], dilation: tuple[int, int], groups: int) -> Array:
    """Convolve one (channels, height, width) sample, a product at a time."""
    _, height, width = inputs.shape
    filters, depth, *kernel = weight.shape
    outputs = np.zeros((filters, math.ceil(height / stride[0]), math.ceil(width / stride[1])))
    for channel, row, column in np.ndindex(*outputs.shape):
        first = channel // (filters // groups) * depth
        for i, y in taps(row, height, kernel[0], stride[0], dilation[0]):
            for j, x in taps(column, width, kernel[1], stride[1], dilation[1]):
                for c in range(depth):
                    outputs[channel, row, column] += weight[channel, c, i, j] * inputs[first + c, y, x]
    return outputs


@settings(deadline=None, max_examples=60, derandomize=True)
@given(
    size=st.tuples(SIDES, SIDES),
    kernel=st.tuples(KERNELS, KERNELS),
    stride=st.tuples(STRIDES, STRIDES),
    dilation=st.tuples(DILATIONS, DILATIONS),
    groups=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_convolution_is_the_runtimes(
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    layer = SameConv2d(2 * groups, groups, kernel, stride=stride, dilation=dilation, groups=groups, bias=False)
    inputs = torch.randn(2, 2 * groups, *size)
    with torch.no_grad():
        outputs = layer(inputs).numpy()
    weight = layer.weight.detach().double().numpy()
    expected = [naive_conv(sample.double().numpy(), weight, stride, dilation, groups) for sample in inputs]
    np.testing.assert_allclose(outputs, np.stack(expected), rtol=1e-4, atol=1e-5)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(size=st.tuples(SIDES, SIDES), kernel=KERNELS, stride=STRIDES, seed=st.integers(0, 99))
def test_pooling_never_sees_padding(size: tuple[int, int], kernel: int, stride: int, seed: int) -> None:
    torch.manual_seed(seed)
    inputs = torch.randn(1, 2, *size) - 3.0  # below zero: padding with zeros would win every maximum
    largest, means = SameMaxPool2d(kernel, stride)(inputs), SameAvgPool2d(kernel, stride)(inputs)
    assert largest.shape == means.shape == (1, 2, math.ceil(size[0] / stride), math.ceil(size[1] / stride))
    for channel, row, column in np.ndindex(*largest.shape[1:]):
        window = [
            inputs[0, channel, y, x].item()
            for _, y in taps(row, size[0], kernel, stride, 1)
            for _, x in taps(column, size[1], kernel, stride, 1)
        ]
        assert largest[0, channel, row, column].item() == max(window)
        assert means[0, channel, row, column].item() == pytest.approx(sum(window) / len(window), rel=1e-5)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "dilation", "expected"),
    [
        (224, 3, 2, 1, (0, 1)),
        (225, 3, 2, 1, (1, 1)),
        (8, 7, 2, 1, (2, 3)),
        (14, 4, 1, 1, (1, 2)),
        (12, 3, 1, 4, (4, 4)),
        (8, 1, 2, 1, (0, 0)),
        (5, 1, 3, 1, (0, 0)),
        (1, 5, 1, 1, (2, 2)),
    ],
)
def test_padding_by_hand(size: int, kernel: int, stride: int, dilation: int, expected: tuple[int, int]) -> None:
    assert same_padding(size, kernel, stride, dilation) == expected


@pytest.mark.parametrize("size", [(6, 6), (7, 5), (1, 4)])
def test_layers_can_be_traced_and_keep_working_at_other_sizes(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        SameConv2d(4, 8, 3, stride=2), SameMaxPool2d(3, 2), SameAvgPool2d(2, 2), ChannelShuffle(4), ConvNormReLU6(8, 2)
    ).eval()
    inputs = torch.randn(2, 4, *size)
    torch.testing.assert_close(torch.fx.symbolic_trace(network)(inputs), network(inputs))


def test_gradients_reach_input_and_weight() -> None:
    torch.manual_seed(0)
    layer = SameConv2d(2, 4, 3, stride=2, groups=2).double()
    inputs = torch.randn(2, 2, 6, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: SameAvgPool2d(3, 2)(layer(x)), (inputs,))


@settings(deadline=None, max_examples=30, derandomize=True)
@given(groups=st.integers(1, 4), members=st.integers(1, 4))
def test_shuffle_is_that_of_torch(groups: int, members: int) -> None:
    inputs = torch.arange(2.0 * groups * members * 6).reshape(2, groups * members, 2, 3)
    torch.testing.assert_close(ChannelShuffle(groups)(inputs), nn.ChannelShuffle(groups)(inputs), rtol=0, atol=0)


def test_shuffle_by_hand() -> None:
    channels = torch.arange(6.0).reshape(1, 6, 1, 1)
    assert ChannelShuffle(2)(channels).flatten().tolist() == [0, 3, 1, 4, 2, 5]
    assert ChannelShuffle(3)(channels).flatten().tolist() == [0, 2, 4, 1, 3, 5]


def test_convolution_norm_and_activation() -> None:
    torch.manual_seed(0)
    inputs = 4 * torch.randn(8, 3, 9, 7)
    plain, bounded = ConvNorm(3, 5, 3, stride=2), ConvNormReLU6(3, 5, 3, stride=2)
    bounded.load_state_dict(plain.state_dict())
    values = plain(inputs)
    assert values.mean((0, 2, 3)).abs().max() < 1e-5
    assert values.var((0, 2, 3), correction=0).sub(1).abs().max() < 1e-3
    torch.testing.assert_close(bounded(inputs), values.clamp(0, 6))
    assert dict(plain.named_children()).keys() == {"conv", "norm"}
    assert "conv.bias" not in plain.state_dict()
