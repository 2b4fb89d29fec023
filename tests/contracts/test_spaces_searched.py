"""Every built-in space: any sampler searches it, candidates ship as simulated, and blocks are searched exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import optuna
import pytest
import tomli_w
import torch
from tests.networks.image_networks import with_statistics
from tests.quantization.conftest import steps_from_runtime

from qanas.core.candidate import SEARCHED_BY_DEFAULT
from qanas.core.run_folder import RunFolder
from qanas.networks.autoencoder import AutoencoderSpace
from qanas.networks.conv1d import Conv1DSpace
from qanas.networks.ds_cnn import DSCNNSpace
from qanas.networks.gru import GRUSpace
from qanas.networks.lstm import LSTMSpace
from qanas.networks.mobilenet import MobileNetSpace
from qanas.networks.resnet import ResNetSpace
from qanas.networks.tcn import TCNSpace
from qanas.quantization.scheme import Scheme
from qanas.recipe import load_plan
from qanas.reporting.live import LiveDisplay
from qanas.search_space.network_space import NetworkSpace, TaskShape
from qanas.search_space.space import space_of
from qanas.search_strategy.samplers import GP, NSGA2, TPE, RandomSearch
from qanas.testing.properties import outside, random_candidate
from qanas.testing.strategies import PlainSearch
from qanas.workflows.run import run_search

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from qanas.search_strategy.base import Sampler

IMAGES, TABLES, SEQUENCES = (3, 20, 16), (17, 10), (9, 5)
CLASSES, TWO_VALUES = TaskShape(IMAGES, 4, 1.0, ("cross_entropy",)), TaskShape(SEQUENCES, 2, 20.0, ("mae", "mse"))

SPACES: dict[str, tuple[NetworkSpace, TaskShape]] = {
    "autoencoder": (AutoencoderSpace(max_units=24), TaskShape((12, 5), 60, 1.0, ("mse",))),
    "conv1d": (Conv1DSpace(widths=(0.05, 0.1)), TWO_VALUES),
    "conv1d m5": (
        Conv1DSpace(reference="m5", widths=(0.03, 0.05), more_layers=1),
        TaskShape((150, 1), 3, 1.0, ("cross_entropy",)),
    ),
    "ds_cnn": (DSCNNSpace(widths=(0.1, 0.25)), TaskShape(TABLES, 4, 1.0, ("cross_entropy",))),
    "gru": (GRUSpace(max_units=9, max_layers=3), TWO_VALUES),
    "lstm": (LSTMSpace(max_units=9), TWO_VALUES),
    "mobilenet v1": (MobileNetSpace(reference="mobilenet_v1_0.25", halvings=4), CLASSES),
    "mobilenet v2": (MobileNetSpace(widths=(0.1, 0.3), expansions=(1, 2.5, 4)), CLASSES),
    "mobilenet v3": (
        MobileNetSpace(
            reference="mobilenet_v3_small",
            widths=(0.1, 0.3),
            squeezes=(False, True),
            activations=("relu", "relu6", "hard_swish"),
            more_layers=1,
        ),
        CLASSES,
    ),
    "resnet": (ResNetSpace(widths=(0.25, 0.5), more_layers=2), CLASSES),
    "tcn": (TCNSpace(max_channels=9), TWO_VALUES),
}
SAMPLERS: dict[str, Sampler] = {
    "gp": GP(startup_trials=2),
    "nsga2": NSGA2(population_size=3),
    "random": RandomSearch(),
    "tpe": TPE(startup_trials=2),
}


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("name", SPACES)
def test_any_sampler_searches_any_space(name: str, sampler: str) -> None:
    networks, shape = SPACES[name]
    space = space_of(networks.settings(shape), SEARCHED_BY_DEFAULT, SAMPLERS[sampler].encoding)
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        proposed = PlainSearch(space, SAMPLERS[sampler]).propose(5)[1:]
    finally:
        optuna.logging.set_verbosity(verbosity)
    assert [outside(space, candidate) for candidate in proposed] == [""] * 4
    assert all(networks.describe(candidate) for candidate in proposed)


def differing(name: str, seed: int) -> int:
    """Return how many output codes of a random candidate differ in LiteRT."""
    networks, shape = SPACES[name]
    space = space_of(networks.settings(shape), SEARCHED_BY_DEFAULT)
    torch.manual_seed(seed)
    network = with_statistics(networks.build(random_candidate(space, seed), shape))
    scheme = Scheme(weight_bits=(8, 4, 6)[seed % 3])
    return int(np.count_nonzero(steps_from_runtime(network, torch.randn(6, *shape.input_shape), scheme)))


@pytest.mark.parametrize("name", SPACES)
def test_a_candidate_ships_as_simulated(name: str) -> None:
    assert differing(name, 1) == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", SPACES)
def test_candidates_ship_as_simulated(name: str) -> None:
    assert [differing(name, seed) for seed in range(2, 32)] == [0] * 30


BLOCKWISE: dict[str, dict[str, Any]] = {
    "ds_cnn": {"seed_width": 0.1, "kernels": [3]},
    "mobilenet": {"reference": "mobilenet_v3_small", "seed_width": 0.1, "kernels": [3], "halvings": 2},
    "resnet": {"seed_width": 0.25, "kernels": [3, 5], "more_layers": 1, "weight_bits": [4, 8]},
}


@pytest.mark.parametrize(
    "name", ["resnet", *(pytest.param(name, marks=pytest.mark.slow) for name in ("ds_cnn", "mobilenet"))]
)
def test_a_classifier_is_searched_block_by_block(tmp_path: Path, name: str) -> None:
    """The front is exact; a sampler over the same tables finds nothing that the front doesn't dominate."""
    tables: dict[str, dict[str, Any]] = {
        "task": {"name": "qanas.testing.small:SmallTask"},
        "space": {"name": name, "widths": [BLOCKWISE[name]["seed_width"]], **BLOCKWISE[name]},
        "strategy": {"name": "exact"},
        "estimation": {"name": "block_tables", "epochs": 1, "calibration_samples": 8},
        "distillation": {"steps": 8},
        "table": {"calibration_samples": 8, "bits": BLOCKWISE[name].get("weight_bits", [8])},
        "objectives": {"accuracy_quantized": "maximize", "weight_bytes": "minimize"},
        "finalists": {"count": 1, "seeds": 1},
        "baselines": {"enabled": False},
    }
    path = tmp_path / "recipe.toml"
    path.write_text(tomli_w.dumps(tables), "utf-8")
    plan = load_plan(path)
    plan.check()
    with LiveDisplay() as display:
        result = run_search(plan, RunFolder(tmp_path / "run"), display)
    assert len(result.front) > 1
    assert result.shipped >= 1
    assert not result.failed
