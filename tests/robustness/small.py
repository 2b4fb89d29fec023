"""A user's task and space that are trained in a moment, in which one thing can be unusual."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import tomli_w

import qanas

MODULE = (Path(__file__).parents[2] / "benchmarks" / "mine.py").read_text("utf-8")

_numbers = itertools.count()


class Quiet:
    """A watcher that keeps the lines for the person."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def message(self, text: str) -> None:
        self.lines.append(text)

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_, **__: None


def recipe(folder: Path, *changes: tuple[str, str], **tables: Mapping[str, Any]) -> Path:
    """Write a user's module, with some of its text replaced, and a recipe that names it.

    Args:
        folder: of both.
        changes: text of `MODULE`, and what is there instead.
        tables: keys that differ from the small recipe's.
    """
    code = MODULE
    for before, after in changes:
        assert code.count(before) == 1, before
        code = code.replace(before, after)
    module = f"mine_{next(_numbers)}"  # a module is imported once
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{module}.py").write_text(code, "utf-8")
    content: dict[str, dict[str, Any]] = {
        "task": {"name": f"{module}:MyTask"},
        "space": {"name": f"{module}:MySpace"},
        "strategy": {"name": "random", "trials": 3},
        "estimation": {"epochs": 1},
        "objectives": {"accuracy_quantized": "maximize", "weight_bytes": "minimize"},
        "finalists": {"count": 1, "seeds": 1},
        "baselines": {"enabled": False},
    }
    for name, table in tables.items():
        content[name] = {**content.get(name, {}), **table}
    path = folder / "r.toml"
    path.write_text(tomli_w.dumps(content), "utf-8")
    return path


def run(path: Path, out: Path, **overrides: object) -> tuple[qanas.Result, list[str]]:
    """Run a recipe in this process; the result, and the lines for the person."""
    watcher = Quiet()
    named = {key.replace("__", "."): value for key, value in overrides.items()}
    return qanas.run(path, named, out, progress=watcher), watcher.lines
