"""Shipped models of a run: re-measured against their cards, and one picked within some limits."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from qanas.core.candidate import Candidate
from qanas.core.card import Card, SplitName, common_cost, sound
from qanas.core.errors import InputError, described, unknown
from qanas.core.measures import COST_UNITS, Cost, Goal, Limit, Metric, counted, measure_of
from qanas.core.run_folder import DONE, RunFolder, digest
from qanas.deployment.litert import LiteRTModel
from qanas.hardware.device import Device
from qanas.performance_estimation.scoring import metrics_of
from qanas.planning.plan import Plan
from qanas.quantization.border import alone
from qanas.shipping import goals
from qanas.shipping.baselines import bench_of
from qanas.shipping.cards import border_of
from qanas.shipping.finalists import RUN_AT_A_TIME
from qanas.shipping.models import MODEL_FILES, changed_files
from qanas.tasks.base import Outputs
from qanas.tasks.samples import Split

TOLERANCE = 1e-6


@dataclass(frozen=True)
class Verdict:
    """What was found of one model.

    Attributes:
        identity: its folder.
        differences: one line each; none where the card is true.
        runs: whether the model can be run.
    """

    identity: str
    differences: tuple[str, ...]
    runs: bool = True


def require_same_data(plan: Plan, folder: RunFolder) -> None:
    """Refuse to verify against other data than the run's.

    Raises:
        InputError: the fingerprints differ.
    """
    before, now = folder.read_recipe().get("data_fingerprint"), plan.recipe["data_fingerprint"]
    if before != now:
        place = plan.recipe["task"].get("data", "the task")
        raise InputError(
            f"{folder.recipe}: data_fingerprint is {before}, but {place} has {now}; give the run's data back its place"
        )


def verify_models(plan: Plan, folder: RunFolder) -> Iterator[Verdict]:
    """Yield a verdict on every shipped model, as soon as it is there."""
    cards = folder.cards()
    for identity in dict.fromkeys([*cards, *_shipped(folder)]):
        missing = tuple(name for name in MODEL_FILES if not (folder.model(identity) / name).is_file())
        if missing:
            yield Verdict(identity, tuple(f"{name} is missing" for name in missing), runs=False)
        else:
            yield _verify(plan, folder, identity, cards[identity])


def _shipped(folder: RunFolder) -> list[str]:
    """Return the models that were shipped, whether they are still there or not."""
    if not folder.finalists.is_file():
        return []
    try:
        # Names made of digits alone stay as they are; the path is no pattern.
        table = pl.read_csv(folder.finalists.read_bytes(), infer_schema=False)
        return table.filter(pl.col("status") == "shipped")["candidate"].to_list()
    except pl.exceptions.PolarsError as error:
        raise InputError(f"{folder.finalists}: the table was damaged, run again to write it anew") from error


def _outputs(model: LiteRTModel, split: Split) -> Outputs:
    """Return a model's outputs on a split, shape (n, output_size, ...), by name if there are several."""
    (source,) = model.inputs
    chunks = [model.predict({source: chunk}) for chunk in split.chunks(RUN_AT_A_TIME)]
    return alone({name: np.concatenate([chunk[name] for chunk in chunks]) for name in model.outputs})


def _verify(plan: Plan, folder: RunFolder, identity: str, card: Card) -> Verdict:
    content = (folder.model(identity) / "model.tflite").read_bytes()
    differences = []
    if len(content) != card.file_bytes:
        differences.append(f"file_bytes is {len(content)}, the card says {card.file_bytes}")
    found = digest(content)
    if found != card.sha256:
        differences.append(f"sha256 is {found}, the card says {card.sha256}")
    others = [name for name in changed_files(folder.model(identity), card) if name != "model.tflite"]
    differences += [f"{name} is not what was shipped: its SHA-256 is not the card's" for name in others]
    try:
        model = LiteRTModel(content, border=border_of(card))
    except ValueError as error:
        return Verdict(identity, (*differences, str(error)), runs=False)
    try:
        differences += _rescored(plan, identity, card, model)
    except Exception as error:
        if found == card.sha256:
            raise
        # What is there in its place may have other inputs, or be broken in any way.
        return Verdict(identity, (*differences, f"it can't be run: {described(error)}"), runs=False)
    return Verdict(identity, tuple(differences))


