"""ONNX models hold the graph's integers, and ONNX Runtime computes what the simulation does, to within its rounding."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, nn

from qanas.deployment.onnx.runtime import OnnxKernels, OnnxModel
from qanas.deployment.onnx.write import LOWERINGS, UnsupportedOnnxError, write_onnx
from qanas.exporting.export import MAX_ONNX_MEAN_STEPS
from qanas.layers.images import SameAvgPool2d, SameConv2d
from qanas.quantization import operators
from qanas.quantization.operators.base import QuantizedOperator
from qanas.quantization.operators.convolution import QuantizedConvolution
from qanas.quantization.operators.gru import QuantizedGRU
from qanas.quantization.operators.lstm import QuantizedLSTM
from qanas.quantization.operators.reductions import InterpolatedSoftmax
from qanas.quantization.quantized_graph import QuantizedGraph
from qanas.quantization.scheme import Scheme, named_schemes
from qanas.quantization.tracing import trace
from tests.quantization.functions import Function
from tests.quantization.random_networks import random_network

IMAGE = (4, 7, 6)
KERNELS: tuple[OnnxKernels, ...] = ("fused", "literal")


class Joined(nn.Module):
    """Two convolutions of one input, and what joins them."""

    def __init__(self, join: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.join = join
        self.one, self.other = nn.Conv2d(4, 5, 3, padding=1), nn.Conv2d(4, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.join(self.one(x), self.other(x))


class Gate(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.conv(x.mean((2, 3), keepdim=True)))


EXACT: dict[str, nn.Module] = {
    "max pool": nn.MaxPool2d(3, 2, 1),
    "nearest, twice": nn.Upsample(scale_factor=2),
    "nearest": nn.Upsample((5, 10)),
    "nearest, from centres": nn.Upsample((14, 12), mode="nearest-exact"),
    "nearest, from centres, not whole": nn.Upsample((9, 4), mode="nearest-exact"),
    "cut out": Function(lambda x: x[:, 1:, 2, ::2]),
    "last channel": Function(lambda x: x[:, -1]),
    "reshape": nn.Flatten(),
    "transpose": Function(lambda x: x.permute(0, 2, 1, 3)),
    "shuffle": nn.ChannelShuffle(2),
    "pad": Function(lambda x: F.pad(x, (1, 0, 0, 2))),
    "blocks": nn.Sequential(nn.ZeroPad2d((0, 0, 0, 1)), nn.PixelUnshuffle(2), nn.PixelShuffle(4)),
    "reversed": Function(lambda x: x.flip(1, 3)),
    "repeated": Function(lambda x: x[:, :, :1].expand(-1, -1, 7, -1)),
    "mirrored": nn.ReflectionPad2d((1, 2, 0, 1)),
    "largest": Function(lambda x: x.amax((2, 3))),
    "smallest": Function(lambda x: x.amin(1, keepdim=True)),
    "concatenation with itself": Function(lambda x: torch.cat([x, x[:, :2]], 1)),
}
"""What only moves codes."""

WITHIN_ONE: dict[str, nn.Module] = {
    "convolution": nn.Conv2d(4, 6, 3),
    "strides and padding": nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0)),
    "dilation": nn.Conv2d(4, 6, 3, padding=2, dilation=2),
    "groups": nn.Sequential(nn.Conv2d(4, 6, 3, groups=2), nn.ReLU()),
    "by channel": nn.Sequential(nn.Conv2d(4, 8, 3, groups=4), nn.ReLU6()),
    "SAME": SameConv2d(4, 5, 3, stride=2),
    "batch norm": nn.Sequential(nn.Conv2d(4, 6, 1), nn.BatchNorm2d(6)),
    "sum": Joined(torch.add),
    "product": Joined(torch.mul),
    "concatenation": Joined(lambda one, other: torch.cat([one, torch.sigmoid(other)], 1)),
    "constant": Function(lambda x: x * torch.tensor([0.5, 2.0, -1.0, 0.1])[:, None, None]),
    "shift": Function(lambda x: x - 0.5),
    "difference": Joined(torch.sub),
    "larger ones": Joined(torch.maximum),
    "matrices": Joined(lambda one, other: one @ other.transpose(2, 3)),
    "transposed convolution": nn.ConvTranspose2d(4, 3, 3, 2, 1, 1),
    "transposed convolution with a ReLU": nn.Sequential(nn.ConvTranspose2d(4, 3, 2, 2), nn.ReLU()),
    "slopes by channel": nn.PReLU(4),
    "log softmax": nn.LogSoftmax(1),
    "clamp": nn.Hardtanh(-0.5, 0.7),
    "table": nn.GELU(),
    "size": Function(torch.abs),
    "relu": nn.ReLU(),
    "relu6": nn.ReLU6(),
    "leaky relu": nn.LeakyReLU(0.1),
    "logistic": nn.Sigmoid(),
    "tanh": nn.Tanh(),
    "hard swish": nn.Hardswish(),
    "hard sigmoid": nn.Hardsigmoid(),
    "softmax": nn.Softmax(1),
    "softmax of what a mask lets through": Function(lambda x: (x + torch.full((7, 6), -torch.inf).triu(2)).softmax(3)),
    "average pool": nn.AvgPool2d(3, 2, 1),
    "average of what is there": SameAvgPool2d(3, 2),
    "global average": nn.AdaptiveAvgPool2d(1),
    "mean of rows": Function(lambda x: x.mean(2)),
    "bilinear": nn.Upsample((14, 9), mode="bilinear"),
    "corners": nn.Upsample((13, 6), mode="bilinear", align_corners=True),
    "linear": nn.Sequential(nn.Flatten(), nn.Linear(168, 5), nn.ReLU()),
    "linear over rows": nn.Linear(6, 3),
    "gate": Gate(),
}


def quantized_of(
    network: nn.Module, shape: tuple[int, ...], scheme: Scheme | None = None
) -> tuple[QuantizedGraph, Any]:
    network.eval()
    samples = 2.0 * torch.randn(24, *shape, generator=torch.Generator().manual_seed(4))
    graph = trace(network, shape)
    scheme = Scheme() if scheme is None else scheme
    return QuantizedGraph.quantize(graph, graph.calibrate(samples, scheme), scheme), samples.numpy()


def steps(quantized: QuantizedGraph, inputs: NDArray[np.float32], kernels: OnnxKernels) -> NDArray[np.int64]:
    codes = OnnxModel(write_onnx(quantized), kernels).codes(inputs, quantized.outputs)
    ours = quantized.codes(torch.from_numpy(inputs)).numpy()
    assert codes.shape == ours.shape
    apart: NDArray[np.int64] = np.abs(codes - ours.astype(np.int64))
    return apart


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("case", EXACT)
def test_what_moves_codes_is_exact(case: str, kernels: OnnxKernels) -> None:
    assert steps(*quantized_of(EXACT[case], IMAGE), kernels).max() == 0


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("case", WITHIN_ONE)
def test_one_operator_is_within_a_step(case: str, kernels: OnnxKernels) -> None:
    torch.manual_seed(1)
    apart = steps(*quantized_of(WITHIN_ONE[case], IMAGE), kernels)
    assert apart.max() <= BOUND.get(case, 1)
    assert apart.mean() < 0.3


NOTHING = np.zeros(0)

BOUND = {"larger ones": 2, "gate": 2, "matrices": 2, "product": 3, "sum": 2, "concatenation": 2, "hard sigmoid": 2}
"""Of those that are two operators or three, each of which rounds."""


@pytest.mark.parametrize("seed", range(24))
def test_random_networks_are_within_a_few_steps(seed: int) -> None:
    network, shape = random_network(seed)
    quantized, inputs = quantized_of(network, shape)
    apart = steps(quantized, inputs, "fused")
    # Where two classes are equal, a step decides a softmax: the largest distance is bounded for these seeds alone.
    assert apart.max() <= 12
    assert apart.mean() < MAX_ONNX_MEAN_STEPS


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1000, 1400))
def test_many_random_networks_are_within_two_steps_on_average(seed: int) -> None:
    network, shape = random_network(seed)
    assert steps(*quantized_of(network, shape), "fused").mean() < MAX_ONNX_MEAN_STEPS


@pytest.mark.parametrize(
    "scheme", ["power_of_two_per_tensor", "symmetric_unsigned_per_channel", "asymmetric_per_channel"]
)
def test_schemes(scheme: str) -> None:
    network = nn.Sequential(nn.Conv2d(4, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(120, 3))
    assert steps(*quantized_of(network, IMAGE, named_schemes()[scheme]), "fused").max() <= 2


def test_a_certain_softmax_is_not_wrapped_around() -> None:
    layer = nn.Linear(4, 3)
    with torch.no_grad():
        layer.weight.mul_(400.0)
    network = nn.Sequential(layer, nn.Softmax(-1))
    quantized, inputs = quantized_of(network, (4,))
    assert quantized.codes(torch.from_numpy(inputs)).max() == 127
    assert steps(quantized, inputs, "fused").max() <= 1


def test_large_weights_do_not_saturate() -> None:
    """Sums of two products of 8 bits, which 16 bits don't hold."""
    layer = nn.Linear(64, 2)
    nn.init.constant_(layer.weight, 1.0)
    quantized, inputs = quantized_of(nn.Sequential(nn.ReLU(), layer), (64,))
    assert steps(quantized, 10.0 * inputs, "fused").max() <= 1


