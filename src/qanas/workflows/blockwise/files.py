"""The files of a block-wise search, each named by what it was made from.

A stage whose inputs changed finds no file of its name, and is done again; one whose inputs stayed is skipped.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qanas.core.run_folder import RunFolder, write_atomically
from qanas.workflows.plan import Plan


def digest(*inputs: object) -> str:
    """Return ten hexadecimal digits that change with the inputs; those that JSON can hold."""
    text = json.dumps(inputs, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:10]


@dataclass(frozen=True)
class StageFile:
    """What one unit of work leaves, and a note on how it went, written after it: where the note is, both are.

    Attributes:
        path: of what it leaves.
    """

    path: Path

    @property
    def note(self) -> Path:
        """The file of the note."""
        return self.path.with_suffix(".json")

    @property
    def finished(self) -> bool:
        """Whether the unit is done."""
        return self.note.is_file() and self.path.is_file()

    def finish(self, note: Mapping[str, Any]) -> None:
        """Write the note."""
        write_atomically(self.note, (json.dumps(dict(note)) + "\n").encode())

    def read_note(self) -> dict[str, Any]:
        """Return the note; empty where the unit is not done."""
        return dict(json.loads(self.note.read_text("utf-8"))) if self.finished else {}


@dataclass(frozen=True)
class BlockFiles:
    """The files of one block.

    Attributes:
        supernets: a file of weights each.
        table: its table.
    """

    supernets: tuple[StageFile, ...]
    table: StageFile

    @classmethod
    def of(cls, folder: RunFolder, block: str, plan: Plan, supernets: int) -> BlockFiles:
        """Name the files of a block.

        Args:
            folder: of the run.
            block: its name.
            plan: with the resolved recipe.
            supernets: how many there are.
        """
        recipe = plan.recipe
        source = teacher_digest(recipe)
        weights = digest(source, recipe["blocks"], {**recipe["distillation"], "seeds": None}, recipe["run"], block)
        # A race keeps the front of the costs alone, whatever the metric and the bounds.
        raced_for = [] if recipe["table"]["full"] else sorted(plan.decisive_costs)
        table = digest(weights, supernets, recipe["table"], raced_for, recipe["quantization"])
        home = folder.blocks / block
        return cls(
            tuple(StageFile(home / f"supernet_{seed}-{weights}.safetensors") for seed in range(supernets)),
            StageFile(home / f"table-{table}.parquet"),
        )


def teacher_digest(recipe: Mapping[str, Any]) -> str:
    """Return a digest of everything that the teacher's weights depend on."""
    return digest(
        {**recipe["task"], "data": None},
        {**recipe["teacher"], "weights": None},
        recipe["blocks"],
        {**recipe["estimation"], "jobs": None, "cache": None},
        recipe["run"],
        recipe["data_fingerprint"],
    )


def remove_stale(files: Iterable[BlockFiles]) -> None:
    """Remove what earlier sessions made from other inputs."""
    for entry in files:
        current = {part for file in (*entry.supernets, entry.table) for part in (file.path, file.note)}
        home = entry.table.path.parent
        if home.is_dir():
            for path in home.iterdir():
                if path not in current:
                    path.unlink()
