"""The export command: its exit codes and what it prints; the workflow's own tests have the cases."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from tests.cli.conftest import Workplace

NETWORK = """
import torch
from torch import nn
network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2))
class LogGamma(nn.Module):
    def forward(self, x):
        return torch.lgamma(x * x + 1.0)

unknown = nn.Sequential(nn.Linear(4, 4), LogGamma())
"""


@pytest.fixture
def place(workplace: Workplace) -> Workplace:
    (workplace.folder / "mine.py").write_text(NETWORK, "utf-8")
    samples = np.random.default_rng(0).normal(size=(30, 1, 6, 6)).astype(np.float32)
    np.savez(workplace.folder / "images.npz", x=samples)
    return workplace


def test_a_network_in_the_current_folder_ships(place: Workplace) -> None:
    outcome = place.qanas("export", "mine:network", "--calibration", "images.npz", "--out", "m.tflite")
    assert outcome.code == 0, outcome.err
    assert (place.folder / "m.tflite").read_bytes()[4:8] == b"TFL3"
    assert "parity              max 0, mean 0 steps over 60 outputs" in outcome.out
    assert "NHWC" in outcome.out
    assert not (place.folder / "__pycache__").exists()


@pytest.mark.parametrize(
    "options", [[], ["--format", "tflite-float32"], ["--scheme", "symmetric_per_tensor"], ["--set", "weight_bits=4"]]
)
def test_json_for_machines(place: Workplace, options: list[str]) -> None:
    outcome = place.qanas(
        "export", "mine:network", "--calibration", "images.npz", "--out", "m.tflite", "--json", *options
    )
    assert outcome.code == 0, outcome.err
    content = json.loads(outcome.out)
    assert content["costs"]["file_bytes"] == (place.folder / "m.tflite").stat().st_size
    assert content["precision"] == ("float32" if "tflite-float32" in options else "int8")


def test_a_folder_has_card_and_firmware(place: Workplace) -> None:
    outcome = place.qanas("export", "mine:network", "--calibration", "images.npz", "--folder", "Key words")
    assert outcome.code == 0, outcome.err
    assert outcome.out.count("write its preprocessing down") == 1
    folder = place.folder / "Key words"
    card = json.loads((folder / "card.json").read_text("utf-8"))
    assert card["sha256"] == hashlib.sha256((folder / "model.tflite").read_bytes()).hexdigest()
    assert {name for name in card["files"] if "/src/" in name} >= {"firmware/src/key_words.c"}
    for name, digest in card["files"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    assert "Warning: how the network's input comes about" in (folder / "firmware/README.md").read_text("utf-8")


def test_an_onnx_model(place: Workplace) -> None:
    outcome = place.qanas(
        "export", "mine:network", "--calibration", "images.npz", "--out", "m.onnx", "--format", "onnx"
    )
    assert outcome.code == 0, outcome.err
    assert outcome.err == ""
    assert "float32 [1, 1, 6, 6]" in outcome.out
    assert (place.folder / "m.onnx").is_file()


BAD = {
    "no module": (["nothing:network"], "No module named 'nothing'"),
    "unknown operator": (["mine:unknown", "--calibration", "four.npz"], "1: lgamma has no operator; "),
    "no calibration": (["mine:network", "--calibration", "no.npz"], "no.npz: no such file"),
    "no folder": (["mine:network", "--out", "no/m.tflite"], "the folder no doesn't exist"),
    "both places": (["mine:network", "--folder", "m"], "give --out FILE, or --folder DIR"),
    "no field": (["mine:network", "--set", "bits=4"], "--set bits=4: unknown field 'bits': Known: activation_bits"),
    "no scheme": (["mine:network", "--scheme", "int7"], "unknown scheme 'int7': did you mean 'int8'?"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_no_file(place: Workplace, case: str) -> None:
    np.savez(place.folder / "four.npz", x=np.eye(4, dtype=np.float32))
    arguments, text = BAD[case]
    network, *options = arguments
    given = {"--calibration": "images.npz", "--out": "m.tflite"} | dict(zip(options[::2], options[1::2], strict=True))
    line = place.refusal("export", network, *(part for pair in given.items() for part in pair))
    assert text in line
