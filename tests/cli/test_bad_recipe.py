"""A mistake in a recipe ends with exit code 2 and one line that names the key and the mend; nothing is written."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.cli.conftest import Workplace

Changes = Mapping[str, Mapping[str, Any]]

NO_TASK = dict.fromkeys(("data", "subset", "window", "rul_cap", "stride"))
NO_OBJECTIVES = dict.fromkeys(("mae_quantized", "weight_bytes"))
NO_OBJECTIVE = "objectives = {}\n" + "".join(f"[{table}]\nname = 'x'\n" for table in ("task", "space", "strategy"))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        # Unknown keys
        pytest.param({"objective": {"mae_float": "minimize"}}, ["objective: ", "'objectives'"], id="unknown table"),
        pytest.param({"finalists": {"seed": 2}}, ["finalists.seed: ", "'seeds'"], id="unknown key"),
        pytest.param({"space": {"max_unit": 3}}, ["space.max_unit: ", "'max_units'"], id="unknown key of the space"),
        pytest.param({"strategy": {"trails": 3}}, ["strategy.trails: ", "'trials'"], id="unknown key of the search"),
        pytest.param({"task": {"windows": 5}}, ["task.windows: ", "'window'"], id="unknown key of the task"),
        pytest.param({"estimation": {"job": 2}}, ["estimation.job: ", "'jobs'"], id="unknown key of the estimator"),
        pytest.param({"run": {"zzz": 2}}, ["run.zzz: ", "known here: seed"], id="unknown key like no other"),
        # Wrong types
        pytest.param({"strategy": {"trials": "20"}}, ["strategy.trials: ", "'20'", "integer"], id="text for a number"),
        pytest.param({"strategy": {"trials": 2.5}}, ["strategy.trials: ", "2.5", "integer"], id="fraction"),
        pytest.param({"estimation": {"epochs": True}}, ["estimation.epochs: ", "True", "integer"], id="truth value"),
        pytest.param({"task": {"data": 5}}, ["task.data: ", "5", "string"], id="number for a path"),
        pytest.param({"space": {"search": "training"}}, ["space.search: ", "list"], id="text for a list"),
        pytest.param({"limits": {"macs": "many"}}, ["limits.macs: ", "'many'", "number"], id="text for a bound"),
        pytest.param({"limits": {"file_bytes": "64 KB"}}, ["limits.file_bytes: ", "'64 KB'", "kB, KiB"], id="a unit"),
        pytest.param({"limits": {"file_bytes": "0 kB"}}, ["limits.file_bytes: ", "'0 kB'", "0"], id="nothing, in kB"),
        pytest.param({"limits": {"macs": True}}, ["limits.macs: ", "True", "number"], id="truth value for a bound"),
        pytest.param({"finalists": {"confirm": True}}, ["finalists.confirm: ", "True", "number"], id="yes"),
        # Out of range
        pytest.param({"strategy": {"trials": 0}}, ["strategy.trials: ", "0", "1"], id="no trials"),
        pytest.param({"strategy": {"hours": -1.0}}, ["strategy.hours: ", "-1", "0"], id="negative hours"),
        pytest.param({"strategy": {"hours": float("nan")}}, ["strategy.hours: ", "nan"], id="hours that are NaN"),
        pytest.param({"strategy": {"startup_trials": 0}}, ["strategy.startup_trials: ", "1"], id="no startup trials"),
        pytest.param({"estimation": {"epochs": 0}}, ["estimation.epochs: ", "1"], id="no epochs"),
        pytest.param({"estimation": {"jobs": 0}}, ["estimation.jobs: ", "1"], id="no jobs"),
        pytest.param({"task": {"window": 1}}, ["task.window: ", "2"], id="window too short"),
        pytest.param({"task": {"validation_fraction": 1.0}}, ["task.validation_fraction: ", "1"], id="no training"),
        pytest.param({"space": {"max_units": 0}}, ["space.max_units: ", "1"], id="no units"),
        pytest.param({"space": {"search": []}}, ["space.search: ", "at least one"], id="nothing to search"),
        pytest.param({"finalists": {"count": 0}}, ["finalists.count: ", "1"], id="no finalists"),
        pytest.param({"run": {"seed": -1}}, ["run.seed: ", "0"], id="negative seed"),
        pytest.param({"limits": {"macs": float("nan")}}, ["limits.macs: ", "nan"], id="a bound that is NaN"),
        pytest.param({"limits": {"macs": -5}}, ["limits.macs: ", "-5", "0"], id="negative bound"),
        # Unknown names
        pytest.param({"task": {"name": "turbofans"}}, ["task.name: ", "'turbofan'", "module:Class"], id="task"),
        pytest.param({"task": {"subset": "FD01"}}, ["task.subset: ", "'FD01'", "'FD001'"], id="subset"),
        pytest.param({"space": {"name": "lstn"}}, ["space.name: ", "'lstm'", "module:Class"], id="space"),
        pytest.param({"space": {"search": ["trainings"]}}, ["space.search.0: ", "'training'"], id="group"),
        pytest.param({"strategy": {"name": "tpee"}}, ["strategy.name: ", "'tpe'", "random"], id="strategy"),
        pytest.param({"estimation": {"name": "train"}}, ["estimation.name: ", "'training'"], id="estimator"),
        pytest.param(
            {"objectives": {"mae_quantised": "minimize"}},
            ["objectives.mae_quantised: ", "'mae_quantized'", "weight_bytes"],
            id="objective",
        ),
        pytest.param({"objectives": {"mae": "minimize"}}, ["objectives.mae: ", "mae_float"], id="metric alone"),
        pytest.param({"objectives": {"r": "minimise"}}, ["objectives.r: ", "'minimize'"], id="spelling"),
        pytest.param({"objectives": {"macs": "maximize"}}, ["objectives.macs: ", "'minimize'"], id="worst cost"),
        pytest.param({"limits": {"weight_byte": 100}}, ["limits.weight_byte: ", "'weight_bytes'"], id="limit"),
        pytest.param({"limits": {"mae_float": 10}}, ["limits.mae_float: ", "weight_bytes"], id="limit on a metric"),
        pytest.param(
            {"quantization": {"scheme": "symetric_per_tensor"}},
            ["quantization.scheme: ", "'symmetric_per_tensor'", "int8", "auto"],
            id="scheme",
        ),
        pytest.param(
            {"quantization": {"layers": {"head": {"weight_bit": 4}}}},
            ["quantization.layers.head.weight_bit: ", "'weight_bits'"],
            id="field of a layer",
        ),
        pytest.param(
            {"quantization": {"layers": {"head": {"weight_bits": 5}}}},
            ["quantization.layers.head.weight_bits: 5 is not 4, 6 or 8"],
            id="bits of a layer",
        ),
        pytest.param(
            {"quantization": {"layers": {"head": 4}}},
            ["quantization.layers.head: 4 is not a table"],
            id="number for a layer",
        ),
        pytest.param(
            {"quantization": {"container": "int6"}},
            ["quantization.container: 'int6' is not 'int8' or 'int4'; did you mean 'int"],
            id="container",
        ),
        pytest.param({"quantization": {"bits": 4}}, ["quantization.bits: ", "scheme"], id="key of the quantization"),
        pytest.param({"device": {"name": "hots"}}, ["device.name: ", "'host'"], id="device"),
        # Tables of one estimator alone
        pytest.param(
            {"supernet": {"steps": 10}},
            ["supernet: read by estimation.name = 'weight_sharing' alone, not by 'training'; leave it out"],
            id="table of another estimator",
        ),
        pytest.param(
            {"estimation": {"name": None}, "supernet": {"steps": 10}, "distillation": {"steps": 10}},
            ["supernet: read by estimation.name = 'weight_sharing' alone, not by 'block_tables'; leave it out"],
            id="tables of two estimators",
        ),
        # Left out
        pytest.param({"task": {"data": None}}, ["task.data: missing"], id="no data"),
        pytest.param({"task": NO_TASK | {"name": None}}, ["task: missing"], id="no task"),
        pytest.param({"strategy": {"name": None}}, ["strategy.name: missing", "random", "tpe"], id="no name"),
        pytest.param({"objectives": NO_OBJECTIVES}, ["objectives: missing"], id="no objectives"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_recipe(workplace: Workplace, changes: Changes, expected: list[str]) -> None:
    path = workplace.recipe(changes)
    message = workplace.refusal("run", path)
    assert message.startswith(f"qanas: {path}: ")
    assert all(part in message for part in expected), message


def test_a_layer_that_the_seed_network_lacks(workplace: Workplace) -> None:
    path = workplace.recipe({"quantization": {"layers": {"heat": {"weight_bits": 4}}}})
    message = workplace.refusal("run", path)
    assert message.startswith("qanas: quantization.layers.heat: the network has no such layer; it has input, ")
    assert message.endswith(" head")


def plain_words(message: str) -> bool:
    return not any(word in message for word in ("_Named", "Table", "instance of", "dictionary", "pydantic"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[task\nname = 3\n", ["not TOML", "line 1"]),
        ("name: turbofan\n", ["not TOML"]),
        ("", ["task: missing"]),
        ('task = "turbofan"\n', ["task: ", "'turbofan'", "a table"]),
        ("[[task]]\nname = 'turbofan'\n", ["task: ", "a table"]),
        ("source = 3\n", ["source: unknown key"]),
        ("[taks]\nname = 'turbofan'\n", ["taks: unknown key; did you mean 'task'?"]),
        ("[source]\nfolder = 3\n", ["source: unknown key"]),
        (
            "objectives = {}\n[task]\nname='turbofan'\n[space]\nname='lstm'\n[strategy]\nname='tpe'\n",
            ["objectives: ", "at least one"],
        ),
    ],
)
def test_a_file_that_is_no_recipe(workplace: Workplace, text: str, expected: list[str]) -> None:
    path = workplace.folder / "broken.toml"
    path.write_text(text, "utf-8")
    message = workplace.refusal("run", path)
    assert message.startswith(f"qanas: {path}: ")
    assert all(part in message for part in expected), message
    assert plain_words(message), message


def test_a_recipe_that_is_not_text(workplace: Workplace) -> None:
    path = workplace.folder / "binary.toml"
    path.write_bytes(bytes(range(128, 256)))
    assert f"{path}: not TOML" in workplace.refusal("check", path)


@pytest.mark.parametrize("command", ["run", "check"])
def test_a_missing_recipe(workplace: Workplace, command: str) -> None:
    path = workplace.folder / "tiny.tml"
    message = workplace.refusal(command, path)
    assert message == f"qanas: {path}: no such file; give the path of a recipe (recipes/*.toml are examples)"


def test_a_folder_for_a_recipe(workplace: Workplace) -> None:
    assert "columns without names: say which is predicted" in workplace.refusal("run", workplace.data)
    assert "is a folder" in workplace.refusal("check", workplace.data)


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("strategy.trials", "--set strategy.trials"),
        ("trials=3", "--set trials=3: give a table, a key and a value, such as --set strategy.trials=20"),
        ("=3", "--set =3"),
        ("strategy.=3", "--set strategy.=3"),
        ("task.name.size=3", "name is a value, not a table"),
        ("strategy.trial=3", "strategy.trial: unknown key; did you mean 'trials'?"),
        ("strategy.trials=many", "strategy.trials: 'many'"),
        ("task.data=$NOPE/cmapss", "the environment variable NOPE"),
        ("task.data=~nobody-is-called-so/x", "task.data: '~nobody-is-called-so/x': Could not determine home directory"),
        ("strategy.trials=4\nhours=3", "strategy.trials: '4\\nhours=3': input should be a valid integer"),
        ("baselines.enabled=False", "baselines.enabled: 'False': input should be a valid boolean; write true or false"),
        ("space.search=training", "space.search: 'training': input should be a valid list; write ["),
        (
            'quantization.layers."head.0".weight_bit=4',
            "layers.head.0.weight_bit: unknown key; did you mean 'weight_bits'",
        ),
    ],
)
def test_a_mistake_in_set(workplace: Workplace, setting: str, expected: str) -> None:
    assert expected in workplace.refusal("run", workplace.recipe(), "--set", setting)


@pytest.mark.parametrize("out", ["file", "file/below"])
def test_a_file_where_the_run_should_go(workplace: Workplace, out: str) -> None:
    (workplace.folder / "file").write_text("mine", "utf-8")
    message = workplace.refusal("run", workplace.recipe(), "--out", out)
    assert "file" in message
    assert "--out" in message


def test_a_folder_that_cannot_be_made(workplace: Workplace) -> None:
    message = workplace.refusal("run", workplace.recipe(), "--out", "/proc/nowhere")
    assert message.startswith("qanas: /proc/nowhere: ")


def test_the_command_as_a_shell_starts_it(workplace: Workplace) -> None:
    """The other tests run the command in forks of one process; here it starts from nothing."""
    path = workplace.recipe({"strategy": {"trails": 3}})
    process = workplace.start("run", path)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 2
    assert out == f"reading {path}\n"
    assert err == f"qanas: {path}: strategy.trails: unknown key; did you mean 'trials'?\n"
    assert not (workplace.folder / "runs").exists()


@pytest.mark.parametrize(("command", "said"), [("status", "[store]"), ("pick", "[goals]")])
def test_help_has_the_names_of_tables(workplace: Workplace, command: str, said: str) -> None:
    ran = subprocess.run(
        [workplace.python, "-m", "qanas", command, "--help"],
        capture_output=True,
        text=True,
        check=True,
        encoding="utf-8",
    )
    assert said in ran.stdout


def test_help_does_not_wait_for_torch(workplace: Workplace) -> None:
    code = "import sys, qanas.cli; sys.exit(any(name in sys.modules for name in ('torch', 'optuna', 'plotly')))"
    assert subprocess.run([str(Path(workplace.python)), "-c", code], check=False).returncode == 0


LACKING = """
from qanas.tasks.base import Task

