"""What of a network's input is searched: other inputs, the same samples and scores that can be compared."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from qanas.core.candidate import Candidate, Value
from qanas.search_space.settings import Choice, Integer, Setting
from qanas.search_space.space import space_of
from qanas.tasks.base import Task, TaskData
from qanas.tasks.frames import Camera
from qanas.tasks.pictures import standardise
from qanas.tasks.samples import FloatArray, Split
from qanas.tasks.segmentation import Segmentation
from qanas.tasks.segmentation.files import find_pairs, numbered_labels
from qanas.tasks.segmentation.metrics import at_size
from qanas.tasks.segmentation.reader import read_pairs
from qanas.tasks.turbofan import Turbofan

MakeTask = Callable[[Path], Task]
SPLITS = ("train", "val", "test")


def turbofan(folder: Path) -> Turbofan:
    return Turbofan(str(folder), window=12, split_seed=3)


def segmentation(folder: Path) -> Segmentation:
    return Segmentation(str(folder), "folders", 24, 32, ("a", "b", "c"), 3)


@pytest.fixture(params=["turbofan", "segmentation"])
def task(request: pytest.FixtureRequest) -> Task:
    """Each built-in task on its small files."""
    if request.param == "turbofan":
        return turbofan(request.getfixturevalue("raw"))
    return segmentation(request.getfixturevalue("scenes"))


def values_within(setting: Setting) -> list[Value]:
    """Return some values of a range, its ends among them."""
    if isinstance(setting, Choice):
        return list(setting.options)
    assert isinstance(setting, Integer)
    return sorted({setting.low, (setting.low + setting.high) // 2, setting.high})


def assert_same_samples(one: Split, other: Split) -> None:
    np.testing.assert_array_equal(one.targets, other.targets)
    assert one.extras.keys() == other.extras.keys()
    for name, values in one.extras.items():
        np.testing.assert_array_equal(values, other.extras[name])


def assert_same(one: TaskData, other: TaskData) -> None:
    for name in SPLITS:
        assert_same_samples(getattr(one, name), getattr(other, name))
        np.testing.assert_array_equal(getattr(one, name).inputs, getattr(other, name).inputs)
    assert (one.output_size, one.target_scale) == (other.output_size, other.target_scale)


def test_settings_stand_for_arguments_and_start_at_the_tasks_own(task: Task) -> None:
    for setting in task.input_settings():
        assert setting.group == "input"
        assert setting.reference == getattr(task, setting.name)
        assert min(values_within(setting)) <= setting.reference <= max(values_within(setting))  # type: ignore[operator]


def test_whatever_the_input_val_and_test_have_the_same_samples(task: Task) -> None:
    own = task.load()
    for setting in task.input_settings():
        for value in values_within(setting):
            data = task.with_input({setting.name: value}).load()
            assert_same_samples(data.val, own.val)
            assert_same_samples(data.test, own.test)
            assert len(data.train) == len(own.train)
            assert (data.input_shape == own.input_shape) == (value == setting.reference)
            assert (data.preprocessing == own.preprocessing) == (value == setting.reference)


def test_the_tasks_own_input_gives_its_own_data(task: Task) -> None:
    searched = space_of(task.input_settings(), ["input"])
    assert set(searched.reference.input) == {setting.name for setting in task.input_settings()}
    assert task.with_input(Candidate().input) is task
    assert_same(task.with_input(searched.reference.input).load(), task.load())


def test_an_input_of_an_input_has_the_first_tasks_samples(task: Task) -> None:
    first, second = task.input_settings()
    values = {first.name: values_within(first)[0], second.name: values_within(second)[-1]}
    twice = task.with_input({first.name: values_within(first)[-1]}).with_input(values)
    assert twice == task.with_input(values)


def test_a_setting_that_the_task_does_not_have_is_refused(task: Task) -> None:
    with pytest.raises(ValueError, match="has no input setting 'colour'"):
        task.with_input({"colour": 1})


class Plain(Task):
    """A task as users write them, which knows nothing of inputs."""

    metrics = {"error": "minimize"}  # noqa: RUF012 - as users write it
    losses = ("mse",)

    def fingerprint(self) -> str:
        return "plain"

    def load(self) -> TaskData:
        split = Split(np.zeros((3, 2), np.float32), np.zeros((3, 1), np.float32))
        return TaskData(split, split, split, output_size=1)

    def loss(self, kind: str, outputs: Tensor, targets: Tensor) -> Tensor:
        del kind
        return F.mse_loss(outputs, targets)

    def evaluate(self, outputs: FloatArray, split: Split) -> dict[str, float]:
        return {"error": float(np.abs(outputs - split.targets).mean())}


class Offering(Plain):
    def input_settings(self) -> tuple[Setting, ...]:
        return (Integer("length", "input", 2, low=1, high=4),)


@dataclass(frozen=True)
class Long(Offering):
    length: int = 2


def test_of_a_users_task() -> None:
    plain = Plain()
    assert plain.input_settings() == ()
    assert plain.with_input({}) is plain
    with pytest.raises(ValueError, match="Plain has no input setting 'length'"):
        plain.with_input({"length": 3})
    with pytest.raises(TypeError, match=r"Offering\.with_input: it is no dataclass"):
        Offering().with_input({"length": 3})
    assert Long().with_input({"length": 3}) == Long(3)


@pytest.mark.parametrize(("window", "low", "high"), [(30, 10, 60), (2, 2, 4), (5, 2, 10), (400, 133, 512)])
def test_windows_searched(window: int, low: int, high: int) -> None:
    setting, _ = Turbofan("synthetic", window=window).input_settings()
    assert setting == Integer("window", "input", window, low=low, high=high)


def test_sides_searched() -> None:
    settings_ = Segmentation("synthetic", height=96, width=100).input_settings()
    assert [setting.options for setting in settings_] == [(48, 72, 96, 120), (48, 72, 100, 128)]
    smallest, _ = Segmentation("synthetic", height=8).input_settings()
    assert smallest.options == (8,)
    largest, _ = Segmentation("synthetic", height=4096).input_settings()
    assert largest.options == (2048, 3072, 4096)


@settings(deadline=None, max_examples=30)
@given(window=st.integers(2, 40), stride=st.integers(1, 5), data=st.data())
def test_a_thinned_window_is_every_nth_cycle_of_the_whole_one_from_its_end(
    window: int, stride: int, data: st.DataObject
) -> None:
    whole = synthetic().with_input({"window": window}).load()
    thinned = synthetic().with_input({"window": window, "stride_in_window": stride}).load()
    assert thinned.input_shape == (-(-window // stride), whole.input_shape[1])
    name = data.draw(st.sampled_from(SPLITS))
    np.testing.assert_array_equal(
        getattr(thinned, name).inputs, getattr(whole, name).inputs[:, ::-1][:, ::stride][:, ::-1]
    )


@settings(deadline=None, max_examples=20)
@given(shorter=st.integers(2, 40), longer=st.integers(2, 80))
def test_a_shorter_window_is_the_end_of_a_longer_one(shorter: int, longer: int) -> None:
    shorter, longer = sorted((shorter, longer))
    one, other = (synthetic().with_input({"window": window}).load() for window in (shorter, longer))
    for name in SPLITS:
        assert_same_samples(getattr(one, name), getattr(other, name))
        np.testing.assert_array_equal(getattr(one, name).inputs, getattr(other, name).inputs[:, -shorter:])


def synthetic() -> Turbofan:
    return Turbofan(str(_FOLDER[0]), window=12)


_FOLDER: list[Path] = []


@pytest.fixture(autouse=True, scope="module")
def _files(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Two engines for properties over many windows."""
    folder = tmp_path_factory.mktemp("engines")
    generator = np.random.default_rng(0)
    for name, lengths in {"train": (20, 35), "test": (15, 40)}.items():
        rows = [(engine, cycle) for engine, length in enumerate(lengths, 1) for cycle in range(1, length + 1)]
        values = generator.normal(10, 1, size=(len(rows), 24))
        lines = (
            " ".join([str(e), str(c), *(f"{v:.4f}" for v in row)]) for (e, c), row in zip(rows, values, strict=True)
        )
        (folder / f"{name}_FD001.txt").write_text("\n".join(lines) + "\n", encoding="ascii")
    (folder / "RUL_FD001.txt").write_text("5\n60\n", encoding="ascii")
    _FOLDER[:] = [folder]


