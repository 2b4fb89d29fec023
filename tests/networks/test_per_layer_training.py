"""Regularization and initialization by layer: from a candidate's settings to weights and loss."""

from __future__ import annotations

import pytest
import torch

from qanas.core.candidate import Candidate, Value
from qanas.layers.sequences import ChannelNorm
from qanas.networks.lstm import LSTMNetwork, LSTMSpace
from qanas.networks.tcn import TCNNetwork, TCNSpace
from qanas.search_space.network_space import NetworkSpace, TaskShape
from qanas.search_space.space import SearchSpace, space_of
from qanas.search_space.training_group import Penalty

SHAPE = TaskShape((20, 6), 1, 100.0, ("mae", "mse", "huber"))
SPACES: list[NetworkSpace] = [LSTMSpace(), TCNSpace()]


def space(networks: NetworkSpace) -> SearchSpace:
    return space_of(networks.settings(SHAPE), ["architecture", "training", "quantization"])


def candidate(networks: NetworkSpace, **changes: Value) -> Candidate:
    """Return the reference's candidate with some settings changed; all others have their seed's value."""
    seeds = {setting.name: setting.reference for setting in networks.settings(SHAPE)}
    unknown = set(changes) - set(seeds)
    assert not unknown
    return space(networks).sample(lambda name, _: changes.get(name, seeds[name]))


def build(networks: NetworkSpace, chosen: Candidate) -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return networks.build(chosen, SHAPE)


@pytest.mark.parametrize("networks", SPACES)
def test_the_seed_network_has_no_penalty_and_no_strength(networks: NetworkSpace) -> None:
    seed = space(networks).reference
    assert networks.penalties(seed, build(networks, seed)) == {}
    assert not [name for name in seed.training if "penalty" in name]


@pytest.mark.parametrize("networks", SPACES)
def test_settings_of_a_layer_exist_only_with_it(networks: NetworkSpace) -> None:
    size = "layers" if isinstance(networks, LSTMSpace) else "blocks"
    small = candidate(networks, **{size: 1})
    by_layer = [name for name in small.training if name[-1].isdigit()]
    assert by_layer
    assert all(name.endswith("_1") for name in by_layer)


@pytest.mark.parametrize("networks", SPACES)
def test_penalties_name_parameters_of_the_network(networks: NetworkSpace) -> None:
    names = [setting.name for setting in networks.settings(SHAPE) if "_regularizer_" in setting.name]
    chosen = candidate(networks, **dict.fromkeys(names, "l1"))
    network = build(networks, chosen)
    penalties = networks.penalties(chosen, network)
    assert penalties
    assert set(penalties) <= set(dict(network.named_parameters()))


def test_lstm_penalties_by_hand() -> None:
    chosen = candidate(
        LSTMSpace(),
        kernel_regularizer_1="l2",
        kernel_penalty_1=0.003,
        recurrent_regularizer_2="l1",
        recurrent_penalty_2=0.004,
        bias_regularizer_2="l2",
    )
    assert LSTMSpace().penalties(chosen, build(LSTMSpace(), chosen)) == {
        "lstm.0.weight_ih": Penalty(l2=0.003),
        "lstm.1.weight_hh": Penalty(l1=0.004),
        "lstm.1.bias": Penalty(l2=1e-5),
    }


def test_tcn_penalties_by_hand() -> None:
    chosen = candidate(TCNSpace(), blocks=2, kernel_regularizer_1="l1", bias_regularizer_2="l2", bias_penalty_2=0.01)
    found = TCNSpace().penalties(chosen, build(TCNSpace(), chosen))
    assert found == {
        "blocks.0.convolutions.0.weight": Penalty(l1=1e-5),
        "blocks.0.convolutions.3.weight": Penalty(l1=1e-5),
        "blocks.0.shortcut.weight": Penalty(l1=1e-5),
        "blocks.1.convolutions.1.bias": Penalty(l2=0.01),
        "blocks.1.convolutions.4.bias": Penalty(l2=0.01),
    }


def test_lstm_initializers_reach_their_layer() -> None:
    chosen = candidate(
        LSTMSpace(), kernel_initializer_2="orthogonal", recurrent_initializer_1="he_normal", bias_initializer_2="zeros"
    )
    network = build(LSTMSpace(), chosen)
    assert isinstance(network, LSTMNetwork)
    first, second = network.layers
    torch.testing.assert_close(second.weight_ih.T @ second.weight_ih, torch.eye(100), rtol=0, atol=1e-4)
    assert first.weight_hh.std().item() == pytest.approx((2 / 100) ** 0.5, rel=0.03)
    assert first.bias.sum().item() == 100.0
    assert second.bias.abs().sum().item() == 0.0


def test_tcn_initializers_reach_their_block() -> None:
    chosen = candidate(TCNSpace(), kernel_initializer_2="glorot_normal", bias_initializer_2="uniform")
    network = build(TCNSpace(), chosen)
    assert isinstance(network, TCNNetwork)
    first, second, *_ = network.residual_blocks
    norms = [[m for m in block.modules() if isinstance(m, ChannelNorm)] for block in (first, second)]
    assert all(norm.bias.abs().sum() == 0 for norm in norms[0])
    assert all(0 < norm.bias.abs().max() <= 0.05 for norm in norms[1])
    kernel = second.convolutions[0].weight
    assert isinstance(kernel, torch.Tensor)
    assert kernel.std().item() == pytest.approx((2 / (32 * 3 + 32 * 3)) ** 0.5, rel=0.05)


@pytest.mark.parametrize("networks", [LSTMSpace(per_layer_training=False), TCNSpace(per_layer_training=False)])
def test_per_layer_training_can_be_left_out(networks: NetworkSpace) -> None:
    assert not [setting.name for setting in networks.settings(SHAPE) if "izer_" in setting.name]
    seed = space(networks).reference
    assert networks.penalties(seed, build(networks, seed)) == {}
