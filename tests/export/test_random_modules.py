"""Random networks with the habits of real code are exported right, or refused in one line."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.export.random_modules import RandomModule
from torch import Tensor

from qanas.core.errors import InputError
from qanas.deployment.litert import LiteRTModel
from qanas.export.export import exporter, ship
from qanas.export.source import Source
from qanas.quantization.border import named_parts

SAMPLES = np.random.default_rng(0).standard_normal((12, 3, 16, 16)).astype(np.float32)


def outcome(seed: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What became of a network: ``right``, ``refused``, or what is wrong."""
    torch.manual_seed(seed)
    network = RandomModule(seed).eval()
    monkeypatch.setattr("qanas.export.source._found", lambda _: network)
    samples, out = folder / "samples.npz", folder / f"{seed}.tflite"
    np.savez(samples, x=SAMPLES)
    try:
        source = Source.load("random_modules:network", samples)
        told = ship(source, exporter("tflite-float32", None)(source), out)
    except InputError as error:
        return "refused" if "\n" not in str(error) else f"several lines: {error}"
    if told.failure:
        return "refused" if "\n" not in told.failure and not out.exists() else f"written: {told.failure}"
    found = LiteRTModel(out.read_bytes(), border=source.graph.border).predict({"x": SAMPLES})
    again = RandomModule(seed)
    again.load_state_dict(network.state_dict())
    with torch.no_grad():
        wanted = named_parts(network(torch.from_numpy(SAMPLES)), Tensor)
    for name, values in wanted.items():
        signal, noise = float(values.square().mean()), float((values - torch.from_numpy(found[name])).square().mean())
        if noise > 1e-6 * signal:
            return f"wrong: '{name}' has noise {noise} beside {signal}"
    return "right"


def outcomes(seeds: range, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[int, str]:
    return {seed: outcome(seed, folder, monkeypatch) for seed in seeds}


def check(found: dict[int, str]) -> None:
    wrong = {seed: told for seed, told in found.items() if told not in {"right", "refused"}}
    assert not wrong
    assert sum(told == "right" for told in found.values()) > len(found) / 2


def test_some_random_modules_are_exported_right_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check(outcomes(range(30), tmp_path, monkeypatch))


@pytest.mark.slow
def test_two_thousand_random_modules_are_exported_right_or_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check(outcomes(range(30, int(os.environ.get("QANAS_FUZZ", "2000"))), tmp_path, monkeypatch))
