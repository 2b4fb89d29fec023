"""Latency by a table: operators measured each by itself, a network the sum of its own.

Sums of operators rank networks as whole measurements do where kernels run one after the other and share nothing
(Kendall tau .99 on a host without a delegate, 1.0 in TFLite Micro); on accelerators that fuse and stream they don't.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from qanas.core.errors import InputError
from qanas.deployment.tflite import write_tflite
from qanas.deployment.tflite_reader import read_tflite
from qanas.hardware.latency.base import Figure, Figured, LatencySource
from qanas.hardware.latency.figures_file import FiguresFile
from qanas.quantization.program import Program, RuntimeOperator, RuntimeTensor

WHOLES = 5
"""Networks that are taken whole beside a table's operators."""

MOST_OVERHEAD = 0.98
"""Of the cheapest operator: nothing takes no time."""


class TableFile(FiguresFile):
    """What a table's file holds.

    Attributes:
        values: of each operator by its signature, without the overhead.
        overhead: what an inference has once, whatever the network; each operator that was taken by itself had it too.
        wholes: networks that were taken whole beside their operators, the smallest.
        off: mean relative error of the sums on these.
    """

    key: ClassVar[str] = "device.latency.path"
    held: ClassVar[str] = "table"
    made_by: ClassVar[str] = "qanas table"
    values: dict[str, float]
    overhead: Figured = 0.0
    wholes: int = 0
    off: float = 0.0

    @property
    def sums(self) -> str:
        """How far sums were off, for cards; nothing where no network was taken whole."""
        return f"; sums are {self.off:.1%} off on {self.wholes} whole networks" if self.wholes else ""


class Table(LatencySource):
    """A sum over operators, each looked up.

    Attributes:
        path: of the table's file; relative ones start from the device's file.
    """

    method: Literal["table"]
    path: str

    @property
    def _file(self) -> TableFile:
        return TableFile.read(Path(self.path))

    @property
    def figure(self) -> Figure:
        """What its file counts."""
        return self._file.figure

    @property
    def additive(self) -> bool:
        """It is."""
        return True

    @property
    def digest(self) -> str:
        """Changes with the table's content."""
        return self._file.digest

    @property
    def described(self) -> str:
        """What the table was made by, and when."""
        table = self._file
        return f"sum of operators from a table of {table.device}, {table.date}: {table.protocol}{table.sums}"

    def of(self, contents: Sequence[bytes]) -> list[float]:
        """Return the sum over each file's operators.

        Raises:
            InputError: it is no .tflite file, or has operators that the table lacks.
        """
        table = self._file
        return [table.overhead + sum(self.by_operator(read_tflite(content))) for content in contents]

    def by_operator(self, program: Program) -> list[float]:
        """Return what the table has of each operator.

        Raises:
            InputError: it lacks one.
        """
        operators, known = program.operators, self._file.values
        signatures = [signature(operator) for operator in operators]
        lacking = [operator.kind for operator, name in zip(operators, signatures, strict=True) if name not in known]
        if lacking:
            raise InputError(
                f"{self.path} lacks {len(lacking)} of {len(operators)} operators, the first a {lacking[0]}; add them "
                "with qanas table"
            )
        return [known[name] for name in signatures]


def signature(operator: RuntimeOperator) -> str:
    """Return what an operator's time depends on: its kind, options, and the shapes and types of all it touches."""

    def told(tensor: RuntimeTensor | None) -> list[Any] | None:
        return None if tensor is None else [list(tensor.shape), tensor.dtype, tensor.data is not None]

    options = {name: value for name, value in sorted(operator.options.items()) if isinstance(value, int | float)}
    whole = [operator.kind, options, [told(t) for t in operator.inputs], [told(t) for t in operator.outputs]]
    return json.dumps(whole, separators=(",", ":"))


def alone(operator: RuntimeOperator) -> bytes:
    """Return a .tflite file of one operator: what it is given are inputs, what it gives outputs."""
    given = {id(t): t for t in operator.inputs if t is not None and t.data is None and not t.variable}
    inputs = {f"input_{number}": tensor for number, tensor in enumerate(given.values())}
    outputs = {f"output_{number}": tensor for number, tensor in enumerate(operator.outputs)}
    program = Program(inputs, outputs)
    program.append(operator)
    return write_tflite(program)


def distinct_operators(contents: Iterable[bytes]) -> dict[str, RuntimeOperator]:
    """Return every operator of some files once, by its signature."""
    return {signature(operator): operator for content in contents for operator in read_tflite(content).operators}


def make_table(name: str, source: LatencySource, contents: Iterable[bytes], path: Path) -> TableFile:
    """Measure the operators of some files that a table lacks, all in turns, and write it.

    Where the source doesn't say what every inference has once, a few of the files are taken whole, and tell it: sums of
    operators that were taken by themselves have it once an operator.

    Args:
        name: of the device.
        source: what takes them.
        contents: .tflite files.
        path: of the table; one that is there by the same protocol is added to, and keeps its overhead.

    Raises:
        InputError: there is a table of another device or protocol, or an operator can't be taken.
    """
    files = list(contents)
    before = TableFile.read(path) if path.is_file() else None
    now = TableFile.taken(name, source, values={})
    if before is not None and (before.device, before.figure, before.protocol) != (now.device, now.figure, now.protocol):
        raise InputError(f"{path}: it is of {before.device}, {before.protocol}; name another file for {name}")
    known = {} if before is None else before.values
    lacking = {name: one for name, one in distinct_operators(files).items() if name not in known}
    taken = dict(zip(lacking, source.of([alone(one) for one in lacking.values()]), strict=True)) if lacking else {}
    wholes = [] if source.additive else _wholes(source, files)
    overhead = source.overhead if before is None else before.overhead
    if overhead is None:
        overhead = min([_overhead(taken, wholes), *(value * MOST_OVERHEAD for value in taken.values())])
    values = {**known, **{name: value - overhead for name, value in taken.items()}}
    off = [abs((overhead + sum(values[name] for name in names)) / value - 1.0) for names, value in wholes]
    told = {"values": values, "overhead": overhead, "wholes": len(wholes), "off": float(np.mean(off)) if off else 0.0}
    table = now.model_copy(update=told)
    table.write(path)
    return table


def _wholes(source: LatencySource, files: Sequence[bytes]) -> list[tuple[list[str], float]]:
    """Return the operators' signatures and the figure of the smallest of some files, in which an overhead shows most.

    None where the source can't take one of them: its operators may fit a board that it doesn't fit.
    """
    smallest = sorted(set(files), key=lambda content: (len(content), content))[:WHOLES]
    try:
        taken = source.of(smallest)
    except InputError:
        return []
    names = [[signature(operator) for operator in read_tflite(content).operators] for content in smallest]
    return list(zip(names, taken, strict=True))


def _overhead(taken: Mapping[str, float], wholes: Sequence[tuple[Sequence[str], float]]) -> float:
    """Return what the sums of operators have too much of whole networks, for each operator but one; none below 0."""
    found = [
        (sum(taken[name] for name in names) - value) / (len(names) - 1) for names, value in wholes if len(names) > 1
    ]
    return max(float(np.median(found)), 0.0) if found else 0.0
