"""Folders as people have them: a sound one of each kind, what can be wrong with it, and what is then said."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qanas.core.errors import InputError
from qanas.tasks.base import Task

Change = Callable[[Path], object]


@dataclass(frozen=True)
class Case:
    """What is done to a sound folder.

    Attributes:
        name: in a few words.
        change: does it.
        refused: parts of the one line that refuses it; none where it is taken.
        remarked: a part of a remark, where it is taken.
        settings: of the task.
        check: of the loaded data, where it is taken.
    """

    name: str
    change: Change
    refused: tuple[str, ...] = ()
    remarked: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    check: Callable[[Any], bool] = lambda data: True  # noqa: ARG005 - most ask for nothing


def refused(name: str, change: Change, /, *parts: str, **settings: Any) -> Case:  # noqa: ANN401 - a task's keys
    return Case(name, change, refused=parts, settings=settings)


def taken(
    name: str,
    change: Change,
    /,
    remarked: str = "",
    check: Callable[[Any], bool] | None = None,
    **settings: Any,  # noqa: ANN401
) -> Case:
    return Case(name, change, (), remarked, settings, check or (lambda data: data is not None))


def try_case(case: Case, sound_folder: Path, tmp_path: Path, task_of: Callable[[str], Task]) -> None:
    """Change a copy of a sound folder, and load it."""
    folder = tmp_path / "data"
    shutil.copytree(sound_folder, folder)
    case.change(folder)
    task = task_of(str(folder))
    if case.refused:
        with pytest.raises(InputError) as caught:
            task.load()
        assert all(part in str(caught.value) for part in case.refused), str(caught.value)
        return
    data = task.load()
    assert any(case.remarked in line for line in data.remarks), data.remarks
    assert case.check(data), data
    assert np.isfinite(data.train.inputs).all()


def both(*changes: Change) -> Change:
    """Return one change after the other."""

    def change(folder: Path) -> None:
        for one in changes:
            one(folder)

    return change


def write(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
