"""Four jobs as a new user has them, from files to a model that is picked, by the commands alone."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
from PIL import Image
from typer.testing import CliRunner

import qanas
from qanas.cli import app

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Place:
    """A folder with a recipe, its data and its run."""

    folder: Path

    def recipe(self, **tables: dict[str, Any]) -> Path:
        path = self.folder / "recipe.toml"
        path.write_text(tomli_w.dumps(tables), "utf-8")
        return path

    def qanas(self, *arguments: str | Path, code: int = 0) -> str:
        """Run a command; return what it printed, on lines as wide as they are."""
        found = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "2000"})
        assert found.exit_code == code, found.output + repr(found.exception)
        return found.output

    @property
    def run(self) -> Path:
        return self.folder / "run"

    @property
    def page(self) -> str:
        return (self.run / "report.html").read_text("utf-8")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def words(folder: Path) -> None:
    """Write spectrograms in which the word is a rising or a falling tone."""
    generator = np.random.default_rng(0)
    for name, count in (("train", 192), ("val", 60), ("test", 60)):
        targets = generator.integers(0, 3, count)
        inputs = generator.normal(0, 0.3, (count, 10, 8))
        for sample, word in zip(inputs, targets, strict=True):
            for step in range(8) if word else ():
                sample[1 + step, step if word == 1 else 7 - step] += 2.0
        np.savez(folder / f"{name}.npz", inputs=inputs.astype(np.float32), targets=targets)


def test_keywords_with_a_goal_and_a_limit_on_ram(place: Place) -> None:
    words(place.folder)
    recipe = place.recipe(
        task={"name": "tests.jobs.own:Keywords", "data": str(place.folder)},
        space={"name": "lstm", "max_layers": 1, "max_units": 12, "seed_layers": 1, "seed_units": 12,
               "per_layer_training": False},
        strategy={"name": "random", "trials": 5},
        estimation={"epochs": 25},
        objectives={"accuracy_quantized": "maximize", "weight_bytes": "minimize"},
        limits={"arena_bytes": "8 KiB", "file_bytes": "16 kB"},
        goals={"accuracy_quantized": 0.8},
        finalists={"count": 2, "seeds": 2},
        reference={"tune": 0},
        baselines={"names": ["constant", "narrowed"]},
    )  # fmt: skip
    checked = place.qanas("check", recipe)
    assert checked.startswith("reading ")
    assert "reference arena_bytes" in checked
    told = place.qanas("run", recipe, "--out", place.run)
    first = next(line for line in told.splitlines() if line.startswith("Take "))
    assert ": the smallest that reaches accuracy >= 0.8 on validation data, as " in first
    assert re.search(r"front points reach accuracy >= 0\.8 in the search", told)
    chosen = first.split()[1]
    assert f"models/{chosen}: smallest by weight_bytes" in place.qanas("pick", place.run)
    cards = qanas.load(place.run).models
    assert all(card.costs()["arena_bytes"] <= 8192 for name, card in cards.items() if name != "seed")
    assert re.search(r" \((the reference.*|\d+ units, 8 bits)\): ", first)
    classes = cards[chosen].classes
    assert classes is not None
    assert classes.confusion["val"]
    for heading in ("Class by class", "Learning curves", "accuracy &gt;= 0.8", "silence"):
        assert heading in place.page
    with pytest.raises(qanas.InputError, match=r"reaches accuracy >= 1.5 on validation data; the closest is "):
        qanas.pick(place.run, goals={"accuracy": 1.5})
    again = place.qanas("run", recipe, "--out", place.run)
    assert first in again, "the same words after a resume"


def test_battery_regression(place: Place) -> None:
    generator = np.random.default_rng(0)

    def cell(steps: int) -> np.ndarray[Any, Any]:
        charge = np.clip(1 - np.cumsum(generator.uniform(0, 2 / steps, steps)), 0, 1)
        voltage = 3 + charge + generator.normal(0, 0.02, steps)
        return np.stack([voltage, generator.normal(0, 1, steps), generator.normal(0, 1, steps), charge], 1)

    train, val, test = (cell(steps).astype(np.float32) for steps in (600, 240, 240))
    np.savez(place.folder / "cells.npz", train=train, val=val, test=test)
    recipe = place.recipe(
        task={"name": "tests.jobs.own:Battery", "data": str(place.folder)},
        space={"name": "dense", "max_layers": 1, "max_units": 16, "seed_units": 16},
        strategy={"name": "random", "trials": 5},
        estimation={"epochs": 150},
        objectives={"mae_quantized": "minimize", "file_bytes": "minimize"},
        finalists={"count": 2, "seeds": 2},
        reference={"tune": 0},
        baselines={"names": ["constant"]},
    )
    told = place.qanas("run", recipe, "--out", place.run)
    assert any(line.startswith("Take ") for line in told.splitlines())
    assert "The best constant has MAE" in told
    for text in ("The error of the shipped model over the true value", "Learning curves", "MAE, train"):
        assert text in place.page
    answers = qanas.predict(place.run, np.zeros((2, 12, 3), np.float32))
    assert answers.shape == (2, 1)


def test_defects_that_are_hardly_there(place: Place) -> None:
    """One part in twenty is broken, and nothing tells: 95 % accuracy is no success."""
    generator = np.random.default_rng(0)
    arrays = {}
    for name, count in (("train", 200), ("val", 100), ("test", 100)):
        arrays[f"{name}_inputs"] = generator.normal(0, 0.05, (count, 4)).astype(np.float32)
        arrays[f"{name}_targets"] = (np.arange(count) % 20 == 0).astype(np.int64)
    np.savez(place.folder / "parts.npz", allow_pickle=False, **arrays)
    recipe = place.recipe(
        task={"name": "tests.jobs.own:Defects", "data": str(place.folder)},
        space={"name": "dense", "max_layers": 1, "max_units": 4, "seed_units": 4},
        strategy={"name": "random", "trials": 4},
        estimation={"epochs": 15},
        objectives={"accuracy_quantized": "maximize", "weight_bytes": "minimize"},
        finalists={"count": 2, "seeds": 1},
        reference={"tune": 0},
        baselines={"names": ["constant"]},
    )
    told = place.qanas("run", recipe, "--out", place.run, code=1)
    shipped = qanas.load(place.run).models
    assert all(card.degenerate is not None for card in shipped.values())
    assert f"{len(shipped)} models shipped, 0 failed, {len(shipped)} degenerate" in told
    assert "is no better than a constant answer (accuracy 0.95)" in told
    assert "No shipped model is a success, the one above included" in told
    assert "The smallest, " not in told
    assert "Degenerate, no success" in place.page
    picked = place.qanas("pick", place.run)
    assert re.search(r"warning: \w+ is degenerate on validation data: it .*no better than a constant answer", picked)


def test_defects_as_masks(place: Place) -> None:
    """A dark spot of a fiftieth of the picture; by weights and by a loss for rare classes it is found."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 6), ("test", 6)):
        for index in range(count):
            mask = np.zeros((48, 48), np.uint8)
            if index % 3:
                top, left = generator.integers(4, 36, 2)
                mask[top : top + 7, left : left + 7] = 1
            image = generator.integers(120, 200, (48, 48, 3)) - 110 * (mask == 1)[..., None]
            for folder, array in ((split, image.astype(np.uint8)), (f"{split}annot", mask)):
                (place.folder / "data" / folder).mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(place.folder / "data" / folder / f"{index}.png")
    recipe = place.recipe(
        task={
            "name": "segmentation", "data": str(place.folder / "data"), "dataset": "folders",
            "classes": ["sound", "defect"], "height": 48, "width": 48, "class_weights": "balanced",
            "training_loss": "cross_entropy_dice",
        },
        teacher={"network": "deeplabv3", "width": 0.1, "epochs": 3},
        blocks={"layers": [1, 1, 1, 1, 1, 1], "kernels": [3], "expansions": [2, 4]},
        distillation={"steps": 6, "batch_size": 2},
        table={"calibration_samples": 4},
        objectives={"iou_defect_quantized": "maximize", "weight_bytes": "minimize"},
        limits={"arena_bytes": "128 KiB"},
        finalists={"count": 1, "seeds": 1},
        baselines={"enabled": False},
    )  # fmt: skip
    told = place.qanas("run", recipe, "--out", place.run)
    assert re.search(r"arena_bytes <= 131072: \d+ of the front's \d+ networks, each costed exactly", told)
    card = json.loads((place.run / "models" / "seed" / "card.json").read_text("utf-8"))
    assert card["protocol"]["training_loss"] == "cross_entropy_dice"
    assert card["protocol"]["class_weights"][1] > 5 * card["protocol"]["class_weights"][0]
    assert card["classes"]["scores"]["val"]["defect"]["samples"] > 0
    assert "% right" not in place.page
    assert re.search(r"mIoU 0\.\d+", place.page)
    broken = [name for name, found in qanas.load(place.run).models.items() if found.degenerate is not None]
    assert (f"{len(broken)} degenerate" in told) == bool(broken)
    assert "GPU hours" not in place.page
