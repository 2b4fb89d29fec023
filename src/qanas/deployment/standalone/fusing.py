"""Operators that one kernel does together."""

from __future__ import annotations

from collections.abc import Mapping

from qanas.quantization.program import Program, RuntimeOperator, RuntimeTensor

LOOK_UP = "LOOK_UP"
"""The kind that takes the place of CAST, ADD and GATHER: inputs (codes, table), one entry a code."""


def fused(program: Program) -> Program:
    """Return a program in which a function by table (`qanas.quantization.operators.tables`) is one operator."""
    makers = {id(output): operator for operator in program.operators for output in operator.outputs}
    operators: list[RuntimeOperator] = []
    dropped: set[int] = set()
    for operator in program.operators:
        chain = _look_up(operator, makers)
        operators.append(chain[0] if chain else operator)
        dropped |= {id(each) for each in chain[1:]}
    kept = [operator for operator in operators if id(operator) not in dropped]
    return Program(program.inputs, program.outputs, kept)


def _look_up(operator: RuntimeOperator, makers: Mapping[int, RuntimeOperator]) -> list[RuntimeOperator]:
    """Return what takes a GATHER's place, and the operators in front of it that go; nothing if it is no look-up."""
    if operator.kind != "GATHER":
        return []
    table, positions = operator.inputs
    addition = makers.get(id(positions))
    if table is None or table.data is None or addition is None or addition.kind != "ADD":
        return []
    cast = makers.get(id(addition.inputs[0]))
    if cast is None or cast.kind != "CAST":
        return []
    inputs: list[RuntimeTensor | None] = [cast.inputs[0], table]
    return [RuntimeOperator(LOOK_UP, 1, inputs, operator.outputs), addition, cast]
