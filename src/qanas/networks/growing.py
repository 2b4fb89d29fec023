"""Networks that grow: a chain of convolutions whose settings any sampler can search, and any graph made of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field
from safetensors.torch import load
from torch import nn

from qanas.core.candidate import Candidate
from qanas.networks.edit_distance import edit_distance
from qanas.networks.graph import INPUT, Draft, Graph
from qanas.networks.graph_space import GraphSpace
from qanas.networks.morphism_steps import carried, changed, drawn_steps
from qanas.networks.morphisms import KINDS, MORPHISMS, Bounds, Kind, Step
from qanas.search_space.growth import Grown, Growth, Written, finer_input
from qanas.search_space.network_space import TaskShape
from qanas.search_space.settings import Choice, Integer, OneOf, Setting
from qanas.search_space.start import KeptStart, Start

CHAIN = "chain"
"""The value of the setting ``graph`` of networks that the other settings describe."""

FEWEST_CHANNELS = 4


@dataclass(frozen=True)
class GrowingSpace(GraphSpace):
    """Chains of convolutions, and whatever graph growing strategies make of them.

    A chain has stages with a max pool between them; layers, channels, kernels and operations are settings, by stage.
    A grown network has one setting, ``graph``, which is the network written down.

    Attributes:
        stages: of a chain; the reference has one convolution in each.
        max_layers: of a stage of a chain.
        max_channels: of a convolution, also of a grown one.
        most_layers: that a network can grow to, joints and pools among them.
        morphisms: that there are for growing strategies.
    """

    stages: Annotated[int, Field(ge=1, le=6)] = 3
    max_layers: Annotated[int, Field(ge=1, le=10)] = 3
    max_channels: Annotated[int, Field(ge=FEWEST_CHANNELS, le=2048)] = 128
    most_layers: Annotated[int, Field(ge=1, le=200)] = 40
    morphisms: Annotated[tuple[Kind, ...], Field(strict=False, min_length=1)] = KINDS

    def wiring_settings(self) -> list[Setting]:
        """Return the graph, and the chain by stage."""
        growth = MorphismGrowth(self)
        settings: list[Setting] = [Written("graph", "architecture", CHAIN, options=(CHAIN,), growth=growth)]
        exists = OneOf("graph", (CHAIN,))
        for stage in range(1, self.stages + 1):
            low, high = min(FEWEST_CHANNELS, self.seed_channels), self.max_channels
            settings += [
                Integer(f"layers_{stage}", "architecture", 1, low=1, high=self.max_layers, condition=exists),
                Integer(f"channels_{stage}", "architecture", self.seed_channels, low=low, high=high, log=True,
                        condition=exists),
                Choice(f"kernel_{stage}", "architecture", 3, options=(3, 5), condition=exists),
                Choice(f"separable_{stage}", "architecture", False, options=(False, True), condition=exists),
            ]  # fmt: skip
        return settings

    def graph_of(self, candidate: Candidate) -> Graph:
        """Return the graph that a candidate has written down, or whose settings it has.

        Raises:
            InputError: it is no graph.
        """
        text = str(candidate.architecture["graph"])
        return self._chain(candidate) if text == CHAIN else Graph.parse(text)

    def _chain(self, candidate: Candidate) -> Graph:
        draft, last, chosen = Draft(), INPUT, candidate.architecture
        for stage in range(1, self.stages + 1):
            if stage > 1:
                last = draft.add("max_pool", last, kernel=2, stride=2)
            for _ in range(int(chosen[f"layers_{stage}"])):
                plain = last == INPUT or not chosen[f"separable_{stage}"]
                last = draft.add(
                    "conv" if plain else "separable",
                    last,
                    channels=int(chosen[f"channels_{stage}"]),
                    kernel=int(chosen[f"kernel_{stage}"]),
                )
        return draft.graph()


@dataclass(frozen=True)
class MorphismGrowth(Growth):
    """Growth by morphisms.

    Attributes:
        space: of all candidates.
    """

    space: GrowingSpace

    def grown(
        self, candidate: Candidate, generator: np.random.Generator, steps: int, inputs: Sequence[Setting] = ()
    ) -> Grown:
        """Return a candidate some morphisms away; each compound one makes the input finer, as far as there is one."""
        graph = self.space.graph_of(candidate)
        ladder = [dict(candidate.input)]
        while len(ladder) <= steps and (finer := finer_input(ladder[-1], inputs)):
            ladder.append(finer)
        bounds = Bounds(self.space.most_layers, self.space.max_channels, finer_inputs=len(ladder) - 1)
        taken = drawn_steps(graph, generator, steps, self.space.morphisms, bounds)
        architecture = {"graph": changed(graph, taken).text} if taken else candidate.architecture
        own = ladder[sum(step.kind == "finer" for step in taken)]
        return Grown(Candidate(architecture, candidate.training, candidate.quantization, own), tuple(taken))

    def keeps(self, steps: tuple[Any, ...]) -> bool:
        """Tell whether each morphism does."""
        return all(MORPHISMS[step.kind].keeps for step in steps)

    def start(self, parent: Candidate, steps: tuple[Any, ...], weights: Path) -> Start:
        """Return the parent's weights, carried through the morphisms."""
        return InheritedStart(weights, self.space.graph_of(parent).text, steps)

    def distance(self, one: Candidate, other: Candidate) -> float:
        """Return the edit distance of both graphs."""
        return edit_distance(self.space.graph_of(one).text, self.space.graph_of(other).text)


@dataclass(frozen=True)
class InheritedStart(KeptStart):
    """The weights of a trained parent, carried through morphisms.

    Attributes:
        graph: the parent's, as text.
        steps: the morphisms; none where the network is the parent's.
    """

    graph: str
    steps: tuple[Step, ...]

    @property
    def digest(self) -> str:
        """Of the parent's weights and of the morphisms."""
        told = json.dumps([self.graph, [asdict(step) for step in self.steps]])
        return hashlib.sha256(self.content() + told.encode()).hexdigest()[:12]

    def apply(self, candidate: Candidate, network: nn.Module, shape: TaskShape) -> None:
        """Give a network its parent's weights; taps of an input that has other channels stay as they were drawn."""
        del candidate, shape
        graph, drawn = Graph.parse(self.graph), network.state_dict()
        found = carried(graph, self.steps, load(self.content()))
        stems = tuple(f"layers.{number - 1}." for number in changed(graph, self.steps).consumers(INPUT))
        other = [name for name in found if name.startswith(stems) and found[name].shape != drawn[name].shape]
        network.load_state_dict({**found, **{name: drawn[name] for name in other}})