def _rescored(plan: Plan, identity: str, card: Card, model: LiteRTModel) -> list[str]:
    """Return where a model's scores are not those on its card, a line each."""
    differences = []
    candidate = Candidate(**card.config)
    bench = bench_of(plan, identity)
    task, data = bench.task_of(candidate), bench.data_of(candidate)
    splits: tuple[tuple[SplitName, Split], ...] = (("val", data.val), ("test", data.test))
    for name, split in splits:
        measured = metrics_of(task, _outputs(model, split), split)
        on_card = card.metrics["deployed"][name]
        differences += [f"{metric} on {name} is on the card, and no metric of the task" for metric in on_card
                        if metric not in measured]  # fmt: skip
        for metric, value in measured.items():
            if metric not in on_card:
                differences.append(f"{metric} on {name} is {value:.8g}, the card has none")
                continue
            claimed = on_card[metric].shipped
            undefined = not math.isfinite(value) and math.isnan(claimed)  # a card has no infinity
            if not (undefined or abs(value - claimed) <= TOLERANCE * max(1.0, abs(claimed))):
                differences.append(f"{metric} on {name} is {value:.8g}, the card says {claimed:.8g}")
    return differences


@dataclass(frozen=True)
class Pick:
    """The answer.

    Attributes:
        identity: of the model's folder.
        reason: why this one.
        warning: why it is no success, or not the last word; empty where it is both.
    """

    identity: str
    reason: str
    warning: str = ""


def parse_limit(text: str) -> Limit:
    """Read ``cost=bound``, such as ``file_bytes=64 kB``.

    Raises:
        InputError: it is something else.
    """
    name, _, bound = text.partition("=")
    if not name.strip() or not bound.strip():
        raise InputError(f"--limit {text}: give a cost and a number, such as --limit weight_bytes=20000")
    cost = Cost.parse(name.strip())
    if cost is None:
        raise InputError(f"--limit {name.strip()}: {unknown('cost', name.strip(), COST_UNITS)}")
    try:
        return Limit.parse(cost, bound)
    except ValueError as error:
        raise InputError(f"--limit {name.strip()}: {error}; such as --limit weight_bytes=20000") from error


def parse_goal(text: str, folder: RunFolder) -> Goal:
    """Read ``metric=bound``, such as ``accuracy=0.9``.

    Args:
        text: as written on the command line.
        folder: of a run, whose metrics are known.

    Raises:
        InputError: it is something else.
    """
    name, _, bound = text.partition("=")
    try:
        number = float(bound)
    except ValueError:
        raise InputError(f"--goal {text}: give a metric and a number, such as --goal accuracy=0.9") from None
    return Goal.parse(name.strip(), number, folder.metric_directions(), "--goal ")


def goals_of(folder: RunFolder) -> list[Goal]:
    """Return the goals of a run's recipe."""
    found, known = folder.read_recipe().get("goals", {}), folder.metric_directions()
    return [Goal.parse(name, bound, known, f"{folder.recipe}: goals.") for name, bound in found.items()]


def limits_of(folder: RunFolder, named: Sequence[Limit] = ()) -> list[Limit]:
    """Return the limits of a run's recipe, its device's among them.

    Args:
        folder: of the run.
        named: limits that stand in place of the recipe's on the same costs.
    """
    recipe = folder.read_recipe()
    found = ((Cost.parse(column), bound) for column, bound in recipe.get("limits", {}).items())
    given = {limit.cost for limit in named}
    limits = [Limit(cost, float(bound)) for cost, bound in found if cost is not None and cost not in given]
    device = _device_of(recipe)
    return limits if device is None else [device.completed(limit) for limit in limits]


def _device_of(recipe: Mapping[str, Any]) -> Device | None:
    """Return the device of a resolved recipe; None where its file is somewhere else by now."""
    try:
        return Device.named(recipe["device"]["name"], Path(recipe["source"]["folder"]))
    except (KeyError, InputError):  # recipes of early runs tell less
        return None


def pick_model(folder: RunFolder, limits: list[Limit], wanted: Sequence[Goal] = ()) -> Pick:
    """Return the best shipped model within the limits, from the run's files alone; with goals the smallest there.

    The best one has the best deployed validation score, in the metric of the first objective that is about one;
    of equal ones the smaller. Where all objectives are costs, the smallest model is the best. A degenerate model, or
    one over a limit of the recipe, is picked only where all within the limits are, with a warning.

    Args:
        folder: of the run.
        limits: bounds on costs of the cards, in place of the recipe's on the same costs.
        wanted: goals: bounds on scores.

    Raises:
        InputError: no model was shipped, an unknown cost, or no model within the limits that reaches the goals.
    """
    cards = folder.cards()
    if not cards:
        raise InputError(f"{folder.models}: no model was shipped; run the recipe first")
    known = dict.fromkeys(column for card in cards.values() for column in card.costs_everywhere())
    for limit in limits:
        if limit.cost.column not in known:
            raise InputError(f"--limit {limit.cost.column}: {unknown('cost', limit.cost.column, known)}")
    within = {name: card for name, card in cards.items() if _excess(card, limits) <= 0}
    if not within:
        closest = min(cards, key=lambda name: _excess(cards[name], limits))
        costs = cards[closest].costs_everywhere()
        told = ", ".join(f"{limit.cost.column} {counted(costs.get(limit.cost.column, math.nan))}" for limit in limits)
        raise InputError(f"no shipped model is within the limits; the closest is {closest} with {told}")
    own = limits_of(folder, limits)
    fitting = {name: card for name, card in within.items() if goals.within(card, own)}
    if wanted:
        return _smallest(folder, fitting or within, wanted, own)
    score = _score(folder, cards)

    def rank(name: str) -> tuple[float, int]:
        loss = score.loss(cards[name].metric("deployed", "val", score.name).shipped) if score is not None else 0.0
        return math.inf if math.isnan(loss) else loss, cards[name].weight_bytes

    best = min(sound(fitting or within), key=rank)
    bounds = [*limits, *own] if fitting else limits
    reason = _reason(cards[best], score, bounds, len(fitting or within), len(cards))
    return Pick(best, reason, _warning(folder, best, cards[best], own))


