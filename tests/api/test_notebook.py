"""The notebook in docs: its code runs from top to bottom, as a reader's would, without Jupyter."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOK = Path("docs/notebooks/turbofan.ipynb")


def test_the_code_of_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (NOTEBOOK, Path("recipes/turbofan_quick.toml")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    folder = (tmp_path / NOTEBOOK).parent
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {"__name__": "__main__"}
    for cell in json.loads(Path(NOTEBOOK.name).read_text("utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)  # noqa: S102 - ours
    result = names["result"]
    assert result.summary["status"] == "done"
    assert len(result.trials) == 6
    assert len(result.models) >= 2
    assert (folder / "runs" / "turbofan_notebook" / "report.html").is_file()


def test_the_notebook_holds_no_outputs() -> None:
    cells = json.loads((ROOT / NOTEBOOK).read_text("utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
