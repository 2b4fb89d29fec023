"""Trains a `TCNNetwork` with the compiled kernel, behind the same interface as `TorchTrainer`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qanas.training.fit import NO_PENALTIES, Loss, Penalties, TrainingSet
from qanas.training.fused.lanes import IntArray
from qanas.training.fused.trainer import FusedTrainer, aligned_zeros
from qanas.training.fused_tcn import kernel
from qanas.training.fused_tcn.layout import ROW
from qanas.training.fused_tcn.plan import NetworkPlan

if TYPE_CHECKING:
    from qanas.networks.tcn import TCNNetwork
    from qanas.search_space.training_group import TrainingSettings


class FusedTCNTrainer(FusedTrainer):
    """A `TCNNetwork` on the CPU, on one thread, see `kernel`.

    Args:
        network: trained in place.
        data: on the CPU.
        loss: the task's loss.
        settings: how to train; `qanas.training.fused_tcn.support.supports` has nothing against any of these.
        penalties: on the weights.
    """

    def __init__(
        self,
        network: TCNNetwork,
        data: TrainingSet,
        loss: Loss,
        settings: TrainingSettings,
        penalties: Penalties = NO_PENALTIES,
    ) -> None:
        """Copy the parameters and lay out the workspace."""
        chunks = -(-settings.batch_size // ROW)
        plan = NetworkPlan(network, data.inputs.shape[1], chunks)
        super().__init__(network, data, loss, settings, penalties, places=plan.places, size=plan.weights)
        self.blocks = plan.blocks
        self.layout = plan.network
        self.inputs = data.inputs[:, network.unused :].detach().contiguous().numpy().reshape(-1)
        self.statistics = plan.statistics
        self.space = aligned_zeros(plan.space)
        self.outputs = np.zeros((network.head.out_features, chunks * ROW), np.float32)
        self.douts = np.zeros_like(self.outputs)

    def _forward(self, indices: IntArray) -> None:
        """Fill ``self.outputs``."""
        kernel.forward(
            self.weights,
            self.space,
            self.statistics,
            self.blocks,
            self.layout,
            self.inputs,
            indices,
            self.outputs,
        )

    def _backward(self, batch: int) -> None:
        """Fill ``self.gradient``."""
        kernel.backward(
            self.weights,
            self.gradient,
            self.space,
            self.statistics,
            self.blocks,
            self.layout,
            self.douts,
            batch,
        )
