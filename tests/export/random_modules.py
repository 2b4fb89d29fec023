"""Random networks with the habits of code that people write: seeded, a few layers each, some of them not exportable."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor, nn

Step = Callable[["RandomModule", Tensor, Any], Any]
"""What is done with a value and a layer."""


def _skip_in_place(_: RandomModule, x: Tensor, layer: Any) -> Any:  # noqa: ANN401
    skip = x
    return F.relu(layer(x), inplace=True) + skip


def _in_place_before_skip(_: RandomModule, x: Tensor, layer: Any) -> Any:  # noqa: ANN401
    skip = x
    return layer(F.relu(x, inplace=True)) + skip


def _asserted(_: RandomModule, x: Tensor, layer: Any) -> Any:  # noqa: ANN401
    _batch, channels, height, width = x.shape
    assert channels == layer.weight.shape[1], f"{channels} channels"
    assert x.dim() == 4
    y: Tensor = layer(x)
    if int(height) != y.shape[2] or width < 2:
        raise ValueError("another size")
    return y


def _chunked(_: RandomModule, x: Tensor, layer: Any) -> Any:  # noqa: ANN401
    parts = layer(x).chunk(2, dim=1)
    return torch.cat([part * (number + 1.0) for number, part in enumerate(parts)], 1)


def _stepped(_: RandomModule, x: Tensor, layer: Any) -> Any:  # noqa: ANN401
    y = layer(x)
    return torch.stack([y[:, :, row] for row in range(y.size(2))], 2)


def _functional(_: RandomModule, x: Tensor, layer: Any) -> Any:  # noqa: ANN401
    return F.leaky_relu(F.conv2d(x, layer.weight, layer.bias, padding=1), 0.1)


def _unassigned(_: RandomModule, x: Tensor, layer: Any) -> Any:  # noqa: ANN401
    y: Tensor = layer(x)
    y.relu_()
    return y


def _viewed(_: RandomModule, x: Tensor, layer: Any) -> Any:  # noqa: ANN401
    y = layer(x)
    return y.view(y.size(0), -1).view(y.shape) * 0.5


def _through_a_view(_: RandomModule, x: Tensor, layer: Any) -> Any:  # noqa: ANN401
    y: Tensor = layer(x)
    y.view(y.size(0), -1).relu_()
    return y


def _written(_: RandomModule, x: Tensor, layer: Any) -> Any:  # noqa: ANN401
    y: Tensor = layer(x)
    y[:, 0] = 0.0
    return y


def _squeezed(_: RandomModule, x: Tensor, layer: Any) -> Any:  # noqa: ANN401
    y: Tensor = layer(x)
    gates = y.mean((2, 3), keepdim=True).sigmoid()
    return y * gates


def _cast(_: RandomModule, x: Tensor, layer: Any) -> Any:  # noqa: ANN401
    return layer(x.float().to(layer.weight.device)).type_as(x).contiguous()


def _shuffled(_: RandomModule, x: Tensor, layer: Any) -> Any:  # noqa: ANN401
    b, c, h, w = x.size()
    return layer(x.view(b, 2, c // 2, h, w).transpose(1, 2).reshape(b, -1, h, w))


def _dropped(network: RandomModule, x: Tensor, layer: Any) -> Any:  # noqa: ANN401
    return F.dropout(layer(x), 0.2, training=network.training)


def _dropped_always(_: RandomModule, x: Tensor, layer: Any) -> Any:  # noqa: ANN401
    return F.dropout(layer(x), 0.2)


def _by_numbers(_: RandomModule, x: Tensor, layer: Any) -> Any:  # noqa: ANN401
    y: Tensor = layer(x)
    return y if y.sum() > 0 else -y


def _averaged(_: RandomModule, x: Tensor, layer: Any) -> Any:  # noqa: ANN401
    return layer(x) - x.mean(0)


def _kept(network: RandomModule, x: Tensor, layer: Any) -> Any:  # noqa: ANN401
    last = network.last if network.last is not None else torch.zeros(1)
    y: Tensor = layer(x)
    network.last = y.detach().mean((0, 2, 3), keepdim=True)
    return y + last


def _only_trained(network: RandomModule, x: Tensor, layer: Any) -> Any:  # noqa: ANN401
    y: Tensor = layer(x)
    if network.training:
        y = y + torch.randn_like(y)
    return y


def _unknown(_: RandomModule, x: Tensor, layer: Any) -> Any:  # noqa: ANN401
    return torch.erfinv(layer(x).tanh() * 0.5)


def _reversed(_: RandomModule, x: Tensor, layer: Any) -> Any:  # noqa: ANN401
    return 1.0 - layer(x) / 2


def _plain(_: RandomModule, x: Tensor, layer: Any) -> Any:  # noqa: ANN401
    return F.relu(layer(x))


STEPS: tuple[Step, ...] = (
    *(_plain, _plain, _plain, _skip_in_place, _in_place_before_skip, _asserted, _chunked, _stepped, _functional),
    *(_unassigned, _viewed, _through_a_view, _written, _squeezed, _cast, _shuffled, _dropped, _dropped_always),
    *(_by_numbers, _averaged, _kept, _only_trained, _unknown, _reversed),
)

RARE: tuple[Step, ...] = (_through_a_view, _written, _dropped_always, _by_numbers, _averaged, _kept, _unknown)
"""What can't be exported, or not always: drawn less often."""


