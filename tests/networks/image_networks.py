"""Networks over images, small enough for tests, with the statistics of a training."""

from collections.abc import Callable

from torch import nn

from qanas.networks.deeplabv3 import DeepLabV3
from qanas.networks.fastestdet import FastestDet, HeadSettings
from qanas.networks.mobilenet import MobileNetSpace, Reference
from qanas.networks.mobilenet_v2 import MobileNetV2Encoder
from qanas.search_space.network_space import TaskShape

Build = Callable[[], nn.Module]


def classifier(reference: Reference, width: float = 1.0, classes: int = 10) -> nn.Module:
    """Return a published network for colour images."""
    shape = TaskShape((3, 32, 32), classes, 1.0, ("cross_entropy",))
    return MobileNetSpace(reference=reference, seed_width=width).reference_network(shape)


NETWORKS: dict[str, tuple[Build, tuple[int, int]]] = {
    "MobileNetV1": (lambda: classifier("mobilenet_v1_0.25"), (64, 48)),
    "MobileNetV2": (lambda: classifier("mobilenet_v2_0.35"), (64, 48)),
    "MobileNetV3": (lambda: classifier("mobilenet_v3_small", 0.25), (64, 48)),
    "encoder, dilated": (lambda: MobileNetV2Encoder(0.35, output_stride=16), (47, 65)),
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
