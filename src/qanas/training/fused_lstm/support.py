"""Which trainings the compiled kernel takes. Importing this doesn't load Numba."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from qanas.layers.sequences import OneBiasLSTM, ScaledLinear
from qanas.networks.lstm import LSTMNetwork
from qanas.training.fused.support import unsupported_data, unsupported_modules, unsupported_settings

if TYPE_CHECKING:
    from qanas.search_space.training_group import TrainingSettings
    from qanas.training.fit import Loss, TrainingSet

LAYERS = frozenset({LSTMNetwork, nn.Sequential, OneBiasLSTM, ScaledLinear})
"""What the kernel is the mathematics of."""

MAX_UNITS = 192
"""Widest layer that the kernel was measured to be faster for (``benchmarks/training.py``): the ratio to torch falls
from 20 at 4 units to 1.3 here, and to 1.1 for two layers of 256, where a tuned matrix product has caught up."""


def supports(network: nn.Module, data: TrainingSet, loss: Loss, settings: TrainingSettings) -> str | None:
    """Return why `FusedLSTMTrainer` cannot train this or would be slower than torch, or None if it should.

    Args:
        network: to be trained.
        data: what on.
        loss: any that torch can differentiate by the outputs.
        settings: how to train.
    """
    del loss
    return unsupported_settings(settings) or unsupported_data(data) or _unsupported_network(network)


def _unsupported_network(network: nn.Module) -> str | None:
    """Return why the kernel isn't this network's mathematics, or None."""
    if type(network) is not LSTMNetwork:
        return f"the kernel computes LSTMNetwork, not {type(network).__name__}"
    reason = unsupported_modules(network, LAYERS)
    if reason is not None:
        return reason
    widest = max(layer.units for layer in network.layers)
    if widest > MAX_UNITS:
        return f"the kernel is no faster for a layer of {widest} units, more than {MAX_UNITS}"
    return "the head has no bias" if network.head.bias is None else None
