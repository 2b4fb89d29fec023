"""Values that are nearly 0 throughout, as untrained networks of many layers have them."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


class Activated(nn.Module):
    """A ReLU6 of something tiny."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor], size: float) -> None:
        super().__init__()
        self.function = function
        self.one, self.other = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)
        with torch.no_grad():
            for tensor in self.parameters():
                tensor.mul_(size)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.relu6(self.function(self.one(x), self.other(x)))


TINY: dict[str, Callable[[], nn.Module]] = {
    "CONV_2D": lambda: nn.Sequential(Activated(lambda one, other: one - other, 1e-10), nn.Conv2d(4, 4, 1), nn.ReLU6()),
    "ADD": lambda: Activated(torch.add, 1e-10),
    "MUL": lambda: Activated(torch.mul, 1e-5),
    "FULLY_CONNECTED": lambda: nn.Sequential(Activated(torch.add, 1e-10), nn.Flatten(), nn.Linear(80, 3), nn.ReLU6()),
    "RELU6": lambda: Activated(lambda one, other: nn.functional.max_pool2d(one + other, 2), 1e-10),
}


@pytest.mark.parametrize("name", TINY)
def test_relu6_of_values_near_zero_ships(name: str, compare: Callable[..., NDArray[np.int64]]) -> None:
    torch.manual_seed(0)
    network = TINY[name]()
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            assert module.bias is not None
            nn.init.zeros_(module.bias)
    assert not compare(network, torch.randn(6, 4, 5, 4)).any()
