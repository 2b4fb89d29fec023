"""Operators between codes of 16 bits, against LiteRT's reference kernels and by hand."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from qanas.quantization.border import INPUT
from qanas.quantization.graph import Graph
from qanas.quantization.numbers.affine import Affine, QuantizedWeights
from qanas.quantization.numbers.requantization import Activation, FixedPoint
from qanas.quantization.operators.arithmetic import Add, Multiply, WithConstant
from qanas.quantization.operators.base import Operator
from qanas.quantization.operators.convolution import Convolution, Kernel
from qanas.quantization.operators.dense import Dense
from qanas.quantization.operators.functions import LeakyReLU, Logistic, Tanh
from qanas.quantization.operators.matrix import MatrixProduct
from qanas.quantization.operators.reductions import Mean, Softmax
from qanas.quantization.operators.rescaling import HardSigmoid, Quantize, ReLU
from qanas.quantization.operators.resize import ResizeBilinear, ResizeNearest
from qanas.quantization.operators.shapes import Concatenate, Reshape, Slice, Transpose
from qanas.quantization.operators.transposed import Spread, TransposedConvolution
from qanas.quantization.operators.windows import AveragePool, MaxPool, Pad, Window
from qanas.quantization.ranges import Ranges
from qanas.quantization.scheme import Scheme, UnsupportedSchemeError
from qanas.testing.runtime import INT16, Deployed, Randomness, Range, chain, of_parts

SHAPE = (5, 6, 4)
WHOLE = slice(None)
HALVES = (Slice((WHOLE, WHOLE, slice(0, 2))), Slice((WHOLE, WHOLE, slice(2, 4))))
ACTIVATIONS: tuple[Activation, ...] = ("none", "relu", "relu6")


def convolution(random: Randomness, groups: int, outputs: int) -> Convolution:
    """Weights whose channels differ in size, and biases far larger and smaller than the products."""
    window = Window((3, 3), (random.integer(1, 2), 1), ((1, 1), (random.integer(0, 1), 1)))
    weight = random.normal(outputs, 3, 3, SHAPE[2] // groups) * 10.0 ** random.normal(outputs, 1, 1, 1)
    kernel = Kernel(window, groups=groups, activation=ACTIVATIONS[random.integer(0, 2)])
    return Convolution(weight, 10.0 ** (2.0 * random.normal(outputs)), kernel)


def dense(random: Randomness) -> Dense:
    return Dense(random.normal(7, SHAPE[2]), random.normal(7), ACTIVATIONS[random.integer(0, 2)])


def transposed(random: Randomness) -> TransposedConvolution:
    """Rows of both paddings, weights whose channels differ in size."""
    spread = Spread((2, 1), (random.integer(0, 1), 1), (10, 6), ACTIVATIONS[random.integer(0, 2)])
    weight = random.normal(5, 3, 3, SHAPE[2]) * 10.0 ** random.normal(5, 1, 1, 1)
    return TransposedConvolution(weight, 10.0 ** (2.0 * random.normal(5)), spread)


def some_range(random: Randomness) -> Range:
    """A range of any size about zero."""
    size = float(10.0 ** random.generator.uniform(-1.5, 1.5))
    return -size * random.integer(0, 10) / 10.0, size


OPERATORS: dict[str, Callable[[Randomness], Graph]] = {
    "convolution": lambda random: chain(SHAPE, convolution(random, 1, 5)),
    "convolution by channel": lambda random: chain(SHAPE, convolution(random, 4, 4)),
    "convolution in groups": lambda random: chain(SHAPE, convolution(random, 2, 6)),
    "dense": lambda random: chain(SHAPE, dense(random)),
    "sum": lambda random: of_parts(Add(ACTIVATIONS[random.integer(0, 2)]), SHAPE, *HALVES),
    "product": lambda random: of_parts(Multiply(ACTIVATIONS[random.integer(0, 2)]), SHAPE, *HALVES),
    "side by side": lambda _: of_parts(Concatenate(2), SHAPE, *HALVES),
    "sum with constant": lambda random: chain(SHAPE, WithConstant(Add(), random.normal(4))),
    "product with constant": lambda random: chain(SHAPE, WithConstant(Multiply(), random.normal(4))),
    "mean": lambda _: chain(SHAPE, Mean((0, 1))),
    "largest": lambda _: chain(SHAPE, MaxPool(Window((3, 3), (2, 1), ((1, 0), (0, 1))))),
    "average": lambda _: chain(SHAPE, AveragePool(Window((3, 2), (2, 2), ((1, 1), (0, 0))))),
    "pad": lambda _: chain(SHAPE, Pad(((1, 0), (0, 2), (0, 0)))),
    "pad with the lowest": lambda _: chain(SHAPE, Pad(((1, 0), (0, 2), (0, 0)), "lowest")),
    "transpose": lambda _: chain(SHAPE, Transpose((2, 0, 1))),
    "reshape": lambda _: chain(SHAPE, Reshape((6, 20))),
    "slice": lambda _: chain(SHAPE, Slice((1, slice(1, 5, 2)))),
    "nearest": lambda random: chain(SHAPE, ResizeNearest(random.integer(1, 9), 7)),
    "bilinear": lambda random: chain(SHAPE, ResizeBilinear(random.integer(1, 9), 7)),
    "softmax": lambda _: chain(SHAPE, Softmax()),
    "matrices": lambda _: of_parts(MatrixProduct(), SHAPE, *HALVES),
    "transposed convolution": lambda random: chain(SHAPE, transposed(random)),
}

FUNCTIONS: dict[str, tuple[Operator, Callable[[torch.Tensor], torch.Tensor]]] = {
    "logistic": (Logistic(), torch.sigmoid),
    "tanh": (Tanh(), torch.tanh),
    "ReLU": (ReLU(), torch.relu),
    "ReLU6": (ReLU("relu6"), lambda values: values.clamp(0, 6)),
    "leaky ReLU": (LeakyReLU(0.1), lambda values: torch.where(values > 0, values, 0.1 * values)),
    "hard sigmoid": (HardSigmoid(), lambda values: (values + 3).clamp(0, 6) / 6),
    "rescaling": (Quantize(), lambda values: values),
}

EVERY_CODE = np.arange(-(1 << 15), 1 << 15, dtype=np.int16)[None]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", OPERATORS)
def test_operators_are_those_of_the_kernels(name: str, seed: int) -> None:
    random = Randomness(seed)
    graph = OPERATORS[name](random)
    ranges: dict[str, Range] = {value: some_range(random) for value in graph.shapes}
    # Outputs reach about as far as what the operator makes of its input, or a good deal less.
    samples = 2.0 * Affine.from_range(*ranges[INPUT], bits=16).scale * 2.0**14 * random.normal(20, *SHAPE)
    ranges[graph.output] = random.range_about(Affine(float(graph.forward(samples).abs().max()) / 255.0 + 1e-3))
    deployed = Deployed.of(graph, ranges, INT16)
    assert (deployed.quantized.input.bits, deployed.quantized.output.bits) == (16, 16)
    assert deployed.differing_codes(random.wide_codes(12, SHAPE)) == 0


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_code_is_that_of_the_kernel(name: str, seed: int) -> None:
    operator, function = FUNCTIONS[name]
    random = Randomness(seed)
    graph = chain((1 << 16,), operator)
    for _ in range(2):
        low, high = random.range(1.5)
        values = function(torch.linspace(low, high, 256))
        result = random.range_about(Affine.from_range(float(values.min()), float(values.max())))
        deployed = Deployed.of(graph, {INPUT: (low, high), graph.output: result}, INT16)
        assert deployed.differing_codes(EVERY_CODE) == 0


@pytest.mark.parametrize("name", ["logistic", "tanh"])
@pytest.mark.parametrize("scale", [2.0**-12, 1.0005 * 2.0**-12, 2.0**-11, 0.9995 * 2.0**-11, 2.0**-10, 4.9, 1e-8])
def test_scales_near_powers_of_two_that_kernels_take_for_them(name: str, scale: float) -> None:
    graph = chain((1 << 16,), FUNCTIONS[name][0])
    source = Affine(float(np.float32(scale)), 0, 16)
    deployed = Deployed.of(graph, {INPUT: source.span, graph.output: (0.0, 1.0)}, INT16)
    assert deployed.quantized.input == source
    assert deployed.differing_codes(EVERY_CODE) == 0


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_near_the_true_ones(name: str) -> None:
    operator, function = FUNCTIONS[name]
    samples = torch.linspace(-4.0, 7.0, 1000)[None]
    values = function(samples)
    graph = chain((1000,), operator)
    ranges = {INPUT: (-4.0, 7.0), graph.output: (float(values.min()), float(values.max()))}
    quantized = Deployed.of(graph, ranges, INT16).quantized
    assert float((quantized.forward(samples) - values).abs().max()) < 7.0 / 2**14


def test_an_average_of_more_codes_than_float32_can_add_up() -> None:
    graph = chain((40, 40, 1), AveragePool(Window((40, 40), (1, 1))))
    deployed = Deployed.of(graph, {INPUT: (-1.0, 1.0), graph.output: (-1.0, 1.0)}, INT16)
    codes = Randomness(0).wide_codes(20, (40, 40, 1))
    codes[0] = (1 << 15) - 1
    codes[0, 0, 0] -= 799
    assert deployed.differing_codes(codes) == 0


def test_softmax_of_codes_at_the_ends() -> None:
    graph = chain((3,), Softmax())
    codes = np.array([[32767, -32768, 0], [32767, 32767, 32767], [-32768, -32768, -32768], [5, 4, 3]], np.int16)
    for span in (0.01, 1.0, 10.0, 300.0):
        assert Deployed.of(graph, {INPUT: (-span, span), graph.output: (0.0, 1.0)}, INT16).differing_codes(codes) == 0


def test_codes_by_hand() -> None:
    # The kernel of sums of 64 bits knows 15 bits of a factor: 0.3 is 19661/65536, and 10^6 times that 300003.05.
    assert float(FixedPoint.of_sums(0.3)(torch.tensor(1e6, dtype=torch.float64))) == 300003.0
    # Ties go up, also below zero.
    assert FixedPoint.of_sums(0.5)(torch.tensor([3.0, -3.0], dtype=torch.float64)).tolist() == [2.0, -1.0]
    half = Affine(2.0**-15, 0, 16)
    for operator, code, expected in ((Logistic(), 0.0, 16384.0), (Tanh(), 0.0, 0.0)):
        quantized, output = operator.quantize([half], Ranges((0.0, 1.0), {}), INT16)
        assert output == Affine(2.0**-15, 0, 16)
        assert quantized.forward(torch.tensor([code])).tolist() == [expected]


def test_parameters_by_hand() -> None:
    # The wider side decides: 2^15 steps below zero, one less above it.
    assert Affine.from_range(-1.0, 0.5, bits=16) == Affine(2.0**-15, 0, 16)
    assert Affine.from_range(0.0, 32767.0, bits=16) == Affine(1.0, 0, 16)
    assert Affine.from_range(0.0, 0.0, bits=16) == Affine(1.0, 0, 16)
    assert Affine.from_range(0.0, 1e-7, bits=16) == Affine(2.0**-28, 0, 16)
    assert Scheme(activation_bits=16, scales="power_of_two").affine(0.0, 40000.0) == Affine(2.0, 0, 16)
    for affine in (Affine(0.3, 0, 16), Affine(1.7e-5, 0, 16)):
        single = Affine(float(np.float32(affine.scale)), 0, 16)
        assert Affine.from_range(*single.span, bits=16) == single


def test_biases_have_64_bits_and_leave_the_weights_their_scale() -> None:
    weights, bias = torch.full((1, 4), 1e-3), torch.tensor([1.0])
    narrow, wide = Affine(1.0 / 32768.0), Affine(1.0 / 32768.0, 0, 16)
    quantized = {
        source.bits: QuantizedWeights.from_float(weights, 8, bias=bias, source=source) for source in (narrow, wide)
    }
    assert quantized[16].scales[0] == np.float32(1e-3 / 127)
    assert quantized[16].quantize_bias(bias, wide).dtype == np.int64
    assert int(quantized[16].quantize_bias(bias, wide)[0]) == pytest.approx(32768 * 127e3, rel=1e-6)
    assert quantized[8].scales[0] > quantized[16].scales[0], "int32 has no room for this bias"
    assert quantized[8].quantize_bias(bias, narrow).dtype == np.int32


def test_inputs_that_overflow_in_a_kernel_are_refused() -> None:
    for operator in (Logistic(), Tanh()):
        with pytest.raises(UnsupportedSchemeError, match=r"steps of 6; .* activation_bits = 8"):
            operator.quantize([Affine(6.0, 0, 16)], Ranges((0.0, 1.0), {}), INT16)
