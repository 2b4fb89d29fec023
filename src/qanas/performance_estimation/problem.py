"""What candidates are measured on: a task with its data, and the networks that are searched for it."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import nn

from qanas.core.candidate import GROUPS, Candidate
from qanas.core.errors import InputError
from qanas.deployment.tflite import write_tflite
from qanas.hardware.costs import costs_of
from qanas.quantization.graph import UnsupportedNetworkError
from qanas.quantization.quantized_graph import QuantizedGraph
from qanas.quantization.scheme import Scheme, UnknownLayerError, UnsupportedSchemeError
from qanas.quantization.tracing import trace_shapes
from qanas.search_space.network_space import NetworkSpace, TaskShape
from qanas.search_space.space import space_of
from qanas.supernet.distilled_start import DistilledStart
from qanas.tasks.base import Task, TaskData
from qanas.training.fit import TrainingSet
from qanas.training.pretrained import load_weights


@dataclass(frozen=True)
class Problem:
    """A task with its data, and a family of networks.

    Attributes:
        task: data, loss and metrics.
        data: prepared.
        networks: builds candidates.
        seed_weights: a state dict that the seed network has instead of being trained; None where there is none.
        scheme: how networks are quantized; bits of weights are the candidates' own where no layer's are given.
        start: weights that candidates other than the seed network start from; None for random ones.
    """

    task: Task
    data: TaskData
    networks: NetworkSpace
    seed_weights: Path | None = None
    scheme: Scheme = field(default_factory=Scheme)
    start: DistilledStart | None = None

    @cached_property
    def shape(self) -> TaskShape:
        """What a network has to fit."""
        return TaskShape(self.data.input_shape, self.data.output_size, self.data.target_scale, self.task.losses)

    def training_set(self, seed: int) -> TrainingSet:
        """Return the training data; its batches are changed at random where the task says how.

        Args:
            seed: of the random changes.
        """
        split, task = self.data.train, self.task
        inputs, targets = torch.from_numpy(split.inputs), torch.from_numpy(split.targets)
        if type(task).augment is Task.augment:
            return TrainingSet(inputs, targets)
        generator = torch.Generator().manual_seed(seed)
        return TrainingSet(inputs, targets, functools.partial(task.augment, generator=generator))

    @cached_property
    def training_data_digest(self) -> str:
        """A digest of the prepared training data."""
        digest = hashlib.sha256()
        for array in (self.data.train.inputs, self.data.train.targets):
            digest.update(f"{array.shape} {array.dtype}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    @cached_property
    def seed(self) -> Candidate:
        """The seed network's candidate, whatever is searched."""
        return space_of(self.networks.settings(self.shape), GROUPS).reference

    def pretrained(self, candidate: Candidate) -> nn.Module | None:
        """Return the candidate with the user's weights, in evaluation mode, or None where it has to be trained.

        Raises:
            InputError: the file isn't there, or holds other weights than the seed network's.
        """
        if self.seed_weights is None or candidate != self.seed:
            return None
        network = self.build(candidate, 0)
        load_weights(network, self.seed_weights)
        return network.eval()

    def build(self, candidate: Candidate, seed: int) -> nn.Module:
        """Return a candidate's network with initial weights, random ones depending on the seed alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = self.networks.build(candidate, self.shape)
            if self.start is not None and candidate != self.seed:
                self.start.apply(candidate, network, self.shape)
        return network

    def scheme_of(self, candidate: Candidate, nodes: Iterable[str]) -> Scheme:
        """Return how a candidate is quantized.

        Bits that the scheme gives a layer hold over the candidate's own. Layers that the candidate lacks are left out,
        but for the seed network, which has to have them all.

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
        scheme = replace(self.scheme, weight_bits=bits, layers=layers)  # type: ignore[arg-type]  # checked by Scheme
        return scheme if candidate == self.seed else scheme.within(nodes)

    def skeleton(self, candidate: Candidate) -> QuantizedGraph:
        """Return the candidate's quantized graph with zero weights and made-up ranges.

        Raises:
            InputError: a user's own network has what the graph doesn't, or the scheme is not its kernels', or names
                layers that the seed network lacks.
        """
        try:
            graph = trace_shapes(lambda: self.networks.build(candidate, self.shape), self.data.input_shape)
            _ = graph.shapes
        except UnsupportedNetworkError as error:
            name = type(self.networks).__name__
            raise InputError(f"space: a network of {name} can't be quantized: {error}") from error
        try:
            return QuantizedGraph.from_shapes(graph, self.scheme_of(candidate, graph.shapes))
        except UnknownLayerError as error:
            raise InputError(f"quantization.{error}") from error
        except UnsupportedSchemeError as error:
            mend = "name another scheme, or change quantization.layers" if self.scheme.layers else "name another scheme"
            raise InputError(f"quantization.scheme: {error}; {mend}") from error

    def costs(self, candidate: Candidate) -> dict[str, float]:
        """Return the candidate's costs, from shapes alone."""
        skeleton = self.skeleton(candidate)
        return costs_of(skeleton.graph, skeleton)

    def untrained_file(self, candidate: Candidate) -> bytes:
        """Return a .tflite file as the candidate's will be but for its weights: enough to measure latency."""
        return write_tflite(self.skeleton(candidate).program())
