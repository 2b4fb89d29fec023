"""The notebook in docs: its code runs from top to bottom, as a reader's would, without Jupyter."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
NOTEBOOK = Path("docs/notebooks/turbofan.ipynb")

RUNNER = """
import json, sys
cells = json.load(open(sys.argv[1], encoding="utf-8"))["cells"]
names = {"__name__": "__main__"}
for cell in cells:
    if cell["cell_type"] == "code":
        exec("".join(cell["source"]), names)
result = names["result"]
print(json.dumps([result.summary["status"], len(result.trials), len(result.models)]))
"""


def test_the_code_of_the_notebook_runs(tmp_path: Path) -> None:
    for name in (NOTEBOOK, Path("recipes/turbofan_quick.toml")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    folder = (tmp_path / NOTEBOOK).parent
    command = [sys.executable, "-c", RUNNER, NOTEBOOK.name]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    status, trials, models = json.loads(done.stdout.splitlines()[-1])
    assert status == "done"
    assert trials == 6
    assert models >= 2
    assert (folder / "runs" / "turbofan_notebook" / "report.html").is_file()


def test_the_notebook_holds_no_outputs() -> None:
    cells = json.loads((ROOT / NOTEBOOK).read_text("utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
