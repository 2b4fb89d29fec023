"""A task and a family of networks of two blocks, as a user has them beside the recipe; a whole run takes seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import product
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from qanas.core.candidate import Candidate, Value
from qanas.layers.images import ConvNorm, ConvNormReLU6
from qanas.networks.mobilenet_v2 import MBConv, MBConvChoice
from qanas.search_space.blockwise_space import Block, BlockwiseSpace, LayerOption
from qanas.search_space.network_space import TaskShape
from qanas.search_space.settings import Choice, Setting
from qanas.search_space.training_group import TrainingSettings, training_settings
from qanas.tasks.base import FloatArray, Split, Task, TaskData

SIZE, CLASSES = 8, 3
CHANNELS = (4, 6, 6)
LAYERS = (2, 2)
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


class TinyNetwork(nn.Module):
    """A convolution, two blocks of MBConv layers, a 1 x 1 convolution."""

    def __init__(self, blocks: Sequence[Sequence[MBConvChoice]]) -> None:
        super().__init__()
        self.stem = ConvNormReLU6(3, CHANNELS[0], 3)
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(*(_layer(number, position, choice) for position, choice in enumerate(choices)))
                for number, choices in enumerate(blocks)
            )
        )
        self.head = ConvNorm(CHANNELS[-1], CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.head(self.blocks(self.stem(inputs)))
        return outputs


def _layer(block: int, position: int, choice: MBConvChoice) -> nn.Module:
    return MBConv(CHANNELS[block + (position > 0)], CHANNELS[block + 1], choice)


class TinySpace(BlockwiseSpace):
    """The reference has the last option everywhere."""

    def __init__(self, weight_bits: Sequence[int] = (8,)) -> None:
        self.weight_bits = tuple(weight_bits)

    def settings(self, shape: TaskShape) -> list[Setting]:
        seed = TrainingSettings(5e-3, "adam", "cosine", 8, shape.losses[0])
        options = tuple(range(len(OPTIONS)))
        architecture: list[Setting] = [
            Choice(f"option_{block}_{layer}", "architecture", options[-1], options=options)
            for block, layers in enumerate(LAYERS)
            for layer in range(layers)
        ]
        bits: list[Setting] = [
            Choice(f"weight_bits_{block}", "quantization", 8, options=self.weight_bits) for block in range(len(LAYERS))
        ]
        return [*architecture, *training_settings(shape.losses, seed), *bits]

    def build(self, candidate: Candidate, shape: TaskShape) -> nn.Module:
        del shape
        chosen = candidate.architecture
        return TinyNetwork(
            [
                [OPTIONS[int(chosen[f"option_{block}_{layer}"])] for layer in range(layers)]
                for block, layers in enumerate(LAYERS)
            ]
        )

    def module_weight_bits(self, candidate: Candidate) -> dict[str, int]:
        return {f"blocks.{block}": int(candidate.quantization[f"weight_bits_{block}"]) for block in range(len(LAYERS))}

    def blocks(self, shape: TaskShape) -> list[Block]:
        del shape
        return [
            Block(f"block_{block}", f"blocks.{block}", _places(block, layers), {}, f"weight_bits_{block}")
            for block, layers in enumerate(LAYERS)
        ]


def _places(block: int, layers: int) -> tuple[tuple[LayerOption, ...], ...]:
    def option(layer: int, number: int) -> LayerOption:
        settings: dict[str, Value] = {f"option_{block}_{layer}": number}
        return LayerOption(f"o{number}", settings, partial(_layer, block, layer, OPTIONS[number]))

    return tuple(tuple(option(layer, number) for number in range(len(OPTIONS))) for layer in range(layers))


def seeded_network(seed: int = 0) -> TinyNetwork:
    """Return the reference with weights drawn at random and batch norms that saw some data."""
    torch.manual_seed(seed)
    network = TinyNetwork([[OPTIONS[-1]] * layers for layers in LAYERS])
    with torch.no_grad():
        for _ in range(40):  # until the running statistics have forgotten their first values
            network(torch.randn(32, 3, SIZE, SIZE))
    return network.eval()
