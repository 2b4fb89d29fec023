"""Back ends: what becomes of a network's outputs behind it, in Python and in C."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from qanas.tasks.front_end import CForm


class BackEnd(ABC):
    """What makes an answer of a network's outputs: boxes of a map of cells. Both forms give the same answers."""

    @property
    @abstractmethod
    def described(self) -> str:
        """How its C is called, for people: a sentence or two."""

    @abstractmethod
    def c_form(self, name: str, labels: Mapping[str, tuple[str, str]], axes: Mapping[str, tuple[int, ...]]) -> CForm:
        """Return it as C.

        It stands behind ``NAME.h``, whose ``NAME_dequantize_LABEL`` gives the real value of a code.

        Args:
            name: what every identifier begins with.
            labels: of each output by its name, and the type of its codes.
            axes: for each axis of an output as the file stores it, its number in torch; empty where both are one.
        """

    @abstractmethod
    def golden_form(self, name: str, labels: Mapping[str, str], outputs: Mapping[str, NDArray[Any]]) -> CForm:
        """Return the answers to some outputs, and ``int32_t NAME_golden_answers_wrong(void)``, how many C misses.

        It stands behind ``NAME_golden.h``, whose ``NAME_golden_LABEL`` are the outputs' codes.

        Args:
            name: what every identifier begins with.
            labels: of each output by its name.
            outputs: real values as the torch network has them, each of shape (n, ...), by name.
        """
