"""Networks of stages of layers between a stem and a head, and the space around a published one of them.

Every layer of a stage has a kernel, inner channels and the like, which are searched; all but a stage's first one can be
left out. A stage is a block, so that such networks are searched whole or block by block.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import product
from typing import Annotated, ClassVar, Literal, Self

import torch
from pydantic import Field
from torch import Tensor, nn

from qanas.core.bits import told_bits
from qanas.core.candidate import Candidate, Value
from qanas.layers.mbconv import MBConvChoice
from qanas.layers.sequences import ScaledLinear
from qanas.search_space.blockwise_space import Block, BlockwiseSpace, LayerOption
from qanas.search_space.network_space import SEQUENCE_AXES, TaskShape, image_shape, narrowed_width
from qanas.search_space.quantization_group import BitsPer, BlockBits
from qanas.search_space.settings import Choice, OneOf, Setting
from qanas.search_space.training_group import TrainingSettings, training_settings

LEFT_OUT = 0
"""The expansion of a layer that a network hasn't."""

Width = Annotated[float, Field(ge=0.01, le=8)]
Kernel = Literal[3, 5, 7]
Expansion = Annotated[float, Field(gt=0, le=12)]
WeightBits = Literal[4, 6, 8]


@dataclass(frozen=True)
class Stage:
    """Layers in a row, as published.

    Attributes:
        channels: of every layer's output.
        layers: what each is.
        stride: of the first one.
    """

    channels: int
    layers: tuple[MBConvChoice, ...]
    stride: int = 1


@dataclass(frozen=True)
class Place:
    """Where a layer stands.

    Attributes:
        in_channels: of its input.
        out_channels: of its output.
        stride: positions between two outputs.
    """

    in_channels: int
    out_channels: int
    stride: int


class StagedNetwork(nn.Module):
    """A stem, stages, and a head.

    Args:
        stem: (batch, *input_shape) to (batch, channels, h, w).
        stages: the layers of each.
        head: from the last stage's output to (batch, output_size).
    """

    def __init__(self, stem: nn.Module, stages: Sequence[Sequence[nn.Module]], head: nn.Module) -> None:
        """Take the parts."""
        super().__init__()
        self.stem = stem
        self.stages = nn.Sequential(*(nn.Sequential(*layers) for layers in stages))
        self.head = head

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (batch, *input_shape) to (batch, output_size)."""
        outputs: Tensor = self.head(self.stages(self.stem(inputs)))
        return outputs


class AsImage(nn.Module):
    """Sees a table as an image of one channel: (batch, rows, columns) to (batch, 1, rows, columns)."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Add the axis of channels to shape (batch, rows, columns)."""
        return torch.unsqueeze(inputs, 1)


def image_stem(name: str, shape: TaskShape, layer: Callable[[int], nn.Module]) -> nn.Module:
    """Return a layer on a task's images, from (batch, *input_shape) to (batch, channels, h, w).

    Args:
        name: of the family, for the message.
        shape: of the task.
        layer: makes it, given the channels of its input.
    """
    channels, *_ = image_shape(name, shape)
    views: list[nn.Module] = [AsImage()] if len(shape.input_shape) == SEQUENCE_AXES else []
    return nn.Sequential(*views, layer(channels))


def mean_head(shape: TaskShape, channels: int) -> nn.Module:
    """Return the mean over positions and a linear layer, (batch, channels, h, w) to (batch, output_size)."""
    return nn.Sequential(
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), ScaledLinear(channels, shape.output_size, shape.output_scale)
    )


