"""What candidates are measured on: a task with its data, the networks that are searched for it, a scheme, devices."""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import astuple, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from torch import nn

from qanas.core.candidate import SEARCHED_BY_DEFAULT, Candidate, Group, Value
from qanas.core.errors import InputError, NotBuilt, building, described, users_code
from qanas.core.measures import FRONT_END_COSTS, Cost
from qanas.core.run_folder import folder_written_atomically
from qanas.core.seeds import others_seeded
from qanas.hardware.costs import INPUT_COSTS, PROGRAM_COSTS, Blueprint, CostModel, costs_of
from qanas.hardware.device import Device
from qanas.quantization.graph import UnsupportedNetworkError
from qanas.quantization.quantized_graph import QuantizedGraph
from qanas.quantization.scheme import Scheme, UnknownLayerError, UnsupportedSchemeError
from qanas.quantization.tracing import trace_shapes
from qanas.search_space.network_space import NetworkSpace, TaskShape
from qanas.search_space.space import Encoding, SearchSpace, space_of
from qanas.search_space.start import RandomStart, Start
from qanas.search_space.training_group import TrainingSettings
from qanas.tasks.base import Task, TaskData
from qanas.tasks.front_end import FrontEnd
from qanas.tasks.prepared import load_prepared, save_prepared
from qanas.tasks.samples import Split
from qanas.tasks.sound import sound
from qanas.training.trainer import DecodedSet, TrainingSet

logger = logging.getLogger("qanas")

RANDOM = RandomStart()

CHUNK_SAMPLES = 1024
"""Samples that are looked at at a time."""

MOST_IN_MEMORY = 4
"""Inputs whose data is kept in memory at once."""


class PreparedData:
    """A task's data, prepared once for each input that candidates ask for.

    Picklable: a copy in another process maps what lies in the folder, or prepares its own.

    Args:
        task: reads and prepares.
        folder: where data lies for all processes; None: in the memory of each.
    """

    def __init__(self, task: Task, folder: Path | None = None) -> None:
        """Start with nothing prepared."""
        self.task = task
        self.folder = folder
        self._loaded: dict[str, TaskData] = {}

    def __reduce__(self) -> tuple[type[PreparedData], Any]:
        """Pickle without the data."""
        return PreparedData, (self.task, self.folder)

    def of(self, values: Mapping[str, Value]) -> TaskData:
        """Return the data as a network with these input settings is given it.

        Raises:
            InputError: the data is missing or damaged.
        """
        name = hashlib.sha256(json.dumps(dict(values), sort_keys=True).encode()).hexdigest()[:12]
        if name not in self._loaded:
            while len(self._loaded) >= MOST_IN_MEMORY:
                del self._loaded[next(iter(self._loaded))]
            self._loaded[name] = self._prepare(values, name)
        return self._loaded[name]

    def _prepare(self, values: Mapping[str, Value], name: str) -> TaskData:
        if self.folder is None:
            return self._load(values)
        home = self.folder / name
        with FileLock(self.folder / f"{name}.lock"):  # another process may be preparing the same
            if not home.is_dir():
                with folder_written_atomically(home) as partial:
                    save_prepared(self._load(values), partial)
        return load_prepared(home)

    def _load(self, values: Mapping[str, Value]) -> TaskData:
        place = f"{type(self.task).__name__}.load"
        with users_code(place):
            loaded = self.task.with_input(values).load()
        return sound(loaded, place)

    def carried(self) -> PreparedData:
        """Return the same data, which goes along to other machines."""
        self.of({})
        return CarriedData(self.task, self._loaded)

    def shared(self, folder: Path) -> PreparedData:
        """Return the same data where other processes can map it; what is prepared already is written there."""
        folder.mkdir(parents=True, exist_ok=True)
        copy = PreparedData(self.task, folder)
        for name, data in self._loaded.items():
            with folder_written_atomically(folder / name) as partial:
                save_prepared(data, partial)
        return copy


