"""Trains several LSTM networks at once, each as if it were alone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from qanas.core.errors import TrainingFailed
from qanas.networks.lstm import LSTMNetwork
from qanas.training.batched.cuda_graph import captured
from qanas.training.batched.losses import CandidateLosses, LossRecord
from qanas.training.batched.optimizer import BatchedOptimizer
from qanas.training.batched.padded_lstms import PaddedLSTMs
from qanas.training.batched.request import FitRequest
from qanas.training.fit import Loss, TrainingSet, diverged


class BatchedTrainer:
    """Candidates of one batch size, input size and output size; all else may differ.

    A step takes the next batch of every candidate's own order of samples, all at once. What a step needs is on the
    device before an epoch starts, and what comes out stays there until it ends: on a GPU an epoch is the replay of a
    CUDA graph. No GPU has run it so far: what the tests show, they have shown on the CPU.

    Args:
        requests: `qanas.training.batched.support.supports` has nothing against any of them.
        data: on the CPU.
        loss: of one candidate.
        epochs: passes over the data.
        device: where to compute.

    Attributes:
        weights: a row for each candidate, see `PaddedLSTMs`.
    """

    def __init__(
        self, requests: Sequence[FitRequest], data: TrainingSet, loss: Loss, *, epochs: int, device: torch.device
    ) -> None:
        """Copy data and parameters to the device."""
        self.requests = requests
        settings = [request.settings for request in requests]
        networks = [cast("LSTMNetwork", request.network) for request in requests]
        self.inputs, self.targets = data.inputs.to(device), data.targets.to(device)
        self.device = device
        self.layout = PaddedLSTMs(networks, device)
        self.weights = self._initial_weights()
        self.optimizer = BatchedOptimizer(settings, self.weights)
        self.losses = CandidateLosses(loss, [entry.loss for entry in settings], device)
        self.penalties = self._penalties()
        self.record = LossRecord(len(requests), device)
        self.steps = torch.zeros(1, dtype=torch.int64, device=device)
        self.generators = [torch.Generator().manual_seed(request.seed) for request in requests]
        self._plan_epoch(settings[0].batch_size, epochs)

    def _plan_epoch(self, batch_size: int, epochs: int) -> None:
        """Make room for what an epoch's steps need, and make the steps: of whole batches, and of the rest."""
        samples, candidates = len(self.inputs), len(self.requests)
        self.batch_size = batch_size
        whole, rest = divmod(samples, batch_size)
        self.steps_by_epoch = whole + (rest > 0)
        self.total = epochs * self.steps_by_epoch
        self.factors = torch.ones(self.steps_by_epoch, 3, candidates, 1, device=self.device)
        sizes = [(whole, batch_size), (int(rest > 0), rest)]
        self.orders = [
            torch.zeros(steps, candidates, size, dtype=torch.int64, device=self.device) for steps, size in sizes
        ]
        state = [*self.optimizer.state, *self.record.state, self.steps]
        self._step_kinds = [
            (len(order), captured(partial(self._step, order), state, self.device))
            for order in self.orders
            if len(order)
        ]

    def epoch(self) -> list[float]:
        """Train for one epoch; return the candidates' mean losses."""
        self._prepare_epoch()
        for times, step in self._step_kinds:
            for _ in range(times):
                step()
        return [value / len(self.inputs) for value in self.record.summed.tolist()]

    def lost(self) -> list[TrainingFailed | None]:
        """Return which candidates' losses have become NaN or infinite, and when."""
        found = zip(self.record.lost_at.tolist(), self.record.lost_loss.tolist(), strict=True)
        return [diverged(loss, (step - 1) // self.steps_by_epoch + 1, step) if step else None for step, loss in found]

    def finish(self, number: int) -> None:
        """Write the averaged weights of a candidate into its network."""
        network = self.requests[number].network
        average = self.optimizer.average[number].cpu()[torch.from_numpy(self.layout.places[number])]
        with torch.no_grad():
            nn.utils.vector_to_parameters(average, network.parameters())
        network.eval()

    def value_and_gradient(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return the candidates' losses, penalties included, and the gradients of their rows.

        Args:
            indices: each candidate's batch, shape (candidates, samples).

        Returns:
            Shapes (candidates,) and (candidates, size).
        """
        parts = [part.detach().requires_grad_() for part in self.layout.split(self.weights)]
        values = self.losses(self.layout.outputs(parts, self.inputs[indices]), self.targets[indices])
        gradients = torch.autograd.grad(values.sum(), parts)
        gradient = torch.cat([part.flatten(1) for part in gradients], dim=1)
        values = values.detach()
        if self.penalties is not None:
            l1, l2 = self.penalties
            gradient = gradient + l1 * self.weights.sign() + 2.0 * l2 * self.weights
            values = values + (l1 * self.weights.abs() + l2 * self.weights.square()).sum(dim=1)
        return values, gradient

    def _step(self, order: Tensor) -> None:
        """Take the next step.

        Args:
            order: the batches of an epoch of this size, shape (steps, candidates, samples).
        """
        position = self.steps % self.steps_by_epoch
        indices = order.index_select(0, position % len(order))[0]
        values, gradient = self.value_and_gradient(indices)
        self.optimizer.step(gradient, self.factors.index_select(0, position)[0])
        self.steps.add_(1)
        self.record.note(values, indices.shape[1], self.steps)

    def _prepare_epoch(self) -> None:
        """Draw each candidate's order of samples as `fit` does, and compute its learning rates."""
        done = int(self.steps.item())
        order = torch.stack([torch.randperm(len(self.inputs), generator=generator) for generator in self.generators])
        whole = len(self.orders[0]) * self.batch_size
        by_step = order[:, :whole].reshape(len(order), len(self.orders[0]), self.batch_size)
        self.orders[0].copy_(by_step.transpose(0, 1))
        if len(self.orders[1]):
            self.orders[1].copy_(order[None, :, whole:])
        steps = range(done + 1, done + self.steps_by_epoch + 1)
        self.factors.copy_(torch.stack([self.optimizer.factors(step, self.total) for step in steps]))
        self.record.summed.zero_()

    def _initial_weights(self) -> Tensor:
        weights = torch.zeros(len(self.requests), self.layout.size)
        for row, request, places in zip(weights, self.requests, self.layout.places, strict=True):
            row[torch.from_numpy(places)] = nn.utils.parameters_to_vector(request.network.parameters()).detach()
        return weights.to(self.device)

    def _penalties(self) -> tuple[Tensor, Tensor] | None:
        """Return the coefficients l1 and l2 of every weight, of the weights' shape, or None where there are none."""
        if not any(request.penalties for request in self.requests):
            return None
        coefficients = torch.zeros(2, *self.weights.shape)
        for number, (request, places) in enumerate(zip(self.requests, self.layout.places, strict=True)):
            named = list(request.network.named_parameters())
            own = torch.split(torch.from_numpy(places), [parameter.numel() for _, parameter in named])
            for (name, _), part in zip(named, own, strict=True):
                if name in request.penalties:
                    coefficients[0, number, part] = request.penalties[name].l1
                    coefficients[1, number, part] = request.penalties[name].l2
        l1, l2 = coefficients.to(self.device)
        return l1, l2
