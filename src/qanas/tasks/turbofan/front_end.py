"""From an engine's raw rows to a network's input, in Python and in C."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from qanas.core.c_text import render
from qanas.tasks.base import FloatArray
from qanas.tasks.front_end import CForm, FrontEnd, RawType
from qanas.tasks.turbofan.preprocessing import Preprocessing
from qanas.tasks.turbofan.reader import SENSORS, SETTINGS, Integers
from qanas.tasks.windows import cut_windows, describe_windows, feature_notes, slope_weights


@dataclass(frozen=True)
class EngineFrontEnd(FrontEnd):
    """An engine's last cycles, standardised: a window of them, or the window's features.

    Attributes:
        preprocessing: of rows.
        window: cycles.
        thinning: every so many-th of a window's cycles is given to the network.
        features: their names; the window itself where there are none.
        mean_window: cycles that mean and deviation are over.
    """

    preprocessing: Preprocessing
    window: int
    thinning: int = 1
    features: tuple[str, ...] = ()
    mean_window: int = 1

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
            notes["window"],
            notes.get("stride_in_window", 1),
            tuple(notes.get("features", ())),
            notes.get("mean_cycles", 1),
        )

    @property
    def row_size(self) -> int:
        """Settings and sensors."""
        return SETTINGS + SENSORS

    @property
    def rows(self) -> int:
        """Cycles of a window."""
        return self.window

    def windows(self, rows: FloatArray, first: Integers, ends: Integers) -> FloatArray:
        """Return a network's inputs, shape (windows, *input_shape).

        Args:
            rows: standardised, shape (rows, sensors).
            first: the first row of each window's engine, shape (windows,).
            ends: the last row of each window, shape (windows,).
        """
        windows = cut_windows(rows, first, ends, self.window, 1 if self.features else self.thinning)
        return describe_windows(windows, self.features, self.mean_window) if self.features else windows

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
        if axes:
            return None
        conditions = self.preprocessing.conditions
        values = {
            "name": name,
            "front_end": self,
            "settings": SETTINGS,
            "raw_sensors": SENSORS,
            "sensors": self.preprocessing.sensors.tolist(),
            "centres": [condition.centre.tolist() for condition in conditions],
            "means": [condition.means.tolist() for condition in conditions],
            "factors": [condition.factors.tolist() for condition in conditions],
            "slope_weights": slope_weights(self.window).tolist(),
            "late": min(self.mean_window, self.window),
        }
        package = __package__ or ""
        return CForm(
            render(package, "front_end.h.jinja", **values),
            render(package, "front_end.c.jinja", **values),
        )
