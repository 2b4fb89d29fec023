"""MBConv and MobileNetV2's encoder against sums written out by hand; `test_published` has the whole networks."""

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from qanas.layers.mbconv import MBConv, MBConvChoice, mbconv_stage, scaled_channels
from qanas.networks.mobilenet_v2 import MobileNetV2Encoder, strides_and_dilations

SIZES = [(224, 224), (96, 128), (97, 131), (33, 64)]


@pytest.mark.parametrize(
    ("kernel", "expansion", "stride", "dilation"),
    [*itertools.product((3, 5, 7), (1, 3, 6), (1, 2), (1,)), (3, 6, 1, 4), (7, 3, 1, 2), (5, 6, 2, 2)],
)
@pytest.mark.parametrize("channels", [(8, 8), (8, 12)])
def test_block(kernel: int, expansion: int, stride: int, dilation: int, channels: tuple[int, int]) -> None:
    torch.manual_seed(0)
    before, after = channels
    block = MBConv(before, after, MBConvChoice(kernel, expansion), stride=stride, dilation=dilation)
    for size in ((6, 8), (7, 5), (1, 1)):
        shape = block.eval()(torch.randn(2, before, *size)).shape
        assert shape == (2, after, math.ceil(size[0] / stride), math.ceil(size[1] / stride))
    inner = before * expansion
    expand = before * inner + 2 * inner if expansion > 1 else 0
    expected = expand + inner * kernel**2 + 2 * inner + inner * after + 2 * after
    assert sum(parameter.numel() for parameter in block.parameters()) == expected
    assert block.adds_input == (stride == 1 and before == after)


def test_the_input_is_added_and_nothing_else_is() -> None:
    torch.manual_seed(0)
    adds, changes = (MBConv(4, outputs, MBConvChoice(3, 6)).eval() for outputs in (4, 5))
    for block in (adds, changes):
        nn.init.zeros_(block.get_parameter("layers.2.norm.weight"))
    inputs = torch.randn(1, 4, 5, 5)
    torch.testing.assert_close(adds(inputs), inputs)
    assert changes(inputs).abs().max() == 0


def test_stage_strides_once() -> None:
    stage = mbconv_stage(4, 6, [MBConvChoice(3, 1), MBConvChoice(7, 3), MBConvChoice()], stride=2)
    assert [block.adds_input for block in stage] == [False, True, True]
    assert stage.eval()(torch.zeros(1, 4, 9, 8)).shape == (1, 6, 5, 4)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_features_at_the_borders(size: tuple[int, int], output_stride: int) -> None:
    encoder = MobileNetV2Encoder(0.35, output_stride).eval()
    with torch.no_grad():
        features = encoder.features(torch.zeros(1, 3, *size))
        last = encoder(torch.zeros(1, 3, *size))
    assert list(features) == ["stem", *(f"block_{i}" for i in range(1, 7))]
    reached = [min(stride, output_stride) for stride in (2, 4, 8, 16, 16, 32, 32)]
    channels = [scaled_channels(c, 0.35) for c in (16, 24, 32, 64, 96, 160, 320)]
    for value, stride, width in zip(features.values(), reached, channels, strict=True):
        assert value.shape == (1, width, math.ceil(size[0] / stride), math.ceil(size[1] / stride))
    assert torch.equal(last, features["block_6"])
    assert encoder.channels == tuple(channels[1:])


def test_strides_that_become_dilation() -> None:
    assert strides_and_dilations(32) == ((2, 2, 2, 1, 2, 1), (1, 1, 1, 1, 1, 1))
    assert strides_and_dilations(16) == ((2, 2, 2, 1, 1, 1), (1, 1, 1, 1, 2, 2))
    assert strides_and_dilations(8) == ((2, 2, 1, 1, 1, 1), (1, 1, 2, 2, 4, 4))
    with pytest.raises(ValueError, match="output stride of 4"):
        strides_and_dilations(4)


def test_blocks_of_another_number_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        MobileNetV2Encoder(blocks=[[MBConvChoice()]] * 5)


def test_own_blocks_and_dilations() -> None:
    blocks = [[MBConvChoice(7, 3)]] * 6
    encoder = MobileNetV2Encoder(0.5, 8, blocks, dilations=(1, 1, 1, 1, 3, 3))
    depthwise = [m for m in encoder.blocks.modules() if isinstance(m, nn.Conv2d) and m.groups > 1]
    assert [layer.dilation[0] for layer in depthwise] == [1, 1, 1, 1, 3, 3]
    assert [layer.stride[0] for layer in depthwise] == [2, 2, 1, 1, 1, 1]
    assert {layer.kernel_size for layer in depthwise} == {(7, 7)}


@pytest.mark.parametrize("output_stride", [8, 32])
def test_trains_and_traces(
    one_step: Callable[..., None], traced_equal: Callable[..., None], output_stride: int
) -> None:
    torch.manual_seed(0)
    network = MobileNetV2Encoder(0.35, output_stride)
    one_step(network, (64, 48), batch=4)
    traced_equal(network, (64, 48))


def test_dilation_keeps_what_the_taps_see() -> None:
    """At stride 8 with dilation, every second output of a block is that of stride 16 without (Chen et al. 2017)."""
    torch.manual_seed(0)
    strided = MBConv(4, 4, MBConvChoice(3, 6)).eval()
    dilated = MBConv(4, 4, MBConvChoice(3, 6), dilation=2).eval()
    dilated.load_state_dict(strided.state_dict())
    fine = torch.randn(1, 4, 13, 13)
    coarse: Tensor = strided(fine[:, :, ::2, ::2])
    torch.testing.assert_close(dilated(fine)[:, :, ::2, ::2], coarse)
