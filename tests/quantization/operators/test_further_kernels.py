"""Kernels of attention, decoders and activations of any kind, between random scales."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from hypothesis import given, settings
from hypothesis import strategies as st

from qanas.quantization.border import INPUT
from qanas.quantization.graph import Graph
from qanas.quantization.numbers.affine import Affine
from qanas.quantization.operators.arithmetic import Add, Subtract
from qanas.quantization.operators.base import Operator, Shape
from qanas.quantization.operators.extremes import Clamp, Extreme, ExtremeOfTwo
from qanas.quantization.operators.float_terms import X, gelu
from qanas.quantization.operators.functions import Absolute
from qanas.quantization.operators.log_softmax import LogSoftmax
from qanas.quantization.operators.matrix import MatrixProduct
from qanas.quantization.operators.moves import DepthToSpace, MirrorPad, Repeat, Reverse
from qanas.quantization.operators.prelu import ParametricReLU
from qanas.quantization.operators.shapes import Slice
from qanas.quantization.operators.tables import TabulatedFunction
from qanas.quantization.operators.transposed import Spread, TransposedConvolution
from qanas.quantization.quantized_graph import QuantizedGraph
from qanas.quantization.scheme import Scheme
from qanas.testing.runtime import Deployed, Randomness, chain, float_gap, of_parts

EVERY_CODE = np.arange(-128, 128, dtype=np.int8)[None]
seeds = st.integers(0, 2**20)
examples = settings(deadline=None, max_examples=40, derandomize=True)


def differing(graph: Graph, random: Randomness, size: float, samples: int = 12) -> int:
    """Differing codes of an operator behind parts of the input, its output of about a size in steps of 1/255."""
    ranges = {name: random.range() for name in graph.shapes}
    ranges[graph.output] = random.range_about(Affine(size))
    return Deployed.of(graph, ranges).differing_codes(random.codes(samples, graph.input_shape))


@examples
@given(seed=seeds)
def test_matrix_products_are_those_of_the_kernel(seed: int) -> None:
    random = Randomness(seed)
    rows, inner, columns, heads = (random.integer(1, 6) for _ in range(4))
    leading: Shape = () if random.integer(0, 1) else (heads,)
    whole = (slice(None),) * len(leading)
    parts = [Slice((*whole, slice(0, rows))), Slice((*whole, slice(rows, None)))]
    graph = of_parts(MatrixProduct(), (*leading, rows + columns, inner), *parts)
    ranges = {name: random.range() for name in graph.shapes}
    steps = Affine.from_range(*ranges["part_0"]).scale * Affine.from_range(*ranges["part_1"]).scale
    ranges["result"] = random.range_about(Affine(255.0 * steps * inner))
    assert Deployed.of(graph, ranges).differing_codes(random.codes(12, graph.input_shape)) == 0
    assert graph.macs == rows * inner * columns * (heads if leading else 1)


@examples
@given(seed=seeds, operator=st.sampled_from([Add(), Subtract(), Subtract("relu"), ExtremeOfTwo("largest")]))
def test_values_are_repeated_along_axes_of_size_1(seed: int, operator: Operator) -> None:
    random = Randomness(seed)
    height, width, channels = (random.integer(1, 4) for _ in range(3))
    lower = Slice((slice(height, height + random.integer(0, 1) * (height - 1) + 1), slice(0, 1)))
    parts = [Slice((slice(0, height),)), lower]
    if random.integer(0, 1):
        parts.reverse()
    graph = of_parts(operator, (2 * height, width, channels), *parts)
    ranges = {name: random.range() for name in graph.shapes}
    largest = max(Affine.from_range(*ranges[f"part_{number}"]).scale for number in (0, 1))
    ranges["result"] = random.range_about(Affine(largest))
    assert Deployed.of(graph, ranges).differing_codes(random.codes(12, graph.input_shape)) == 0


@examples
@given(seed=seeds)
def test_transposed_convolutions_are_those_of_the_kernel(seed: int) -> None:
    random = Randomness(seed)
    channels, outputs = random.integer(1, 4), random.integer(1, 4)
    rows, columns = random.integer(1, 5), random.integer(1, 5)
    taps = (random.integer(1, 4), random.integer(1, 4))
    stride = (random.integer(1, 3), random.integer(1, 3))
    front = tuple(random.integer(0, tap - 1) for tap in taps)
    further = tuple(random.integer(0, step - 1) for step in stride)
    sizes = tuple(
        (count - 1) * step + tap - 2 * cut + more
        for count, step, tap, cut, more in zip((rows, columns), stride, taps, front, further, strict=True)
    )
    if min(sizes) < 1:
        return
    weight, bias = random.normal(outputs, *taps, channels), random.normal(outputs)
    operator = TransposedConvolution(
        weight, bias, Spread(stride, (front[0], front[1]), (sizes[0], sizes[1]), "relu" if seed % 2 else "none")
    )
    graph = chain((rows, columns, channels), operator)
    samples = random.normal(3, rows, columns, channels)
    expected = F.conv_transpose2d(
        samples.permute(0, 3, 1, 2), weight.permute(3, 0, 1, 2), bias, stride, front, further
    ).permute(0, 2, 3, 1)
    expected = torch.relu(expected) if seed % 2 else expected
    assert torch.allclose(graph.forward(samples), expected, atol=1e-4)
    assert float_gap(graph, samples) < 1e-4
    source = random.range()
    ranges = {INPUT: source, graph.output: random.range_about(Affine(0.05 * max(map(abs, source)) + 1e-3))}
    assert Deployed.of(graph, ranges).differing_codes(random.codes(12, graph.input_shape)) == 0


@examples
@given(seed=seeds)
def test_a_log_softmax_is_that_of_the_kernel(seed: int) -> None:
    random = Randomness(seed)
    shape = [random.integer(1, 4) for _ in range(random.integer(0, 2))] + [random.integer(1, [4, 30, 300][seed % 3])]
    graph = chain(shape, LogSoftmax())
    span = 10.0 ** random.generator.uniform(-3.0, 3.0)
    codes = random.codes(30, shape)
    codes[0], codes[1] = 127, -128
    codes[2:8] = np.clip(codes[2:8] // 8, -16, 15)
    assert Deployed.of(graph, {INPUT: (-span, 0.7 * span), graph.output: (-16.0, 0.0)}).differing_codes(codes) == 0


def test_a_log_softmax_is_close_to_the_true_one() -> None:
    samples = 2.0 * Randomness(0).normal(50, 3, 7)
    graph = chain((3, 7), LogSoftmax())
    assert float_gap(graph, samples) < 1e-5
    ranges = {INPUT: (float(samples.min()), float(samples.max())), graph.output: (-16.0, 0.0)}
    quantized = Deployed.of(graph, ranges).quantized
    rounded = quantized.input.dequantize(quantized.input.quantize(samples))
    assert float((quantized.forward(samples) - torch.log_softmax(rounded, -1)).abs().max()) < 0.6 / 16


@examples
@given(seed=seeds)
def test_slopes_by_channel_are_those_of_the_kernel(seed: int) -> None:
    random = Randomness(seed)
    shape = tuple(random.integer(1, 5) for _ in range(random.integer(1, 3)))
    slopes = random.normal(shape[-1]) * 10.0 ** random.generator.uniform(-2.0, 0.5)
    graph = chain(shape, ParametricReLU(slopes))
    samples = random.normal(4, *shape)
    assert float_gap(graph, samples) < 1e-5
    source = random.range()
    ranges = {INPUT: source, graph.output: random.range_about(Affine.from_range(*source))}
    assert Deployed.of(graph, ranges).differing_codes(random.codes(20, shape)) == 0


FUNCTIONS: dict[str, Operator] = {
    "absolute": Absolute(),
    "gelu": TabulatedFunction("GELU", F.gelu, gelu(X)),
    "reciprocal": TabulatedFunction("a reciprocal", torch.reciprocal),
    "clamp": Clamp(-0.3, 1.7),
    "clamp from 0": Clamp(0.0, 1.0),
    "clamp above": Clamp(-float("inf"), 1.0),
}


@examples
@given(seed=seeds, name=st.sampled_from(sorted(FUNCTIONS)))
def test_functions_of_every_code_are_those_of_the_kernels(seed: int, name: str) -> None:
    random = Randomness(seed)
    graph = chain((256,), FUNCTIONS[name])
    low, high = random.range(1.5)
    values = FUNCTIONS[name].forward(torch.linspace(low, high, 256)).nan_to_num(0.0, 9.0, -9.0)
    calibrated = (float(values.min()), float(values.max()))
    result = calibrated if random.integer(0, 1) else random.range_about(Affine.from_range(*calibrated))
    for pair in (((low, high), result), (random.decimal_range(), random.decimal_range())):
        deployed = Deployed.of(graph, dict(zip((INPUT, graph.output), pair, strict=True)))
        assert deployed.differing_codes(EVERY_CODE) == 0, pair


def test_a_table_holds_the_nearest_codes() -> None:
    graph = chain((256,), FUNCTIONS["gelu"])
    ranges = {INPUT: (-4.0, 4.0), graph.output: (-0.2, 4.1)}
    quantized = Deployed.of(graph, ranges).quantized
    real = quantized.input.dequantize(torch.from_numpy(EVERY_CODE.astype(np.float32)))
    assert float((quantized.forward(real) - F.gelu(real)).abs().max()) <= 0.501 * quantized.output.scale


@pytest.mark.parametrize("name", ["absolute", "gelu", "clamp", "clamp from 0", "clamp above"])
def test_float_programs_compute_the_functions(name: str) -> None:
    assert float_gap(chain((3, 4), FUNCTIONS[name]), 3.0 * Randomness(1).normal(7, 3, 4)) < 1e-5


MOVES: dict[str, tuple[Operator, Shape, Callable[[torch.Tensor], torch.Tensor]]] = {
    "reverse": (Reverse(0), (5, 3), lambda x: x.flip(1)),
    "repeat": (Repeat((4, 2, 3)), (1, 2, 1), lambda x: x.expand(-1, 4, 2, 3)),
    "mirror": (
        MirrorPad(((2, 1), (0, 3), (0, 0))),
        (3, 4, 2),
        lambda x: F.pad(x.permute(0, 3, 1, 2), (0, 3, 2, 1), mode="reflect").permute(0, 2, 3, 1),
    ),
    "blocks": (
        DepthToSpace(2),
        (3, 2, 12),
        # torch's channels are (out, block, block).
        lambda x: F.pixel_shuffle(
            x.permute(0, 3, 1, 2).reshape(-1, 4, 3, 3, 2).transpose(1, 2).reshape(-1, 12, 3, 2), 2
        ).permute(0, 2, 3, 1),
    ),
    "largest": (Extreme("largest", (0, 1)), (3, 4, 2), lambda x: x.amax((1, 2))),
    "smallest": (Extreme("smallest", (1,), keeps_axes=True), (3, 4, 2), lambda x: x.amin(2, keepdim=True)),
}


@pytest.mark.parametrize("name", MOVES)
def test_moves_are_those_of_torch_and_of_the_kernels(name: str) -> None:
    operator, shape, expected = MOVES[name]
    random = Randomness(3)
    graph = chain(shape, operator)
    samples = random.normal(4, *shape)
    assert torch.equal(graph.forward(samples), expected(samples))
    assert float_gap(graph, samples) == 0.0
    deployed = Deployed.of(graph, dict.fromkeys(graph.shapes, (-1.0, 2.0)))
    assert deployed.differing_codes(random.codes(20, shape)) == 0
    assert QuantizedGraph.from_shapes(graph, Scheme()).output is not None


@pytest.mark.parametrize(
    ("operator", "shape"),
    [
        (Reverse(2), (5, 3)),
        (Repeat((4, 2)), (2, 2)),
        (MirrorPad(((3, 0), (0, 0))), (3, 4)),
        (DepthToSpace(2), (3, 2, 6)),
        (Extreme("largest", (2,)), (3, 4)),
        (ParametricReLU(torch.ones(3)), (4,)),
        (LogSoftmax(), (4096,)),
    ],
)
def test_shapes_that_do_not_fit_are_refused(operator: Operator, shape: Shape) -> None:
    with pytest.raises(ValueError, match=r"shape|channels|slopes|reflection|repeated|log_softmax"):
        operator.output_shape(shape)


def test_matrices_that_do_not_fit_and_bounds_without_0_are_refused() -> None:
    with pytest.raises(ValueError, match="matrix product"):
        MatrixProduct().output_shape((3, 4), (4, 3))
    with pytest.raises(ValueError, match="clamp"):
        Clamp(1.0, 2.0)
