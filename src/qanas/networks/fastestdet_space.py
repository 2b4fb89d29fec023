"""The space around FastestDet: its head, its backbone and stem, or the head alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Literal, Self

from pydantic import Field

from qanas.core.candidate import Candidate, Value
from qanas.core.errors import InputError
from qanas.networks.fastestdet import (
    STAGE_CHANNELS,
    STAGE_UNITS,
    STEM_CHANNELS,
    BackboneSettings,
    FastestDetByName,
    HeadSettings,
)
from qanas.search_space.network_space import NetworkSpace, TaskShape, image_shape
from qanas.search_space.quantization_group import quantization_settings
from qanas.search_space.settings import AtLeast, Choice, Integer, Setting
from qanas.search_space.training_group import TrainingSettings, training_settings

Reference = Literal["fastestdet", "nxp"]
Kernel = Annotated[int, Field(ge=1, le=7)]
Width = Annotated[float, Field(ge=0.1, le=4)]
Channels = Annotated[int, Field(ge=8, le=256, multiple_of=8)]
StemChannels = Annotated[int, Field(ge=4, le=64)]

NXP_HEAD = HeadSettings(
    channels=24,
    spp_kernels=((5,), (2, 2), (2, 3, 3)),
    spp_groups=4,
    stem_groups=2,
    objectness_kernel=4,
    box_kernel=4,
    class_kernel=3,
)
"""Of the network that NXP released (eiq-model-zoo, dperson_shufflenetv2), read from its file."""

REFERENCES: Mapping[Reference, HeadSettings] = {"fastestdet": HeadSettings(), "nxp": NXP_HEAD}

MOST_CHAINS = 3
OF_BOX = 5
"""Numbers of a cell beside its classes: objectness and box."""


@dataclass(frozen=True)
class FastestDetSpace(NetworkSpace):
    """Detectors around FastestDet on ShuffleNetV2, for maps at stride 16 of pictures of three channels.

    Attributes:
        parts: "all", or "head": backbone and stem stay as published.
        reference: "fastestdet" as published, or "nxp": the same backbone with the head that NXP released.
        seed_width: factor on the channels of the reference's stages and stem.
        kernels: taps of a side of the head's depthwise convolutions that are searched.
        groups: of the head's 1 x 1 convolutions that are searched; they have to divide all ``channels``.
        channels: of the head that are searched.
        widths: factors on the channels of the backbone's stages that are searched.
        stem_channels: that are searched.
        stem_strides: that are searched: 2, with pooling behind it, or 4, over patches, without.
        fewer_units: units that a stage may have less than the reference's, searched.
        batch_size: pictures a step of the reference's training.
        learning_rate: of its first step.
    """

    parts: Literal["all", "head"] = "all"
    reference: Reference = "fastestdet"
    seed_width: Width = 1.0
    kernels: Annotated[tuple[Kernel, ...], Field(strict=False, min_length=1)] = (2, 3, 4, 5)
    groups: Annotated[tuple[Literal[1, 2, 4, 8], ...], Field(strict=False, min_length=1)] = (1, 2, 4, 8)
    channels: Annotated[tuple[Channels, ...], Field(strict=False, min_length=1)] = (24, 32, 40, 48, 64, 80, 96)
    widths: Annotated[tuple[Width, ...], Field(strict=False, min_length=1)] = (0.5, 0.75, 1.0)
    stem_channels: Annotated[tuple[StemChannels, ...], Field(strict=False, min_length=1)] = (8, 16, 24)
    stem_strides: Annotated[tuple[Literal[2, 4], ...], Field(strict=False, min_length=1)] = (2, 4)
    fewer_units: Annotated[int, Field(ge=0, le=7)] = 2
    batch_size: Annotated[int, Field(ge=1, le=4096)] = 16
    learning_rate: Annotated[float, Field(ge=2.5e-4, le=0.1)] = 4e-3

    @property
    def training(self) -> TrainingSettings:
        """How the reference is trained."""
        return TrainingSettings(
            self.learning_rate, "adam", "cosine", self.batch_size, loss="fastestdet", gradient_clip=5.0
        )

    @property
    def head(self) -> HeadSettings:
        """The reference's."""
        return REFERENCES[self.reference]

    def settings(self, shape: TaskShape) -> list[Setting]:
        """Return head, backbone and stem, training, and bits."""
        head = self.head
        settings: list[Setting] = [
            Choice("channels", "architecture", head.channels, options=self.channels),
            Integer("chains", "architecture", len(head.spp_kernels), low=1, high=MOST_CHAINS),
        ]
        for chain in range(1, MOST_CHAINS + 1):
            there = AtLeast("chains", chain) if chain > 1 else None
            settings += [
                Choice(_kernel(chain, place), "architecture", own, options=self.kernels, condition=there)
                for place, own in enumerate(head.spp_kernels[chain - 1], 1)
            ]
        of_branches = ["objectness_kernel", "box_kernel", *(["class_kernel"] if _classes(shape) > 1 else [])]
        settings += [
            Choice(name, "architecture", getattr(head, name), options=self.groups)
            for name in ("spp_groups", "stem_groups")
        ]
        settings += [Choice(name, "architecture", getattr(head, name), options=self.kernels) for name in of_branches]
        settings += self._backbone_settings()
        settings += training_settings(shape.losses, replace(self.training, loss=shape.losses[0]))
        return settings + quantization_settings()

    def _backbone_settings(self) -> list[Setting]:
        own: list[tuple[str, Value, tuple[Value, ...]]] = [
            ("backbone_width", self.seed_width, self.widths),
            ("backbone_stem", max(4, round(self.seed_width * STEM_CHANNELS)), self.stem_channels),
            ("backbone_stride", 2, self.stem_strides),
        ]
        for stage, units in enumerate(STAGE_UNITS, 1):
            fewest = max(1, units - self.fewer_units)
            own.append((f"backbone_units_{stage}", units, tuple(range(fewest, units + 1))))
        return [
            Choice(name, "architecture", value, options=options if self.parts == "all" else (value,))
            for name, value, options in own
        ]

    def head_of(self, architecture: Mapping[str, Value]) -> HeadSettings:
        """Return a candidate's head."""
        chains = tuple(
            tuple(int(architecture[_kernel(chain, place)]) for place in range(1, chain + 1))
            for chain in range(1, int(architecture["chains"]) + 1)
        )
        names = ("spp_groups", "stem_groups", "objectness_kernel", "box_kernel", "class_kernel")
        others = {name: int(architecture[name]) for name in names if name in architecture}
        return HeadSettings(channels=int(architecture["channels"]), spp_kernels=chains, **others)

    def backbone_of(self, architecture: Mapping[str, Value]) -> BackboneSettings:
        """Return a candidate's backbone."""
        width = float(architecture["backbone_width"])
        return BackboneSettings(
            stem_channels=int(architecture["backbone_stem"]),
            stem_stride=int(architecture["backbone_stride"]),
            stage_channels=tuple(max(4, 4 * round(width * channels / 4)) for channels in STAGE_CHANNELS),
            stage_units=tuple(int(architecture[f"backbone_units_{stage}"]) for stage in range(1, len(STAGE_UNITS) + 1)),
        )

    def build(self, candidate: Candidate, shape: TaskShape) -> FastestDetByName:
        """Return the candidate's network, which gives its outputs by name."""
        channels, *size = image_shape("fastestdet", shape)
        if channels != 3:  # noqa: PLR2004 - red, green, blue
            raise InputError(f"space: fastestdet takes pictures of three channels, not {channels}")
        head, backbone = self.head_of(candidate.architecture), self.backbone_of(candidate.architecture)
        return FastestDetByName((size[0], size[1]), _classes(shape), head, backbone)

    def describe(self, candidate: Candidate) -> str:
        """Return input, backbone and head in a few words."""
        head, backbone = self.head_of(candidate.architecture), self.backbone_of(candidate.architecture)
        chains = "/".join("-".join(map(str, chain)) for chain in head.spp_kernels)
        seen = [f"width {candidate.input['width']}, aspect {candidate.input['aspect']:g}"] if candidate.input else []
        units = "-".join(map(str, backbone.stage_units))
        stages = f"{'-'.join(map(str, backbone.stage_channels))} x {units}"
        body = f"backbone {stages} behind {backbone.stem_channels} at stride {backbone.stem_stride}"
        own = f"head of {head.channels}, chains {chains}, groups {head.spp_groups} and {head.stem_groups}"
        return ", ".join([*seen, body, own])

    def narrowed(self, share: float) -> Self:
        """Return the space of that share of the backbone's width."""
        return replace(self, seed_width=share * self.seed_width)


def _kernel(chain: int, place: int) -> str:
    return f"spp_{chain}_{place}"


def _classes(shape: TaskShape) -> int:
    """Return how many kinds of object a task has."""
    if shape.output_size < OF_BOX:
        raise InputError('space: fastestdet finds boxes: take task.name = "detection"')
    return max(1, shape.output_size - OF_BOX)
