"""What a user's classes would do at the end of a run, they do before it: a mistake is named with its file and line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from qanas.core.errors import InputError
from qanas.recipe import load_plan
from qanas.tasks.samples import Split
from qanas.workflows.rehearsal import rehearse, rehearsed_samples
from tests.robustness.small import MODULE, recipe, run

SCORE = 'return {"accuracy": float(right.mean())}'
LOSS = "return F.cross_entropy(outputs, targets)"
DATA = "return TaskData(part(96), part(40), part(41), output_size=2)"
TARGETS = "(x[:, 0] > 0).astype(np.int64)"
METHOD = "    def fingerprint(self)"
BUILD = "    def build(self, candidate, shape):"
NETWORK = "return nn.Sequential(nn.Linear(8, w), nn.ReLU(), nn.Linear(w, 2))"


def rehearsed(folder: Path, *changes: tuple[str, str]) -> list[str]:
    plan = load_plan(recipe(folder, *changes))
    plan.check()
    return rehearse(plan)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param([(SCORE, 'raise KeyError("f1")')], "evaluate on val: KeyError: 'f1' (mine_", id="evaluate raises"),
        pytest.param([(SCORE, "raise SystemExit(3)")], "evaluate on val: SystemExit: 3 (mine_", id="evaluate exits"),
        pytest.param([(SCORE, 'return {"acc": 0.5}')], "returns no accuracy; it returns acc", id="misnamed metric"),
        pytest.param([(SCORE, "return 0.5")], "returns a float; return a number for each", id="no metrics"),
        pytest.param([(SCORE, 'return {"accuracy": right}')], "accuracy is a ndarray, not a number", id="an array"),
        pytest.param([(SCORE, 'return {"accuracy": "0.5"}')], "accuracy is a str, not a number", id="a text"),
        pytest.param([(SCORE, "raise GeneratorExit")], "evaluate on val: GeneratorExit:", id="no Exception"),
        pytest.param(
            [(SCORE, 'return {"accuracy": float("nan")}')],
            "objectives.accuracy_quantized: accuracy is not defined on the validation data",
            id="undefined objective",
        ),
        pytest.param([(SCORE, 'return {"accuracy": np.inf}')], "validation data (inf)", id="infinite objective"),
        pytest.param([(LOSS, "return outputs[7, 7]")], "loss 'ce': IndexError", id="loss raises"),
        pytest.param(
            [(LOSS, 'return F.cross_entropy(outputs, targets, reduction="none")')], "scalar", id="loss a vector"
        ),
        pytest.param(
            [(TARGETS, "np.where(np.arange(len(x)) == len(x) - 1, 2, x[:, 0] > 0)")],
            "loss 'ce': IndexError: Target 2 is out of bounds",
            id="a class without an output, in the last sample alone",
        ),
        pytest.param([(LOSS, "return outputs.detach().mean()")], "has no gradient", id="loss without gradient"),
        pytest.param(
            [(LOSS, "return outputs.mean() * float('nan')")], "is nan on the first training batch", id="NaN loss"
        ),
        pytest.param(
            [(METHOD, "    def augment(self, inputs, targets, generator): return inputs.nothing\n" + METHOD)],
            "a training batch: AttributeError",
            id="augment raises",
        ),
        pytest.param(
            [(METHOD, "    def augment(self, inputs, targets, generator): return inputs[:, :1], targets\n" + METHOD)],
            "a training batch: TypeError: augment makes inputs of shape (8, 1) of such of (8, ",
            id="augment of another shape",
        ),
        pytest.param(
            [(METHOD, "    def loss_gradient(self, kind, o, t): return 1.0, o\n" + METHOD)],
            "loss_gradient 'ce': ValueError: it gives 1 where loss gives ",
            id="another gradient than autograd's",
        ),
        pytest.param(
            [(METHOD, "    def confusion(self, outputs, split): return np.zeros(2)\n" + METHOD)],
            "confusion on val: TypeError: it returns a ndarray of shape (2,); return an array (classes, classes)",
            id="confusion of another shape",
        ),
        pytest.param(
            [(METHOD, "    def predictions(self, outputs, split, preprocessing): return {'x': 1 / 0}\n" + METHOD)],
            "predictions on val: ZeroDivisionError",
            id="predictions raises",
        ),
        pytest.param(
            [(METHOD, "    def front_end(self, preprocessing): return 1\n" + METHOD)],
            "MyTask.front_end returns a int; return a qanas.tasks.front_end.FrontEnd, or None",
            id="front end of another kind",
        ),
        pytest.param(
            [(METHOD, "    def predictions(self, o, s, p): return {'x': np.array([{}, None])}\n" + METHOD)],
            "predictions: ValueError",
            id="predictions of objects",
        ),
        pytest.param(
            [(DATA, "return TaskData(part(96), part(40), part(41), 2, preprocessing={'mean': object()})")],
            "preprocessing",
            id="preprocessing that is no JSON",
        ),
        pytest.param(
            [("def load(self):", "def load(self): exit(3)\n    def x(self):")],
            "MyTask.load: SystemExit: 3 (mine_",
            id="load exits",
        ),
        pytest.param(
            [("def load(self):", "def load(self): return None\n    def x(self):")],
            "MyTask.load returns a NoneType",
            id="load returns nothing",
        ),
        pytest.param(
            [('return "1"', "raise KeyError('x')")], "MyTask.fingerprint: KeyError: 'x' (mine_", id="fingerprint"
        ),
        pytest.param(
            [('return "1"', "return 1")], "fingerprint: TypeError: it returns a int", id="fingerprint a number"
        ),
        pytest.param([("own = T", "exit(3); own = T")], "settings of MySpace can't be had: SystemExit", id="settings"),
        pytest.param([("w = c", "exit(3); w = c")], "MySpace can't be built: SystemExit: 3 (mine_", id="build exits"),
        pytest.param(
            [(NETWORK, f"{NETWORK}.requires_grad_(False)")], "has no weights to be trained", id="frozen weights"
        ),
        pytest.param([(NETWORK, "return nn.Softmax(1)")], "has no weights to be trained", id="no weights"),
        pytest.param(
            [
                ("class MySpace", "LAYER = nn.Linear(8, 8)\n\n\nclass MySpace"),
                ("nn.Linear(8, w)", "LAYER, nn.Linear(8, w)"),
            ],
            "networks of MySpace share layers",
            id="layers of all networks",
        ),
        pytest.param(
            [(BUILD, "    def penalties(self, candidate, network): return {'0.weigth': None}\n\n" + BUILD)],
            "MySpace.penalties: ValueError: the network has no weight '0.weigth'; it has 0.weight, 0.bias, 2.weight",
            id="penalty on nothing",
        ),
        pytest.param(
            [(BUILD, "    def penalties(self, candidate, network): return {'0.weight': 0.1}\n\n" + BUILD)],
            "MySpace.penalties: TypeError: '0.weight' has a float; give a Penalty",
            id="penalty that is a number",
        ),
        pytest.param([("MyTask(Task)", "MyTask")], "is no Task; derive it from", id="no task"),
        pytest.param([(TARGETS, "x[:, 0].astype(str)")], "train: targets are of type <U", id="targets of texts"),
        pytest.param([(TARGETS, "(x[1:, 0] > 0)")], "train: targets: 95 rows for 96 samples", id="too few targets"),
        pytest.param([("part(41)", "part(0)")], "test: inputs have shape (0, 8)", id="an empty split"),
        pytest.param([("part(41)", "Split(np.ones((3, 7)), np.ones(3, int))")], "have to be equal", id="other shapes"),
    ],
)
def test_mistakes_are_found_before_anything_is_trained(
    tmp_path: Path, changes: list[tuple[str, str]], expected: str
) -> None:
    with pytest.raises(InputError) as caught:
        rehearsed(tmp_path, *changes)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError):
        run(tmp_path / "r.toml", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_place_is_in_the_users_file(tmp_path: Path) -> None:
    """Where a library raises it, the line that called the library."""
    path = recipe(tmp_path, (LOSS, "return F.cross_entropy(outputs, targets.float().long()[:, None, None])"))
    plan = load_plan(path)
    line = 1 + next(n for n, text in enumerate(MODULE.splitlines()) if LOSS in text)
    with pytest.raises(InputError, match=rf"\(mine_\d+\.py, line {line}\)"):
        rehearse(plan)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param([(SCORE, 'return {"accuracy": right.astype(np.float32).mean()}')], id="float32 of NumPy"),
        pytest.param([(SCORE, 'return {"accuracy": torch.tensor(right).double().mean()}')], id="a tensor"),
        pytest.param([(TARGETS, "(x[:, 0] > 0).astype(np.int32)")], id="int32 targets"),
        pytest.param([(TARGETS, "x[:, 0] > 0"), (".astype(np.float32)", "[:, ::-1]")], id="bool targets, odd inputs"),
        pytest.param([("part(96)", "part(33)"), ("nn.ReLU()", "nn.BatchNorm1d(w), nn.ReLU()")], id="a batch of one"),
    ],
)
def test_what_is_meant_is_taken(tmp_path: Path, changes: list[tuple[str, str]]) -> None:
    result, _ = run(recipe(tmp_path, *changes), tmp_path / "out", strategy__trials=1)
    assert list(result.models) == ["seed"]
    assert result.trials["outcome"].to_list() == ["measured"]


def test_a_metric_beside_the_objectives_may_be_undefined(tmp_path: Path) -> None:
    changes = (
        ('metrics = {"accuracy": "maximize"}', 'metrics = {"accuracy": "maximize", "precision": "maximize"}'),
        (SCORE, 'return {"accuracy": float(right.mean()), "precision": np.nan if len(right) == 41 else None}'),
    )
    path = recipe(tmp_path, *changes)
    result, _ = run(path, tmp_path / "out")
    assert set(result.trials["outcome"]) == {"measured"}
    assert result.finalists["precision_quantized_val_mean"].is_nan().all()
    card = (tmp_path / "out/models/seed/card.json").read_text("utf-8")
    assert '"shipped": null' in card
    before = {entry.name: entry.stat().st_mtime_ns for entry in (tmp_path / "out/models/seed").iterdir()}
    run(path, tmp_path / "out")
    assert {entry.name: entry.stat().st_mtime_ns for entry in (tmp_path / "out/models/seed").iterdir()} == before


@pytest.mark.parametrize("options", ["(None, 4)", "((4, 4), (8, 2))", "(np.int64(4), 4)", "([4], [8])"])
def test_options_that_no_table_holds_are_refused(tmp_path: Path, options: str) -> None:
    setting = 'Integer("width", "architecture", 4, low=2, high=16)'
    path = recipe(tmp_path, (setting, f'Choice("width", "architecture", 4, options={options})'))
    with pytest.raises(InputError, match=r"'width' can be .*values are truth values, numbers and texts"):
        load_plan(path).check()


def test_the_data_is_looked_at(tmp_path: Path) -> None:
    lines = rehearsed(tmp_path)
    assert any(line.startswith("train: 96 samples; classes 0: ") for line in lines)
    copies = rehearsed(tmp_path, (DATA, "p = part(9); return TaskData(p, p, part(5), 2)"))
    assert "9 of 9 val samples are in train, too: scores on them flatter" in copies
    constant = rehearsed(tmp_path, (TARGETS, "np.zeros(n, np.int64)"))
    assert "train: every target is 0" in constant
    with pytest.raises(InputError, match="task: test data: inputs hold NaN"):
        rehearsed(tmp_path, (DATA, "t = part(41); t.inputs[3] = np.nan; return TaskData(part(96), part(40), t, 2)"))


def test_a_network_of_other_outputs_than_the_task_says_is_refused(tmp_path: Path) -> None:
    wider = (NETWORK, NETWORK.replace("nn.Linear(w, 2)", "nn.Linear(w, 3)"))
    with pytest.raises(InputError, match=r"MySpace puts out values of shape \(3,\) .* MyTask has output_size = 2"):
        rehearsed(tmp_path, wider)


@pytest.mark.parametrize(
    ("classes", "batch_size", "expected"),
    [
        ([1] * 9, 8, range(8)),
        ([1] * 7 + [0, *[1] * 4, 2], 8, [12, 7, 0, 1, 2, 3, 4, 5]),
        ([0, 1, 2], 1, [2]),
        ([0.5, 9.5, 0.1], 2, [0, 1]),
    ],
)
def test_the_largest_and_the_smallest_class_are_rehearsed(
    classes: list[float], batch_size: int, expected: Sequence[int]
) -> None:
    split = Split(np.zeros((len(classes), 1), np.float32), np.array(classes))
    assert rehearsed_samples(split, batch_size, len(split)).tolist() == list(expected)


def test_losses_are_names_in_a_tuple(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"MyTask\.losses: TypeError: 'ce'; give a tuple of names"):
        load_plan(recipe(tmp_path, ('losses = ("ce",)', 'losses = "ce"')))


def test_a_space_without_settings_of_the_training_is_told_where_they_are(tmp_path: Path) -> None:
    plan = load_plan(recipe(tmp_path, (", *training_settings(shape.losses, own)]", "]")))
    with pytest.raises(InputError, match=r"MySpace lacks settings of the training: give all that .*training_settings"):
        plan.check()
