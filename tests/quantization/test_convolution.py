"""Convolutions of every kind, against torch, LiteRT and padding counted by hand."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from qanas.deployment.litert import LiteRTModel
from qanas.deployment.tflite import write_tflite
from qanas.quantization.numbers.affine import ActivationBits
from qanas.quantization.quantized_graph import QuantizedGraph
from qanas.quantization.scheme import Scheme
from qanas.quantization.tracing import trace

Compare = Callable[..., NDArray[np.int64]]
CompareFloat = Callable[[nn.Module, Tensor], float]

pairs = st.tuples(st.integers(1, 4), st.integers(1, 4))


@dataclass(frozen=True)
class Plan:
    """One convolution and what follows it."""

    size: tuple[int, int]
    channels: int
    per_group: int
    groups: int
    taps: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    padding: tuple[int, int] | str
    bias: bool
    norm: bool
    activation: str

    def network(self) -> nn.Module:
        outputs = self.groups * self.per_group
        conv = nn.Conv2d(
            self.channels, outputs, self.taps, self.stride, self.padding, self.dilation, self.groups, self.bias
        )
        layers: list[nn.Module] = [conv]
        if self.norm:
            norm = nn.BatchNorm2d(outputs)
            with torch.no_grad():
                for tensor in (norm.weight, norm.bias, norm.running_mean):
                    assert tensor is not None
                    tensor.normal_()
                assert norm.running_var is not None
                norm.running_var.uniform_(0.1, 3.0)
            layers.append(norm)
        if self.activation != "none":
            layers.append(nn.ReLU() if self.activation == "relu" else nn.ReLU6())
        return nn.Sequential(*layers).eval()


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    channels = draw(st.integers(1, 8))
    groups = draw(st.sampled_from([group for group in range(1, channels + 1) if channels % group == 0]))
    taps, dilation = draw(pairs), draw(pairs)
    same = draw(st.booleans())
    padding = "same" if same else draw(st.tuples(st.integers(0, 4), st.integers(0, 4)))
    least = [
        1 if isinstance(padding, str) else max((taps[axis] - 1) * dilation[axis] + 1 - 2 * padding[axis], 1)
        for axis in (0, 1)
    ]
    return Plan(
        size=(draw(st.integers(least[0], least[0] + 9)), draw(st.integers(least[1], least[1] + 9))),
        channels=channels,
        per_group=draw(st.integers(1, 3)),
        groups=groups,
        taps=taps,
        stride=(1, 1) if same else draw(pairs),
        dilation=dilation,
        padding=padding,
        bias=draw(st.booleans()),
        norm=draw(st.booleans()),
        activation=draw(st.sampled_from(["none", "relu", "relu6"])),
    )


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@settings(deadline=None, max_examples=50, derandomize=True)
@given(plan=plans(), exponent=st.floats(-2.0, 2.0), offset=st.floats(-2.0, 2.0), seed=st.integers(0, 2**20))
def test_any_convolution_ships_as_simulated_and_as_trained(
    compare: Compare, compare_float: CompareFloat, plan: Plan, exponent: float, offset: float, seed: int
) -> None:
    torch.manual_seed(seed)
    samples = 10.0**exponent * (torch.randn(5, plan.channels, *plan.size) + offset)
    network = plan.network()
    assert not compare(network, samples).any()
    assert compare_float(network, samples) < 1e-4
    graph = trace(network, tuple(samples.shape[1:]))
    assert len(graph.nodes) == 1, "batch norm and activation are part of the convolution"
    weights = plan.per_group * plan.channels * plan.taps[0] * plan.taps[1]
    with torch.no_grad():
        rows, columns = network(samples).shape[2:]
    assert graph.macs == rows * columns * weights


def kinds(network: nn.Module, shape: tuple[int, ...]) -> list[str]:
    program = QuantizedGraph.from_shapes(trace(network.eval(), shape), Scheme()).program()
    return [operator.kind for operator in program.operators]


@pytest.mark.parametrize(
    ("network", "size", "expected"),
    [
        (nn.Conv2d(3, 4, 3), (9, 9), ["CONV_2D"]),
        (nn.Conv2d(3, 4, 3, padding=1), (8, 9), ["CONV_2D"]),
        (nn.Conv2d(3, 4, 5, padding=4, dilation=2), (8, 9), ["CONV_2D"]),
        (nn.Conv2d(3, 4, 4, padding="same"), (8, 9), ["CONV_2D"]),
        (nn.Conv2d(3, 4, 3, 2, padding=1), (9, 7), ["CONV_2D"]),
        (nn.Conv2d(3, 4, 3, 2, padding=1), (8, 8), ["PAD", "CONV_2D"]),
        (nn.Conv2d(3, 4, (3, 1), padding=(1, 0)), (8, 8), ["CONV_2D"]),
        (nn.Conv2d(3, 4, 3, padding=(1, 0)), (8, 8), ["PAD", "CONV_2D"]),
        (nn.Conv2d(3, 4, 3, padding=2), (8, 8), ["PAD", "CONV_2D"]),
        (nn.Conv2d(4, 8, 3, padding=1, groups=4), (8, 8), ["DEPTHWISE_CONV_2D"]),
        (nn.Conv2d(4, 8, 3, padding=1, groups=2), (8, 8), ["CONV_2D"]),
        (nn.Conv2d(1, 8, 3, padding=1), (8, 8), ["CONV_2D"]),
    ],
)
def test_padding_costs_an_operator_only_where_the_runtime_has_no_mode_for_it(
    network: nn.Conv2d, size: tuple[int, int], expected: list[str]
) -> None:
    assert kinds(network, (network.in_channels, *size)) == expected


def test_rows_that_no_tap_reads_are_not_padded() -> None:
    program = QuantizedGraph.from_shapes(trace(nn.Conv2d(1, 1, 3, 2, 1).eval(), (1, 8, 8)), Scheme()).program()
    pad = program.operators[0]
    assert pad.kind == "PAD"
    assert pad.outputs[0].shape == (1, 9, 9, 1), "torch pads to 10, the last row is not read"


class Temporal(nn.Module):
    """Convolutions over time, channels in front as torch has them."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(3, 6, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm1d(6)
        self.second = nn.Conv1d(6, 6, 2, dilation=2, groups=6)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.second(F.relu6(self.norm(self.first(x))))
        return y


