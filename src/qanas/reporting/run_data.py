"""What the files of a run say, read once; a file that is not there yet reads as empty."""

from __future__ import annotations

import io
import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from qanas.core.bits import bits_by_layer, told_bits
from qanas.core.errors import InputError
from qanas.core.measures import Cost, Direction, Goal, Measure, Metric, Score, is_setting, measure_of
from qanas.core.run_folder import SEED_ID, RunFolder, read_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    import polars as pl

    from qanas.core.card import Card

Row = Mapping[str, Any]
Arrays = Mapping[str, NDArray[Any]]

BASELINE = "baseline"
"""The kind of what a run compares itself with, on cards and in finalists.csv."""

MIXED_BITS = 0
"""Stands for the bits of weights whose layers have others."""

_BLOCK_COLUMNS = {"weight_bits", "path", "options", "nsr", "exact"}


@dataclass(frozen=True)
class BlockRows:
    """The table of one block, a row a path and bit-width.

    Attributes:
        name: of the block.
        options: what stands at each layer, from the first to the last, such as ``("k5e3", "k3e6")``.
        weight_bits: of the weights of each layer.
        nsr: quantized noise-to-signal ratio, shape (rows,).
        exact: whether it is over all held-out samples, shape (rows,); the others were dropped in the races.
        costs: of the block, each of shape (rows,).
    """

    name: str
    options: tuple[tuple[str, ...], ...]
    weight_bits: tuple[tuple[int, ...], ...]
    nsr: NDArray[np.float64]
    exact: NDArray[np.bool_]
    costs: Mapping[str, NDArray[np.float64]]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.options)

    def bits_told(self, row: int) -> str:
        """Return the bits of a row's weights in words."""
        return f"{told_bits([self.weight_bits[row]])} bits"

    def bits_alike(self, row: int) -> int:
        """Return the bits of a row's weights, `MIXED_BITS` where layers have others."""
        bits = set(self.weight_bits[row])
        return bits.pop() if len(bits) == 1 else MIXED_BITS

    def row_with(self, nsr: float | None) -> int | None:
        """Return the first row with exactly this score; None where there is none."""
        rows = np.flatnonzero(self.exact & (self.nsr == (np.nan if nsr is None else nsr)))
        return int(rows[0]) if len(rows) else None


def networks_of(blocks: Sequence[BlockRows]) -> int:
    """Return how many networks the tables stand for: one row of each, in every combination."""
    return math.prod(len(block) for block in blocks)


def chosen_rows(blocks: Sequence[BlockRows], point: Row) -> list[int] | None:
    """Return the row of each block that a front point consists of; None where the tables aren't those of the front.

    Args:
        blocks: in the order in which values pass them.
        point: a row of front.csv. ``row_1`` and so on name the rows; in earlier versions it has none of these
            columns, but each block's score in full.
    """
    rows: list[int] = []
    for place, block in enumerate(blocks, 1):
        named = point.get(f"row_{place}")
        row = block.row_with(finite(point.get(f"nsr_{place}"))) if named is None else int(named)
        if row is None or not 0 <= row < len(block):
            return None
        rows.append(row)
    return rows


