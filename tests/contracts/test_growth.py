"""The contract of networks that grow, over broken ones; `check_space` holds every space that grows against it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from qanas.networks.growing import GrowingSpace, MorphismGrowth
from qanas.search_space.growth import Grown
from qanas.testing import check_growth
from qanas.testing.small import SmallSpace, SmallTask

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from qanas.core.candidate import Candidate
    from qanas.search_space.settings import Setting
    from qanas.search_space.start import Start

SIZES: dict[str, Any] = {"seed_channels": 4, "max_channels": 12, "stages": 2, "max_layers": 2}


def test_what_makes_the_input_finer_keeps_the_contract() -> None:
    check_growth(GrowingSpace(**SIZES, morphisms=("compound",)), SmallTask(side=4))


@dataclass(frozen=True)
class Restless(MorphismGrowth):
    """Draws from a generator of its own."""

    def grown(
        self, candidate: Candidate, generator: np.random.Generator, steps: int, inputs: Sequence[Setting] = ()
    ) -> Grown:
        return super().grown(candidate, np.random.default_rng(), steps, inputs)


@dataclass(frozen=True)
class Meddling(MorphismGrowth):
    """Grows the batches as well."""

    def grown(
        self, candidate: Candidate, generator: np.random.Generator, steps: int, inputs: Sequence[Setting] = ()
    ) -> Grown:
        found = super().grown(candidate, generator, steps, inputs)
        changed = replace(found.candidate, training={**found.candidate.training, "batch_size": 7})
        return replace(found, candidate=changed)


@dataclass(frozen=True)
class Claiming(MorphismGrowth):
    """Says that all is kept."""

    def keeps(self, steps: tuple[Any, ...]) -> bool:
        return True


@dataclass(frozen=True)
class Forgetful(MorphismGrowth):
    """Takes the weights of a network for those of its child."""

    def start(self, parent: Candidate, steps: tuple[Any, ...], weights: Path) -> Start:
        return super().start(parent, steps[1:], weights)


@dataclass(frozen=True)
class OneWay(MorphismGrowth):
    """Is farther from small networks than these are from it."""

    def distance(self, one: Candidate, other: Candidate) -> float:
        return super().distance(one, other) + (len(str(one)) > len(str(other)))


@dataclass(frozen=True)
class Faulty(GrowingSpace):
    """A space whose growth has a fault."""

    growth: type[MorphismGrowth] = MorphismGrowth

    def wiring_settings(self) -> list[Setting]:
        first, *others = super().wiring_settings()
        return [replace(first, growth=self.growth(self)), *others]  # type: ignore[call-arg]  # it is a Written one


@pytest.mark.parametrize(
    ("growth", "told"),
    [
        (Restless, "broken: A child depends on the parent and the generator alone"),
        (Meddling, "child 1: training.batch_size is 32, then 7"),
        (Claiming, "a child computes what its parent did: child"),
        (Forgetful, "broken: A child's network with what it inherits"),
        (OneWay, "broken: Distances are finite, the same both ways"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_broken_growth_is_caught(growth: type[MorphismGrowth], told: str) -> None:
    with pytest.raises(AssertionError) as caught:
        check_growth(Faulty(**SIZES, morphisms=("narrower", "separable", "wider"), growth=growth), SmallTask(side=4))
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_spaces_that_do_not_grow_are_told_so() -> None:
    with pytest.raises(AssertionError, match="no setting of the architecture is a Written one with a growth"):
        check_growth(SmallSpace(), SmallTask())
