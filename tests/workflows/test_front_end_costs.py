"""What makes a network's input is costed with the candidate's input, and fits into the device beside the network."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from qanas.core.measures import FRONT_END_COSTS, Cost, Limit
from qanas.core.run_folder import RunFolder
from qanas.recipe import load_plan
from qanas.search_strategy.base import Solution
from qanas.shipping.shipped import limits_of
from qanas.workflows.costing import within_other_limits

RECIPE = """
[task]
name = "images"
data = "synthetic"
size = 32
[space]
name = "resnet"
search = ["input"]
[device]
name = "small.toml"
[strategy]
name = "random"
trials = 2
[objectives]
accuracy_quantized = "maximize"
front_end_macs = "minimize"
"""

DEVICE = """
version = 2
name = "small"
description = "a device of a test"
[memory]
flash_bytes = 1000000
ram_bytes = {ram}
source = "a test"
[latency]
method = "analytic"
source = "a test"
cycles = {{ convolution = 1.0 }}
"""


def test_it_counts_in_the_device_s_limits(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(RECIPE)
    (tmp_path / "small.toml").write_text(DEVICE.format(ram=100000))
    plan = load_plan(tmp_path / "recipe.toml")
    reference = plan.bench.reference
    costs = plan.bench.costs_of(reference)
    assert all(costs[name] > 0 for name in FRONT_END_COSTS)
    smaller = plan.bench.costs_of(replace(reference, input={**reference.input, "size": 16}))
    assert smaller["front_end_macs"] < costs["front_end_macs"]
    ram = next(limit for limit in plan.limits if limit.cost == Cost("arena_bytes"))
    total = costs["arena_bytes"] + costs["front_end_ram_bytes"]
    assert ram.excess(costs) == pytest.approx((total - ram.bound) / ram.bound)
    folder = RunFolder(tmp_path / "run")
    folder.write_recipe(plan.recipe)
    assert {*limits_of(folder)} == {*plan.limits}
    assert {*load_plan(folder.recipe).limits} == {*plan.limits}
    (tmp_path / "small.toml").unlink()
    assert {limit.cost for limit in limits_of(folder)} == {limit.cost for limit in plan.limits}


def test_a_solvers_front_is_held_against_all_that_has_to_fit() -> None:
    """The front end counts, which is no cost that a solver knows."""

    def cost(name: str, value: float) -> SimpleNamespace:
        return SimpleNamespace(measure=Cost(name), additive=False, of=lambda blueprint: value * blueprint)

    limit = Limit(Cost("arena_bytes"), 100.0, Cost("front_end_ram_bytes"))
    bench = SimpleNamespace(
        costs=[cost("arena_bytes", 60.0), cost("front_end_ram_bytes", 30.0)],
        additive_costs=[],
        blueprint=lambda candidate: candidate,
    )
    plan: Any = SimpleNamespace(bench=bench, limits=[limit])
    for known in ({}, {"arena_bytes": 60.0}):
        solved = [Solution(cast("Any", size), {}, dict(known), {}) for size in (1.0, 1.5)]
        told: list[str] = []
        kept = within_other_limits(plan, solved, told.append)
        assert "1 of the front's 2 networks" in told[0]
        assert [found.candidate for found in kept] == [1.0]
        assert kept[0].costs["front_end_ram_bytes"] == 30.0
