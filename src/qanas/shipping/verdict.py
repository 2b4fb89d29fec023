"""What a run comes to: the smallest shipped network that can't be told from the best one."""

from __future__ import annotations

import io
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qanas.core.card import SPLITS, Bounds, Card, Intervals, SplitName, common_cost, sound
from qanas.core.errors import InputError
from qanas.core.measures import Cost, Goal, Limit, Metric
from qanas.core.run_folder import SEED_ID, RunFolder
from qanas.regression.ranking import rank_correlation
from qanas.shipping import goals
from qanas.shipping.finalists import RESAMPLED
from qanas.tasks.resampling import DRAWS, LEVEL, Interval, difference, interval_of

Draws = Mapping[str, NDArray[np.float64]]
"""Metrics over units drawn with replacement, each of shape (draws,)."""

FEWEST_RANKED = 3
"""Networks from which on the order of their scores is compared."""

AGREEING = 0.5
"""Kendall's tau from which on two orders are told to be the same: of four pairs of networks three agree."""


def draws_in(predictions: bytes, split: SplitName) -> Draws:
    """Return the resampled metrics in a model's predictions; none where an early run kept none.

    Args:
        predictions: content of the .npz file.
        split: whose.
    """
    start = f"{split}_{RESAMPLED}"
    with np.load(io.BytesIO(predictions), allow_pickle=False) as file:
        return {name.removeprefix(start): file[name] for name in file.files if name.startswith(start)}


def intervals_in(predictions: bytes, unit: str, units: Mapping[SplitName, int]) -> Intervals | None:
    """Return the intervals of a model's scores, as its card has them; None where nothing was kept for them.

    Args:
        predictions: content of the .npz file.
        unit: what is independent of what.
        units: how many each split has.
    """
    deployed: dict[SplitName, dict[str, Bounds]] = {}
    for split, count in units.items():
        found = {name: interval_of(values, count) for name, values in draws_in(predictions, split).items()}
        deployed[split] = {name: Bounds(low=i.low, high=i.high) for name, i in found.items() if i.known}
    if not any(deployed.values()):
        return None
    return Intervals(unit=unit, level=LEVEL, draws=DRAWS, units=dict(units), deployed=deployed)


