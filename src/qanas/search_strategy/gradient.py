"""Search by gradient: gates learn which option each layer has, once for each weight of the costs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from qanas.core.errors import InputError
from qanas.core.measures import Cost, Limit, Measure, columns_of
from qanas.core.pareto import Points, non_dominated
from qanas.hardware.costs import ADDITIVE_COLUMNS, CostModel, adding_up
from qanas.search_space.gates import (
    Choice,
    Draw,
    GatedNetworks,
    GateLoss,
    GateSettings,
    LearntGates,
    LossForm,
    OptionCosts,
    Places,
)
from qanas.search_strategy.base import Solution, Solver
from qanas.search_strategy.solvers import ExactSearch

LEFT_OUT = "none"
"""The name of the option that leaves a layer out."""

UNDECIDED = 0.5
"""Mean probability of the likeliest options below which gates are said to be undecided."""

TOLERATED = 0.01
"""How far, relative to a network's cost, the sum over its layers may be off unsaid."""

SLACK = 0.1
"""How far over a limit a sum over layers may be, relative to it, for the network to be looked at: a device's are not
those of whole networks."""

Positive = Annotated[float, Field(gt=0)]


@dataclass(frozen=True)
class GradientSearch(Solver):
    """Trains gates over a supernet once for each alpha, and takes the likeliest network of each that is within limits.

    1. Every option of every layer has a logit; options are mixed by Gumbel-softmax while the temperature falls.
    2. Weights and gates are trained in turn on samples of their own, gates by ``L_P + alpha * L_E`` (SqueezeNAS) or
       ``L_P * factor * log(cost) ** alpha`` (FBNet), where the cost is that expected of networks drawn from the gates.
    3. Of the networks within the limits, the one that the gates hold for the likeliest is taken: exactly, by the sums
       of logarithms of probabilities and of costs; each is built and costed as it ships.
    4. All are scored by the estimator. What no other one dominates is the front.

    Attributes:
        alphas: how much costs count, a training of gates each.
        loss: "sum" or "product".
        costs: in the gates' loss; empty: the objectives'.
        factor: of the product.
        steps: of each training, one of the weights and one of the gates.
        batch_size: samples of a batch.
        learning_rate: of the weights' first step.
        gate_learning_rate: of the gates.
        weight_decay: of the gates.
        temperature: of the first step.
        last_temperature: of the last one.
        frozen: share of the steps in which gates stay as they are.
        draw: options drawn for each "sample", or once a "batch".
    """

    alphas: Annotated[tuple[Annotated[float, Field(ge=0)], ...], Field(strict=False, min_length=1)] = (
        0.03, 0.1, 0.3, 1.0, 3.0,
    )  # fmt: skip
    loss: LossForm = "sum"
    costs: Annotated[tuple[str, ...], Field(strict=False)] = ()
    factor: Positive = 0.2
    steps: Annotated[int, Field(ge=1)] = 300
    batch_size: Annotated[int, Field(ge=2)] = 16
    learning_rate: Positive = 0.02
    gate_learning_rate: Positive = 0.02
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    temperature: Positive = 5.0
    last_temperature: Positive = 0.1
    frozen: Annotated[float, Field(ge=0, lt=1)] = 0.1
    draw: Draw = "sample"

    needs = GatedNetworks

    def check(self, objectives: Sequence[Measure], limits: Sequence[Limit]) -> None:
        """Refuse objectives without a metric or a cost, and an alpha that is given twice."""
        del limits
        costs = [measure for measure in objectives if isinstance(measure, Cost)]
        if len(costs) == len(objectives) or not costs:
            raise InputError("objectives: a search by gradient has a metric, such as miou_quantized, and a cost")
        if len(set(self.alphas)) < len(self.alphas):
            raise InputError("strategy.alphas: one is given twice; give each once")

    def check_costs(self, objectives: Sequence[Measure], models: Sequence[CostModel]) -> None:
        """Refuse costs in the gates' loss that have no share for each layer."""
        for column in self._columns(objectives):
            adding_up(column, models)

    def _columns(self, objectives: Sequence[Measure]) -> tuple[str, ...]:
        """Return the costs in the gates' loss."""
        return self.costs or tuple(columns_of(measure for measure in objectives if isinstance(measure, Cost)))

    def asks_for(self) -> list[GateSettings]:
        """Return a training of gates an alpha."""
        return [self.settings] * len(self.alphas)

    @property
    def settings(self) -> GateSettings:
        """How gates are trained."""
        return GateSettings(
            self.steps, self.batch_size, self.learning_rate, self.gate_learning_rate, self.weight_decay,
            self.temperature, self.last_temperature, self.frozen, self.draw,
        )  # fmt: skip

    def front(self, offered: GatedNetworks, objectives: Sequence[Measure], limits: Sequence[Limit]) -> list[Solution]:
        """Return the networks that no other one dominates, sorted by the objectives.

        Raises:
            InputError: a cost can't be learnt by, or no network is within the limits.
        """
        columns = self._columns(objectives)
        losses = [GateLoss(self.loss, alpha, columns, self.factor) for alpha in self.alphas]
        bounded = [limit.cost.column for limit in limits if limit.cost.column in ADDITIVE_COLUMNS]
        costs = offered.option_costs(tuple(dict.fromkeys([*columns, *bounded])))
        require_reachable(offered.places, costs, limits)
        learnt = offered.learnt(self.settings, losses)
        chosen = [likeliest_within(offered, gates, costs, limits) for gates in learnt]
        candidates = {choice: offered.candidate(choice) for choice in chosen}
        scores = dict(zip(candidates, offered.scores(list(candidates.values())), strict=True))
        solutions, rows = [], []
        for gates, choice in zip(learnt, chosen, strict=True):
            candidate, score = candidates[choice], scores[choice]
            exact = offered.costs(candidate)
            expected = {
                name: float(cost.expected(offered.places, *gates.probabilities)) for name, cost in costs.items()
            }
            added = {name: cost.of(offered.places, choice) for name, cost in costs.items()}
            rows.append(_row(offered.places, gates, choice, expected, added, exact, score))
            offered.say(_told(rows[-1]))
            origin = {"alpha": gates.loss.alpha, **{f"expected_{name}": value for name, value in expected.items()}}
            solutions.append(Solution(candidate, score, exact, origin))
        offered.record(rows)
        points = np.array([[_loss(each, axis) for axis in objectives] for each in solutions])
        return [solutions[position] for position in non_dominated(points)]


