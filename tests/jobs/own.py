"""Tasks as users write them: data of their own in files, few lines, nothing that could be left out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from pydantic import Field
from torch import Tensor

from qanas.tasks.base import FloatArray, Split, Task, TaskData

Share = Annotated[float, Field(gt=0, lt=1)]


@dataclass(frozen=True)
class Keywords(Task):
    """Spoken words, a file of spectrograms (n, steps, bands) a split; silence, yes, no."""

    data: Path

    metrics = {"accuracy": "maximize"}  # noqa: RUF012 - as short as users write
    losses = ("cross_entropy",)
    words = ("silence", "yes", "no")

    def load(self) -> TaskData:
        train, val, test = (self._split(name) for name in ("train", "val", "test"))
        return TaskData(train, val, test, len(self.words), preprocessing={"classes": list(self.words)})

    def _split(self, name: str) -> Split:
        with np.load(self.data / f"{name}.npz") as file:
            return Split(file["inputs"], file["targets"])

    def loss(self, kind: str, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs, targets)

    def evaluate(self, outputs: FloatArray, split: Split) -> dict[str, float]:
        return {"accuracy": float((outputs.argmax(1) == split.targets).mean())}


@dataclass(frozen=True)
class Battery(Task):
    """The state of charge of a cell, from the last steps of voltage, current and temperature."""

    data: Path
    window: int = 12

    metrics = {"mae": "minimize"}  # noqa: RUF012
    losses = ("mse",)

    def load(self) -> TaskData:
        cells: dict[str, Any] = dict(np.load(self.data / "cells.npz"))
        train, val, test = (self._split(cells[name]) for name in ("train", "val", "test"))
        return TaskData(train, val, test, 1)

    def _split(self, series: FloatArray) -> Split:
        """Cut windows of a cell's series, shape (steps, 4): three measurements, and the state of charge."""
        ends = range(self.window, len(series), 3)
        inputs = np.stack([series[end - self.window : end, :3] for end in ends])
        return Split(inputs, np.array([[series[end - 1, 3]] for end in ends], np.float32))

    def loss(self, kind: str, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.mse_loss(outputs, targets)

    def evaluate(self, outputs: FloatArray, split: Split) -> dict[str, float]:
        return {"mae": float(np.abs(outputs - split.targets).mean())}


@dataclass(frozen=True)
class Defects(Task):
    """Parts by a few measurements, sound or broken; hardly any are broken."""

    data: Path

    metrics = {"accuracy": "maximize", "found": "maximize"}  # noqa: RUF012
    losses = ("cross_entropy",)

    def load(self) -> TaskData:
        parts = dict(np.load(self.data / "parts.npz"))
        train, val, test = (
            Split(parts[f"{name}_inputs"], parts[f"{name}_targets"]) for name in ("train", "val", "test")
        )
        return TaskData(train, val, test, 2, preprocessing={"classes": ["sound", "broken"]})

    def loss(self, kind: str, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs, targets)

    def evaluate(self, outputs: FloatArray, split: Split) -> dict[str, float]:
        answers, broken = outputs.argmax(1), split.targets == 1
        return {"accuracy": float((answers == split.targets).mean()), "found": float((answers[broken] == 1).mean())}
