"""What a step of a fused trainer is around its kernel's two passes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from qanas.training.fit import NO_PENALTIES, Loss, Penalties, TrainingSet, ema_weight, refresh_batch_norms
from qanas.training.fused import optimizer
from qanas.training.fused.lanes import FloatArray, IntArray

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


class FusedTrainer(ABC):
    """A network on the CPU, on one thread, whose two passes are compiled.

    Clipping, optimizer and weight average are compiled too; only the loss is the task's own. The parameters live in
    one flat array, in the kernel's order, until `finish`.

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
        """Fill ``self.outputs``, and keep what `_backward` needs."""

    @abstractmethod
    def _backward(self, batch: int) -> None:
        """Fill ``self.gradient`` from ``self.douts``, for the last batch, of that many samples."""

    def step(self, indices: Tensor, learning_rate: float) -> float:
        """Take one step of gradient descent."""
        loss = self.value_and_gradient(indices)
        self.steps += 1
        optimizer.update(
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
        self._forward(indices.numpy())
        value, gradient = self._loss_and_gradient(self.outputs[:, :batch].T, indices)
        self.douts[:, :batch] = gradient.T
        self.douts[:, batch:] = 0.0
        self._backward(batch)
        penalty = 0.0
        if self.penalties is not None:
            penalty = optimizer.add_penalty(self.weights, self.gradient, *self.penalties)
        return value + penalty

    def _loss_and_gradient(self, outputs: FloatArray, indices: Tensor) -> tuple[float, FloatArray]:
        """Return a batch's loss and its gradient by the outputs, from the task itself or by autograd."""
        if self.loss_gradient is not None:
            known = self.loss_gradient(self.settings.loss, outputs, self.target_array[indices.numpy()])
            if known is not None:
                return known
        leaf = torch.from_numpy(outputs).requires_grad_()
        value = self.loss(self.settings.loss, leaf, self.data.targets[indices])
        (gradient,) = torch.autograd.grad(value, leaf)
        return value.item(), gradient.numpy()

    def flat_gradient(self) -> FloatArray:
        """Return the last gradient in the order of ``network.parameters()``, flattened."""
        flat: FloatArray = self.gradient[self.places]
        return flat

    def finish(self) -> None:
        """Write the averaged weights into the network, and the statistics that go with them."""
        average = torch.from_numpy(self.moments[2][self.places])
        with torch.no_grad():
            nn.utils.vector_to_parameters(average, self.network.parameters())
        refresh_batch_norms(self.network, self.data.inputs)
        self.network.eval()

    def _flat_penalties(self, penalties: Penalties) -> tuple[FloatArray, FloatArray]:
        """Return the coefficients l1 and l2 of every parameter, in the kernel's order."""
        coefficients = np.zeros((2, len(self.weights)), np.float32)
        start = 0
        for name, parameter in self.network.named_parameters():
            stop = start + parameter.numel()
            if name in penalties:
                coefficients[0, self.places[start:stop]] = penalties[name].l1
                coefficients[1, self.places[start:stop]] = penalties[name].l2
            start = stop
        return coefficients[0], coefficients[1]


def aligned_zeros(size: int) -> FloatArray:
    """Return zeros that start at a cache line, so that no load crosses one."""
    line = 64
    memory = np.zeros(4 * size + line, np.uint8)
    offset = -memory.ctypes.data % line
    return memory[offset : offset + 4 * size].view(np.float32)
