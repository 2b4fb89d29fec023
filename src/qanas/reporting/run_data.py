"""What the files of a run say, read once; a file that is not there yet reads as empty."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from qanas.core.errors import InputError
from qanas.core.measurement import Objective
from qanas.core.run_folder import SEED_ID, RunFolder
from qanas.core.tables import TEXT_COLUMNS, read_table
from qanas.reporting.block_tables import BlockRows, read_blocks
from qanas.reporting.wording import is_block_score, is_cost, metric_parts

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from qanas.core.card import Card

Row = Mapping[str, Any]

_TIMES = ("train_seconds", "started_at", "finished_at")
_NO_SETTINGS = {*TEXT_COLUMNS, *_TIMES, "number", "index", "seed_network", "feasible"}


@dataclass(frozen=True)
class RunData:
    """One run, as far as its files tell.

    Attributes:
        folder: where it lies.
        recipe: resolved.
        trials: one row a trial, in the order in which they were asked for.
        front: one row a front point.
        finalists: one row a finalist.
        summary: counts and times.
        importance: how much each setting mattered; empty where that was not computed.
        cards: of the shipped models, the seed network first.
        blocks: their tables, in the order in which values pass them; none where trials were sampled.
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
    def blockwise(self) -> bool:
        """Whether the front was solved over tables of blocks; else it is of trials that were trained."""
        return is_blockwise(self.recipe)

    @property
    def space(self) -> str:
        """The name of the family of networks."""
        named = (
            self.recipe_table("teacher").get("network") if self.blockwise else self.recipe_table("space").get("name")
        )
        return str(named or "")

    @cached_property
    def objectives(self) -> tuple[Objective, ...]:
        """What the recipe asks for, in its order."""
        named = self.recipe.get("objectives", {})
        return tuple(Objective(name, direction) for name, direction in named.items())

    @cached_property
    def front_axes(self) -> tuple[Objective, ...]:
        """The axes of the front: the objectives; in a block-wise search its score stands for the metric."""
        if not self.blockwise:
            return self.objectives
        return (Objective(str(self.recipe_table("score").get("name", "nsr_sum"))), *self.costs)

    @cached_property
    def front_scores(self) -> tuple[Objective, ...]:
        """The axes of the front that are no costs."""
        return tuple(axis for axis in self.front_axes if not is_cost(axis.name))

    @cached_property
    def scores(self) -> tuple[Objective, ...]:
        """The objectives that are metrics."""
        return tuple(objective for objective in self.objectives if not is_cost(objective.name))

    @cached_property
    def costs(self) -> tuple[Objective, ...]:
        """The objectives that are costs."""
        return tuple(objective for objective in self.objectives if is_cost(objective.name))

    @cached_property
    def shipped(self) -> dict[str, Card]:
        """The cards of the models that the search found: all but the seed network's."""
        return {name: card for name, card in self.cards.items() if name != SEED_ID}

    @cached_property
    def measured(self) -> list[dict[str, Any]]:
        """The trials with a finite value for every objective, in the order of their index."""
        names = [objective.name for objective in self.objectives]
        measured = (row for row in self.trials if row.get("outcome") == "measured")
        rows = [row for row in measured if all(finite(row.get(name)) is not None for name in names)]
        return sorted(rows, key=lambda row: (row.get("index") is None, row.get("index") or 0))

    @cached_property
    def outcomes(self) -> dict[str, int]:
        """How many trials ended in which way, from the table or else from the summary."""
        if self.trials:
            return dict(Counter(str(row["outcome"]) for row in self.trials))
        return {name: int(amount) for name, amount in self.summary.get("trials", {}).items()}

    @cached_property
    def failures(self) -> list[tuple[str, str]]:
        """The finalists that did not ship, with the reason: from both files that may tell."""
        listed = self.summary.get("finalists", {}).get("failures", [])
        told = {str(entry["candidate"]): str(entry["reason"]) for entry in listed}
        for row in self.finalists:
            if row.get("status") == "failed":
                told.setdefault(str(row.get("candidate") or row.get("key")), str(row.get("reason") or "no reason"))
        return list(told.items())

    def recipe_table(self, name: str) -> dict[str, Any]:
        """Return a table of the recipe; empty where it has none."""
        table = self.recipe.get(name, {})
        return table if isinstance(table, dict) else {}

    def settings(self, row: Row) -> dict[str, Any]:
        """Return the settings of a table's row: the columns that are nothing else."""
        return {name: value for name, value in row.items() if value is not None and is_setting(name)}


def is_setting(column: str) -> bool:
    """Tell the settings among a table's columns."""
    scored = metric_parts(column) is not None or is_block_score(column)
    return column not in _NO_SETTINGS and not is_cost(column) and not scored


def is_blockwise(recipe: Mapping[str, Any]) -> bool:
    """Tell the recipe of a block-wise search from that of a sampled one."""
    return "blocks" in recipe


def finite(value: object) -> float | None:
    """Return a cell as a number; None where it holds no finite one."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


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
    blocks = read_blocks(folder, summary) if is_blockwise(recipe) else ()
    missing = _missing(folder, recipe, blocks, cards)
    return RunData(folder, recipe, trials, front, finalists, summary, importance, cards, blocks, missing)


def _missing(
    folder: RunFolder, recipe: Mapping[str, Any], blocks: Sequence[BlockRows], cards: Mapping[str, Card]
) -> tuple[str, ...]:
    """Return the names of what a finished run has, and this one not yet."""
    found = trials_file(folder)
    searched = {"blocks/": bool(blocks)} if is_blockwise(recipe) else {found.name: found.is_file()}
    files = {path.name: path.is_file() for path in (folder.front, folder.finalists, folder.summary)}
    there = searched | files | {"models/": bool(cards)}
    return tuple(name for name, is_there in there.items() if not is_there)


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: {error}; the file was damaged, run again to write it anew") from error
    return content
