"""The table's integer codes against real numbers in float64 that are rounded as the kernels round them."""

import itertools
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from tests.workflows.tiny_blocks import OPTIONS

from qanas.layers.mbconv import MBConv
from qanas.performance_estimation.block_table.layers import BlockLayers, Row, ScoredSamples
from qanas.performance_estimation.block_table.walk import PrefixStatistics, score_paths
from qanas.quantization.numbers.affine import Affine, WeightBits
from qanas.quantization.scheme import Scheme
from qanas.search_space.blockwise_space import Block, LayerOption
from qanas.supernet.block_supernet import BlockSupernet
from qanas.supernet.distillation import NoiseToSignal
from qanas.supernet.teacher_features import BlockFeatures
from qanas.testing.block_scores import (
    KERNELS,
    away_from_zero,
    directly,
    fake_quantized_values,
    fixed_point,
    in_steps,
    integer_codes,
    left_alone,
    once,
    over_a_fine_grid,
    score_fake_quantized,
    to_even,
)

CHANNELS, SIZE, DEPTH, SAMPLES = (5, 7), 12, 4, 24
BITS: tuple[WeightBits, ...] = (4, 6, 8)
PATHS = [
    tuple((first + step * layer) % 4 for layer in range(DEPTH)) for first, step in itertools.product(range(4), (0, 1))
]
ROWS: list[Row] = [Row.alike(bits, path) for bits in BITS for path in PATHS]


def strided_block() -> Block:
    """Four MBConv layers: the first halves the size and changes the channels, the others add their input."""
    layers = []
    for layer in range(DEPTH):
        channels, stride = (CHANNELS[min(layer, 1)], CHANNELS[1]), 2 if layer == 0 else 1
        build = partial(MBConv, *channels, stride=stride)
        layers.append(tuple(LayerOption(f"o{n}", {}, partial(build, choice)) for n, choice in enumerate(OPTIONS)))
    return Block("strided", "blocks.0", tuple(layers), {}, "weight_bits")


@pytest.fixture(scope="module")
def statistics() -> PrefixStatistics:
    layers = BlockLayers.of(BlockSupernet.seeded(strided_block(), 0), (CHANNELS[0], SIZE, SIZE), Scheme())
    generator = torch.Generator().manual_seed(0)
    return PrefixStatistics(layers, torch.randn(16, CHANNELS[0], SIZE, SIZE, generator=generator))


@pytest.fixture(scope="module")
def samples() -> ScoredSamples:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(SAMPLES, CHANNELS[0], SIZE, SIZE, generator=generator)
    outputs = torch.randn(SAMPLES, CHANNELS[1], SIZE // 2, SIZE // 2, generator=generator)
    return ScoredSamples.of(BlockFeatures(inputs, outputs), NoiseToSignal.of(outputs))


def other_codes(statistics: PrefixStatistics, samples: ScoredSamples, row: Row, **roundings: object) -> int:
    """Count the values at the end of a path that are on another code if some of the kernels' roundings differ."""
    codes = torch.cat(integer_codes(statistics, samples, row).dequantized())
    values = torch.cat(fake_quantized_values(statistics, samples, row, replace(KERNELS, **roundings)))  # type: ignore[arg-type]
    return int((codes != values).sum())


def test_every_code_is_that_of_real_numbers_rounded_as_the_kernels_do(
    statistics: PrefixStatistics, samples: ScoredSamples
) -> None:
    for row in ROWS:
        assert other_codes(statistics, samples, row) == 0


def test_scores_are_those_of_real_numbers_rounded_as_the_kernels_do(
    statistics: PrefixStatistics, samples: ScoredSamples
) -> None:
    table = score_paths(statistics, samples, ROWS)
    for row in ROWS:
        expected = score_fake_quantized(statistics, samples, row, KERNELS)
        np.testing.assert_allclose(table[row], expected, rtol=1e-5)


@pytest.mark.parametrize("roundings", [{"sums": once}, {"bias": left_alone}])
def test_each_rounding_of_a_convolution_is_needed(
    roundings: dict[str, object], statistics: PrefixStatistics, samples: ScoredSamples
) -> None:
    assert all(other_codes(statistics, samples, Row.alike(bits, PATHS[0]), **roundings) > 0 for bits in BITS)


def test_a_product_is_rounded_twice() -> None:
    """Factors of 1/4: half of a number is rounded up, then half of that away from zero. Once: 1/4 is 0."""
    whole = torch.arange(-4.0, 5.0, dtype=torch.float64)
    assert fixed_point(whole, torch.tensor(0.25).double()).tolist() == [-1, -1, -1, 0, 0, 1, 1, 1, 1]
    assert away_from_zero(whole / 4).tolist() == [-1, -1, -1, 0, 0, 0, 1, 1, 1]
    assert to_even(whole / 4).tolist() == [-1, -1, 0, 0, 0, 0, 0, 1, 1]
    # A factor above 1 shifts to the left first: nothing is left to round the second time.
    assert fixed_point(whole, torch.tensor(1.5).double()).tolist() == [-6, -4, -3, -1, 0, 2, 3, 5, 6]


def test_a_factor_has_31_bits() -> None:
    """0.6 * 2^31 is 1288490188.8 and becomes ...189: 5 * 2^30 times it is 3 * 2^30 and a half more, a tie."""
    whole = torch.tensor(5.0 * 2**30).double()
    assert fixed_point(whole, torch.tensor(0.6, dtype=torch.float64)).item() == 3 * 2**30 + 1


def test_both_inputs_of_an_addition_are_rounded_to_a_fine_grid() -> None:
    """Of scales 1 and nearly 1/2, the grid is of steps of 2^-19: less than half of one is lacking to a tie."""
    affines = Affine(1.0), Affine(0.5 - 2.0**-24), Affine(1.0)
    left = torch.tensor([0.0, 3.0, -3.0, 100.0]).double()
    right = torch.tensor([1.0, 1.0, -1.0, 127.0]).double() * affines[1].scale
    assert over_a_fine_grid(left, right, affines).tolist() == [1.0, 4.0, -4.0, 127.0]
    assert directly(left, right, affines).tolist() == [0.0, 3.0, -3.0, 127.0]


def test_biases_are_whole_steps_of_the_sums() -> None:
    assert in_steps(torch.tensor([0.3, -0.8]), torch.tensor([0.25, 0.5]).double()).tolist() == [0.25, -1.0]
