"""The settings of the group ``training``, those of the whole network and those of each layer, and their parsed form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Literal, cast

from qanas.core.candidate import Value
from qanas.search_space.settings import Choice, Condition, Float, OneOf, Setting

Optimizer = Literal["rmsprop", "adam"]
Scheduler = Literal["none", "cosine", "exponential"]


@dataclass(frozen=True)
class TrainingSettings:
    """How one candidate is trained.

    Attributes:
        learning_rate: of the first step.
        optimizer: RMSProp (decay 0.9, epsilon 1e-7, as in Keras) or Adam (0.9, 0.999, epsilon 1e-8).
        scheduler: how the learning rate falls over all steps: not at all, along a half cosine to 0
            (Loshchilov & Hutter 2017), or exponentially to 1 % of its first value.
        batch_size: samples a step.
        loss: a kind of the task's losses.
        gradient_clip: bound on the norm of the gradient of all weights (Pascanu et al. 2013).
        ema_decay: decay a step of the moving average of the weights that is scored at the end.
    """

    learning_rate: float
    optimizer: Optimizer
    scheduler: Scheduler
    batch_size: int
    loss: str
    gradient_clip: float = 1.0
    ema_decay: float = 0.99

    @classmethod
    def from_group(cls, group: Mapping[str, Value]) -> TrainingSettings:
        """Parse a candidate's group ``training``; settings that belong to the network are left out."""
        known = {entry.name for entry in fields(cls)}
        return cls(**cast("dict[str, float]", {k: v for k, v in group.items() if k in known}))  # type: ignore[arg-type]


def training_settings(losses: Sequence[str], reference: TrainingSettings) -> list[Setting]:
    """Return the settings of the group ``training``.

    Learning rates reach from a tenth to forty times the paper's own value of 0.0025 (van de Waterlaat et al.).

    Args:
        losses: the kinds of loss of the task.
        reference: the reference network's training.
    """
    return [
        Float("learning_rate", "training", reference.learning_rate, low=2.5e-4, high=1e-1, log=True),
        Choice("optimizer", "training", reference.optimizer, options=("rmsprop", "adam")),
        Choice("scheduler", "training", reference.scheduler, options=("none", "cosine", "exponential")),
        Choice("batch_size", "training", reference.batch_size, options=(32, 64, 128, 256)),
        Choice("loss", "training", reference.loss, options=tuple(losses)),
        Float("gradient_clip", "training", reference.gradient_clip, low=0.1, high=10.0, log=True),
    ]


REGULARIZERS = ("none", "l1", "l2")


@dataclass(frozen=True)
class Penalty:
    """A penalty on a tensor of weights as in Keras: ``l1 * sum(|w|) + l2 * sum(w^2)`` is added to the loss.

    Attributes:
        l1: coefficient of the magnitudes.
        l2: coefficient of the squares.
    """

    l1: float = 0.0
    l2: float = 0.0


def regularizer_settings(weights: str, layer: int, exists: Condition | None) -> list[Setting]:
    """Return which penalty some weights of a layer have, and its strength if they have one.

    Strengths reach up to 0.01, Keras's default; the reference has none.

    Args:
        weights: such as "kernel".
        layer: its number, from 1.
        exists: the condition under which the layer does.
    """
    name = f"{weights}_regularizer_{layer}"
    penalised = OneOf(name, ("l1", "l2"))
    return [
        Choice(name, "training", "none", options=REGULARIZERS, condition=exists),
        Float(f"{weights}_penalty_{layer}", "training", 1e-5, low=1e-7, high=1e-2, log=True, condition=penalised),
    ]


def initializer_setting(
    weights: str, layer: int, exists: Condition | None, options: Sequence[str], reference: str
) -> Setting:
    """Return how some weights of a layer are drawn.

    Args:
        weights: such as "kernel".
        layer: its number, from 1.
        exists: the condition under which the layer does.
        options: names of initializers.
        reference: the reference network's.
    """
    return Choice(f"{weights}_initializer_{layer}", "training", reference, options=tuple(options), condition=exists)


def penalty_of(training: Mapping[str, Value], weights: str, layer: int) -> Penalty | None:
    """Return the penalty that a candidate's group ``training`` puts on some weights, or None."""
    regularizer = training.get(f"{weights}_regularizer_{layer}", "none")
    if regularizer == "none":
        return None
    return Penalty(**{str(regularizer): float(training[f"{weights}_penalty_{layer}"])})