def _excess(card: Card, limits: Sequence[Limit]) -> float:
    """Return how far a model is over the limits at most; what isn't known of it is over any."""
    costs = card.costs_everywhere()
    known = (limit.excess(costs) if limit.cost.column in costs else math.inf for limit in limits)
    return max(known, default=0.0)


def _smallest(folder: RunFolder, cards: Mapping[str, Card], wanted: Sequence[Goal], own: Sequence[Limit]) -> Pick:
    """Return the smallest model that reaches every goal.

    Args:
        folder: of the run.
        cards: of the models that are asked about.
        wanted: goals.
        own: limits of the recipe.
    """
    searched = (Cost.parse(column) for column in folder.read_recipe()["objectives"])
    cost = common_cost(filter(None, searched), folder.cards().values())
    found = goals.smallest(cards, (), wanted, cost)
    if found is None:
        near = goals.closest(cards, wanted)
        raise InputError(
            f"no shipped model within the limits reaches {goals.told(wanted)} on validation data; the closest is "
            f"{near} with {goals.scores(cards[near], wanted)}"
        )
    card, reaching = cards[found], sum(other.reaches(wanted) for other in cards.values())
    reason = (
        f"smallest by {cost.column} of the {reaching} of {len(cards)} shipped models within the limits that reach "
        f"{goals.told(wanted)} on validation data ({goals.scores(card, wanted)}); {_sizes(card)}"
    )
    return Pick(found, reason, _warning(folder, found, card, own))


def _warning(folder: RunFolder, name: str, card: Card, own: Sequence[Limit]) -> str:
    """Return why a model is no success, being degenerate or over limits of the recipe, or that its run goes on."""
    status = folder.read_summary().get("status", DONE)  # early runs tell none
    open_end = "" if status == DONE else "the run has not ended, and may ship others: go on with it by the same command"
    costs = card.costs_everywhere()
    over = [limit.told(costs) for limit in own if not goals.within(card, [limit])]
    broken = f"is degenerate on validation data: it {card.degenerate.told()}" if card.degenerate else ""
    unfit = f"is over the recipe's limits: {', '.join(over)}" if over else ""
    told = "; it ".join(filter(None, [broken, unfit]))
    return "; ".join(filter(None, [f"{name} {told}" if told else "", open_end]))


def _sizes(card: Card) -> str:
    ram = (
        f"{card.peak_ram_bytes} bytes of planned RAM" if card.arena_bytes is None else f"{card.arena_bytes} arena bytes"
    )
    told = f"{card.described}: " if card.described else ""
    return f"{told}{card.file_bytes} file bytes, {card.weight_bytes} weight bytes, {ram}"


def _score(folder: RunFolder, cards: Mapping[str, Card]) -> Metric | None:
    """Return the metric of the first objective that is about one."""
    known = next(iter(cards.values())).metrics["deployed"]["val"]
    for column, direction in folder.read_recipe()["objectives"].items():
        measure = measure_of(column)
        if isinstance(measure, Metric) and measure.name in known:
            return Metric(measure.name, "deployed", direction)
    return None


def _reason(card: Card, score: Metric | None, limits: list[Limit], within: int, total: int) -> str:
    bounds = " and ".join(f"{limit.cost.column} <= {counted(limit.bound)}" for limit in limits) or "no limit"
    best = "smallest"
    if score is not None:
        found = card.metric("deployed", "val", score.name)
        several = f"; mean {found.mean:.4g} +- {found.std:.2g} over {found.n} trainings" if found.n > 1 else ""
        best = f"best deployed validation {score.name} ({found.shipped:.4g}{several})"
    return f"{best} of the {within} of {total} shipped models with {bounds}; {_sizes(card)}"
