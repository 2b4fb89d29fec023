"""Compiles files by Vela, in a process of its own: `qanas.hardware.latency.compiler` runs it as a script.

It reads a JSON object with ``files``, ``folder`` and Vela's ``arguments`` and prints one with ``found``: cycles and the
operators that are left to the CPU, of each file. Vela writes to the screen from C++, too: both go into a file. Within
one process a small network takes some 25 ms; the command line takes most of a second, for its start.
"""

from __future__ import annotations

import csv
import json
import os
import sys
from pathlib import Path
from typing import Any

from ethosu.vela import vela


def compiled(path: Path, folder: Path, arguments: list[str]) -> dict[str, Any]:
    """Return what Vela says of a file."""
    told = folder / f"{path.stem}.txt"
    sys.stdout.flush()
    kept = os.dup(1)
    with told.open("wb") as file:
        os.dup2(file.fileno(), 1)
        try:
            vela.main([str(path), *arguments, "--show-cpu-operations", "--output-dir", str(folder)])
        finally:
            sys.stdout.flush()
            os.dup2(kept, 1)
            os.close(kept)
    (summary,) = folder.glob(f"{path.stem}_summary_*.csv")
    with summary.open(encoding="utf-8") as table:
        row = next(csv.DictReader(table))
    lines = [line.strip() for line in told.read_text("utf-8", "replace").splitlines()]
    on_cpu = [line.removeprefix("CPU: ").partition(" = ")[0] for line in lines if line.startswith("CPU: ")]
    return {"cycles": float(row["cycles_total"]), "cpu": on_cpu}


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    found = [compiled(Path(name), Path(asked["folder"]), asked["arguments"]) for name in asked["files"]]
    sys.stdout.write(json.dumps({"found": found}))
