"""What one candidate does must not end a search, and what was trained once is not trained again."""

from __future__ import annotations

import re
from pathlib import Path
from threading import Thread

import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from qanas.core.errors import InputError
from qanas.core.run_folder import RunFolder
from qanas.recipe import load_plan
from tests.robustness.small import recipe, run

NETWORK = "return nn.Sequential(nn.Linear(8, w), nn.ReLU(), nn.Linear(w, 2))"
BUILD = '        w = candidate.architecture["width"]\n'


@pytest.mark.parametrize(
    "error",
    ["raise ValueError('too wide')", "raise SystemExit(1)", "return nn.Linear(9, 2)", r"raise OSError('b\udcff')"],
)
def test_a_candidate_that_gives_no_network_is_rejected(tmp_path: Path, error: str) -> None:
    path = recipe(tmp_path, (BUILD, f"{BUILD}        if w > 6: {error}\n"), strategy={"trials": 5})
    result, _ = run(path, tmp_path / "out")
    rejected = result.trials.filter(pl.col("outcome") == "rejected")
    assert len(result.trials) - len(rejected) == 5
    assert len(rejected) > 0
    assert rejected["reason"].str.starts_with("it can't be built: ").all()
    assert next(iter(result.models)) == "seed"
    again, _ = run(path, tmp_path / "out")
    assert again.trials.equals(result.trials)


def test_a_finalist_that_cannot_be_built_again_fails_alone(tmp_path: Path) -> None:
    stop = f"        if w != 4 and os.path.exists({str(tmp_path / 'stop')!r}): raise SystemExit(2)\n"
    path = recipe(tmp_path, (BUILD, BUILD + stop), ("\nclass MySpace", "\nimport os\n\nclass MySpace"))
    first, _ = run(path, tmp_path / "out")
    assert len(first.models) == 2
    (tmp_path / "stop").touch()
    again, _ = run(path, tmp_path / "out")
    assert list(again.models) == ["seed"]
    [failure] = again.summary["finalists"]["failures"]
    assert "it can't be built: SystemExit: 2 (mine_" in failure["reason"]


@pytest.mark.parametrize("strategy", ["random", "tpe", "nsga2"])
def test_no_network_is_trained_twice(tmp_path: Path, strategy: str) -> None:
    setting = 'Integer("width", "architecture", 4, low=2, high=16)'
    changes = (setting, 'Choice("width", "architecture", 4, options=(2, 4, 8))')
    path = recipe(tmp_path, changes, strategy={"name": strategy, "trials": 12}, space={"search": ["architecture"]})
    result, lines = run(path, tmp_path / "out")
    assert sorted(result.trials["width"]) == [2, 4, 8]
    assert any("ends after 3 of 12 trials" in line for line in lines)


def test_changed_files_of_own_classes_are_told(tmp_path: Path) -> None:
    path = recipe(tmp_path, strategy={"trials": 1})
    _, first = run(path, tmp_path / "out")
    _, same = run(path, tmp_path / "out")
    folder = RunFolder(tmp_path / "out")
    before = folder.read_recipe()
    assert {"task_source", "space_source"} <= before["versions"].keys()
    folder.write_recipe(before | {"versions": before["versions"] | {"space_source": "0" * 12}})
    _, changed = run(path, tmp_path / "out")
    told = "space: files of its class changed since this run was last gone on with"
    assert [sum(line.startswith(told) for line in lines) for lines in (first, same, changed)] == [0, 0, 1]


SHARED = {
    "a layer that is there twice": "a = nn.Linear(8, 8); return nn.Sequential(a, nn.ReLU(), a, nn.Linear(8, 2))",
    "weights of two layers": "a, b = nn.Linear(8, 8), nn.Linear(8, 8); b.weight = a.weight; "
    "return nn.Sequential(a, nn.ReLU(), b, nn.Linear(8, 2))",
}


