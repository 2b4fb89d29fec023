"""What the coverage of the tests rests on: each statement says that it was reached, and does what it did."""

from __future__ import annotations

import ast
import importlib
import re
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

TOOLS = Path(__file__).parents[2] / "tools"

CODE = '''"""A docstring."""
from __future__ import annotations

from functools import cache

class One:
    """Another."""

    number: int = 3

    @cache
    def told(self, what: object) -> str:
        """A third."""
        if what is None:
            return "nothing"
        elif what == 1:
            found = [
                each
                for each in "one"
            ]
        else:
            try:
                found = list(what)
            except TypeError:
                return "no list"
            finally:
                self.number += 1
        match found:
            case ["o", *_]:
                return "o"
            case []:
                return "empty"
        while found:
            found.pop()
        else:
            return "done"

@part
def left_alone():
    return 1
'''
DECORATED = "def part(function):\n    return function\n"


def decorators(node: ast.AST) -> list[int]:
    return [each.lineno for each in getattr(node, "decorator_list", [])]


def traced(code: str, calls: list[Any]) -> tuple[set[int], list[str], str | None]:
    """Run the code under `sys.settrace`; the lines that were run, and what it says."""
    lines: set[int] = set()

    def trace(frame: FrameType, event: str, _: object) -> Any:  # noqa: ANN401 - itself
        if frame.f_code.co_filename != "code":
            return None
        if event == "line":
            lines.add(frame.f_lineno)
        return trace

    names: dict[str, Any] = {}
    exec(DECORATED, names)  # noqa: S102 - ours
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        exec(compile(code, "code", "exec"), names)  # noqa: S102 - ours
        said = [names["One"]().told(call) for call in calls]
    finally:
        sys.settrace(before)
    return lines, said, names["__doc__"]


@pytest.mark.parametrize("calls", [[], [None], [1], ["ab", ()], [2], [None, 1, (), "ab", 2]], ids=str)
def test_lines_are_those_that_a_tracer_sees(monkeypatch: pytest.MonkeyPatch, calls: list[Any]) -> None:
    monkeypatch.syspath_prepend(TOOLS)
    reached_lines = importlib.import_module("reached_lines")
    expected, said, doc = traced(CODE, calls)
    lines: set[int] = set()
    names: dict[str, Any] = {reached_lines.NOTE: lines.add}
    exec(DECORATED, names)  # noqa: S102 - ours
    exec(compile(reached_lines.Noting().visit(ast.parse(CODE)), "code", "exec"), names)  # noqa: S102 - ours
    assert [names["One"]().told(call) for call in calls] == said
    assert names["__doc__"] == doc
    # A `case` that wasn't taken isn't noted; docstrings and future imports are no lines that run.
    told = {number for number, line in enumerate(CODE.splitlines(), 1) if not re.search('"""|case|__future__', line)}
    found = [node for node in ast.walk(ast.parse(CODE)) if isinstance(node, ast.stmt)]
    statements = {line for node in found for line in (node.lineno, *decorators(node))} & told
    assert lines & statements == expected & statements
    assert names["left_alone"].__code__.co_names == ()
