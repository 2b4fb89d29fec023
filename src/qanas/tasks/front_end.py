"""Front ends: what makes a network's input of a raw one, in Python and in C."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from qanas.core.c_text import render

RawType = Literal["double", "float", "int16_t", "uint8_t"]


@dataclass(frozen=True)
class CForm:
    """A front end as C99 that C++17 takes as well.

    Attributes:
        declarations: of the header: at least ``void NAME_preprocess(const TYPE *raw, size_t rows, float *input);``.
            It stands behind ``<stddef.h>`` and ``<stdint.h>``, within ``extern "C"``.
        definitions: of the source, behind the header and ``<math.h>``; whatever else it defines is static, or begins
            with the name. ``NAME_INPUT_SIZE`` (in capitals) and ``QANAS_CAST(type, value)``, a cast in either
            language, are there.
    """

    declarations: str
    definitions: str

    @classmethod
    def rendered(cls, package: str | None, template: str, **values: Any) -> CForm:  # noqa: ANN401 - of the templates
        """Return what the templates ``TEMPLATE.h.jinja`` and ``TEMPLATE.c.jinja`` make of some values.

        Args:
            package: in whose folder they lie.
            template: their name.
            values: that they name.
        """
        header, source = (render(package or "", f"{template}.{suffix}.jinja", **values) for suffix in ("h", "c"))
        return cls(header, source)


@dataclass(frozen=True)
class FrontEndCost:
    """What a front end takes beside the network. Its code is not counted, nor is the raw input.

    Attributes:
        macs: multiply-accumulates of one input, about.
        ram_bytes: that it keeps between calls and works in.
        flash_bytes: of its tables.
    """

    macs: int
    ram_bytes: int
    flash_bytes: int


class FrontEnd(ABC):
    """What makes a network's input of a raw one: rows of readings, samples of sound, a picture's lines of pixels.

    Both forms compute the same; quantized, the input of one is within a step of the other's
    (`qanas.testing.check_front_end`).
    """

    raw_type: ClassVar[RawType]
    """Of the raw values in C."""

    @property
    @abstractmethod
    def row_size(self) -> int:
        """Raw values in a row."""

    @property
    @abstractmethod
    def rows(self) -> int:
        """Rows that an input is made of, at most."""

    @property
    @abstractmethod
    def described(self) -> str:
        """What a row is, for people: a sentence."""

    @property
    def cost(self) -> FrontEndCost | None:
        """What it takes; None, by default: nobody knows, and limits are on the network alone."""
        return None

    @abstractmethod
    def input_of(self, raw: NDArray[Any]) -> NDArray[np.float32]:
        """Return a network's input, shape input_shape.

        Args:
            raw: the last rows, at least one, shape (rows, row_size).
        """

    @abstractmethod
    def c_form(self, name: str, axes: tuple[int, ...]) -> CForm | None:
        """Return the same as C, or None where it isn't written for this order of axes.

        Args:
            name: what every identifier begins with.
            axes: for each axis of the input as a file stores it, its number in torch; empty where both orders are one.
        """