@pytest.mark.parametrize("build", SHARED.values(), ids=SHARED)
def test_networks_that_share_weights_between_layers_ship(tmp_path: Path, build: str) -> None:
    path = recipe(tmp_path, (NETWORK, build), strategy={"trials": 1}, estimation={"cache": str(tmp_path / "cache")})
    first, _ = run(path, tmp_path / "first")
    again, _ = run(path, tmp_path / "again")  # from the cache
    assert list(first.models) == list(again.models) == ["seed"]
    weights = load_file(tmp_path / "first/models/seed/weights.safetensors")
    shared = [name for name in weights if name.endswith("weight") and weights[name].shape == (8, 8)]
    assert len(shared) == 2
    assert torch.equal(weights[shared[0]], weights[shared[1]])
    assert first.models["seed"].file_bytes == (tmp_path / "first/models/seed/model.tflite").stat().st_size


STRATEGY = """
from qanas.core.candidate import Candidate
from qanas.search_space.start import Proposal
from qanas.search_strategy.base import Sampler


class MyStrategy(Sampler):
    def ask(self, space, history, seed):
        {}


class MySpace(NetworkSpace):"""


@pytest.mark.parametrize(
    ("ask", "expected"),
    [
        ("raise LookupError('nothing left')", "MyStrategy.ask: LookupError: nothing left (mine_"),
        ("exit(3)", "MyStrategy.ask: SystemExit: 3 (mine_"),
        ("return space.reference", "MyStrategy.ask: TypeError: it returns a Candidate; return a Proposal"),
        ("return None", "MyStrategy.ask: TypeError: it returns a NoneType; return a Proposal"),
        ("return Proposal(Candidate({'width': np.int64(5)}))", "'width' can be np.int64(5), a int64: values are "),
    ],
)
def test_what_is_wrong_with_a_strategy_of_ones_own_is_told_in_a_line(tmp_path: Path, ask: str, expected: str) -> None:
    path = recipe(tmp_path, ("class MySpace(NetworkSpace):", STRATEGY.format(ask)), baselines={"enabled": False})
    path.write_text(
        re.sub('name = "random"', f'name = "{next(tmp_path.glob("mine_*")).stem}:MyStrategy"', path.read_text())
    )
    with pytest.raises(InputError) as caught:
        run(path, tmp_path / "out")
    assert str(caught.value).startswith("strategy: ")
    assert expected in str(caught.value)


ESTIMATOR = """
from qanas.performance_estimation.base import Estimate
from qanas.performance_estimation.training import Training


class MyEstimator(Training):
    def estimate(self, bench, proposal, seed, history, watch):
        {}


class MySpace(NetworkSpace):"""


@pytest.mark.parametrize(
    ("estimate", "expected"),
    [
        ("return Estimate({'accuracy_quantized': np.float32(0.5)}, train_losses=np.ones(2, np.float32))", ""),
        ("return Estimate({'accuracy_quantized': torch.tensor([0.5])})", ""),
        ("return {'accuracy_quantized': 0.5}", "MyEstimator.estimate returns a dict; return a qanas."),
        ("return None", "MyEstimator.estimate returns a NoneType; return a qanas."),
        ("return Estimate({'accuracy_quantized': np.ones(3)})", "accuracy_quantized is a ndarray, not a number"),
    ],
)
def test_what_an_estimator_of_ones_own_says_is_numbers(tmp_path: Path, estimate: str, expected: str) -> None:
    path = recipe(tmp_path, ("class MySpace(NetworkSpace):", ESTIMATOR.format(estimate)))
    named = f'[estimation]\nname = "{next(tmp_path.glob("mine_*")).stem}:MyEstimator"\n'
    path.write_text(path.read_text().replace("[estimation]\n", named))
    result, _ = run(path, tmp_path / "out", strategy__trials=2)
    assert set(result.trials["outcome"]) == ({"failed"} if expected else {"measured"})
    assert all(expected in (reason or "") for reason in result.trials["reason"])


