"""What firmware needs beside the model file: C sources that a microcontroller's project takes as they are."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qanas.deployment.arena import arena_bytes, operator_kinds
from qanas.deployment.litert import Codes, LiteRTModel
from qanas.deployment.operators import kind_of
from qanas.quantization.border import arrays_by_name
from qanas.quantization.numbers.affine import Affine

BYTES_PER_LINE = 12

RULE = """\
A fused LSTM keeps its hidden and cell state between invocations. Call interpreter.Reset() before each
independent window, or the model continues the sequence it saw before."""


@dataclass(frozen=True)
class GoldenVectors:
    """Inputs and the outputs that LiteRT's reference kernels give for them, states reset before each.

    Attributes:
        inputs: int8 or int16 codes, each of shape (n, *shape), by the inputs' names.
        outputs: int8 or int16 codes, each of shape (n, *shape), by the outputs' names.
    """

    inputs: Mapping[str, Codes]
    outputs: Mapping[str, Codes]

    @classmethod
    def record(
        cls, model: LiteRTModel, inputs: NDArray[np.float32] | Mapping[str, NDArray[np.float32]]
    ) -> GoldenVectors:
        """Run a model on the torch network's real inputs, each of shape (n, *shape), by name where there are several.

        What is recorded is in the stored order.
        """
        codes = model.quantize(arrays_by_name(inputs, model.border.input_names))
        count = len(next(iter(codes.values())))
        found = [model.invoke({name: part[at : at + 1] for name, part in codes.items()}) for at in range(count)]
        return cls(codes, {name: np.concatenate([entry[name] for entry in found]) for name in model.outputs})


def firmware_files(
    content: bytes, peak_ram_bytes: int, preprocessing: Mapping[str, Any], golden: GoldenVectors
) -> dict[str, str]:
    """Return the texts of the firmware folder by file name.

    Args:
        content: the .tflite file.
        peak_ram_bytes: working memory of its tensors.
        preprocessing: the card's.
        golden: at least one input with its output.
    """
    return {
        "model.h": _header(content, peak_ram_bytes),
        "model.c": _array_source(content),
        "operators.h": _operators(content),
        "preprocessing.h": _preprocessing(preprocessing),
        "golden.h": _golden(golden),
        "README.md": _readme(content, peak_ram_bytes),
    }


def _guarded(name: str, body: str) -> str:
    return f"#ifndef QANAS_{name}_H_\n#define QANAS_{name}_H_\n\n{body}\n#endif\n"


def _numbers(values: Sequence[int | float | str], per_line: int = BYTES_PER_LINE) -> str:
    lines = [values[start : start + per_line] for start in range(0, len(values), per_line)]
    return ",\n".join("    " + ", ".join(map(str, line)) for line in lines)


def _header(content: bytes, peak_ram_bytes: int) -> str:
    model = LiteRTModel(content)
    sizes: dict[str, object] = {
        **_constants("INPUT", model.inputs, model.input_shapes),
        **_constants("OUTPUT", model.outputs, model.output_shapes),
        "ARENA_BYTES": arena_bytes(content, peak_ram_bytes),
    }
    lines = [f"#define QANAS_MODEL_{name} {value}" for name, value in sizes.items()]
    array = (
        '#ifdef __cplusplus\nextern "C" {\n#endif\n'
        f"extern const unsigned char qanas_model[{len(content)}];\n"
        "#ifdef __cplusplus\n}\n#endif\n"
        f"#define QANAS_MODEL_BYTES {len(content)}"
    )
    rule = "\n".join(f" * {line}" for line in RULE.splitlines())
    return _guarded("MODEL", "\n".join([f"/*\n{rule}\n */", "#include <stdint.h>", array, *lines, ""]))


def _constants(
    side: str, affines: Mapping[str, Affine | None], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, object]:
    """Return what firmware needs of inputs or outputs; the name of each is in its constants if there are several."""
    constants: dict[str, object] = {}
    for place, (name, prefix) in enumerate(_prefixes(side, list(affines)).items()):
        affine = affines[name]
        if affine is None:
            raise ValueError("firmware takes a model with integer inputs and outputs")
        if prefix != side:
            constants[f"{prefix}_INDEX"] = place
        constants |= {
            f"{prefix}_SIZE": int(np.prod(shapes[name])),
            f"{prefix}_TYPE": f"int{affine.bits}_t",
            f"{prefix}_SCALE": f"{affine.scale!r}f",
            f"{prefix}_ZERO_POINT": f"({affine.zero_point})",
        }
    return constants


def _prefixes(side: str, names: Sequence[str]) -> dict[str, str]:
    """Return what the identifiers of inputs or outputs begin with, by their names; all differ.

    >>> _prefixes("output", ["boxes", "class-scores"])
    {'boxes': 'output_boxes', 'class-scores': 'output_class_scores'}
    """
    if len(names) == 1:
        return {names[0]: side}
    prefixes: dict[str, str] = {}
    for name in names:
        plain = re.sub(r"\W", "_", name, flags=re.ASCII)
        # An output that is called output_0 already isn't called so twice.
        prefix = plain if plain.lower().startswith(f"{side.lower()}_") else f"{side}_{plain}"
        prefix = prefix.upper() if side.isupper() else prefix.lower()
        while prefix in prefixes.values():
            prefix += "_"
        prefixes[name] = prefix
    return prefixes


def _array_source(content: bytes) -> str:
    body = _numbers([f"0x{byte:02x}" for byte in content])
    return f'#include "model.h"\n\n_Alignas(16) const unsigned char qanas_model[{len(content)}] = {{\n{body}\n}};\n'


def _operators(content: bytes) -> str:
    kinds = operator_kinds(content)
    calls = " ".join(f"(resolver).{kind_of(kind).resolver_method}();" for kind in kinds)
    body = (
        "/* For tflite::MicroMutableOpResolver<QANAS_OPERATOR_COUNT>. */\n"
        f"#define QANAS_OPERATOR_COUNT {len(kinds)}\n"
        f"#define QANAS_ADD_OPERATORS(resolver) do {{ {calls} }} while (0)\n"
    )
    return _guarded("OPERATORS", body)


def _flat_numbers(table: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, list[int | float]]]:
    """Yield every number and list of numbers in nested tables and lists, with a name made of the path."""
    for key, value in table.items():
        name = f"{prefix}_{key}"
        if isinstance(value, Mapping):
            yield from _flat_numbers(value, name)
        elif isinstance(value, bool | str) or value is None:
            continue
        elif isinstance(value, int | float):
            yield name, [value]
        elif value and all(isinstance(entry, int | float) for entry in value):
            yield name, list(value)
        else:
            yield from _flat_numbers({str(index): entry for index, entry in enumerate(value)}, name)


def _preprocessing(preprocessing: Mapping[str, Any]) -> str:
    lines = []
    for name, values in _flat_numbers(preprocessing, "qanas"):
        whole = all(isinstance(value, int) for value in values)
        kind = "int" if whole else "float"
        texts = [str(value) if whole else f"{float(value)!r}f" for value in values]
        lines.append(f"static const {kind} {name}[{len(values)}] = {{\n{_numbers(texts, 6)}\n}};\n")
    return _guarded("PREPROCESSING", "\n".join(lines))


def _golden(golden: GoldenVectors) -> str:
    count = len(next(iter(golden.inputs.values())))

    def array(name: str, values: Codes) -> str:
        return (
            f"static const {values.dtype}_t qanas_golden_{name}[{count}][{values.shape[1]}] = {{\n{rows(values)}\n}};\n"
        )

    def rows(values: Codes) -> str:
        return ",\n".join(f"  {{\n{_numbers(row.tolist(), 20)}\n  }}" for row in values)

    arrays = [
        array(prefix, values[name].reshape(count, -1))
        for side, values in (("input", golden.inputs), ("output", golden.outputs))
        for name, prefix in _prefixes(side, list(values)).items()
    ]
    body = f"#include <stdint.h>\n\n#define QANAS_GOLDEN_COUNT {count}\n{''.join(arrays)}"
    return _guarded("GOLDEN", body)


def _readme(content: bytes, peak_ram_bytes: int) -> str:
    kinds = "\n".join(f"- {kind}: `{kind_of(kind).resolver_method}`" for kind in operator_kinds(content))
    return f"""# Firmware hand-over

- `model.h`, `model.c`: the model as an aligned C array; scales and zero points of its inputs and outputs. Where there
  are several, constants have their names, and `..._INDEX` is what `interpreter.input()` and `output()` take.
- `operators.h`: registers what the model needs with TFLite Micro's resolver.
- `preprocessing.h`: the constants of the card's `preprocessing`, under the names of its keys.
- `golden.h`: inputs and the outputs that LiteRT's reference kernels give. Run them on the board first. TFLite Micro's
  reference kernels give the same codes; but a FULLY_CONNECTED layer may be one step off, an LSTM two. Codes of 16
  bits may be two steps (of 1/256 of one of 8 bits) off behind a FULLY_CONNECTED layer, and one behind a SOFTMAX.

Operators:

{kinds}

Tensor arena: {arena_bytes(content, peak_ram_bytes)} bytes. That is enough for TFLite Micro with its reference
kernels, built for 64 bits; a 32-bit build needs less, optimized kernels (CMSIS-NN, Ethos-U) may need more.
`arena_used_bytes()` tells what it took; the interpreter needs some of the rest while it allocates.

{RULE}
"""