def _hooked(layer: nn.Module) -> nn.Module:
    layer.register_forward_hook(lambda _, __, output: output * 1.5)
    return layer


def _patched(layer: nn.Module) -> nn.Module:
    plain = layer.forward
    layer.forward = lambda x: plain(x) + 0.25
    return layer


def _before(layer: nn.Module) -> nn.Module:
    layer.register_forward_pre_hook(lambda _, given: (given[0].clamp(0, 6),))
    return layer


WRAPPERS: tuple[Callable[[nn.Module], nn.Module], ...] = (
    *[lambda layer: layer] * 6,
    lambda layer: nn.Sequential(layer, nn.Identity(), nn.Dropout(0.1)),
    lambda layer: nn.Sequential(layer, nn.ReLU(inplace=True)),
    torch.nn.utils.parametrizations.weight_norm,
    torch.nn.utils.parametrizations.spectral_norm,
    _hooked,
    _patched,
    _before,
)

ACTIVATIONS: tuple[Callable[[], nn.Module], ...] = (
    *(nn.ReLU, nn.ReLU6, nn.Hardswish, nn.Sigmoid, nn.Tanh, nn.SiLU, nn.LeakyReLU, nn.Identity, nn.Hardsigmoid),
    lambda: nn.ReLU(inplace=True),
)


class RandomModule(nn.Module):
    """Layers that keep the size of an image, in containers, and a head; what is done with each is drawn.

    Args:
        seed: of the draws; weights are drawn by torch.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        draw = random.Random(seed)  # noqa: S311 - a test's
        self.channels = draw.choice((4, 6, 8))
        self.stem = nn.Sequential(nn.Conv2d(3, self.channels, 3, 2, 1, bias=False), nn.BatchNorm2d(self.channels))
        self.layers, self.acts = nn.ModuleList(), nn.ModuleDict()
        self.steps: list[Step] = []
        self.last: Tensor | None = None
        for number in range(draw.randint(1, 4)):
            step = draw.choice(STEPS)
            if step in RARE and draw.random() < 0.6:
                step = _plain
            groups = draw.choice((1, 1, 1, 2, self.channels))
            layer: nn.Module = nn.Conv2d(self.channels, self.channels, 3, padding=1, groups=groups)
            if step not in {_functional, _asserted, _cast}:
                layer = draw.choice(WRAPPERS)(layer)
            elif step is _functional:
                layer = nn.Conv2d(self.channels, self.channels, 3, padding=1)
            self.layers.append(layer)
            self.acts[f"act{number}"] = draw.choice(ACTIVATIONS)()
            self.steps.append(step)
        self.head_kind = draw.choice(("flatten", "mean", "adaptive", "permute", "last", "squeeze"))
        features = self.channels * 64 if self.head_kind == "flatten" else self.channels
        self.head = nn.Linear(features, draw.choice((1, 3, 5)))
        self.returns = draw.choice(("tensor", "tensor", "tuple", "dict", "list"))

    def forward(self, x: Tensor, mask: Tensor | None = None, *, scale: float = 1.0, **options: Any) -> object:  # noqa: ANN401
        x = F.relu(self.stem(x))
        if mask is not None:
            x = x * mask
        for step, layer, act in zip(self.steps, self.layers, self.acts.values(), strict=True):
            x = act(step(self, x, layer))
        if options.get("features"):
            return x
        y = self.head(self.pooled(x)) * scale
        structures = {"tensor": y, "tuple": (y, x), "dict": {"scores": y, "map": x}, "list": [y]}
        return structures[self.returns]

    def pooled(self, x: Tensor) -> Tensor:
        """Return what the head reads, shape (n, features)."""
        if self.head_kind == "flatten":
            return x.view(x.size(0), -1)
        if self.head_kind == "mean":
            return x.mean([2, 3])
        if self.head_kind == "adaptive":
            return torch.flatten(F.adaptive_avg_pool2d(x, (1, 1)), 1)
        if self.head_kind == "permute":
            return x.flatten(2).permute(0, 2, 1).mean(dim=1)
        if self.head_kind == "squeeze":
            return x.mean((2, 3), keepdim=True).squeeze(-1).squeeze(-1)
        return x[..., -1, -1]
