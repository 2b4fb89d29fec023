"""Procedures: from a candidate to a trained, quantized network."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from qanas.core.candidate import Candidate
from qanas.core.errors import InputError, TrainingFailed
from qanas.core.even_spread import evenly_spread
from qanas.core.events import Event, Watch, go_on
from qanas.core.measures import Metric
from qanas.core.seeds import derive_seed
from qanas.core.trials import CurvePoint
from qanas.performance_estimation.bench import Bench
from qanas.performance_estimation.learning import LearningCurve, Look
from qanas.performance_estimation.scoring import chunk_size, float_outputs, metrics_of
from qanas.performance_estimation.training_cache import TrainingCache
from qanas.quantization.border import alone, only
from qanas.quantization.graph import Graph
from qanas.quantization.quantization_aware import FakeQuantizedGraph
from qanas.quantization.quantized_graph import Arithmetic, QuantizedGraph
from qanas.quantization.ranges import Ranges, check_samples, joined
from qanas.quantization.scheme import WHOLE_BITS, Scheme
from qanas.quantization.tracing import trace
from qanas.search_space.start import Start
from qanas.search_space.training_group import TrainingSettings
from qanas.tasks.base import Outputs, Task
from qanas.tasks.samples import Split
from qanas.training.choice import make_trainer
from qanas.training.loop import Epochs, fit

logger = logging.getLogger("qanas")

QAT_RATE = 0.3
"""The learning rate of quantization-aware training, relative to the candidate's own.

Of 0.04, 0.1, 0.3 and 1 it was the best or within noise of it on validation data of FD001, whether the candidate's own
was 0.0025, 0.005 or 0.02: a tenth leaves much of what 4 bits cost when it is low, the whole spoils it when it is high.
"""

PROBED_STEPS = 3
PROBED_SAMPLES = 32
"""Steps that are timed for a forecast, and samples whose ranges rounded ones are rounded by."""


@dataclass(frozen=True)
class TrainedNetwork:
    """A candidate, trained and quantized.

    Attributes:
        network: the FP32 network, in evaluation mode; before quantization-aware training, where there was any.
        quantized: the network as it ships.
        train_seconds: CPU seconds that training and quantizing took, when they were done.
        curve: how it learnt; one point where weights were cached, none where a procedure doesn't say.
    """

    network: nn.Module
    quantized: QuantizedGraph
    train_seconds: float
    curve: Sequence[CurvePoint] = ()

    def float_outputs(self, split: Split) -> Outputs:
        """Return the FP32 network's outputs on all samples, shape (n, output_size, ...); several by name."""
        return float_outputs(self.network, split)

    def codes(self, split: Split, arithmetic: Arithmetic = "exact") -> Tensor:
        """Return the simulated codes of the only output on all samples, shape (n, output_size, ...)."""
        return only(list(self.codes_by_name(split, arithmetic).values()), "outputs")

    def codes_by_name(self, split: Split, arithmetic: Arithmetic = "exact") -> dict[str, Tensor]:
        """Return the simulated codes of every output on all samples, each of shape (n, output_size, ...)."""
        name = only(self.quantized.graph.border.input_names, "inputs")
        chunks = [{name: torch.from_numpy(chunk)} for chunk in split.chunks(chunk_size(split))]
        return joined([self.quantized.codes(chunk, arithmetic) for chunk in chunks])

    def evaluate(self, task: Task, split: Split) -> dict[str, float]:
        """Return every metric on a split, of the FP32 and of the quantized network by column, in fast arithmetic.

        For the many networks of a search; whoever ships one holds its exact `codes` against the runtime's.
        """
        codes, affines = self.codes_by_name(split, "fast"), self.quantized.outputs
        quantized = alone({name: affines[name].dequantize(values).numpy() for name, values in codes.items()})
        outputs: Mapping[str, Outputs] = {"float": self.float_outputs(split), "quantized": quantized}
        return {
            Metric(metric, precision).column: value  # type: ignore[arg-type]  # of the dict above
            for precision, values in outputs.items()
            for metric, value in metrics_of(task, values, split).items()
        }


