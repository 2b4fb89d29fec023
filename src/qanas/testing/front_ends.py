"""A front end's C form, compiled and run: what it makes of raw inputs."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qanas.core.c_text import array, reals, render
from qanas.tasks.front_end import FrontEnd
from qanas.testing.properties import expect

WARNINGS = ("-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror")

CODES = 255
"""Steps between the smallest and the largest input of 8 bits."""


def check_front_end(front_end: FrontEnd, raw: Sequence[NDArray[Any]]) -> None:
    """Hold a front end's C form against its Python form, within a step of inputs with 8 bits.

    Nothing is compared where it has no C form, or where there is no C compiler (``cc``).

    Args:
        front_end: that is checked.
        raw: inputs, each of shape (rows, row_size).

    Raises:
        AssertionError: C doesn't compile without warnings, or what it makes of them is something else.
    """
    name = type(front_end).__name__
    inputs = np.stack([front_end.input_of(rows) for rows in raw])
    expect(inputs.dtype == np.float32, f"{name}.input_of: {inputs.dtype}; single precision is wanted")
    expect(np.isfinite(inputs).all(), f"{name}.input_of: NaN or infinity")
    for rows in raw:
        expect(rows.shape[1:] == (front_end.row_size,), f"rows of shape {rows.shape[1:]}, {front_end.row_size} said")
        expect(0 < len(rows) <= front_end.rows, f"{len(rows)} raw rows, {front_end.rows} at most said")
    found = _in_c(front_end, raw, inputs[0].size)
    if found is None:
        return
    step = float(np.ptp(inputs)) / CODES
    apart = float(np.abs(found - inputs.reshape(len(raw), -1)).max())
    expect(apart <= step, f"{name}: C is {apart:g} off, a step of 8 bits is {step:g}")


def _in_c(front_end: FrontEnd, raw: Sequence[NDArray[Any]], size: int) -> NDArray[np.float32] | None:
    """Return what C makes of raw inputs, shape (n, size); None where nothing can be compiled."""
    form = front_end.c_form("checked", ())
    if form is None or shutil.which("cc") is None:
        return None
    suffix = {"double": "", "float": "f"}.get(front_end.raw_type)
    flat = [rows.reshape(-1).tolist() for rows in raw]
    literals = [reals(values, suffix) if suffix is not None else array(values) for values in flat]
    given = list(zip(literals, raw, strict=True))
    values = {"form": form, "type": front_end.raw_type, "raw": given, "size": size}
    source = render(__package__ or "", "front_end.c.jinja", **values)
    with tempfile.TemporaryDirectory(prefix="front-end-") as folder:
        path = Path(folder) / "checked.c"
        path.write_text(source, "utf-8")
        command = ["cc", *WARNINGS, str(path), "-lm", "-o", str(path.with_suffix(""))]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - the machine's compiler
        expect(done.returncode == 0, f"{type(front_end).__name__}.c_form: {_first_complaint(done.stderr)}")
        done = subprocess.run([path.with_suffix("")], capture_output=True, text=True, check=False)  # noqa: S603 - made here
        expect(done.returncode == 0, f"{type(front_end).__name__}.c_form: the program ends with {done.returncode}")
    return np.array(done.stdout.split(), np.float32).reshape(len(raw), size)


def _first_complaint(text: str) -> str:
    lines = [line for line in text.splitlines() if "error" in line]
    return (lines or text.splitlines() or ["it doesn't compile"])[0]
