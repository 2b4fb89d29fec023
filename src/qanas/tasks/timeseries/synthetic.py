"""Seeded readings of a watch and of worn machines, for tests and first steps without a download."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ACTIVITIES = ("rest", "run", "walk")
PERSONS = 8
MACHINES = 12
RATE = 25
"""Readings a second."""

_ROWS = 200


def write_activities(folder: Path, seed: int) -> None:
    """Write ``walk/person3.csv`` and so on: eight seconds of time and three axes of acceleration.

    Args:
        folder: an existing folder.
        seed: the same files come from the same seed.
    """
    for number, activity in enumerate(ACTIVITIES):
        (folder / activity).mkdir()
        for person in range(PERSONS):
            generator = np.random.default_rng([seed, number, person])
            time = np.arange(_ROWS) / RATE
            hertz = {"rest": 0.2, "walk": 1.8, "run": 2.8}[activity] * generator.uniform(0.85, 1.15)
            size = {"rest": 0.05, "walk": 0.35, "run": 0.8}[activity] * generator.uniform(0.7, 1.3)
            phases = generator.uniform(0, 2 * np.pi, 3)
            axes = size * np.sin(2 * np.pi * hertz * time[:, None] + phases) + generator.normal(0, 0.1, (_ROWS, 3))
            axes = np.asarray(axes + generator.normal(0, 0.2, 3) + np.array([0.0, 0.0, 1.0]), np.float64)
            _write(folder / activity / f"person{person}.csv", {"time": time, **dict(zip("xyz", axes.T, strict=True))})


def write_machines(folder: Path, seed: int) -> None:
    """Write ``machine03.csv`` and so on: load, temperature and vibration of a machine, and its wear in percent.

    Args:
        folder: an existing folder.
        seed: the same files come from the same seed.
    """
    for machine in range(MACHINES):
        generator = np.random.default_rng([seed, machine])
        rows = int(generator.integers(80, 120))
        wear = np.asarray(100 * np.linspace(0, 1, rows) ** generator.uniform(1.0, 2.0), np.float64)
        load = generator.uniform(0.3, 1.0, rows)
        columns: dict[str, NDArray[np.float64]] = {
            "time": 60.0 * np.arange(rows, dtype=np.float64),
            "load": load,
            "temperature": 40 + 20 * load + 0.15 * wear + generator.normal(0, 2, rows),
            "vibration": 0.2 + 0.01 * wear * load + generator.normal(0, 0.1, rows),
            "wear": wear,
        }
        _write(folder / f"machine{machine:02d}.csv", columns)


def _write(path: Path, columns: dict[str, NDArray[np.float64]]) -> None:
    rows = np.column_stack(list(columns.values())).tolist()
    lines = [",".join(columns), *(",".join(f"{value:.4f}" for value in row) for row in rows)]
    path.write_text("\n".join(lines) + "\n", "utf-8")
