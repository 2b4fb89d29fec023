"""Products, constants, and rescaling."""

import numpy as np
import pytest
import torch

from qanas.quantization.border import INPUT
from qanas.quantization.graph import Graph, Node
from qanas.quantization.numbers.affine import Affine
from qanas.quantization.numbers.requantization import Activation
from qanas.quantization.operators.arithmetic import Add, Multiply, WithConstant
from qanas.quantization.operators.rescaling import Quantize
from qanas.quantization.operators.shapes import Slice
from qanas.quantization.quantized_graph import QuantizedGraph
from qanas.quantization.scheme import Scheme
from qanas.testing.runtime import Deployed, Randomness, Range, chain, float_gap, of_parts

EVERYTHING = slice(None)
ACTIVATIONS: tuple[Activation, ...] = ("none", "relu")


def product_graph(random: Randomness, activation: Activation) -> Graph:
    """The product of two rows of the input; one of them a single pixel, a single channel, or whole."""
    height, width, channels = (random.integer(1, 4) for _ in range(3))
    lower = random.integer(0, 1) == 1
    gates = {
        "equal": (slice(height, None), EVERYTHING, EVERYTHING),
        "gate": (slice(height, height + 1), slice(0, 1), EVERYTHING),
        "map": (slice(height, None), EVERYTHING, slice(0, 1)),
        "scalar": (slice(height, height + 1), slice(0, 1), slice(0, 1)),
    }
    kind = str(random.generator.choice(list(gates)))
    parts = [Slice((slice(0, height), EVERYTHING, EVERYTHING)), Slice(gates[kind])]
    return of_parts(Multiply(activation), (2 * height, width, channels), *(reversed(parts) if lower else parts))


def product_ranges(graph: Graph, random: Randomness) -> dict[str, Range]:
    ranges = {name: random.range() for name in graph.shapes}
    size = Affine.from_range(*ranges["part_0"]).scale * Affine.from_range(*ranges["part_1"]).scale * 255.0
    ranges["result"] = random.range_about(Affine(size))
    return ranges


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("seed", range(40))
def test_products_are_those_of_the_kernel(seed: int, activation: Activation) -> None:
    random = Randomness(seed)
    graph = product_graph(random, activation)
    deployed = Deployed.of(graph, product_ranges(graph, random))
    assert deployed.differing_codes(random.codes(20, graph.input_shape)) == 0


@pytest.mark.parametrize("seed", range(8))
def test_every_product_of_two_codes_of_scales_that_make_ties(seed: int) -> None:
    """All 65,536 of them; ties tell products of float32 from those of more digits."""
    random = Randomness(seed)
    graph = of_parts(Multiply(), (2, 256), Slice((slice(0, 1),)), Slice((slice(1, 2),)))
    everything = np.arange(-128, 128)
    codes = np.stack([np.stack([everything, np.roll(everything, shift)]) for shift in range(256)]).astype(np.int8)
    source = random.decimal_range()
    ranges = dict.fromkeys(graph.shapes, source) | {"part_1": random.decimal_range()}
    low, high = random.decimal_range()
    for size in (1.0, 10.0, 100.0):
        deployed = Deployed.of(graph, ranges | {"result": (size * low, size * high)})
        assert deployed.differing_codes(codes) == 0


@pytest.mark.parametrize("seed", range(40))
def test_operators_with_constants_are_those_of_the_kernel(seed: int) -> None:
    random = Randomness(seed)
    shape = tuple(random.integer(1, 5) for _ in range(random.integer(1, 3)))
    constant_shape = [(1,), (shape[-1],), shape][random.integer(0, 2)]
    low, high = random.range()
    constant = low + (high - low) * torch.from_numpy(random.generator.random(constant_shape).astype(np.float32))
    source, stored = random.range(), Affine.from_range(float(constant.min()), float(constant.max()))
    scale = Affine.from_range(*source).scale
    for operator, size in (
        (Multiply(), 255.0 * scale * stored.scale),
        (Add("relu" if seed % 2 else "none"), max(scale, stored.scale)),
    ):
        graph = chain(shape, WithConstant(operator, constant))
        deployed = Deployed.of(graph, {INPUT: source, graph.output: random.range_about(Affine(size))})
        assert deployed.differing_codes(random.codes(20, shape)) == 0


