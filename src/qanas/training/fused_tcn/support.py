"""Which trainings the compiled kernel takes. Importing this doesn't load Numba."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from torch import nn

from qanas.layers.sequences import ChannelNorm, Conv1xK, ScaledLinear
from qanas.networks.tcn import ResidualBlock, TCNNetwork
from qanas.training.fused.support import unsupported_data, unsupported_modules, unsupported_settings

if TYPE_CHECKING:
    from qanas.search_space.training_group import TrainingSettings
    from qanas.training.fit import Loss, TrainingSet

LAYERS = frozenset({TCNNetwork, nn.Sequential, ResidualBlock, Conv1xK, ChannelNorm, nn.ReLU, ScaledLinear})
"""What the kernel is the mathematics of."""

MAX_CHANNELS = 128
"""Widest value that the kernel was measured to be faster for (``benchmarks/training.py --network tcn``): the ratio to
torch falls from 33 at 8 channels to 1.3 here (three blocks, kernel 7, no dilation, batch 256), and to 1.1 for two
blocks of 256, where a tuned matrix product has caught up."""


def supports(network: nn.Module, data: TrainingSet, loss: Loss, settings: TrainingSettings) -> str | None:
    """Return why `FusedTCNTrainer` cannot train this or would be slower than torch, or None if it should.

    Args:
        network: to be trained.
        data: what on.
        loss: any that torch can differentiate by the outputs.
        settings: how to train.
    """
    del loss
    reason = unsupported_settings(settings) or unsupported_data(data) or _unsupported_network(network)
    if reason is None and not _fits(cast("TCNNetwork", network), data):
        return f"the network is not made for sequences of shape {tuple(data.inputs.shape[1:])}"
    return reason


def _unsupported_network(network: nn.Module) -> str | None:
    """Return why the kernel isn't this network's mathematics, or None."""
    if type(network) is not TCNNetwork:
        return f"the kernel computes TCNNetwork, not {type(network).__name__}"
    reason = unsupported_modules(network, LAYERS)
    if reason is not None:
        return reason
    for module in network.modules():
        if isinstance(module, ChannelNorm) and (module.eps, module.momentum) != (1e-5, 0.1):
            return "the kernel's batch norms have epsilon 1e-5 and momentum 0.1"
        if isinstance(module, ChannelNorm) and not (module.affine and module.track_running_stats):
            return "the kernel's batch norms have weights and running statistics"
        widest = max(module.weight.shape[:2]) if isinstance(module, Conv1xK) else 0
        if widest > MAX_CHANNELS:
            return f"the kernel is no faster for {widest} channels, more than {MAX_CHANNELS}"
    return "the head has no bias" if network.head.bias is None else None


def _fits(network: TCNNetwork, data: TrainingSet) -> bool:
    """Return whether the data has the network's features, and its steps end in the one that the head reads."""
    _, window, features = data.inputs.shape
    positions = window - network.unused
    convolutions = [layer for block in network.residual_blocks for layer in block.convolutions]
    for layer in convolutions:
        if isinstance(layer, Conv1xK):
            positions = (positions + layer.left_padding - layer.weight.shape[2]) // layer.stride + 1
    return positions == 1 and features == next(network.parameters()).shape[1]
