"""A graph that is not its network is told, with the module from which on they differ."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor, nn

from qanas.quantization.graph import UnsupportedNetworkError
from qanas.quantization.tracing import trace, traced_difference
from qanas.quantization.tracing.difference import how_far_apart


class Network(nn.Module):
    """Two convolutions and a head; what is wrong with it is put in by tests."""

    def __init__(self, between: nn.Module | None = None) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)
        self.between = between or nn.Identity()
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.second(self.between(F.relu(self.first(x)))).mean((2, 3)))
        return y


class Counts(nn.Module):
    """Has a state that changes with every call."""

    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.seen += 1.0
        return x * self.seen


class Dropped(nn.Dropout):
    """Drops values whatever mode the network is in."""

    def train(self, mode: bool = True) -> Dropped:
        del mode
        return super().train(True)


class Noise(nn.Module):
    """Draws other numbers for each call, in a way that no trace sees."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rand(1)


class LooksAtNumbers(nn.Module):
    """Takes another way for some samples, where the trace has none of them."""

    def forward(self, x: Tensor) -> Tensor:
        if type(x) is Tensor and x.mean() > 0:
            return x * 2
        return x


class Normalizes(nn.BatchNorm2d):
    """Uses the statistics of the batch."""

    def train(self, mode: bool = True) -> Normalizes:
        del mode
        return super().train(True)


WRONG = {
    "a state": (Counts(), "something else each time, from 'between' "),
    "noise": (Noise(), "something else each time, from 'between' "),
    "numbers": (LooksAtNumbers(), "they part at 'between' "),
    "a nested one": (nn.Sequential(nn.ReLU(), LooksAtNumbers()), "they part at 'between.1' "),
}


def samples() -> Tensor:
    return torch.randn(9, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", WRONG)
def test_the_module_where_both_part_is_named(name: str) -> None:
    torch.manual_seed(0)
    module, message = WRONG[name]
    network = Network(module).eval()
    told = traced_difference(trace(network, (3, 8, 8)), network, samples())
    assert told is not None
    assert message in told
    assert "\n" not in told


@pytest.mark.parametrize("module", [Normalizes(4), Dropped(0.5)])
def test_what_stays_in_training_mode_is_no_graph(module: nn.Module) -> None:
    with pytest.raises(UnsupportedNetworkError, match=r"^between: .*training"):
        trace(Network(module).eval(), (3, 8, 8))


def test_weights_that_change_behind_the_trace_are_told() -> None:
    torch.manual_seed(0)
    network = Network()
    graph = trace(network, (3, 8, 8))
    assert traced_difference(graph, network, samples()) is None
    network.second.weight.data = network.second.weight.data * 1.5
    told = traced_difference(graph, network, samples())
    assert told is not None
    assert "not what torch computes" in told


def test_modes_are_left_as_they_were() -> None:
    network = Network(nn.Dropout(0.5)).train()
    assert traced_difference(trace(network, (3, 8, 8)), network, samples()) is None
    assert network.training
    assert network.between.training


def test_several_inputs_and_outputs() -> None:
    class Both(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> dict[str, Any]:
            return {"sum": x + y, "more": [x * 2.0]}

    pair = {"x": torch.randn(5, 3), "y": torch.randn(5, 3)}
    graph = trace(Both(), {"x": (3,), "y": (3,)})
    assert traced_difference(graph, Both(), pair) is None


@pytest.mark.parametrize(
    ("error", "told"),
    [(0.0, None), (1e-6, None), (0.01, "dB about the mean"), (10.0, "dB")],
)
def test_a_large_constant_hides_no_error(error: float, told: str | None) -> None:
    wanted = 300.0 + 0.01 * torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    found = how_far_apart(wanted, wanted + error)
    assert (told is None and found is None) or (told is not None and told in str(found))


def test_one_sample_of_many_is_not_lost() -> None:
    wanted = torch.randn(5000, 4, generator=torch.Generator().manual_seed(0))
    got = wanted.clone()
    got[17] += 0.02
    assert "worst sample" in str(how_far_apart(wanted, got))
