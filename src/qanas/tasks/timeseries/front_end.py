"""From rows of readings to a network's input, in Python and in C."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from qanas.tasks.front_end import CForm, FrontEndCost, RawType
from qanas.tasks.samples import FloatArray
from qanas.tasks.timeseries.reader import Floats
from qanas.tasks.window_front_end import WindowFrontEnd, window_c_form, window_cost


@dataclass(frozen=True)
class SeriesFrontEnd(WindowFrontEnd):
    """The last rows, standardised: a window of them, or the window's features.

    Attributes:
        channels: their names, in the order of a row.
        means: shape (channels,).
        deviations: shape (channels,).
    """

    channels: tuple[str, ...]
    means: Floats
    deviations: Floats

    raw_type: ClassVar[RawType] = "double"

    @classmethod
    def from_notes(cls, notes: Mapping[str, Any]) -> SeriesFrontEnd:
        """Return the front end that has these notes, as the task writes them."""
        return cls(
            tuple(notes["channels"]),
            *(np.asarray(notes[name], np.float64) for name in ("means", "deviations")),
            window=notes["window"],
            thinning=notes.get("stride_in_window", 1),
            features=tuple(notes.get("features", ())),
            mean_window=notes.get("mean_cycles", 1),
        )

    @property
    def row_size(self) -> int:
        """Channels."""
        return len(self.channels)

    @property
    def described(self) -> str:
        """What a row is."""
        return f"A row is a reading of {', '.join(map(_plain, self.channels))}; the last row is the latest one."

    @property
    def cost(self) -> FrontEndCost:
        """What it takes."""
        return window_cost(self, len(self.channels))

    def scaled(self, rows: Floats) -> FloatArray:
        """Return standardised rows, shape (rows, channels)."""
        found: FloatArray = ((rows - self.means) * (1 / self.deviations)).astype(np.float32)
        return found

    def input_of(self, raw: NDArray[Any]) -> FloatArray:
        """Return a network's input, shape (steps, channels) or (features,).

        Args:
            raw: the last rows, shape (rows, channels).
        """
        (found,) = self.windows(self.scaled(raw), np.zeros(1, np.int64), np.array([len(raw) - 1]))
        alone: FloatArray = found
        return alone

    def c_form(self, name: str, axes: tuple[int, ...]) -> CForm | None:
        """Return it as C; None where axes aren't stored as in torch.

        Args:
            name: what every identifier begins with.
            axes: of the stored input.
        """
        return window_c_form(
            self,
            name,
            axes,
            settings=0,
            sensors=range(len(self.channels)),
            centres=[],
            means=[self.means.tolist()],
            factors=[(1 / self.deviations).tolist()],
        )


def _plain(name: str) -> str:
    """Return a name that a comment in C can hold."""
    return name.replace("*/", "* /").replace("/*", "/ *")
