"""The firmware folder: a CMake project and an Arduino library in one, over the same sources in ``src``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch

from qanas.core.c_text import INT32, plain, real, render
from qanas.deployment.arena import arena_bytes, has_states, operator_counts
from qanas.deployment.firmware.golden import GoldenVectors, differing_kinds, tolerated_steps
from qanas.deployment.firmware.tensors import FirmwareTensor, tensors_of
from qanas.deployment.litert import LiteRTModel
from qanas.deployment.operators import kind_of
from qanas.deployment.standalone.emitter import NotCoveredError
from qanas.deployment.standalone.model import Standalone
from qanas.deployment.tflite_reader import read_tflite
from qanas.quantization.border import Border
from qanas.tasks.back_end import BackEnd
from qanas.tasks.front_end import CForm, FrontEnd

NO_PREPROCESSING = (
    "the task gives no constants of it (TaskData.preprocessing): firmware can't tell what the model's input is made of"
)


@dataclass(frozen=True)
class Constant:
    """A number or a list of numbers as a C array.

    Attributes:
        name: its identifier.
        type: of an entry.
        values: as literals.
    """

    name: str
    type: str
    values: list[str]


@dataclass(frozen=True)
class Firmware:
    """What a model's firmware folder is made from.

    Attributes:
        name: what every identifier and file begins with, see `identifier`.
        content: the .tflite file.
        border: how its inputs and outputs are called and stored.
        peak_ram_bytes: working memory of its tensors.
        golden: at least one input with its output.
        preprocessing: the card's.
        front_end: makes the input of a raw one, if there is such; then the preprocessing's constants are in its C form.
        back_end: makes an answer of the outputs, if there is such.
        warning: what is missing, in words, for its README; empty if nothing is.
    """

    name: str
    content: bytes
    border: Border
    peak_ram_bytes: int
    golden: GoldenVectors
    preprocessing: Mapping[str, Any]
    front_end: FrontEnd | None = None
    back_end: BackEnd | None = None
    warning: str = ""

    def files(self) -> dict[str, str]:
        """Return the texts of the folder by file name."""
        name = self.name
        parts = ["", "_golden", *(["_preprocessing"] if self.has_preprocessing else [])]
        made = {f"src/{name}{part}{end}": f"{part[1:] or 'model'}{end}" for part in parts for end in (".h", ".c")}
        made |= {f"src/{name}_tflm.h": "tflm.h", "examples/golden/golden.ino": "golden.ino"}
        if self.back_end is not None:
            parts += ["_postprocessing", "_golden_answers"]
            made |= {f"src/{name}_postprocessing{end}": f"postprocessing{end}" for end in (".h", ".c")}
            made |= {f"src/{name}_golden_answers.c": "golden_answers.c"}
        made |= {file: file for file in ("main.cc", "CMakeLists.txt", "library.properties", "README.md")}
        values = self._values([f"{name}{part}.c" for part in parts])
        texts = {file: render(__package__ or "", f"{template}.jinja", **values) for file, template in made.items()}
        standalone = self.standalone.files() if isinstance(self.standalone, Standalone) else {}
        return texts | {f"standalone/{file}": text for file, text in standalone.items()}

    @cached_property
    def standalone(self) -> Standalone | str:
        """The model without an interpreter, or why there is no such form of it, in one line."""
        try:
            return Standalone.of(self.name, read_tflite(self.content, self.border), raw=bool(self._golden.raw))
        except NotCoveredError as error:
            return str(error)

    @property
    def _golden(self) -> GoldenVectors:
        """The golden vectors, from the raw input on only where C makes something of it."""
        return self.golden if self.c_form else GoldenVectors(self.golden.inputs, self.golden.outputs)

    @property
    def has_preprocessing(self) -> bool:
        """Whether there is any, in C or as constants."""
        return self.c_form is not None or bool(self.constants)

    @cached_property
    def tensors(self) -> list[FirmwareTensor]:
        """Of the model: inputs, then outputs."""
        return tensors_of(LiteRTModel(self.content, border=self.border))

    @cached_property
    def c_form(self) -> CForm | None:
        """Of the front end, where it has one for this model's only input."""
        inputs = [tensor for tensor in self.tensors if tensor.side == "input"]
        if self.front_end is None or len(inputs) > 1:
            return None
        return self.front_end.c_form(self.name, inputs[0].axes)

    @cached_property
    def answering(self) -> tuple[CForm, CForm] | None:
        """Of the back end, if there is one, and what its answers to the golden outputs are."""
        if self.back_end is None:
            return None
        outputs = {tensor.name: tensor for tensor in self.tensors if tensor.side == "output"}
        labels = {name: tensor.label for name, tensor in outputs.items()}
        form = self.back_end.c_form(
            self.name,
            {name: (tensor.label, tensor.type) for name, tensor in outputs.items()},
            {name: tensor.axes for name, tensor in outputs.items()},
        )
        real = {}
        for port in self.border.outputs:
            codes = torch.from_numpy(self.golden.outputs[port.name])
            values = outputs[port.name].affine.dequantize(codes.to(torch.int32))
            real[port.name] = values.permute(port.order.to_torch(values.ndim)).numpy()
        return form, self.back_end.golden_form(self.name, labels, real)

    @cached_property
    def constants(self) -> list[Constant]:
        """Of the preprocessing, where it has no C form; names that C makes alike are told apart."""
        found: dict[str, Constant] = {}
        for constant in () if self.c_form else _constants(self.preprocessing, f"{self.name}_preprocessing"):
            name = constant.name
            while name in found:
                name += "_"
            found[name] = replace(constant, name=name)
        return list(found.values())

    def _values(self, sources: list[str]) -> dict[str, Any]:
        """Return what the templates name."""
        golden = self._golden
        sides = {"input": golden.inputs, "output": golden.outputs}
        operators = operator_counts(self.content)
        methods = {kind: kind_of(kind).resolver_method for kind in sorted(operators)}
        outputs = [tensor for tensor in self.tensors if tensor.side == "output"]
        raw_size = self.front_end.rows * self.front_end.row_size if self.front_end else 0
        return {
            "name": self.name,
            "content": self.content,
            "bytes": [f"0x{byte:02x}" for byte in self.content],
            "arena_bytes": arena_bytes(self.content, self.peak_ram_bytes),
            "stateful": has_states(self.content),
            "tensors": self.tensors,
            "tolerances": {tensor.label: tolerated_steps(operators, tensor.affine.bits) for tensor in outputs},
            "reasons": sorted({k for tensor in outputs for k in differing_kinds(operators, tensor.affine.bits)}),
            "kinds": list(methods.items()),
            "operators": list(methods.values()),
            "front_end": self.front_end,
            "c_form": self.c_form,
            "back_end": self.back_end,
            "answering": self.answering[0] if self.answering else None,
            "golden_answers": self.answering[1] if self.answering else None,
            "constants": self.constants,
            "has_preprocessing": self.has_preprocessing,
            "golden": golden,
            "codes": {
                tensor.label: sides[tensor.side][tensor.name].reshape(golden.count, -1).tolist()
                for tensor in self.tensors
            },
            "raw": [[_literal(value) for value in rows.reshape(-1).tolist()] for rows in golden.raw],
            "raw_size": raw_size,
            "sources": sources,
            "standalone": self.standalone if isinstance(self.standalone, Standalone) else None,
            "no_standalone": self.standalone,
            "warning": self.warning,
        }


def _literal(value: float) -> str:
    return str(value) if isinstance(value, int) else real(value, "")


def _constants(table: Mapping[str, Any], prefix: str) -> Iterator[Constant]:
    """Yield every number and list of numbers in nested tables and lists, with a name made of the path."""
    for key, value in table.items():
        name = f"{prefix}_{plain(str(key))}"
        if isinstance(value, Mapping):
            yield from _constants(value, name)
        elif isinstance(value, bool | str) or value is None:
            continue
        elif isinstance(value, int | float):
            yield _constant(name, [value])
        elif value and all(isinstance(entry, int | float) for entry in value):
            yield _constant(name, list(value))
        else:
            yield from _constants({str(index): entry for index, entry in enumerate(value)}, name)


def _constant(name: str, values: list[int | float]) -> Constant:
    if all(isinstance(value, int) and INT32.min < value <= INT32.max for value in values):
        return Constant(name, "int32_t", [str(int(value)) for value in values])
    return Constant(name, "float", [real(value) for value in values])
