"""The settings of the group ``quantization``."""

from __future__ import annotations

from qanas.search_space.settings import Choice, Setting


def quantization_settings() -> list[Setting]:
    """Return the settings of the group ``quantization``: INT8 weights, the only width so far."""
    return [Choice("weight_bits", "quantization", 8, options=(8,))]
