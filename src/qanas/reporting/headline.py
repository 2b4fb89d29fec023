"""A run in a few sentences and one table: what the report begins with, and what the command line prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from rich.table import Table
from rich.text import Text

from qanas.core.measures import Cost, Metric
from qanas.core.run_folder import SEED_ID
from qanas.reporting.blocks import stages
from qanas.reporting.models import main_cost, main_metric, model_table, sized, statistic
from qanas.reporting.run_data import BASELINE, RunData, finite, named, networks_of, read_run
from qanas.reporting.wording import COST_WORDS, SPLITS, count, duration, listed, magnitude, number, signed, title, words

if TYPE_CHECKING:
    from rich.console import Console

    from qanas.core.card import Card
    from qanas.core.run_folder import RunFolder
    from qanas.reporting.models import Column

_WIDEST, _NARROWEST = 32, 14  # characters of a column of words
_GAP = 2  # between columns
_LAST = 9  # the rank of columns that have room after the words for what a model is
_WHOLE_FROM = 10  # ratios from here on are written without decimals


def heading(data: RunData) -> str:
    """Return what was searched for which task, as the recipe names them."""
    by_block = ", block by block" if data.blocks else ""
    return f"{_task(data)}{' (synthetic data)' if data.synthetic else ''} · {data.space or 'space'}{by_block}"


def sentences(data: RunData) -> list[str]:
    """Return what to take and why, what was searched, how much was tried, what came out, and against the reference."""
    tried = [_searched(data), _tabled(data), _fitted(data), *_gated(data), _tried(data), _solved(data), _times(data)]
    shipped = [_shipped(data), _chosen(data), _smallest(data), _against_reference(data), _as_good(data)]
    found = [*_verdict(data), _synthetic(data), *tried, *shipped, _tuned(data), _constant(data)]
    return [sentence for sentence in found if sentence]


def _synthetic(data: RunData) -> str:
    return "The data is synthetic: scores tell nothing of real data." if data.synthetic else ""


def print_models(console: Console, folder: RunFolder) -> None:
    """Print the shipped models as a table, then the finalists that failed, with their reasons.

    Raises:
        InputError: the folder holds no run, or a file that can't be read.
    """
    data = read_run(folder)
    for sentence in sentences(data):
        console.print(Text(sentence))
    if data.cards:
        table, left_out = _table(data, console.width)
        console.print(table)
        if left_out:
            console.print(Text(f"No room for {listed(left_out)}: a wider terminal, or report.html, has them."))
    else:
        console.print(Text("no model has shipped yet"))
    if data.failures:
        console.print(Text(f"{count(len(data.failures), 'finalist')} failed:", style="bold"))
    for candidate, reason in data.failures:
        console.print(Text(f"  {candidate}: {reason}"), soft_wrap=True)
    if data.degenerate:
        console.print(Text(f"{count(len(data.degenerate), 'model')} degenerate, no success:", style="bold"))
    for name, reason in data.degenerate.items():
        console.print(Text(f"  {name} {reason}"), soft_wrap=True)


def _task(data: RunData) -> str:
    task = data.recipe_table("task")
    return f"{task.get('name', 'task')} {task.get('subset', '')}".strip()


def _searched(data: RunData) -> str:
    groups = [str(group) for group in data.recipe_table("space").get("search", [])]
    together = f", over {listed(groups)}" if groups else ""
    return f"Searched {data.space} networks for {_task(data)} with {data.strategy or 'an unnamed strategy'}{together}."


def _tabled(data: RunData) -> str:
    """Tell how much the tables of blocks hold."""
    if not data.blocks:
        return ""
    rows = sum(len(block) for block in data.blocks)
    return (
        f"Block by block: the tables of {count(len(data.blocks), 'block')} have {count(rows, 'row')}, which stand for "
        f"{magnitude(networks_of(data.blocks))} networks."
    )


def _fitted(data: RunData) -> str:
    """Tell how well a score ranks the networks that it was fitted to, each pair left out of a fit of its own."""
    found = data.summary.get("fitted_score")
    if not isinstance(found, dict):
        return ""
    tau, plain = finite(found.get("tau")), finite(found.get("plain_tau"))
    if tau is None or plain is None:
        return ""
    no_better = "" if tau > plain else ": no better, so that the plain sum would do"
    return (
        f"The score is fitted to {count(int(found['networks']), 'retrained network')}: it ranks pairs that it was not "
        f"fitted to with Kendall's tau {tau:.2f}, {found['plain']} with {plain:.2f}{no_better}."
    )


def _gated(data: RunData) -> list[str]:
    """Tell what gates expected of each alpha, and what the network costs that was taken."""
    told = []
    for row in data.summary.get("gates", []):
        costs = [
            f"{number(finite(value))} {title(name)} expected, {number(finite(row['discretised'].get(name)))} as taken"
            for name, value in row["expected"].items()
        ]
        collapsed = f"; collapsed: {row['collapse']}" if row["collapse"] else ""
        told.append(f"Gates at alpha {row['alpha']:g}: {listed(costs)}{collapsed}.")
    return told


def _tried(data: RunData) -> str:
    """Tell how many trials ended in which way."""
    outcomes = data.outcomes
    if not outcomes:
        return "" if data.blocks or data.front else "No trial is recorded yet."
    told = [f"{count(outcomes.get('measured', 0), 'trial')} measured"]
    told.append(f"{outcomes.get('rejected', 0):,} rejected before training")
    told += [f"{amount:,} {name}" for name, amount in outcomes.items() if name not in ("measured", "rejected")]
    times = _clock(data)
    return f"{', '.join(told)}{'; ' if times else ''}{', '.join(times)}."


def _clock(data: RunData) -> list[str]:
    """Return the times of a run without stages before its search; `_times` tells those of the others."""
    if stages(data):
        return []
    wall = data.summary.get("seconds", {})
    times = [f"{name} took {duration(float(seconds))}" for name, seconds in wall.items() if seconds]
    cpu = data.summary.get("train_cpu_seconds")
    return [*times, f"training used {duration(float(cpu))} of CPU"] if cpu else times


def _solved(data: RunData) -> str:
    """Tell the size and the axes of a front that is by scores which stand for a metric."""
    if not data.front:
        return "" if data.outcomes or not data.blocks else "No front is there yet."
    if not data.scored_for:
        return ""
    sums = f"; a network's score is the sum of its blocks' {_summed(data)}" if data.blocks else ""
    axes = listed([title(axis.column) for axis in data.front_axes])
    return f"Its front by {axes} has {count(len(data.front), 'network')}{sums}."


def _summed(data: RunData) -> str:
    """Return what the score of a block is."""
    ratios = "quantized noise-to-signal ratios"
    summed = {
        "nsr_log_sum": f"logarithms of {ratios}",
        "replace_one": "losses, each alone in the quantized reference",
        "nsr_weighted": f"{ratios}, each with a weight",
        "calibrated": f"{ratios}, each by a rising function",
    }
    return next((summed[score.column] for score in data.scored_for if score.column in summed), ratios)


def _times(data: RunData) -> str:
    """Tell what the stages took."""
    told = stages(data)
    spent = [f"{stage.name} {duration(stage.cpu_seconds)}" for stage in told if stage.cpu_seconds is not None]
    wall = [seconds for value in data.summary.get("seconds", {}).values() if (seconds := finite(value))]
    clock = f"; {duration(sum(wall))} by the clock in all" if wall else ""
    return f"CPU time: {', '.join(spent)}{clock}." if spent else ""


def _shipped(data: RunData) -> str:
    if not data.cards and not data.finalists:
        return ""
    failed = len(data.failures)
    besides = ["the reference"] if SEED_ID in data.cards else []
    besides += [count(len(data.baselines), "baseline")] if data.baselines else []
    told = f", besides {listed(besides)}" if besides else ""
    return f"{count(len(data.shipped), 'model')} shipped{told}; {count(failed, 'finalist')} failed."


def _chosen(data: RunData) -> str:
    """Tell why not all of the front was trained to ship."""
    reason = data.summary.get("finalists", {}).get("chosen")
    return f"Finalists: {reason}." if reason else ""


def _scored(data: RunData, card: Card) -> str:
    metric = main_metric(data)
    found = None if metric is None else statistic(card, "deployed", "val", metric)
    if metric is None or found is None:
        return ""
    test = statistic(card, "deployed", "test", metric)
    told = f" at {words(metric)} {number(found.mean)} on validation"
    return told if test is None else f"{told} and {number(test.mean)} on test data"


def _smallest(data: RunData) -> str:
    if not data.useful:
        return "None of the models that the search found is a success: see below." if data.shipped else ""
    cost = main_cost(data)
    name, card = min(data.useful.items(), key=lambda item: item[1].paid(cost))
    return f"The {_comparison(cost)[2]}, {named(data, name)}, has {sized(cost, card)}{_scored(data, card)}."


def _comparison(cost: Cost) -> tuple[str, str, str]:
    """Return what is said of less of a cost, of more of it, and of the least."""
    return ("faster", "slower", "fastest") if cost.of_time else ("smaller", "larger", "smallest")


def _against_reference(data: RunData) -> str:
    reference = data.cards.get(SEED_ID)
    if reference is None or not data.useful:
        return ""
    cost, metric = main_cost(data), main_metric(data)
    card = min(data.useful.values(), key=lambda shipped: shipped.paid(cost))
    ratio = reference.paid(cost) / max(card.paid(cost), 1e-12)
    less, more, _ = _comparison(cost)
    compared = f"{_ratio(ratio)} {less}" if ratio >= 1 else f"{_ratio(1 / ratio)} {more}"
    own, its = (None if metric is None else statistic(c, "deployed", "val", metric) for c in (card, reference))
    apart = None if own is None or its is None else finite(own.mean - its.mean)
    scored = "" if apart is None else f" with {signed(apart)} in validation {words(str(metric))}"
    return f"Against the reference ({sized(cost, reference)}{_scored(data, reference)}) it is {compared}{scored}."


def _as_good(data: RunData) -> str:
    """Name the smallest that was found and scores at least as well as the reference, or else the best one."""
    reference, metric = data.cards.get(SEED_ID), main_metric(data)
    if reference is None or metric is None or not data.useful:
        return ""
    searched = next((score for score in data.scores if score.name == metric), Metric(metric))
    losses = {}
    for name, card in data.cards.items():
        if name != SEED_ID and name not in data.useful:
            continue
        found = statistic(card, "deployed", "val", metric)
        if found is not None and finite(found.mean) is not None:
            losses[name] = searched.loss(found.mean)
    limit = losses.pop(SEED_ID, None)
    if limit is None or not losses:
        return ""
    cost = main_cost(data)
    good = [name for name, loss in losses.items() if loss <= limit]
    if not good:
        best = min(losses, key=lambda name: losses[name])
        card = data.cards[best]
        told = f"{sized(cost, card)}{_scored(data, card)}"
        return f"None scores as well as the reference; the best, {named(data, best)}, has {told}."
    name = min(good, key=lambda name: data.cards[name].paid(cost))
    return (
        f"The {_comparison(cost)[2]} that scores at least as well as the reference on validation, {named(data, name)}, "
        f"has {sized(cost, data.cards[name])}{_scored(data, data.cards[name])}."
    )


def _tuned(data: RunData) -> str:
    """Tell how long the reference trains, and of which lengths that was the best."""
    tuning = data.summary.get("reference_tuning", {})
    scores = tuning.get("scores", {}) if isinstance(tuning, dict) else {}
    if not scores:
        return ""
    tried = [f"{epochs}: {number(float(np.mean(np.array(found, float))))}" for epochs, found in scores.items()]
    trainings = max(len(found) for found in scores.values())
    chosen = count(int(tuning["epochs"]), "epoch")
    return (
        f"The reference trains {chosen}, the best of {listed(list(scores))} on validation "
        f"({words(str(tuning['metric']))}, mean of {count(trainings, 'training')}: {', '.join(tried)})."
    )


def _constant(data: RunData) -> str:
    """Tell what the best constant scores, which every network has to beat."""
    metric = main_metric(data)
    row = next((row for row in data.finalists if row.get("kind") == BASELINE and row.get("status") == "scored"), None)
    if row is None or metric is None:
        return ""
    val, test = (finite(row.get(f"{metric}_float_{split}_mean")) for split in ("val", "test"))
    if val is None or test is None:
        return ""
    return f"The best constant has {words(metric)} {number(val)} on validation and {number(test)} on test data."


def _verdict(data: RunData) -> list[str]:
    """Return what the run says of the smallest model that can't be told from the best; early runs say nothing."""
    told = data.summary.get("verdict", {})
    return [str(sentence) for sentence in told.get("sentences", [])] if isinstance(told, dict) else []