def test_convolutions_over_time_ship_without_transposes(compare: Compare, compare_float: CompareFloat) -> None:
    torch.manual_seed(0)
    network, samples = Temporal().eval(), torch.randn(8, 3, 15)
    assert not compare(network, samples).any()
    assert compare_float(network, samples) < 1e-4
    graph = trace(network, (3, 15))
    assert graph.border.input.axes == graph.border.output.axes == (1, 0)
    assert kinds(network, (3, 15)) == ["RESHAPE", "CONV_2D", "DEPTHWISE_CONV_2D", "RESHAPE"]


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("taps", [1, 3])
@pytest.mark.parametrize(("channels", "outputs", "groups"), [(8, 4, 2), (32, 32, 4), (6, 12, 3), (64, 64, 2)])
def test_convolutions_in_groups_are_avoided_without_another_result(
    channels: int, outputs: int, groups: int, taps: int, bits: ActivationBits
) -> None:
    torch.manual_seed(0)
    grouped = nn.Conv2d(channels, outputs, taps, groups=groups)
    network = nn.Sequential(nn.Conv2d(3, channels, 1), nn.ReLU(), grouped, nn.ReLU6()).eval()
    graph, samples = trace(network, (3, 6, 5)), torch.randn(16, 3, 6, 5)
    ranges = graph.calibrate(samples)
    kept, avoided = (
        QuantizedGraph.quantize(graph, ranges, Scheme(activation_bits=bits, avoid=avoid))
        for avoid in ("nothing", "grouped_convolution")
    )
    assert torch.equal(kept.codes(samples), avoided.codes(samples))
    program = avoided.program()
    assert all(
        operator.inputs[0].shape[3] == operator.inputs[1].shape[3]
        for operator in program.operators
        if operator.kind == "CONV_2D" and operator.inputs[0] and operator.inputs[1]
    )
    deployed = LiteRTModel(write_tflite(program), border=graph.border).codes(samples.numpy())
    assert np.array_equal(deployed, avoided.codes(samples).numpy())