class Procedure(ABC):
    """Makes a trained, quantized network of a candidate. Passes `qanas.testing.check_procedure`."""

    epochs: int
    """Passes over the data that a candidate is given."""

    notes: Mapping[str, Any] = MappingProxyType({})
    """What comes in front of the training of random weights, for cards."""

    can_be_looked_at: ClassVar[bool] = False
    """Whether it has `make_looking`, which estimators need that end trainings early."""

    @abstractmethod
    def make(self, bench: Bench, candidate: Candidate, start: Start, seed: int, watch: Watch = go_on) -> TrainedNetwork:
        """Return the candidate, trained and quantized; the result depends on the arguments but ``watch`` alone.

        Args:
            bench: what candidates are measured on.
            candidate: any of its space.
            start: the weights that it starts from; final ones are not trained.
            seed: of all that is random.
            watch: told of every epoch; training ends early where it says stop.

        Raises:
            TrainingFailed: it can't be scored, with the reason.
        """

    def make_looking(
        self, bench: Bench, candidate: Candidate, start: Start, seed: int, look: Look, watch: Watch = go_on
    ) -> TrainedNetwork:
        """Return what `make` does, while somebody looks at the network after every epoch and may end its training.

        Raises:
            TypeError: it can't be looked at, see `can_be_looked_at`.
            TrainingFailed: as `make`.
        """
        del bench, candidate, start, seed, look, watch
        raise TypeError(f"{type(self).__name__} can't be looked at while it trains")

    @abstractmethod
    def quantize(self, bench: Bench, candidate: Candidate, network: nn.Module, seed: int) -> QuantizedGraph:
        """Return a trained network as it ships under the bench's scheme; the network stays as it is.

        Args:
            bench: what candidates are measured on.
            candidate: whose network it is.
            network: as `TrainedNetwork` has it.
            seed: that it was trained with.

        Raises:
            TrainingFailed: it can't be quantized, with the reason.
        """

    def alone(self) -> Procedure:
        """Return the same procedure without what comes in front of it, for networks that aren't the space's."""
        return self

    def with_settings(self, **settings: int) -> Procedure:
        """Return the same procedure, but for some settings, such as ``epochs``.

        Raises:
            InputError: it has no such setting.
        """
        unknown = sorted(settings.keys() - getattr(self, "__dataclass_fields__", {}).keys())
        if unknown:
            raise InputError(f"finalists.{unknown[0]}: {type(self).__name__} has no such setting; leave it out")
        changed: Procedure = replace(self, **settings)  # type: ignore[type-var]  # it has fields, see above
        return changed

    def check(self, bench: Bench) -> None:
        """Refuse, before anything is trained, what no candidate can be measured on.

        Raises:
            InputError: names what is wrong with it.
        """
        del bench

    @abstractmethod
    def forecast(self, bench: Bench, candidate: Candidate) -> float:
        """Return about how many CPU seconds `make` will take, without doing it."""


