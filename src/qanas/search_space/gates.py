"""Spaces in which every layer is one of several options, chosen by gates: what can be chosen, and what it costs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from qanas.core.candidate import Candidate


@dataclass(frozen=True)
class Places:
    """Where there is something to choose.

    Attributes:
        options: the names of every layer's options, those of all blocks behind each other.
        block_of: the number of the block that each layer is in.
        bits: of weights, that each part can have: a block, or a layer where layers have bits of their own.
        part_of: the number of the part that each layer is in.
    """

    options: tuple[tuple[str, ...], ...]
    block_of: tuple[int, ...]
    bits: tuple[tuple[int, ...], ...]
    part_of: tuple[int, ...]


@dataclass(frozen=True)
class Choice:
    """A network, by what was chosen.

    Attributes:
        options: the position of each layer's option.
        bits: the position of each part's bits.
    """

    options: tuple[int, ...]
    bits: tuple[int, ...]


ROUNDING = 1e-9
"""Of a cost, relative to it: what differs by less does so because its shares were added up."""


@dataclass(frozen=True)
class OptionCosts:
    """What a cost is made of, where it adds up over layers.

    A layer's share is by how much the cost of a network changes where that layer alone has another option.

    Attributes:
        whole: of the network with the first option and the first bits everywhere.
        bits: what a part adds to it with others of its bits and first options, shape (bits,) each part.
        options: what a layer adds to that with another option, shape (bits, options) each layer.
    """

    whole: float
    bits: tuple[tuple[float, ...], ...]
    options: tuple[tuple[tuple[float, ...], ...], ...]

    def expected(self, places: Places, options: Sequence[Tensor], bits: Sequence[Tensor]) -> Tensor:
        """Return the mean over all networks, ``sum_ij p(i, j) C(i, j)``; it is exact, as layers are chosen apart.

        Args:
            places: that are chosen.
            options: probabilities, shape (options,) each layer.
            bits: probabilities, shape (bits,) each part.
        """
        total = torch.tensor(self.whole, dtype=torch.float64)
        for own, chosen in zip(self.bits, bits, strict=True):
            total = total + chosen.double() @ torch.tensor(own, dtype=torch.float64)
        for own_options, part, chosen in zip(self.options, places.part_of, options, strict=True):
            shares = torch.tensor(own_options, dtype=torch.float64)
            total = total + bits[part].double() @ shares @ chosen.double()
        return total

    def of(self, places: Places, choice: Choice) -> float:
        """Return the cost of one network."""
        parts = sum(own[position] for own, position in zip(self.bits, choice.bits, strict=True))
        layers = (
            own[choice.bits[part]][position]
            for own, part, position in zip(self.options, places.part_of, choice.options, strict=True)
        )
        return self.whole + parts + sum(layers)

    def least(self, places: Places) -> float:
        """Return the cost of the cheapest network."""
        total = self.whole
        for part, own in enumerate(self.bits):
            layers = [layer for layer, where in zip(self.options, places.part_of, strict=True) if where == part]
            total += min(cost + sum(min(layer[position]) for layer in layers) for position, cost in enumerate(own))
        return total

    def spread(self, places: Places) -> float:
        """Return by how much the mean network costs more than the cheapest; 1 where all cost nearly the same."""
        options = [torch.full((len(names),), 1 / len(names), dtype=torch.float64) for names in places.options]
        bits = [torch.full((len(known),), 1 / len(known), dtype=torch.float64) for known in places.bits]
        least = self.least(places)
        found = float(self.expected(places, options, bits)) - least
        return found if found > ROUNDING * abs(least) else 1.0

    @classmethod
    def of_table(cls, table: Mapping[str, Any]) -> OptionCosts:
        """Return what `table` gave, as JSON gives it back."""
        options = tuple(tuple(tuple(row) for row in layer) for layer in table["options"])
        return cls(table["whole"], tuple(tuple(block) for block in table["bits"]), options)

    def table(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return asdict(self)


LossForm = Literal["sum", "product"]
Draw = Literal["sample", "batch"]

LATENCY_UNITS = 1000.0
"""In a product, milliseconds count as microseconds: its logarithm wants numbers above 1."""


@dataclass(frozen=True)
class GateLoss:
    """How a loss on data and costs become the loss of the gates.

    Attributes:
        form: "sum", ``L_P + alpha * L_E`` (SqueezeNAS, Shaw et al., ICCVW 2019), where each cost counts in units of
            what the mean network costs more than the cheapest; "product", ``L_P * factor * log(cost) ** alpha``
            (FBNet, Wu et al., CVPR 2019).
        alpha: how much costs count.
        columns: the costs; several are added, or multiplied.
        factor: of the product.
    """

    form: LossForm
    alpha: float
    columns: tuple[str, ...]
    factor: float = 0.2

    def of(self, performance: Tensor, costs: Mapping[str, Tensor], units: Mapping[str, float]) -> Tensor:
        """Return the loss of the gates, a scalar.

        Args:
            performance: the loss on data, a scalar.
            costs: expected ones, a scalar each, by column.
            units: of each cost in a sum, see `OptionCosts.spread`.
        """
        if self.form == "sum":
            return performance + self.alpha * sum(costs[name] / units[name] for name in self.columns)
        loss = performance
        for name in self.columns:
            unit = LATENCY_UNITS if name.startswith("latency_ms") else 1.0
            loss = loss * self.factor * torch.log(costs[name] * unit) ** self.alpha
        return loss


@dataclass(frozen=True)
class GateSettings:
    """How gates are trained.

    Attributes:
        steps: of both weights and gates, each on a batch of its own samples.
        batch_size: samples of a batch.
        learning_rate: of the weights' first step; falls to 0 with power 0.9.
        gate_learning_rate: of the gates (Adam).
        weight_decay: of the gates.
        temperature: of the first step.
        last_temperature: of the last one; falls geometrically.
        frozen: share of the steps in which weights alone are trained, with all options equally likely.
        draw: whether each sample of a batch has options drawn for itself, or all have the same.
    """

    steps: int = 300
    batch_size: int = 16
    learning_rate: float = 0.02
    gate_learning_rate: float = 0.02
    weight_decay: float = 5e-4
    temperature: float = 5.0
    last_temperature: float = 0.1
    frozen: float = 0.1
    draw: Draw = "sample"

    def temperature_at(self, progress: float) -> float:
        """Return the temperature at ``progress`` in [0, 1] of all steps.

        >>> round(GateSettings(temperature=4.0, last_temperature=0.25).temperature_at(0.5), 6)
        1.0
        """
        return float(self.temperature * (self.last_temperature / self.temperature) ** progress)


@dataclass(frozen=True)
class LearntGates:
    """Gates after a training.

    Attributes:
        loss: that they were trained by.
        options: logits, float64 of shape (options,) each layer.
        bits: logits, float64 of shape (bits,) each part.
    """

    loss: GateLoss
    options: tuple[Tensor, ...]
    bits: tuple[Tensor, ...]

    @property
    def probabilities(self) -> tuple[list[Tensor], list[Tensor]]:
        """The probabilities of each layer's options, shape (options,), and of each part's bits, shape (bits,)."""
        return [logits.softmax(0) for logits in self.options], [logits.softmax(0) for logits in self.bits]

    @property
    def logarithms(self) -> tuple[list[Tensor], list[Tensor]]:
        """Those of the probabilities, likewise; finite however sure gates are."""
        return [logits.log_softmax(0) for logits in self.options], [logits.log_softmax(0) for logits in self.bits]


class GatedNetworks(ABC):
    """What an estimator offers to a solver that learns by gradient which option each layer has.

    Attributes:
        places: what is chosen.
    """

    offered_by: ClassVar[str] = "weight_sharing"

    places: Places

    @abstractmethod
    def option_costs(self, columns: Sequence[str]) -> dict[str, OptionCosts]:
        """Return what costs are made of, by column.

        Raises:
            InputError: one doesn't add up over layers, or is not the same each time.
        """

    @abstractmethod
    def learnt(self, settings: GateSettings, losses: Sequence[GateLoss]) -> list[LearntGates]:
        """Train gates by each of several losses, from the same weights."""

    @abstractmethod
    def candidate(self, choice: Choice) -> Candidate:
        """Return the network of a choice."""

    @abstractmethod
    def costs(self, candidate: Candidate) -> dict[str, float]:
        """Return what a network costs as it ships, by column."""

    @abstractmethod
    def scores(self, candidates: Sequence[Candidate]) -> list[dict[str, float]]:
        """Return what the estimator says of each network, by column."""

    @abstractmethod
    def record(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Keep what became of each loss's gates, a row each, for the run's summary."""

    @abstractmethod
    def say(self, text: str) -> None:
        """Tell whoever watches a line."""