@pytest.mark.parametrize("seed", range(60))
def test_rescaling_is_that_of_the_kernel_for_every_code(seed: int) -> None:
    random = Randomness(seed)
    source = random.range()
    graph = chain((256,), Quantize())
    for pair in (
        (source, random.range_about(Affine.from_range(*source))),
        (random.decimal_range(), random.decimal_range()),
    ):
        deployed = Deployed.of(graph, dict(zip((INPUT, graph.output), pair, strict=True)))
        assert deployed.differing_codes(np.arange(-128, 128, dtype=np.int8)[None]) == 0


def test_codes_of_other_parameters_by_hand() -> None:
    # 0.5 -> 0.25 a step: code 3 (1.5) is 6; 100 (50.0) is beyond the end.
    ranges: dict[str, Range] = {INPUT: (-64.0, 63.5), "node_0": (-32.0, 31.75)}
    quantized = Deployed.of(chain((4,), Quantize()), ranges).quantized
    assert quantized.codes(torch.tensor([[1.5, -1.5, 50.0, -64.0]])).tolist() == [[6.0, -6.0, 127.0, -128.0]]


def test_a_product_that_was_always_zero_has_a_scale_that_the_kernel_reaches() -> None:
    graph = of_parts(Multiply(), (2, 3), Slice((slice(0, 1),)), Slice((slice(1, 2),)))
    wide = (-3e6, 3e6)
    ranges: dict[str, Range] = {INPUT: wide, "slice_0": wide, "slice_1": wide, "part_0": wide, "part_1": wide}
    deployed = Deployed.of(graph, ranges | {"result": (0.0, 0.0)})
    assert deployed.differing_codes(Randomness(0).codes(50, (2, 3))) == 0


def test_float_programs_compute_what_torch_computes() -> None:
    random = Randomness(0)
    samples = random.normal(6, 4, 3, 5)
    gate = of_parts(Multiply("relu"), (4, 3, 5), Slice((slice(0, 3),)), Slice((slice(3, 4), slice(0, 1))))
    assert torch.equal(gate.forward(samples), torch.relu(samples[:, :3] * samples[:, 3:, :1]))
    assert float_gap(gate, samples) < 1e-6
    constant = random.normal(5)
    for graph, expected in (
        (chain((4, 3, 5), WithConstant(Multiply(), constant)), samples * constant),
        (chain((4, 3, 5), WithConstant(Add(), constant).with_activation("relu")), torch.relu(samples + constant)),
        (chain((4, 3, 5), Quantize()), samples),
    ):
        assert torch.equal(graph.forward(samples), expected)
        assert float_gap(graph, samples) < 1e-6


@pytest.mark.parametrize("shapes", [((2, 3), (3, 3)), ((2, 3), (3,)), ((2, 3),)])
def test_products_of_shapes_that_do_not_fit_are_refused(shapes: tuple[tuple[int, ...], ...]) -> None:
    with pytest.raises(ValueError, match="product of shapes"):
        Multiply().output_shape(*shapes)


@pytest.mark.parametrize("shape", [(2,), (1, 1, 1, 3), (4, 3)])
def test_constants_that_do_not_fit_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="constant of shape"):
        WithConstant(Add(), torch.ones(shape)).output_shape((2, 5, 3))


def test_elementwise_operators_cost_no_macs_and_have_no_weights() -> None:
    graph = chain((2, 2, 3), WithConstant(Multiply(), torch.ones(3)), Quantize())
    assert (graph.macs, graph.parameters) == (0, 0)


def test_sizes_follow_from_shapes_alone() -> None:
    random = Randomness(3)
    graph = Graph(
        {INPUT: (2, 3, 4)},
        (
            Node("gate", Slice((slice(0, 1), slice(0, 1))), (INPUT,)),
            Node("product", Multiply(), (INPUT, "gate")),
            Node("sum", WithConstant(Add(), random.normal(4)), ("product",)),
        ),
        ("sum",),
    )
    samples = random.normal(9, 2, 3, 4)
    calibrated = QuantizedGraph.quantize(graph, graph.calibrate(samples), Scheme())
    shapes = QuantizedGraph.from_shapes(graph, Scheme())
    assert [tensor.shape for tensor in calibrated.program().tensors()] == [
        tensor.shape for tensor in shapes.program().tensors()
    ]
