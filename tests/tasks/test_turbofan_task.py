import inspect
import json
import math
import os
import pickle
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pydantic
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qanas.core.errors import InputError
from qanas.tasks.base import Task
from qanas.tasks.samples import Split
from qanas.tasks.turbofan import Turbofan
from qanas.tasks.turbofan.task import SubsetName, phm08_score


def real_folder(subset: str) -> str:
    root = os.environ.get("QANAS_DATA")
    if root is None:
        pytest.skip("QANAS_DATA isn't set")
    folder = Path(root) / "cmapss"
    if not (folder / f"train_{subset}.txt").exists():
        pytest.skip(f"QANAS_DATA has no cmapss/train_{subset}.txt")
    return str(folder)


def make_split(targets: list[float], uncapped: list[float]) -> Split:
    inputs = np.zeros((len(targets), 2, 1), dtype=np.float32)
    extras = {"uncapped": np.array(uncapped, dtype=np.float32)}
    return Split(inputs, np.array(targets, dtype=np.float32)[:, None], extras)


@pytest.mark.parametrize(
    ("subset", "engines", "sensors", "conditions"),
    [("FD001", 100, 14, 1), ("FD002", 260, 17, 6), ("FD003", 100, 16, 1), ("FD004", 249, None, 6)],
)
def test_real_data(subset: SubsetName, engines: int, sensors: int | None, conditions: int) -> None:
    data = Turbofan(real_folder(subset), subset=subset).load()
    assert len(data.preprocessing["conditions"]) == conditions
    if sensors is not None:
        assert len(data.preprocessing["sensors"]) == sensors
        assert len(data.protocol["validation_engines"]) == round(0.2 * engines)
    for split in (data.train, data.val, data.test):
        assert np.isfinite(split.inputs).all()
        assert split.targets.max() <= 125


def test_fourteen_sensors_whichever_engines_are_held_out() -> None:
    for seed in range(5):
        data = Turbofan(real_folder("FD001"), split_seed=seed, stride=50).load()
        assert data.preprocessing["sensors"] == [2, 3, 4, 7, 8, 9, 11, 12, 13, 14, 15, 17, 20, 21]


def test_a_stranger_can_recompute_fd002() -> None:
    folder = real_folder("FD002")
    data = Turbofan(folder, subset="FD002", stride=50).load()
    table = np.loadtxt(Path(folder) / "test_FD002.txt")
    notes = data.preprocessing
    for index in (0, 100, 258):
        rows = table[table[:, 0] == index + 1][-30:]
        rows = np.concatenate([np.repeat(rows[:1], 30 - len(rows), axis=0), rows])
        centres = np.array([condition["centre"] for condition in notes["conditions"]])
        label = np.argmin(np.linalg.norm(rows[:, None, 2:5] - centres, axis=2), axis=1)
        means = np.array([condition["means"] for condition in notes["conditions"]])[label]
        deviations = np.array([condition["deviations"] for condition in notes["conditions"]])[label]
        values = rows[:, [4 + sensor for sensor in notes["sensors"]]]
        with np.errstate(divide="ignore", invalid="ignore"):
            expected = np.where(deviations > 0, (values - means) / deviations, 0.0)
        np.testing.assert_allclose(data.test.inputs[index], expected, rtol=1e-5, atol=1e-6)


def test_is_a_task_that_pydantic_can_validate(raw: Path) -> None:
    assert issubclass(Turbofan, Task)
    hints = get_type_hints(Turbofan.__init__, include_extras=True)
    parameters = [p for name, p in inspect.signature(Turbofan).parameters.items() if name != "self"]
    fields: dict[str, Any] = {
        p.name: (hints[p.name], ... if p.default is inspect.Parameter.empty else p.default) for p in parameters
    }
    model = pydantic.create_model("Recipe", **fields)
    assert model(data=str(raw)).model_dump() == {
        "data": str(raw),
        "subset": "FD001",
        "window": 30,
        "rul_cap": 125.0,
        "validation_fraction": 0.2,
        "split_seed": 0,
        "stride": 1,
        "stride_in_window": 1,
        "first_end": None,
        "features": "none",
        "mean_window": 15,
    }
    for wrong in (
        {"window": 1},
        {"window": 513},
        {"features": "median"},
        {"mean_window": 0},
        {"rul_cap": 0},
        {"rul_cap": math.inf},
        {"validation_fraction": 0},
        {"validation_fraction": 1},
        {"stride": 0},
        {"stride_in_window": 0},
        {"first_end": 0},
        {"subset": "FD005"},
        {"split_seed": -1},
    ):
        with pytest.raises(pydantic.ValidationError, match=next(iter(wrong))):
            model(data=str(raw), **wrong)


def test_deterministic_and_picklable(raw: Path) -> None:
    task = Turbofan(str(raw), split_seed=2)
    copy = pickle.loads(pickle.dumps(task))  # noqa: S301 - own bytes
    assert copy == task
    assert copy.fingerprint() == task.fingerprint()
    first, second = task.load(), copy.load()
    for name in ("train", "val", "test"):
        one, other = getattr(first, name), getattr(second, name)
        np.testing.assert_array_equal(one.inputs, other.inputs)
        np.testing.assert_array_equal(one.targets, other.targets)
    assert first.preprocessing == second.preprocessing
    assert first.protocol == second.protocol


