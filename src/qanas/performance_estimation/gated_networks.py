"""Networks that share weights, offered to a solver by gradient: gates, costs of every option, and scores, in stages."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from typing import Any, cast

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from qanas.core.candidate import Candidate
from qanas.core.errors import InputError
from qanas.core.events import Watch
from qanas.core.run_folder import write_atomically
from qanas.core.seeds import derive_seed
from qanas.hardware.costs import CostModel, adding_up, costs_of
from qanas.performance_estimation.base import Estimator, StageFile, Stages, StageUnit
from qanas.performance_estimation.bench import Bench
from qanas.performance_estimation.procedure import seconds_of
from qanas.search_space.blockwise_space import BlockwiseSpace
from qanas.search_space.gates import (
    Choice,
    GatedNetworks,
    GateLoss,
    GateSettings,
    LearntGates,
    OptionCosts,
    Places,
)
from qanas.search_space.quantization_group import REFERENCE_WEIGHT_BITS
from qanas.search_space.settings import Choice as ChoiceSetting
from qanas.search_space.start import Proposal
from qanas.search_space.training_group import TrainingSettings
from qanas.supernet.gated_supernet import GatedSupernet, Gates, GatesTrainer, train_gates
from qanas.tasks.resampling import units_of
from qanas.training.trainer import PartOfSet, TrainingSet

logger = logging.getLogger("qanas")


def held_out(bench: Bench, share: float) -> tuple[Tensor, Tensor]:
    """Return the positions of the training samples that weights are trained on, and of those that gates are.

    What is not independent of each other, a unit of the task, is kept together: windows that overlap with those that
    weights are trained on would tell gates how well options memorise.

    Args:
        bench: with the data.
        share: of the units, or of the samples of a single one, that gates are trained on.

    Returns:
        Shape (n - m,) and (m,), int64.
    """
    units = torch.from_numpy(units_of(bench.task, bench.data_of(bench.reference).train))
    if not units.any():
        units = torch.arange(len(units))
    count = int(units.max()) + 1
    generator = torch.Generator().manual_seed(derive_seed(bench.seed, "held out"))
    order = torch.randperm(count, generator=generator)
    taken = torch.isin(units, order[: min(max(round(share * count), 1), count - 1)])
    return (~taken).nonzero().flatten(), taken.nonzero().flatten()


def places_of(bench: Bench) -> Places:
    """Return what is chosen of the networks that are searched: bits only where they are free."""
    blocks = _networks(bench).blocks(bench.shape)
    known = {setting.name: setting for setting in bench.space.settings}
    searched = "quantization" in bench.search
    bits: list[tuple[int, ...]] = []
    part_of: list[int] = []
    for block in blocks:
        if searched and block.bits_per == "layer":
            names = [name for name in block.quantization(REFERENCE_WEIGHT_BITS) if name != block.weight_bits_setting]
            part_of += range(len(bits), len(bits) + len(names))
            bits += [tuple(map(int, cast("Any", known[name]).options)) for name in names]
            continue
        setting = known.get(block.weight_bits_setting)
        own = bench.reference.quantization.get(block.weight_bits_setting, bench.scheme.weight_bits)
        free = searched and isinstance(setting, ChoiceSetting)
        part_of += [len(bits)] * len(block.layers)
        bits.append(tuple(map(int, cast("Any", setting).options)) if free else (int(own),))
    layers = [(number, layer) for number, block in enumerate(blocks) for layer in block.layers]
    options = tuple(tuple(option.name for option in layer) for _, layer in layers)
    return Places(options, tuple(number for number, _ in layers), tuple(bits), tuple(part_of))


def candidate_of(bench: Bench, places: Places, choice: Choice) -> Candidate:
    """Return the network of a choice."""
    blocks = 1 + max(places.block_of)
    paths: list[list[int]] = [[] for _ in range(blocks)]
    bits: list[list[int]] = [[] for _ in range(blocks)]
    for block, part, position in zip(places.block_of, places.part_of, choice.options, strict=True):
        paths[block].append(position)
        bits[block].append(places.bits[part][choice.bits[part]])
    return _networks(bench).candidate(bench.shape, bench.reference, paths, bits)


def _networks(bench: Bench) -> BlockwiseSpace:
    return cast("BlockwiseSpace", bench.networks)


class GatedSharedWeights(GatedNetworks):
    """Networks with the weights of a trained supernet.

    Gates begin with its weights, which were trained with all options equally likely: as gates stay where they are
    meanwhile, that training is the same for every loss, and shared. From there each loss trains weights of its own
    with its gates. Scores are with the supernet's own weights, for all alike.

    Args:
        bench: what candidates are measured on.
        stages: do the work.
        scorer: scores a network with the supernet's weights.
        shared: the supernet's weights.
        share: of the training samples that they were not trained on; None: of none.
    """

    def __init__(self, bench: Bench, stages: Stages, scorer: Estimator, shared: StageFile, share: float | None) -> None:
        """Train nothing yet."""
        self.bench = bench
        self.stages = stages
        self.scorer = scorer
        self.shared = shared
        self.share = share
        self.rows: list[dict[str, Any]] = []
        self._costs: dict[str, OptionCosts] = {}

    @cached_property
    def places(self) -> Places:  # type: ignore[override]  # computed where it is asked for
        """What is chosen."""
        return places_of(self.bench)

    def option_costs(self, columns: Sequence[str]) -> dict[str, OptionCosts]:
        """Return what costs are made of, by column; had from one network for each option of each layer."""
        wanted = sorted(set(columns))
        if not set(wanted) <= self._costs.keys():
            models = [adding_up(name, self.bench.costs) for name in wanted]
            file = self.stages.file("option_costs", "costs", ".costs", "gates", self._described(wanted))
            self.stages.keep_only([file])
            self.stages.work_off("option costs", [OptionCostsUnit(file, tuple(models))])
            tables = json.loads(file.path.read_text("utf-8"))
            self._costs |= {name: OptionCosts.of_table(table) for name, table in tables.items()}
        return {name: self._costs[name] for name in columns}

    def _described(self, columns: Sequence[str]) -> list[Any]:
        """Return what costs depend on beside the networks, as JSON can hold it."""
        return [*columns, *(adding_up(name, self.bench.costs).digest for name in columns)]

    def learnt(self, settings: GateSettings, losses: Sequence[GateLoss]) -> list[LearntGates]:
        """Train gates by each loss, in a stage of as many units."""
        if self.share is None:
            raise InputError(
                "supernet.held_out: gates learn on samples that weights are not trained on; give a share, such as 0.2"
            )
        units = []
        for loss in losses:
            made_from = [asdict(settings), asdict(loss), self._described(loss.columns)]
            name = f"gates_{loss.alpha:g}"
            file, checkpoint = (
                self.stages.file("gates", f"{name}{end}", ".safetensors", "gates", *made_from)
                for end in ("", "_checkpoint")
            )
            costs = self.option_costs(loss.columns)
            units.append(GatesUnit(file, checkpoint, self.shared, settings, loss, costs, self.share))
        self.stages.keep_only([file for unit in units for file in (unit.file, unit.checkpoint)])
        self.stages.work_off("gates", units)
        for unit in units:
            unit.checkpoint.path.unlink(missing_ok=True)
        return [unit.learnt(self.places) for unit in units]

    def candidate(self, choice: Choice) -> Candidate:
        """Return the network of a choice."""
        return candidate_of(self.bench, self.places, choice)

    def costs(self, candidate: Candidate) -> dict[str, float]:
        """Return all costs, read off the network as it ships."""
        return self.bench.costs_of(candidate)

    def scores(self, candidates: Sequence[Candidate]) -> list[dict[str, float]]:
        """Score networks, each a unit of a stage."""
        units = [
            ScoreUnit(self.stages.file("scores", f"score_{each.key}", ".scores", "shared", each.key), self.scorer, each)
            for each in candidates
        ]
        self.stages.work_off("scores", units)
        return [json.loads(unit.file.path.read_text("utf-8")) for unit in units]

    def record(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Keep what became of each loss's gates."""
        self.rows = [dict(row) for row in rows]

    def say(self, text: str) -> None:
        """Tell a line."""
        logger.info("%s", text)
        self.stages.message(text)


