"""Which trainings can share a batch."""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from qanas.networks.lstm import LSTMNetwork
from qanas.search_space.training_group import TrainingSettings
from qanas.training.fit import Loss, TrainingSet
from qanas.training.fused.support import unsupported_data, unsupported_modules, unsupported_settings
from qanas.training.fused_lstm.support import LAYERS


def supports(network: nn.Module, data: TrainingSet, loss: Loss, settings: TrainingSettings) -> str | None:
    """Return why `BatchedTrainer` cannot train this, or None if it can.

    Args:
        network: to be trained.
        data: what on, on the CPU.
        loss: of one candidate.
        settings: how to train.
    """
    if type(network) is not LSTMNetwork:
        return f"batches are of LSTMNetwork, not of {type(network).__name__}"
    if network.head.bias is None:
        return "the head has no bias"
    return (
        unsupported_settings(settings)
        or unsupported_data(data)
        or unsupported_modules(network, LAYERS)
        or _unsupported_loss(loss, settings.loss, data, network.head.out_features)
    )


def _unsupported_loss(loss: Loss, kind: str, data: TrainingSet, outputs: int) -> str | None:
    """Return why a loss can't be computed for several candidates at once, or None."""
    targets = torch.stack([data.targets[:1], data.targets[:1]])
    try:
        values = torch.func.vmap(partial(loss, kind))(torch.zeros(2, 1, outputs), targets)
    except RuntimeError as error:  # what vmap can't see through: item(), branches on values
        return f"the loss {kind} can't be batched: {' '.join(str(error).split())[:120]}"
    return None if values.shape == (2,) else f"the loss {kind} is no scalar"
