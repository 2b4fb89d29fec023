"""qanas from Python: the same as the command."""

from __future__ import annotations

import pkgutil
import shutil
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.spawn import get_preparation_data
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import polars as pl
import pytest
import tomli_w
import torch
from torch import nn

import qanas
from qanas.api import override_texts
from qanas.core.errors import import_object
from qanas.execution.executors import _main_module_hidden
from qanas.reporting.live import LiveDisplay
from qanas.tasks.base import Task

SINE = Path(__file__).parents[1] / "cli" / "sine.py"
TABLES: dict[str, dict[str, Any]] = {
    "task": {"name": "sine:Sine"},
    "space": {"name": "sine:ConvOrLSTM"},
    "strategy": {"name": "random", "trials": 4},
    "estimation": {"epochs": 1},
    "objectives": {"worst_quantized": "minimize", "weight_bytes": "minimize"},
    "finalists": {"count": 1, "seeds": 1},
    "baselines": {"enabled": False},
}


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe whose runs take a second; the test's folder is the current one."""
    shutil.copy(SINE, tmp_path)
    path = tmp_path / "sine.toml"
    path.write_text(tomli_w.dumps(TABLES), "utf-8")
    monkeypatch.chdir(tmp_path)
    return path


def test_a_run_returns_its_tables_as_data_frames(recipe: Path) -> None:
    result = qanas.run(recipe)
    assert result.folder == Path("runs/sine")
    assert result.report.is_file()
    assert result.trials["outcome"].to_list() == ["measured"] * 4
    assert result.front.columns[:2] == ["candidate", "key"]
    assert set(result.front["key"]) <= set(result.trials["key"])
    assert result.finalists["candidate"].to_list()[0] == "seed"
    assert next(iter(result.models)) == "seed"
    assert result.recipe["strategy"]["trials"] == 4
    assert result.summary["status"] == "done"
    again = qanas.load("runs/sine")
    assert again.front.equals(result.front)
    assert repr(again).startswith("<qanas run runs/sine: done, 4 trials, front of ")
    assert len(repr(again)) < 120

    # What the commands do with it.
    picked = qanas.pick(result, limits={"arena_bytes": "1 MiB"})
    assert picked.identity == qanas.pick("runs/sine").identity
    assert qanas.pick(result, goals={"worst": np.float64(1e6)}).reason.startswith("smallest by weight_bytes of the ")
    with pytest.raises(qanas.InputError, match=r"--goal wurst: unknown goal"):
        qanas.pick(result, goals={"wurst": 1.0})
    assert qanas.verify(result) == dict.fromkeys(result.models, ())
    kept = np.load(result.folder / "models" / picked.identity / "predictions.npz")
    task: Task = import_object("sine:Sine")()  # type: ignore[operator]  # a class
    outputs = qanas.predict(result, task.load().val.inputs[:5])
    np.testing.assert_array_equal(outputs, kept["val_outputs"][:5])
    inputs = task.load().val.inputs
    shape = ", ".join(map(str, inputs.shape[1:]))
    for wrong, said in (
        (
            inputs[0],
            rf"inputs of {picked.identity}: 'input' has the shape .*, the model takes \(n, {shape}\): n samples",
        ),
        (inputs[:0], "has the shape"),
        (np.full_like(inputs[:1], np.nan), "holds other things than finite numbers"),
        (inputs[:1].astype(str), "holds other things than finite numbers"),
    ):
        with pytest.raises(qanas.InputError, match=said):
            qanas.predict(result, wrong)
    np.testing.assert_array_equal(qanas.predict(result, inputs[:2].tolist()), outputs[:2])
    with pytest.raises(qanas.InputError, match="unknown model 'sed': did you mean 'seed'"):
        qanas.predict(result, outputs, "sed")
    with pytest.raises(qanas.InputError, match="compare: give the folders of two or more runs"):
        qanas.compare(result)
    assert len(qanas.compare(result, "runs/sine")["runs"]) == 2


def test_a_recipe_is_checked_as_the_command_does(recipe: Path) -> None:
    found = qanas.check(recipe)
    assert found.reference_costs["arena_bytes"] > found.reference_costs["peak_ram_bytes"]
    assert any("samples" in remark for remark in found.remarks)
    with pytest.raises(qanas.InputError, match=r"quantization\.layers\.conv\.9: the network has no such layer"):
        qanas.check(recipe, {"quantization": {"layers": {"conv.9": {"weight_bits": 4}}}})
    with pytest.raises(qanas.InputError, match=r"none\.tflite: no such file; give a recipe, or a model as \.tflite"):
        qanas.profile("none.tflite")
    with pytest.raises(qanas.InputError, match=r"strategy.trails: unknown key; did you mean 'trials'"):
        qanas.check(recipe, {"strategy.trails": 3})


