"""The task as a whole: its contract, its losses, generated scenes, CamVid itself."""

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
from PIL import Image

from qanas.core.errors import InputError
from qanas.core.run_folder import RunFolder
from qanas.planning.dependence import check_resumable
from qanas.recipe import TASKS, load_plan
from qanas.tasks.base import Task, TaskData
from qanas.tasks.prepared import load_prepared, save_prepared
from qanas.tasks.samples import Split
from qanas.tasks.segmentation import Segmentation
from qanas.tasks.segmentation.files import CAMVID_CLASSES, VOID
from qanas.tasks.segmentation.metrics import KEPT_IMAGES, LONGEST_SIDE, examples
from qanas.tasks.segmentation.synthetic import SCENES, draw_scene


def task_of(folder: Path, **settings: Any) -> Segmentation:  # noqa: ANN401
    fixed = {"dataset": "folders", "classes": ("a", "b", "c"), "void_id": 3, "height": 12, "width": 16}
    return Segmentation(str(folder), **{**fixed, **settings})


@pytest.fixture(scope="module")
def synthetic() -> TaskData:
    return Segmentation("synthetic").load()


def test_data_of_a_folder(scenes: Path) -> None:
    data = task_of(scenes).load()
    assert data.input_shape == (3, 12, 16)
    assert data.output_size == 3
    for name, count in (("train", 4), ("val", 2), ("test", 3)):
        split = getattr(data, name)
        assert split.inputs.shape == (count, 3, 12, 16)
        assert split.inputs.dtype == np.float32
        assert split.targets.shape == (count, 12, 16)
        assert split.targets.dtype == np.uint8
        assert set(np.unique(split.targets)) == {0, 1, 2, VOID}
        assert split.extras["image"].tolist() == [f"{name}_{i}" for i in range(count)]
    assert np.abs(data.train.inputs.mean((0, 2, 3))).max() < 1e-5
    np.testing.assert_allclose(data.train.inputs.std((0, 2, 3)), 1, rtol=1e-5)


def test_a_few_images_are_kept_of_the_predictions() -> None:
    task = Segmentation("synthetic", height=16, width=24)
    data = task.load()
    outputs = np.random.default_rng(0).normal(size=(len(data.test), 11, 16, 24)).astype(np.float32)
    kept = task.predictions(outputs, data.test, data.preprocessing)
    rows = [list(data.test.extras["image"]).index(name) for name in kept["image"]]
    assert rows == sorted(set(rows))
    assert (rows[0], rows[-1], len(rows)) == (0, len(data.test) - 1, KEPT_IMAGES)
    np.testing.assert_array_equal(kept["classes"], outputs.argmax(axis=1)[rows])
    np.testing.assert_array_equal(kept["targets"], data.test.targets[rows])
    means, deviations = (np.array(data.preprocessing[name])[:, None, None] for name in ("means", "deviations"))
    for row, picture in zip(rows, kept["pictures"], strict=True):
        again = (picture.transpose(2, 0, 1) - means) / deviations
        np.testing.assert_allclose(data.test.inputs[row], again, atol=1e-4)
    assert {kept[name].dtype for name in ("classes", "targets", "pictures")} == {np.dtype(np.uint8)}


def test_the_images_that_came_out_worst_are_kept_besides() -> None:
    task = Segmentation("synthetic", height=16, width=24)
    data = task.load()
    right = np.eye(11, dtype=np.float32)[np.minimum(data.test.targets, 10)].transpose(0, 3, 1, 2)
    right[5], right[3, :, :8] = np.roll(right[5], 1, axis=0), 1.0
    kept = task.predictions(right, data.test, data.preprocessing)
    assert kept["worst_image"].tolist()[:2] == data.test.extras["image"][[5, 3]].tolist()
    assert kept["worst_classes"].shape == kept["worst_targets"].shape == (4, 16, 24)