def test_what_numpy_draws_in_a_network_follows_from_the_seed(tmp_path: Path) -> None:
    drawn = "n = {}; n[0].weight.data.copy_(torch.from_numpy(np.random.randn(w, 8))); return n"
    path = recipe(tmp_path, (NETWORK, drawn.format(NETWORK.removeprefix("return "))))
    bench = load_plan(path).bench
    first, again, other = (bench.build(bench.reference, seed).get_parameter("0.weight") for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_resumed_search_finds_the_same_duplicates(tmp_path: Path) -> None:
    path = recipe(tmp_path, strategy={"trials": 9}, space={"search": ["architecture"]})
    whole, _ = run(path, tmp_path / "whole")
    run(path, tmp_path / "parts", strategy__trials=4)
    resumed, _ = run(path, tmp_path / "parts")
    assert whole.trials["key"].n_unique() == 9
    assert (tmp_path / "whole/front.csv").read_bytes() == (tmp_path / "parts/front.csv").read_bytes()
    assert resumed.trials["width"].to_list() == whole.trials["width"].to_list()


def test_costs_are_of_the_network_as_it_is_used(tmp_path: Path) -> None:
    head = """
class Head(nn.Module):
    def __init__(self, w):
        super().__init__()
        self.fc = nn.Linear(w, 2)
    def forward(self, x):
        if self.training: x = x * (torch.rand(x.shape[0], 1) >= 0.1).to(x.dtype)
        x = self.fc(x)
        return x if self.training else torch.softmax(x, dim=1)

class MySpace"""
    changes = (("\nclass MySpace", head), ("nn.ReLU(), nn.Linear(w, 2)", "nn.ReLU(), Head(w)"))
    result, _ = run(recipe(tmp_path, *changes, strategy={"trials": 1}), tmp_path / "out")
    shipped = (tmp_path / "out/models/seed/model.tflite").stat().st_size
    assert result.models["seed"].file_bytes == shipped == result.trials["file_bytes"][0]


def test_a_finalist_that_is_not_what_torch_computes_fails_with_its_module(tmp_path: Path) -> None:
    noisy = """
class Noisy(nn.Module):
    calls = 0
    def forward(self, x):
        Noisy.calls += 1
        return x * (1 + Noisy.calls % 2)

class MySpace"""
    changes = (("\nclass MySpace", noisy), ("nn.ReLU(), nn.Linear(w, 2)", "nn.ReLU(), Noisy(), nn.Linear(w, 2)"))
    result, _ = run(recipe(tmp_path, *changes, strategy={"trials": 1}), tmp_path / "out")
    assert not result.models
    assert not (tmp_path / "out/models/seed").exists()
    reasons = [entry["reason"] for entry in result.summary["finalists"]["failures"]]
    assert reasons
    assert all("from '2' (Noisy) on" in reason for reason in reasons), reasons


def test_a_finalist_that_the_default_kernels_refuse_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qanas.shipping.finalists.default_kernels_refusal", lambda _: "failed to create a kernel")
    result, _ = run(recipe(tmp_path, strategy={"trials": 1}), tmp_path / "out")
    reasons = {entry["reason"] for entry in result.summary["finalists"]["failures"]}
    assert reasons == {"LiteRT's default kernels can't load the file: failed to create a kernel"}


def test_runs_in_threads_wait_for_each_other(tmp_path: Path) -> None:
    paths = [recipe(tmp_path / name, strategy={"trials": 2}) for name in ("a", "b")]
    found: list[pl.DataFrame] = []
    threads = [Thread(target=lambda path=path: found.append(run(path, path.parent / "out")[0].front)) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 2
    assert found[0].equals(found[1])


def test_a_pools_worker_takes_jobs_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("multiprocessing").current_process()._config, "daemon", True)
    result, _ = run(recipe(tmp_path), tmp_path / "out", estimation__jobs=2)
    assert len(result.trials) == 3