@dataclass(frozen=True)
class Recommendation:
    """The network to take where nothing else decides.

    Attributes:
        name: of the smallest shipped one that can't be told from the best.
        best: by its deployed validation score, of those within the limits.
        metric: that was compared.
        unit: what is independent of what.
        units: how many there are, by split.
        differences: of each network from the best, by name and split, in the metric's unit.
        tau: Kendall's, between validation and test scores of the finalists; None where they are too few.
        ranked: how many finalists that is over.
        sentences: all that in words.
    """

    name: str
    best: str
    metric: str
    unit: str
    units: Mapping[SplitName, int]
    differences: Mapping[str, Mapping[SplitName, Interval]]
    tau: float | None
    ranked: int
    sentences: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Return it for ``summary.json``."""
        return {
            "recommended": self.name,
            "best": self.best,
            "metric": self.metric,
            "unit": self.unit,
            "units": dict(self.units),
            "level": LEVEL,
            "difference_from_best": {
                name: {split: [found.low, found.high] for split, found in by_split.items() if found.known}
                for name, by_split in self.differences.items()
            },
            "tau": self.tau,
            "ranked": self.ranked,
            "sentences": list(self.sentences),
        }


def recommend(
    folder: RunFolder,
    metric: Metric,
    limits: Sequence[Limit] = (),
    wanted: Sequence[Goal] = (),
    costs: Sequence[Cost] = (),
) -> Recommendation | None:
    """Name the network to take: with goals the smallest that reaches them, else the smallest that is as good as any.

    Networks are compared pair by pair over the same resampled units, as far as something was kept to do so, with the
    best one within the limits. Everything is decided on validation data; what test data says of the decision stands
    beside it.

    Args:
        folder: of a run, its models shipped.
        metric: that decides.
        limits: of the recipe, within which the best and the smallest are to be, where any model is.
        wanted: goals of the recipe.
        costs: that were searched for: by the first that all models have, one is smaller than another.

    Returns:
        None where no shipped model has such a score.
    """
    shipped = folder.cards()
    scored = {name: card for name, card in shipped.items() if metric.name in card.metrics["deployed"].get("val", {})}
    if not scored:
        return None
    cost = common_cost(costs, shipped.values())
    compared = {
        name: card
        for name, card in scored.items()
        if card.intervals is not None and metric.name in card.intervals.deployed.get("val", {})
    }
    cards = sound(compared or scored)
    fitting = {name: card for name, card in cards.items() if goals.within(card, limits)}
    # However good, a network that doesn't fit is none to take while another one fits.
    best = min(fitting or cards, key=lambda name: (_loss(cards[name], metric), cards[name].weight_bytes, name))
    differences = _differences(folder, compared, best, metric)
    by_size = sorted(cards, key=lambda name: (*goals.size(cards[name], cost), name))
    alike = [name for name in by_size if name == best or (compared and differences[name]["val"].holds(0.0))]
    if all(card.degenerate is not None for card in cards.values()):
        alike = [best]  # the smallest of what is no success is none either
    chosen = next((name for name in alike if name in fitting), alike[0])
    reaching = goals.smallest(scored, limits, wanted, cost) if wanted else None
    finalists = {name: card for name, card in compared.items() if card.kind != "baseline"}
    tau = _agreement(finalists, metric)
    sentences = (
        _by_goals(scored, limits, reaching, wanted) if wanted else "",
        _chosen(cards, chosen, best, metric, differences, smallest=alike[0]) if reaching is None else "",
        _lighter(cards, alike, chosen, fitting) if reaching is None else "",
        _unfitting(cards, fitting, best, metric),
        _others(differences, alike, best, compared[best].intervals) if compared else "",
        _unsound(shipped),
        _ranking(tau, finalists, metric),
        _without_intervals(shipped) if compared else "",
    )
    intervals = compared[best].intervals if compared else None
    unit, units = (intervals.unit, intervals.units) if intervals is not None else ("", {})
    told = tuple(filter(None, sentences))
    taken = reaching or chosen
    return Recommendation(taken, best, metric.name, unit, units, differences, tau, len(finalists), told)


def _unfitting(cards: Mapping[str, Card], fitting: Mapping[str, Card], best: str, metric: Metric) -> str:
    """Tell which models score better than the best one within the limits, or that none is within them."""
    if not fitting:
        return "No shipped model that is a success is within the limits."
    better = [
        name for name, card in cards.items() if name not in fitting and _loss(card, metric) < _loss(cards[best], metric)
    ]
    return f"Better on validation data, but over the limits: {', '.join(better)}." if better else ""


def _by_goals(cards: Mapping[str, Card], limits: Sequence[Limit], found: str | None, wanted: Sequence[Goal]) -> str:
    """Tell which model reaches the goals, or which comes closest, and what test data says of that."""
    within = {name: card for name, card in cards.items() if goals.within(card, limits)}
    if found is None and not within:
        return f"No shipped model is within the limits, so that none there reaches {goals.told(wanted)}."
    if found is None:
        near = goals.closest(within, wanted)
        return (
            f"No shipped model within the limits reaches {goals.told(wanted)} on validation data; the closest is "
            f"{near} with {goals.scores(cards[near], wanted)}."
        )
    card = cards[found]
    reaching = sum(other.reaches(wanted) for other in cards.values())
    missed = any(goal.lacking(card.scored(goal, "test")) > 0 for goal in wanted)
    return (
        f"Take {_named(found, card)}: the smallest that reaches {goals.told(wanted)} on validation data, as "
        f"{reaching} of {len(cards)} shipped models do: {_costs(card)}, {goals.scores(card, wanted)}; on test data "
        f"{goals.scores(card, wanted, 'test')}{', which misses it' if missed else ''}"
        f"{_by_luck(card, wanted)}."
    )


def _by_luck(card: Card, wanted: Sequence[Goal]) -> str:
    """Tell where the file that ships reaches a goal and the mean of its network's trainings does not."""
    told = []
    for goal in wanted:
        found = card.metrics.get(goal.shipped_precision, {}).get("val", {}).get(goal.metric.name)
        if found is not None and found.n > 1 and goal.lacking(found.mean) > 0:
            told.append(f"{goal.metric.name} {found.mean:.4g} on average over {found.n} trainings")
    return f"; this file does, its network not always: {', '.join(told)}" if told else ""


