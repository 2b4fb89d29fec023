"""Networks of blocks with parallel branches (Szegedy et al. 2015), each branch of its own operation and width."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from qanas.core.candidate import Candidate, Value
from qanas.networks.graph import INPUT, Draft, Graph, Operation
from qanas.networks.graph_space import GraphSpace
from qanas.search_space.settings import Choice, Integer, OneOf, Setting

NONE = "none"
BRANCHES = ("conv_1", "conv_3", "separable_3", "separable_5", "pool")
"""What a branch can be; a pool has a 1 x 1 convolution behind it."""

USUAL = ("conv_1", "conv_3", "separable_5", "pool")
"""The branches of the reference's blocks: those of an Inception block."""


@dataclass(frozen=True)
class MultiBranchSpace(GraphSpace):
    """A stem, and blocks whose branches' outputs stand behind each other; a max pool in front of all but the first.

    Attributes:
        seed_channels: of the reference's stem and of all branches of its blocks together.
        blocks: of the network.
        branches: of a block at most; its first one is always there.
        max_channels: of a branch.
    """

    blocks: Annotated[int, Field(ge=1, le=6)] = 3
    branches: Annotated[int, Field(ge=1, le=6)] = 4
    max_channels: Annotated[int, Field(ge=2, le=512)] = 32

    def wiring_settings(self) -> list[Setting]:
        """Return the operation and the channels of each branch of each block."""
        settings: list[Setting] = []
        share = min(max(1, self.seed_channels // self.branches), self.max_channels)
        for block in range(1, self.blocks + 1):
            for branch in range(1, self.branches + 1):
                name = f"branch_{block}_{branch}"
                options = BRANCHES if branch == 1 else (NONE, *BRANCHES)
                usual = USUAL[(branch - 1) % len(USUAL)]
                there = None if branch == 1 else OneOf(name, BRANCHES)
                settings += [
                    Choice(name, "architecture", usual, options=options),
                    Integer(f"channels_{block}_{branch}", "architecture", share, low=min(2, share),
                            high=self.max_channels, log=True, condition=there),
                ]  # fmt: skip
        return settings

    def graph_of(self, candidate: Candidate) -> Graph:
        """Return the graph of the stem and all blocks."""
        draft, chosen = Draft(), candidate.architecture
        last = draft.add("conv", INPUT, channels=self.seed_channels, kernel=3)
        for block in range(1, self.blocks + 1):
            if block > 1:
                last = draft.add("max_pool", last, kernel=2, stride=2)
            there = [number for number in range(1, self.branches + 1) if chosen[f"branch_{block}_{number}"] != NONE]
            found = [_branch(draft, chosen, last, f"{block}_{number}") for number in there]
            last = draft.add("concat", *found)
        return draft.graph()


def _branch(draft: Draft, chosen: Mapping[str, Value], source: int, name: str) -> int:
    """Add a branch and return the number of its last layer."""
    operation, _, kernel = str(chosen[f"branch_{name}"]).partition("_")
    channels = int(chosen[f"channels_{name}"])
    if operation == "pool":
        return draft.add("conv", draft.add("max_pool", source, kernel=3), channels=channels)
    kind: Operation = "separable" if operation == "separable" else "conv"
    return draft.add(kind, source, channels=channels, kernel=int(kernel))