def test_a_window_longer_than_the_engines_past_repeats_its_first_cycle() -> None:
    data = synthetic().with_input({"window": 24}).load()
    first_end = np.flatnonzero(data.val.extras["cycle"] == 12)[0]
    window = data.val.inputs[first_end]
    np.testing.assert_array_equal(window[:13], window[12:13].repeat(13, axis=0))
    assert len(np.unique(window, axis=0)) == 12
    # Thinned by 5: cycles 12, 7, 2 of the engine, and its first one in front.
    thinned = synthetic().with_input({"window": 24, "stride_in_window": 5}).load().val.inputs[first_end]
    np.testing.assert_array_equal(thinned, window[[3, 8, 13, 18, 23]])
    np.testing.assert_array_equal(thinned[0], thinned[1])


def test_first_windows_end_where_the_recipe_says() -> None:
    data = Turbofan(str(_FOLDER[0]), window=6, first_end=9).load()
    assert data.val.extras["cycle"].min() == 9
    assert data.protocol["first_end"] == 9
    own = Turbofan(str(_FOLDER[0]), window=6).load()
    assert own.val.extras["cycle"].min() == own.protocol["first_end"] == 6
    assert synthetic().with_input({"window": 6}).load().protocol["first_end"] == 12


def test_notes_tell_of_a_thinned_window() -> None:
    notes = synthetic().with_input({"window": 20, "stride_in_window": 3}).load().preprocessing
    assert (notes["window"], notes["stride_in_window"]) == (20, 3)
    assert "every stride_in_window-th of the last cycles" in notes["input"]
    assert "stride_in_window" not in synthetic().load().preprocessing["input"]


