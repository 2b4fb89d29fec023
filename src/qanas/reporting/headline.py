"""A run in a few sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qanas.core.measurement import Objective
from qanas.core.run_folder import SEED_ID
from qanas.reporting.block_effort import block_sentences
from qanas.reporting.model_table import main_cost, main_metric, sized, statistic
from qanas.reporting.wording import count, duration, number, signed, words

if TYPE_CHECKING:
    from qanas.core.card import Card
    from qanas.reporting.run_data import RunData

_WHOLE_FROM = 10  # ratios from here on are written without decimals


def heading(data: RunData) -> str:
    """Return what was searched for which task, as the recipe names them."""
    blockwise = ", block by block" if data.blockwise else ""
    return f"{_task(data)} · {data.space or 'space'}{blockwise}"


def sentences(data: RunData) -> list[str]:
    """Return what was searched, how much was tried, what came out, and how it compares with the seed network."""
    tried = block_sentences(data) if data.blockwise else [_searched(data), _tried(data)]
    found = [*tried, _shipped(data), _smallest(data), _against_seed(data), _as_good(data)]
    return [sentence for sentence in found if sentence]


def _task(data: RunData) -> str:
    task = data.recipe_table("task")
    return f"{task.get('name', 'task')} {task.get('subset', '')}".strip()


def _searched(data: RunData) -> str:
    groups = [str(group) for group in data.recipe_table("space").get("search", [])]
    listed = f"{', '.join(groups[:-1])} and {groups[-1]}" if len(groups) > 1 else "".join(groups)
    together = f", over {listed}" if listed else ""
    strategy = data.recipe_table("strategy").get("name", "an unnamed strategy")
    return f"Searched {data.space} networks for {_task(data)} with {strategy}{together}."


def _tried(data: RunData) -> str:
    outcomes = data.outcomes
    if not outcomes:
        return "No trial is recorded yet."
    told = [f"{count(outcomes.get('measured', 0), 'trial')} measured"]
    told.append(f"{outcomes.get('rejected', 0):,} rejected before training")
    told += [f"{amount:,} {name}" for name, amount in outcomes.items() if name not in ("measured", "rejected")]
    wall = data.summary.get("seconds", {})
    times = [f"{name} took {duration(float(seconds))}" for name, seconds in wall.items() if seconds]
    cpu = data.summary.get("train_cpu_seconds")
    times += [f"training used {duration(float(cpu))} of CPU"] if cpu else []
    return f"{', '.join(told)}{'; ' if times else ''}{', '.join(times)}."


def _shipped(data: RunData) -> str:
    if not data.cards and not data.finalists:
        return ""
    failed = len(data.failures)
    seed = ", besides the seed network" if SEED_ID in data.cards else ""
    return f"{count(len(data.shipped), 'model')} shipped{seed}; {count(failed, 'finalist')} failed."


def _scored(data: RunData, card: Card) -> str:
    metric = main_metric(data)
    found = None if metric is None else statistic(card, "deployed", "val", metric)
    if metric is None or found is None:
        return ""
    test = statistic(card, "deployed", "test", metric)
    told = f" at {words(metric)} {number(found.mean)} on validation"
    return told if test is None else f"{told} and {number(test.mean)} on test data"


def _smallest(data: RunData) -> str:
    if not data.shipped:
        return ""
    cost = main_cost(data)
    name, card = min(data.shipped.items(), key=lambda item: item[1].costs()[cost])
    return f"The smallest, {name}, has {sized(cost, card)}{_scored(data, card)}."


def _against_seed(data: RunData) -> str:
    seed = data.cards.get(SEED_ID)
    if seed is None or not data.shipped:
        return ""
    cost, metric = main_cost(data), main_metric(data)
    card = min(data.shipped.values(), key=lambda shipped: shipped.costs()[cost])
    ratio = seed.costs()[cost] / max(card.costs()[cost], 1e-12)
    compared = f"{_times(ratio)} smaller" if ratio >= 1 else f"{_times(1 / ratio)} larger"
    own, its = (None if metric is None else statistic(c, "deployed", "val", metric) for c in (card, seed))
    scored = f" with {signed(own.mean - its.mean)} in validation {words(str(metric))}" if own and its else ""
    return f"Against the seed network ({sized(cost, seed)}{_scored(data, seed)}) it is {compared}{scored}."


def _as_good(data: RunData) -> str:
    """Name the smallest model that scores at least as well as the seed network, or else the best one."""
    seed, metric = data.cards.get(SEED_ID), main_metric(data)
    if seed is None or metric is None or not data.shipped:
        return ""
    scores = (score for score in data.scores if score.name.rpartition("_")[0] == metric)
    searched = next(scores, Objective(metric))
    losses = {}
    for name, card in data.cards.items():
        found = statistic(card, "deployed", "val", metric)
        if found is not None:
            losses[name] = searched.loss(found.mean)
    limit = losses.pop(SEED_ID, None)
    if limit is None or not losses:
        return ""
    cost = main_cost(data)
    good = [name for name, loss in losses.items() if loss <= limit]
    if not good:
        best = min(losses, key=lambda name: losses[name])
        card = data.cards[best]
        return (
            f"None scores as well as the seed network; the best, {best}, has {sized(cost, card)}{_scored(data, card)}."
        )
    name = min(good, key=lambda name: data.cards[name].costs()[cost])
    return (
        f"The smallest that scores at least as well as the seed network on validation, {name}, has "
        f"{sized(cost, data.cards[name])}{_scored(data, data.cards[name])}."
    )


def _times(ratio: float) -> str:
    return f"{ratio:,.0f} times" if ratio >= _WHOLE_FROM else f"{ratio:.1f} times"
