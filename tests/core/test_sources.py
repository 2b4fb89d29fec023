"""Files that a class follows from."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from qanas.core.own_modules import find_first_in
from qanas.core.sources import own_digest, sources_of
from qanas.networks.lstm import LSTMSpace

FILES = {
    "nets/__init__.py": "",
    "nets/mine.py": """
import torch
from layers.blocks import Block
from sizes import WIDTH
from . import beside

class Mine(Block, torch.nn.Module):
    def build(self):
        from lazily.taken import head
        return head
""",
    "nets/beside.py": "",
    "nets/unused.py": "",
    "layers/__init__.py": "from layers.norms import *",
    "layers/blocks.py": "class Block: ...",
    "layers/norms.py": "",
    "layers/unused.py": "",
    "sizes.py": "WIDTH = 8",
    "lazily/taken.py": "import sizes",
}


@pytest.fixture
def folder(tmp_path: Path, modules_as_they_were: None) -> Path:
    del modules_as_they_were
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    find_first_in(tmp_path)
    return tmp_path


def test_they_are_what_it_imports_wherever_that_is(folder: Path) -> None:
    kind = importlib.import_module("nets.mine").Mine
    found = [path.relative_to(folder).as_posix() for path in sources_of(kind)]
    assert found == sorted(name for name in FILES if "unused" not in name)
    assert "lazily.taken" not in sys.modules, "nothing is imported for that"


def test_of_a_library_they_are_those_beside_it() -> None:
    assert [path.name for path in sources_of(LSTMSpace)] == ["__init__.py", "lstm.py", "recurrent.py"]


def test_a_class_without_a_file_has_no_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    typed = type("Typed", (), {"__module__": "__main__"})
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    assert own_digest(typed()) == ""
    assert own_digest(LSTMSpace()) == ""