def test_the_file_holds_the_same_integers() -> None:
    network = nn.Sequential(nn.Conv2d(4, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 6, 3, groups=6), nn.ReLU6())
    quantized, _ = quantized_of(network, IMAGE)
    model = onnx.load_from_string(write_onnx(quantized))
    stored = {entry.name: numpy_helper.to_array(entry) for entry in model.graph.initializer}
    made = {node.output[0]: [stored.get(name, NOTHING) for name in node.input] for node in model.graph.node}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    ours = [entry for entry in quantized.operators.values() if isinstance(entry, QuantizedConvolution)]
    for node, operator in zip(convolutions, ours, strict=True):
        codes, scales, _ = made[node.input[1]]
        np.testing.assert_array_equal(codes, operator.weights.codes.transpose(0, 3, 1, 2))
        np.testing.assert_array_equal(scales, operator.weights.scales)
        bias, steps_of_bias, _ = made[node.input[2]]
        np.testing.assert_array_equal(bias, operator.weights.quantize_bias(operator.bias, operator.input))
        np.testing.assert_allclose(steps_of_bias, operator.weights.scales * operator.input.scale, rtol=1e-6)
    quantizers = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    found = [tuple(float(stored[name]) for name in node.input[1:]) for node in quantizers]
    assert found == [(affine.scale, affine.zero_point) for affine in quantized.affines.values()]


