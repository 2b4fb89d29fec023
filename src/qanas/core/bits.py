"""Bits of weights by layer, in tables and in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def told_bits(blocks: Sequence[Sequence[object]]) -> str:
    """Return the bits of all layers of all blocks, as short as that can be said.

    >>> told_bits([(8, 8), (8,)]), told_bits([(8, 8), (4,)]), told_bits([(8, 4), (6,)])
    ('8', '8-4', '8.4-6')
    """
    told = [".".join(map(str, bits[:1] if len(set(bits)) == 1 else bits)) for bits in blocks]
    return told[0] if len(set(told)) == 1 and "." not in told[0] else "-".join(told)


def bits_by_layer(column: Sequence[Any], paths: Sequence[Sequence[Any]]) -> list[tuple[Any, ...]]:
    """Return the bits of every layer of a table's rows; earlier versions wrote one number a row.

    >>> bits_by_layer([[8, 4], 6], [(0, 1), (2, 2)])
    [(8, 4), (6, 6)]
    """
    return [
        (bits,) * len(path) if isinstance(bits, int) else tuple(bits) for bits, path in zip(column, paths, strict=True)
    ]