class CarriedData(PreparedData):
    """Prepared data that goes along with whoever is given it, where others don't see this machine's files.

    Args:
        task: reads and prepares.
        loaded: what is prepared.
    """

    def __init__(self, task: Task, loaded: Mapping[str, TaskData]) -> None:
        """Take what is prepared."""
        super().__init__(task)
        self._loaded = dict(loaded)

    def __reduce__(self) -> tuple[type[PreparedData], Any]:
        """Pickle with the data."""
        return CarriedData, (self.task, self._loaded)


MOST_REMEMBERED_BYTES = 2**29
"""Of decoded inputs, that a training keeps for its next epochs: 2,184 pictures of 128 x 160."""


def training_set_of(task: Task, split: Split, seed: int) -> TrainingSet:
    """Return a split as it is trained on; its batches are changed at random where the task says how.

    Args:
        task: whose split it is.
        split: the samples.
        seed: of the random changes.
    """
    generator = torch.Generator().manual_seed(seed)
    changes = type(task).augment is not Task.augment
    augment = functools.partial(task.augment, generator=generator) if changes else None
    if not split.in_memory:
        return DecodedSet.of(split.remembering(MOST_REMEMBERED_BYTES), augment)
    return TrainingSet(torch.from_numpy(split.inputs), torch.from_numpy(split.targets), augment)


