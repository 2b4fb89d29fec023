"""Count the functions on arrays and tensors whose docstring states a shape; fail below the bound.

    python tools/docstring_shapes.py src/qanas --list

A function counts if its annotations name an array or a tensor, by whatever alias of the package, and it has a
docstring; arrays that only a callable among its arguments is given don't count. A shape is stated by
``shape (rows, classes)``, by a tuple that begins with ``(n,`` or ``(batch,``, by ``scalar``, by ``any shape``, or by
the shape of something else: ``the shape of``, ``the same shape``.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ARRAYS = frozenset({"NDArray", "ndarray", "Tensor"})
STATED = re.compile(
    r"\bshapes?\s+\(|\((n|batch),|\b(any|same)\s+shapes?\b|\bthe\s+shapes?\s+of\b|\bscalars?\b", re.IGNORECASE
)
LEAST_PERCENT = 65

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Found:
    """A function on arrays.

    Attributes:
        place: its file and line.
        name: of the function.
        stated: whether its docstring states a shape.
    """

    place: str
    name: str
    stated: bool


def names_in(annotation: ast.AST) -> Iterator[str]:
    """Yield the type names in an annotation, but for those that a callable is given or returns."""
    if isinstance(annotation, ast.Subscript) and "Callable" in set(_own_names(annotation.value)):
        return
    yield from _own_names(annotation)
    for child in ast.iter_child_nodes(annotation):
        yield from names_in(child)


def _own_names(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Name):
        yield node.id
    elif isinstance(node, ast.Attribute):
        yield node.attr


def array_names(trees: Mapping[str, ast.Module]) -> dict[str, set[str]]:
    """Return the names that stand for arrays in each module: its own aliases, and those that it imports.

    Args:
        trees: the modules by dotted name.
    """
    known = {module: set(ARRAYS) for module in trees}
    while any(_grow(known, module, tree) for module, tree in trees.items()):
        pass
    return known


def _grow(known: dict[str, set[str]], module: str, tree: ast.Module) -> bool:
    """Add what the names known so far tell about one module; say whether there was anything."""
    before = len(known[module])
    for node in tree.body:
        match node:
            case ast.ImportFrom(module=str(source), names=names) if source in known:
                known[module] |= {name.asname or name.name for name in names if name.name in known[source]}
            case ast.Assign(targets=[ast.Name(id=alias)], value=value) if known[module] & set(names_in(value)):
                known[module].add(alias)
    return len(known[module]) > before


def functions_on_arrays(path: str, tree: ast.Module, arrays: set[str]) -> Iterator[Found]:
    """Yield the functions of a module that take or return arrays and have a docstring."""
    for node in ast.walk(tree):
        if isinstance(node, Function):
            docstring = ast.get_docstring(node)
            if docstring and any(arrays & set(names_in(annotation)) for annotation in _annotations(node)):
                yield Found(f"{path}:{node.lineno}", node.name, bool(STATED.search(docstring)))


def _annotations(node: Function) -> Iterable[ast.AST]:
    given = node.args
    arguments = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
    annotations = [argument.annotation for argument in arguments if argument is not None]
    return [annotation for annotation in (*annotations, node.returns) if annotation is not None]


def functions_below(root: Path) -> list[Found]:
    """Return the functions on arrays in every module of a package."""
    files = {path: ".".join(path.relative_to(root.parent).with_suffix("").parts) for path in sorted(root.rglob("*.py"))}
    names = {path: name.removesuffix(".__init__") for path, name in files.items()}
    trees = {names[path]: ast.parse(path.read_text("utf-8")) for path in files}
    arrays = array_names(trees)
    return [
        found
        for path, name in names.items()
        for found in functions_on_arrays(path.as_posix(), trees[name], arrays[name])
    ]


def main() -> int:
    """Print the share, with ``--list`` the functions that lack one; return 1 below the bound."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path, nargs="?", default=Path("src/qanas"))
    parser.add_argument("--least", type=float, default=LEAST_PERCENT, help="percent below which the check fails")
    parser.add_argument("--list", action="store_true", help="print the functions that state no shape")
    arguments = parser.parse_args()
    found = functions_below(arguments.package)
    if not found:
        print(f"{arguments.package}: no function on arrays there", file=sys.stderr)
        return 2
    if arguments.list:
        print("\n".join(f"{each.place} {each.name}" for each in found if not each.stated))
    stated = sum(each.stated for each in found)
    percent, least = 100 * stated / len(found), arguments.least
    print(
        f"shapes stated by {stated} of {len(found)} functions on arrays: {percent:.1f} %, at least {least:g} % wanted"
    )
    return int(percent < least)


if __name__ == "__main__":
    sys.exit(main())