def _loss(solution: Solution, axis: Measure) -> float:
    values = {**solution.costs, **solution.scores}
    return axis.loss(values[axis.column])


def require_reachable(places: Places, costs: Mapping[str, OptionCosts], limits: Sequence[Limit]) -> None:
    """Refuse, before gates are trained, a limit that no network is within.

    Args:
        places: that are chosen.
        costs: what networks cost, by column.
        limits: bounds; those on costs that don't add up are seen later.

    Raises:
        InputError: names the limit and the least that there is.
    """
    for limit in limits:
        column = limit.cost.column
        if column in costs and (least := costs[column].least(places)) > limit.bound * _room(column):
            raise InputError(
                f"limits.{column}: no network of the space is within {limit.bound:g}, the least is {least:g}; raise it "
                "or widen the space"
            )


def _room(column: str) -> float:
    """Return up to what multiple of a bound a sum over layers is let through: the network itself is costed later."""
    return 1.0 if column in ADDITIVE_COLUMNS else 1 + SLACK


def likeliest(gates: LearntGates) -> Choice:
    """Return the likeliest option of each layer, and the likeliest bits of each block; of equals the first."""
    options, bits = gates.probabilities
    return Choice(tuple(int(p.argmax()) for p in options), tuple(int(p.argmax()) for p in bits))


def likeliest_within(
    offered: GatedNetworks, gates: LearntGates, costs: dict[str, OptionCosts], limits: Sequence[Limit]
) -> Choice:
    """Return the likeliest network within the limits, each held against its cost as it ships.

    Networks are looked at from the likeliest on, those left out that are less likely and cost more in up to two costs
    that add up, limited ones first: limits on these are kept by the likeliest of all networks. Of those on others,
    such as RAM, the likeliest of the networks looked at is taken.

    Args:
        offered: builds and costs networks.
        gates: say how likely each is.
        costs: what they are made of, by column.
        limits: bounds on costs.

    Raises:
        InputError: no network that was looked at is within the limits.
    """
    if not limits:
        return likeliest(gates)
    bounds = {limit.cost.column: limit.bound for limit in limits}
    columns = ([name for name in costs if name in bounds] or list(costs))[:2]
    nearest: dict[str, float] = {}
    for choice in _by_likelihood(offered.places, gates, [costs[name] for name in columns]):
        seen = {name: costs[name].of(offered.places, choice) for name in columns if name in bounds}
        if all(value <= bounds[name] * _room(name) for name, value in seen.items()):
            seen = offered.costs(offered.candidate(choice))
            if all(limit.excess(seen) <= 0 for limit in limits):
                return choice
        nearest |= {name: min(nearest.get(name, seen[name]), seen[name]) for name in bounds if name in seen}
    told = ", ".join(f"{limit.cost.column} <= {limit.bound:g} (least seen {nearest.get(limit.cost.column, math.nan):g})"
                     for limit in limits)  # fmt: skip
    raise InputError(f"limits: alpha {gates.loss.alpha:g}: no network is within {told}; raise them or widen the space")