@dataclass(frozen=True)
class OptionCostsUnit(StageUnit):
    """What every option of every layer costs: a table a column, as JSON.

    Attributes:
        models: how costs are had.
    """

    models: tuple[CostModel, ...]

    @property
    def label(self) -> str:
        """Which costs."""
        return ", ".join(model.measure.column for model in self.models)

    def write(self, bench: Bench, watch: Watch) -> dict[str, Any]:
        """Cost one network for each option of each layer."""
        del watch
        found, networks = option_costs_of(bench, self.models)
        tables = {name: costs.table() for name, costs in found.items()}
        write_atomically(self.file.path, json.dumps(tables).encode())
        return {"networks": networks}


def option_costs_of(bench: Bench, models: Sequence[CostModel]) -> tuple[dict[str, OptionCosts], int]:
    """Return what costs are made of, by column, and how many networks were costed for it."""
    places = places_of(bench)
    known = {
        choice: costs_of(bench.blueprint(candidate_of(bench, places, choice)), models)
        for choice in dict.fromkeys(_probed(places))
    }
    names = [model.measure.column for model in models]
    found = {name: _options(places, {choice: costs[name] for choice, costs in known.items()}) for name in names}
    return found, len(known)


def _plain(places: Places) -> Choice:
    return Choice((0,) * len(places.options), (0,) * len(places.bits))