@dataclass(frozen=True)
class Bench:
    """What candidates are measured on; picklable.

    Attributes:
        data: the task with its data.
        networks: builds candidates.
        search: the groups of settings that are free.
        encoding: how the strategy sees settings that not every candidate has.
        scheme: how networks are quantized; bits of weights are the candidates' own where no layer's are given.
        device: the recipe's, where latency is had.
        costs: how every candidate's costs are had.
        reference_start: the weights that the reference starts from, or has already.
        seed: the run's.
    """

    data: PreparedData
    networks: NetworkSpace
    search: tuple[Group, ...] = SEARCHED_BY_DEFAULT
    encoding: Encoding = "conditional"
    scheme: Scheme = field(default_factory=Scheme)
    device: Device = field(default_factory=lambda: Device.named("host"))
    costs: tuple[CostModel, ...] = PROGRAM_COSTS
    reference_start: Start = RANDOM
    seed: int = 0

    def __getstate__(self) -> dict[str, object]:
        """Pickle the fields alone: what follows from them is computed anew."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @property
    def task(self) -> Task:
        """Data, loss and metrics, as for the reference."""
        return self.data.task

    def task_of(self, candidate: Candidate) -> Task:
        """Return the task as the candidate's input makes it."""
        return self.task.with_input(candidate.input)

    def data_of(self, candidate: Candidate) -> TaskData:
        """Return the data as the candidate is given it."""
        return self.data.of(candidate.input)

    @cached_property
    def shape(self) -> TaskShape:
        """What the reference has to fit."""
        return self._shape(self.data.of({}))

    def shape_of(self, candidate: Candidate) -> TaskShape:
        """Return what a candidate has to fit."""
        return self._shape(self.data_of(candidate)) if candidate.input else self.shape

    def _shape(self, data: TaskData) -> TaskShape:
        return TaskShape(data.input_shape, data.output_size, data.target_scale, self.task.losses)

    @cached_property
    def space(self) -> SearchSpace:
        """The space that is searched.

        Raises:
            InputError: the settings of a user's own space don't fit together.
        """
        name, shape = type(self.networks).__name__, self.shape
        with users_code(f"{type(self.task).__name__}.input_settings"):
            inputs = list(self.task.input_settings())
        with users_code(f"space: the settings of {name} can't be had"):
            settings = [*inputs, *self.networks.settings(shape)]
        try:
            space = space_of(settings, self.search, self.encoding)
        except (TypeError, ValueError) as error:
            raise InputError(f"space: the settings of {name} can't be searched: {error}") from error
        try:
            TrainingSettings.from_group(space.reference.training)
        except (TypeError, ValueError) as error:
            raise InputError(
                f"space: {name} lacks settings of the training: give all that "
                f"qanas.search_space.training_group.training_settings returns ({error})"
            ) from error
        return space

    @cached_property
    def reference(self) -> Candidate:
        """The reference, whatever is searched."""
        return self.space.reference

    def start_of(self, candidate: Candidate) -> Start:
        """Return the weights that a candidate starts from where nobody says otherwise."""
        return self.reference_start if candidate == self.reference else RANDOM

    def check(self) -> None:
        """Refuse, before anything is trained, a reference that can't be costed or whose weights don't fit.

        Raises:
            InputError: names what is wrong.
        """
        kind = type(self.networks).__name__
        with users_code(f"space: the reference network of {kind} can't be built"):
            self.blueprint(self.reference)
            network = self.build(self.reference, 0, self.reference_start)
            again = self.build(self.reference, 0)
        weights = list(network.parameters())
        if {id(own) for own in weights} & {id(own) for own in again.parameters()}:
            raise InputError(
                f"space: networks of {kind} share layers, so that each training would go on from the one before; make "
                "all layers in build"
            )
        if not any(own.requires_grad for own in weights):
            raise InputError(f"space: the reference network of {kind} has no weights to be trained; give it some")

    def training_set(self, candidate: Candidate, seed: int) -> TrainingSet:
        """Return the training data; its batches are changed at random where the task says how.

        Args:
            candidate: in training.
            seed: of the random changes.
        """
        return training_set_of(self.task_of(candidate), self.data_of(candidate).train, seed)

    @cached_property
    def training_data_digest(self) -> str:
        """A digest of the prepared training data of the reference's input."""
        digest = hashlib.sha256()
        train = self.data.of({}).train
        for first in range(0, len(train), CHUNK_SAMPLES):
            indices = np.arange(first, min(first + CHUNK_SAMPLES, len(train)))
            for array in train.batch(indices):
                digest.update(f"{array.shape} {array.dtype}".encode())
                digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def build(self, candidate: Candidate, seed: int, start: Start = RANDOM) -> nn.Module:
        """Return a candidate's network with the weights that it starts from.

        Args:
            candidate: any.
            seed: of random weights; they depend on it alone.
            start: further weights.
        """
        shape = self.shape_of(candidate)
        with torch.random.fork_rng(devices=[]), others_seeded(seed):
            torch.manual_seed(seed)
            network = self._built(candidate, shape)
            start.apply(candidate, network, shape)
        return network

    def _built(self, candidate: Candidate, shape: TaskShape) -> nn.Module:
        network = self.networks.build(candidate, shape)
        if not isinstance(network, nn.Module):
            kind = type(network).__name__
            raise InputError(f"space: {type(self.networks).__name__}.build returns a {kind}; return a torch.nn.Module")
        return network

    def scheme_of(self, candidate: Candidate, nodes: Iterable[str]) -> Scheme:
        """Return how a candidate is quantized.

        Bits that the scheme gives a layer hold over the candidate's own. Layers that the candidate lacks are left out,
        but for the reference, which has to have them all.

        Args:
            candidate: any.
            nodes: names of all nodes of its graph.
        """
        bits = candidate.quantization.get("weight_bits", self.scheme.weight_bits)
        modules = self.networks.module_weight_bits(candidate)
        layers = dict(self.scheme.layers)
        for path, own in modules.items():
            if own != bits and not self.scheme.fixes("weight_bits", path.replace(".", "_")):
                layers[path] = {**layers.get(path, {}), "weight_bits": own}
        scheme = self.device.scheme(self.scheme)
        scheme = replace(scheme, weight_bits=bits, layers=layers)  # type: ignore[arg-type]  # checked by Scheme
        return scheme if candidate == self.reference else scheme.within(nodes)

    def blueprint(self, candidate: Candidate) -> Blueprint:
        """Return the candidate's graph, and the same quantized with zero weights and made-up ranges.

        Raises:
            InputError: a user's own network has what the graph doesn't, or the scheme is not its kernels', or names
                layers that the reference lacks.
        """
        shape = self.shape_of(candidate)
        try:
            graph = trace_shapes(lambda: self._built(candidate, shape), shape.input_shape)
            _ = graph.shapes
        except UnsupportedNetworkError as error:
            name = type(self.networks).__name__
            raise InputError(f"space: a network of {name} can't be quantized: {error}") from error
        try:
            quantized = QuantizedGraph.from_shapes(graph, self.scheme_of(candidate, graph.shapes))
            return Blueprint(graph, quantized, self.front_end_costs(candidate))
        except UnknownLayerError as error:
            raise InputError(f"quantization.{error}") from error
        except UnsupportedSchemeError as error:
            mend = "name another scheme, or change quantization.layers" if self.scheme.layers else "name another scheme"
            raise InputError(f"quantization.scheme: {error}; {mend}") from error

    def refusal(self, candidate: Candidate) -> str:
        """Return why a candidate can't be built; empty where it can."""
        try:
            with building():
                self.blueprint(candidate)
        except NotBuilt as error:
            return str(error)
        return ""

    def front_end_costs(self, candidate: Candidate) -> dict[str, int]:
        """Return what it costs to make the candidate's input of a raw one, by column; nothing where nobody knows."""
        if INPUT_COSTS[0] not in self.costs:
            return {}
        front_end = self.task_of(candidate).front_end(self.data_of(candidate).preprocessing)
        if front_end is None:
            return {}
        if not isinstance(front_end, FrontEnd):
            name, kind = type(self.task).__name__, type(front_end).__name__
            raise InputError(f"{name}.front_end returns a {kind}; return a qanas.tasks.front_end.FrontEnd, or None")
        found = front_end.cost
        return {} if found is None else dict(zip(FRONT_END_COSTS, astuple(found), strict=True))

    def describe(self, candidate: Candidate) -> str:
        """Return in a few words what a candidate is; nothing where a user's space can't tell."""
        try:
            return str(self.networks.describe(candidate))
        except Exception as error:  # noqa: BLE001 - a user's class may fail in any way, and words end no run
            logger.warning("%s.describe: %s", type(self.networks).__name__, described(error, __file__))
            return ""

    def costs_of(self, candidate: Candidate) -> dict[str, float]:
        """Return the candidate's costs by column, before any training."""
        return costs_of(self.blueprint(candidate), self.costs)

    def size_of(self, candidate: Candidate, cost: Cost | None) -> float:
        """Return one of the candidate's costs, by which it is compared with networks of its size; 0 where none is."""
        if cost is None:
            return 0.0
        return costs_of(self.blueprint(candidate), [own for own in self.costs if own.measure == cost])[cost.column]

    @property
    def additive_costs(self) -> tuple[CostModel, ...]:
        """How those costs are had that are sums over a network's layers."""
        return tuple(model for model in self.costs if model.additive)

    @property
    def needs_quiet(self) -> bool:
        """Whether a cost is measured, which other work on the machine would disturb."""
        return any(not cost.repeatable for cost in self.costs)

    def carried(self) -> Bench:
        """Return the same with data that goes along to other machines; files that are read lazily have to be there."""
        return replace(self, data=self.data.carried())

    @contextmanager
    def shared(self, folder: Path, jobs: int) -> Iterator[Bench]:
        """Give a bench whose data lies in a folder while the context lasts, for all processes to map.

        With one job and one input there is nobody to share with: the bench stays as it is.
        """
        if jobs == 1 and "input" not in self.search:
            yield self
            return
        shutil.rmtree(folder, ignore_errors=True)
        try:
            yield replace(self, data=self.data.shared(folder))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
