"""The contract of a start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from torch import nn

from qanas.core.candidate import Candidate
from qanas.performance_estimation.bench import Bench
from qanas.search_space.network_space import TaskShape
from qanas.search_space.start import Start
from qanas.testing.properties import difference, expect, hold, states, through_pickle, with_global_seed
from qanas.testing.small import small_bench


@dataclass(frozen=True)
class StartCase:
    """A start and a network that can have its weights."""

    start: Start
    other: Start | None
    bench: Bench
    candidate: Candidate

    def applied(self, start: Start, seed: int = 0, state: int = 0) -> Mapping[str, Any]:
        """Return a network's weights with a start; built from a seed, with the global generators in some state."""
        network = self.bench.build(self.candidate, seed)
        shape = self.bench.shape_of(self.candidate)
        with_global_seed(state, lambda: start.apply(self.candidate, network, shape))
        return states(network)


def check_start(
    start: Start, bench: Bench | None = None, candidate: Candidate | None = None, other: Start | None = None
) -> None:
    """Hold a start against its contract, see `qanas.search_space.start`.

    Args:
        start: that is checked.
        bench: of the networks that can have its weights; the small ones by default.
        candidate: whose network has them; the reference by default.
        other: of the same kind, with other weights.

    Raises:
        AssertionError: which property is broken, and what was seen.
    """
    bench = bench or small_bench()
    hold(type(start).__name__, StartCase(start, other, bench, candidate or bench.reference), START_PROPERTIES)


def digest_is_stable(case: StartCase) -> None:
    """The digest is a text, the same each time, in pickled copies too."""
    first, second = case.start.digest, through_pickle(case.start).digest
    expect(isinstance(first, str), f"it is {first!r}")
    expect(first == second, f"it is {first!r}, then {second!r}")


def digest_names_weights(case: StartCase) -> None:
    """The digest is empty where the weights are those that were drawn, and only there."""
    drawn = states(case.bench.build(case.candidate, 0))
    changed = difference(drawn, case.applied(case.start))
    expect(bool(changed) == bool(case.start.digest), f"digest {case.start.digest!r}, {changed or 'no weight changed'}")


def other_weights_have_another_digest(case: StartCase) -> None:
    """Other weights have another digest."""
    if case.other is not None and difference(case.applied(case.start), case.applied(case.other)):
        expect(case.start.digest != case.other.digest, f"both have {case.start.digest!r}")


def applying_is_deterministic(case: StartCase) -> None:
    """The same network is given the same weights each time, by pickled copies too."""
    first, second = case.applied(case.start), case.applied(through_pickle(case.start), state=1)
    seen = difference(first, second, "weights")
    expect(not seen, seen)


def final_weights_are_all_given(case: StartCase) -> None:
    """Where weights are final, none is left as it was drawn."""
    if case.start.trained:
        seen = difference(case.applied(case.start, seed=0), case.applied(case.start, seed=1), "weights")
        expect(not seen, f"from another seed {seen}")


def the_network_stays_usable(case: StartCase) -> None:
    """The network keeps shapes and types, and has finite weights."""
    drawn = states(case.bench.build(case.candidate, 0))
    for name, values in case.applied(case.start).items():
        expect(values.shape == drawn[name].shape and values.dtype == drawn[name].dtype, f"{name} is another tensor")
        expect(np.isfinite(values).all(), f"{name} is not finite")


START_PROPERTIES = (
    digest_is_stable,
    applying_is_deterministic,
    the_network_stays_usable,
    digest_names_weights,
    other_weights_have_another_digest,
    final_weights_are_all_given,
)
"""What a start owes."""


@dataclass(frozen=True)
class FinalWeights(Start):
    """Weights of one size everywhere, that nobody may train any more."""

    size: float = 0.125
    trained: ClassVar[bool] = True

    @property
    def digest(self) -> str:
        """Name the size."""
        return f"all {self.size:g}"

    def apply(self, candidate: Candidate, network: nn.Module, shape: TaskShape) -> None:
        """Fill every parameter."""
        del candidate, shape
        for parameter in network.parameters():
            nn.init.constant_(parameter, self.size)
