"""The settings of the group ``quantization``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from qanas.core.candidate import Value
from qanas.search_space.settings import Choice, OneOf, Setting

REFERENCE_WEIGHT_BITS = 8
"""Bits of the reference network's weights, searched or not."""


def quantization_settings(weight_bits: Sequence[int] = (8,)) -> list[Setting]:
    """Return the settings of the group ``quantization``.

    Args:
        weight_bits: bits of a weight that are searched.

    Raises:
        ValueError: none, or the same twice.
    """
    options = tuple(weight_bits)
    if not options or len(set(options)) < len(options):
        raise ValueError(f"weight_bits = {list(options)}: give each width that is searched once")
    return [Choice("weight_bits", "quantization", REFERENCE_WEIGHT_BITS, options=options)]


BitsPer = Literal["block", "layer"]
"""What has bits of its own."""

BY_LAYER = 0
"""The bits of a block whose layers have their own: the reference, which has none, is the same candidate either way."""


def bits_of_layers(name: str, layers: int, quantization: Mapping[str, Value]) -> tuple[int, ...]:
    """Return the bits of each layer of a block, given the name of its setting.

    >>> bits_of_layers("bits", 2, {"bits": 8}), bits_of_layers("bits", 2, {"bits": 0, "bits_1": 8, "bits_2": 4})
    ((8, 8), (8, 4))
    """
    own = int(quantization[name])
    if own != BY_LAYER:
        return (own,) * layers
    return tuple(int(quantization[f"{name}_{layer}"]) for layer in range(1, layers + 1))


@dataclass(frozen=True)
class BlockBits:
    """The bits of a network's blocks, each its own or by layer.

    Attributes:
        layers: of each block, by its setting; those of layers have their numbers behind that name.
        weight_bits: that are searched.
        per: what has bits of its own.
    """

    layers: Mapping[str, int]
    weight_bits: Sequence[int]
    per: BitsPer

    def settings(self) -> list[Setting]:
        """Return the settings of all blocks."""
        options = tuple(self.weight_bits)
        if self.per == "block":
            return [Choice(name, "quantization", REFERENCE_WEIGHT_BITS, options=options) for name in self.layers]
        found: list[Setting] = []
        for name, layers in self.layers.items():
            own = OneOf(name, (BY_LAYER,))
            found.append(Choice(name, "quantization", REFERENCE_WEIGHT_BITS, options=(BY_LAYER,)))
            found += [
                Choice(f"{name}_{layer}", "quantization", REFERENCE_WEIGHT_BITS, options=options, condition=own)
                for layer in range(1, layers + 1)
            ]
        return found

    def of(self, quantization: Mapping[str, Value]) -> list[tuple[int, ...]]:
        """Return the bits of each layer of each block, as a candidate has them."""
        return [bits_of_layers(name, layers, quantization) for name, layers in self.layers.items()]

    def of_modules(self, modules: Sequence[str], quantization: Mapping[str, Value]) -> dict[str, int]:
        """Return the bits of each block's module, or of each of its layers' where these have bits of their own.

        Args:
            modules: of the blocks; each holds its layers as ``0``, ``1``, ...
            quantization: of a candidate.
        """
        found: dict[str, int] = {}
        for module, name, bits in zip(modules, self.layers, self.of(quantization), strict=True):
            if int(quantization[name]) != BY_LAYER:
                found[module] = int(quantization[name])
            else:
                found |= {f"{module}.{place}": own for place, own in enumerate(bits)}
        return found