def _agreement(finalists: Mapping[str, Card], metric: Metric) -> float | None:
    """Return Kendall's tau of validation and test scores; None where finalists are too few, or all score the same."""
    if len(finalists) < FEWEST_RANKED:
        return None
    means = [[card.metric("deployed", split, metric.name).mean for card in finalists.values()] for split in SPLITS]
    return rank_correlation(*map(np.array, means))


def _ranking(tau: float | None, cards: Mapping[str, Card], metric: Metric) -> str:
    """Tell whether validation and test data put the finalists in the same order."""
    if tau is None:
        return ""
    told = f"Validation and test scores of the {len(cards)} finalists have the same order by tau {tau:.2f}"
    if tau >= AGREEING:
        return f"{told}."

    def mean(name: str, split: SplitName) -> float:
        return cards[name].metric("deployed", split, metric.name).mean

    firsts = [min(cards, key=lambda name: metric.loss(mean(name, split))) for split in SPLITS]
    turned = (
        f": {firsts[0]}, the best on validation data, has {metric.name} {mean(firsts[0], 'test'):.4g} on test data, "
        f"where {firsts[1]} is the best with {mean(firsts[1], 'test'):.4g}"
        if firsts[0] != firsts[1]
        else ""
    )
    return f"The ranking does not hold on test data (tau {tau:.2f} over {len(cards)} finalists){turned}."


def _without_intervals(cards: Mapping[str, Card]) -> str:
    """Tell how many of all shipped models there is nothing to compare of."""
    early = sum(card.intervals is None for card in cards.values())
    if not early:
        return ""
    return f"Not compared, for they have no intervals (of an earlier version): {early} of {len(cards)} models."


def _unsound(cards: Mapping[str, Card]) -> str:
    """Tell which of all shipped models are no success, and why."""
    reasons = {name: card.degenerate.told() for name, card in cards.items() if card.degenerate is not None}
    if not reasons:
        return ""
    told = "; ".join(f"{name} {reason}" for name, reason in reasons.items())
    if len(reasons) == len(cards):
        return f"No shipped model is a success, the one above included: on validation data {told}."
    return f"Degenerate, and out of the running, {len(reasons)} of {len(cards)} shipped models: {told}."


def _loss(card: Card, metric: Metric) -> float:
    loss = metric.loss(card.metric("deployed", "val", metric.name).shipped)
    return math.inf if math.isnan(loss) else loss


def _differences(
    folder: RunFolder, cards: Mapping[str, Card], best: str, metric: Metric
) -> dict[str, dict[SplitName, Interval]]:
    """Return where each network's score less the best one's would lie, by name and split."""
    found: dict[str, dict[SplitName, Interval]] = {name: {} for name in cards}
    for split in SPLITS:
        its = _draws_of(folder, best, split).get(metric.name)
        for name, card in cards.items():
            own = _draws_of(folder, name, split).get(metric.name)
            if own is None or its is None or card.intervals is None:
                found[name][split] = Interval(math.nan, math.nan)
            else:
                found[name][split] = difference(own, its, card.intervals.units[split])
    return found


