"""Means over axes."""

import numpy as np
import pytest
import torch

from qanas.quantization.border import INPUT
from qanas.quantization.numbers.affine import Affine
from qanas.quantization.operators.reductions import Mean
from qanas.testing.runtime import Deployed, Randomness, chain, float_gap

AXES = [(0, 1), (0,), (1,), (2,), (1, 2), (0, 1, 2), (1, 0)]


@pytest.mark.parametrize("keeps_axes", [False, True])
@pytest.mark.parametrize("seed", range(60))
def test_means_are_those_of_the_kernel(seed: int, keeps_axes: bool) -> None:
    random = Randomness(seed)
    shape = (random.integer(1, 9), random.integer(1, [4, 9, 40][seed % 3]), random.integer(1, 6))
    graph = chain(shape, Mean(AXES[seed % len(AXES)], keeps_axes=keeps_axes))
    source = random.range()
    ranges = {INPUT: source, graph.output: random.range_about(Affine.from_range(*source))}
    codes = random.codes(20, shape)
    codes[0], codes[1] = -128, 127
    assert Deployed.of(graph, ranges).differing_codes(codes) == 0


def test_means_of_many_values_with_the_parameters_of_their_input() -> None:
    for size in (1, 2, 3, 7, 8, 49, 64, 1000):
        graph = chain((size, 1, 3), Mean((0, 1)))
        deployed = Deployed.of(graph, {INPUT: (-1.0, 1.0), graph.output: (-1.0, 1.0)})
        assert deployed.differing_codes(Randomness(size).codes(50, (size, 1, 3))) == 0


def test_a_mean_by_hand() -> None:
    # Codes 1, 2, 4 in steps of 1 are 7/3; in steps of 0.5 that is 4.67, so 5.
    graph = chain((3,), Mean((0,)))
    quantized = Deployed.of(graph, {INPUT: (-128.0, 127.0), graph.output: (-64.0, 63.5)}).quantized
    assert quantized.codes(torch.tensor([[1.0, 2.0, 4.0]])).tolist() == [5.0]


@pytest.mark.parametrize("keeps_axes", [False, True])
@pytest.mark.parametrize("axes", AXES)
def test_means_in_float_are_those_of_torch(axes: tuple[int, ...], keeps_axes: bool) -> None:
    samples = Randomness(2).normal(5, 4, 3, 6)
    graph = chain((4, 3, 6), Mean(axes, keeps_axes=keeps_axes))
    expected = samples.numpy().mean(tuple(axis + 1 for axis in axes), keepdims=keeps_axes)
    assert graph.shapes[graph.output] == expected.shape[1:]
    assert np.allclose(graph.forward(samples), expected, atol=1e-6)
    assert float_gap(graph, samples) < 1e-6
    assert (graph.macs, graph.parameters) == (0, 0)


@pytest.mark.parametrize("axes", [(), (3,), (-1,), (0, 0)])
def test_axes_that_the_value_does_not_have_are_refused(axes: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="over the axes"):
        Mean(axes).output_shape((4, 4, 2))