def test_a_network_is_exported_from_where_it_is(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Dropout(), nn.Linear(4, 2)).train()
    before = {name: values.clone() for name, values in network.state_dict().items()}
    samples = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    told = qanas.export(network, samples, tmp_path / "model.tflite")
    assert (told.failure, told.network) == ("", "Sequential")
    assert (tmp_path / "model.tflite").is_file()
    assert told.costs["arena_bytes"] > 0
    assert not qanas.export(network, samples, folder=tmp_path / "mine").failure
    assert (tmp_path / "mine" / "firmware" / "src" / "mine.h").is_file()
    assert network.training
    assert all(torch.equal(values, before[name]) for name, values in network.state_dict().items())


def test_no_module_is_called_like_what_python_has() -> None:
    """Once imported it would be found in its place."""
    modules = {module.name for module in pkgutil.iter_modules(qanas.__path__)}
    assert not modules & set(qanas.__all__)


def test_names_are_completed_before_anything_is_imported() -> None:
    asked = "import sys, qanas; print(dir(qanas)); print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True).stdout
    names, imported = found.splitlines()
    for name in ("run", "load", "check", "pick", "verify", "compare", "export", "predict"):
        assert f"'{name}'" in names
    assert imported == "False"


def test_overrides_go_on_with_the_run(recipe: Path) -> None:
    first = qanas.run(str(recipe), ["strategy.trials=2"], out="here")
    more = qanas.run(recipe, {"strategy": {"trials": 3}}, out=Path("here"))
    assert len(first.trials) == 2, "a result stays what it was"
    assert len(more.trials) == 3
    assert more.trials.head(2).equals(first.trials)


class Impatient(LiveDisplay):
    """Presses Ctrl-C when the second trial has ended."""

    def trial_finished(self, index: int, outcome: str, values: Mapping[str, float] | None, reason: str) -> None:
        super().trial_finished(index, outcome, values, reason)
        if index == 1:
            raise KeyboardInterrupt


def test_interrupted_the_same_call_goes_on(recipe: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        qanas.run(recipe, progress=Impatient())
    stopped = qanas.load("runs/sine")
    assert len(stopped.trials) == 2
    assert stopped.summary["status"] == "interrupted"
    assert stopped.finalists.is_empty()
    assert stopped.models == {}
    result = qanas.run(recipe)
    assert result.trials.head(2).equals(stopped.trials)
    assert result.front.equals(qanas.run(recipe, out="another").front)


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ({"strategy.trial": 3}, "strategy.trial: unknown key"),
        ({"strategy.hours": None}, "overrides: strategy.hours = None can't be written as TOML"),
        (["strategy"], "give a table, a key and a value"),
    ],
)
def test_bad_input_is_an_input_error(recipe: Path, overrides: Any, told: str) -> None:  # noqa: ANN401
    with pytest.raises(qanas.InputError, match=told):
        qanas.run(recipe, overrides)
    assert not Path("runs").exists()
    with pytest.raises(qanas.InputError, match="no such folder"):
        qanas.load("runs/nowhere")


def test_overrides_as_the_command_takes_them() -> None:
    given = {"space": {"search": ["training"], "name": "a b"}, "task.data": Path("x y"), "a.b": 0.5, "a.c": True}
    assert override_texts(given) == [
        'space.search=[\n    "training",\n]',
        'space.name="a b"',
        'task.data="x y"',
        "a.b=0.5",
        "a.c=true",
    ]
    assert override_texts("a.b=1") == ["a.b=1"]
    assert override_texts(()) == []


def test_importing_qanas_is_light() -> None:
    heavy = "[name for name in ('torch', 'polars', 'numpy', 'optuna', 'pydantic') if name in sys.modules]"
    script = f"import sys, qanas; print({heavy}, qanas.run.__name__, {heavy})"
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert told.startswith("[] run ")
    assert "torch" not in told
    with pytest.raises(AttributeError, match="nothing"):
        _ = qanas.nothing


@pytest.mark.slow  # three processes import torch
def test_workers_do_not_run_the_calling_script_again(recipe: Path) -> None:
    """A script without a main guard, with worker processes."""
    script = recipe.with_name("script.py")
    call = "qanas.run('sine.toml', {'strategy.trials': 2, 'estimation.jobs': 2})"
    script.write_text(f"import qanas\nprint('once')\nresult = {call}\nprint(result.trials['outcome'].to_list())\n")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("once") == 1
    assert done.stdout.splitlines()[-1] == "['measured', 'measured']"


def test_a_process_is_started_without_the_main_module(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = ModuleType("__main__")  # whatever started the tests
    script.__file__ = str(tmp_path / "script.py")
    monkeypatch.setitem(sys.modules, "__main__", script)
    with _main_module_hidden():
        assert not {"init_main_from_name", "init_main_from_path"} & get_preparation_data("worker").keys()
    assert {"init_main_from_name", "init_main_from_path"} & get_preparation_data("worker").keys()


def test_a_run_works_in_a_thread(recipe: Path) -> None:
    """Signals are the main thread's: a notebook's widget or a server calls from another one."""
    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(qanas.run, recipe, {"strategy.trials": 1}).result()
    assert isinstance(result.trials, pl.DataFrame)
    assert result.summary["status"] == "done"
