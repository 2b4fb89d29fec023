"""What an estimator is: the contract of all of them, and what it returns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from qanas.core.candidate import Candidate
from qanas.performance_estimation.problem import Problem
from qanas.quantization.quantized_graph import Arithmetic, QuantizedGraph
from qanas.tasks.base import FloatArray, Split
from qanas.training.fit import OnEpoch

CHUNK = 1024
"""Samples computed at a time."""

OnCandidateEpoch = Callable[[int, int, float], None]
"""Told after each epoch of one of several candidates: its position, the epoch from 1, its mean training loss."""


@dataclass(frozen=True)
class TrainedNetwork:
    """A candidate, trained and quantized.

    Attributes:
        network: the FP32 network, in evaluation mode; before quantization-aware training, where there was any.
        quantized: the network as it ships.
        train_seconds: CPU seconds that training and quantizing took, when they were done.
    """

    network: nn.Module
    quantized: QuantizedGraph
    train_seconds: float

    @torch.no_grad()
    def float_outputs(self, inputs: FloatArray) -> FloatArray:
        """Return the FP32 network's outputs, (n, output_size)."""
        chunks = [self.network(chunk) for chunk in torch.split(torch.from_numpy(inputs), CHUNK)]
        outputs: FloatArray = torch.cat(chunks).numpy()
        return outputs

    def codes(self, inputs: FloatArray, arithmetic: Arithmetic = "exact") -> Tensor:
        """Return the simulated output codes."""
        return self.quantized.codes(torch.from_numpy(inputs), arithmetic)

    def evaluate(self, problem: Problem, split: Split) -> dict[str, float]:
        """Return every metric on a split, as ``<metric>_float`` and ``<metric>_quantized``, in fast arithmetic.

        For the many networks of a search; whoever ships one holds its exact `codes` against the runtime's.
        """
        quantized = self.quantized.output.dequantize(self.codes(split.inputs, "fast")).numpy()
        by_precision = {
            "float": problem.task.evaluate(self.float_outputs(split.inputs), split),
            "quantized": problem.task.evaluate(quantized, split),
        }
        return {
            f"{metric}_{precision}": value
            for precision, metrics in by_precision.items()
            for metric, value in metrics.items()
        }


class Estimator(ABC):
    """Measures candidates. Its constructor's arguments are further keys of a recipe's ``[estimation]``."""

    epochs: int
    """Passes over the data that a candidate is given."""

    batch: int = 1
    """Candidates that `train_many` is given at a time; 1: each goes to `train`."""

    @abstractmethod
    def train(
        self, problem: Problem, candidate: Candidate, seed: int, on_epoch: OnEpoch | None = None
    ) -> TrainedNetwork:
        """Return the candidate, trained and quantized; the result depends on the arguments alone.

        Raises:
            TrainingFailed: the candidate can't be scored, with the reason.
        """

    def train_many(
        self, problem: Problem, candidates: Sequence[tuple[Candidate, int]], on_epoch: OnCandidateEpoch
    ) -> list[TrainedNetwork | Exception]:
        """Return each candidate, trained and quantized, or what `train` would raise; here one after the other.

        Args:
            problem: what candidates are measured on.
            candidates: each with its seed. Its result depends on the two alone, but for rounding.
            on_epoch: told after every epoch.
        """
        outcomes: list[TrainedNetwork | Exception] = []
        for position, (candidate, seed) in enumerate(candidates):
            try:
                outcomes.append(self.train(problem, candidate, seed, partial(on_epoch, position)))
            except Exception as error:  # noqa: BLE001 - one candidate's defect must not lose the others
                outcomes.append(error)
        return outcomes

    @abstractmethod
    def quantize(self, problem: Problem, candidate: Candidate, network: nn.Module, seed: int) -> QuantizedGraph:
        """Return a trained network as it ships under the problem's scheme; the network stays as it is.

        Args:
            problem: what candidates are measured on.
            candidate: whose network it is.
            network: as `TrainedNetwork` has it.
            seed: that it was trained with.

        Raises:
            TrainingFailed: it can't be quantized, with the reason.
        """

    def rounded_epochs(self, problem: Problem, candidate: Candidate) -> int:
        """Return the further passes over the data that a candidate gets with its weights and values rounded."""
        del problem, candidate
        return 0

    def check(self, problem: Problem) -> None:
        """Refuse, before anything is trained, data that no candidate can be measured on.

        Raises:
            InputError: names what is wrong with it.
        """
        del problem
