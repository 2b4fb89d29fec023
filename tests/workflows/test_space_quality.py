"""Spaces compared by costs alone."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from qanas.core.errors import InputError
from qanas.core.measures import Cost, Limit
from qanas.planning.plan import Plan
from qanas.planning.space_quality import SpaceQuality, best_space, space_quality
from qanas.recipe import load_plan
from qanas.reporting.space_page import print_spaces, spaces_json, write_spaces

RECIPE = Path(__file__).parents[2] / "recipes" / "turbofan_quick.toml"
SAMPLES = 40


@pytest.fixture(scope="module")
def plan() -> Plan:
    return load_plan(RECIPE, ["task.data=synthetic"])


def test_what_fits_is_what_a_run_would_not_reject(plan: Plan, tmp_path: Path) -> None:
    everything = space_quality("all", plan, SAMPLES)
    assert (everything.share, everything.refused) == (1.0, 0)
    bound = everything.quantile(0.5)
    halved = space_quality("half", replace(plan, limits=(Limit(Cost("macs"), bound),)), SAMPLES)
    # The same candidates: those at or below the median are left.
    assert halved.macs.tolist() == [macs for macs in everything.macs.tolist() if macs <= bound]
    assert halved.blamed == {"macs": SAMPLES - len(halved.macs)}
    best = best_space([halved, everything])
    assert best is not None
    assert best.name == "all"
    write_spaces([halved, everything], tmp_path / "s.html")
    told = spaces_json([halved, everything])
    assert told["take"] == "all"
    assert [entry["fitting"] for entry in told["spaces"]] == [len(halved.macs), SAMPLES]


def test_nothing_that_fits_is_no_choice(plan: Plan) -> None:
    none = space_quality("none", replace(plan, limits=(Limit(Cost("weight_bytes"), 1.0),)), 3)
    assert none.share == 0.0
    assert np.isnan(none.mean_macs)
    assert best_space([none]) is None
    assert spaces_json([none])["spaces"][0]["mean_macs"] is None
    assert isinstance(none, SpaceQuality)


def test_a_limit_that_is_measured_is_refused(plan: Plan) -> None:
    with pytest.raises(InputError, match=r"limits\.latency_ms: it is measured"):
        space_quality("slow", replace(plan, limits=(Limit(Cost("latency_ms"), 1.0),)), 3)


def test_a_recipe_with_brackets_in_its_name_is_told_by_it() -> None:
    console = Console(file=StringIO(), width=120)
    print_spaces(console, [SpaceQuality("a [red]b", 2, 0, np.array([1.0, 2.0]), (), {}, 1.0)])
    assert isinstance(console.file, StringIO)
    assert console.file.getvalue().count("a [red]b") == 2
