"""Trains every candidate from scratch, then quantizes it."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from qanas.core.candidate import Candidate
from qanas.core.errors import InputError, TrainingFailed
from qanas.core.even_spread import evenly_spread
from qanas.core.seeds import derive_seed
from qanas.performance_estimation.base import Estimator, OnCandidateEpoch, TrainedNetwork
from qanas.performance_estimation.problem import Problem
from qanas.performance_estimation.training_cache import TrainingCache
from qanas.quantization.graph import Graph
from qanas.quantization.quantization_aware import FakeQuantizedGraph
from qanas.quantization.quantized_graph import QuantizedGraph
from qanas.quantization.ranges import Ranges, check_samples
from qanas.quantization.scheme import WHOLE_BITS, Scheme
from qanas.quantization.tracing import trace
from qanas.search_space.training_group import TrainingSettings
from qanas.training.batched.fit_many import fit_many
from qanas.training.batched.request import FitRequest
from qanas.training.fit import OnEpoch, fit, log_once

QAT_RATE = 0.3
"""The learning rate of quantization-aware training, relative to the candidate's own.

Of 0.04, 0.1, 0.3 and 1 it was the best or within noise of it on validation data of FD001, whether the candidate's own
was 0.0025, 0.005 or 0.02: a tenth leaves much of what 4 bits cost when it is low, the whole spoils it when it is high.
"""


@dataclass(frozen=True)
class _Begun:
    """A candidate before or after its training.

    Attributes:
        candidate: what is trained.
        seed: with which.
        network: its network.
        path: where the cache keeps its weights; None without one.
        train_seconds: CPU seconds that training took; None where it has to be trained.
    """

    candidate: Candidate
    seed: int
    network: nn.Module
    path: Path | None
    train_seconds: float | None

    def request(self, problem: Problem, on_epoch: OnEpoch) -> FitRequest:
        """Return the training that it has to have."""
        return FitRequest(
            self.network,
            TrainingSettings.from_group(self.candidate.training),
            derive_seed(self.seed, "order"),
            problem.networks.penalties(self.candidate, self.network),
            on_epoch,
        )

    def trained_in(self, seconds: float) -> _Begun:
        """Return it as trained, its weights kept for other runs."""
        if self.path is not None:
            TrainingCache.keep(self.path, self.network, seconds)
        return replace(self, train_seconds=seconds)


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
        batch: candidates that are trained in one batched graph, see `qanas.training.batched`; 1: each by the fastest
            trainer of its own.
        device: where batches are trained; all else, single trainings included, is done on the CPU.
    """

    epochs: Annotated[int, Field(ge=1)] = 100
    calibration_samples: Annotated[int, Field(ge=1)] = 2048
    qat_epochs: Annotated[int, Field(ge=0)] = 0
    cache: str | None = None
    batch: Annotated[int, Field(ge=1, le=1024)] = 1
    device: Literal["cpu", "cuda"] = "cpu"

    def train(
        self, problem: Problem, candidate: Candidate, seed: int, on_epoch: OnEpoch | None = None
    ) -> TrainedNetwork:
        """Return the candidate, trained and quantized. Epochs of quantization-aware training are not told.

        A seed network whose weights are the user's is not trained.
        """
        begun = self._begin(problem, candidate, seed)
        if begun.train_seconds is None:
            start = time.process_time()
            fit(
                begun.network,
                problem.training_set(derive_seed(seed, "augmentation")),
                problem.task.loss,
                TrainingSettings.from_group(candidate.training),
                epochs=self.epochs,
                seed=derive_seed(seed, "order"),
                penalties=problem.networks.penalties(candidate, begun.network),
                on_epoch=on_epoch,
            )
            begun = begun.trained_in(time.process_time() - start)
        return self._quantized(problem, begun)

    def train_many(
        self, problem: Problem, candidates: Sequence[tuple[Candidate, int]], on_epoch: OnCandidateEpoch
    ) -> list[TrainedNetwork | Exception]:
        """Return each candidate, trained in a batch with the others as far as it can be, and quantized.

        Processor seconds of the batch are shared equally.
        """
        data = problem.training_set(0)
        if data.augment is not None:
            log_once(logging.INFO, "trained one by one: the task changes its samples at random")
            return super().train_many(problem, candidates, on_epoch)
        begun = [self._begin(problem, candidate, seed) for candidate, seed in candidates]
        waiting = [position for position, entry in enumerate(begun) if entry.train_seconds is None]
        requests = [begun[position].request(problem, partial(on_epoch, position)) for position in waiting]
        start = time.process_time()
        failures = fit_many(requests, data, problem.task.loss, epochs=self.epochs, device=self.device)
        seconds = (time.process_time() - start) / max(len(waiting), 1)
        failed: dict[int, Exception] = {}
        for position, failure in zip(waiting, failures, strict=True):
            if failure is None:
                begun[position] = begun[position].trained_in(seconds)
            else:
                failed[position] = failure
        return [failed.get(position) or self._try_quantized(problem, entry) for position, entry in enumerate(begun)]

    def _begin(self, problem: Problem, candidate: Candidate, seed: int) -> _Begun:
        """Return a candidate with the weights that training starts from, or with trained ones where there are any."""
        network = problem.pretrained(candidate)
        if network is not None:
            return _Begun(candidate, seed, network, None, 0.0)
        network = problem.build(candidate, derive_seed(seed, "weights"))
        if self.cache is None:
            return _Begun(candidate, seed, network, None, None)
        path = TrainingCache(Path(self.cache)).path(problem, candidate, seed, self.epochs)
        return _Begun(candidate, seed, network, path, TrainingCache.load(path, network))

    def _quantized(self, problem: Problem, begun: _Begun) -> TrainedNetwork:
        """Quantize a trained candidate."""
        start = time.process_time()
        quantized = self.quantize(problem, begun.candidate, begun.network, begun.seed)
        return TrainedNetwork(begun.network, quantized, (begun.train_seconds or 0.0) + time.process_time() - start)

    def _try_quantized(self, problem: Problem, begun: _Begun) -> TrainedNetwork | Exception:
        try:
            return self._quantized(problem, begun)
        except Exception as error:  # noqa: BLE001 - one candidate's defect must not lose the others
            return error

    def quantize(self, problem: Problem, candidate: Candidate, network: nn.Module, seed: int) -> QuantizedGraph:
        """Return a trained network as it ships, after quantization-aware training where its weights have few bits."""
        graph = trace(network, problem.data.input_shape)
        samples = self._calibration_samples(problem)
        scheme = problem.scheme_of(candidate, graph.shapes)
        epochs = self._rounded_epochs(scheme)
        if epochs:
            rounded = FakeQuantizedGraph(graph, _ranges(graph, samples, scheme), scheme)
            settings = TrainingSettings.from_group(candidate.training)
            settings = replace(settings, learning_rate=QAT_RATE * settings.learning_rate, scheduler="cosine")
            data = problem.training_set(derive_seed(seed, "quantization-aware augmentation"))
            order = derive_seed(seed, "quantization-aware order")
            fit(rounded, data, problem.task.loss, settings, epochs=epochs, seed=order)
            graph = rounded.graph()
        return QuantizedGraph.quantize(graph, _ranges(graph, samples, scheme), scheme)

    def rounded_epochs(self, problem: Problem, candidate: Candidate) -> int:
        """Return the epochs of quantization-aware training: none where all weights have 8 bits."""
        return self._rounded_epochs(problem.scheme_of(candidate, problem.skeleton(candidate).graph.shapes))

    def _rounded_epochs(self, scheme: Scheme) -> int:
        return self.qat_epochs if scheme.fewest_weight_bits < WHOLE_BITS else 0

    def check(self, problem: Problem) -> None:
        """Refuse data whose calibration samples have no range, and a device that can't be used."""
        self._calibration_samples(problem)
        if self.device == "cuda" and self.batch == 1:
            raise InputError('estimation.device = "cuda" is for batches: set estimation.batch, for instance to 32')
        if self.device == "cuda" and not torch.cuda.is_available():
            raise InputError('estimation.device = "cuda", but torch finds no CUDA device: leave it out to use the CPU')

    def _calibration_samples(self, problem: Problem) -> Tensor:
        inputs = problem.data.train.inputs
        samples = torch.from_numpy(inputs[evenly_spread(len(inputs), self.calibration_samples)])
        check_samples(samples, problem.data.input_shape, "task: training data")
        return samples


def _ranges(graph: Graph, samples: Tensor, scheme: Scheme) -> dict[str, Ranges]:
    try:
        return graph.calibrate(samples, scheme)
    except ValueError as error:
        raise TrainingFailed(f"the trained network can't be quantized: {error}") from error
