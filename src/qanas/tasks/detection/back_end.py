"""From a detector's maps of codes to boxes on a microcontroller: the same as `decoding`, in C."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from qanas.tasks.back_end import BackEnd
from qanas.tasks.detection.decoding import BOX, CLASSES, MOST_BOXES, OBJECTNESS, SHOWN_FROM, Decoder
from qanas.tasks.front_end import CForm


@dataclass(frozen=True)
class BoxesBackEnd(BackEnd):
    """Boxes of the maps of a network with an output a branch.

    Attributes:
        decoder: how they are had.
        cells: rows and columns of the maps.
    """

    decoder: Decoder
    cells: tuple[int, int]

    @property
    def described(self) -> str:
        """How it is called."""
        return (
            "`..._detect` makes boxes of the outputs' codes, in pixels of a picture of the height and width that it is "
            f"told, the best first, and leaves those out that score less than it is told, say {SHOWN_FROM}"
        )

    def c_form(self, name: str, labels: Mapping[str, tuple[str, str]], axes: Mapping[str, tuple[int, ...]]) -> CForm:
        """Return ``NAME_detect``."""
        values = {
            "name": name,
            "decoder": self.decoder,
            "rows": self.cells[0],
            "columns": self.cells[1],
            "most": MOST_BOXES,
            "parts": [(part, *labels[part], not axes[part]) for part in _there(labels)],
            "classes": self.decoder.classes,
        }  # fmt: skip
        return CForm.rendered(__package__, "back_end", **values)

    def golden_form(self, name: str, labels: Mapping[str, str], outputs: Mapping[str, NDArray[Any]]) -> CForm:
        """Return the boxes of each picture, of other proportions than the input, whatever their score."""
        height, width = self.decoder.size[0] + 21, 2 * self.decoder.size[1] + 3
        count = len(outputs[OBJECTNESS])
        answers = [
            self.decoder({part: values[at] for part, values in outputs.items()}, (height, width)) for at in range(count)
        ]
        values = {
            "name": name,
            "answers": answers,
            "height": height,
            "width": width,
            "parts": [labels[part] for part in _there(labels)],
            "least": self.decoder.least,
        }
        return CForm.rendered(__package__, "back_end_golden", **values)


def _there(labels: Mapping[str, object]) -> list[str]:
    """Return the names of the outputs in the order of arguments."""
    return [part for part in (OBJECTNESS, BOX, CLASSES) if part in labels]
