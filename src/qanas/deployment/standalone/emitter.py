"""What the C text of a model is collected in: kernels, constants, and calls in the order of execution."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from qanas.core.c_text import array
from qanas.deployment.standalone.memory import Layout
from qanas.quantization.numbers.affine import Affine
from qanas.quantization.program import ITEM_BITS, RuntimeOperator, RuntimeTensor

CType = Literal["int8_t", "int16_t", "int32_t"]
_PER_LINE: Mapping[str, int] = {"int8_t": 24, "int16_t": 16, "int32_t": 10}

INT16, INT32 = np.iinfo(np.int16), np.iinfo(np.int32)


class NotCoveredError(Exception):
    """A model with something that no kernel is there for: one line that names the operator."""


@dataclass(frozen=True)
class Definition:
    """A constant of a model's C file; its text is made when it is written.

    Attributes:
        kind: type of C: of an entry, or of a structure.
        name: identifier.
        values: of an array, shape (entries,); of a structure None.
        fields: of a structure, as they stand between its braces.
    """

    kind: str
    name: str
    values: NDArray[Any] | None = None
    fields: str = ""

    def __str__(self) -> str:
        if self.values is None:
            return f"static const {self.kind} {self.name} = {{{self.fields}}};"
        text = array([_literal(value) for value in self.values.tolist()], _PER_LINE[self.kind])
        return f"static const {self.kind} {self.name}[{self.values.size}] = {{\n{text}\n}};"


@dataclass
class Emitter:
    """Collects the parts of a model's C file.

    Attributes:
        layout: where values lie.
        kernels: names of kernels' files, without those that they need themselves.
        constants: definitions of arrays and layers, in order.
        calls: statements, one an operator that computes something.
        stored: names of what is defined already, by type and content.
        asked: every constant that was asked for, those that are equal to one before included.
        kind: of the operator that is being lowered.
    """

    layout: Layout
    kernels: dict[str, None] = field(default_factory=dict)
    constants: list[Definition] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    stored: dict[tuple[str, object], str] = field(default_factory=dict)
    asked: list[Definition] = field(default_factory=list)
    kind: str = ""

    def begin(self, operator: RuntimeOperator) -> None:
        """Say which operator comes."""
        self.kind = operator.kind

    def require(self, condition: object, what: str) -> None:
        """Refuse an operator.

        Raises:
            NotCoveredError: the condition doesn't hold.
        """
        if not condition:
            raise NotCoveredError(f"{self.kind}: {what}")

    def affine(self, tensor: RuntimeTensor) -> Affine:
        """Return the parameters of a value's codes of 8 bits."""
        quantization = tensor.quantization
        self.require(quantization is not None, "takes codes, not other numbers")
        assert quantization is not None  # noqa: S101 - said above
        self.require(tensor.dtype == "int8", f"values of {tensor.dtype}, not of 8 bits")
        return Affine(float(quantization.scales[0]), int(quantization.zero_points[0]), ITEM_BITS[tensor.dtype])

    def array(self, label: str, kind: CType, values: NDArray[Any]) -> str:
        """Return the name of a constant array of any shape; equal ones of one type are one."""
        flat = np.ascontiguousarray(values).reshape(-1).astype(f"int{kind[3:-2]}")
        key = (kind, flat.tobytes())
        if key not in self.stored:
            name = self.stored[key] = f"{label}_{len(self.calls)}"
            if any((known.kind, known.name) == (kind, name) for known in self.constants):
                name = self.stored[key] = f"{name}_{len(self.constants)}"
            self.constants.append(Definition(kind, name, flat))
        self.asked.append(Definition(kind, self.stored[key], flat))
        return self.stored[key]

    def layer(self, kind: str, *values: object) -> str:
        """Return the address of a constant structure."""
        text = ", ".join(_entry(value) for value in values)
        if (kind, text) not in self.stored:
            name = self.stored[kind, text] = f"{kind.removesuffix('_layer')}_{len(self.calls)}"
            self.constants.append(Definition(kind, name, fields=text))
        self.asked.append(Definition(kind, self.stored[kind, text], fields=text))
        return f"&{self.stored[kind, text]}"

    def small(self, value: int, what: str) -> int:
        """Return a number that kernels keep in 16 bits."""
        self.require(INT16.min <= value <= INT16.max, f"{what} is {value}, beyond 16 bits")
        return int(value)

    def address(self, tensor: RuntimeTensor, offset: int = 0) -> str:
        """Return where a value's codes lie, or those behind an offset."""
        if tensor.data is not None:
            name = self.array("codes", "int8_t", tensor.data)
            return f"{name} + {offset}" if offset else name
        return f"memory.bytes + {self.layout.offset(tensor) + offset}"

    def call(self, kernel: str, *arguments: str) -> None:
        """Append a call of the kernel that is named like its file."""
        self.kernels[kernel] = None
        self.calls.append(f"{kernel}({', '.join(arguments)});")

    def kernel_text(self) -> str:
        """Return the kernels that are called, behind what they need; headers of C are left out."""
        return "\n".join(_kernel(name) for name in self.needed_kernels())

    def needed_kernels(self) -> list[str]:
        """Return the names of the kernels that are called, each behind those that it needs itself."""
        return _with_needed(self.kernels)


_INCLUDED = re.compile(r'^#include "(\w+)\.c"\n', re.MULTILINE)
_HEADERS = re.compile(r"^#include <[\w.]+>\n+", re.MULTILINE)


@cache
def _source(name: str) -> str:
    return (files(__package__) / "kernels" / f"{name}.c").read_text("utf-8")


def _kernel(name: str) -> str:
    return _HEADERS.sub("", _INCLUDED.sub("", _source(name))).strip() + "\n"


def _with_needed(names: Mapping[str, None] | Sequence[str]) -> list[str]:
    """Return the names of kernels, each behind those that its file includes."""
    found: dict[str, None] = {}
    for name in names:
        found |= dict.fromkeys(_with_needed(_INCLUDED.findall(_source(name))))
        found[name] = None
    return list(found)


def _literal(value: int) -> str:
    """Return an integer of 32 bits that C takes in its type, the smallest one included."""
    return str(value) if value > INT32.min else "INT32_MIN"


def _entry(value: object) -> str:
    if isinstance(value, list | tuple):
        return f"{{{', '.join(_entry(part) for part in value)}}}"
    return value if isinstance(value, str) else _literal(int(value))  # type: ignore[call-overload]