@dataclass(frozen=True)
class StagedSpace(BlockwiseSpace):
    """What families of staged networks have in common.

    Attributes:
        seed_width: factor on the channels of the reference as published.
        widths: factors on them that are searched; block by block, where borders have the teacher's channels, none is.
        kernels: taps that are searched in every layer; none: each layer has the reference's.
        fewer_layers: whether every layer but a stage's first may be left out.
        more_layers: layers that a stage can have beyond the reference's.
        weight_bits: bits of a weight that are searched; stem and head have 8.
        bits_per: whether a stage or a layer has bits of its own.
    """

    seed_width: Width = 1.0
    widths: Annotated[tuple[Width, ...], Field(strict=False, min_length=1)] = (0.25, 0.35, 0.5, 0.75, 1.0)
    kernels: Annotated[tuple[Kernel, ...], Field(strict=False)] = (3, 5, 7)
    fewer_layers: bool = True
    more_layers: Annotated[int, Field(ge=0, le=8)] = 0
    weight_bits: Annotated[tuple[WeightBits, ...], Field(strict=False, min_length=1)] = (8,)
    bits_per: BitsPer = "block"

    training: ClassVar[TrainingSettings] = TrainingSettings(
        learning_rate=5e-3, optimizer="adam", scheduler="cosine", batch_size=32, loss="cross_entropy", gradient_clip=5.0
    )
    """How the reference is trained."""

    @abstractmethod
    def reference_stages(self) -> Sequence[Stage]:
        """Return the reference's stages as published."""

    @abstractmethod
    def stem(self, shape: TaskShape, width: float) -> tuple[nn.Module, int]:
        """Return what is in front of the stages, and the channels that it puts out.

        Args:
            shape: of the task.
            width: factor on the channels as published.
        """

    @abstractmethod
    def layer(self, place: Place, choice: MBConvChoice) -> nn.Module:
        """Return a layer with initial weights: (batch, in_channels, h, w) to (batch, out_channels, h', w')."""

    @abstractmethod
    def head(self, shape: TaskShape, channels: int, width: float) -> nn.Module:
        """Return what maps the last stage's output, (batch, channels, h, w), to (batch, output_size).

        Args:
            shape: of the task.
            channels: of the last stage.
            width: factor on the channels as published.
        """

    def scaled(self, channels: int, width: float) -> int:
        """Return how many channels there are at a width."""
        return narrowed_width(channels, width)

    def searched(self, layer: MBConvChoice) -> dict[str, tuple[Value, ...]]:
        """Return what is searched of a layer, by the names of the choice's fields; all else is as published.

        Args:
            layer: the reference's.
        """
        del layer
        return {"kernel_size": self.kernels}

    @property
    def _stages(self) -> list[Stage]:
        """The reference's stages, with the layers that it has not but candidates can have."""
        return [
            replace(stage, layers=(*stage.layers, *[replace(stage.layers[-1], expansion=LEFT_OUT)] * self.more_layers))
            for stage in self.reference_stages()
        ]

    def settings(self, shape: TaskShape) -> list[Setting]:
        """Return the width, what each layer of each stage is, training, and bits."""
        settings: list[Setting] = [Choice("width", "architecture", self.seed_width, options=self.widths)]
        for number, stage in enumerate(self._stages, 1):
            for place, layer in enumerate(stage.layers, 1):
                settings += self._layer_settings(number, place, layer)
        settings += training_settings(shape.losses, replace(self.training, loss=shape.losses[0]))
        return [*settings, *self._bits.settings()]

    @property
    def _bits(self) -> BlockBits:
        layers = {_bits_name(number): len(stage.layers) for number, stage in enumerate(self._stages, 1)}
        return BlockBits(layers, self.weight_bits, self.bits_per)

    def _layer_settings(self, stage: int, place: int, layer: MBConvChoice) -> list[Setting]:
        """Return the settings of a layer; those of one that can be left out exist where it does."""
        options, optional = self._options(stage, place, layer)
        found: list[Setting] = []
        exists = None
        if "expansion" in options:  # the others depend on it
            name = _name("expansion", stage, place)
            present = tuple(value for value in options["expansion"] if value != LEFT_OUT)
            found.append(Choice(name, "architecture", layer.expansion, options=options["expansion"]))
            own = () if layer.expansion == LEFT_OUT else (layer.expansion,)
            exists = OneOf(name, tuple(dict.fromkeys((*own, *present)))) if optional else None
        for aspect, values in options.items():
            if aspect != "expansion":
                name = _name(aspect, stage, place)
                found.append(Choice(name, "architecture", getattr(layer, aspect), options=values, condition=exists))
        return found

    def _options(self, stage: int, place: int, layer: MBConvChoice) -> tuple[dict[str, tuple[Value, ...]], bool]:
        """Return what is searched of a layer, and whether it can be left out."""
        options = {aspect: tuple(values) for aspect, values in self.searched(layer).items() if values}
        optional = place > 1 and (self.fewer_layers or layer.expansion == LEFT_OUT)
        if optional:
            present = options.get("expansion", (self._expansion(stage, layer),))
            options["expansion"] = (LEFT_OUT, *present)
        return options, optional

    def _expansion(self, stage: int, layer: MBConvChoice) -> float:
        """Return the expansion of a layer where none is searched; of one beyond the reference's, its neighbour's."""
        return layer.expansion or self.reference_stages()[stage - 1].layers[-1].expansion

    def choices(self, architecture: Mapping[str, Value]) -> list[list[MBConvChoice]]:
        """Return what each layer of each stage of a candidate is; a layer that is left out has expansion 0."""
        return [
            [self._choice(architecture, number, place, layer) for place, layer in enumerate(stage.layers, 1)]
            for number, stage in enumerate(self._stages, 1)
        ]

    def _choice(self, architecture: Mapping[str, Value], stage: int, place: int, layer: MBConvChoice) -> MBConvChoice:
        named = {field.name: _name(field.name, stage, place) for field in fields(MBConvChoice)}
        chosen = {field: architecture[name] for field, name in named.items() if name in architecture}
        return replace(layer, **chosen)  # type: ignore[arg-type]  # the options are of the fields' types

    def build(self, candidate: Candidate, shape: TaskShape) -> StagedNetwork:
        """Return the candidate's network."""
        return self._network(shape, float(candidate.architecture["width"]), self.choices(candidate.architecture))

    def reference_network(self, shape: TaskShape) -> StagedNetwork:
        """Return the reference with initial weights: at width 1 the network as published, up to input and outputs."""
        return self._network(shape, self.seed_width, [list(stage.layers) for stage in self._stages])

    def _network(self, shape: TaskShape, width: float, choices: Sequence[Sequence[MBConvChoice]]) -> StagedNetwork:
        stem, _ = self.stem(shape, width)
        places = self._places(shape, width)
        stages = [
            [self._made(place, choice) for place, choice in zip(*stage, strict=True)]
            for stage in zip(places, choices, strict=True)
        ]
        return StagedNetwork(stem, stages, self.head(shape, places[-1][-1].out_channels, width))

    def _places(self, shape: TaskShape, width: float) -> list[list[Place]]:
        """Return where each layer of each stage stands."""
        with torch.device("meta"):
            channels = self.stem(shape, width)[1]
        places = []
        for stage in self._stages:
            wanted = self.scaled(stage.channels, width)
            first = Place(channels, wanted, stage.stride)
            places.append([first, *[Place(wanted, wanted, 1)] * (len(stage.layers) - 1)])
            channels = wanted
        return places

    def _made(self, place: Place, choice: MBConvChoice) -> nn.Module:
        return nn.Identity() if choice.expansion == LEFT_OUT else self.layer(place, choice)

    def module_weight_bits(self, candidate: Candidate) -> dict[str, int]:
        """Return the bits of each stage's weights, or of each layer's."""
        modules = [_module(number) for number, _ in enumerate(self._stages, 1)]
        return self._bits.of_modules(modules, candidate.quantization)

    def describe(self, candidate: Candidate) -> str:
        """Return how many layers it has, what they are on average, its width, and the bits of its stages."""
        layers = [choice for stage in self.choices(candidate.architecture) for choice in stage if choice.expansion]
        told = [f"{len(layers)} layers"]
        if self.kernels:
            told.append(f"kernels of {sum(layer.kernel_size for layer in layers) / len(layers):.2g} on average")
        expansion = sum(layer.expansion for layer in layers) / len(layers)
        if expansion != 1:
            told.append(f"expansions of {expansion:.2g} on average")
        bits = told_bits(self._bits.of(candidate.quantization))
        return ", ".join([*told, f"width {float(candidate.architecture['width']):.3g}", f"{bits} bits"])

    def narrowed(self, share: float) -> Self:
        """Return the space of that share of the reference's width."""
        return replace(self, seed_width=share * self.seed_width)

    def blocks(self, shape: TaskShape) -> list[Block]:
        """Return the stages, of the reference's width."""
        blocks = []
        for number, (stage, places) in enumerate(
            zip(self._stages, self._places(shape, self.seed_width), strict=True), 1
        ):
            layers = tuple(
                self._layer_options(number, index, layer, place)
                for index, (layer, place) in enumerate(zip(stage.layers, places, strict=True), 1)
            )
            own: dict[str, Value] = {"width": self.seed_width}
            blocks.append(Block(f"stage_{number}", _module(number), layers, own, _bits_name(number), self.bits_per))
        return blocks

    def _layer_options(self, stage: int, index: int, layer: MBConvChoice, place: Place) -> tuple[LayerOption, ...]:
        """Return what can stand at a layer's place."""
        options, optional = self._options(stage, index, layer)
        present = {aspect: [value for value in values if value != LEFT_OUT or aspect != "expansion"]
                   for aspect, values in options.items()}  # fmt: skip
        found = []
        for values in product(*present.values()):
            chosen = dict(zip(present, values, strict=True))
            settings: dict[str, Value] = {_name(aspect, stage, index): value for aspect, value in chosen.items()}
            choice = replace(layer, **chosen)  # type: ignore[arg-type]  # the options are of the fields' types
            found.append(LayerOption(_told(chosen), settings, partial(self.layer, place, choice)))
        if optional:
            found.append(LayerOption("none", {_name("expansion", stage, index): LEFT_OUT}, nn.Identity))
        return tuple(found)


_SHORT: Mapping[str, str] = {"kernel_size": "kernel"}
"""What settings are called, where it is not as the choice's fields."""


def _name(aspect: str, stage: int, place: int) -> str:
    return f"{_SHORT.get(aspect, aspect)}_{stage}_{place}"


def _told(chosen: Mapping[str, Value]) -> str:
    """Return an option's name, such as "k5e3"."""
    parts = []
    for aspect, value in chosen.items():
        if isinstance(value, bool):
            parts.append("s" if value else "")
        else:
            parts.append(f"{aspect[0]}{value:g}" if isinstance(value, int | float) else f"-{value}")
    return "".join(parts) or "reference"


def _bits_name(stage: int) -> str:
    return f"weight_bits_{stage}"


def _module(stage: int) -> str:
    return f"stages.{stage - 1}"
