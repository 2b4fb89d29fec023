"""FastestDet against the published counts of the reference and of the released one (shape by shape)."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import pytest
import torch
from torch import nn

from qanas.core.errors import InputError
from qanas.layers.images import ChannelShuffle
from qanas.networks.fastestdet import DownUnit, FastestDet, HeadSettings, ShuffleNetV2, Unit, require_input_size

if TYPE_CHECKING:
    from tests.networks.conftest import Count

Counted: TypeAlias = "Callable[[nn.Module, tuple[int, int]], Count]"

RELEASED = HeadSettings(
    channels=24,
    spp_kernels=((5,), (2, 2), (2, 3, 3)),
    spp_groups=4,
    stem_groups=2,
    objectness_kernel=4,
    box_kernel=4,
    class_kernel=3,
)
"""What a search found and was shipped, read off the released file."""


class Dropped:
    """The branch of a single class, which the published networks have and ours doesn't."""

    def __init__(self, channels: int, kernel: int, cells: int) -> None:
        weights = kernel**2 * channels + channels
        self.macs = cells * weights
        self.parameters = weights + 2 * channels + 2
        self.folded_parameters = weights + channels + 1


def test_seed_network(counted: Counted) -> None:
    count = counted(FastestDet((256, 320)), (256, 320))
    dropped = Dropped(96, 5, 16 * 20)
    assert count.parameters + dropped.parameters == 236_748  # 236.7 K, batch norms included
    assert (count.macs + dropped.macs) / 1e6 == pytest.approx(77.9, abs=0.05)


def test_backbone(counted: Counted) -> None:
    assert sum(p.numel() for p in ShuffleNetV2().parameters()) == 143_136  # 143.1 K
    whole = counted(FastestDet((256, 320)), (256, 320)).macs
    head = 320 * (336 * 96 + 6 * 25 * 96 + 288 * 96 + 96 * 96 + 2 * 25 * 96 + 5 * 96)
    assert (whole - head) / 1e6 == pytest.approx(48.7, abs=0.05)
    stem = 128 * 160 * 27 * 24
    assert stem / 1e6 == pytest.approx(13.3, abs=0.05)


@pytest.mark.parametrize(("size", "macs"), [((352, 352), 117.8), ((220, 220), 47.4)])
def test_published_macs(counted: Counted, size: tuple[int, int], macs: float) -> None:
    cells = math.ceil(size[0] / 16) * math.ceil(size[1] / 16)
    count = counted(FastestDet(size), size)
    assert (count.macs + Dropped(96, 5, cells).macs) / 1e6 == pytest.approx(macs, abs=0.05)


def test_released_network(counted: Counted) -> None:
    count = counted(FastestDet((220, 220), head=RELEASED), (220, 220))
    dropped = Dropped(24, 3, 14 * 14)
    assert (count.macs + dropped.macs) / 1e6 == pytest.approx(31.9, abs=0.05)
    # 152.9 K, batch norms folded.
    assert count.folded_parameters + dropped.folded_parameters == pytest.approx(152_900, abs=50)
    backbone = counted(_Last(ShuffleNetV2()), (220, 220)).macs
    assert backbone / 1e6 == pytest.approx(29.5, abs=0.05)
    assert (count.macs + dropped.macs - backbone) / 1e6 == pytest.approx(2.4, abs=0.05)


class _Last(nn.Module):
    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        last: torch.Tensor = self.backbone(inputs)[-1]
        return last


def test_classes_have_a_branch_when_there_are_several(counted: Counted) -> None:
    one, two, twenty = (counted(FastestDet((64, 96), classes), (64, 96)).parameters for classes in (1, 2, 20))
    branch = 25 * 96 + 2 * 96
    assert two - one == branch + 2 * 96 + 2 * 2
    assert twenty - two == 18 * (96 + 2)


