"""A pretrained state dict as the reference's weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.workflows.conftest import MakePlan

from qanas.core.errors import InputError
from qanas.core.run_folder import RunFolder
from qanas.planning.plan import Plan
from qanas.reporting.live import LiveDisplay
from qanas.workflows.run import run_search


@pytest.fixture
def weights(tmp_path: Path, make_plan: MakePlan) -> Path:
    """Return weights of the reference that nobody would be trained to."""
    plain = make_plan()
    network = plain.bench.build(plain.bench.reference, 1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(0.01)
    path = tmp_path / "seed.safetensors"
    save_file(network.state_dict(), path)
    return path


def run(plan: Plan, folder: Path) -> RunFolder:
    run_search(plan, RunFolder(folder), LiveDisplay())
    return RunFolder(folder)


def test_the_seed_network_ships_with_them_and_untrained(tmp_path: Path, make_plan: MakePlan, weights: Path) -> None:
    plan = make_plan(seed={"weights": weights.name})
    folder = run(plan, tmp_path / "run")
    shipped = load_file(folder.model("seed") / "weights.safetensors")
    assert all(torch.equal(tensor, load_file(weights)[name]) for name, tensor in shipped.items())
    bench = plan.bench
    network = bench.build(bench.reference, 0, bench.reference_start).eval()
    val = bench.data_of(bench.reference).val
    with torch.no_grad():
        outputs = network(torch.from_numpy(val.inputs)).numpy()
    expected = bench.task.evaluate(outputs, val)
    card = folder.cards()["seed"]
    for metric, value in expected.items():
        found = card.metric("float", "val", metric)
        assert found.mean == pytest.approx(value)
        assert found.std == pytest.approx(0.0, abs=1e-9)
    assert "seed.safetensors" in card.protocol["pretrained"]
    others = {name: other for name, other in folder.cards().items() if name != "seed"}
    assert others
    assert all("pretrained" not in other.protocol for other in others.values())


def test_weights_that_do_not_fit_are_told_before_the_search(tmp_path: Path, make_plan: MakePlan, weights: Path) -> None:
    state: dict[str, Any] = load_file(weights)
    state.popitem()
    save_file(state, weights)
    with pytest.raises(InputError, match="it lacks"):
        make_plan(seed={"weights": weights.name})
    assert not (tmp_path / "run").exists()


def test_a_missing_file_is_told(make_plan: MakePlan) -> None:
    with pytest.raises(InputError, match=r"seed\.weights: .*none\.safetensors: no such file"):
        make_plan(seed={"weights": "none.safetensors"})


def test_other_weights_make_another_run(tmp_path: Path, make_plan: MakePlan, weights: Path) -> None:
    run(make_plan(seed={"weights": weights.name}), tmp_path / "run")
    state = {name: 2.0 * tensor for name, tensor in load_file(weights).items()}
    save_file(state, weights)
    with pytest.raises(InputError, match=r"seed\.sha256"):
        run(make_plan(seed={"weights": weights.name}), tmp_path / "run")