def test_of_large_images_every_nth_pixel_is_kept() -> None:
    targets = np.arange(LONGEST_SIDE + 2, dtype=np.uint8)[None, :, None].repeat(10, axis=2)
    split = Split(np.zeros((1, 3, *targets.shape[1:]), np.float32), targets, {"image": np.array(["a"])})
    outputs = np.zeros((1, 2, *targets.shape[1:]), np.float32)
    kept = examples(outputs, split, {"means": [1.0, 2.0, 300.0], "deviations": [1.0, 1.0, 1.0]})
    assert kept["targets"].shape == kept["classes"].shape == (1, LONGEST_SIDE // 2 + 1, 5)
    np.testing.assert_array_equal(kept["targets"][0, :, 0], targets[0, ::2, 0])
    assert kept["pictures"][0, 0, 0].tolist() == [1, 2, 255]


def test_a_stranger_can_recompute_the_inputs(scenes: Path) -> None:
    data = task_of(scenes).load()
    notes = data.preprocessing
    assert (notes["height"], notes["width"], notes["channels"]) == (12, 16, "red, green, blue")
    for split in ("train", "val", "test"):
        for index, name in enumerate(getattr(data, split).extras["image"]):
            with Image.open(scenes / split / f"{name}.png") as image:
                pixels = np.asarray(image, dtype=np.float64)
            expected = (pixels - np.array(notes["means"])) / np.array(notes["deviations"])
            found = getattr(data, split).inputs[index]
            np.testing.assert_allclose(found, np.moveaxis(expected, 2, 0), rtol=1e-4, atol=1e-5)


def test_a_constant_channel_has_the_deviation_one(scenes: Path) -> None:
    for path in (scenes / "train").iterdir():
        Image.fromarray(np.full((12, 16, 3), (9, 50, 200), dtype=np.uint8)).save(path)
    data = task_of(scenes).load()
    assert data.preprocessing["means"] == [9, 50, 200]
    assert data.preprocessing["deviations"] == [1, 1, 1]
    assert (data.train.inputs == 0).all()


def test_prepared_data_is_the_same(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    data = task_of(scenes).load()
    folder = tmp_path_factory.mktemp("prepared")
    save_prepared(data, folder)
    again = load_prepared(folder)
    for name in ("train", "val", "test"):
        one, other = getattr(data, name), getattr(again, name)
        np.testing.assert_array_equal(one.inputs, other.inputs)
        np.testing.assert_array_equal(one.targets, other.targets)
        assert other.targets.dtype == np.uint8
        assert one.extras["image"].tolist() == other.extras["image"].tolist()


def test_notes_are_json(scenes: Path) -> None:
    data = task_of(scenes).load()
    for notes in (data.preprocessing, data.protocol):
        assert json.loads(json.dumps(notes)) == notes
    assert data.protocol["images"] == {"train": 4, "val": 2, "test": 3}
    assert data.protocol["source"] == "real"


def test_picklable_and_deterministic(scenes: Path) -> None:
    task = task_of(scenes)
    copy = pickle.loads(pickle.dumps(task))  # noqa: S301 - own bytes
    assert copy == task
    assert copy.fingerprint() == task.fingerprint()
    np.testing.assert_array_equal(copy.load().val.inputs, task.load().val.inputs)


def test_is_a_registered_task_that_pydantic_can_validate() -> None:
    assert TASKS["segmentation"] == "qanas.tasks.segmentation:Segmentation"
    assert issubclass(Segmentation, Task)
    hints = get_type_hints(Segmentation, include_extras=True)
    fields: dict[str, Any] = {
        p.name: (hints[p.name], ... if p.default is inspect.Parameter.empty else p.default)
        for p in inspect.signature(Segmentation).parameters.values()
    }
    model = pydantic.create_model("Recipe", __config__=pydantic.ConfigDict(extra="forbid", strict=True), **fields)
    assert model(data="x", classes=["a", "b"]).model_dump()["classes"] == ("a", "b")
    for wrong in (
        {"dataset": "kitti"},
        {"height": 7},
        {"width": 5000},
        {"classes": [1, 2]},
        {"void_id": 256},
        {"void_id": -2},
        {"mirror": 1.5},
        {"min_scale": 0},
        {"brightness": math.nan},
    ):
        with pytest.raises(pydantic.ValidationError, match=next(iter(wrong))):
            model(data="x", **wrong)


@pytest.mark.parametrize("more", ["", 'classes = ["a", "b", "c"]\nvoid_id = 3\n'])
def test_a_recipe_can_be_resumed(scenes: Path, tmp_path_factory: pytest.TempPathFactory, more: str) -> None:
    """What is resolved comes back from its file as the same; a run with other classes is another run."""
    folder = tmp_path_factory.mktemp("recipe")
    recipe = folder / "recipe.toml"
    recipe.write_text(
        f'[task]\nname = "segmentation"\ndata = "{scenes}"\n{more}[space]\nname = "lstm"\n[strategy]\nname = "random"\n'
        f'[objectives]\n{"iou_b" if more else "iou_car"}_quantized = "maximize"\n'
    )
    run = RunFolder(folder / "run")
    run.path.mkdir()
    plan = load_plan(recipe)
    run.write_recipe(plan.recipe)
    check_resumable(load_plan(recipe), run)
    check_resumable(load_plan(run.recipe), run)
    if more:
        with pytest.raises(InputError, match=r"task\.classes was .*'c'.* now .*'d'"):
            check_resumable(load_plan(recipe, ["task.classes=['a', 'b', 'd']"]), run)


def test_metrics_are_named_after_the_classes() -> None:
    metrics = Segmentation("synthetic").metrics
    assert list(metrics)[:3] == ["miou", "pixel_accuracy", "cross_entropy"]
    assert list(metrics)[3:] == [f"iou_{name}" for name in CAMVID_CLASSES]
    assert {name for name, better in metrics.items() if better == "minimize"} == {"cross_entropy"}


# Losses


# Generated scenes


def test_scenes_have_every_class_in_every_split(synthetic: TaskData) -> None:
    for name, count in SCENES.items():
        split = getattr(synthetic, name)
        assert len(split) == count
        assert set(np.unique(split.targets)) == {*range(len(CAMVID_CLASSES)), VOID}
    assert synthetic.protocol["source"] == "synthetic"


def test_scenes_depend_on_their_seed_alone() -> None:
    one, same, other = (draw_scene(np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.labels, same.labels)
    np.testing.assert_array_equal(one.pixels(), same.pixels())
    assert (one.labels != other.labels).any()
    task = Segmentation("synthetic")
    assert task.fingerprint() == Segmentation("synthetic", height=24, width=32).fingerprint()


def test_poles_are_thin() -> None:
    widths = []
    for seed in range(20):
        poles = draw_scene(np.random.default_rng(seed)).labels == CAMVID_CLASSES.index("pole")
        for row in poles:
            edges = np.flatnonzero(np.diff(np.r_[0, row.astype(int), 0]))
            widths += (edges[1::2] - edges[::2]).tolist()
    assert len(widths) > 100
    assert np.median(widths) <= 2


def test_colours_alone_do_not_give_the_classes_away(synthetic: TaskData) -> None:
    """The class of the nearest mean colour is better than chance and far from good."""
    train, val = synthetic.train, synthetic.val
    pixels, classes = np.moveaxis(train.inputs, 1, -1), range(len(CAMVID_CLASSES))
    means = np.stack([pixels[train.targets == label].mean(0) for label in classes])
    distances = np.square(np.moveaxis(val.inputs, 1, -1)[..., None, :] - means).sum(-1)
    metrics = Segmentation("synthetic").evaluate(np.moveaxis(-distances, -1, 1).astype(np.float32), val)
    assert 0.1 < metrics["miou"] < 0.4
    assert metrics["pixel_accuracy"] < 0.7


# CamVid


@pytest.fixture(scope="module")
def camvid() -> tuple[Segmentation, TaskData]:
    root = os.environ.get("QANAS_DATA")
    if root is None:
        pytest.skip("QANAS_DATA isn't set")
    folder = Path(root) / "camvid"
    if not (folder / "train").is_dir():
        pytest.skip("QANAS_DATA has no camvid/train")
    task = Segmentation(str(folder), height=36, width=48)
    return task, task.load()


def test_camvid(camvid: tuple[Segmentation, TaskData]) -> None:
    task, data = camvid
    assert [len(split) for split in (data.train, data.val, data.test)] == [367, 101, 233]
    assert data.output_size == 11
    for split in (data.train, data.val, data.test):
        assert np.isfinite(split.inputs).all()
        assert set(np.unique(split.targets)) == {*range(11), VOID}
    # A road is below a sky: rows and classes are where they should be.
    rows = np.arange(36)[:, None]
    height = {name: (rows * (data.test.targets == task.labels.names.index(name))).sum() for name in ("sky", "road")}
    area = {name: (data.test.targets == task.labels.names.index(name)).sum() for name in ("sky", "road")}
    assert height["sky"] / area["sky"] < 12
    assert height["road"] / area["road"] > 22


def test_perfect_answers_on_camvid(camvid: tuple[Segmentation, TaskData]) -> None:
    task, data = camvid
    logits = 20.0 * (data.val.targets[:, None] == np.arange(11)[:, None, None])
    metrics = task.evaluate(logits.astype(np.float32), data.val)
    assert metrics["miou"] == metrics["pixel_accuracy"] == 1.0
    assert metrics["cross_entropy"] < 1e-6
