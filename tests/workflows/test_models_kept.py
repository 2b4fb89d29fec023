"""What a run takes away from its folder of models: its own of before, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.workflows.test_verdict import put

from qanas.core.run_folder import RunFolder
from qanas.shipping.models import remove_stale_models

if TYPE_CHECKING:
    from pathlib import Path


def test_models_that_are_no_finalists_any_more_go_and_what_no_run_wrote_stays(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    put(folder, "before", 300, {"val": 0.0, "test": 0.0}, 1)
    damaged = folder.model("damaged")
    damaged.mkdir()
    (damaged / "card.json").write_text("{")
    (damaged / "model.tflite").write_bytes(b"TFL3")
    (folder.models / ".half.partial").mkdir()
    (folder.models / ".DS_Store").write_text("of another program")
    (folder.models / "resnet").mkdir()
    (folder.models / "resnet" / "weights.pt").write_text("a user's")
    remove_stale_models(folder, [])
    assert sorted(path.name for path in folder.models.iterdir()) == [".DS_Store", "resnet"]
    assert (folder.models / "resnet" / "weights.pt").is_file()
