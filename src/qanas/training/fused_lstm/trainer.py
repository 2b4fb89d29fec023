"""Trains an `LSTMNetwork` with the compiled kernel, behind the same interface as `TorchTrainer`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from qanas.training.fit import NO_PENALTIES, Loss, Penalties, TrainingSet, ema_weight
from qanas.training.fused_lstm import kernel

if TYPE_CHECKING:
    from qanas.networks.lstm import LSTMNetwork
    from qanas.search_space.training_group import TrainingSettings

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]

CHUNK_LANES = 32
"""Samples that are computed together: more of them reuse a weight more often, fewer fit the caches."""


LossGradient = Callable[[str, FloatArray, NDArray[Any]], tuple[float, FloatArray] | None]
"""``loss_gradient(kind, outputs, targets)``: the mean loss and its gradient by the outputs, or None if it
doesn't know the kind."""


def loss_gradient_of(loss: Loss) -> LossGradient | None:
    """Return the analytic gradient that comes with a loss, if one does.

    Autograd of a loss can take longer than all the rest of a small network's step. A loss may therefore offer
    its gradient in NumPy: as the attribute ``loss_gradient`` of the callable or, for a bound method, of its
    object (a `Task`).
    """
    owner = getattr(loss, "__self__", loss)
    found: LossGradient | None = getattr(owner, "loss_gradient", None)
    return found


class FusedLSTMTrainer:
    """An `LSTMNetwork` on the CPU, on one thread.

    Forward and backward pass, clipping, optimizer and weight average are compiled (`kernel`); only the loss is
    the task's own. The parameters live in one flat array until `finish`.

    Args:
        network: trained in place.
        data: on the CPU.
        loss: the task's loss.
        settings: how to train; `qanas.training.fused_lstm.support.supports` has nothing against any of these.
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
        self.network = network
        self.loss = loss
        self.loss_gradient = loss_gradient_of(loss)
        self.settings = settings
        self.targets = data.targets
        self.target_array = data.targets.numpy()
        self.inputs = data.inputs.detach().contiguous().numpy().reshape(-1)
        self.steps = 0
        self._plan(network, time_steps=data.inputs.shape[1])
        self.order = _kernel_order(network)
        self.weights = np.ascontiguousarray(_flat(network)[self.order])
        self.gradient = np.zeros_like(self.weights)
        self.moments = np.zeros((3, len(self.weights)), np.float32)
        self.moments[2] = self.weights
        self.penalties = None
        if penalties:
            l1, l2 = _flat_penalties(network, penalties)
            self.penalties = l1[self.order], l2[self.order]

    def _plan(self, network: LSTMNetwork, time_steps: int) -> None:
        """Place layers and chunks in the workspace, see `kernel`."""
        batch = self.settings.batch_size
        lanes = min(CHUNK_LANES, -(-batch // kernel.PAIR) * kernel.PAIR)
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
        self.space = _aligned_zeros(chunks * used)
        for d, h, _, first_row, *_ in layers:
            rows = d + h + 1
            block = self.space.reshape(chunks, used)[:, first_row : first_row + (time_steps + 1) * rows * lanes]
            block.reshape(chunks, time_steps + 1, rows, lanes)[:, :, -1] = 1.0
        outputs = network.head.out_features
        self.outputs: FloatArray = np.zeros((outputs, chunks * lanes), np.float32)
        self.douts: FloatArray = np.zeros((outputs, chunks * lanes), np.float32)

    def step(self, indices: Tensor, learning_rate: float) -> float:
        """Take one step of gradient descent."""
        loss = self.value_and_gradient(indices)
        self.steps += 1
        kernel.update(
            self.weights,
            self.gradient,
            self.moments,
            self.settings.optimizer == "adam",
            learning_rate,
            self.steps,
            self.settings.gradient_clip,
            ema_weight(self.settings.ema_decay, self.steps),
        )
        return loss

    def value_and_gradient(self, indices: Tensor) -> float:
        """Return the batch's mean loss; its gradient is then in ``gradient``, in the kernel's order.

        Args:
            indices: the batch, at most ``settings.batch_size`` samples.

        Raises:
            ValueError: it is larger than the workspace.
            IndexError: an index is not one of a sample.
        """
        batch = len(indices)
        if batch > self.settings.batch_size:
            raise ValueError(f"a batch of {batch} samples where {self.settings.batch_size} were announced")
        kernel.forward(
            self.weights,
            self.space,
            self.layers,
            self.shape,
            self.scale,
            self.inputs,
            indices.numpy(),
            self.outputs,
        )
        outputs = self.outputs[:, :batch].T
        value, gradient = self._loss_and_gradient(outputs, indices)
        self.douts[:, :batch] = gradient.T
        self.douts[:, batch:] = 0.0
        kernel.backward(self.weights, self.gradient, self.space, self.layers, self.shape, self.scale, self.douts, batch)
        penalty = 0.0
        if self.penalties is not None:
            penalty = kernel.add_penalty(self.weights, self.gradient, *self.penalties)
        return value + penalty

    def _loss_and_gradient(self, outputs: FloatArray, indices: Tensor) -> tuple[float, FloatArray]:
        """Return a batch's loss and its gradient by the outputs, from the task itself or by autograd."""
        if self.loss_gradient is not None:
            known = self.loss_gradient(self.settings.loss, outputs, self.target_array[indices.numpy()])
            if known is not None:
                return known
        leaf = torch.from_numpy(outputs).requires_grad_()
        value = self.loss(self.settings.loss, leaf, self.targets[indices])
        (gradient,) = torch.autograd.grad(value, leaf)
        return value.item(), gradient.numpy()

    def flat_gradient(self) -> FloatArray:
        """Return the last gradient in the order of ``network.parameters()``, flattened."""
        flat = np.empty_like(self.gradient)
        flat[self.order] = self.gradient
        return flat

    def finish(self) -> None:
        """Write the averaged weights into the network."""
        flat = np.empty_like(self.weights)
        flat[self.order] = self.moments[2]
        start = 0
        with torch.no_grad():
            for parameter in self.network.parameters():
                values = flat[start : start + parameter.numel()]
                parameter.copy_(torch.from_numpy(values).reshape(parameter.shape))
                start += parameter.numel()
        self.network.eval()


def _flat(network: nn.Module) -> FloatArray:
    """Return all parameters in torch's order, flattened."""
    flat: FloatArray = nn.utils.parameters_to_vector(network.parameters()).detach().numpy()
    return flat


def _flat_penalties(network: nn.Module, penalties: Penalties) -> tuple[FloatArray, FloatArray]:
    """Return the coefficients l1 and l2 of every parameter in torch's order, flattened."""
    l1, l2 = np.zeros((2, len(_flat(network))), np.float32)
    start = 0
    for name, parameter in network.named_parameters():
        stop = start + parameter.numel()
        if name in penalties:
            l1[start:stop], l2[start:stop] = penalties[name].l1, penalties[name].l2
        start = stop
    return l1, l2


def _kernel_order(network: LSTMNetwork) -> IntArray:
    """Return for each parameter in the kernel's layout its place in torch's order."""
    order: list[IntArray] = []
    start = 0

    def places(*shape: int) -> IntArray:
        """Return the places of the next parameter."""
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


def _aligned_zeros(size: int) -> FloatArray:
    """Return zeros that start at a cache line, so that no load crosses one."""
    line = 64
    memory = np.zeros(4 * size + line, np.uint8)
    offset = -memory.ctypes.data % line
    return memory[offset : offset + 4 * size].view(np.float32)
