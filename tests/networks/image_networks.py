"""Networks over images, small enough for tests, with the statistics of a training."""

from collections.abc import Callable

from torch import nn

from qanas.networks.deeplabv3 import DeepLabV3
from qanas.networks.fastestdet import FastestDet, HeadSettings
from qanas.networks.mobilenet_v2 import MobileNetV2

Build = Callable[[], nn.Module]

NETWORKS: dict[str, tuple[Build, tuple[int, int]]] = {
    "MobileNetV2": (lambda: MobileNetV2(10, 0.35), (64, 48)),
    "MobileNetV2, dilated": (lambda: MobileNetV2(10, 0.35, output_stride=16), (47, 65)),
    "DeepLabv3": (lambda: DeepLabV3((48, 64), 12, width=0.35), (48, 64)),
    "DeepLabv3, odd": (lambda: DeepLabV3((45, 63), 5, width=0.35, atrous_rates=(2, 4)), (45, 63)),
    "DeepLabv3, at once": (lambda: DeepLabV3((48, 64), 12, width=0.35, upsampling="at_once"), (48, 64)),
    "FastestDet": (lambda: FastestDet((64, 96)), (64, 96)),
    "FastestDet, in groups": (
        lambda: FastestDet((64, 64), 3, HeadSettings(spp_kernels=((3,), (3, 5)), spp_groups=2, stem_groups=4)),
        (64, 64),
    ),
}


def with_statistics(network: nn.Module) -> nn.Module:
    """Give batch norms what training would."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0.0, 0.2)
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.normal_(module.running_mean, 0.0, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return network.eval()