def sizes(scenes: Path, values: Mapping[str, Value]) -> TaskData:
    return segmentation(scenes).with_input(values).load()


def test_images_and_training_masks_have_the_size_searched_other_masks_the_recipes(scenes: Path) -> None:
    data = sizes(scenes, {"height": 16, "width": 40})
    assert data.input_shape == (3, 16, 40)
    assert data.train.targets.shape == (4, 16, 40)
    assert data.val.targets.shape[1:] == data.test.targets.shape[1:] == (24, 32)
    frames = read_pairs(find_pairs(scenes)["val"], numbered_labels(("a", "b", "c"), 3), (16, 40), (24, 32), Camera())
    notes = data.preprocessing
    expected = standardise(frames.images, np.array(notes["means"]), np.array(notes["deviations"]))
    np.testing.assert_array_equal(data.val.inputs, expected)
    assert (notes["height"], notes["width"]) == (16, 40)
    assert data.protocol["size"] == [16, 40]
    assert "in val and test to 24 x 32" in data.protocol["masks"]
    assert data.protocol["masks"].startswith("in training resized to 16 x 40")


@pytest.mark.parametrize("size", [(12, 16), (24, 16), (30, 40), (23, 33)])
def test_outputs_of_another_size_are_scored_as_if_resized_before(scenes: Path, size: tuple[int, int]) -> None:
    task, data = segmentation(scenes), sizes(scenes, {"height": 16})
    outputs = np.random.default_rng(0).normal(size=(len(data.test), 3, *size)).astype(np.float32)
    outputs.setflags(write=False)  # as a memory map is
    resized = F.interpolate(torch.tensor(outputs), (24, 32), mode="bilinear", align_corners=False).numpy()
    assert task.evaluate(outputs, data.test) == task.evaluate(resized, data.test)


@pytest.mark.parametrize("factor", [2, 3])
def test_a_resized_logit_is_the_mean_of_its_neighbours_by_distance(factor: int) -> None:
    """By hand along a row: pixel centres at halves, the border's pixel beyond the border."""
    row = np.array([0.0, 4.0, 1.0], dtype=np.float32)
    expected = np.interp((np.arange(3 * factor) + 0.5) / factor - 0.5, np.arange(3), row)
    np.testing.assert_allclose(at_size(row[None, None, None], (1, 3 * factor))[0, 0, 0], expected, atol=1e-6)


def test_perfect_answers_at_half_the_size_score_what_a_half_can_tell() -> None:
    """Where masks consist of blocks that the smaller output resolves, only borders can be wrong."""
    masks = np.kron(np.array([[0, 1], [1, 0]], dtype=np.uint8), np.ones((8, 8), dtype=np.uint8))[None]
    half = np.eye(2, dtype=np.float32)[masks[:, ::2, ::2]].transpose(0, 3, 1, 2)
    task = Segmentation("x", "folders", 16, 16, ("a", "b"))
    split = Split(np.zeros((1, 3, 8, 8), np.float32), masks)
    assert task.evaluate(half, split)["pixel_accuracy"] == 1.0
    shifted = np.roll(half, 1, axis=3)
    assert task.evaluate(shifted, split)["pixel_accuracy"] < 1.0


def test_examples_are_at_the_masks_size(scenes: Path) -> None:
    task, data = segmentation(scenes), sizes(scenes, {"height": 16, "width": 24})
    outputs = np.random.default_rng(0).normal(size=(3, 3, 16, 24)).astype(np.float32)
    kept = task.predictions(outputs, data.test, data.preprocessing)
    assert kept["classes"].shape == kept["targets"].shape == (3, 24, 32)
    assert kept["pictures"].shape == (3, 24, 32, 3)
    np.testing.assert_array_equal(kept["classes"], at_size(outputs, (24, 32)).argmax(axis=1))
