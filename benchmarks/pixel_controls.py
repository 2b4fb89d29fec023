"""What can be told from a pixel's brightness, colour and place: trivial controls of a segmentation run.

    python benchmarks/pixel_controls.py runs/nuclei_s0

`constant` is the largest class everywhere, `otsu` (two classes) each picture's own threshold, of whose sides the
smaller is the second class; `logistic` and `boosted_trees` are given 17 features of a pixel and learn from training
pixels drawn at random. Scored as the networks are, with intervals over pictures; `pixels.json` is left in the run's
folder.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from qanas.core.card import SplitName
from qanas.core.run_folder import RunFolder, write_atomically
from qanas.recipe import load_plan
from qanas.tasks.base import Task
from qanas.tasks.resampling import interval_of, resampled_metrics, units_of
from qanas.tasks.samples import Split
from qanas.tasks.segmentation.files import VOID

Floats = NDArray[np.float32]
Predictor = Callable[[Floats], Floats]
"""From an image, shape (3, height, width), to logits, shape (classes, height, width)."""

MEANS, SPREADS = (3, 7, 15, 31), (3, 7, 15)
"""Sides of the squares around a pixel whose mean and deviation of brightness are features."""

TRAINING_PIXELS = 200_000
TREES = 200
BINS = 256


def features_of(image: Floats) -> Floats:
    """Return 17 features of each pixel, shape (height * width, 17).

    Colours, saturation, brightness less the picture's median, that median, the picture's deviation, means and
    deviations around it, and its place.

    Args:
        image: standardised, shape (3, height, width).
    """
    grey = image.mean(axis=0)
    median = np.median(grey)
    rows, columns = (np.linspace(-1, 1, side) for side in grey.shape)
    place = np.meshgrid(rows, columns, indexing="ij")
    spreads = (uniform_filter(grey**2, side) - uniform_filter(grey, side) ** 2 for side in SPREADS)
    found = [
        *image,
        image.max(axis=0) - image.min(axis=0),
        grey - median,
        np.full_like(grey, median),
        np.full_like(grey, grey.std()),
        *(uniform_filter(grey, side) for side in MEANS),
        *(np.sqrt(np.maximum(spread, 0)) for spread in spreads),
        *place,
        np.hypot(*place),
    ]
    return np.stack(found, axis=-1).reshape(-1, len(found)).astype(np.float32)


def training_pixels(split: Split) -> tuple[Floats, NDArray[np.uint8]]:
    """Return features, shape (pixels, 17), and classes, shape (pixels,), of as many training pixels of each picture."""
    generator = np.random.default_rng(0)
    each = -(-TRAINING_PIXELS // len(split))
    features, classes = [], []
    for index in range(len(split)):
        images, masks = split.batch(np.array([index]))
        counted = np.flatnonzero(masks[0].reshape(-1) != VOID)
        chosen = generator.choice(counted, min(each, len(counted)), replace=False)
        features.append(features_of(images[0])[chosen])
        classes.append(masks[0].reshape(-1)[chosen])
    return np.concatenate(features), np.concatenate(classes)


def otsu(image: Floats) -> Floats:
    """Return logits, shape (2, height, width), by the threshold between whose sides brightness varies most."""
    grey = image.mean(axis=0)
    counts, edges = np.histogram(grey, BINS)
    centres = (edges[1:] + edges[:-1]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    sums = np.cumsum(counts * centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    bright = grey > edges[1 + int(np.nanargmax(variance))]
    second = bright if bright.mean() <= 1 / 2 else ~bright
    return np.stack([~second, second]).astype(np.float32)


def predictors(train: Split, classes: int) -> Iterator[tuple[str, Predictor]]:
    """Yield the controls, each by its name."""
    features, labels = training_pixels(train)
    shares = np.log((np.bincount(labels, minlength=classes) + 1) / len(labels)).astype(np.float32)
    yield "constant", lambda image: np.broadcast_to(shares[:, None, None], (classes, *image.shape[1:]))
    if classes == 2:  # noqa: PLR2004 - a threshold has two sides
        yield "otsu", otsu
    models = {
        "logistic": make_pipeline(StandardScaler(), LogisticRegression(max_iter=300)),
        "boosted_trees": HistGradientBoostingClassifier(max_iter=TREES, early_stopping=False, random_state=0),
    }
    for name, model in models.items():
        model.fit(features, labels)

        def logits(image: Floats, model: object = model) -> Floats:
            found = np.full((classes, image[0].size), -np.inf, np.float32)
            shares = model.predict_proba(features_of(image))  # type: ignore[attr-defined]
            found[model.classes_] = np.log(np.maximum(shares, 1e-9)).T  # type: ignore[attr-defined]
            return found.reshape(classes, *image.shape[1:])

        yield name, logits


def scored(task: Task, split: Split, predictor: Predictor) -> dict[str, dict[str, object]]:
    """Return every metric on a split, with its interval over pictures."""
    outputs = np.stack([predictor(image) for image in split.inputs])
    drawn = resampled_metrics(task, outputs, split)
    units = int(units_of(task, split).max()) + 1
    intervals = {name: interval_of(values, units) for name, values in drawn.items()}
    return {
        name: {"value": round(value, 5), "interval": [round(intervals[name].low, 5), round(intervals[name].high, 5)]}
        for name, value in task.evaluate(outputs, split).items()
    }


def main() -> None:
    """Score and write each control."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    folder = RunFolder(parser.parse_args().run)
    bench = load_plan(folder.recipe).bench
    task, data = bench.task, bench.data_of(bench.reference)
    splits: dict[SplitName, Split] = {"val": data.val, "test": data.test}
    found = {}
    for name, predictor in predictors(data.train, data.output_size):
        found[name] = {split: scored(task, samples, predictor) for split, samples in splits.items()}
        write_atomically(folder.path / "pixels.json", f"{json.dumps(found, indent=1)}\n".encode())
        print(name, {split: metrics["miou"] for split, metrics in found[name].items()}, flush=True)


if __name__ == "__main__":
    main()
