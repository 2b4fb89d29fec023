"""Every operator alone, and random networks of them, against LiteRT's reference kernels and torch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from qanas.layers.sequences import Conv1xK, OneBiasLSTM, Padding, ScaledLinear
from qanas.quantization.numbers.affine import WeightBits
from qanas.quantization.scheme import Scheme

Compare = Callable[..., NDArray[np.int64]]
CompareFloat = Callable[[nn.Module, Tensor], float]

SAMPLES = 24
FLOAT_TOLERANCE = 1e-4


class Sliced(nn.Module):
    def __init__(self, index: tuple[Any, ...]) -> None:
        super().__init__()
        self.index = index

    def forward(self, x: Tensor) -> Tensor:
        part: Tensor = x[self.index]
        return part


class Residual(nn.Module):
    """Two values of different scales and their sum, with or without ReLU."""

    def __init__(self, channels: int, *, relu: bool) -> None:
        super().__init__()
        self.dense = nn.Linear(channels, channels)
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        total = x + self.dense(x)
        return torch.relu(total) if self.relu else total


class Shifted(nn.Module):
    """The sum of two values of one scale."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, 1:] + x[:, :-1]


class TwiceUsed(nn.Module):
    """A ReLU that can't be fused: what it is applied to is needed without it, too."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.dense = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.dense(x)
        return torch.relu(y) + y


def rescaled(network: nn.Module, generator: torch.Generator) -> nn.Module:
    """Give every parameter tensor, and every output channel, another magnitude."""
    with torch.no_grad():
        for parameter in network.parameters():
            exponents = torch.empty(len(parameter)).uniform_(-1.0, 1.0, generator=generator)
            factors = 10.0 ** (0.5 * exponents)
            parameter.mul_(factors.reshape(-1, *[1] * (parameter.ndim - 1)))
            if parameter.ndim == 1:
                parameter.add_(torch.empty(len(parameter)).normal_(generator=generator), alpha=0.3)
    return network


def samples_of(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Normal inputs of random size and offset."""
    size = float(10.0 ** torch.empty(1).uniform_(-2.0, 2.0, generator=generator))
    offset = float(torch.empty(1).uniform_(-2.0, 2.0, generator=generator))
    return size * (torch.randn(SAMPLES, *shape, generator=generator) + offset)


def conv(**options: Any) -> Callable[[], nn.Module]:  # noqa: ANN401 - passed on
    return lambda: Conv1xK(3, 5, **options)


ONE_OPERATOR: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "dense": (lambda: nn.Linear(7, 5), (7,)),
    "dense without bias": (lambda: nn.Linear(7, 5, bias=False), (7,)),
    "dense of one output": (lambda: nn.Linear(20, 1), (20,)),
    "dense over time": (lambda: nn.Linear(7, 5), (6, 7)),
    "dense with scale": (lambda: ScaledLinear(7, 2, 125.0), (7,)),
    "dense with ReLU": (lambda: nn.Sequential(nn.Linear(7, 5), nn.ReLU()), (7,)),
    "valid convolution": (conv(kernel_size=3), (11, 3)),
    "convolution of one tap": (conv(kernel_size=1), (4, 3)),
    "convolution with one output": (conv(kernel_size=4), (4, 3)),
    "convolution with stride": (conv(kernel_size=3, stride=2), (12, 3)),
    "convolution with stride beyond its taps": (conv(kernel_size=2, stride=3), (12, 3)),
    "convolution with dilation": (conv(kernel_size=3, dilation=3), (11, 3)),
    "convolution with stride and dilation": (conv(kernel_size=2, stride=2, dilation=4), (11, 3)),
    "causal convolution": (conv(kernel_size=3, padding="causal"), (11, 3)),
    "causal convolution with dilation": (conv(kernel_size=3, dilation=4, padding="causal"), (11, 3)),
    "causal convolution with stride": (conv(kernel_size=3, stride=2, padding="causal"), (11, 3)),
    "convolution with ReLU": (lambda: nn.Sequential(Conv1xK(3, 5, 3), nn.ReLU()), (11, 3)),
    "addition": (lambda: Residual(6, relu=False), (4, 6)),
    "addition with ReLU": (lambda: Residual(6, relu=True), (4, 6)),
    "addition of one scale": (Shifted, (5, 4)),
    "ReLU": (nn.ReLU, (4, 6)),
    "ReLU after ReLU": (lambda: nn.Sequential(nn.ReLU(), nn.ReLU()), (4, 6)),
    "ReLU of a value used twice": (lambda: TwiceUsed(6), (6,)),
    "slice by whole number": (lambda: Sliced((slice(None), -1)), (5, 4)),
    "slice by whole numbers": (lambda: Sliced((slice(None), 2, 0)), (5, 4)),
    "slice by range": (lambda: Sliced((slice(None), slice(1, 4))), (5, 4)),
    "slice by open ranges": (lambda: Sliced((slice(None), slice(-3, None), slice(None, 2))), (5, 4)),
    "slice by range and number": (lambda: Sliced((slice(None), slice(1, 99), 3)), (5, 4)),
}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", ONE_OPERATOR)
def test_simulated_codes_are_those_of_the_reference_kernels(name: str, seed: int, compare: Compare) -> None:
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    build, shape = ONE_OPERATOR[name]
    steps = compare(rescaled(build(), generator), samples_of(shape, generator))
    assert not steps.any()


