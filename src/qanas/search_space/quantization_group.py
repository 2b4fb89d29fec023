"""The settings of the group ``quantization``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


def block_bits_settings(name: str, layers: int, weight_bits: Sequence[int], per: BitsPer) -> list[Setting]:
    """Return the settings with the bits of a block, or of each of its layers.

    Args:
        name: of the block's setting; those of layers have their numbers behind it.
        layers: of the block.
        weight_bits: that are searched.
        per: what has bits of its own.
    """
    options = tuple(weight_bits)
    if per == "block":
        return [Choice(name, "quantization", REFERENCE_WEIGHT_BITS, options=options)]
    own = OneOf(name, (BY_LAYER,))
    return [
        Choice(name, "quantization", REFERENCE_WEIGHT_BITS, options=(BY_LAYER,)),
        *(
            Choice(f"{name}_{layer}", "quantization", REFERENCE_WEIGHT_BITS, options=options, condition=own)
            for layer in range(1, layers + 1)
        ),
    ]


def bits_of_layers(name: str, layers: int, quantization: Mapping[str, Value]) -> tuple[int, ...]:
    """Return the bits of each layer of a block, given the name of its setting.

    >>> bits_of_layers("bits", 2, {"bits": 8}), bits_of_layers("bits", 2, {"bits": 0, "bits_1": 8, "bits_2": 4})
    ((8, 8), (8, 4))
    """
    own = int(quantization[name])
    if own != BY_LAYER:
        return (own,) * layers
    return tuple(int(quantization[f"{name}_{layer}"]) for layer in range(1, layers + 1))


def bits_of_modules(module: str, name: str, layers: int, quantization: Mapping[str, Value]) -> dict[str, int]:
    """Return the bits of a block's module, or of each of its layers' where these have bits of their own.

    Args:
        module: of the block; it holds its layers as ``0``, ``1``, ...
        name: of the block's setting.
        layers: of the block.
        quantization: of a candidate.
    """
    own = int(quantization[name])
    if own != BY_LAYER:
        return {module: own}
    return {f"{module}.{place}": bits for place, bits in enumerate(bits_of_layers(name, layers, quantization))}
