"""The contract of tasks, over every one that there is and over broken ones."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest
import torch
from examples.digits.digits import Digits
from tests.cli.sine import Sine
from tests.workflows.tiny_blocks import Blobs

from qanas.tasks.anomaly import Anomaly
from qanas.tasks.audio import Audio
from qanas.tasks.base import Task, TaskData
from qanas.tasks.detection import Detection
from qanas.tasks.detection.synthetic import write_scenes
from qanas.tasks.front_end import CForm, FrontEnd
from qanas.tasks.images import Images
from qanas.tasks.samples import FloatArray, Split
from qanas.tasks.segmentation import Segmentation
from qanas.tasks.segmentation.synthetic import write_synthetic
from qanas.tasks.timeseries import TimeSeries
from qanas.tasks.turbofan import Turbofan
from qanas.testing import check_task
from qanas.testing.small import SmallTask

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Generator, Tensor

TASKS = [
    SmallTask(),
    Digits(),
    Sine(),
    Blobs(),
    Anomaly("synthetic", sample_rate=8000, seconds=0.5, bands=12, context=3),
    Images("synthetic", size=16, class_weights="balanced"),
    Audio("synthetic", sample_rate=8000, seconds=0.5, bands=12, coefficients=8, group_pattern=r"(speaker\d+)"),
    TimeSeries("synthetic", window=20, time="time", group_pattern=r"(person\d)", class_weights="balanced"),
    TimeSeries(
        "synthetic",
        predict="number",
        target="wear",
        window=20,
        horizon=5,
        change=True,
        split="time",
        features="mean+slope+deviation+last",
        mean_window=7,
    ),
    TimeSeries("synthetic", predict="life", life_cap=60, time="time", window=10, features="mean+slope"),
    Turbofan("synthetic"),
    Turbofan("synthetic", subset="FD002", window=10, stride_in_window=2),
]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: type(task).__name__)
def test_it_keeps_the_contract(task: Task) -> None:
    check_task(task)


def test_segmentation_keeps_the_contract(tmp_path: Path) -> None:
    write_synthetic(tmp_path, 0)
    check_task(Segmentation(str(tmp_path), height=16, width=24, frame=(60, 64), frame_pixels="rgb565"))


def test_detection_keeps_the_contract(tmp_path: Path) -> None:
    write_scenes(tmp_path, 0, pictures=36)
    task = Detection(str(tmp_path), width=49, aspect=0.7, val_fraction=0.33, test_fraction=0.33, fit="letterbox")
    check_task(task, output_shape=(5, 4, 4))


# What is broken is said

calls = itertools.count()


class Unsteady(SmallTask):
    """Other data each time."""

    def load(self) -> TaskData:
        data = super().load()
        return replace(data, val=replace(data.val, inputs=data.val.inputs + np.float32(next(calls))))


class OtherShapes(SmallTask):
    def load(self) -> TaskData:
        data = super().load()
        return replace(data, test=replace(data.test, inputs=data.test.inputs[..., 1:]))


class Doubles(SmallTask):
    def load(self) -> TaskData:
        data = super().load()
        return replace(data, train=replace(data.train, inputs=data.train.inputs.astype(np.float64)))


class FewExtras(SmallTask):
    def load(self) -> TaskData:
        data = super().load()
        return replace(data, val=replace(data.val, extras={"number": np.arange(3)}))


class ProtocolOfArrays(SmallTask):
    def load(self) -> TaskData:
        return replace(super().load(), protocol={"val": np.arange(3)})


class Unfingered(SmallTask):
    def fingerprint(self) -> str:
        return f"{next(calls)}"


class Undirected(SmallTask):
    metrics: ClassVar[Any] = {"accuracy": "up"}


class StrangeTolerance(SmallTask):
    parity_tolerance: ClassVar[Any] = {"accuracy": 0.01, "mae": 0.1}


class Detached(SmallTask):
    def loss(self, kind: str, outputs: Tensor, targets: Tensor) -> Tensor:
        return super().loss(kind, outputs.detach(), targets)


class Summed(SmallTask):
    def loss(self, kind: str, outputs: Tensor, targets: Tensor) -> Tensor:
        return super().loss(kind, outputs, targets) * len(targets)


class WrongGradient(SmallTask):
    def loss_gradient(self, kind: str, outputs: FloatArray, targets: FloatArray) -> tuple[float, FloatArray]:
        value = super().loss(kind, torch.from_numpy(outputs), torch.from_numpy(targets).long()).item()
        return value, np.ones_like(outputs)


class Cropping(SmallTask):
    def augment(self, inputs: Tensor, targets: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        return inputs[..., 1:], targets


class InPlace(SmallTask):
    def augment(self, inputs: Tensor, targets: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        return inputs.add_(1.0), targets


class GloballyRandom(SmallTask):
    def augment(self, inputs: Tensor, targets: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        return inputs + torch.randn(()), targets


class Undeclared(SmallTask):
    def evaluate(self, outputs: FloatArray, split: Split) -> dict[str, float]:
        return {**super().evaluate(outputs, split), "f1": 0.0}


class NotANumber(SmallTask):
    def evaluate(self, outputs: FloatArray, split: Split) -> dict[str, float]:
        return {**super().evaluate(outputs, split), "error": float("nan")}


class CountedOnce(SmallTask):
    """Metrics over what an extra tells apart: once each, however often it is there."""

    def load(self) -> TaskData:
        data = super().load()
        own = {name: getattr(data, name) for name in ("train", "val", "test")}
        return replace(
            data, **{name: replace(split, extras={"number": np.arange(len(split))}) for name, split in own.items()}
        )

    def evaluate(self, outputs: FloatArray, split: Split) -> dict[str, float]:
        _, first = np.unique(split.extras["number"], return_index=True)
        return super().evaluate(outputs[first], Split(split.inputs[first], split.targets[first]))


class Backwards(SmallTask):
    metrics: ClassVar[Any] = {"accuracy": "minimize", "error": "maximize"}


@dataclass(frozen=True)
class OtherTargets(SmallTask):
    """Its validation targets follow the input."""

    def load(self) -> TaskData:
        data = super().load()
        return replace(data, val=replace(data.val, targets=data.val.targets * (self.side // 4) // 2))


class Doubling(FrontEnd):
    """Doubles in Python, and something else in C."""

    raw_type = "float"
    row_size = 64
    rows = 3
    described = "A channel's pixels."

    def __init__(self, body: str) -> None:
        self.body = body

    def input_of(self, raw: FloatArray) -> FloatArray:
        return (2 * raw).reshape(3, 8, 8)

    def c_form(self, name: str, axes: tuple[int, ...]) -> CForm:
        head = f"void {name}_preprocess(const float *raw, size_t rows, float *input)"
        return CForm(f"{head};", f"{head} {{ for (size_t at = 0; at < 64 * rows; ++at) {self.body} }}")


@dataclass(frozen=True)
class Fronted(SmallTask):
    body: str = "input[at] = 2.0f * raw[at];"
    factor: float = 0.5

    def front_end(self, preprocessing: Any) -> FrontEnd:  # noqa: ANN401
        return Doubling(self.body)

    def raw_inputs(self, val: Split, indices: Any) -> Any:  # noqa: ANN401
        return (val.inputs[indices] * np.float32(self.factor)).reshape(-1, 3, 64)


def test_a_front_end_keeps_the_contract() -> None:
    check_task(Fronted())


class Local(SmallTask):
    def __reduce__(self) -> Any:  # noqa: ANN401
        raise TypeError("it holds an open file")


@pytest.mark.parametrize(
    ("task", "told"),
    [
        (Unsteady(), "Loading again, from a pickled copy as in workers, gives the same data: val.inputs has"),
        (OtherShapes(), "test: (3, 8, 7), train: (3, 8, 8)"),
        (Doubles(), "train: inputs are float64"),
        (FewExtras(), "val.number has 3 rows for 24 samples"),
        (ProtocolOfArrays(), "TypeError: Object of type ndarray is not JSON serializable"),
        (Unfingered(), "The fingerprint is a text, the same each time, in pickled copies too: it is"),
        (Undirected(), "accuracy is to 'up'; minimize or maximize it"),
        (StrangeTolerance(), "parity_tolerance names mae, which is none of accuracy, error"),
        (Detached(), "cross_entropy has no gradient"),
        (Summed(), "A batch that is seen twice in one batch has the same loss: cross_entropy is"),
        (WrongGradient(), "cross_entropy: gradients differ by"),
        (Cropping(), "inputs: torch.float32 (6, 3, 8, 8) become torch.float32 (6, 3, 8, 7)"),
        (InPlace(), "the batch that it was given changed"),
        (GloballyRandom(), "Augmentation takes all its random numbers from its generator: the batch[0] has"),
        (Undeclared(), "val: ['accuracy', 'error', 'f1'] for ['accuracy', 'error']"),
        (NotANumber(), "val: error is nan"),
        (CountedOnce(), "metrics are the same: write evaluate_draws"),
        (Backwards(), "accuracy: 1 for targets,"),
        (OtherTargets(), "{'side': 4}: val.targets has"),
        (Fronted(factor=0.4), "val 0: off by"),
        (Fronted(body="input[at] = raw[at];"), "Doubling: C is"),
        (Fronted(body="input[at] = 2.0 * raw[at];"), "Doubling.c_form: "),
        (Local(), "TypeError: it holds an open file"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Task) else "",
)
def test_a_broken_one_is_caught(task: Task, told: str) -> None:
    with pytest.raises(AssertionError) as caught:
        check_task(task)
    assert str(caught.value).startswith(f"{type(task).__name__}: broken: ")
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
