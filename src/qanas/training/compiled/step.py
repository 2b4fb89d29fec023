"""What a step of a compiled trainer is around its network's two passes.

The task's loss, then penalties, clipping, the optimizer and the average of the weights, which are compiled too.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from qanas.core.compilation import entry_point
from qanas.training.compiled.lanes import FloatArray, IntArray
from qanas.training.trainer import (
    NO_PENALTIES,
    SNAPSHOT_SAMPLES,
    STATISTICS_SAMPLES,
    Loss,
    Penalties,
    TrainingSet,
    ema_weight,
    refresh_batch_norms,
)

if TYPE_CHECKING:
    from qanas.search_space.training_group import TrainingSettings

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


class CompiledTrainer(ABC):
    """A network on the CPU, on one thread, whose two passes are compiled.

    Only the loss is the task's own. The parameters live in one flat array, in the kernel's order, until `finish`.

    Args:
        network: trained in place.
        data: on the CPU.
        loss: the task's loss.
        settings: how to train.
        penalties: on the weights.
        places: for each parameter in the order of ``network.parameters()``, flattened, its place in the kernel's.
        size: of the kernel's array of parameters; what has no place stays zero.

    Attributes:
        outputs: of the last batch, shape (output_size, lanes), a sample a lane; made by the subclass.
        douts: gradients of the loss by `outputs`, of their shape, zero beyond the batch.
    """

    outputs: FloatArray
    douts: FloatArray

    def __init__(
        self,
        network: nn.Module,
        data: TrainingSet,
        loss: Loss,
        settings: TrainingSettings,
        penalties: Penalties = NO_PENALTIES,
        *,
        places: IntArray,
        size: int,
    ) -> None:
        """Copy the parameters."""
        self.network = network
        self.data = data
        self.loss = loss
        self.loss_gradient = loss_gradient_of(loss)
        self.settings = settings
        self.target_array = data.targets.numpy()
        self.steps = 0
        self.places = places
        self.weights: FloatArray = np.zeros(size, np.float32)
        self.weights[places] = nn.utils.parameters_to_vector(network.parameters()).detach().numpy()
        self.gradient = np.zeros_like(self.weights)
        self.moments = np.zeros((3, size), np.float32)
        self.moments[2] = self.weights
        self.penalties = self._flat_penalties(penalties) if penalties else None

    @abstractmethod
    def _forward(self, indices: IntArray) -> None:
        """Fill ``self.outputs`` for the batch ``indices``, shape (batch,), and keep what `_backward` needs."""

    @abstractmethod
    def _backward(self, batch: int) -> None:
        """Fill ``self.gradient`` from ``self.douts``, for the last batch, of that many samples."""

    def step(self, indices: Tensor, learning_rate: float) -> float:
        """Take one step of gradient descent.

        Args:
            indices: the batch, shape (batch,).
            learning_rate: of the step.
        """
        loss = self.value_and_gradient(indices)
        self.steps += 1
        update(
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
            indices: the batch, shape (batch,), at most ``settings.batch_size`` samples.

        Raises:
            ValueError: it is larger than the workspace.
            IndexError: an index is not one of a sample.
        """
        batch = len(indices)
        if batch > self.settings.batch_size:
            raise ValueError(f"a batch of {batch} samples where {self.settings.batch_size} were announced")
        self._forward(indices.numpy())
        value, gradient = self._loss_and_gradient(self.outputs[:, :batch].T, indices)
        self.douts[:, :batch] = gradient.T
        self.douts[:, batch:] = 0.0
        self._backward(batch)
        penalty = 0.0
        if self.penalties is not None:
            penalty = add_penalty(self.weights, self.gradient, *self.penalties)
        return value + penalty

    def _loss_and_gradient(self, outputs: FloatArray, indices: Tensor) -> tuple[float, FloatArray]:
        """Return a batch's loss and its gradient by the outputs, from the task itself or by autograd.

        Args:
            outputs: shape (batch, output_size), as the gradient's.
            indices: the batch, shape (batch,).
        """
        if self.loss_gradient is not None:
            known = self.loss_gradient(self.settings.loss, outputs, self.target_array[indices.numpy()])
            if known is not None:
                return known
        leaf = torch.from_numpy(outputs).requires_grad_()
        value = self.loss(self.settings.loss, leaf, self.data.targets[indices])
        (gradient,) = torch.autograd.grad(value, leaf)
        return value.item(), gradient.numpy()

    def flat_gradient(self) -> FloatArray:
        """Return the last gradient in the order of ``network.parameters()``, flattened, shape (parameters,)."""
        flat: FloatArray = self.gradient[self.places]
        return flat

    def snapshot(self) -> nn.Module:
        """Return a copy of the network as `finish` would leave it now."""
        network = copy.deepcopy(self.network)
        self._complete(network, SNAPSHOT_SAMPLES)
        return network

    def finish(self) -> None:
        """Write the averaged weights into the network, and the statistics that go with them."""
        self._complete(self.network, STATISTICS_SAMPLES)

    def _complete(self, network: nn.Module, statistics: int) -> None:
        """Make a copy of the network, or itself, what comes out of the steps so far; ``statistics`` samples' norms."""
        average = torch.from_numpy(self.moments[2][self.places])
        with torch.no_grad():
            nn.utils.vector_to_parameters(average, network.parameters())
        refresh_batch_norms(network, self.data, most=statistics)
        network.eval()

    def _flat_penalties(self, penalties: Penalties) -> tuple[FloatArray, FloatArray]:
        """Return the coefficients l1 and l2 of every parameter in the kernel's order, shape (weights,) each."""
        coefficients = np.zeros((2, len(self.weights)), np.float32)
        start = 0
        for name, parameter in self.network.named_parameters():
            stop = start + parameter.numel()
            if name in penalties:
                coefficients[0, self.places[start:stop]] = penalties[name].l1
                coefficients[1, self.places[start:stop]] = penalties[name].l2
            start = stop
        return coefficients[0], coefficients[1]


