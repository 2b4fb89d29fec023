"""Zero-cost proxies against what they are by hand, or by plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from qanas.core.seeds import derive_seed
from qanas.performance_estimation.proxy_scores import (
    PROXIES,
    fisher,
    grad_norm,
    grasp,
    jacob_cov,
    naswot,
    proxies_of,
    snip,
    synflow,
    zen,
)
from qanas.testing.small import small_bench

INPUTS = torch.randn(5, 3, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def network() -> nn.Sequential:
    """Two layers without a bias, so that all can be written down."""
    torch.manual_seed(derive_seed(0, "network"))
    return nn.Sequential(nn.Linear(3, 4, bias=False), nn.ReLU(), nn.Linear(4, 2, bias=False)).eval()


def loss(outputs: Tensor) -> Tensor:
    return (outputs**2).mean()


def by_hand(network: nn.Sequential) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the weights and the gradients of the loss with regard to them."""
    first, second = (network.get_parameter(f"{place}.weight").detach().double().numpy() for place in (0, 2))
    rows = INPUTS.double().numpy()
    hidden = np.maximum(rows @ first.T, 0)
    outputs = hidden @ second.T
    slopes = 2 * outputs / outputs.size
    return first, second, ((slopes @ second) * (hidden > 0)).T @ rows, slopes.T @ hidden


def test_synflow_counts_paths(network: nn.Sequential) -> None:
    # With two layers every weight's share is the sum over the paths through it, so that both layers add up to the same.
    first, second = (np.abs(network.get_parameter(f"{place}.weight").detach().double().numpy()) for place in (0, 2))
    assert synflow(network, INPUTS) == pytest.approx(2 * (second @ first).sum())


def test_snip_and_grad_norm_follow_from_gradients(network: nn.Sequential) -> None:
    first, second, one, other = by_hand(network)
    assert snip(network, INPUTS, loss) == pytest.approx(
        np.abs(first * one).sum() + np.abs(second * other).sum(), rel=1e-5
    )
    assert grad_norm(network, INPUTS, loss) == pytest.approx(np.linalg.norm(one) + np.linalg.norm(other), rel=1e-5)


def test_grasp_is_a_difference_of_gradients(network: nn.Sequential) -> None:
    # H g is how the gradient changes along itself: here by differences, in double precision.
    network = network.double()
    rows = INPUTS.double()
    weights = list(network.parameters())

    def gradient(along: list[Tensor], step: float) -> list[Tensor]:
        moved = [weight + step * slope for weight, slope in zip(weights, along, strict=True)]
        outputs = torch.relu(rows @ moved[0].T) @ moved[1].T
        return list(torch.autograd.grad(loss(outputs), moved))

    step = 1e-6
    at = gradient([torch.zeros_like(weight) for weight in weights], 0.0)
    moved = gradient(at, step)
    changes = [(after - before) / step for after, before in zip(moved, at, strict=True)]
    expected = -sum((weight * change).sum().item() for weight, change in zip(weights, changes, strict=True))
    assert grasp(network, rows, loss) == pytest.approx(expected, rel=1e-4)


def test_fisher_is_by_layer_and_channel(network: nn.Sequential) -> None:
    first, second, _, _ = by_hand(network)
    rows = INPUTS.double().numpy()
    before = rows @ first.T
    outputs = np.maximum(before, 0) @ second.T
    slopes = 2 * outputs / outputs.size
    inner = (slopes @ second) * (before > 0)
    expected = 0.5 * (((before * inner) ** 2).mean(0).sum() + ((outputs * slopes) ** 2).mean(0).sum())
    assert fisher(network, INPUTS, loss) == pytest.approx(expected, rel=1e-5)


def test_jacob_cov_of_a_linear_network_is_that_of_equal_slopes() -> None:
    # All Jacobians are the same, so all correlations are 1: one eigenvalue is n, the others are 0.
    linear = nn.Linear(3, 2).eval()
    k = 1e-5
    expected = -(math.log(5 + k) + 1 / (5 + k) + 4 * (math.log(k) + 1 / k))
    assert jacob_cov(linear, INPUTS) == pytest.approx(expected, rel=1e-3)


def test_naswot_counts_units_that_agree(network: nn.Sequential) -> None:
    on = (INPUTS.double().numpy() @ network.get_parameter("0.weight").detach().double().numpy().T) > 0
    alike = np.array([[(one == other).sum() for other in on] for one in on], np.float64)
    assert naswot(network, INPUTS) == pytest.approx(np.linalg.slogdet(alike)[1])


def test_zen_puts_back_what_batch_norms_take_out() -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten()).eval()
    normed = nn.Sequential(plain[0], nn.BatchNorm2d(8), nn.Flatten()).eval()
    images = torch.zeros(8, 3, 9, 9)
    assert zen(normed, images) == pytest.approx(zen(plain, images), abs=0.3)
    with torch.no_grad():
        plain.get_parameter("0.weight").mul_(10)  # which a batch norm hides
    assert zen(normed, images) == pytest.approx(zen(plain, images), abs=0.3)


def test_every_proxy_is_had_of_networks_of_a_space() -> None:
    bench = small_bench()
    found = proxies_of(bench, bench.reference, PROXIES)
    assert list(found) == list(PROXIES)
    assert found == proxies_of(bench, bench.reference, PROXIES)