def _by_likelihood(places: Places, gates: LearntGates, costs: Sequence[OptionCosts]) -> Iterator[Choice]:
    """Yield the networks that are likelier than all that cost as little, from the likeliest on."""
    options, bits = gates.logarithms
    tables: list[Points] = []
    rows: list[list[tuple[int, ...]]] = []
    for part, own_bits in enumerate(places.bits):
        layers = [number for number, own in enumerate(places.part_of) if own == part]
        losses, choices = [], []
        for position in range(len(own_bits)):
            found, picked = _part_front(layers, position, [options[layer] for layer in layers], costs)
            found[:, 0] -= float(bits[part][position])
            found[:, 1:] += [cost.bits[part][position] for cost in costs]
            losses.append(found)
            choices += [(position, *row) for row in picked.tolist()]
        tables.append(np.concatenate(losses))
        rows.append(choices)
    front = ExactSearch().solve(tables)
    for row in front.rows[np.argsort(front.losses[:, 0], kind="stable")]:
        chosen = [rows[part][number] for part, number in enumerate(row)]
        yield Choice(tuple(option for _, *own in chosen for option in own), tuple(each[0] for each in chosen))


def _part_front(
    layers: Sequence[int], position: int, options: Sequence[Tensor], costs: Sequence[OptionCosts]
) -> tuple[Points, NDArray[np.intp]]:
    """Return the paths through a part with some bits worth having: shapes (n, 1 + costs) and (n, layers).

    Args:
        layers: the numbers of the part's.
        position: of the bits.
        options: logarithms of the probabilities of each layer's, shape (options,).
        costs: of the columns.
    """
    tables = [
        np.column_stack([-chosen.numpy(), *(cost.options[layer][position] for cost in costs)])
        for layer, chosen in zip(layers, options, strict=True)
    ]
    found = ExactSearch().solve(tables)
    return found.losses.copy(), found.rows


def _row(
    places: Places,
    gates: LearntGates,
    choice: Choice,
    expected: dict[str, float],
    added: dict[str, float],
    exact: dict[str, float],
    scores: dict[str, float],
) -> dict[str, Any]:
    """Return what became of gates, as JSON can hold it."""
    options, bits = gates.probabilities
    sure = [float(p.max()) for p in (*options, *bits) if len(p) > 1]
    return {
        "alpha": gates.loss.alpha,
        "options": [names[position] for names, position in zip(places.options, choice.options, strict=True)],
        "bits": [known[position] for known, position in zip(places.bits, choice.bits, strict=True)],
        "expected": expected,
        "discretised": {name: exact[name] for name in expected},
        "added_up": added,
        "scores": scores,
        "likeliest": float(torch.tensor(sure).mean()) if sure else 1.0,
        "limited": choice != likeliest(gates),
        "collapse": collapse(places, choice),
    }


def collapse(places: Places, choice: Choice) -> str:
    """Return how a network is all the same, in its layers or in its bits; empty where it isn't."""
    layers = [(names, names[p]) for names, p in zip(places.options, choice.options, strict=True) if len(names) > 1]
    optional = [name for names, name in layers if LEFT_OUT in names]
    bits = [known[p] for known, p in zip(places.bits, choice.bits, strict=True) if len(known) > 1]
    told = []
    if optional and set(optional) == {LEFT_OUT}:
        told.append(f"all {len(optional)} layers that can be left out are")
    elif len(layers) > 1 and len({name for _, name in layers}) == 1:
        told.append(f"all {len(layers)} layers have {layers[0][1]}")
    if len(bits) > 1 and len(set(bits)) == 1:
        told.append(f"all {len(bits)} blocks have {bits[0]} bits")
    return " and ".join(told)


def _told(row: dict[str, Any]) -> str:
    """Return a line on what became of gates."""
    costs = ", ".join(f"{name} {value:.6g} expected, {row['discretised'][name]:.6g} as taken"
                      for name, value in row["expected"].items())  # fmt: skip
    told = f"alpha {row['alpha']:g}: {costs}"
    off = [f"{name} by {value / row['discretised'][name] - 1:+.1%}" for name, value in row["added_up"].items()
           if abs(value - row["discretised"][name]) > TOLERATED * row["discretised"][name]]  # fmt: skip
    if off:
        told += f"; the sum over layers is off: {', '.join(off)}"
    if row["limited"]:
        told += "; not the likeliest network, which is over a limit"
    if row["collapse"]:
        told += f"; collapsed: {row['collapse']}"
    if row["likeliest"] < UNDECIDED:
        told += f"; undecided: the likeliest options have a probability of {row['likeliest']:.2f} on average"
    return told