@dataclass(frozen=True)
class RunData:
    """One run, as far as its files tell.

    Attributes:
        folder: where it lies.
        recipe: resolved.
        trials: one row a trial, in the order in which they ended.
        front: one row a front point.
        finalists: one row a finalist.
        summary: counts and times.
        importance: how much each setting mattered; empty where that was not computed.
        cards: of the shipped models, the reference first.
        blocks: their tables, in the order in which values pass them; empty where the run made none.
        missing: the names of the files that are not there yet.
    """

    folder: RunFolder
    recipe: dict[str, Any]
    trials: list[dict[str, Any]]
    front: list[dict[str, Any]]
    finalists: list[dict[str, Any]]
    summary: dict[str, Any]
    importance: dict[str, Any]
    cards: dict[str, Card]
    blocks: tuple[BlockRows, ...]
    missing: tuple[str, ...]

    @property
    def space(self) -> str:
        """The name of the family of networks; recipes of early block-wise searches have it as their teacher's."""
        return str(self.recipe_table("space").get("name") or self.recipe_table("teacher").get("network") or "")

    @property
    def synthetic(self) -> bool:
        """Whether the task made its data up."""
        told = [card.protocol.get("source") for card in self.cards.values()]
        return "synthetic" in (self.recipe_table("task").get("data"), *told)

    @property
    def strategy(self) -> str:
        """The name of the search strategy; empty where the recipe has none."""
        return str(self.recipe_table("strategy").get("name") or "")

    @cached_property
    def objectives(self) -> tuple[Measure, ...]:
        """What the recipe asks for, in its order."""
        return _axes(self.recipe_table("objectives").items())

    @cached_property
    def front_axes(self) -> tuple[Measure, ...]:
        """The axes of the front: objectives, or scores that stand for them while a search goes on.

        Early versions name none: an objective whose column the front has stands for itself, in place of another one
        there is the first score, that of whole networks.
        """
        named = self.summary.get("front_axes")
        if named:
            return _axes(named.items())
        columns = list(self.front[0]) if self.front else []
        scores = [found for column in columns if isinstance(found := measure_of(column), Score)]
        stand_in = scores[:1]
        axes = [[axis] if axis.column in columns or not stand_in else stand_in for axis in self.objectives]
        return tuple(dict.fromkeys(axis for found in axes for axis in found))

    @cached_property
    def front_scores(self) -> tuple[Measure, ...]:
        """The axes of the front that are no costs."""
        return tuple(axis for axis in self.front_axes if not isinstance(axis, Cost))

    @cached_property
    def scored_for(self) -> tuple[Score, ...]:
        """The axes of the front that stand for a metric: its points were not trained for them."""
        return tuple(axis for axis in self.front_axes if isinstance(axis, Score))

    @cached_property
    def scores(self) -> tuple[Metric, ...]:
        """The objectives that are metrics."""
        return tuple(objective for objective in self.objectives if isinstance(objective, Metric))

    @cached_property
    def costs(self) -> tuple[Cost, ...]:
        """The objectives that are costs."""
        return tuple(objective for objective in self.objectives if isinstance(objective, Cost))

    @cached_property
    def shipped(self) -> dict[str, Card]:
        """The cards of the models that the search found: without the reference's and the baselines'."""
        return {name: card for name, card in self.cards.items() if name != SEED_ID and card.kind != BASELINE}

    @cached_property
    def degenerate(self) -> dict[str, str]:
        """Why shipped models are no success, by name; those that are aren't there."""
        return {name: card.degenerate.told() for name, card in self.cards.items() if card.degenerate is not None}

    @cached_property
    def useful(self) -> dict[str, Card]:
        """What the search found and is a success, of these what reaches the goals: what a sentence may be about."""
        found = {name: card for name, card in self.shipped.items() if name not in self.degenerate}
        reaching = {name: card for name, card in found.items() if card.reaches(self.goals)}
        return reaching or found

    @cached_property
    def goals(self) -> tuple[Goal, ...]:
        """Scores that are to be reached."""
        known = self.folder.metric_directions()
        named = self.recipe_table("goals").items()
        found = ((name, bound, measure_of(name)) for name, bound in named)
        return tuple(Goal.parse(name, bound, known) for name, bound, m in found if m is not None and m.name in known)

    @cached_property
    def baselines(self) -> dict[str, Card]:
        """The cards of the baselines that shipped."""
        return {name: card for name, card in self.cards.items() if card.kind == BASELINE}

    @property
    def reference_costs(self) -> dict[str, Any]:
        """What the reference costs, by column; empty where the search did not say so."""
        return dict(self.summary.get("reference") or self.summary.get("teacher") or {})

    @cached_property
    def measured(self) -> list[dict[str, Any]]:
        """The trials with a finite value on every axis of the front, in the order of their index."""
        names = [axis.column for axis in self.front_axes]
        measured = (row for row in self.trials if row.get("outcome") == "measured")
        rows = [row for row in measured if all(finite(row.get(name)) is not None for name in names)]
        return sorted(rows, key=lambda row: (row.get("index") is None, row.get("index") or 0))

    @cached_property
    def outcomes(self) -> dict[str, int]:
        """How many trials ended in which way, from the table or else from the summary; empty without a trial."""
        if self.trials:
            return dict(Counter(str(row["outcome"]) for row in self.trials))
        counted = {name: int(amount) for name, amount in self.summary.get("trials", {}).items()}
        return counted if any(counted.values()) else {}

    @cached_property
    def failures(self) -> list[tuple[str, str]]:
        """The finalists that did not ship, with the reason: from both files that may tell."""
        listed = self.summary.get("finalists", {}).get("failures", [])
        told = {str(entry["candidate"]): str(entry["reason"]) for entry in listed}
        for row in self.finalists:
            if row.get("status") == "failed" and row.get("kind") != BASELINE:
                told.setdefault(name_of(row), str(row.get("reason") or "no reason"))
        return list(told.items())

    def recipe_table(self, name: str) -> dict[str, Any]:
        """Return a table of the recipe; empty where it has none."""
        table = self.recipe.get(name, {})
        return table if isinstance(table, dict) else {}

    def settings(self, row: Row) -> dict[str, Any]:
        """Return the settings of a table's row: the columns that are nothing else."""
        axes = {axis.column for axis in self.front_axes}
        return {
            name: value for name, value in row.items() if value is not None and is_setting(name) and name not in axes
        }