class Half(Task):
    metrics = {"mae": "minimize"}

    def __init__(self, size: int = 3) -> None:
        self.size = size

    def load(self):
        raise NotImplementedError

class Odd:
    def __init__(self, *sizes: int) -> None:
        self.sizes = sizes

class Strict(Task):
    metrics = {"mae": "minimize"}
    losses = ("mae",)

    def __init__(self, size: int = 3) -> None:
        raise LookupError("no such size")

    def fingerprint(self):
        return ""

    def load(self):
        raise NotImplementedError

    def loss(self, kind, outputs, targets):
        raise NotImplementedError

    def evaluate(self, outputs, split):
        raise NotImplementedError

class Vague(Strict):
    def __init__(self, size: "Size" = 3) -> None:
        self.size = size

number = 3
"""


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nowhere:Task", ["'nowhere:Task' can't be imported", "nowhere"]),
        ("mine:Nothing", ["'mine:Nothing' can't be imported", "Nothing"]),
        ("mine.py:Mine", ["'mine.py:Mine' can't be imported", "leave out the file's ending: mine:Mine"]),
        ("mine:number", ["'mine:number' is no class"]),
        ("mine:Half", ["'mine:Half' lacks", "evaluate", "loss", "losses"]),
        ("mine:Odd", ["'mine:Odd' lacks"]),
        ("mine:Strict", ["mine:Strict", "no such size"]),
        ("mine:Vague", ["mine:Vague", "Size"]),
        ("raising:Task", ["'raising:Task' can't be imported", "ZeroDivisionError", "raising.py, line 2"]),
        ("leaving:Task", ["'leaving:Task' can't be imported", "SystemExit"]),
        ("wrong:Task", ["'wrong:Task' can't be imported", "SyntaxError", "wrong.py, line 1"]),
        (":Task", ["task.name", "module:Class"]),
        ("mine:", ["task.name", "module:Class"]),
    ],
)
def test_a_class_of_ones_own_that_does_not_work(workplace: Workplace, name: str, expected: list[str]) -> None:
    (workplace.folder / "mine.py").write_text(LACKING, "utf-8")
    (workplace.folder / "raising.py").write_text("a = 1\n1 / 0\n", "utf-8")
    (workplace.folder / "leaving.py").write_text("import sys\nsys.exit(3)\n", "utf-8")
    (workplace.folder / "wrong.py").write_text("class Task(:\n", "utf-8")
    changes = {"task": {"name": name, **NO_TASK}}
    message = workplace.refusal("run", workplace.recipe(changes))
    assert "task" in message
    assert all(part in message for part in expected), message


@pytest.mark.parametrize("section", ["space", "strategy", "estimation"])
def test_a_class_of_ones_own_in_the_wrong_place(workplace: Workplace, section: str) -> None:
    (workplace.folder / "mine.py").write_text(LACKING, "utf-8")
    message = workplace.refusal("run", workplace.recipe({section: {"name": "mine:Odd"}}))
    assert f"{section}.name: 'mine:Odd' lacks" in message


def test_limits_that_reject_everything(workplace: Workplace) -> None:
    limits = {"weight_bytes": 1, "macs": 1_000_000}
    path = workplace.recipe({"limits": limits, "strategy": {"max_rejected": 7}})
    outcome = workplace.qanas("run", path)
    assert outcome.code == 2
    assert outcome.line == (
        "qanas: limits.weight_bytes = 1 rejected 7 of 7 candidates (strategy.max_rejected = 7): "
        "raise it or search smaller networks"
    )
    again = workplace.qanas("run", path)
    assert again.code == 2
    assert "limits.weight_bytes" in again.line


def test_bad_input_to_pick(finished_once: Workplace) -> None:
    cases = {
        "weight_bite=100": ["--limit weight_bite", "'weight_bytes'"],
        "weight_bytes": ["--limit weight_bytes: give a cost and a number"],
        "weight_bytes=small": ["--limit weight_bytes: 'small' is no number of bytes", "--limit weight_bytes=20000"],
        "weight_bytes=nan": ["--limit weight_bytes: 'nan' is no number of bytes"],
        "weight_bytes=64 KB": ["'64 KB' is no number of bytes", "kB, KiB"],
        "weight_bytes=": ["--limit weight_bytes=: give a cost and a number"],
        "=3": ["--limit =3: give a cost and a number"],
        "weight_bytes=1": ["no shipped model is within the limits", "the closest is", "weight_bytes"],
    }
    for limit, expected in cases.items():
        message = finished_once.refusal("pick", "runs/tiny", "--limit", limit)
        assert all(part in message for part in expected), message


@pytest.mark.parametrize("command", ["report", "verify", "pick"])
def test_a_folder_that_is_no_run(workplace: Workplace, command: str) -> None:
    assert "runs/nothing: no such folder" in workplace.refusal(command, "runs/nothing")
    assert "recipe.toml: missing" in workplace.refusal(command, "data")
    path = workplace.folder / "data" / "recipe.toml"
    path.write_text("[task", "utf-8")
    assert "data/recipe.toml" in workplace.refusal(command, "data")
