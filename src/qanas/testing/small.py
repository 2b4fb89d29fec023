"""A task and a family of networks on which contracts are checked in seconds; recipes can name them, too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from safetensors.torch import save_file
from torch import Generator, Tensor, nn

from qanas.core.candidate import Candidate, Value
from qanas.core.events import go_on
from qanas.core.measures import Direction
from qanas.layers.images import ConvNormReLU6
from qanas.layers.mbconv import MBConv, MBConvChoice
from qanas.performance_estimation.base import StageFile, StageUnit
from qanas.performance_estimation.bench import Bench, PreparedData
from qanas.performance_estimation.procedure import Procedure
from qanas.search_space.blockwise_space import Block, BlockwiseSpace, LayerOption
from qanas.search_space.network_space import TaskShape
from qanas.search_space.quantization_group import BitsPer, BlockBits
from qanas.search_space.settings import Choice, Setting
from qanas.search_space.training_group import TrainingSettings, training_settings
from qanas.tasks.base import Task, TaskData
from qanas.tasks.samples import FloatArray, Split

CLASSES = 3
SIDES = (8, 4)
CHANNELS = (4, 6, 6)


@dataclass(frozen=True)
class SmallTask(Task):
    """Tell which channel of a noisy image is the brightest.

    Attributes:
        samples: of training.
        side: pixels of the images' sides.
    """

    samples: int = 48
    side: int = SIDES[0]

    metrics: ClassVar[Mapping[str, Direction]] = {"accuracy": "maximize", "error": "minimize"}
    losses: ClassVar[tuple[str, ...]] = ("cross_entropy",)

    def fingerprint(self) -> str:
        """Return what the images are drawn by."""
        return f"small {self.samples}"

    def load(self) -> TaskData:
        """Draw images, shape (n, 3, side, side), and their classes, shape (n,)."""
        generator = np.random.default_rng(0)
        train, val, test = (self._split(generator, count) for count in (self.samples, 24, 16))
        return TaskData(train, val, test, CLASSES, protocol={"val": "24 images"})

    def _split(self, generator: np.random.Generator, count: int) -> Split:
        targets = generator.integers(0, CLASSES, count)
        images = generator.normal(0, 0.5, (count, CLASSES, SIDES[0], SIDES[0]))
        images[np.arange(count), targets] += 0.5
        step = SIDES[0] // self.side
        return Split(images[:, :, ::step, ::step].astype(np.float32), targets, {"number": np.arange(count)})

    def input_settings(self) -> list[Setting]:
        """Return the side."""
        return [Choice("side", "input", self.side, options=SIDES, finer="larger")]

    def loss(self, kind: str, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the cross-entropy of outputs, shape (batch, 3), and classes, shape (batch,)."""
        del kind
        return F.cross_entropy(outputs, targets)

    def augment(self, inputs: Tensor, targets: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Mirror half of the batches, shape (batch, 3, side, side)."""
        mirrored = bool(torch.rand((), generator=generator) < 0.5)  # noqa: PLR2004 - half of them
        return (inputs.flip(-1) if mirrored else inputs), targets

    def evaluate(self, outputs: FloatArray, split: Split) -> dict[str, float]:
        """Return the share of right and of wrong classes, for outputs of shape (n, 3)."""
        accuracy = float((outputs.argmax(1) == split.targets).mean())
        return {"accuracy": accuracy, "error": 1.0 - accuracy}


class SmallNetwork(nn.Module):
    """A convolution, two blocks of MBConv layers, and what maps them to classes.

    Args:
        blocks: the layers of each.
        head: maps shape (batch, 6, side, side) to the output.
    """

    def __init__(self, blocks: Sequence[Sequence[MBConvChoice]], head: nn.Module) -> None:
        """Draw initial weights."""
        super().__init__()
        self.stem = ConvNormReLU6(3, CHANNELS[0], 3)
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(*(_layer(number, place, choice) for place, choice in enumerate(choices)))
                for number, choices in enumerate(blocks)
            )
        )
        self.head = head

    def forward(self, inputs: Tensor) -> Tensor:
        """Map images, shape (batch, 3, side, side), to shape (batch, 3, ...)."""
        outputs: Tensor = self.head(self.blocks(self.stem(inputs)))
        return outputs


def _layer(block: int, place: int, choice: MBConvChoice) -> nn.Module:
    return MBConv(CHANNELS[block + (place > 0)], CHANNELS[block + 1], choice)


class SmallSpace(BlockwiseSpace):
    """Each layer of two blocks is one of a few; the reference has the last one everywhere.

    Args:
        weight_bits: that are searched.
        bits_per: whether a block or a layer has bits of its own.

    Attributes:
        layers: of each block.
        options: of each layer.
        batch_size: that the reference is trained with.
    """

    layers: ClassVar[tuple[int, ...]] = (2, 1)
    options: ClassVar[tuple[MBConvChoice, ...]] = (MBConvChoice(3, 1), MBConvChoice(3, 2))
    batch_size: ClassVar[int] = 16

    def __init__(self, weight_bits: tuple[int, ...] = (8,), bits_per: BitsPer = "block") -> None:
        """Take the bits."""
        self.weight_bits = tuple(weight_bits)
        self.bits_per: BitsPer = bits_per
        layers_of = {f"weight_bits_{block}": layers for block, layers in enumerate(self.layers)}
        self.bits = BlockBits(layers_of, self.weight_bits, bits_per)

    def head(self) -> nn.Module:
        """Return what maps the last block's output, shape (batch, 6, side, side), to classes, shape (batch, 3)."""
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS[-1], CLASSES))

    def settings(self, shape: TaskShape) -> list[Setting]:
        """Return a choice a layer, training, and the bits of each block."""
        reference = TrainingSettings(5e-3, "adam", "cosine", self.batch_size, shape.losses[0])
        numbers = tuple(range(len(self.options)))
        return [
            *(
                Choice(f"option_{block}_{layer}", "architecture", numbers[-1], options=numbers)
                for block, layers in enumerate(self.layers)
                for layer in range(layers)
            ),
            *training_settings(shape.losses, reference),
            *self.bits.settings(),
        ]

    def build(self, candidate: Candidate, shape: TaskShape) -> nn.Module:
        """Return the network of the chosen layers."""
        del shape
        chosen = candidate.architecture
        blocks = [
            [self.options[int(chosen[f"option_{block}_{layer}"])] for layer in range(layers)]
            for block, layers in enumerate(self.layers)
        ]
        return SmallNetwork(blocks, self.head())

    def module_weight_bits(self, candidate: Candidate) -> dict[str, int]:
        """Return each block's bits, or each layer's."""
        modules = [f"blocks.{block}" for block, _ in enumerate(self.layers)]
        return self.bits.of_modules(modules, candidate.quantization)

    def blocks(self, shape: TaskShape) -> list[Block]:
        """Return both."""
        del shape
        return [
            Block(f"block_{block}", f"blocks.{block}", self._places(block, layers), {}, name, self.bits_per)
            for block, (name, layers) in enumerate(self.bits.layers.items())
        ]

    def _places(self, block: int, layers: int) -> tuple[tuple[LayerOption, ...], ...]:
        def option(layer: int, number: int) -> LayerOption:
            settings: dict[str, Value] = {f"option_{block}_{layer}": number}
            return LayerOption(f"o{number}", settings, partial(_layer, block, layer, self.options[number]))

        return tuple(tuple(option(layer, number) for number in range(len(self.options))) for layer in range(layers))


