"""Means, extremes, mirrored rows, reversals and repetitions of values of any shape: graph, simulation, file, LiteRT."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qanas.quantization.border import INPUT
from qanas.quantization.numbers.affine import Affine
from qanas.quantization.operators.base import Operator, Shape
from qanas.quantization.operators.extremes import Extreme
from qanas.quantization.operators.moves import MirrorPad, Repeat, Reverse
from qanas.quantization.operators.reductions import Mean
from qanas.quantization.operators.shapes import Transpose
from qanas.testing.runtime import Deployed, Randomness, chain, float_gap

Case = tuple[Operator, Shape]

SHAPES = st.lists(st.integers(1, 9), min_size=1, max_size=4).map(tuple)
"""Of one sample: with the batch, five axes."""


@st.composite
def reductions(draw: st.DrawFn) -> Case:
    """Means and extremes over any axes, in any order."""
    shape = draw(SHAPES)
    axes = tuple(draw(st.lists(st.sampled_from(range(len(shape))), min_size=1, max_size=len(shape), unique=True)))
    keeps = draw(st.booleans())
    side = draw(st.sampled_from(["mean", "largest", "smallest"]))
    if side == "mean":
        return Mean(axes, keeps_axes=keeps), shape
    return Extreme("largest" if side == "largest" else "smallest", axes, keeps_axes=keeps), shape


@st.composite
def moves(draw: st.DrawFn) -> Case:
    """What gives the same numbers in other places."""
    shape = draw(SHAPES)
    kind = draw(st.sampled_from(["mirror", "reverse", "repeat", "transpose"]))
    if kind == "mirror":
        sides = [draw(st.tuples(st.integers(0, size - 1), st.integers(0, size - 1))) for size in shape]
        return MirrorPad(tuple(sides)), shape
    if kind == "reverse":
        return Reverse(draw(st.sampled_from(range(len(shape))))), shape
    if kind == "repeat":
        small = tuple(draw(st.sampled_from([1, size])) for size in shape)
        return Repeat(shape), small
    return Transpose(tuple(draw(st.permutations(range(len(shape)))))), shape


def check(case: Case, seed: int) -> None:
    """Compare codes with LiteRT's, ranges drawn, and real values with those of the float program."""
    operator, shape = case
    random = Randomness(seed)
    graph = chain(shape, operator)
    source = random.range()
    ranges = {INPUT: source, graph.output: random.range_about(Affine.from_range(*source))}
    codes = random.codes(4, shape)
    codes[0], codes[1] = -128, 127
    assert Deployed.of(graph, ranges).differing_codes(codes) == 0
    samples = random.normal(3, *shape)
    assert graph.forward(samples).shape[1:] == graph.shapes[graph.output]
    assert float_gap(graph, samples) < 1e-6 * max(1.0, float(np.abs(samples.numpy()).max()))


few = settings(max_examples=15, deadline=None, derandomize=True)
many = settings(max_examples=1000, deadline=None)


@few
@given(reductions(), st.integers(0, 2**16))
def test_reductions_over_any_axes_are_those_of_the_kernels(case: Case, seed: int) -> None:
    check(case, seed)


@few
@given(moves(), st.integers(0, 2**16))
def test_moves_of_any_shape_are_those_of_the_kernels(case: Case, seed: int) -> None:
    check(case, seed)


@pytest.mark.slow
@many
@given(st.one_of(reductions(), moves()), st.integers(0, 2**16))
def test_many_shapes(case: Case, seed: int) -> None:
    check(case, seed)
