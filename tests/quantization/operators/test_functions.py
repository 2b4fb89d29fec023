"""Functions by table, and softmax."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor

from qanas.quantization.border import INPUT
from qanas.quantization.numbers.affine import Affine
from qanas.quantization.operators.base import Operator
from qanas.quantization.operators.functions import HardSwish, LeakyReLU, Logistic, Tanh
from qanas.quantization.operators.reductions import Softmax
from qanas.quantization.operators.rescaling import HardSigmoid
from qanas.quantization.ranges import Ranges
from qanas.quantization.scheme import Scheme
from qanas.testing.runtime import Deployed, Randomness, chain, float_gap

EVERY_CODE = np.arange(-128, 128, dtype=np.int8)[None]

FUNCTIONS: dict[str, tuple[Operator, Callable[[Tensor], Tensor]]] = {
    "logistic": (Logistic(), torch.sigmoid),
    "tanh": (Tanh(), torch.tanh),
    "leaky ReLU": (LeakyReLU(0.01), lambda values: torch.where(values > 0, values, 0.01 * values)),
    "leaky ReLU with ties": (LeakyReLU(0.1), lambda values: torch.where(values > 0, values, 0.1 * values)),
    "steep leaky ReLU": (LeakyReLU(1.7), lambda values: torch.where(values > 0, values, 1.7 * values)),
    "leaky ReLU of slope 0": (LeakyReLU(0.0), torch.relu),
    "hard sigmoid": (HardSigmoid(), lambda values: (values + 3).clamp(0, 6) / 6),
    "hard swish": (HardSwish(), lambda values: values * (values + 3).clamp(0, 6) / 6),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("seed", range(2))
def test_every_code_is_that_of_the_kernel_on_random_scales(name: str, seed: int) -> None:
    operator, function = FUNCTIONS[name]
    random = Randomness(seed)
    graph = chain((256,), operator)
    for _ in range(40):
        low, high = random.range(1.5)
        values = function(torch.linspace(low, high, 256))
        # Half of the outputs have the range that calibration would find, the others any.
        calibrated = (float(values.min()), float(values.max()))
        result = calibrated if random.integer(0, 1) else random.range_about(Affine.from_range(*calibrated))
        for pair in (((low, high), result), (random.decimal_range(), random.decimal_range())):
            deployed = Deployed.of(graph, dict(zip((INPUT, graph.output), pair, strict=True)))
            assert deployed.differing_codes(EVERY_CODE) == 0, pair


@pytest.mark.parametrize("name", FUNCTIONS)
def test_float_programs_compute_the_functions(name: str) -> None:
    operator, function = FUNCTIONS[name]
    samples = 5.0 * Randomness(1).normal(7, 3, 4)
    graph = chain((3, 4), operator)
    assert torch.allclose(graph.forward(samples), function(samples), atol=1e-6)
    assert float_gap(graph, samples) < 1e-5
    assert (graph.macs, graph.parameters, graph.shapes[graph.output]) == (0, 0, (3, 4))


def test_outputs_of_sigmoids_have_the_parameters_that_the_kernels_demand() -> None:
    ranges = Ranges((0.2, 0.3), {})
    for operator, expected in ((Logistic(), Affine(1 / 256, -128)), (Tanh(), Affine(1 / 128, 0))):
        _, first = operator.quantize([Affine(0.1)], ranges, Scheme())
        _, second = operator.quantize([Affine(0.1)], ranges, Scheme())
        assert first == second == expected
        assert first is not second, "equal parameters of two values share no bytes in the file"


def test_codes_by_hand() -> None:
    # Steps of 1: logistic(0) = 128/256, logistic(2) = 225.5/256, tanh(-128) = -1.
    inputs = Affine(1.0)
    codes = torch.tensor([[0.0, 2.0, -128.0, 127.0]])
    ranges = Ranges((0.0, 255.0), {})
    expected = {
        Logistic(): [0.0, 97.0, -128.0, 127.0],
        Tanh(): [0.0, 123.0, -128.0, 127.0],
        LeakyReLU(0.5): [-128.0, -126.0, -128.0, -1.0],
    }
    for operator, row in expected.items():
        quantized, _ = operator.quantize([inputs], ranges, Scheme())
        assert quantized.forward(codes).tolist() == [row]


def test_a_hard_swish_far_below_zero_has_a_scale_that_the_kernel_takes() -> None:
    graph = chain((256,), HardSwish())
    for low, high in ((-1000.0, -3.0), (-1000.0, -2.99), (-4.0, -3.5)):
        output = F.hardswish(torch.tensor([low, high]))
        ranges = {INPUT: (low, high), graph.output: (float(output.min()), float(output.max()))}
        assert Deployed.of(graph, ranges).differing_codes(EVERY_CODE) == 0


def test_a_leaky_relu_of_negative_slope_is_refused() -> None:
    with pytest.raises(ValueError, match="slope"):
        LeakyReLU(-0.1)


@pytest.mark.parametrize("seed", range(40))
def test_softmax_is_that_of_the_kernel(seed: int) -> None:
    random = Randomness(seed)
    shape = [random.integer(1, 4) for _ in range(random.integer(0, 2))] + [random.integer(1, [4, 30, 300][seed % 3])]
    graph = chain(shape, Softmax())
    span = 10.0 ** random.generator.uniform(-3.0, 3.0)
    deployed = Deployed.of(graph, {INPUT: (-span, 0.7 * span), graph.output: (0.0, 1.0)})
    codes = random.codes(30, shape)
    codes[0] = 127
    codes[1] = -128
    codes[2:8] = np.clip(codes[2:8] // 8, -16, 15)
    assert deployed.differing_codes(codes) == 0


def test_softmax_of_two_classes_for_every_difference() -> None:
    graph = chain((2,), Softmax())
    codes = np.stack([np.arange(-128, 128), np.full(256, -128)], axis=1).astype(np.int8)
    for span in (0.1, 1.0, 3.0, 10.0, 30.0, 1e4):
        assert Deployed.of(graph, {INPUT: (-span, span), graph.output: (0.0, 1.0)}).differing_codes(codes) == 0


def test_softmax_is_close_to_the_true_one() -> None:
    samples = 2.0 * Randomness(0).normal(50, 3, 7)
    graph = chain((3, 7), Softmax())
    assert float_gap(graph, samples) < 1e-6
    low, high = float(samples.min()), float(samples.max())
    quantized = Deployed.of(graph, {INPUT: (low, high), graph.output: (0.0, 1.0)}).quantized
    rounded = quantized.input.dequantize(quantized.input.quantize(samples))
    assert float((quantized.forward(samples) - torch.softmax(rounded, -1)).abs().max()) < 0.6 / 256


def test_softmax_refuses_what_its_kernel_can_not_hold() -> None:
    with pytest.raises(ValueError, match="softmax of 4096"):
        Softmax().output_shape((4096,))
    with pytest.raises(ValueError, match="steps"):
        Softmax().quantize([Affine(2.0**-26)], Ranges((0.0, 1.0), {}), Scheme())
