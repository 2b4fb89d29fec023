"""What makes a network's input is costed with the candidate's input, and fits into the device beside the network."""

from dataclasses import replace
from pathlib import Path

import pytest

from qanas.core.measures import FRONT_END_COSTS, Cost
from qanas.recipe import load_plan

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