def test_notes_are_json(raw: Path) -> None:
    data = Turbofan(str(raw), stride=3).load()
    for notes in (data.preprocessing, data.protocol):
        assert json.loads(json.dumps(notes)) == notes
    assert data.protocol["windows"] == {
        "train": len(data.train),
        "val": len(data.val),
        "test": len(data.test),
    }
    assert data.protocol["source"] == "real"
    assert data.protocol["subset"] == "FD001"
    assert data.protocol["stride"] == 3


def test_fingerprint_is_of_the_data_alone(raw: Path) -> None:
    before = Turbofan(str(raw)).fingerprint()
    assert Turbofan(str(raw), window=40, split_seed=4).fingerprint() == before
    with (raw / "RUL_FD001.txt").open("a", encoding="ascii") as file:
        file.write("\n")
    assert Turbofan(str(raw)).fingerprint() != before


def test_losses() -> None:
    task = Turbofan("synthetic", rul_cap=50.0)
    outputs = torch.tensor([[0.0], [100.0], [25.0]], requires_grad=True)
    targets = torch.tensor([[50.0], [50.0], [50.0]])
    mae = task.loss("mae", outputs, targets)
    mse = task.loss("mse", outputs, targets)
    assert mae.item() == pytest.approx((1 + 1 + 0.5) / 3)
    assert mse.item() == pytest.approx((1 + 1 + 0.25) / 3)
    mae.backward()  # type: ignore[no-untyped-call]
    assert outputs.grad is not None
    with pytest.raises(InputError, match="unknown loss 'msee': did you mean 'mse'"):
        task.loss("msee", outputs, targets)
    assert Turbofan.losses == ("mae", "mse", "huber")


@given(
    st.lists(
        st.tuples(st.floats(-50, 300, width=32), st.floats(0, 125, width=32), st.floats(0, 100, width=32)),
        min_size=1,
        max_size=20,
    )
)
@settings(deadline=None, derandomize=True)
def test_metrics_equal_naive_formulas(samples: list[tuple[float, float, float]]) -> None:
    outputs = [output for output, _, _ in samples]
    targets = [target for _, target, _ in samples]
    uncapped = [float(np.float32(target + more)) for _, target, more in samples]
    errors = [output - target for output, target in zip(outputs, targets, strict=True)]
    n = len(samples)
    expected = {
        "mae": sum(abs(e) for e in errors) / n,
        "rmse": math.sqrt(sum(e * e for e in errors) / n),
        "mae_uncapped": sum(abs(o - u) for o, u in zip(outputs, uncapped, strict=True)) / n,
        "score": sum(math.exp(-e / 13) - 1 if e < 0 else math.exp(e / 10) - 1 for e in errors) / n,
    }
    found = Turbofan("synthetic").evaluate(np.array(outputs, dtype=np.float32)[:, None], make_split(targets, uncapped))
    assert list(found) == list(Turbofan.metrics)
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert all(isinstance(value, float) for value in found.values())


def test_score_of_a_diverged_network_is_finite() -> None:
    assert 1e100 < phm08_score(np.array([1e30, -1e30])) < math.inf


def test_uncapped_mae_is_beside_the_capped(raw: Path) -> None:
    task = Turbofan(str(raw))
    split = task.load().test
    assert split.targets[:, 0].tolist() == [10.0, 125.0, 0.0, 125.0]
    assert split.extras["uncapped"].tolist() == [10.0, 200.0, 0.0, 130.0]
    metrics = task.evaluate(split.targets, split)
    assert metrics == {"mae": 0.0, "rmse": 0.0, "mae_uncapped": 20.0, "score": 0.0}


@pytest.mark.parametrize("kind", Turbofan.losses)
def test_the_losses_own_gradient_is_that_of_autograd(kind: str) -> None:
    task = Turbofan(data="synthetic")
    generator = torch.Generator().manual_seed(0)
    outputs = (torch.rand(7, 1, generator=generator) * 125).requires_grad_()
    targets = torch.rand(7, 1, generator=generator) * 125
    loss = task.loss(kind, outputs, targets)
    (expected,) = torch.autograd.grad(loss, outputs)
    value, gradient = task.loss_gradient(kind, outputs.detach().numpy(), targets.numpy())
    assert value == pytest.approx(loss.item(), rel=1e-6)
    np.testing.assert_allclose(gradient, expected.numpy(), rtol=1e-5)


def test_predictions_are_kept_as_they_are() -> None:
    task = Turbofan("synthetic", "FD001")
    data = task.load()
    outputs = np.zeros((len(data.test), 1), np.float32)
    kept = task.predictions(outputs, data.test, data.preprocessing)
    assert list(kept) == ["outputs", "targets", "engine", "cycle", "uncapped"]
    assert kept["outputs"] is outputs
    assert kept["targets"] is data.test.targets