@pytest.mark.parametrize("name", ONE_OPERATOR)
def test_float_program_computes_what_torch_computes(name: str, compare_float: CompareFloat) -> None:
    generator = torch.Generator().manual_seed(7)
    torch.manual_seed(7)
    build, shape = ONE_OPERATOR[name]
    assert compare_float(rescaled(build(), generator), samples_of(shape, generator)) < FLOAT_TOLERANCE


@pytest.mark.parametrize("bits", [4, 6])
@pytest.mark.parametrize("name", ["dense", "causal convolution with dilation"])
def test_weights_of_few_bits_ship_as_simulated(name: str, bits: WeightBits, compare: Compare) -> None:
    generator = torch.Generator().manual_seed(bits)
    torch.manual_seed(bits)
    build, shape = ONE_OPERATOR[name]
    steps = compare(rescaled(build(), generator), samples_of(shape, generator), Scheme(bits))
    assert not steps.any()


@settings(deadline=None, max_examples=25, derandomize=True)
@given(
    features=st.integers(1, 12),
    units=st.integers(1, 20),
    time=st.integers(1, 20),
    seed=st.integers(0, 2**20),
    bits=st.sampled_from([4, 6, 8]),
)
def test_lstm_of_any_size_is_that_of_the_reference_kernels(
    compare: Compare, features: int, units: int, time: int, seed: int, bits: WeightBits
) -> None:
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    network = rescaled(OneBiasLSTM(features, units), generator)
    samples = samples_of((time, features), generator)
    with torch.no_grad():  # inputs of any size, but gates of ordinary size
        network.get_parameter("weight_ih").div_(samples.abs().mean())
    steps = compare(network, samples, Scheme(bits))
    assert not steps.any()


@pytest.mark.parametrize(("features", "units", "time"), [(1, 1, 1), (3, 1, 5), (5, 8, 12), (14, 20, 30)])
def test_float_lstm_computes_what_torch_computes(
    compare_float: CompareFloat, features: int, units: int, time: int
) -> None:
    torch.manual_seed(units)
    network = nn.Sequential(OneBiasLSTM(features, units), Sliced((slice(None), -1)), nn.Linear(units, 2))
    assert compare_float(network, torch.randn(SAMPLES, time, features)) < FLOAT_TOLERANCE


@dataclass(frozen=True)
class Step:
    """One operator of a random network: what it is, and which earlier value it takes."""

    kind: str
    source: int
    other: int = 0
    channels: int = 1
    taps: int = 1
    stride: int = 1
    dilation: int = 1
    padding: Padding = "valid"


@dataclass(frozen=True)
class Plan:
    time: int
    channels: int
    steps: tuple[Step, ...]


