"""What is asked for: one training of one network."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import nn

from qanas.search_space.training_group import TrainingSettings
from qanas.training.fit import OnEpoch, Penalties


@dataclass(frozen=True)
class FitRequest:
    """One of many trainings, with the meaning of `qanas.training.fit.fit`'s arguments.

    Attributes:
        network: initialised, on the CPU; trained in place.
        settings: how to train.
        seed: of the order of its samples.
        penalties: added to its loss.
        on_epoch: told after every epoch.
    """

    network: nn.Module
    settings: TrainingSettings
    seed: int
    penalties: Penalties = field(default_factory=dict)
    on_epoch: OnEpoch | None = None
