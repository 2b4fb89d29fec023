"""Colours of classes in masks."""

from __future__ import annotations

import colorsys
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Sequence

VOID = 255
"""The class of pixels that count for nothing."""

_CAMVID = {
    "sky": (128, 128, 128),
    "building": (128, 0, 0),
    "pole": (192, 192, 128),
    "road": (128, 64, 128),
    "pavement": (60, 40, 222),
    "tree": (128, 128, 0),
    "sign_symbol": (192, 128, 128),
    "fence": (64, 64, 128),
    "car": (64, 0, 128),
    "pedestrian": (64, 64, 0),
    "bicyclist": (0, 128, 192),
}
"""As Badrinarayanan et al. (2017) show CamVid's eleven classes."""

_GOLDEN = 0.618034  # steps of the golden ratio keep the hues of any number of classes apart
_LIGHTNESSES = (0.45, 0.62, 0.3)


def class_palette(names: Sequence[str]) -> NDArray[np.uint8]:
    """Return red, green and blue of every 8-bit class, shape (256, 3); void is black.

    Args:
        names: of the classes. CamVid's have the colours that the literature shows them in.
    """
    palette = np.zeros((VOID + 1, 3), dtype=np.uint8)
    known = set(names) <= _CAMVID.keys()
    for place, name in enumerate(names):
        palette[place] = _CAMVID[name] if known else _spread(place)
    return palette


def css(colour: NDArray[np.uint8]) -> str:
    """Write a colour as the page's style does.

    >>> css(np.array([128, 0, 255], dtype=np.uint8))
    '#8000ff'
    """
    return "#" + bytes(colour.tolist()).hex()


def _spread(place: int) -> list[int]:
    lightness = _LIGHTNESSES[place % len(_LIGHTNESSES)]
    return [round(255 * part) for part in colorsys.hls_to_rgb(place * _GOLDEN % 1, lightness, 0.65)]