def _draws_of(folder: RunFolder, name: str, split: SplitName) -> Draws:
    path = folder.model(name) / "predictions.npz"
    try:
        return draws_in(path.read_bytes(), split)
    except Exception as error:  # a damaged file raises whatever its reader stumbles over
        raise InputError(f"{path}: {error}; it was damaged, run again to write it anew") from error


def _named(name: str, card: Card) -> str:
    told = "the reference" if name == SEED_ID else card.described or card.protocol.get("baseline")
    return f"{name} ({told})" if told else name


def _costs(card: Card) -> str:
    ram = f", {card.arena_bytes:,} arena bytes" if card.arena_bytes is not None else ""
    return f"{card.file_bytes:,} file bytes, {card.weight_bytes:,} weight bytes{ram}"


def _chosen(
    cards: Mapping[str, Card],
    chosen: str,
    best: str,
    metric: Metric,
    differences: Mapping[str, Mapping[SplitName, Interval]],
    *,
    smallest: str,
) -> str:
    """Say which model to take, and why; ``smallest`` is as good, and another one where a limit leaves it out."""
    limited = "" if smallest == chosen else " within the limits"
    card, intervals = cards[chosen], cards[chosen].intervals
    scores = []
    for split, word in (("val", "validation"), ("test", "test")):
        value = card.metrics["deployed"].get(split, {}).get(metric.name)  # type: ignore[call-overload]
        bounds = intervals.deployed[split].get(metric.name) if intervals is not None else None  # type: ignore[index]
        spread = f" ({bounds.low:.4g} to {bounds.high:.4g})" if bounds is not None else ""
        scores += [f"{word} {metric.name} {value.shipped:.4g}{spread}"] if value is not None else []
    named = _named(chosen, card)
    size = f"{_costs(card)}, {', '.join(scores)}"
    if intervals is None:
        return f"Take {named} unless something else decides: the best on validation data: {size}."
    told = f"in brackets {intervals.level:.0%} over {intervals.unit}s"
    if chosen == best:
        return f"Take {named}: the best on validation data, and nothing smaller{limited} is as good: {size}; {told}."
    val, test = differences[chosen]["val"], differences[chosen]["test"]
    agrees, on_test = "test data says nothing", ""
    if test.known:
        agrees = "nor on test data" if test.holds(0.0) else "but on test data they differ"
        on_test = f", {test.low:+.3g} to {test.high:+.3g} on test"
    return (
        f"Take {named} unless something else decides: the smallest{limited} that can't be told from the best, {best}, "
        f"on {intervals.units['val']} validation {intervals.unit}s, {agrees} (difference {val.low:+.3g} to "
        f"{val.high:+.3g}{on_test}): {size}; {told}."
    )


def _lighter(cards: Mapping[str, Card], alike: Sequence[str], chosen: str, fitting: Collection[str]) -> str:
    """Tell which network that is as good takes less of the device, file and RAM, than the one of the smallest cost."""

    def arena(name: str) -> float:
        """Where it isn't known, none is less than another."""
        known = cards[name].arena_bytes
        return math.nan if known is None else known

    lighter = [
        name
        for name in alike
        if arena(name) < arena(chosen)
        and cards[name].file_bytes < cards[chosen].file_bytes
        and (name in fitting or chosen not in fitting)
    ]
    if not lighter:
        return ""
    name = min(lighter, key=lambda name: (cards[name].file_bytes, name))
    return f"As good, and less of the device: {_named(name, cards[name])}, {_costs(cards[name])}."


def _others(
    differences: Mapping[str, Mapping[SplitName, Interval]],
    alike: Sequence[str],
    best: str,
    intervals: Intervals | None,
) -> str:
    """Tell which further networks can't be told from the best."""
    others = [name for name in alike if name != best]
    if not others or intervals is None:
        return ""
    return (
        f"Of {len(differences)} shipped models {len(others)} can't be told from {best} on {intervals.units['val']} "
        f"validation {intervals.unit}s: {', '.join(others)}."
    )