@dataclass(frozen=True)
class FullTraining(Procedure):
    """Training from the start's weights and post-training quantization; quantization-aware training if asked for.

    Quantization-aware training goes on from the trained network with `QAT_RATE` times its learning rate, falling to 0
    along a half cosine; optimizer, batch size, loss and clipping stay. Ranges are taken before it and anew after it.

    Attributes:
        epochs: passes over the data.
        calibration_samples: training samples, spread evenly over the split, whose ranges are taken.
        cache: a folder that trained weights are kept in and taken from, for runs that train the same candidates
            with the same seeds on the same data; None to train always.
        qat_epochs: further passes of quantization-aware training for candidates with weights of fewer than 8 bits.
        device: where networks are trained that no compiled trainer knows; all else is done on the CPU.
    """

    epochs: Annotated[int, Field(ge=1)] = 100
    calibration_samples: Annotated[int, Field(ge=1)] = 2048
    qat_epochs: Annotated[int, Field(ge=0)] = 0
    cache: str | None = None
    device: Literal["cpu", "cuda"] = "cpu"

    can_be_looked_at = True

    @property
    def further_facts(self) -> Mapping[str, Any]:
        """What trained weights depend on beside what `TrainingCache` knows of: nothing."""
        return {}

    def make(self, bench: Bench, candidate: Candidate, start: Start, seed: int, watch: Watch = go_on) -> TrainedNetwork:
        """Return the candidate, trained and quantized. Epochs of quantization-aware training are not told."""
        network = bench.build(candidate, derive_seed(seed, "weights"), start)
        curve = LearningCurve(bench.task_of(candidate), bench.data_of(candidate), self.epochs)
        if start.trained:
            network, seconds = network.eval(), 0.0
        elif self.cache is None:
            seconds = self._train(bench, candidate, network, start, seed, curve, watch)
        else:
            kept = TrainingCache(Path(self.cache))
            path = kept.path(bench, candidate, start, seed, self.epochs, self.further_facts)
            found = kept.load(path, network)
            if found is None:
                found = self._train(bench, candidate, network, start, seed, curve, watch)
                kept.keep(path, network, found)
            seconds = found
        started = time.process_time()
        curve.add(0 if start.trained else self.epochs, network)
        quantized = self.quantize(bench, candidate, network, seed)
        return TrainedNetwork(network, quantized, seconds + time.process_time() - started, curve.points)

    def make_looking(
        self, bench: Bench, candidate: Candidate, start: Start, seed: int, look: Look, watch: Watch = go_on
    ) -> TrainedNetwork:
        """Return the candidate, trained and quantized; nothing is taken from a cache, where no training can be seen."""
        if start.trained:
            return self.make(bench, candidate, start, seed, watch)
        network = bench.build(candidate, derive_seed(seed, "weights"), start)
        curve = LearningCurve(bench.task_of(candidate), bench.data_of(candidate), self.epochs)
        done = Last()
        seconds = self._train(
            bench, candidate, network, start, seed, curve, lambda event: done(event) and watch(event), look
        )
        started = time.process_time()
        curve.add(done.epoch, network)
        quantized = self.quantize(bench, candidate, network, seed)
        return TrainedNetwork(network, quantized, seconds + time.process_time() - started, curve.points)

    def _train(
        self,
        bench: Bench,
        candidate: Candidate,
        network: nn.Module,
        start: Start,
        seed: int,
        curve: LearningCurve,
        watch: Watch,
        look: Look | None = None,
    ) -> float:
        """Train a network in place, which has the start's weights, and return the CPU seconds that it took."""
        started = time.process_time()
        self._begin(bench, candidate, network, start, seed)
        data = bench.training_set(candidate, derive_seed(seed, "augmentation"))
        settings = TrainingSettings.from_group(candidate.training)
        penalties = bench.networks.penalties(candidate, network)
        trainer = make_trainer(network, data, bench.task_of(candidate).loss, settings, penalties, self.device)
        looks = curve.watching(trainer, network, watch)
        if look is not None:
            followed, asked = looks, look
            looks = lambda event: followed(event) and asked(event, trainer.snapshot)  # noqa: E731 - both of them
        fit(trainer, Epochs(len(data), settings, self.epochs, derive_seed(seed, "order")), looks)
        return time.process_time() - started

    def _begin(self, bench: Bench, candidate: Candidate, network: nn.Module, start: Start, seed: int) -> None:
        """Do what comes before a training, and counts as part of it; nothing here."""

    def quantize(self, bench: Bench, candidate: Candidate, network: nn.Module, seed: int) -> QuantizedGraph:
        """Return a trained network as it ships, after quantization-aware training where its weights have few bits."""
        graph = trace(network, bench.shape_of(candidate).input_shape)
        samples = self._calibration_samples(bench, candidate)
        scheme = bench.scheme_of(candidate, graph.shapes)
        epochs = self._rounded_epochs(scheme)
        if epochs:
            rounded = FakeQuantizedGraph(graph, _ranges(graph, samples, scheme), scheme)
            settings = TrainingSettings.from_group(candidate.training)
            settings = replace(settings, learning_rate=QAT_RATE * settings.learning_rate, scheduler="cosine")
            data = bench.training_set(candidate, derive_seed(seed, "quantization-aware augmentation"))
            # Weights are rounded in NumPy: on the CPU, whatever the device.
            trainer = make_trainer(rounded, data, bench.task_of(candidate).loss, settings)
            fit(trainer, Epochs(len(data), settings, epochs, derive_seed(seed, "quantization-aware order")))
            graph = rounded.graph()
        return QuantizedGraph.quantize(graph, _ranges(graph, samples, scheme), scheme)

    def _rounded_epochs(self, scheme: Scheme) -> int:
        """Return the epochs of quantization-aware training: none where all weights have 8 bits."""
        return self.qat_epochs if scheme.fewest_weight_bits < WHOLE_BITS else 0

    def check(self, bench: Bench) -> None:
        """Refuse data whose calibration samples have no range, and a device that isn't there."""
        self._calibration_samples(bench, bench.reference)
        if self.device == "cuda" and not torch.cuda.is_available():
            raise InputError('estimation.device = "cuda", but torch finds no CUDA device: leave it out to use the CPU')

    def _calibration_samples(self, bench: Bench, candidate: Candidate) -> Tensor:
        """Return the samples whose ranges are taken, shape (n, *input_shape)."""
        data = bench.data_of(candidate)
        chosen, _ = data.train.batch(evenly_spread(len(data.train), self.calibration_samples))
        samples = torch.from_numpy(chosen)
        check_samples(samples, data.input_shape, "task: training data")
        return samples

    def forecast(self, bench: Bench, candidate: Candidate) -> float:
        """Time a few steps of training, quantization-aware ones included."""
        network = bench.build(candidate, 0)
        seconds = self.epochs * self._epoch_seconds(bench, candidate, network)
        graph = trace(network.eval(), bench.shape_of(candidate).input_shape)
        scheme = bench.scheme_of(candidate, graph.shapes)
        rounded = self._rounded_epochs(scheme)
        if rounded:
            few = replace(self, calibration_samples=PROBED_SAMPLES)
            ranges = graph.calibrate(few._calibration_samples(bench, candidate), scheme)
            fake = FakeQuantizedGraph(graph, ranges, scheme)
            seconds += rounded * self._epoch_seconds(bench, candidate, fake)
        return seconds

    def _epoch_seconds(self, bench: Bench, candidate: Candidate, network: nn.Module) -> float:
        """Return the seconds of one pass over the data, from a few steps; they change the network."""
        data = bench.training_set(candidate, 0)
        settings = TrainingSettings.from_group(candidate.training)
        trainer = make_trainer(network, data, bench.task_of(candidate).loss, settings, device=self.device)
        indices = torch.arange(min(settings.batch_size, len(data)))
        step: Callable[[], float] = lambda: trainer.step(indices, 0.0)  # noqa: E731 - named for the timing below
        return seconds_of(step) * len(data) / settings.batch_size


class Last:
    """A watch that remembers how far a training came.

    Attributes:
        epoch: the last one.
    """

    def __init__(self) -> None:
        """Start before the first."""
        self.epoch = 0

    def __call__(self, event: Event) -> bool:
        """Remember, and go on."""
        self.epoch = event.done
        return True


def seconds_of(step: Callable[[], object], calls: int = PROBED_STEPS) -> float:
    """Return the mean seconds of some calls; a first one, which is slow, isn't counted."""
    step()
    started = time.perf_counter()
    for _ in range(calls):
        step()
    return float(np.divide(time.perf_counter() - started, calls))


def _ranges(graph: Graph, samples: Tensor, scheme: Scheme) -> dict[str, Ranges]:
    try:
        return graph.calibrate(samples, scheme)
    except ValueError as error:
        raise TrainingFailed(f"the trained network can't be quantized: {error}") from error