@pytest.mark.parametrize("size", [(256, 320), (220, 220), (320, 180), (218, 242), (17, 32), (64, 56), (352, 352)])
@pytest.mark.parametrize("classes", [1, 3])
def test_shapes(size: tuple[int, int], classes: int) -> None:
    network = FastestDet(size, classes, HeadSettings(channels=24)).eval()
    inputs = torch.zeros(2, 3, *size)
    with torch.no_grad():
        maps = network.backbone(inputs)
        outputs = network(inputs)
    for features, stride, channels in zip(maps, (8, 16, 32), (48, 96, 192), strict=True):
        assert features.shape == (2, channels, math.ceil(size[0] / stride), math.ceil(size[1] / stride))
    assert outputs.shape == (2, 5 if classes == 1 else 5 + classes, math.ceil(size[0] / 16), math.ceil(size[1] / 16))


def test_input_sizes_are_refused_when_maps_would_not_double() -> None:
    refused = [size for size in range(1, 400) if math.ceil(size / 16) != 2 * math.ceil(size / 32)]
    for size in set(range(1, 400)) - set(refused):
        require_input_size(size, 64)
        require_input_size(64, size)
    for size in refused:
        require_refusal(size)


def require_refusal(size: int) -> None:
    for name, sides in (("height", (size, 64)), ("width", (64, size))):
        with pytest.raises(InputError, match=f"^input {name} {size}: .*take") as refusal:
            require_input_size(*sides)
        advised = [int(word) for word in str(refusal.value).split("take")[1].split() if word.isdigit()]
        assert advised
        for mend in advised:
            require_input_size(mend, mend)


def test_the_network_refuses_them_too() -> None:
    with pytest.raises(InputError, match=r"input height 240: .* take 224 or 241"):
        FastestDet((240, 320))


@pytest.mark.parametrize("name", ["spp_groups", "stem_groups"])
def test_groups_must_divide(name: str) -> None:
    with pytest.raises(InputError, match=f"{name} = 8 doesn't divide 36 channels"):
        HeadSettings(channels=36, **{name: 8})  # type: ignore[arg-type]


@pytest.mark.parametrize("groups", [1, 2, 4, 8])
@pytest.mark.parametrize("kernels", [((2,), (3, 4)), ((5,), (2, 2), (2, 3, 3)), ((3,),)])
def test_searched_heads_run(groups: int, kernels: tuple[tuple[int, ...], ...]) -> None:
    settings = HeadSettings(24, kernels, spp_groups=groups, stem_groups=groups, box_kernel=2, objectness_kernel=4)
    network = FastestDet((64, 96), 2, settings).eval()
    assert network(torch.zeros(1, 3, 64, 96)).shape == (1, 7, 4, 6)
    found = [chain[0].conv.kernel_size[0] for chain in network.spp.chains]  # type: ignore[index]
    assert found == [chain[0] for chain in kernels]


def test_outputs_are_raw() -> None:
    torch.manual_seed(0)
    outputs = FastestDet((64, 64), 2, HeadSettings(channels=24))(10 * torch.randn(4, 3, 64, 64))
    assert outputs.min() < -1
    assert outputs.max() > 1


def test_unit_passes_half_of_its_channels() -> None:
    torch.manual_seed(0)
    unit = Unit(8).eval()
    inputs = torch.randn(2, 8, 3, 3)
    shuffled = nn.ChannelShuffle(2)(inputs)
    torch.testing.assert_close(unit(inputs)[:, :4], shuffled[:, :4])
    torch.testing.assert_close(unit(inputs)[:, 4:], unit.branch(shuffled[:, 4:]))


def test_number_of_shuffles() -> None:
    shuffles = [module for module in ShuffleNetV2().modules() if isinstance(module, ChannelShuffle)]
    assert len(shuffles) == 3 + 7 + 3


def test_down_unit_sees_all_channels() -> None:
    torch.manual_seed(0)
    unit = DownUnit(3, 8).eval()
    inputs = torch.randn(1, 3, 5, 6, requires_grad=True)
    assert unit(inputs).shape == (1, 8, 3, 3)
    for half in (slice(0, 4), slice(4, 8)):
        (gradient,) = torch.autograd.grad(unit(inputs)[:, half].square().sum(), inputs)
        assert (gradient.abs().sum((0, 2, 3)) > 0).all()


def test_trains_and_traces(one_step: Callable[..., None], traced_equal: Callable[..., None]) -> None:
    torch.manual_seed(0)
    network = FastestDet((64, 96), 2, RELEASED)
    one_step(network, (64, 96), batch=4)
    traced_equal(network, (64, 96))
