"""From the last rows of a series to a network's input: what front ends of windows share, in Python and in C."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass

import numpy as np
from numpy.typing import NDArray

from qanas.tasks.front_end import CForm, FrontEnd, FrontEndCost
from qanas.tasks.samples import FloatArray
from qanas.tasks.windows import cut_windows, describe_windows, feature_multiply_adds, slope_weights

Integers = NDArray[np.int64]

_DESCRIBED_BYTES = 2**26


@dataclass(frozen=True)
class WindowFrontEnd(FrontEnd):
    """A window of the last rows, or its features.

    Attributes:
        window: rows.
        thinning: every so many-th of a window's rows is given to the network.
        features: their names; the window itself where there are none.
        mean_window: rows that mean and deviation are over.
    """

    _: KW_ONLY
    window: int
    thinning: int = 1
    features: tuple[str, ...] = ()
    mean_window: int = 1

    @property
    def rows(self) -> int:
        """Of a window."""
        return self.window

    def windows(self, rows: FloatArray, first: Integers, ends: Integers) -> FloatArray:
        """Return a network's inputs, shape (windows, *input_shape).

        Args:
            rows: standardised, shape (rows, sensors).
            first: the first row of each window's series, shape (windows,).
            ends: the last row of each window, shape (windows,).
        """
        if not self.features:
            return cut_windows(rows, first, ends, self.window, self.thinning)
        # A description is a few numbers a sensor; its window, in double precision, is not: so many are cut at a time.
        count = max(1, _DESCRIBED_BYTES // max(1, 8 * self.window * rows.shape[1]))
        places = [slice(at, at + count) for at in range(0, len(ends), count)] or [slice(0)]
        described = [
            describe_windows(cut_windows(rows, first[at], ends[at], self.window), self.features, self.mean_window)
            for at in places
        ]
        return np.concatenate(described)


def window_cost(front_end: WindowFrontEnd, sensors: int, conditions: int = 0, settings: int = 0) -> FrontEndCost:
    """Return what a front end takes whose C form is this one: a whole window is standardised anew.

    Args:
        front_end: that is written.
        sensors: that are kept of a row.
        conditions: of which the nearest one is looked for; 0: there is one, and no settings.
        settings: that tell it.
    """
    window, doubles = front_end.window, 2 * max(conditions, 1) * sensors + conditions * settings
    features = feature_multiply_adds(front_end.features, window, front_end.mean_window)
    return FrontEndCost(
        macs=window * (sensors + conditions * settings) + sensors * features,
        ram_bytes=4 * window * sensors + 8,
        flash_bytes=8 * (doubles + window * ("slope" in front_end.features)) + 4 * sensors,
    )


def window_c_form(
    front_end: WindowFrontEnd,
    name: str,
    axes: tuple[int, ...],
    *,
    settings: int,
    sensors: Sequence[int],
    centres: Sequence[Sequence[float]],
    means: Sequence[Sequence[float]],
    factors: Sequence[Sequence[float]],
) -> CForm | None:
    """Return a front end as C, which keeps the last rows standardised; None where axes aren't stored as in torch.

    Args:
        front_end: that is written.
        name: what every identifier begins with.
        axes: of the stored input.
        settings: values in front of a row that tell its operating condition; 0: there is one condition.
        sensors: which of the values behind them are kept, from 0.
        centres: the settings of each condition.
        means: of each kept sensor in each condition.
        factors: what its distance from the mean is multiplied with.
    """
    if axes:
        return None
    values = {
        "name": name,
        "front_end": front_end,
        "settings": settings,
        "sensors": sensors,
        "centres": centres,
        "means": means,
        "factors": factors,
        "slope_weights": slope_weights(front_end.window).tolist(),
        "late": min(front_end.mean_window, front_end.window),
    }
    return CForm.rendered(__package__, "window_front_end", **values)
