"""Pointwise convolutions with a stride are computed without one while their gradients are wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from qanas.search_space.training_group import TrainingSettings
from qanas.training.pointwise import strides_first
from qanas.training.torch_trainer import TorchTrainer
from qanas.training.trainer import TrainingSet

NETWORKS: dict[str, nn.Module] = {
    "one": nn.Conv2d(4, 8, 1, stride=2),
    "of one row in three": nn.Conv2d(4, 8, 1, stride=(3, 1), bias=False),
    "in groups": nn.Conv2d(8, 12, 1, stride=2, groups=4),
    "padded": nn.Conv2d(4, 8, 1, stride=2, padding=1),
    "larger": nn.Conv2d(4, 8, 3, stride=2, padding=1),
    "padded by name": nn.Conv2d(4, 8, 1, stride=2, padding="valid"),
    "with many channels": nn.Conv2d(16, 8, 1, stride=2),
}
LEFT = ("padded", "larger", "with many channels")


class Strides(TorchFunctionMode):
    """Notes the strides of all convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = []

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> object:
        if func is torch.conv2d:
            self.seen.append(args[3])
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", NETWORKS)
def test_what_comes_out_is_the_same(name: str) -> None:
    network = NETWORKS[name]
    assert isinstance(network, nn.Conv2d)
    images = torch.randn(2, network.in_channels, 12, 15, generator=torch.Generator().manual_seed(0))
    wanted = network(images)
    with Strides() as strides, strides_first(network):
        assert torch.allclose(network(images), wanted, atol=1e-6)
    assert strides.seen == [network.stride if name in LEFT else 1]


def test_gradients_are_those_of_the_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes at which torch 2.13 writes beyond its memory on a CPU with AVX-512."""
    network = nn.Conv2d(4, 8, 1, stride=2, bias=False)
    images = torch.randn(8, 4, 64, 64, generator=torch.Generator().manual_seed(0))
    found = []

    def loss(kind: str, outputs: Tensor, targets: Tensor) -> Tensor:
        del kind, targets
        return outputs.square().sum()

    trainer = TorchTrainer(
        network, TrainingSet(images, torch.zeros(8)), loss, TrainingSettings(0.0, "adam", "none", 8, loss="mse")
    )
    monkeypatch.setattr(nn.utils, "clip_grad_norm_", lambda *_: found.append(trainer.flat.gradient.clone()))
    trainer.step(torch.arange(8), 0.0)
    taken = images[..., ::2, ::2].double()
    weight = network.weight.detach().double()[..., 0, 0]
    outputs = torch.einsum("oi,nihw->nohw", weight, taken)
    wanted = 2 * torch.einsum("nohw,nihw->oi", outputs, taken)
    assert torch.allclose(found[0].double().view(8, 4), wanted, rtol=1e-4)


def test_networks_without_such_weights_are_not_watched() -> None:
    with strides_first(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(16, 8, 1), nn.Linear(4, 2))) as watched:
        assert watched is None
        assert torch.conv2d(torch.ones(1, 1, 2, 2), torch.ones(1, 1, 1, 1), stride=2).shape == (1, 1, 1, 1)