def _axes(named: Iterable[tuple[str, Direction]]) -> tuple[Measure, ...]:
    """Return the measures of columns with their directions; what is nothing known is a score of an estimator's own."""
    found = ((measure_of(column) or Score(column), direction) for column, direction in named)
    return tuple(
        replace(measure, better=direction) if isinstance(measure, Metric | Score) else measure
        for measure, direction in found
    )


def finite(value: object) -> float | None:
    """Return a cell as a number; None where it holds no finite one."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def named(data: RunData, name: str) -> str:
    """Return a shipped model's name with what it is in brackets, where that is known."""
    card = data.cards.get(name)
    return f"{name} ({card.described})" if card is not None and card.described else name


def name_of(row: Row) -> str:
    """Return what a row of front or finalists is called: its model's folder, or else its key."""
    return str(row.get("candidate") or row.get("key"))


def trials_file(folder: RunFolder) -> Path:
    """Return the table of all trials: early runs have it as CSV."""
    old = folder.trials_csv.is_file() and not folder.trials.is_file()
    return folder.trials_csv if old else folder.trials


def read_run(folder: RunFolder) -> RunData:
    """Read a run's files.

    Raises:
        InputError: the folder holds no run, or a file that can't be read.
    """
    folder.require()
    recipe, cards = folder.read_recipe(), folder.cards()
    summary, importance = _json(folder.summary), _json(folder.importance)
    tables = (trials_file(folder), folder.front, folder.finalists)
    trials, front, finalists = (read_table(path).to_dicts() for path in tables)
    blocks = _blocks(folder, summary)
    missing = _missing(folder, blocks, cards)
    return RunData(folder, recipe, trials, front, finalists, summary, importance, cards, blocks, missing)


def _missing(folder: RunFolder, blocks: Sequence[BlockRows], cards: Mapping[str, Card]) -> tuple[str, ...]:
    """Return the names of what a finished run has, and this one not yet."""
    searched = bool(blocks) or trials_file(folder).is_file()
    there = {f"{folder.trials.name} or {folder.blocks.name}/": searched}
    there |= {path.name: path.is_file() for path in (folder.front, folder.finalists, folder.summary)}
    there |= {"models/": bool(cards)}
    return tuple(name for name, is_there in there.items() if not is_there)


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content: Any = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: {error}; the file was damaged, run again to write it anew") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: it holds no table; the file was damaged, run again to write it anew")
    return content


