"""What depends on what: the one statement of it, for names of files and for resuming."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qanas.core.errors import InputError
from qanas.core.keys import flatten
from qanas.core.measures import Cost
from qanas.core.run_folder import RunFolder
from qanas.core.sources import own_digest
from qanas.planning.plan import SWEEP, Plan

IRRELEVANT: tuple[str, ...] = (
    "versions.",
    "source.",
    "task.data",  # where the data lies doesn't matter, its fingerprint does
    "pretraining.data",  # likewise
    "seed.weights",  # likewise
    "teacher.weights",
    "estimation.jobs",
    "estimation.cache",
    "estimation.min_tau",
    "strategy.trials",
    "strategy.hours",
    "strategy.max_rejected",
    "store.",
    "execution.",
)
"""Keys that decide how long a run goes on, and where things are, not what it finds."""


@dataclass(frozen=True)
class Stage:
    """A part of a run that is kept in its folder.

    Attributes:
        name: for estimators and messages.
        keys: of the resolved recipe that it depends on; a trailing dot stands for a whole table.
        after: stages that it is made from.
        renewed: whether it is made anew where a change concerns it: its files are named by what they are made from.
            Else the change is refused.
    """

    name: str
    keys: tuple[str, ...]
    after: tuple[str, ...] = ()
    renewed: bool = False


STAGES: Mapping[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage(
            "reference",
            (
                "task.", "pretraining.", "space.", "teacher.", "blocks.", "seed.", "estimation.", "quantization.",
                "run.", "data_fingerprint",
            ),
        ),
        Stage("scheme", ("objectives.",), ("reference",)),
        Stage("supernets", ("distillation.steps", "distillation.sampling", "distillation.batch_size",
                            "distillation.learning_rate", "distillation.views"), ("reference",), renewed=True),
        Stage("tables", ("distillation.seeds", "table."), ("supernets",), renewed=True),
        Stage("replaced", ("score.samples",), ("tables",), renewed=True),
        Stage("retrained", ("score.epochs", "score.start", "score.held_out"), ("supernets",), renewed=True),
        Stage("shared", ("supernet.",), ("reference",)),
        Stage("gates", (), ("shared",), renewed=True),
        Stage("anchors", (), ("reference",), renewed=True),
        Stage("trials", ("strategy.", "objectives.", "limits.", "figures."), ("reference",)),
        Stage("front", ("strategy.", "score.", "objectives.", "limits.", "figures."), ("tables", "anchors", "trials"),
              renewed=True),
        Stage("finalists", ("finalists.", "baselines.", "reference.", "goals."), ("front",), renewed=True),
        Stage("models", ("device.",), ("finalists",)),
    )
}  # fmt: skip
"""Every stage, in the order in which a run has them. A run has those of its estimator between reference and front."""

ALWAYS = ("reference", "front", "finalists", "models")


def stages_of(plan: Plan) -> list[Stage]:
    """Return the stages that a run has."""
    swept = ("scheme",) if plan.scheme.name == SWEEP else ()
    # A solver asks for no trials: what it finds is made anew.
    own = [name for name in plan.estimator.stages if name != "trials" or plan.strategy.needs is None]
    return [STAGES[name] for name in (*ALWAYS, *own, *swept)]


def _matches(key: str, patterns: Sequence[str]) -> bool:
    return any(key.startswith(entry) if entry.endswith(".") else key == entry for entry in patterns)


def _with_all_before(stage: Stage) -> Iterator[Stage]:
    yield stage
    for name in stage.after:
        yield from _with_all_before(STAGES[name])


def made_from(stage: str, recipe: Mapping[str, Any], *more: object) -> str:
    """Return ten hexadecimal digits that change with all that a stage is made from.

    Args:
        stage: its name.
        recipe: resolved.
        more: what else it is made from, as JSON can hold it.
    """
    patterns = [key for entry in _with_all_before(STAGES[stage]) for key in entry.keys]
    keys = {k: v for k, v in flatten(recipe).items() if _matches(k, patterns) and not _matches(k, IRRELEVANT)}
    text = json.dumps([keys, *more], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def check_resumable(plan: Plan, folder: RunFolder) -> None:
    """Refuse to go on with a run of another recipe or on other data; touches no file.

    Args:
        plan: with the resolved recipe.
        folder: new, or with an earlier session's run.

    Raises:
        InputError: names the differences.
    """
    existing = next(path for path in (folder.path, *folder.path.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise InputError(f"{existing}: this is a file; choose a folder with --out")
    folder.require_sound()
    if not folder.exists():
        return
    before, now = flatten(upgraded(folder.read_recipe())), flatten(plan.recipe)
    fixed = [key for stage in stages_of(plan) if not stage.renewed for key in stage.keys]
    differences = [
        f"{key} was {before.get(key, 'not set')}, now {now.get(key, 'not set')}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key) and not _matches(key, IRRELEVANT) and _concerns(plan, key, fixed)
    ]
    if differences:
        raise InputError(
            f"{folder.path}: holds the run of another recipe ({'; '.join(differences)}); "
            f"choose another folder with --out, or change it back"
        )


def sources_told(**components: object) -> dict[str, str]:
    """Return which files a person's own classes followed from, by their tables, as a resolved recipe's versions."""
    told = {f"{table}_source": own_digest(component) for table, component in components.items()}
    return {name: digest for name, digest in told.items() if digest}


def changed_sources(plan: Plan, folder: RunFolder) -> list[str]:
    """Say of which tables' classes the files changed since an earlier session: nobody knows what that changes.

    Args:
        plan: with the resolved recipe.
        folder: new, or with an earlier session's run.
    """
    if not folder.recipe.is_file():
        return []
    before = folder.read_recipe().get("versions", {})
    return [
        f"{name.removesuffix('_source')}: files of its class changed since this run was last gone on with; what was "
        "measured before is of the former ones"
        for name, digest in plan.recipe.get("versions", {}).items()
        if name.endswith("_source") and before.get(name, digest) != digest
    ]


def _concerns(plan: Plan, key: str, fixed: Sequence[str]) -> bool:
    """Tell whether a change of a key concerns what can't be made anew; unknown keys concern everything."""
    known = any(_matches(key, stage.keys) for stage in STAGES.values())
    if plan.scheme.name == SWEEP and key.startswith("objectives.") and Cost.parse(key.removeprefix("objectives.")):
        # The sweep chose the scheme by the metric among the objectives.
        fixed = [entry for stage in stages_of(plan) if not stage.renewed and stage.name != "scheme"
                 for entry in stage.keys]  # fmt: skip
    return not known or _matches(key, fixed)


def upgraded(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return a resolved recipe of an earlier version as this one writes it.

    Version 0.1 had batches of candidates, named the estimator of block-wise searches "training", too, and knew windows
    of every cycle alone; version 0.2 knew no features.
    """
    recipe = dict(recipe)
    if recipe.get("task", {}).get("name") == "turbofan":
        recipe["task"] = {"stride_in_window": 1, "features": "none", "mean_window": 15, **recipe["task"]}
    estimation = {name: value for name, value in recipe.get("estimation", {}).items() if name != "batch"}
    if "distillation" in recipe and "estimation" in recipe:
        estimation["name"] = "block_tables"
    return {**recipe, **({"estimation": estimation} if "estimation" in recipe else {})}
