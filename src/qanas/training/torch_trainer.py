"""Any network, on any device, through torch's autograd."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from qanas.core.errors import TrainingFailed
from qanas.quantization.border import alone, named_parts
from qanas.search_space.training_group import TrainingSettings
from qanas.training.pointwise import strides_first
from qanas.training.trainer import (
    IMAGE_AXES,
    NO_PENALTIES,
    SNAPSHOT_SAMPLES,
    Loss,
    Penalties,
    TrainingSet,
    channels_last,
    ema_weight,
    refresh_batch_norms,
)

# ------------------------------------------------ the order in which values lie in memory


def flattened(weights: Tensor) -> Tensor:
    """Return weights as one vector, shape (n,), those of two-dimensional convolutions with the input channels last."""
    return (weights.permute(0, 2, 3, 1) if weights.ndim == IMAGE_AXES else weights).reshape(-1)


def unflattened(vector: Tensor, shape: torch.Size) -> Tensor:
    """Return the part of a vector, shape (n,), that `flattened` made of weights, as a view of their shape."""
    if len(shape) != IMAGE_AXES:
        return vector.view(shape)
    out, inner, rows, columns = shape
    return vector.view(out, rows, columns, inner).permute(0, 3, 1, 2)


class FlatParameters:
    """The trainable parameters of a network as parts of one vector, and their gradients of another.

    An optimizer's step costs by the tensor more than by the weight: small networks have dozens of small tensors, and
    clipping, the optimizer and the weight average would spend their time on the number of them. While this exists, a
    change of `values` is a change of the network.

    Args:
        parameters: of one type, on one device.

    Attributes:
        values: shape (n,).
        gradient: shape (n,); backward passes add to it.
    """

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        """Copy the parameters into one vector, and let them be views of it.

        Raises:
            TrainingFailed: there are none.
        """
        self.parameters = list(parameters)
        if not self.parameters:
            raise TrainingFailed("the network has no weights to be trained")
        self.values = torch.cat([flattened(parameter.detach()) for parameter in self.parameters])
        self.gradient = torch.zeros_like(self.values)
        parts = zip(self.parameters, self._split(self.values), self._split(self.gradient), strict=True)
        for parameter, value, gradient in parts:
            parameter.data = value
            parameter.grad = gradient

    def _split(self, vector: Tensor) -> list[Tensor]:
        """Return the parts of a vector, shape (n,), each of its parameter's shape."""
        parts = torch.split(vector, [parameter.numel() for parameter in self.parameters])
        return [unflattened(part, p.shape) for part, p in zip(parts, self.parameters, strict=True)]

    def copy_to(self, network: nn.Module, values: Tensor) -> None:
        """Give a copy of the network ``values``, shape (n,), in memory of its own."""
        parameters = (parameter for parameter in network.parameters() if parameter.requires_grad)
        for parameter, value in zip(parameters, self._split(values), strict=True):
            parameter.data = value.clone(memory_format=torch.contiguous_format)

    def release(self, values: Tensor) -> None:
        """Give the parameters ``values``, shape (n,), each in memory of its own, and no gradient."""
        for parameter, value in zip(self.parameters, self._split(values), strict=True):
            parameter.data = value.clone(memory_format=torch.contiguous_format)
            parameter.grad = None


# ------------------------------------------------ the trainer


class TorchTrainer:
    """Any network, on any device.

    Batches are drawn and changed at random on the CPU, so that they are the same on every device.

    Args:
        network: on the CPU; trained in place, on the device until `finish`.
        data: on the CPU.
        loss: the task's loss.
        settings: how to train.
        penalties: on the weights.
        device: as torch names it.
    """

    def __init__(
        self,
        network: nn.Module,
        data: TrainingSet,
        loss: Loss,
        settings: TrainingSettings,
        penalties: Penalties = NO_PENALTIES,
        device: str = "cpu",
    ) -> None:
        """Create the optimizer and the averages."""
        self.network = network.to(device)
        self.device = device
        self.data = data
        self.loss = loss
        self.settings = settings
        self.flat = FlatParameters(p for p in network.parameters() if p.requires_grad)
        self.optimizer: torch.optim.Optimizer
        if settings.optimizer == "adam":
            self.optimizer = torch.optim.Adam([self.flat.values], lr=settings.learning_rate)
        else:
            self.optimizer = torch.optim.RMSprop([self.flat.values], lr=settings.learning_rate, alpha=0.9, eps=1e-7)
        self.penalties = [(network.get_parameter(name), penalty) for name, penalty in penalties.items()]
        self.flat.values.grad = self.flat.gradient
        self.average = self.flat.values.clone()
        self.steps = 0

    def step(self, indices: Tensor, learning_rate: float) -> float:
        """Take one step of gradient descent.

        Args:
            indices: the batch, shape (batch,).
            learning_rate: of the step.
        """
        if not self.network.training:  # a walk over all modules, a tenth of a small network's step
            self.network.train()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.flat.gradient.zero_()
        inputs, targets = (values.to(self.device) for values in self.data.batch(indices))
        inputs = channels_last(inputs)
        if len(indices) == 1 and self._lacks_statistics(inputs):
            return self._untrained_loss(inputs, targets)
        with strides_first(self.network):
            outputs: Any = alone(named_parts(self.network(inputs), Tensor))
        loss = self.loss(self.settings.loss, outputs, targets)
        for weights, penalty in self.penalties:
            loss = loss + penalty.l1 * weights.abs().sum() + penalty.l2 * weights.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_([self.flat.values], self.settings.gradient_clip)
        self.optimizer.step()
        self.steps += 1
        self.average.lerp_(self.flat.values, ema_weight(self.settings.ema_decay, self.steps))
        return loss.item()

    @torch.no_grad()
    def _lacks_statistics(self, inputs: Tensor) -> bool:
        """Tell whether a batch norm refuses a batch, shape (1, *input_shape): one value a channel has no deviation."""
        if not any(isinstance(module, _BatchNorm) for module in self.network.modules()):
            return False
        try:
            with torch.random.fork_rng(devices=[]):
                copy.deepcopy(self.network)(inputs)
        except ValueError as error:
            return "more than 1 value per channel" in str(error)
        return False

    @torch.no_grad()
    def _untrained_loss(self, inputs: Tensor, targets: Tensor) -> float:
        """Return the loss of a batch that nothing can be learnt from, shapes (1, *input_shape) and (1, ...)."""
        outputs = self.network.eval()(inputs)
        return float(self.loss(self.settings.loss, outputs, targets))

    def snapshot(self) -> nn.Module:
        """Return a copy of the network as `finish` would leave it now."""
        network = copy.deepcopy(self.network)
        self.flat.copy_to(network, self.average)
        refresh_batch_norms(network, self.data, self.device, SNAPSHOT_SAMPLES)
        return network.cpu().eval()

    def finish(self) -> None:
        """Write the averaged weights into the network, and the statistics that go with them."""
        self.flat.release(self.average)
        refresh_batch_norms(self.network, self.data, self.device)
        self.network.cpu().eval()
