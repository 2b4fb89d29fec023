"""Trains every candidate from scratch, then quantizes it."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from qanas.core.candidate import Candidate
from qanas.core.errors import TrainingFailed
from qanas.core.seeds import derive_seed
from qanas.performance_estimation.base import Estimator, TrainedNetwork
from qanas.performance_estimation.problem import Problem
from qanas.performance_estimation.training_cache import TrainingCache
from qanas.quantization.graph import Graph
from qanas.quantization.operators.base import Ranges
from qanas.quantization.quantization_aware import FakeQuantizedGraph
from qanas.quantization.quantized_graph import QuantizedGraph
from qanas.quantization.ranges import check_samples
from qanas.quantization.scheme import WHOLE_BITS, Scheme
from qanas.quantization.tracing import trace
from qanas.search_space.training_group import TrainingSettings
from qanas.training.fit import OnEpoch, fit

QAT_RATE = 0.3
"""The learning rate of quantization-aware training, relative to the candidate's own.

Of 0.04, 0.1, 0.3 and 1 it was the best or within noise of it on validation data of FD001, whether the candidate's own
was 0.0025, 0.005 or 0.02: a tenth leaves much of what 4 bits cost when it is low, the whole spoils it when it is high.
"""


@dataclass(frozen=True)
class FullTraining(Estimator):
    """Full training and post-training quantization; quantization-aware training if asked for.

    Quantization-aware training goes on from the trained network with `QAT_RATE` times its learning rate, falling to 0
    along a half cosine; optimizer, batch size, loss and clipping stay. Ranges are taken before it and anew after it.

    Attributes:
        epochs: passes over the data.
        calibration_samples: training samples, spread evenly over the split, whose ranges are taken.
        cache: a folder that trained weights are kept in and taken from, for runs that train the same candidates
            with the same seeds on the same data; None to train always.
        qat_epochs: further passes of quantization-aware training for candidates with weights of fewer than 8 bits.
    """

    epochs: Annotated[int, Field(ge=1)] = 100
    calibration_samples: Annotated[int, Field(ge=1)] = 2048
    qat_epochs: Annotated[int, Field(ge=0)] = 0
    cache: str | None = None

    def train(
        self, problem: Problem, candidate: Candidate, seed: int, on_epoch: OnEpoch | None = None
    ) -> TrainedNetwork:
        """Return the candidate, trained and quantized. Epochs of quantization-aware training are not told.

        A seed network whose weights are the user's is not trained.
        """
        network, train_seconds = problem.pretrained(candidate), 0.0
        if network is None:
            network, train_seconds = self._trained(problem, candidate, seed, on_epoch)
        start = time.process_time()
        quantized = self.quantize(problem, candidate, network, seed)
        return TrainedNetwork(network, quantized, train_seconds + time.process_time() - start)

    def _trained(
        self, problem: Problem, candidate: Candidate, seed: int, on_epoch: OnEpoch | None
    ) -> tuple[nn.Module, float]:
        """Return the candidate with trained weights, from the cache if they are there, and their CPU seconds."""
        network = problem.build(candidate, derive_seed(seed, "weights"))
        if self.cache is None:
            return network, self._fit(problem, candidate, network, seed, on_epoch)
        cache = TrainingCache(Path(self.cache))
        path = cache.path(problem, candidate, seed, self.epochs)
        train_seconds = cache.load(path, network)
        if train_seconds is None:
            train_seconds = self._fit(problem, candidate, network, seed, on_epoch)
            cache.keep(path, network, train_seconds)
        return network, train_seconds

    def _fit(
        self, problem: Problem, candidate: Candidate, network: nn.Module, seed: int, on_epoch: OnEpoch | None
    ) -> float:
        """Train a network in place; return the CPU seconds."""
        start = time.process_time()
        settings = TrainingSettings.from_group(candidate.training)
        order = derive_seed(seed, "order")
        fit(
            network,
            problem.training_set(derive_seed(seed, "augmentation")),
            problem.task.loss,
            settings,
            epochs=self.epochs,
            seed=order,
            penalties=problem.networks.penalties(candidate, network),
            on_epoch=on_epoch,
        )
        return time.process_time() - start

    def quantize(self, problem: Problem, candidate: Candidate, network: nn.Module, seed: int) -> QuantizedGraph:
        """Return a trained network as it ships, after quantization-aware training where its weights have few bits."""
        graph = trace(network, problem.data.input_shape)
        samples = self._calibration_samples(problem)
        scheme = problem.scheme_of(candidate)
        if self.qat_epochs and scheme.fewest_weight_bits < WHOLE_BITS:
            rounded = FakeQuantizedGraph(graph, _ranges(graph, samples, scheme), scheme)
            settings = TrainingSettings.from_group(candidate.training)
            settings = replace(settings, learning_rate=QAT_RATE * settings.learning_rate, scheduler="cosine")
            data = problem.training_set(derive_seed(seed, "quantization-aware augmentation"))
            order = derive_seed(seed, "quantization-aware order")
            fit(rounded, data, problem.task.loss, settings, epochs=self.qat_epochs, seed=order)
            graph = rounded.graph()
        return QuantizedGraph.quantize(graph, _ranges(graph, samples, scheme), scheme)

    def check(self, problem: Problem) -> None:
        """Refuse data whose calibration samples have no range."""
        self._calibration_samples(problem)

    def _calibration_samples(self, problem: Problem) -> Tensor:
        inputs = problem.data.train.inputs
        chosen = np.unique(np.linspace(0, max(len(inputs) - 1, 0), self.calibration_samples).astype(np.int64))
        samples = torch.from_numpy(inputs[chosen[: len(inputs)]])
        check_samples(samples, problem.data.input_shape, "task: training data")
        return samples


def _ranges(graph: Graph, samples: Tensor, scheme: Scheme) -> dict[str, Ranges]:
    try:
        return graph.calibrate(samples, scheme)
    except ValueError as error:
        raise TrainingFailed(f"the trained network can't be quantized: {error}") from error
