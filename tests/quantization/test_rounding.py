"""Rounding to the nearest, ties away from zero: every kind of number against decimals, which know that rounding."""

from decimal import ROUND_HALF_UP, Decimal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qanas.quantization.numbers.rounding import (
    AWAY,
    divide_half_away,
    halve,
    round_half_away,
    round_half_away_array,
    round_half_away_number,
)
from qanas.quantization.simulation import compiled

HALVES = st.integers(-(2**20), 2**20).map(lambda count: count / 2.0)
"""Whole numbers and ties."""

REALS = st.one_of(HALVES, st.floats(-(2.0**20), 2.0**20, width=32))


def rounded(value: float | Decimal) -> int:
    return int(Decimal(value).quantize(Decimal(1), ROUND_HALF_UP))


@given(st.lists(REALS, min_size=1, max_size=20))
def test_real_numbers(values: list[float]) -> None:
    expected = [rounded(value) for value in values]
    array = np.array(values)
    assert round_half_away(torch.from_numpy(array)).tolist() == expected
    assert round_half_away_array(array).tolist() == expected
    assert [round_half_away_number(value, 0.5) for value in values] == expected
    assert [compiled.round_half_away(value, 0.5) for value in values] == expected


@given(HALVES)
def test_float32_stays_float32(value: float) -> None:
    array = np.array([value], np.float32)
    found = round_half_away_array(array)
    assert found.dtype == np.float32
    assert found.tolist() == [rounded(value)]
    assert round_half_away(torch.from_numpy(array)).dtype == torch.float32


@given(HALVES)
def test_nudged_ties(value: float) -> None:
    assert np.floor(value * AWAY + 0.5) == rounded(value)


@given(st.integers(-(2**40), 2**40), st.integers(1, 30))
def test_whole_numbers_by_powers_of_two(value: int, times: int) -> None:
    assert halve(np.array([value]), times).tolist() == [rounded(Decimal(value) / 2**times)]


@given(st.integers(-(2**20), 2**20), st.integers(1, 1000))
def test_whole_numbers_by_counts(total: int, count: int) -> None:
    found = divide_half_away(torch.tensor([float(total)]), torch.tensor([float(count)]))
    assert found.dtype == torch.int64
    assert found.tolist() == [rounded(Decimal(total) / count)]


@pytest.mark.parametrize(("value", "expected"), [(0.49999997, 1.0), (-0.49999997, -1.0)])
def test_float32_adds_its_half_in_float32(value: float, expected: float) -> None:
    # Just below a tie: the sum with a half is rounded up in float32, as in the kernels.
    array = np.array([value], np.float32)
    assert round_half_away_array(array).tolist() == [expected]
    assert round_half_away(torch.from_numpy(array)).tolist() == [expected]
    assert compiled.round_half_away(array[0], np.float32(0.5)) == expected
