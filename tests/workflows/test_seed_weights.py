"""A pretrained state dict as the seed network's weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from qanas.core.errors import InputError
from qanas.core.run_folder import RunFolder
from qanas.reporting.live import LiveDisplay
from qanas.workflows.plan import Setup
from qanas.workflows.run import run_search

MakeSetup = Callable[..., Setup]


@pytest.fixture
def weights(tmp_path: Path, make_setup: MakeSetup) -> Path:
    """Return weights of the seed network that nobody would be trained to."""
    plain = make_setup()
    network = plain.problem.build(plain.space.reference, 1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(0.01)
    path = tmp_path / "seed.safetensors"
    save_file(network.state_dict(), path)
    return path


def run(setup: Setup, folder: Path) -> RunFolder:
    run_search(setup, RunFolder(folder), LiveDisplay())
    return RunFolder(folder)


def test_the_seed_network_ships_with_them_and_untrained(tmp_path: Path, make_setup: MakeSetup, weights: Path) -> None:
    setup = make_setup(seed={"weights": weights.name})
    folder = run(setup, tmp_path / "run")
    shipped = load_file(folder.model("seed") / "weights.safetensors")
    assert all(torch.equal(tensor, load_file(weights)[name]) for name, tensor in shipped.items())
    network = setup.problem.pretrained(setup.space.reference)
    assert network is not None
    with torch.no_grad():
        outputs = network(torch.from_numpy(setup.problem.data.val.inputs)).numpy()
    expected = setup.plan.task.evaluate(outputs, setup.problem.data.val)
    card = folder.cards()["seed"]
    for metric, value in expected.items():
        found = card.metric("float", "val", metric)
        assert found.mean == pytest.approx(value)
        assert found.std == pytest.approx(0.0, abs=1e-9)
    assert "seed.safetensors" in card.protocol["pretrained"]
    others = {name: other for name, other in folder.cards().items() if name != "seed"}
    assert others
    assert all("pretrained" not in other.protocol for other in others.values())


def test_weights_that_do_not_fit_are_told_before_the_search(
    tmp_path: Path, make_setup: MakeSetup, weights: Path
) -> None:
    state: dict[str, Any] = load_file(weights)
    state.popitem()
    save_file(state, weights)
    with pytest.raises(InputError, match="it lacks"):
        make_setup(seed={"weights": weights.name})
    assert not (tmp_path / "run").exists()


def test_a_missing_file_is_told(make_setup: MakeSetup) -> None:
    with pytest.raises(InputError, match=r"seed\.weights: .*none\.safetensors: no such file"):
        make_setup(seed={"weights": "none.safetensors"})


def test_other_weights_make_another_run(tmp_path: Path, make_setup: MakeSetup, weights: Path) -> None:
    run(make_setup(seed={"weights": weights.name}), tmp_path / "run")
    state = {name: 2.0 * tensor for name, tensor in load_file(weights).items()}
    save_file(state, weights)
    with pytest.raises(InputError, match=r"seed\.sha256"):
        run(make_setup(seed={"weights": weights.name}), tmp_path / "run")