@entry_point("f8(f4[::1], f4[::1], f4[::1], f4[::1])")
def add_penalty(weights: FloatArray, gradient: FloatArray, l1: FloatArray, l2: FloatArray) -> float:
    """Add the gradient of sum(l1 |w|) + sum(l2 w^2) and return that sum; all of shape (weights,)."""
    penalty = 0.0
    for n in range(len(weights)):
        w = weights[n]
        gradient[n] += l1[n] * np.sign(w) + np.float32(2.0) * l2[n] * w
        penalty += l1[n] * abs(w) + l2[n] * w * w
    return penalty


@entry_point("void(f4[::1], f4[::1], f4[:, ::1], b1, f4, i8, f4, f4)")
def update(
    weights: FloatArray,
    gradient: FloatArray,
    moments: FloatArray,
    adam: bool,
    learning_rate: float,
    step: int,
    clip: float,
    averaging: float,
) -> None:
    """Clip the gradient by its norm, take an optimizer step, and move the average of the weights.

    As ``torch.nn.utils.clip_grad_norm_``, ``torch.optim.Adam`` (0.9, 0.999, 1e-8) or ``torch.optim.RMSprop``
    (0.9, 1e-7), and ``torch.lerp`` do it.

    Args:
        weights: all parameters, shape (weights,), changed.
        gradient: theirs, of that shape, changed.
        moments: shape (3, weights): mean of the gradient, of its square, and average of the weights;
            changed.
        adam: or RMSProp.
        learning_rate: of this step.
        step: its number, from 1.
        clip: bound on the gradient's norm.
        averaging: weight of the new weights in the average.
    """
    squares = 0.0
    for n in range(len(gradient)):
        squares += gradient[n] * np.float64(gradient[n])
    factor = np.float32(clip / (np.sqrt(squares) + 1e-6))
    if factor > 1.0:  # NaN is not, and spreads, as it should
        factor = np.float32(1.0)
    mean, square, average = moments[0], moments[1], moments[2]
    one = np.float32(1.0)
    if adam:
        beta1, beta2 = np.float32(0.9), np.float32(0.999)
        rate = np.float32(learning_rate / (1.0 - 0.9**step))
        correction = np.float32(np.sqrt(1.0 - 0.999**step))
        for n in range(len(weights)):
            g = gradient[n] * factor
            mean[n] += (g - mean[n]) * (one - beta1)
            square[n] = square[n] * beta2 + g * g * (one - beta2)
            weights[n] -= rate * mean[n] / (np.sqrt(square[n]) / correction + np.float32(1e-8))
            average[n] += np.float32(averaging) * (weights[n] - average[n])
    else:
        alpha = np.float32(0.9)
        for n in range(len(weights)):
            g = gradient[n] * factor
            square[n] = square[n] * alpha + g * g * (one - alpha)
            weights[n] -= np.float32(learning_rate) * g / (np.sqrt(square[n]) + np.float32(1e-7))
            average[n] += np.float32(averaging) * (weights[n] - average[n])


def aligned_zeros(size: int) -> FloatArray:
    """Return zeros, shape (size,), that start at a cache line, so that no load crosses one."""
    line = 64
    memory = np.zeros(4 * size + line, np.uint8)
    offset = -memory.ctypes.data % line
    return memory[offset : offset + 4 * size].view(np.float32)