def test_images_stay_as_torch_has_them_and_nothing_is_transposed() -> None:
    network = nn.Sequential(nn.Conv2d(4, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 3, 1))
    quantized, inputs = quantized_of(network, IMAGE)
    content = write_onnx(quantized)
    model = OnnxModel(content)
    assert (model.input_shapes, model.output_shapes) == ({"input": (1, 4, 7, 6)}, {"output": (1, 3, 2, 2)})
    kinds = Counter(node.op_type for node in onnx.load_from_string(content).graph.node)
    assert kinds["Transpose"] == 0
    with torch.no_grad():
        wanted = network(torch.from_numpy(inputs)).numpy()
    np.testing.assert_allclose(model.predict(inputs), wanted, atol=0.1)


def test_any_batch_gives_the_same() -> None:
    quantized, inputs = quantized_of(nn.Sequential(nn.Upsample((9, 11), mode="bilinear"), nn.Flatten()), IMAGE)
    model = OnnxModel(write_onnx(quantized))
    one_by_one = np.concatenate([model.predict(sample[None]) for sample in inputs])
    np.testing.assert_array_equal(model.predict(inputs), one_by_one)


def test_an_lstm_is_refused_by_its_name() -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(3, 4, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.lstm(x)[0]
            return result

    with pytest.raises(UnsupportedOnnxError, match=r"^lstm.*no integer LSTM.*tflite$"):
        write_onnx(quantized_of(Last(), (5, 3))[0])


def test_every_operator_has_a_lowering_or_a_reason() -> None:
    for module in pkgutil.iter_modules(operators.__path__):
        importlib.import_module(f"{operators.__name__}.{module.name}")
    known = {kind for kind in subclasses(QuantizedOperator) if kind.__module__.startswith(operators.__name__)}
    refused = {QuantizedGRU, QuantizedLSTM, InterpolatedSoftmax}
    assert {kind for kind in known if not inspect.isabstract(kind)} == {*LOWERINGS, *refused}


def test_values_of_16_bits_are_refused_by_name() -> None:
    network = nn.Sequential(nn.Conv2d(4, 6, 3), nn.ReLU(), nn.Conv2d(6, 2, 1))
    for scheme in (named_schemes()["int16"], Scheme(layers={"_2": {"activation_bits": 16}})):
        with pytest.raises(UnsupportedOnnxError, match=r"16 bits .* export the network as tflite"):
            write_onnx(quantized_of(network, IMAGE, scheme)[0])


def subclasses(kind: type[Any]) -> set[type[Any]]:
    """Return the subclasses, and theirs."""
    return {found for child in kind.__subclasses__() for found in (child, *subclasses(child))}


def test_an_operator_without_a_lowering_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    quantized, _ = quantized_of(nn.Conv2d(4, 6, 3), IMAGE)
    monkeypatch.setattr("qanas.deployment.onnx.write.LOWERINGS", {})
    with pytest.raises(UnsupportedOnnxError, match="Convolution has no quantized form in ONNX"):
        write_onnx(quantized)


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(ValueError, match="refuses"):
        OnnxModel(b"nothing")
