"""A program as one C99 file and its header, and a program that holds it against golden vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qanas.core.c_text import Side, labels, render
from qanas.deployment.standalone.emitter import Emitter, NotCoveredError
from qanas.deployment.standalone.fusing import fused
from qanas.deployment.standalone.lowerings import LOWERINGS
from qanas.deployment.standalone.memory import computed, laid_out
from qanas.deployment.standalone.moves import views
from qanas.quantization.program import Program, RuntimeOperator, RuntimeTensor


@dataclass(frozen=True)
class Border:
    """An input or output as the header has it.

    Attributes:
        label: what its function has behind the model's name.
        offset: where it lies in the model's memory.
        size: codes.
        shape: with the batch of 1 in front.
    """

    label: str
    offset: int
    size: int
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Standalone:
    """A model that needs no interpreter.

    Attributes:
        name: what every identifier and file begins with, see `qanas.core.c_text.identifier`.
        header: text of its header.
        source: text of its C file.
        main: text of a program that runs the golden vectors of the firmware folder.
        ram_bytes: of its memory: values, and what kernels work in; the stack is not counted.
        inputs: in their order.
        outputs: in their order.
    """

    name: str
    header: str
    source: str
    main: str
    ram_bytes: int
    inputs: Sequence[Border] = ()
    outputs: Sequence[Border] = ()

    @classmethod
    def of(cls, name: str, program: Program, *, raw: bool = False) -> Standalone:
        """Return a program as C.

        Args:
            name: identifiers begin with it.
            program: with codes of 8 bits.
            raw: whether golden vectors begin at the raw input.

        Raises:
            NotCoveredError: an operator that no kernel is there for, in one line.
        """
        program = fused(program)
        emitter = emitted(program)
        sides: tuple[tuple[Side, dict[str, RuntimeTensor]], ...] = (
            ("input", dict(program.inputs)),
            ("output", dict(program.outputs)),
        )
        borders = {side: _borders(side, tensors, emitter) for side, tensors in sides}
        values = {
            "name": name,
            "inputs": borders["input"],
            "outputs": borders["output"],
            "ram_bytes": emitter.layout.size,
            "kernels": emitter.kernel_text(),
            "constants": emitter.constants,
            "calls": emitter.calls,
            "raw": raw,
        }
        header, source = (render(__package__ or "", f"standalone.{end}.jinja", **values) for end in "hc")
        main = render(__package__ or "", "main.c.jinja", **values)
        return cls(name, header, source, main, emitter.layout.size, borders["input"], borders["output"])

    def files(self) -> dict[str, str]:
        """Return the texts by file name."""
        named = f"{self.name}_standalone"
        return {f"{named}.h": self.header, f"{named}.c": self.source, "main.c": self.main}


def emitted(program: Program) -> Emitter:
    """Return a program's parts in C.

    Args:
        program: with codes of 8 bits, see `fused`.

    Raises:
        NotCoveredError: an operator that no kernel is there for, in one line.
    """
    operators = program.operators
    for operator in operators:
        if operator.kind not in LOWERINGS:
            raise NotCoveredError(f"{operator.kind}: there is no C kernel for it")
    emitter = Emitter(laid_out(program, views, _scratch_bytes))
    for operator in operators:
        emitter.begin(operator)
        before = len(emitter.calls)
        LOWERINGS[operator.kind].emit(emitter, operator)
        emitter.calls[before:] = [f"{call} /* {_described(operator)} */" for call in emitter.calls[before:]]
    return emitter


def _scratch_bytes(operator: RuntimeOperator) -> int:
    return LOWERINGS[operator.kind].scratch(operator)


def _described(operator: RuntimeOperator) -> str:
    sources, results = (
        ", ".join(str(list(tensor.shape[1:])) for tensor in tensors)
        for tensors in (computed(operator.inputs), operator.outputs)
    )
    return f"{operator.kind} {sources} -> {results}"


def _borders(side: Side, tensors: dict[str, RuntimeTensor], emitter: Emitter) -> list[Border]:
    named = labels(side, list(tensors))
    for tensor in tensors.values():
        if tensor.dtype != "int8":
            raise NotCoveredError(f"{side}: values of {tensor.dtype}, not of 8 bits")
    return [
        Border(named[name], emitter.layout.offset(tensor), tensor.elements, tensor.shape)
        for name, tensor in tensors.items()
    ]
