"""A run that an earlier version began, whose recipe lacks the keys that came since, is gone on with as it was begun."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from qanas.core.errors import InputError
from qanas.core.run_folder import RunFolder
from qanas.hardware import devices
from qanas.planning.dependence import check_resumable, made_from
from qanas.recipe.begun import as_begun
from qanas.reporting.live import LiveDisplay
from qanas.workflows.run import run_search

if TYPE_CHECKING:
    from tests.workflows.conftest import MakePlan

LATER = {"estimation": ("qat_epochs", "device"), "quantization": ("container",), "finalists": ("confirm",)}
"""Keys that the earlier version didn't know."""


def test_what_an_earlier_version_could_not_name_is_no_change(make_plan: MakePlan, tmp_path: Path) -> None:
    plan = make_plan(strategy={"trials": 2}, finalists={"count": 1, "seeds": 1})
    known = {
        table: {key: value for key, value in values.items() if key not in LATER.get(table, ())}
        if isinstance(values, dict)
        else values
        for table, values in plan.recipe.items()
    }
    earlier, folder = replace(plan, recipe=known), RunFolder(tmp_path / "run")
    run_search(earlier, folder, LiveDisplay(Console(file=io.StringIO())))
    files = {path.name: path.stat().st_mtime_ns for path in folder.path.rglob("*.safetensors")}
    assert files

    with pytest.raises(InputError, match=r"estimation\.qat_epochs was not set, now 0"):
        check_resumable(plan, folder)
    begun = as_begun(plan, folder)
    for stage in ("trials", "finalists", "models"):
        assert made_from(stage, begun.recipe) == made_from(stage, earlier.recipe) != made_from(stage, plan.recipe)
    run_search(begun, folder, LiveDisplay(Console(file=io.StringIO())))
    assert {path.name: path.stat().st_mtime_ns for path in folder.path.rglob("*.safetensors")} == files


def test_a_later_key_that_says_something_is_refused(make_plan: MakePlan, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    plan = make_plan()
    known = {**plan.recipe, "estimation": {k: v for k, v in plan.recipe["estimation"].items() if k != "qat_epochs"}}
    folder.write_recipe(known)
    with pytest.raises(InputError, match=r"estimation\.qat_epochs was not set, now 2"):
        check_resumable(as_begun(make_plan(estimation={"qat_epochs": 2}), folder), folder)


def test_a_new_folder_changes_nothing(make_plan: MakePlan, tmp_path: Path) -> None:
    plan = make_plan()
    assert as_begun(plan, RunFolder(tmp_path / "none")) is plan


def test_figures_of_a_device_that_changed_are_not_mixed_with_earlier_ones(make_plan: MakePlan, tmp_path: Path) -> None:
    board = tmp_path / "board.toml"
    content = (Path(devices.__file__).parent / "imxrt1170.toml").read_text("utf-8")
    named = {"device": {"name": "board.toml"}, "objectives": {"latency_ms": "minimize"}}
    board.write_text(content, "utf-8")
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    folder.write_recipe(make_plan(**named).recipe)
    check_resumable(make_plan(**named), folder)
    board.write_text(content.replace("convolution = 4.966", "convolution = 9.0"), "utf-8")
    with pytest.raises(InputError, match=r"figures\.latency_ms was \w+ 1000(\.0)?, now "):
        check_resumable(make_plan(**named), folder)