def small_bench(**changes: Any) -> Bench:  # noqa: ANN401 - fields of the bench
    """Return the small networks on the small task; fields of the bench by name are others."""
    fields: dict[str, Any] = {"data": PreparedData(SmallTask()), "networks": SmallSpace()}
    return Bench(**{**fields, **changes})


@dataclass
class KeptFile:
    """A file of a stage, with its note in memory."""

    path: Path
    note: dict[str, Any] | None = None

    @property
    def finished(self) -> bool:
        """Whether it is there as a whole."""
        return self.note is not None and self.path.is_file()

    def finish(self, note: Mapping[str, Any]) -> None:
        """Keep the note."""
        self.note = dict(note)

    def read_note(self) -> dict[str, Any]:
        """Return the note."""
        return dict(self.note or {})


@dataclass
class PlainStages:
    """Stages of preparation in a folder, one unit after the other in this process.

    Attributes:
        bench: what candidates are measured on.
        procedure: trains the reference.
        home: of all files.
        ran: labels of the units that were run.
    """

    bench: Bench
    procedure: Procedure
    home: Path
    ran: list[str] = field(default_factory=list)
    _files: dict[Path, KeptFile] = field(default_factory=dict)

    def reference(self) -> Path:
        """Train the reference once."""
        path = self.home / "reference.safetensors"
        if not path.is_file():
            bench = self.bench
            made = self.procedure.make(bench, bench.reference, bench.reference_start, bench.seed, go_on)
            save_file({name: tensor.contiguous() for name, tensor in made.network.state_dict().items()}, path)
        return path

    def folder(self, name: str, *stages: str) -> Path:
        """Return a folder."""
        del stages
        return self.home / name

    def file(self, folder: str, name: str, suffix: str, stage: str, *more: object) -> KeptFile:
        """Return a file; the same one for the same names."""
        path = self.home / folder / f"{name}-{stage}-{len(repr(more))}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        return self._files.setdefault(path, KeptFile(path))

    def keep_only(self, files: Sequence[StageFile]) -> None:
        """Keep all."""
        del files

    def work_off(self, stage: str, units: Sequence[StageUnit]) -> None:
        """Run what isn't finished."""
        for unit in units:
            if not unit.file.finished:
                unit.run(self.bench, go_on)
                self.ran.append(f"{stage} {unit.label}")

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Measure nothing."""
        del stage
        yield

    def message(self, text: str) -> None:
        """Say nothing."""
        del text
