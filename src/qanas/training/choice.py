"""Which trainer trains a network: the only module of this package that knows networks by name."""

from __future__ import annotations

import functools
import logging
from typing import cast

from torch import nn

from qanas.networks.lstm import LSTMNetwork
from qanas.networks.tcn import TCNNetwork
from qanas.search_space.training_group import TrainingSettings
from qanas.training.compiled.supports import why_not_lstm, why_not_tcn
from qanas.training.torch_trainer import TorchTrainer
from qanas.training.trainer import NO_PENALTIES, Loss, Penalties, SnapshotTrainer, TrainingSet


def make_trainer(
    network: nn.Module,
    data: TrainingSet,
    loss: Loss,
    settings: TrainingSettings,
    penalties: Penalties = NO_PENALTIES,
    device: str = "cpu",
) -> SnapshotTrainer:
    """Return the fastest trainer that knows this network and these settings.

    If that is torch's, the log says why. The choice doesn't depend on the number of threads, so neither does
    the result.

    Args:
        network: initialised, on the CPU; trained in place.
        data: on the CPU.
        loss: the task's loss.
        settings: how to train.
        penalties: added to the loss.
        device: "cpu", or "cuda" for torch's trainer there.
    """
    reason = why_not_compiled(network, data, settings, device)
    if reason is None:
        try:
            return _compiled_trainer(network, data, loss, settings, penalties)
        except ImportError as error:
            log_once(logging.WARNING, f"{type(network).__name__} is trained with torch, several times slower: {error}")
    else:
        log_once(logging.INFO, f"trained with torch: {reason}")
    return TorchTrainer(network, data, loss, settings, penalties, device)


def why_not_compiled(network: nn.Module, data: TrainingSet, settings: TrainingSettings, device: str) -> str | None:
    """Return why no compiled trainer should train this network, or None."""
    if device != "cpu":
        return f"the compiled trainers compute on the CPU, not on {device}"
    if isinstance(network, TCNNetwork):
        return why_not_tcn(network, data, settings)
    if isinstance(network, LSTMNetwork):
        return why_not_lstm(network, data, settings)
    return f"there is no kernel for {type(network).__name__}"


def _compiled_trainer(
    network: nn.Module, data: TrainingSet, loss: Loss, settings: TrainingSettings, penalties: Penalties
) -> SnapshotTrainer:
    """Return the compiled trainer that takes this network.

    Raises:
        ImportError: Numba cannot be loaded.
    """
    if isinstance(network, TCNNetwork):
        from qanas.training.compiled.tcn import CompiledTCNTrainer

        return CompiledTCNTrainer(network, data, loss, settings, penalties)
    from qanas.training.compiled.lstm import CompiledLSTMTrainer

    return CompiledLSTMTrainer(cast("LSTMNetwork", network), data, loss, settings, penalties)


@functools.cache
def log_once(level: int, message: str) -> None:
    """Log a message the first time that this process has it."""
    logging.getLogger("qanas").log(level, message)