def _with(choice: Choice, *, bits: tuple[int, int], option: tuple[int, int] | None = None) -> Choice:
    """Return a choice with one part's bits, and one layer's option, at other positions: (number, position) each."""
    changed_bits = tuple(bits[1] if number == bits[0] else own for number, own in enumerate(choice.bits))
    if option is None:
        return Choice(choice.options, changed_bits)
    changed = tuple(option[1] if number == option[0] else own for number, own in enumerate(choice.options))
    return Choice(changed, changed_bits)


def _probed(places: Places) -> Iterator[Choice]:
    """Yield the choices that differ from the first options and bits in one layer, at each of its part's bits."""
    plain = _plain(places)
    for part, known in enumerate(places.bits):
        for position in range(len(known)):
            yield _with(plain, bits=(part, position))
    for layer, (part, names) in enumerate(zip(places.part_of, places.options, strict=True)):
        for position in range(len(places.bits[part])):
            for option in range(len(names)):
                yield _with(plain, bits=(part, position), option=(layer, option))


def _options(places: Places, costs: Mapping[Choice, float]) -> OptionCosts:
    """Return what a cost is made of, by the costs of the probed choices."""
    plain = _plain(places)
    whole = costs[plain]
    bits = tuple(
        tuple(costs[_with(plain, bits=(part, position))] - whole for position in range(len(known)))
        for part, known in enumerate(places.bits)
    )
    options = tuple(
        tuple(
            tuple(
                costs[_with(plain, bits=(part, position), option=(layer, option))]
                - costs[_with(plain, bits=(part, position))]
                for option in range(len(names))
            )
            for position in range(len(places.bits[part]))
        )
        for layer, (part, names) in enumerate(zip(places.part_of, places.options, strict=True))
    )
    return OptionCosts(whole, bits, options)


