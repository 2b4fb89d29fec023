"""What baselines of segmentation are given: every pixel's colours, surroundings and place."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import tomli_w
import torch

from qanas.core.run_folder import RunFolder
from qanas.networks.dense import PixelNetwork, PixelSpace
from qanas.recipe import load_plan
from qanas.shipping.baselines import baselines_of
from qanas.shipping.finalists import FinalistUnit
from qanas.tasks.segmentation import Segmentation
from qanas.tasks.segmentation.images import pixel_features


def test_features_of_a_pixel_by_hand() -> None:
    generator = np.random.default_rng(0)
    images = generator.normal(size=(2, 3, 32, 48)).astype(np.float32)
    features = pixel_features(images)
    assert np.array_equal(features[:, :3], images)
    # Shorter side 32: squares of 2 * 2 + 1 pixels, in a corner what of them lies within the image.
    np.testing.assert_allclose(features[1, 3:6, 10, 20], images[1, :, 8:13, 18:23].mean(axis=(1, 2)), rtol=1e-4)
    np.testing.assert_allclose(features[0, 3:6, 0, 47], images[0, :, :3, 45:].mean(axis=(1, 2)), rtol=1e-4)
    rows, columns = features[0, 6, :, 5], features[0, 7, 5]
    for places in (rows, columns):
        assert abs(places.mean()) < 1e-6
        np.testing.assert_allclose(places.std(), 1.0, rtol=1e-5)
    assert np.array_equal(features[0, 6:, 3, 4], features[1, 6:, 3, 4])


def test_a_pixel_is_judged_by_its_own_features_alone() -> None:
    torch.manual_seed(0)
    network = PixelNetwork(8, [5], 3)
    inputs = torch.randn(1, 8, 4, 6)
    outputs = network(inputs)
    with torch.no_grad():
        alone = network(inputs[:, :, 2:3, 4:5])
    torch.testing.assert_close(outputs[:, :, 2:3, 4:5], alone)


def test_the_baseline_of_pixels_ships(scenes: Path) -> None:
    settings = {"name": "segmentation", "data": str(scenes), "dataset": "folders", "classes": ["a", "b", "c"]}
    table = {**settings, "void_id": 3, "height": 16, "width": 24}
    recipe = scenes / "r.toml"
    recipe.write_text(
        tomli_w.dumps(
            {
                "task": table,
                "space": {"name": "deeplabv3"},
                "strategy": {"name": "random", "trials": 1},
                "objectives": {"miou_quantized": "maximize", "weight_bytes": "minimize"},
            }
        ),
        "utf-8",
    )
    plan = load_plan(recipe)
    halves, *rest, baseline, _ = baselines_of(plan, ["narrowed", "dense"])
    assert [found.finalist.identity for found in (halves, *rest)] == [f"baseline-narrowed-{n}" for n in (2, 4, 8)]
    # A space's width is no setting of its candidates: what is narrowed has a bench, and trainings, of its own.
    assert halves.finalist.candidate == plan.bench.reference
    costs = [bench.costs_of(plan.bench.reference)["weight_bytes"] for bench in (plan.bench, halves.bench)]
    assert 3 < costs[0] / costs[1] < 4
    assert halves.finalist.variant.startswith("narrowed-2")
    assert baseline.finalist.identity == "baseline-dense-4"
    assert isinstance(baseline.bench.networks, PixelSpace)
    quick = replace(baseline.finalist, procedure=baseline.finalist.procedure.with_settings(epochs=1))
    training = FinalistUnit.of(RunFolder(scenes / "run"), quick, 0).run(baseline.bench, lambda *_: True)
    assert not training.failure
    assert training.parity.max == 0
    # 8 x 4 and 4 x 3 weights in int8, their biases in int32.
    assert baseline.bench.costs_of(quick.candidate)["weight_bytes"] == 44 + 4 * 7


def test_pictures_and_notes_of_the_features(scenes: Path) -> None:
    task = Segmentation(str(scenes), "folders", 24, 32, ("a", "b", "c"), 3, brightness=0.5).with_features()
    data = task.load()
    assert data.train.input_shape == (8, 24, 32)
    assert len(data.preprocessing["input_channels"]) == 8
    plain = Segmentation(str(scenes), "folders", 24, 32, ("a", "b", "c"), 3).load()
    outputs = np.zeros((len(data.test), 3, 24, 32), np.float32)
    shown = task.predictions(outputs, data.test, data.preprocessing)["pictures"]
    assert shown.shape[-1] == 3
    assert np.array_equal(data.test.inputs[:, :3], plain.test.inputs)
    # Random geometry would change nothing, and random colours what the baseline looks at.
    inputs = torch.from_numpy(data.train.inputs)
    targets = torch.from_numpy(data.train.targets)
    seen, _ = task.augment(inputs, targets, torch.Generator().manual_seed(0))
    assert torch.equal(seen, inputs)
