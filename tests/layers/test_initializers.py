"""Initializers against the variances and bounds that their papers state."""

from __future__ import annotations

import math

import pytest
import torch

from qanas.layers.initializers import INITIALIZERS, Initializer, initialize, initialize_bias

FAN_IN, FAN_OUT = 300, 500
GLOROT, HE = 2.0 / (FAN_IN + FAN_OUT), 2.0 / FAN_IN


def drawn(initializer: Initializer) -> torch.Tensor:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        weight = torch.full((FAN_OUT, FAN_IN), math.nan)
        initialize(weight, initializer, FAN_IN, FAN_OUT)
    return weight


@pytest.mark.parametrize(
    ("initializer", "variance", "peak"),
    [
        ("glorot_uniform", GLOROT, math.sqrt(3.0 * GLOROT)),
        ("he_uniform", HE, math.sqrt(3.0 * HE)),
        # cut at two deviations of the uncut normal, which is wider by 1 / 0.8796
        ("glorot_normal", GLOROT, 2.0 * math.sqrt(GLOROT) / 0.87962566),
        ("he_normal", HE, 2.0 * math.sqrt(HE) / 0.87962566),
    ],
)
def test_variance_and_largest_value(initializer: Initializer, variance: float, peak: float) -> None:
    weight = drawn(initializer)
    assert weight.var().item() == pytest.approx(variance, rel=0.01)
    assert weight.mean().item() == pytest.approx(0.0, abs=5e-4)
    assert 0.99 * peak < weight.abs().max().item() <= peak * (1 + 1e-6)


def test_uniform_and_normal_differ_in_shape() -> None:
    def kurtosis(weight: torch.Tensor) -> float:
        return float(((weight / weight.std()) ** 4).mean())

    assert kurtosis(drawn("he_uniform")) == pytest.approx(1.8, abs=0.02)
    assert kurtosis(drawn("he_normal")) == pytest.approx(2.37, abs=0.03)  # a normal cut at two deviations


def test_orthogonal_columns() -> None:
    weight = drawn("orthogonal")
    torch.testing.assert_close(weight.T @ weight, torch.eye(FAN_IN), rtol=0, atol=1e-4)


def test_every_initializer_draws_every_weight() -> None:
    for initializer in INITIALIZERS:
        assert torch.isfinite(drawn(initializer)).all()


def test_biases() -> None:
    bias = torch.full((12,), math.nan)
    initialize_bias(bias, "zeros")
    assert bias.tolist() == [0.0] * 12
    initialize_bias(bias, "unit_forget")
    assert bias.tolist() == [0.0] * 3 + [1.0] * 3 + [0.0] * 6
    initialize_bias(bias, "uniform")
    assert 0.0 < bias.abs().max().item() <= 0.05
    assert len(set(bias.tolist())) == 12