@dataclass(frozen=True)
class GatesUnit(StageUnit):
    """The training of gates by one loss; a killed one goes on from its last checkpoint.

    Attributes:
        checkpoint: on the way.
        shared: weights to begin with.
        settings: how.
        loss: by what.
        costs: of every option, by column.
        share: of the training samples that gates learn on.
    """

    checkpoint: StageFile
    shared: StageFile
    settings: GateSettings
    loss: GateLoss
    costs: Mapping[str, OptionCosts]
    share: float

    @property
    def label(self) -> str:
        """How much costs count."""
        return f"alpha {self.loss.alpha:g}"

    def write(self, bench: Bench, watch: Watch) -> dict[str, Any]:
        """Train gates and write them."""
        trainer = gates_trainer(bench, self.settings, self.loss, self.costs)
        trainer.supernet.network.load_state_dict(load_file(self.shared.path))  # type: ignore[union-attr]
        parts = held_out(bench, self.share)

        def data(seed: int) -> tuple[TrainingSet, TrainingSet]:
            whole = bench.training_set(bench.reference, seed)
            return PartOfSet.of(whole, parts[0]), PartOfSet.of(whole, parts[1])

        self.checkpoint.path.parent.mkdir(parents=True, exist_ok=True)
        # One seed for all losses: they differ by what they weigh, not by what they draw.
        seed = derive_seed(bench.seed, "gates")
        history = train_gates(trainer, data, seed=seed, checkpoint=self.checkpoint.path, watch=watch)
        tensors = {name: values.contiguous() for name, values in trainer.gates.state_dict().items()}
        write_atomically(self.file.path, save(tensors, {"history": json.dumps(history)}))
        return dict(history[-1])

    def learnt(self, places: Places) -> LearntGates:
        """Return the gates."""
        gates = Gates(places)
        gates.load_state_dict(load_file(self.file.path))
        return gates.learnt(self.loss)


def gates_trainer(
    bench: Bench, settings: GateSettings, loss: GateLoss, costs: Mapping[str, OptionCosts]
) -> GatesTrainer:
    """Return a trainer of gates over the networks that are searched, with initial weights."""
    places = places_of(bench)
    networks = _networks(bench)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(bench.seed, "supernet", "weights"))
        reference = networks.build(bench.reference, bench.shape)
        supernet = GatedSupernet(reference, networks.blocks(bench.shape), places)
    kind = TrainingSettings.from_group(bench.reference.training).loss
    return GatesTrainer(supernet, Gates(places), costs, partial(bench.task.loss, kind), loss, settings, places)


def forecast_gates(bench: Bench, asked: Sequence[GateSettings]) -> float:
    """Return about how many CPU seconds the costs of options and trainings of gates take: a few steps are timed."""
    places = places_of(bench)
    plain = candidate_of(bench, places, _plain(places))
    seconds = len(set(_probed(places))) * seconds_of(lambda: bench.blueprint(plain), 1)
    data = bench.training_set(bench.reference, 0)
    for settings, count in Counter(asked).items():
        trainer = gates_trainer(bench, settings, GateLoss("sum", 0.0, ()), {})
        trainer.begin(data, data, torch.Generator().manual_seed(0))
        indices = torch.arange(min(settings.batch_size, len(data)))

        def step(at: int, trainer: GatesTrainer = trainer, indices: Tensor = indices) -> None:
            trainer.steps = at
            trainer.step(indices, 0.0)

        both = seconds_of(partial(step, settings.steps), 1)
        alone = seconds_of(partial(step, 0), 1) if settings.frozen else both
        seconds += count * settings.steps * (settings.frozen * alone + (1 - settings.frozen) * both)
    return seconds


@dataclass(frozen=True)
class ScoreUnit(StageUnit):
    """The scores of one network, by column, as JSON.

    Attributes:
        scorer: says them.
        candidate: the network.
    """

    scorer: Estimator
    candidate: Candidate

    @property
    def label(self) -> str:
        """The network."""
        return self.candidate.key

    def write(self, bench: Bench, watch: Watch) -> dict[str, Any]:
        """Score it."""
        seed = derive_seed(bench.seed, "score", self.candidate.key)
        estimate = self.scorer.estimate(bench, Proposal(self.candidate), seed, (), watch)
        write_atomically(self.file.path, json.dumps(dict(estimate.scores)).encode())
        return {}
