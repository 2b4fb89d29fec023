"""Trains an `LSTMNetwork` with the compiled kernel, behind the same interface as `TorchTrainer`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from qanas.training.compiled import lstm_backward, lstm_forward
from qanas.training.compiled.lanes import PAIR, IntArray
from qanas.training.compiled.step import CompiledTrainer, aligned_zeros
from qanas.training.trainer import NO_PENALTIES, Loss, Penalties, TrainingSet

if TYPE_CHECKING:
    from qanas.networks.lstm import LSTMNetwork
    from qanas.search_space.training_group import TrainingSettings

CHUNK_LANES = 32
"""Samples that are computed together: more of them reuse a weight more often, fewer fit the caches."""


class CompiledLSTMTrainer(CompiledTrainer):
    """An `LSTMNetwork` on the CPU, on one thread, see `kernel`.

    Args:
        network: trained in place.
        data: on the CPU.
        loss: the task's loss.
        settings: how to train; `qanas.training.compiled.supports.why_not_lstm` has nothing against any of these.
        penalties: on the weights.
    """

    def __init__(
        self,
        network: LSTMNetwork,
        data: TrainingSet,
        loss: Loss,
        settings: TrainingSettings,
        penalties: Penalties = NO_PENALTIES,
    ) -> None:
        """Copy the parameters and lay out the workspace."""
        order = _kernel_order(network)
        super().__init__(network, data, loss, settings, penalties, places=np.argsort(order), size=len(order))
        self.inputs = data.inputs.detach().contiguous().numpy().reshape(-1)
        self._plan(network, time_steps=data.inputs.shape[1])

    def _plan(self, network: LSTMNetwork, time_steps: int) -> None:
        """Place layers and chunks in the workspace, see `kernel`."""
        batch = self.settings.batch_size
        lanes = min(CHUNK_LANES, -(-batch // PAIR) * PAIR)
        chunks = -(-batch // lanes)
        weights = used = 0
        layers = []
        for layer in network.layers:
            d, h = layer.input_size, layer.units
            rows = d + h + 1
            entry = [d, h, weights]
            weights += 4 * h * rows
            for size in (
                (time_steps + 1) * rows,
                time_steps * 4 * h,
                (time_steps + 1) * h,
                time_steps * h,
                (time_steps + 1) * rows,
                h,
            ):
                entry.append(used)
                used += size * lanes
            layers.append(entry)
        self.layers: IntArray = np.array(layers, np.int64)
        self.shape: IntArray = np.array([time_steps, lanes, used, weights], np.int64)
        self.scale = float(network.head.scale)
        self.space = aligned_zeros(chunks * used)
        for d, h, _, first_row, *_ in layers:
            rows = d + h + 1
            block = self.space.reshape(chunks, used)[:, first_row : first_row + (time_steps + 1) * rows * lanes]
            block.reshape(chunks, time_steps + 1, rows, lanes)[:, :, -1] = 1.0
        outputs = network.head.out_features
        self.outputs = np.zeros((outputs, chunks * lanes), np.float32)
        self.douts = np.zeros((outputs, chunks * lanes), np.float32)

    def _forward(self, indices: IntArray) -> None:
        """Fill ``self.outputs`` for the batch ``indices``, shape (batch,)."""
        lstm_forward.forward(
            self.weights, self.space, self.layers, self.shape, self.scale, self.inputs, indices, self.outputs
        )

    def _backward(self, batch: int) -> None:
        """Fill ``self.gradient``, shape (weights,)."""
        lstm_backward.backward(
            self.weights, self.gradient, self.space, self.layers, self.shape, self.scale, self.douts, batch
        )


def _kernel_order(network: LSTMNetwork) -> IntArray:
    """Return for each parameter in the kernel's layout its place in torch's order, shape (parameters,)."""
    order: list[IntArray] = []
    start = 0

    def places(*shape: int) -> IntArray:
        """Return the places of the next parameter, shape (*shape,)."""
        nonlocal start
        start += math.prod(shape)
        return np.arange(start - math.prod(shape), start).reshape(shape)

    for layer in network.layers:
        d, h = layer.input_size, layer.units
        rows = np.concatenate([places(4, h, d), places(4, h, h), places(4, h, 1)], axis=2)
        order.append(rows.transpose(1, 2, 0).reshape(-1))
    outputs = network.head.out_features
    order.append(np.concatenate([places(outputs, h), places(outputs, 1)], axis=1).reshape(-1))
    return np.concatenate(order)
