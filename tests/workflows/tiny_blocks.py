"""A task and a family of networks of two blocks, as a user has them beside the recipe; a whole run takes seconds."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from qanas.layers.images import ConvNorm
from qanas.layers.mbconv import MBConvChoice
from qanas.tasks.base import Task, TaskData
from qanas.tasks.samples import FloatArray, Split
from qanas.testing.small import CHANNELS, CLASSES, SmallNetwork, SmallSpace

SIZE = 8
OPTIONS = tuple(MBConvChoice(kernel, expansion) for kernel, expansion in product((3, 5), (1, 2)))


class Blobs(Task):
    """Tell which channel of a noisy image is the brightest at every pixel."""

    metrics: ClassVar[Mapping[str, Any]] = {"pixel_accuracy": "maximize", "pixel_error": "minimize"}
    losses: ClassVar[tuple[str, ...]] = ("cross_entropy",)

    def fingerprint(self) -> str:
        return "blobs"

    def load(self) -> TaskData:
        generator = np.random.default_rng(0)
        train, val, test = (self._split(generator, count) for count in (48, 24, 16))
        return TaskData(train, val, test, output_size=CLASSES, protocol={"val": "24 images", "test": "16 images"})

    def _split(self, generator: np.random.Generator, count: int) -> Split:
        coarse = generator.normal(size=(count, CLASSES, SIZE // 4, SIZE // 4)).astype(np.float32)
        smooth = coarse.repeat(4, 2).repeat(4, 3)
        noise = generator.normal(0, 0.5, smooth.shape).astype(np.float32)
        return Split(smooth + noise, smooth.argmax(1).astype(np.int64))

    def loss(self, kind: str, outputs: Tensor, targets: Tensor) -> Tensor:
        assert kind == "cross_entropy"
        return nn.functional.cross_entropy(outputs, targets)

    def evaluate(self, outputs: FloatArray, split: Split) -> dict[str, float]:
        accuracy = float((outputs.argmax(1) == split.targets).mean())
        return {"pixel_accuracy": accuracy, "pixel_error": 1.0 - accuracy}


class TinySpace(SmallSpace):
    """Two layers a block, one of four each; classes of every pixel."""

    layers: ClassVar[tuple[int, ...]] = (2, 2)
    options: ClassVar[tuple[MBConvChoice, ...]] = OPTIONS
    batch_size: ClassVar[int] = 8

    def head(self) -> nn.Module:
        return ConvNorm(CHANNELS[-1], CLASSES)


def seeded_network(seed: int = 0) -> SmallNetwork:
    """Return the reference with weights drawn at random and batch norms that saw some data."""
    torch.manual_seed(seed)
    space = TinySpace()
    network = SmallNetwork([[OPTIONS[-1]] * layers for layers in space.layers], space.head())
    with torch.no_grad():
        for _ in range(40):  # until the running statistics have forgotten their first values
            network(torch.randn(32, 3, SIZE, SIZE))
    return network.eval()
