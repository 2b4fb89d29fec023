"""Trains every candidate from scratch, then quantizes it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from pydantic import Field

from qanas.core.candidate import Candidate
from qanas.core.errors import TrainingFailed
from qanas.core.seeds import derive_seed
from qanas.performance_estimation.base import Estimator, TrainedNetwork
from qanas.performance_estimation.problem import Problem, scheme_of
from qanas.quantization.quantized_graph import QuantizedGraph
from qanas.quantization.tracing import trace
from qanas.search_space.training_group import TrainingSettings
from qanas.training.fit import OnEpoch, TrainingSet, fit


@dataclass(frozen=True)
class FullTraining(Estimator):
    """Full training and post-training quantization with min-max ranges.

    Attributes:
        epochs: passes over the data.
        calibration_samples: training samples, spread evenly over the split, whose ranges are taken.
    """

    epochs: Annotated[int, Field(ge=1)] = 100
    calibration_samples: Annotated[int, Field(ge=1)] = 2048

    def train(
        self, problem: Problem, candidate: Candidate, seed: int, on_epoch: OnEpoch | None = None
    ) -> TrainedNetwork:
        """Return the candidate, trained and quantized."""
        network = problem.build(candidate, derive_seed(seed, "weights"))
        split = problem.data.train
        data = TrainingSet(torch.from_numpy(split.inputs), torch.from_numpy(split.targets))
        settings = TrainingSettings.from_group(candidate.training)
        start = time.process_time()
        order = derive_seed(seed, "order")
        fit(network, data, problem.task.loss, settings, epochs=self.epochs, seed=order, on_epoch=on_epoch)
        train_seconds = time.process_time() - start
        return TrainedNetwork(network, self._quantize(problem, candidate, network), train_seconds)

    def _quantize(self, problem: Problem, candidate: Candidate, network: torch.nn.Module) -> QuantizedGraph:
        graph = trace(network, problem.data.input_shape)
        inputs = problem.data.train.inputs
        chosen = np.unique(np.linspace(0, len(inputs) - 1, self.calibration_samples).astype(np.int64))
        try:
            ranges = graph.calibrate(torch.from_numpy(inputs[chosen]))
        except ValueError as error:
            raise TrainingFailed(f"the trained network can't be quantized: {error}") from error
        return QuantizedGraph.quantize(graph, ranges, scheme_of(candidate))
