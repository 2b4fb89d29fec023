"""Note which lines of the package the tests reach, at little cost: a plugin of pytest.

    python -m pytest -p tools.reached_lines -n 2
    coverage combine && coverage report

coverage.py before Python 3.12 sees lines through `sys.settrace`, under which all of Python is slow, also what isn't
watched. Here each statement of the package says that it was reached as it runs: a call is put in front of it when its
file is compiled. What is noted goes into coverage.py's own files, so its settings in pyproject.toml say, as ever, which
lines count; of an `except` or a `case` only those count as reached that were taken. Functions that Numba compiles are
left as they are. What commands and workers do in processes of their own isn't seen.
"""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

import pytest
from coverage import CoverageData

ROOT = Path(__file__).parents[1]
PACKAGE = "qanas"
NOTE = "_reached_"
"""What the call is known as in every module."""
COMPILED_BY_NUMBA = frozenset({"entry_point", "inlined", "merged", "part"})

reached: dict[str, set[int]] = {}
"""Lines by file."""


def notes(*lines: int) -> list[ast.stmt]:
    """Return a call for each of some lines."""
    return [_call(line) for line in lines]


def _call(line: int) -> ast.stmt:
    call = ast.Expr(ast.Call(ast.Name(NOTE, ast.Load()), [ast.Constant(line)], []), lineno=line, col_offset=0)
    call.end_lineno, call.end_col_offset = line, 0
    return ast.fix_missing_locations(call)


class Noting(ast.NodeTransformer):
    """Put a call in front of every statement."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        """Change the lists of statements in a node, from the innermost."""
        if isinstance(node, ast.FunctionDef) and any(_name(each) in COMPILED_BY_NUMBA for each in node.decorator_list):
            return node
        super().generic_visit(node)
        for name in ("body", "orelse", "finalbody"):
            statements = getattr(node, name, None)
            if isinstance(statements, list) and statements:
                setattr(node, name, _noted(statements))
        if isinstance(node, ast.ExceptHandler):
            node.body = [*notes(node.lineno), *node.body]
        elif isinstance(node, ast.match_case):
            node.body = [*notes(node.pattern.lineno), *node.body]
        return node


def _name(decorator: ast.expr) -> str:
    """Return what a decorator is called."""
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return getattr(called, "id", "")


def _noted(statements: list[ast.stmt]) -> list[ast.stmt]:
    """Return statements, each behind its call; what has to come first in a file or function stays there."""
    first, others = [], list(statements)
    while others and _has_to_be_first(others[0]):
        first.append(others.pop(0))
    noted = notes(*(statement.lineno for statement in first))
    for statement in others:
        decorators = getattr(statement, "decorator_list", [])
        noted += [*notes(*(each.lineno for each in decorators), statement.lineno), statement]
    return [*first, *noted]


def _has_to_be_first(statement: ast.stmt) -> bool:
    """Tell whether a statement is a docstring or a future import."""
    if isinstance(statement, ast.ImportFrom):
        return statement.module == "__future__"
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


class Loader(SourceFileLoader):
    """Loads a module whose statements are noted."""

    def get_code(self, fullname: str) -> CodeType:
        """Compile the source, whatever bytecode is kept of it."""
        path = self.get_filename(fullname)
        tree = Noting().visit(ast.parse(self.get_data(path), path))
        code: CodeType = compile(tree, path, "exec", dont_inherit=True)
        return code

    def exec_module(self, module: ModuleType) -> None:
        """Run the module, which finds the call among its names."""
        vars(module)[NOTE] = reached.setdefault(self.path, set()).add
        super().exec_module(module)


class Finder(MetaPathFinder):
    """Finds modules of the package as ever, and has them loaded by `Loader`."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return where a module is, None for those of other packages."""
        if fullname.partition(".")[0] != PACKAGE:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = Loader(spec.loader.name, spec.loader.path)
        return spec


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests() -> None:
    """Look at what is imported from here on."""
    if PACKAGE in sys.modules:
        raise ImportError(f"{PACKAGE} was imported before: name the plugin by -p")
    sys.meta_path.insert(0, Finder())


def pytest_sessionfinish() -> None:
    """Keep what this process reached; every file of the package counts, also one that nothing imports."""
    data = CoverageData(str(ROOT / ".coverage"), suffix=str(os.getpid()))
    data.add_lines(reached)
    data.touch_files([str(path) for path in (ROOT / "src" / PACKAGE).rglob("*.py")])
    data.write()
