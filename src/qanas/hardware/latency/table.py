"""Latency by a table: operators measured each by itself, a network the sum of its own.

Sums of operators rank networks as whole measurements do where kernels run one after the other and share nothing
(Kendall tau .99 on a host without a delegate, 1.0 in TFLite Micro); on accelerators that fuse and stream they don't.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from qanas.core.errors import InputError
from qanas.deployment.tflite import write_tflite
from qanas.deployment.tflite_reader import read_tflite
from qanas.hardware.latency.base import Figure, LatencySource
from qanas.hardware.latency.figures_file import FiguresFile
from qanas.quantization.program import Program, RuntimeOperator, RuntimeTensor


class TableFile(FiguresFile):
    """What a table's file holds.

    Attributes:
        values: of each operator by its signature.
    """

    key: ClassVar[str] = "device.latency.path"
    held: ClassVar[str] = "table"
    made_by: ClassVar[str] = "qanas table"
    values: dict[str, float]


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
        return hashlib.sha256(json.dumps(self._file.values, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def described(self) -> str:
        """What the table was made by, and when."""
        table = self._file
        return f"sum of operators from a table of {table.device}, {table.date}: {table.protocol}"

    def of(self, contents: Sequence[bytes]) -> list[float]:
        """Return the sum over each file's operators.

        Raises:
            InputError: it is no .tflite file, or has operators that the table lacks.
        """
        known = self._file.values
        return [sum(self._looked_up(read_tflite(content).operators, known)) for content in contents]

    def _looked_up(self, operators: Sequence[RuntimeOperator], known: Mapping[str, float]) -> list[float]:
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

    Args:
        name: of the device.
        source: what takes them.
        contents: .tflite files.
        path: of the table; one that is there by the same protocol is added to.

    Raises:
        InputError: there is a table of another device or protocol, or an operator can't be taken.
    """
    before = TableFile.read(path) if path.is_file() else None
    now = TableFile.taken(name, source, values={})
    if before is not None and (before.device, before.figure, before.protocol) != (now.device, now.figure, now.protocol):
        raise InputError(f"{path}: it is of {before.device}, {before.protocol}; name another file for {name}")
    known = {} if before is None else before.values
    lacking = {name: one for name, one in distinct_operators(contents).items() if name not in known}
    taken = source.of([alone(operator) for operator in lacking.values()]) if lacking else []
    table = now.model_copy(update={"values": {**known, **dict(zip(lacking, taken, strict=True))}})
    table.write(path)
    return table
