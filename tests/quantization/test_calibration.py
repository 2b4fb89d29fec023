"""Ranges from samples that come a few at a time: the same as from all at once."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from qanas.quantization import ranges
from qanas.quantization.border import INPUT
from qanas.quantization.operators.arithmetic import Add, Multiply
from qanas.quantization.operators.base import Operator
from qanas.quantization.operators.rescaling import ReLU
from qanas.quantization.ranges import METHODS, chunks_of
from qanas.quantization.scheme import RangeMethod, Scheme
from qanas.quantization.tracing import trace


def by_hand(values: Tensor, method: RangeMethod) -> tuple[float, float]:
    """The range of all values at once, from what the methods' documentation says."""
    if method == "min_max":
        return float(values.min()), float(values.max())
    if method == "percentile":
        ordered = np.sort(values.numpy(), axis=None)
        left_out = int(1e-4 * ordered.size)
        return float(ordered[left_out]), float(ordered[ordered.size - 1 - left_out])
    low, high = float(values[:64].min()), float(values[:64].max())
    for start in range(64, len(values), 64):
        batch = values[start : start + 64]
        low = 0.95 * low + (1.0 - 0.95) * float(batch.min())
        high = 0.95 * high + (1.0 - 0.95) * float(batch.max())
    return low, high


@given(
    method=st.sampled_from(list(METHODS)),
    parts=st.lists(st.integers(1, 150), min_size=1, max_size=6),
    size=st.sampled_from([1, 3, 400]),
    seed=st.integers(0, 1000),
)
def test_ranges_are_those_of_all_samples_at_once(
    method: RangeMethod, parts: Sequence[int], size: int, seed: int
) -> None:
    values = torch.randn(sum(parts), size, generator=torch.Generator().manual_seed(seed))
    gathered = METHODS[method]("value", len(values))
    for part in torch.split(values, list(parts)):
        gathered.add(part)
    assert gathered.found() == by_hand(values, method)


@pytest.mark.parametrize("method", METHODS)
def test_values_that_are_not_finite_are_refused_with_their_name(method: RangeMethod) -> None:
    gathered = METHODS[method]("conv_1", 8)
    gathered.add(torch.zeros(4, 2))
    with pytest.raises(ValueError, match=r"^conv_1 reaches from .* it can't be quantized"):
        gathered.add(torch.tensor([[1.0, math.inf]]))


@given(samples=st.integers(0, 3000), largest=st.integers(1, 1 << 24))
def test_chunks_are_few_equal_and_bounded(samples: int, largest: int) -> None:
    given_samples = torch.arange(samples)
    parts = chunks_of(given_samples, largest)
    assert torch.equal(torch.cat(list(parts)), given_samples)
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= 1024
    assert max(sizes) * largest <= 1 << 22 or max(sizes) <= 1
    fewer = len(parts) - 1
    assert fewer == 0 or -(-samples // fewer) > min(1024, (1 << 22) // largest)


@pytest.mark.parametrize("method", METHODS)
def test_calibration_in_chunks(method: RangeMethod, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, 2), nn.ReLU6(), nn.Conv2d(8, 8, 3, 1, 1, groups=8), nn.Hardswish(), nn.Conv2d(8, 2, 1)]
    graph = trace(nn.Sequential(*layers), (3, 9, 8))
    samples = torch.randn(150, 3, 9, 8)
    whole, outputs = graph.observe(samples, Scheme(ranges=method))
    monkeypatch.setattr(ranges, "CHUNK", 37)
    parts, others = graph.observe(samples, Scheme(ranges=method))
    assert list(parts) == list(whole)
    assert parts[INPUT] == whole[INPUT]
    for name, found in parts.items():
        assert found.output == pytest.approx(whole[name].output, rel=1e-5)
    torch.testing.assert_close(others, outputs)
    torch.testing.assert_close(others, graph.forward(samples))


@pytest.mark.parametrize("operator", [ReLU(), ReLU("relu6"), Add("relu"), Multiply("relu6")])
def test_activations_leave_the_inputs_as_they_are(operator: Operator) -> None:
    inputs = [torch.randn(2, 3, 4)] * (1 if isinstance(operator, ReLU) else 2)
    before = inputs[0].clone()
    assert operator.forward(*inputs).min() >= 0
    assert torch.equal(inputs[0], before)
