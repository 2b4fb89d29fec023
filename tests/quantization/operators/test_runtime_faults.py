"""Where LiteRT itself fails: values written over that are read later, sums that a softmax aborts on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from qanas.deployment.litert import LiteRTModel
from qanas.deployment.tflite import write_tflite
from qanas.quantization.numbers.affine import ActivationBits, Affine
from qanas.quantization.numbers.expm1 import expm1
from qanas.quantization.operators.arithmetic import FINE_STEPS, QuantizedAdd, QuantizedWithConstant
from qanas.quantization.operators.reductions import Softmax
from qanas.quantization.operators.shapes import Reshape, Slice
from qanas.quantization.quantized_graph import QuantizedGraph
from qanas.quantization.ranges import Ranges
from qanas.quantization.scheme import Scheme
from qanas.quantization.tracing import trace
from tests.quantization.functions import Function


class Tokens(nn.Module):
    """A sum of images that is seen as tokens, changed there, and read once more."""

    def __init__(self, function: Callable[[Tokens, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.linear, self.function = nn.Linear(4, 4), function

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x) * 2
        result: Tensor = self.function(self, y, y.flatten(2).transpose(1, 2))
        return result


def gated(net: Tokens, y: Tensor, tokens: Tensor) -> Tensor:
    gate = net.linear(tokens * torch.tensor([1.0, 2.0, 3.0, 4.0])).mean(1)[:, :, None, None]
    result: Tensor = net.second(y) * gate
    return result


def masked(net: Tokens, y: Tensor, tokens: Tensor) -> Tensor:
    shares = (tokens + torch.tensor([0.0, 0.0, -torch.inf, 0.0])).softmax(-1)
    result: Tensor = net.second(y) * shares.mean(1)[:, :, None, None]
    return result


def normalised(net: Tokens, y: Tensor, tokens: Tensor) -> Tensor:
    z: Tensor = net.linear(tokens - tokens.mean(1, keepdim=True))
    return z.transpose(1, 2).reshape(y.shape) + y


@pytest.mark.parametrize(("function", "copies"), [(gated, 1), (masked, 1), (normalised, 0)])
def test_a_value_that_is_read_later_in_another_shape_is_still_there(
    function: Callable[[Tokens, Tensor, Tensor], Tensor], copies: int
) -> None:
    torch.manual_seed(0)
    network = Tokens(function).eval()
    samples = torch.randn(8, 4, 6, 5)
    graph = trace(network, (4, 6, 5))
    assert sum(isinstance(node.operator, Slice) for node in graph.nodes) == copies
    quantized = QuantizedGraph.quantize(graph, graph.calibrate(samples), Scheme())
    codes = LiteRTModel(write_tflite(quantized.program()), border=graph.border).codes(samples.numpy())
    assert np.array_equal(codes, quantized.codes(samples).numpy())
    found = LiteRTModel(write_tflite(graph.program()), border=graph.border).predict(samples.numpy())
    with torch.no_grad():
        assert np.allclose(found, network(samples).numpy(), atol=1e-5)


def test_two_of_one_shape_take_the_form_that_is_there() -> None:
    graph = trace(Tokens(normalised).eval(), (4, 6, 5))
    shapes = [graph.shapes[node.name] for node in graph.nodes if isinstance(node.operator, Reshape)]
    assert shapes.count((30, 4)) == 1, "none back and forth"


def test_a_softmax_that_would_abort_is_refused_before() -> None:
    operator, _ = Softmax().quantize([Affine(0.004, 0)], Ranges((0.0, 1.0), {}), Scheme())
    codes = torch.zeros(1, 600)
    with pytest.raises(ValueError, match="nearly equal: the kernel of 8 bits aborts"):
        operator.forward(codes)
    assert operator.forward(torch.zeros(1, 511)).max() == -127, "a half is rounded up"
    codes[0, 0] = 127.0
    steep, _ = Softmax().quantize([Affine(0.1, 0)], Ranges((0.0, 1.0), {}), Scheme())
    assert steep.forward(codes)[0, 0] == 127


SUMS: dict[str, Callable[[Tensor], Tensor]] = {
    "of zeros": lambda x: torch.zeros_like(x) + 1e-3 * x,
    "of zeros to a constant value": lambda x: torch.zeros_like(x) + 0.0 * x,
    "that leaves little": lambda x: (x + 1e6) + -1e6,
    "of little": lambda x: (x + 1e9) - (x * 1e-2 + 1e9),
}


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("name", SUMS)
def test_a_sum_far_finer_than_what_is_added_does_not_abort(name: str, bits: ActivationBits) -> None:
    samples = torch.randn(8, 4, 6, 5, generator=torch.Generator().manual_seed(0))
    scheme = Scheme(activation_bits=bits)
    graph = trace(Function(SUMS[name]), (4, 6, 5))
    quantized = QuantizedGraph.quantize(graph, graph.calibrate(samples, scheme), scheme)
    for kernel in quantized.operators.values():
        added = kernel.operator if isinstance(kernel, QuantizedWithConstant) else kernel
        if isinstance(added, QuantizedAdd):  # before LiteRT ends the process
            assert max(added.first.scale, added.second.scale) < 0.5 * FINE_STEPS[bits] * added.output.scale
    codes = LiteRTModel(write_tflite(quantized.program()), border=graph.border).codes(samples.numpy())
    assert np.array_equal(codes, quantized.codes(samples).numpy())
    assert np.array_equal(codes, quantized.codes(samples, "fast").numpy())


def test_zeros_that_are_added_change_no_code() -> None:
    samples = 1e-3 * torch.randn(64, 6, generator=torch.Generator().manual_seed(0))
    scheme = Scheme(activation_bits=16)
    graph = trace(Function(lambda x: x + torch.zeros_like(x)), (6,))
    quantized = QuantizedGraph.quantize(graph, graph.calibrate(samples, scheme), scheme)
    assert torch.equal(quantized.codes(samples), quantized.input.quantize(samples))


def test_the_exponential_is_the_c_librarys() -> None:
    values = np.array([0.1, -0.3, 0.34657, 0.5, -0.9, 1.1, -3.0, 7.25, 20.5, 40.0, 1e-9], np.float32)
    # glibc 2.36's expm1f; 0 of 895,775 normal numbers of six sizes differ there
    wanted = [
        1037525978,
        3196367738,
        1054085922,
        1059459737,
        3206015757,
        1073759298,
        3212001576,
        1152377691,
        1312732712,
        1548816490,
        814313567,
    ]
    assert expm1(values).view(np.uint32).tolist() == wanted
