"""Quantized networks as C in one shared library, held against their simulation."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from qanas.core.c_text import Side, array, labels
from qanas.deployment.standalone.model import Standalone
from qanas.quantization.border import Border
from qanas.quantization.numbers.affine import Affine
from qanas.quantization.quantized_graph import QuantizedGraph

STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror")

Codes = Mapping[str, NDArray[np.int8]]


def written(networks: Mapping[str, QuantizedGraph], folder: Path) -> list[str]:
    """Write the sources of networks by their C names; return the names of files to be compiled."""
    for name, quantized in networks.items():
        files = Standalone.of(name, quantized.program()).files()
        del files["main.c"]
        for file, text in files.items():
            (folder / file).write_text(text, "utf-8")
    return [f"{name}_standalone.c" for name in networks]


def compiled(networks: Mapping[str, QuantizedGraph], folder: Path, *options: str) -> ctypes.CDLL:
    """Write and compile networks by their C names, all into one library."""
    sources = written(networks, folder)
    command = ["cc", *STRICT, *options, "-shared", "-fPIC", *sources, "-o", "models.so"]
    subprocess.run(command, cwd=folder, check=True)
    return ctypes.CDLL(str(folder / "models.so"))


def random_codes(quantized: QuantizedGraph, count: int, seed: int = 0) -> Codes:
    """Return codes of the inputs by their names, each of shape (count, *stored shape), ends among them."""
    generator = np.random.default_rng(seed)
    names = quantized.graph.border.input_names
    found = {}
    for name, shape in zip(names, quantized.graph.inputs.values(), strict=True):
        codes = generator.integers(-128, 128, (count, *shape)).astype(np.int8)
        codes[0], codes[-1] = codes[0] >> 3, np.where(codes[-1] > 0, 127, -128)
        found[name] = codes
    return found


def simulated(quantized: QuantizedGraph, codes: Codes) -> Codes:
    """Return the simulation's outputs for inputs' codes, both as stored, by their names."""
    border: Border = quantized.graph.border
    real = {
        port.name: _real(codes[port.name], quantized.inputs[port.name]).permute(
            port.order.to_torch(codes[port.name].ndim)
        )
        for port in border.inputs
    }
    outputs = quantized.codes(real)
    return {
        port.name: outputs[port.name].permute(port.order.to_stored(outputs[port.name].ndim)).numpy().astype(np.int8)
        for port in border.outputs
    }


def _real(codes: NDArray[np.int8], affine: Affine) -> torch.Tensor:
    return affine.dequantize(torch.from_numpy(codes.astype(np.float32)))


def computed(library: ctypes.CDLL, name: str, quantized: QuantizedGraph, codes: Codes) -> Codes:
    """Return what the C of a network computes, likewise."""

    def places(side: Side, names: Sequence[str]) -> dict[str, int]:
        found = {}
        for each, label in labels(side, names).items():
            function = getattr(library, f"{name}_standalone_{label}")
            function.restype = ctypes.c_void_p
            found[each] = function()
        return found

    border = quantized.graph.border
    inputs, outputs = places("input", border.input_names), places("output", border.output_names)
    shapes = {port: quantized.graph.shapes[v] for port, v in zip(outputs, quantized.graph.outputs, strict=True)}
    count = len(next(iter(codes.values())))
    found: dict[str, list[NDArray[np.int8]]] = {each: [] for each in outputs}
    for at in range(count):
        for each, place in inputs.items():
            sample = np.ascontiguousarray(codes[each][at])
            ctypes.memmove(place, sample.ctypes.data, sample.size)
        getattr(library, f"{name}_standalone_run")()
        for each, place in outputs.items():
            raw = ctypes.string_at(place, int(np.prod(shapes[each])))
            found[each].append(np.frombuffer(raw, np.int8).reshape(shapes[each]))
    return {each: np.stack(parts) for each, parts in found.items()}


def differing(library: ctypes.CDLL, name: str, quantized: QuantizedGraph, count: int = 6) -> int:
    """Return how many outputs of random inputs are not the simulation's."""
    codes = random_codes(quantized, count)
    wanted, found = simulated(quantized, codes), computed(library, name, quantized, codes)
    return sum(int(np.count_nonzero(wanted[each] != found[each])) for each in wanted)


def comparing_program(networks: Mapping[str, QuantizedGraph], count: int = 3) -> str:
    """Return a C program that runs networks on random inputs and prints how many outputs are not the simulation's."""
    parts, calls = [], []
    for name, quantized in networks.items():
        codes = random_codes(quantized, count)
        sides: list[tuple[Side, Codes]] = [("input", codes), ("output", simulated(quantized, codes))]
        parts.append(f'#include "{name}_standalone.h"')
        for side, values in sides:
            for each, label in labels(side, list(values)).items():
                rows = values[each].reshape(count, -1)
                text = ",\n".join(f"{{{array(row)}}}" for row in rows.tolist())
                parts.append(f"static const int8_t {name}_{label}[{count}][{rows.shape[1]}] = {{{text}}};")
        for at in range(count):
            places = [f"{name}_{label}[{at}]" for label in labels("input", list(codes)).values()]
            calls += [
                f"memcpy({place.replace(f'{name}_', f'{name}_standalone_').split('[')[0]}(), {place}, sizeof {place});"
                for place in places
            ]
            calls.append(f"{name}_standalone_run();")
            for label in labels("output", list(sides[1][1])).values():
                wanted = f"{name}_{label}[{at}]"
                calls.append(f"wrong += differing({name}_standalone_{label}(), {wanted}, sizeof {wanted});")
        calls.append(f'printf("{name} %d\\n", wrong); wrong = 0;')
    body = "\n  ".join(calls)
    return f"{COMPARING}{chr(10).join(parts)}\nint main(void) {{\n  int wrong = 0;\n  {body}\n  return 0;\n}}\n"


COMPARING = """#include <stdint.h>
#include <stdio.h>
#include <string.h>

static int differing(const int8_t *found, const int8_t *wanted, size_t count) {
  int wrong = 0;
  for (; count > 0; --count) wrong += *found++ != *wanted++ ? 1 : 0;
  return wrong;
}
"""
