"""The settings of the group ``quantization``."""

from __future__ import annotations

from collections.abc import Sequence

from qanas.search_space.settings import Choice, Setting

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
