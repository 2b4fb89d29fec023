"""Networks of cells: a small graph of candidate operations that is searched once and repeated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Annotated, Literal

from pydantic import Field

from qanas.core.candidate import Candidate, Value
from qanas.networks.graph import CONVOLUTIONS, INPUT, Draft, Graph, Operation
from qanas.networks.graph_space import GraphSpace
from qanas.search_space.settings import Choice, Setting

Shape = Literal["nas_bench_201", "darts"]

NODES = 4
"""Of a cell of NAS-Bench-201, its input among them, and of one of DARTS, its two inputs not among them."""

NONE = "none"

OPERATIONS: Mapping[str, tuple[Operation, int]] = {
    "conv_1": ("conv", 1),
    "conv_3": ("conv", 3),
    "separable_3": ("separable", 3),
    "separable_5": ("separable", 5),
    "avg_pool_3": ("avg_pool", 3),
    "max_pool_3": ("max_pool", 3),
}
"""What each is, and its taps; ``skip`` is none, but a convolution of one tap where the size is halved."""

OF_NAS_BENCH_201 = (NONE, "skip", "conv_1", "conv_3", "avg_pool_3")
OF_DARTS = ("skip", "separable_3", "separable_5", "avg_pool_3", "max_pool_3")

Operations = Annotated[tuple[Literal["none", "skip", "conv_1", "conv_3", "separable_3", "separable_5", "avg_pool_3",
                                     "max_pool_3"], ...], Field(strict=False)]  # fmt: skip


@dataclass(frozen=True)
class CellSpace(GraphSpace):
    """Cells of a published shape. Convolutions have their batch norm and ReLU behind them, not in front.

    ``nas_bench_201`` (Dong & Yang 2020): a node is the sum of an operation of each earlier one; stages of cells with a
    convolution of stride 2 and twice the channels between. ``darts`` (Liu et al. 2019): a node is the sum of operations
    of two earlier ones, or of the two cells before; the cell puts out all nodes; a third and two thirds of the way are
    cells of another kind, which halve the size and double the channels.

    Attributes:
        shape: of the cells.
        cells: of a stage; of the whole network, in the shape ``darts``.
        operations: that are searched; none: the published ones, but for dilated convolutions.
    """

    shape: Shape = "nas_bench_201"
    cells: Annotated[int, Field(ge=1, le=20)] = 1
    operations: Operations = ()

    @property
    def _options(self) -> tuple[str, ...]:
        published = OF_NAS_BENCH_201 if self.shape == "nas_bench_201" else OF_DARTS
        options = tuple(self.operations) or published
        return options if self.shape == "nas_bench_201" else tuple(name for name in options if name != NONE)

    @property
    def _kinds(self) -> list[str]:
        """The kind of each cell of the shape ``darts``."""
        halving = (self.cells // 3, 2 * self.cells // 3)
        return ["reduce" if number in halving else "normal" for number in range(self.cells)]

    def wiring_settings(self) -> list[Setting]:
        """Return the operation of each edge; in the shape ``darts`` also where it starts, for both kinds of cells."""
        if self.shape == "nas_bench_201":
            return [
                Choice(f"edge_{one}_{other}", "architecture", _usual(one, other), options=self._options)
                for one, other in combinations(range(NODES), 2)
            ]
        settings: list[Setting] = []
        for kind in sorted(set(self._kinds)):
            for node in range(NODES):
                for way in (1, 2):
                    starts = tuple(range(node + 2))  # the two cells before are 0 and 1
                    name = f"{kind}_{node + 1}"
                    settings += [
                        Choice(f"{name}_from_{way}", "architecture", way - 1, options=starts),
                        Choice(f"{name}_by_{way}", "architecture", "separable_3", options=self._options),
                    ]
        return settings

    def graph_of(self, candidate: Candidate) -> Graph:
        """Return the graph of a stem and all cells."""
        draft = Draft()
        chosen = candidate.architecture
        return self._stages(draft, chosen) if self.shape == "nas_bench_201" else self._row(draft, chosen)

    def _stages(self, draft: Draft, chosen: Mapping[str, Value]) -> Graph:
        channels = self.seed_channels
        last = draft.add("conv", INPUT, channels=channels, kernel=3)
        for stage in range(3):
            if stage:
                channels *= 2
                last = draft.add("conv", last, channels=channels, kernel=3, stride=2)
            for _ in range(self.cells):
                last = self._summed_cell(draft, chosen, last, channels)
        return draft.graph(last)

    @staticmethod
    def _summed_cell(draft: Draft, chosen: Mapping[str, Value], first: int, channels: int) -> int:
        """Add a cell; one to whose end nothing leads passes on what it is given."""
        nodes: list[int | None] = [first]
        for node in range(1, NODES):
            names = {source: str(chosen[f"edge_{source}_{node}"]) for source in range(node)}
            found = [
                _operated(draft, names[place], value, channels)
                for place, value in enumerate(nodes)
                if value is not None and names[place] != NONE
            ]
            nodes.append(draft.add("add", *found) if found else None)
        return first if nodes[-1] is None else nodes[-1]

    def _row(self, draft: Draft, chosen: Mapping[str, Value]) -> Graph:
        channels = self.seed_channels
        stem = draft.add("conv", INPUT, channels=channels, kernel=3)
        before, last = stem, stem
        for kind in self._kinds:
            channels *= 2 if kind == "reduce" else 1
            before, last = last, self._concatenated_cell(draft, chosen, (before, last), channels, kind)
        return draft.graph(last)

    @staticmethod
    def _concatenated_cell(
        draft: Draft, chosen: Mapping[str, Value], inputs: tuple[int, int], channels: int, kind: str
    ) -> int:
        least = max(draft.shrinkage[number] for number in inputs)
        nodes = [
            draft.add("conv", number, channels=channels, stride=least // draft.shrinkage[number]) for number in inputs
        ]
        for node in range(NODES):
            found = []
            for way in (1, 2):
                source = int(chosen[f"{kind}_{node + 1}_from_{way}"])
                stride = 2 if kind == "reduce" and source < len(inputs) else 1
                name = str(chosen[f"{kind}_{node + 1}_by_{way}"])
                found.append(_operated(draft, name, nodes[source], channels, stride))
            nodes.append(draft.add("add", *found))
        return draft.add("concat", *nodes[len(inputs) :])


def _operated(draft: Draft, name: str, source: int, channels: int, stride: int = 1) -> int:
    """Add an operation that keeps the channels, and return the number of its layer."""
    if name == "skip" and stride == 1:
        return source
    operation, kernel = OPERATIONS.get(name, ("conv", 1))
    channels = channels if operation in CONVOLUTIONS else 0
    return draft.add(operation, source, channels=channels, kernel=kernel, stride=stride)


def _usual(one: int, other: int) -> str:
    """Return the reference's operation between two nodes: a chain of convolutions, and a way around it."""
    if other == one + 1:
        return "conv_3"
    return "skip" if (one, other) == (0, NODES - 1) else NONE
