"""How a network is quantized, as data, and the schemes that have a name."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources
from typing import Any, Literal, get_args

from qanas.quantization.numbers.affine import (
    ACTIVATION_BITS,
    BYTE_BITS,
    CONTAINER_BITS,
    WEIGHT_BITS,
    ActivationBits,
    Affine,
    Container,
    ScaleKind,
    WeightBits,
)

ActivationCodes = Literal["asymmetric", "symmetric", "symmetric_unsigned"]
WeightScales = Literal["kernel", "tensor", "channel"]

RangeMethod = Literal["min_max", "moving_average", "percentile"]
"""``min_max``: the smallest and the largest value, so that no calibration sample saturates. ``moving_average``: that of
the batches' smallest and largest values, in the samples' order (Jacob et al. 2018). ``percentile``: all values but a
few outliers on either side."""


Avoided = Literal["nothing", "grouped_convolution"]
"""Kernels that a device's library has, but wrong."""

WHOLE_BITS = 8
"""Bits that a weight has where nothing is saved on it."""

INT8_ALONE = "in LSTMs, in dense layers with scales by channel and beside values of 16 bits"
"""Where kernels take no int4 tensors: LiteRT's LSTM, and TFLite Micro's dense layer of this kind."""

KNOWN: Mapping[str, tuple[Any, ...]] = {
    "weight_bits": WEIGHT_BITS,
    "activation_bits": ACTIVATION_BITS,
    "activations": get_args(ActivationCodes),
    "weight_scales": get_args(WeightScales),
    "scales": get_args(ScaleKind),
    "ranges": get_args(RangeMethod),
    "container": get_args(Container),
    "avoid": get_args(Avoided),
}
"""What each field can be."""


def covers(layer: str, node: str) -> bool:
    """Tell whether a node belongs to a module, given its path.

    A node's name is the path of its module with underscores for the dots, and one in front of a number.

    >>> covers("head.0", "head_0_relu"), covers("2", "_2"), covers("head", "heads")
    (True, True, False)
    """
    prefix = node_of(layer)
    return node == prefix or node.startswith(f"{prefix}_")


def node_of(layer: str) -> str:
    """Return what the node of a module is called, given its path.

    >>> node_of("head.0"), node_of("2")
    ('head_0', '_2')
    """
    name = layer.replace(".", "_")
    return f"_{name}" if name[:1].isdigit() else name


class UnsupportedSchemeError(Exception):
    """A scheme that a network can't have: one for a layer that isn't there, or that an operator's kernel lacks."""


class UnknownLayerError(UnsupportedSchemeError):
    """A scheme with fields for a layer that isn't there."""