class Planned(nn.Module):
    """The network of a plan; ends in the sum over the used values' last steps by way of a dense layer."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan
        shapes = [(plan.time, plan.channels)]
        self.layers = nn.ModuleList()
        for step in plan.steps:
            layer, shape = self._layer(step, shapes[step.source])
            self.layers.append(layer)
            shapes.append(shape)
        self.shapes = shapes

    @staticmethod
    def _layer(step: Step, shape: tuple[int, int]) -> tuple[nn.Module, tuple[int, int]]:
        time, channels = shape
        if step.kind == "conv":
            layer = Conv1xK(
                channels,
                step.channels,
                step.taps,
                stride=step.stride,
                dilation=step.dilation,
                padding=step.padding,
            )
            reach = 0 if step.padding == "causal" else (step.taps - 1) * step.dilation
            return layer, (-(-(time - reach) // step.stride), step.channels)
        if step.kind == "dense":
            return nn.Linear(channels, step.channels), (time, step.channels)
        if step.kind == "relu":
            return nn.ReLU(), shape
        if step.kind == "slice":
            return Sliced((slice(None), slice(1, None))), (time - 1, channels)
        return nn.Identity(), shape

    def forward(self, x: Tensor) -> Tensor:
        values = [x]
        for step, layer in zip(self.plan.steps, self.layers, strict=True):
            if step.kind == "add":
                values.append(values[step.source] + values[step.other])
            else:
                values.append(layer(values[step.source]))
        return values[-1]


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Chains with side branches: each step takes the value before it, additions an earlier one as well."""
    time, channels = draw(st.integers(4, 16)), draw(st.integers(1, 6))
    shapes, steps = [(time, channels)], []
    for position in range(draw(st.integers(1, 6))):
        now, width = shapes[-1]
        alike = [index for index, shape in enumerate(shapes) if shape == shapes[-1]]
        kind = draw(st.sampled_from(["conv", "conv", "dense", "relu", "add", *(["slice"] if now > 1 else [])]))
        step = Step(kind, position, draw(st.sampled_from(alike)))
        if kind in {"conv", "dense"}:
            width = draw(st.integers(1, 8))
            step = Step(kind, position, 0, width)
        if kind == "conv":
            taps, dilation, padding = draw(st.integers(1, 4)), draw(st.integers(1, 4)), draw(paddings)
            if padding == "valid" and (taps - 1) * dilation >= now:
                taps = 1
            step = Step(kind, position, 0, width, taps, draw(st.integers(1, 3)), dilation, padding)
        steps.append(step)
        shapes.append(Planned._layer(step, shapes[-1])[1])
    return Plan(time, channels, tuple(steps))


paddings: st.SearchStrategy[Padding] = st.sampled_from(["valid", "causal"])


@settings(deadline=None, max_examples=60, derandomize=True)
@given(plan=plans(), seed=st.integers(0, 2**20))
def test_random_networks_ship_as_simulated_and_as_trained(
    compare: Compare, compare_float: CompareFloat, plan: Plan, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    network = rescaled(Planned(plan), generator)
    samples = samples_of((plan.time, plan.channels), generator)
    assert not compare(network, samples).any()
    assert compare_float(network, samples) < FLOAT_TOLERANCE


@settings(deadline=None, max_examples=8, derandomize=True)
@given(units=st.lists(st.integers(1, 12), min_size=1, max_size=3), seed=st.integers(0, 2**20))
def test_stacked_lstms_after_a_convolution_ship_as_simulated(compare: Compare, units: list[int], seed: int) -> None:
    torch.manual_seed(seed)
    widths = [6, *units]
    layers = [OneBiasLSTM(width, size) for width, size in zip(widths, units, strict=False)]
    network = nn.Sequential(
        Conv1xK(4, 6, 3, padding="causal"), nn.ReLU(), *layers, Sliced((slice(None), -1)), nn.Linear(units[-1], 2)
    )
    steps = compare(network, torch.randn(SAMPLES, 15, 4))
    assert not steps.any()
