"""What a network family brings: its settings, and how to build a candidate. Users' classes have this shape."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from torch import nn

from qanas.core.bits import told_bits
from qanas.core.candidate import Candidate, Value
from qanas.search_space.quantization_group import BY_LAYER
from qanas.search_space.settings import Setting
from qanas.search_space.training_group import Penalty

SEQUENCE_AXES = 2
"""Of a sample that is a sequence, steps by features, or a table."""


@dataclass(frozen=True)
class TaskShape:
    """What a network has to fit.

    Attributes:
        input_shape: of one sample.
        output_size: values put out per sample.
        output_scale: size of the targets; the last layer is multiplied by it (see `ScaledLinear`).
        losses: the kinds of training loss.
    """

    input_shape: tuple[int, ...]
    output_size: int
    output_scale: float
    losses: tuple[str, ...]


def sequence_shape(name: str, shape: TaskShape) -> tuple[int, int]:
    """Return steps and features of a task's samples.

    Args:
        name: of the family, for the message.
        shape: of the task.

    Raises:
        ValueError: the samples are no sequences.
    """
    if len(shape.input_shape) != SEQUENCE_AXES:
        raise ValueError(f"samples of shape {shape.input_shape}: {name} takes sequences, (steps, features)")
    return shape.input_shape[0], shape.input_shape[1]


def image_shape(name: str, shape: TaskShape) -> tuple[int, int, int]:
    """Return channels, height and width of a task's samples, of which a table is an image of one channel.

    Args:
        name: of the family, for the message.
        shape: of the task.

    Raises:
        ValueError: the samples are no images.
    """
    match shape.input_shape:
        case (channels, height, width):
            return channels, height, width
        case (height, width):
            return 1, height, width
    raise ValueError(f"samples of shape {shape.input_shape}: {name} takes images, (channels, height, width)")


class NetworkSpace(ABC):
    """A family of networks around a reference. Its constructor's arguments are keys of a recipe's ``[space]``."""

    @abstractmethod
    def settings(self, shape: TaskShape) -> Sequence[Setting]:
        """Return every setting, in an order in which a condition's setting comes before it.

        The reference network is the candidate in which each setting has its reference value. Settings of the group
        ``training`` must contain those of `qanas.search_space.training_group.training_settings`.
        """

    @abstractmethod
    def build(self, candidate: Candidate, shape: TaskShape) -> nn.Module:
        """Return the candidate's network with initial weights, drawn from torch's global generator.

        The network maps (batch, *input_shape) to (batch, output_size), or to several outputs by name whose sizes add up
        to that, and consists of what the quantized graph knows.
        """

    def penalties(self, candidate: Candidate, network: nn.Module) -> Mapping[str, Penalty]:
        """Return which penalties are added to the training loss, by the names of the network's parameters.

        Args:
            candidate: in training.
            network: as `build` returned it.
        """
        del candidate, network
        return {}

    def module_weight_bits(self, candidate: Candidate) -> Mapping[str, int]:
        """Return the bits of the weights of modules that have their own, by the module's path.

        Those of all others are the candidate's ``weight_bits``, or the scheme's where it has no such setting.
        """
        del candidate
        return {}

    def describe(self, candidate: Candidate) -> str:
        """Return in a few words what a candidate is, for people; by default its architecture's settings and its bits.

        Tables have it beside the key, which tells candidates apart.
        """
        return described(candidate)

    def narrowed(self, share: float) -> Self | None:
        """Return the space around the same reference with all its layers narrowed evenly, or None: there is no such.

        Baselines are these references. `narrowed_width` rounds a width.

        Args:
            share: of the channels or units that every layer keeps, in (0, 1).
        """
        del share
        return None


def narrowed_width(width: int, share: float) -> int:
    """Return a share of a width, at least 1.

    >>> narrowed_width(100, 0.25), narrowed_width(3, 0.1)
    (25, 1)
    """
    return max(1, round(share * width))


def described(candidate: Candidate) -> str:
    """Return the settings of a candidate that make its network, in a few words.

    Settings that are numbered stand in a row; one that says how many of them there are is left out.

    >>> described(Candidate({"layers": 2, "units_1": 8, "units_2": 4}, {}, {"weight_bits": 4}))
    '8-4 units, 4 bits'
    >>> described(Candidate({"blocks": 1, "channels_1": 16, "kernel_size": 3}, {}, {}, {"window": 30}))
    'window 30, 16 channels, kernel size 3'
    """
    parts = _parts(candidate.input) + _parts(candidate.architecture)
    own = {name: value for name, value in candidate.quantization.items() if name.startswith("weight_bits")}
    bits = told_bits([(value,) for value in own.values() if value != BY_LAYER])
    return ", ".join([*parts, *([f"{bits} bits"] if bits else [])])


def _parts(settings: Mapping[str, Value]) -> list[str]:
    """Return a group's settings in words, those that are numbered first."""
    rows: dict[str, list[Value]] = {}
    single: dict[str, Value] = {}
    for name, value in settings.items():
        numbered = re.fullmatch(r"(.+?)_(\d+)", name)
        if numbered is None:
            single[name] = value
        else:
            rows.setdefault(numbered[1], []).append(value)
    lengths = [len(values) for values in rows.values()]
    told = [f"{'-'.join(_short(value) for value in values)} {name.replace('_', ' ')}" for name, values in rows.items()]
    others = {name: value for name, value in single.items() if value not in lengths or isinstance(value, bool)}
    return told + [f"{name.replace('_', ' ')} {_short(value)}" for name, value in others.items()]


def _short(value: Value) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