def _ratio(ratio: float) -> str:
    return f"{ratio:,.0f} times" if ratio >= _WHOLE_FROM else f"{ratio:.1f} times"


def _table(data: RunData, width: int) -> tuple[Table, list[str]]:
    """Return the table of models as far as a terminal has room, and the titles of what is left out.

    Scores and what limits most often bound come first, in the room that there is; a cell is never broken.
    """
    models = model_table(data)
    columns = [column for column in models.columns if column.brief]
    names = [f"{name} (degenerate)" if name in data.degenerate else name for name in models.names]
    described = [data.cards[name].described for name in models.names]
    room = width - max(map(len, [*names, "model"]))
    words_wide = min(_WIDEST, max(map(len, described), default=0))
    kept: dict[str, int] = {}
    for column in sorted(columns, key=lambda column: _rank(data, column)):
        wide = max(map(len, [*f"{column.title} {column.unit}".split(), *(cell.text for cell in column.cells)]))
        spare = _GAP + words_wide if any(described) and _rank(data, column) == _LAST else 0
        if wide + _GAP + spare <= room:
            room -= wide + _GAP
            kept[column.title] = wide
    shows_words = any(described) and room >= _GAP + min(words_wide, _NARROWEST)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("model", no_wrap=True)
    if shows_words:
        table.add_column("what it is", width=min(words_wide, room - _GAP))
    shown = [column for column in columns if column.title in kept]
    for column in shown:
        least = kept[column.title]
        whole = max(least, len(column.title), len(column.unit))
        wide = min(whole, least + room) if not shows_words else least
        room -= 0 if shows_words else wide - least
        table.add_column(Text(f"{column.title}\n{column.unit}"), justify="right", width=wide)
    for row, name in enumerate(models.names):
        cells = [Text(column.cells[row].text, no_wrap=True) for column in shown]
        told = [Text(described[row])] if shows_words else []
        style = "dim" if name == SEED_ID or name in data.baselines else None
        table.add_row(Text(names[row]), *told, *cells, style=style)
    left_out = [column.title for column in columns if column.title not in kept]
    return table, [*([] if shows_words or not any(described) else ["what it is"]), *left_out]


def _rank(data: RunData, column: Column) -> int:
    """Return how soon a column is given room: scores, the cost that was searched, flash and RAM, then the rest."""
    cost = main_cost(data)
    first = [COST_WORDS[name] for name in (cost.name, "file_bytes", "arena_bytes")]
    kind = column.title.partition(", ")[0] if cost.of_device else column.title  # a device is behind
    if kind in first:
        return 1 + first.index(kind)
    metric = main_metric(data)
    scores = [f"{words(metric)}, {SPLITS[split]}" for split in SPLITS] if metric is not None else []
    return 0 if column.title in scores else _LAST
