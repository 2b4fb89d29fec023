"""From an engine's raw rows to a network's input, in Python and in C."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from qanas.tasks.front_end import CForm, FrontEndCost, RawType
from qanas.tasks.samples import FloatArray
from qanas.tasks.turbofan.preprocessing import Preprocessing
from qanas.tasks.turbofan.reader import SENSORS, SETTINGS
from qanas.tasks.window_front_end import WindowFrontEnd, window_c_form, window_cost
from qanas.tasks.windows import feature_notes


@dataclass(frozen=True)
class EngineFrontEnd(WindowFrontEnd):
    """An engine's last cycles, standardised: a window of them, or the window's features.

    Attributes:
        preprocessing: of rows.
    """

    preprocessing: Preprocessing

    raw_type: ClassVar[RawType] = "double"
    described: ClassVar[str] = (
        f"A row is a cycle: {SETTINGS} settings, then {SENSORS} sensors, in the order and the units of the data's "
        "files; the last row is the latest cycle."
    )

    @classmethod
    def from_notes(cls, notes: Mapping[str, Any]) -> EngineFrontEnd:
        """Return the front end that has these `notes`."""
        return cls(
            Preprocessing.from_description(notes),
            window=notes["window"],
            thinning=notes.get("stride_in_window", 1),
            features=tuple(notes.get("features", ())),
            mean_window=notes.get("mean_cycles", 1),
        )

    @property
    def row_size(self) -> int:
        """Settings and sensors."""
        return SETTINGS + SENSORS

    @property
    def cost(self) -> FrontEndCost:
        """What it takes."""
        return window_cost(self, len(self.preprocessing.sensors), len(self.preprocessing.conditions), SETTINGS)

    def input_of(self, raw: NDArray[Any]) -> FloatArray:
        """Return a network's input, shape input_shape.

        Args:
            raw: an engine's last cycles, or all of them, shape (cycles, settings + sensors).
        """
        rows = self.preprocessing.features(raw[:, :SETTINGS], raw[:, SETTINGS:])
        (found,) = self.windows(rows, np.zeros(1, np.int64), np.array([len(raw) - 1]))
        alone: FloatArray = found
        return alone

    def notes(self) -> dict[str, Any]:
        """Return all that it takes to compute a network's input from raw text, in words and numbers."""
        notes = {
            **self.preprocessing.describe(),
            "window": self.window,
            "padding": "an engine with fewer cycles than the window repeats its first cycle in front",
        }
        if self.features:
            sensors = len(self.preprocessing.sensors)
            return notes | feature_notes(self.features, self.window, self.mean_window, sensors)
        thinned = "every stride_in_window-th of the last cycles, counted back from the last one"
        cycles = "the last cycles" if self.thinning == 1 else thinned
        return notes | {
            "stride_in_window": self.thinning,
            "input": f"{cycles}, oldest first, each with the kept sensors in the order above",
        }

    def c_form(self, name: str, axes: tuple[int, ...]) -> CForm | None:
        """Return it as C, which keeps the last cycles standardised; None where axes aren't stored as in torch.

        Args:
            name: what every identifier begins with.
            axes: of the stored input.
        """
        conditions = self.preprocessing.conditions
        return window_c_form(
            self,
            name,
            axes,
            settings=SETTINGS,
            sensors=self.preprocessing.sensors.tolist(),
            centres=[condition.centre.tolist() for condition in conditions],
            means=[condition.means.tolist() for condition in conditions],
            factors=[condition.factors.tolist() for condition in conditions],
        )