@dataclass(frozen=True)
class Scheme:
    """How a network is quantized: what holds for all of it, and what differs in some layers.

    Operators that take over their input's parameters (slices, reshapes) or whose kernel fixes them (a logistic
    function) have those, whatever ``activations`` says; so has the int16 cell of an LSTM, whose scale is a power of
    two by its kernel.

    Attributes:
        weight_bits: bits of a weight.
        activation_bits: bits of what is computed, and of what that is computed from: a value that is there in other
            bits is rescaled in between (`qanas.quantization.passes.parameters`). Codes of 16 bits are symmetric,
            whatever ``activations`` says.
        activations: ``asymmetric``: codes reach from the smallest to the largest value; ``symmetric``: the zero point
            is 0, and codes reach equally far to both sides; ``symmetric_unsigned``: the same, but values that are
            never negative use all codes (unsigned codes with zero point 0, stored as signed ones with -128).
        weight_scales: a scale a ``tensor``, an output ``channel``, or what the ``kernel`` commonly has: one a channel
            in convolutions, one in dense layers. LSTMs have one a gate whatever is asked for: each gate's weights are
            a tensor, and the kernel has no finer scales.
        scales: of weights and activations, ``real`` or the next larger ``power_of_two``.
        ranges: how ranges are taken from the calibration samples, see `qanas.quantization.ranges`.
        container: what the file stores weights of few bits in: ``int8`` tensors, one to a byte, or ``int4`` ones, two
            to a byte, where they have 4 bits and the kernel takes them: in convolutions, and in dense layers with one
            scale, between values of 8 bits. It changes no value.
        avoid: ``grouped_convolution``: convolutions in groups are written as whole ones with zeros, or as a part for
            each group, whichever takes fewer bytes: CMSIS-NN of early 2026 computes something else in those of one tap
            and in those of 16 bits. It changes no value.
        layers: fields that differ, by the path of a module: they hold for everything in it, those of an inner one
            before those of an outer one.

    Raises:
        ValueError: an unknown field or value, with those known.
    """

    weight_bits: WeightBits = 8
    activation_bits: ActivationBits = 8
    activations: ActivationCodes = "asymmetric"
    weight_scales: WeightScales = "kernel"
    scales: ScaleKind = "real"
    ranges: RangeMethod = "min_max"
    container: Container = "int8"
    avoid: Avoided = "nothing"
    layers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what no arithmetic here knows."""
        for name, known in KNOWN.items():
            value = getattr(self, name)
            if value not in known:
                raise ValueError(f"{name} = {value!r}: known are {', '.join(map(str, known))}")
        for layer, overrides in self.layers.items():
            unknown = sorted(set(overrides) - set(KNOWN))
            if unknown:
                raise ValueError(f"layers.{layer}.{unknown[0]}: unknown; known are {', '.join(KNOWN)}")
            try:
                self.of(layer)
            except ValueError as error:
                raise ValueError(f"layers.{layer}.{error}") from error

    def of(self, node: str) -> Scheme:
        """Return what holds for one node.

        >>> scheme = Scheme(layers={"encoder": {"weight_bits": 4}, "encoder.0": {"weight_bits": 6}})
        >>> [scheme.of(node).weight_bits for node in ("encoder_0_conv", "encoder_01", "head")]
        [6, 4, 8]
        """
        if not self.layers:
            return self
        merged: dict[str, Any] = {}
        for layer in sorted(self.layers, key=len):
            if covers(layer, node):
                merged |= self.layers[layer]
        return replace(self, layers={}, **merged)

    def unknown_layers(self, nodes: Iterable[str]) -> list[str]:
        """Return the layers with fields of their own that a network lacks, sorted.

        Args:
            nodes: names of all the network's nodes.
        """
        names = list(nodes)
        return sorted(layer for layer in self.layers if not any(covers(layer, node) for node in names))

    def within(self, nodes: Iterable[str]) -> Scheme:
        """Return the same without what it has for layers that a network lacks.

        >>> Scheme(layers={"head": {"weight_bits": 4}, "lstm.1": {"weight_bits": 6}}).within(["lstm_0", "head"]).layers
        {'head': {'weight_bits': 4}}
        """
        unknown = self.unknown_layers(nodes)
        return replace(self, layers={layer: own for layer, own in self.layers.items() if layer not in unknown})

    def fixes(self, field_name: str, node: str) -> bool:
        """Tell whether a layer that a node belongs to has a field of its own.

        >>> Scheme(layers={"encoder": {"weight_bits": 4}}).fixes("weight_bits", "encoder_0")
        True
        """
        return any(field_name in own and covers(layer, node) for layer, own in self.layers.items())

    @property
    def fewest_weight_bits(self) -> int:
        """The fewest bits that weights of any layer have.

        >>> Scheme(layers={"encoder.0": {"weight_bits": 4}}).fewest_weight_bits
        4
        """
        return min([self.weight_bits, *(self.of(node_of(layer)).weight_bits for layer in self.layers)])

    def groups(self, of_kernel: int, channels: int) -> int:
        """Return the number of scales of a weight tensor.

        Args:
            of_kernel: what its kernel commonly has.
            channels: output channels.
        """
        return {"kernel": of_kernel, "tensor": 1, "channel": channels}[self.weight_scales]

    def affine(self, low: float, high: float) -> Affine:
        """Return the parameters of a value that reaches from ``low`` to ``high``.

        >>> Scheme(activations="symmetric").affine(-1.0, 127.0)
        Affine(scale=1.0, zero_point=0, bits=8)
        >>> Scheme(activations="symmetric_unsigned", scales="power_of_two").affine(0.0, 130.0)
        Affine(scale=1.0, zero_point=-128, bits=8)
        """
        if self.activation_bits != BYTE_BITS:
            return Affine.from_range(low, high, self.scales, self.activation_bits)
        never_negative = low >= 0.0 and self.activations == "symmetric_unsigned"
        if self.activations == "asymmetric" or never_negative:
            return Affine.from_range(low, high, self.scales)
        return Affine.symmetric(max(-low, high), self.scales)

    def description(self) -> str:
        """Return the scheme in words, for cards."""
        weights = {
            "kernel": "scales by channel in convolutions, by tensor in dense layers, by gate in LSTMs",
            "tensor": "scales by tensor (in LSTMs by gate)",
            "channel": "scales by channel (in LSTMs by gate)",
        }[self.weight_scales]
        activations = self.activations.replace("_unsigned", ", unsigned where never negative")
        if self.activation_bits != BYTE_BITS:
            activations = "symmetric"
        stored = " in int8 tensors" if CONTAINER_BITS[self.container] != self.weight_bits < WHOLE_BITS else ""
        two_to_a_byte = self.container == "int4" and self.fewest_weight_bits <= CONTAINER_BITS["int4"]
        parts = [
            f"int{self.weight_bits} weights{stored}, {weights}",
            f"weights of 4 bits in int4 tensors, but in int8 ones {INT8_ALONE}" if two_to_a_byte else "",
            f"int{self.activation_bits} activations, {activations}",
            "power-of-two scales" if self.scales == "power_of_two" else "",
            f"{self.ranges.replace('_', '-')} ranges on training samples",
            "cells of LSTMs int16",
            f"{self.avoid} avoided" if self.avoid != "nothing" else "",
            *(f"{layer}: {key} {value}" for layer, entry in self.layers.items() for key, value in entry.items()),
        ]
        return "; ".join(part for part in parts if part)


DEFAULT_SCHEME = "int8"


@cache
def named_schemes() -> Mapping[str, Scheme]:
    """Return the schemes of ``schemes.toml`` by name, in the order of that file.

    >>> named_schemes()["symmetric_per_channel"].activations
    'symmetric'
    """
    text = resources.files("qanas.quantization").joinpath("schemes.toml").read_text("utf-8")
    return {name: Scheme(**fields) for name, fields in tomllib.loads(text).items()}
