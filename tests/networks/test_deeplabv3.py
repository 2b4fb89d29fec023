"""DeepLabv3: shapes, sizes by hand, where it is cut, how its dilation follows the resolution."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import pytest
import torch
from torch import nn

from qanas.layers.mbconv import MBConvChoice
from qanas.networks.deeplabv3 import ASPP, DeepLabV3, Geometry, Upsample, Upsampling, dilations_for, halved
from qanas.networks.mobilenet_v2 import MobileNetV2Encoder

if TYPE_CHECKING:
    from tests.networks.conftest import Count

Counted: TypeAlias = "Callable[[nn.Module, tuple[int, int]], Count]"


@pytest.mark.parametrize("upsampling", ["steps", "at_once"])
@pytest.mark.parametrize("rates", [(), (2, 4)])
@pytest.mark.parametrize("size", [(96, 128), (97, 131), (64, 40), (33, 9)])
def test_shapes(size: tuple[int, int], rates: tuple[int, ...], upsampling: Upsampling) -> None:
    network = DeepLabV3(size, 11, width=0.35, atrous_rates=rates, upsampling=upsampling).eval()
    inputs = torch.zeros(2, 3, *size)
    with torch.no_grad():
        features = network.encoder.features(inputs)
        assert network(inputs).shape == (2, 11, *size)
    sides = [(math.ceil(size[0] / stride), math.ceil(size[1] / stride)) for stride in (2, 4, 8, 8, 8, 8, 8)]
    assert [tuple(value.shape[2:]) for value in features.values()] == sides


def layers_of(network: DeepLabV3) -> list[int]:
    return [len(list(block.children())) for block in network.encoder.blocks]


def test_it_is_cut_at_its_borders() -> None:
    torch.manual_seed(0)
    network = DeepLabV3((64, 96), 5, width=0.5).eval()
    inputs = torch.randn(1, 3, 64, 96)
    blocks = network.encoder.blocks
    assert layers_of(network) == [2, 3, 4, 3, 3, 1]
    with torch.no_grad():
        value = network.encoder.stem(inputs)
        for block, channels in zip(blocks, (16, 16, 32, 48, 80, 160), strict=True):
            value = block(value)
            assert value.shape[1] == channels
        assert torch.equal(network.head(value), network(inputs))


def test_channels_and_strides_of_the_papers_table() -> None:
    encoder = DeepLabV3((512, 1024), 19).encoder
    assert encoder.channels == (24, 32, 64, 96, 160, 320)
    first = [
        next(m for m in next(block.children()).modules() if isinstance(m, nn.Conv2d) and m.groups > 1)
        for block in encoder.blocks
    ]
    assert [layer.stride[0] for layer in first] == [2, 2, 1, 1, 1, 1]
    assert [layer.dilation[0] for layer in first] == [1, 1, 2, 2, 4, 4]


def test_a_student_has_other_blocks() -> None:
    layers = (3, 3, 4, 4, 3, 1)
    blocks = [[MBConvChoice(kernel, 3)] * count for kernel, count in zip((3, 5, 7) * 2, layers, strict=True)]
    network = DeepLabV3((96, 128), 11, width=0.5, blocks=blocks)
    assert layers_of(network) == [3, 3, 4, 4, 3, 1]
    kernels = [m.kernel_size[0] for m in network.encoder.blocks.modules() if isinstance(m, nn.Conv2d) and m.groups > 1]
    assert kernels == [3] * 3 + [5] * 3 + [7] * 4 + [3] * 4 + [5] * 3 + [7]


def test_parameters_by_hand(counted: Counted) -> None:
    classes, channels = 11, 256
    encoder = sum(p.numel() for p in MobileNetV2Encoder().parameters())
    # What torchvision's 3,504,872 has on top: the last convolution with its batch norm, and the linear layer.
    assert encoder == 3_504_872 - (320 * 1280 + 2 * 1280) - (1280 * 1000 + 1000)
    head = (
        (320 * channels + 2 * channels)  # 1 x 1
        + (320 * channels + channels)  # image pooling: a bias, no batch norm
        + (2 * channels * channels + 2 * channels)  # projection
        + (channels * classes + classes)
    )
    assert counted(DeepLabV3((64, 64), classes), (64, 64)).parameters == encoder + head
    branch = 9 * 320 + 2 * 320 + 320 * channels + 2 * channels
    atrous = DeepLabV3((64, 64), classes, atrous_rates=(6, 12))
    assert counted(atrous, (64, 64)).parameters == encoder + head + 2 * (branch + channels * channels)


def test_macs_by_hand(counted: Counted) -> None:
    """Behind the third block, every MAC is at stride 8: 16 times those at stride 32."""
    size = (128, 192)
    cells = 16 * 24
    strided = counted(MobileNetV2Encoder(output_stride=32), size).macs
    dilated = counted(MobileNetV2Encoder(output_stride=8), size).macs
    head = counted(DeepLabV3(size, 11), size).macs - dilated
    assert head == cells * (320 * 256 + 2 * 256 * 256 + 256 * 11) + 320 * 256  # the image is pooled to one cell
    # The first layer of block 3 expands at stride 8 in both; from its depthwise convolution on they differ.
    parts = [counted(_Part(MobileNetV2Encoder(output_stride=o), 2), size).macs for o in (8, 32)]
    assert parts[0] == parts[1]
    at_stride_16 = cells // 4
    block_3 = (9 * 192 + 192 * 64) + 3 * (2 * 64 * 384 + 9 * 384)
    block_4 = (64 * 384 + 9 * 384 + 384 * 96) + 2 * (2 * 96 * 576 + 9 * 576)
    first_5 = 96 * 576
    behind = (9 * 576 + 576 * 160) + 2 * (2 * 160 * 960 + 9 * 960) + (160 * 960 + 9 * 960 + 960 * 320)
    assert dilated - strided == (cells - at_stride_16) * (block_3 + block_4 + first_5) + (cells - cells // 16) * behind


class _Part(nn.Module):
    """Stem and first blocks of an encoder."""

    def __init__(self, encoder: MobileNetV2Encoder, blocks: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(encoder.stem, *list(encoder.blocks)[:blocks])

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.layers(inputs)
        return outputs


@pytest.mark.parametrize("size", [(512, 1024), (360, 480), (180, 240), (96, 128), (64, 64), (32, 32)])
def test_kernels_fit_the_features(size: tuple[int, int]) -> None:
    nominal = (1, 1, 2, 2, 4, 4)
    for dilation, wanted in zip(dilations_for(size), nominal, strict=True):
        assert wanted % dilation == 0
        assert dilation == 1 or 6 * dilation + 1 <= min(size) / 8
        # It is the largest one that does.
        assert dilation == wanted or 6 * 2 * dilation + 1 > min(size) / 8


def test_dilations_can_be_set() -> None:
    network = DeepLabV3((64, 64), 3, width=0.35, geometry=Geometry((2, 2, 1, 1, 1, 1), (1, 1, 1, 2, 2, 3)))
    last = [m for m in network.encoder.blocks.modules() if isinstance(m, nn.Conv2d) and m.groups > 1][-1]
    assert last.dilation == (3, 3)


def test_steps_are_doublings_and_give_other_values_than_one_resize() -> None:
    torch.manual_seed(0)
    sizes = [halved((64, 96), times) for times in (2, 1, 0)]
    assert sizes == [(16, 24), (32, 48), (64, 96)]
    inputs = torch.randn(1, 2, 8, 12)
    steps, at_once = Upsample(sizes)(inputs), Upsample(sizes[-1:])(inputs)
    doubled = inputs
    for _ in range(3):
        doubled = nn.functional.interpolate(doubled, scale_factor=2, mode="bilinear")
    torch.testing.assert_close(steps, doubled)
    assert (steps - at_once).abs().max() > 0.01


def test_image_pooling_says_the_same_everywhere() -> None:
    torch.manual_seed(0)
    pooling = ASPP(4, 8, (3, 5)).branches[-1]
    inputs = torch.randn(2, 4, 3, 5)
    outputs = pooling(inputs)
    assert torch.equal(outputs, outputs[:, :, :1, :1].expand(2, 8, 3, 5))
    torch.testing.assert_close(outputs, pooling(inputs.mean((2, 3), keepdim=True).expand(2, 4, 3, 5)))


@pytest.mark.parametrize("upsampling", ["steps", "at_once"])
def test_trains_and_traces(
    one_step: Callable[..., None], traced_equal: Callable[..., None], upsampling: Upsampling
) -> None:
    torch.manual_seed(0)
    network = DeepLabV3((48, 40), 4, width=0.35, atrous_rates=(2,), upsampling=upsampling)
    one_step(network, (48, 40))
    traced_equal(network, (48, 40))


def test_a_batch_of_one_can_be_trained_on(one_step: Callable[..., None]) -> None:
    torch.manual_seed(0)
    one_step(DeepLabV3((32, 32), 3, width=0.35), (32, 32), batch=1)