def _blocks(folder: RunFolder, summary: Mapping[str, Any]) -> tuple[BlockRows, ...]:
    """Read the tables of all blocks; those that are not there yet are left out.

    Args:
        folder: of the run.
        summary: names the blocks in the order in which values pass them, once the search has ended.

    Raises:
        InputError: a table was damaged.
    """
    paths = {path.parent.name: path for path in sorted(folder.blocks.glob("[!.]*/table-*.parquet"))}
    order = list(summary.get("tables", {}).get("blocks", {}))
    names = sorted(paths, key=lambda name: (order.index(name) if name in order else len(order), _natural(name)))
    return tuple(_read_block(name, paths[name]) for name in names)


def _read_block(name: str, path: Path) -> BlockRows:
    frame = read_table(path)
    lacking = sorted(_BLOCK_COLUMNS - set(frame.columns))
    if lacking:
        raise InputError(f"{path}: has no column {lacking[0]}; the table was damaged, run again to write it anew")
    return BlockRows(
        name,
        tuple(tuple(str(text).split("-")) for text in frame["options"]),
        tuple(bits_by_layer(frame["weight_bits"].to_list(), frame["path"].to_list())),
        _numbers(frame, "nsr"),
        frame["exact"].to_numpy().astype(np.bool_),
        {column: _numbers(frame, column) for column in frame.columns if isinstance(measure_of(column), Cost)},
    )


def _numbers(frame: pl.DataFrame, column: str) -> NDArray[np.float64]:
    values: NDArray[np.float64] = frame[column].to_numpy().astype(np.float64)
    return values


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a key that puts block_10 after block_9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


# Predictions


@dataclass(frozen=True)
class Predictions:
    """What is kept of a shipped model's predictions.

    Attributes:
        name: of the model's folder.
        weight_bytes: of its file.
        arrays: by name, with the split's in front.
    """

    name: str
    weight_bytes: int
    arrays: Arrays

    @property
    def label(self) -> str:
        """Name and size."""
        return f"{self.name}, {self.weight_bytes:,} bytes"

    def column(self, name: str) -> NDArray[np.float64] | None:
        """Return an array with one number a row, shape (rows,); None if there is none such."""
        array = self.arrays.get(name)
        if array is None or not array.size or array.size != len(array):
            return None
        return np.asarray(array, dtype=np.float64).reshape(-1)

    def has(self, split: str, *names: str) -> bool:
        """Tell whether all arrays of a split are there, of one length."""
        columns = [self.column(f"{split}_{name}") for name in ("outputs", "targets", *names)]
        lengths = {len(column) for column in columns if column is not None}
        return all(column is not None for column in columns) and len(lengths) == 1

    def __getitem__(self, name: str) -> NDArray[np.float64]:
        column = self.column(name)
        if column is None:
            raise KeyError(name)
        return column


def read_predictions(data: RunData) -> list[Predictions]:
    """Read the predictions of every shipped model, the best one first and the reference last.

    Raises:
        InputError: a file was damaged.
    """
    names = sorted(data.cards, key=lambda name: (name == SEED_ID, _deployed_loss(data, name)))
    paths = {name: data.folder.model(name) / "predictions.npz" for name in names}
    there = [(name, path) for name, path in paths.items() if path.is_file()]
    return [Predictions(name, data.cards[name].weight_bytes, _arrays(path)) for name, path in there]


def _arrays(path: Path) -> Arrays:
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except Exception as error:  # a damaged file raises whatever its reader stumbles over
        raise InputError(f"{path}: {error}; it was damaged, run again to write it anew") from error


def _deployed_loss(data: RunData, name: str) -> float:
    """Return a model's deployed validation score, with the sign that makes smaller better."""
    metrics = data.cards[name].metrics.get("deployed", {}).get("val", {})
    for objective in data.scores:
        if objective.name in metrics:
            mean = finite(metrics[objective.name].mean)
            return math.inf if mean is None else objective.loss(mean)
    return 0.0
