"""Maps of features at strides 16 and 32, which detectors join: the coarser one, doubled, has to be the finer one."""

from __future__ import annotations

STRIDE = 16
"""Pixels of a picture that a position of the finer map is about."""


def doubles(side: int) -> bool:
    """Tell whether the map at stride 32 of a side, doubled, is that at stride 16; sides are rounded up.

    >>> doubles(320), doubles(220), doubles(240)
    (True, True, False)
    """
    return side > 0 and -(-side // STRIDE) % 2 == 0


def fitting_side(side: int) -> int:
    """Return the nearest side that `doubles`, of two the smaller.

    >>> fitting_side(320), fitting_side(220), fitting_side(240), fitting_side(144), fitting_side(1)
    (320, 220, 241, 145, 17)
    """
    away = 0
    while True:
        for found in (side - away, side + away):
            if doubles(found):
                return found
        away += 1
