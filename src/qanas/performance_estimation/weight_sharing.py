"""The estimator of one-shot search: one supernet of all networks, each scored quantized with the weights it shares."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar, TypeVar, cast

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from qanas.core.candidate import Candidate
from qanas.core.errors import InputError, unknown
from qanas.core.events import Watch
from qanas.core.measures import SHARED_PREFIX, Limit, Measure, Metric, Score
from qanas.core.run_folder import write_atomically
from qanas.core.seeds import derive_seed
from qanas.core.trials import TrialRecord
from qanas.hardware.costs import CostModel
from qanas.performance_estimation.base import Estimate, Estimator, StageFile, Stages, StageUnit
from qanas.performance_estimation.bench import Bench
from qanas.performance_estimation.gated_networks import (
    GatedSharedWeights,
    forecast_gates,
    held_out,
    option_costs_of,
    places_of,
)
from qanas.performance_estimation.procedure import Procedure, TrainedNetwork, seconds_of
from qanas.search_space.blockwise_space import BlockwiseSpace
from qanas.search_space.gates import GatedNetworks, GateSettings
from qanas.search_space.start import Proposal, Start
from qanas.search_space.training_group import TrainingSettings
from qanas.supernet.network_supernet import NetworkSupernet, SharedStart, SharedTraining, train_shared
from qanas.supernet.paths import CostWindows, PathsTrainer, Sampling, paths_a_step
from qanas.training.packed import packed
from qanas.training.trainer import PartOfSet, TrainingSet, refresh_batch_norms

T = TypeVar("T")

SHARED_GROUPS = frozenset({"architecture", "quantization"})
"""What can be searched: all candidates see one input, and one training makes their weights."""


class SupernetOptions(BaseModel):
    """How the supernet is trained, and what each path is given: a recipe's ``[supernet]``.

    Attributes:
        steps: paths trained.
        sampling: "uniform", a path a step (SPOS), or "fair", every option once a step (FairNAS).
        batch_size: samples of a batch.
        learning_rate: of the first step.
        statistics_samples: training samples whose statistics a path's batch norms are given before it is scored.
        held_out: share of the training samples that it is not trained on: gates learn on them (`strategy.name =
            "gradient"`, which has 0.2 where nothing is said).
        cost: what paths are drawn by, such as ``macs``: a window of it, then a path in it (SPOS' code); None: by
            options.
        least: the lower end of the windows; None: the cheapest path.
        most: the upper end; None: the limit on the cost where there is one, else the dearest path.
        windows: of equal width, each as likely.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    steps: int = Field(default=6000, ge=1)
    sampling: Sampling = "uniform"
    batch_size: int = Field(default=32, ge=1)
    learning_rate: float = Field(default=0.1, gt=0)
    statistics_samples: int = Field(default=1024, ge=1)
    held_out: float | None = Field(default=None, gt=0, lt=1)
    cost: str | None = None
    least: float | None = Field(default=None, gt=0)
    most: float | None = Field(default=None, gt=0)
    windows: int = Field(default=10, ge=1)


@dataclass(frozen=True)
class WeightSharing(Estimator):
    """Trains one supernet of all networks on the task and scores each with its path's weights, quantized.

    With ``sampling = "uniform"`` SPOS (Guo et al., ECCV 2020), with "fair" FairNAS (Chu et al., ICCV 2021); both search
    by evolution, here any sampler will do.

    Attributes:
        procedure: quantizes; trains reference and finalists.
        supernet: how the supernet is trained.
    """

    procedure: Procedure
    supernet: SupernetOptions = field(default_factory=SupernetOptions)

    tables: ClassVar[Mapping[str, type[BaseModel]]] = {"supernet": SupernetOptions}
    stages = ("shared", "gates", "trials")
    starts = ("scratch", "shared")
    offers = (GatedNetworks,)

    @classmethod
    def bounded(cls, tables: Mapping[str, BaseModel], limits: Sequence[Limit]) -> Mapping[str, BaseModel]:
        """Give windows of a cost the limit on it as their upper end: nothing over it need be trained."""
        own = cast("SupernetOptions", tables["supernet"])
        bounds = [float(limit.bound) for limit in limits if limit.cost.column == own.cost]
        if own.most is not None or not bounds:
            return tables
        return {**tables, "supernet": own.model_copy(update={"most": bounds[0]})}

    def axis(self, measure: Measure) -> Measure:
        """Return the metric with shared weights in place of the metric."""
        if not isinstance(measure, Metric):
            return measure
        return Score(f"{SHARED_PREFIX}{measure.column}", measure.direction)

    def check_bench(self, bench: Bench) -> None:
        """Refuse networks without blocks, and groups that shared weights can't tell apart."""
        if not isinstance(bench.networks, BlockwiseSpace):
            raise InputError(
                f"estimation.name: weight_sharing needs blocks, which {type(bench.networks).__name__} has not"
            )
        others = sorted(set(bench.search) - SHARED_GROUPS)
        if others:
            raise InputError(
                f"space.search: weight_sharing trains all networks at once, so that {others[0]} can't be searched: "
                f"leave it out"
            )
        own = self.supernet
        if own.cost is None and (own.least is not None or own.most is not None):
            raise InputError("supernet.cost: windows from least to most are of a cost; name it, such as 'macs'")
        if own.cost is not None:
            if own.sampling == "fair":
                raise InputError(
                    "supernet.cost: a fair step trains every option once, whatever paths cost; leave it out, or take "
                    "sampling = 'uniform'"
                )
            _cost_model(bench, own.cost)

    def prepare(self, bench: Bench, stages: Stages, measures: Sequence[Measure]) -> SharedWeights:
        """Train the supernet."""
        del measures
        file = stages.file("supernet", "supernet", ".safetensors", "shared")
        checkpoint = stages.file("supernet", "checkpoint", ".safetensors", "shared")
        stages.keep_only([file, checkpoint])
        stages.work_off("supernet", [SupernetUnit(file, self, checkpoint)])
        checkpoint.path.unlink(missing_ok=True)
        made = SharedWeights(self.procedure, self, file)
        return replace(made, gated=GatedSharedWeights(bench, stages, made, file, self.supernet.held_out))

    def training(self, bench: Bench) -> SharedTraining:
        """Return how the supernet is trained: with the reference's kind of loss."""
        own = self.supernet
        loss = TrainingSettings.from_group(bench.reference.training).loss
        return SharedTraining(own.steps, own.sampling, own.batch_size, own.learning_rate, loss)

    def estimate(
        self, bench: Bench, proposal: Proposal, seed: int, history: Sequence[TrialRecord], watch: Watch
    ) -> Estimate:
        """Refuse: there is no supernet before `prepare`."""
        del bench, proposal, seed, history, watch
        raise TypeError("shared weights estimate once they are trained")

    def refusal(self, bench: Bench, candidate: Candidate) -> str:
        """Return which block of a network the supernet has not: the reference's need not be there."""
        try:
            for block in networks_of(bench).blocks(bench.shape):
                for name, value in block.settings.items():
                    if candidate.architecture.get(name) != value:
                        return f"{block.name} is made for {name} = {value}"
                block.path_of(candidate.architecture)
        except ValueError as error:
            return str(error)
        return ""

    def forecast(self, bench: Bench) -> float:
        """Time a few steps of the supernet's training."""
        supernet, settings = new_supernet(bench), self.training(bench)
        data = bench.training_set(bench.reference, 0)
        trainer = PathsTrainer(
            supernet,
            data,
            partial(bench.task.loss, settings.loss),
            options=supernet.options,
            sampling=settings.sampling,
            generator=torch.Generator().manual_seed(0),
        )
        indices = torch.arange(min(settings.batch_size, len(data)))
        seconds = seconds_of(lambda: trainer.step(indices, 0.0))
        return seconds / paths_a_step(settings.sampling, supernet.options) * settings.passes

    def forecast_estimate(self, bench: Bench) -> float:
        """Time the scoring of an untrained network."""
        started = time.perf_counter()
        self.scores(bench, bench.reference, bench.build(bench.reference, 0), 0)
        return time.perf_counter() - started

    def forecast_asked(self, bench: Bench, asked: Sequence[object]) -> float:
        """Time a few steps of gates, what options cost, and a score for each training."""
        gates = [each for each in asked if isinstance(each, GateSettings)]
        if not gates:
            return 0.0
        return forecast_gates(bench, gates) + len(gates) * self.forecast_estimate(bench)

    def scores(self, bench: Bench, candidate: Candidate, network: nn.Module, seed: int) -> dict[str, float]:
        """Give a network batch norms of its own, quantize it and score it on validation data, by column."""
        refresh_batch_norms(network, bench.training_set(candidate, 0), most=self.supernet.statistics_samples)
        network.eval()
        # Quantization-aware training would be one a candidate: what sharing is to spare.
        procedure = self.procedure.with_settings(qat_epochs=0)
        made = TrainedNetwork(network, procedure.quantize(bench, candidate, network, seed), 0.0)
        return dict(made.evaluate(bench.task_of(candidate), bench.data_of(candidate).val))


def _cost_model(bench: Bench, column: str) -> CostModel:
    """Return how a cost is had that adds up over layers."""
    known = {model.measure.column: model for model in bench.additive_costs}
    if column not in known:
        raise InputError(f"supernet.cost: {unknown('cost that adds up over layers', column, list(known))}")
    return known[column]


def cost_windows(bench: Bench, options: SupernetOptions) -> CostWindows | None:
    """Return the windows that a recipe asks for; costs are those of networks with the widest weights.

    Raises:
        InputError: no path costs that much.
    """
    if options.cost is None:
        return None
    found, _ = option_costs_of(bench, [_cost_model(bench, options.cost)])
    costs, places = found[options.cost], places_of(bench)
    widest = [int(np.argmax(bits)) for bits in places.bits]
    base = costs.whole + sum(own[position] for own, position in zip(costs.bits, widest, strict=True))
    layers = [list(own[widest[part]]) for own, part in zip(costs.options, places.part_of, strict=True)]
    layers[0] = [base + cost for cost in layers[0]]  # what all have in common
    try:
        return CostWindows.between(layers, options.least, options.most, options.windows)
    except ValueError as error:
        raise InputError(f"supernet.cost: {options.cost}: {error}") from error


def networks_of(bench: Bench) -> BlockwiseSpace:
    """Return the family that is searched."""
    return cast("BlockwiseSpace", bench.networks)


def new_supernet(bench: Bench) -> NetworkSupernet:
    """Return the supernet with initial weights, which depend on the run's seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(bench.seed, "supernet", "weights"))
        reference = networks_of(bench).build(bench.reference, bench.shape)
        return NetworkSupernet(reference, networks_of(bench).blocks(bench.shape))


@dataclass(frozen=True)
class SupernetUnit(StageUnit):
    """The training of the supernet; a killed one goes on from its last checkpoint.

    Attributes:
        settings: how.
        checkpoint: on the way.
    """

    settings: WeightSharing
    checkpoint: StageFile

    @property
    def label(self) -> str:
        """What is trained."""
        return "supernet"

    def write(self, bench: Bench, watch: Watch) -> dict[str, Any]:
        """Train the supernet and write its weights."""
        supernet = new_supernet(bench)
        seed = derive_seed(bench.seed, "supernet")
        self.checkpoint.path.parent.mkdir(parents=True, exist_ok=True)
        share = self.settings.supernet.held_out
        kept = None if share is None else held_out(bench, share)[0]

        def data(own: int) -> TrainingSet:
            whole = bench.training_set(bench.reference, own)
            return whole if kept is None else PartOfSet.of(whole, kept)

        train_shared(
            supernet,
            data,
            bench.task.loss,
            replace(self.settings.training(bench), windows=cost_windows(bench, self.settings.supernet)),
            seed=seed,
            checkpoint=self.checkpoint.path,
            watch=watch,
        )
        write_atomically(self.file.path, packed(supernet.network.state_dict()))
        return {}


@dataclass(frozen=True)
class SharedWeights(Estimator):
    """A supernet that is trained: a network's estimate is its metrics with the weights that it shares.

    Attributes:
        procedure: quantizes.
        settings: that the supernet was trained by.
        file: of its weights.
        gated: the same networks for a solver by gradient; stays in this process, as stages do.
    """

    procedure: Procedure
    settings: WeightSharing
    file: StageFile
    gated: GatedSharedWeights | None = field(default=None, compare=False, repr=False)

    stages = ("shared", "gates", "trials")
    starts = ("scratch", "shared")
    offers = (GatedNetworks,)

    def __getstate__(self) -> dict[str, object]:
        """Pickle without what works in stages."""
        return {**self.__dict__, "gated": None}

    def offer(self, kind: type[T]) -> T:
        """Return the networks whose options gates choose."""
        return cast("T", self.gated) if kind is GatedNetworks else super().offer(kind)

    def axis(self, measure: Measure) -> Measure:
        """Return the metric with shared weights in place of the metric."""
        return self.settings.axis(measure)

    def refusal(self, bench: Bench, candidate: Candidate) -> str:
        """Return which block of a network the supernet has not."""
        return self.settings.refusal(bench, candidate)

    def estimate(
        self, bench: Bench, proposal: Proposal, seed: int, history: Sequence[TrialRecord], watch: Watch
    ) -> Estimate:
        """Give the network its weights, quantize it, and score it on validation data; nothing is trained."""
        del history, watch
        started = time.process_time()
        candidate = proposal.candidate
        network = bench.build(candidate, 0, self.finalist_start(bench, candidate, "shared"))
        scores = self.settings.scores(bench, candidate, network, seed)
        shared = {f"{SHARED_PREFIX}{column}": value for column, value in scores.items()}
        return Estimate(shared, time.process_time() - started)

    def finalist_start(self, bench: Bench, candidate: Candidate, kind: str) -> Start:
        """Return the weights of the supernet, if asked for."""
        if kind != "shared" or self.refusal(bench, candidate):
            return bench.start_of(candidate)
        return SharedStart(networks_of(bench), self.file.path)

    def summary(self) -> dict[str, Any]:
        """Return how much the supernet was trained, and what became of gates."""
        found = {"supernet": self.settings.supernet.model_dump(exclude_none=True)}
        return found | ({"gates": self.gated.rows} if self.gated and self.gated.rows else {})
