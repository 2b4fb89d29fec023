"""Axes in another order, parts, and values side by side."""

from itertools import permutations

import numpy as np
import pytest
import torch

from qanas.quantization.border import INPUT
from qanas.quantization.graph import Graph, Node
from qanas.quantization.numbers.affine import Affine
from qanas.quantization.operators.shapes import Concatenate, Slice, Transpose, split_into_slices
from qanas.testing.runtime import Deployed, Randomness, chain, float_gap, of_parts

ORDERS = [order for axes in (1, 2, 3, 4) for order in permutations(range(axes))]


@pytest.mark.parametrize("order", ORDERS)
def test_transposed_codes_are_those_of_the_kernel(order: tuple[int, ...]) -> None:
    random = Randomness(len(order))
    shape = tuple(random.integer(1, 5) for _ in order)
    graph = chain(shape, Transpose(order))
    deployed = Deployed.of(graph, {INPUT: random.range(), graph.output: (0.0, 0.0)})
    assert deployed.differing_codes(random.codes(3, shape)) == 0
    samples = random.normal(2, *shape)
    assert np.array_equal(graph.forward(samples)[1], samples[1].numpy().transpose(order))
    assert float_gap(graph, samples) == 0.0
    assert deployed.quantized.output is deployed.quantized.input


@pytest.mark.parametrize("order", [(0, 1), (0, 0, 1), (1, 2, 3)])
def test_orders_that_are_none_are_refused(order: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="order of axes"):
        Transpose(order).output_shape((3, 4, 5))


def concatenation(random: Randomness) -> Graph:
    """Two to four parts of the input, along any axis."""
    axes = random.integer(1, 3)
    axis = random.integer(0, axes - 1)
    sizes = [random.integer(1, 4) for _ in range(random.integer(2, 4))]
    shape = [random.integer(1, 4) for _ in range(axes)]
    shape[axis] = sum(sizes)
    return of_parts(Concatenate(axis), shape, *split_into_slices(axis, sizes))


@pytest.mark.parametrize("seed", range(40))
def test_values_of_several_scales_are_concatenated_as_by_the_kernels(seed: int) -> None:
    random = Randomness(seed)
    graph = concatenation(random)
    ranges = {name: random.range() for name in graph.shapes}
    widest = max((ranges[name] for name in ranges if name.startswith("part")), key=lambda bounds: bounds[1] - bounds[0])
    ranges["result"] = random.range_about(Affine.from_range(*widest))
    deployed = Deployed.of(graph, ranges)
    assert deployed.differing_codes(random.codes(20, graph.input_shape)) == 0
    samples = random.normal(3, *graph.input_shape)
    assert torch.equal(graph.forward(samples), samples), "the parts in order are the whole"
    assert float_gap(graph, samples) == 0.0


def split_and_joined(axis: int, sizes: list[int], shape: tuple[int, ...]) -> Graph:
    """The parts of the input, the other way round."""
    parts = [Node(f"part_{index}", part, (INPUT,)) for index, part in enumerate(split_into_slices(axis, sizes))]
    names = tuple(node.name for node in reversed(parts))
    return Graph({INPUT: shape}, (*parts, Node("whole", Concatenate(axis), names)), ("whole",))


def test_values_that_share_their_parameters_are_not_rescaled() -> None:
    graph = split_and_joined(1, [2, 3], (4, 5))
    deployed = Deployed.of(graph, dict.fromkeys(graph.shapes, (-1.0, 1.0)))
    assert deployed.quantized.output is deployed.quantized.input
    kinds = [operator.kind for operator in deployed.quantized.program().operators]
    assert kinds == ["STRIDED_SLICE", "STRIDED_SLICE", "CONCATENATION"]
    codes = Randomness(0).codes(5, (4, 5))
    assert deployed.differing_codes(codes) == 0


def test_values_that_are_equal_by_chance_are_rescaled_as_those_that_are_not() -> None:
    graph = of_parts(Concatenate(0), (4,), *split_into_slices(0, [2, 2]))
    for second in ((-1.0, 1.0), (-2.0, 1.0)):
        ranges = dict.fromkeys(graph.shapes, (-1.0, 1.0)) | {"part_1": second}
        kinds = [operator.kind for operator in Deployed.of(graph, ranges).quantized.program().operators]
        assert kinds.count("QUANTIZE") == 4, "the two parts' own, and one in front of each"


@pytest.mark.parametrize(("axis", "shapes"), [(0, ((2, 3), (2, 4))), (2, ((2, 3), (2, 3))), (1, ((2, 3), (2, 3, 1)))])
def test_concatenations_that_do_not_fit_are_refused(axis: int, shapes: tuple[tuple[int, ...], ...]) -> None:
    with pytest.raises(ValueError, match="concatenation along axis"):
        Concatenate(axis).output_shape(*shapes)


def test_parts_by_hand() -> None:
    values = torch.arange(10.0).reshape(1, 2, 5)
    first, second, third = (part.forward(values) for part in split_into_slices(1, [1, 3, 1]))
    assert first.tolist() == [[[0.0], [5.0]]]
    assert second.tolist() == [[[1.0, 2.0, 3.0], [6.0, 7.0, 8.0]]]
    assert third.tolist() == [[[4.0], [9.0]]]
    assert split_into_slices(0, [2]) == [Slice((slice(0, 2),))]
