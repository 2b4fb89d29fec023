"""From logits' codes to the class of every pixel on a microcontroller: that of the largest code, none dequantized."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from qanas.tasks.back_end import BackEnd
from qanas.tasks.front_end import CForm


@dataclass(frozen=True)
class ClassesBackEnd(BackEnd):
    """The class of each pixel, of the only output of a network. Its logits share a scale: so do their codes' order.

    Attributes:
        classes: how many there are.
        size: rows and columns of the output.
    """

    classes: int
    size: tuple[int, int]

    @property
    def described(self) -> str:
        """How it is called."""
        rows, columns = self.size
        return (
            f"`..._classes` tells the class of each of the {rows} x {columns} pixels of the output's codes, row by "
            "row, by its number in the card's `classes`, from 0"
        )

    def c_form(self, name: str, labels: Mapping[str, tuple[str, str]], axes: Mapping[str, tuple[int, ...]]) -> CForm:
        """Return ``NAME_classes``."""
        ((output, (_, kind)),) = labels.items()
        return CForm.rendered(__package__, "back_end", name=name, back_end=self, type=kind, planar=not axes[output])

    def golden_form(self, name: str, labels: Mapping[str, str], outputs: Mapping[str, NDArray[Any]]) -> CForm:
        """Return the classes of each output's pixels."""
        ((output, label),) = labels.items()
        answers = outputs[output].argmax(axis=1)
        flat = answers.reshape(len(answers), -1).tolist()
        return CForm.rendered(__package__, "back_end_golden", name=name, label=label, answers=flat)
