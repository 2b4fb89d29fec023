"""Balanced weights: classes count alike in all, by the samples that networks are trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from qanas.core.errors import InputError
from qanas.recipe import load_plan
from qanas.tasks.audio import Audio
from qanas.tasks.classification import balanced_weights

RATE = 8000


def test_clips_are_counted_and_not_recordings(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for label, clips in (("hum", 6), ("knock", 1)):
        (tmp_path / label).mkdir()
        for index in range(5):
            sound = generator.uniform(-0.5, 0.5, round(0.1 * RATE) * clips)
            soundfile.write(tmp_path / label / f"{index}.wav", sound, RATE, subtype="PCM_16")
    task = Audio(str(tmp_path), sample_rate=RATE, seconds=0.1, class_weights="balanced")
    train = task.load().train
    counts = np.bincount(train.targets)
    assert counts[0] == 6 * counts[1]
    expected = balanced_weights(counts.tolist())
    outputs = torch.randn(len(train), 2, generator=torch.Generator().manual_seed(0))
    losses = torch.nn.functional.cross_entropy(outputs, torch.from_numpy(train.targets), reduction="none")
    weights = torch.tensor(expected)[train.targets]
    found = task.loss("cross_entropy", outputs, torch.from_numpy(train.targets))
    assert found.item() == pytest.approx(((weights * losses).sum() / weights.sum()).item())
    shorter = Audio(str(tmp_path), sample_rate=RATE, seconds=0.2, class_weights="balanced")
    assert shorter.load().protocol["class_weights"] != pytest.approx(task.load().protocol["class_weights"])


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("[1, -1]", r"task\.class_weights\.1: -1: input should be greater than or equal to 0"),
        ("'balance'", r"task\.class_weights: 'balance' is not 'balanced'; did you mean 'balanced'"),
        ("3", r"task\.class_weights: 3: input should be a valid list"),
    ],
)
def test_what_is_wrong_with_weights_is_told_by_the_key_as_it_is_written(tmp_path: Path, given: str, told: str) -> None:
    path = tmp_path / "r.toml"
    path.write_text(
        'task = { name = "timeseries", data = "synthetic" }\nspace = { name = "lstm" }\n'
        'strategy = { name = "random", trials = 2 }\nobjectives = { accuracy_quantized = "maximize" }\n'
    )
    with pytest.raises(InputError, match=told):
        load_plan(path, [f"task.class_weights={given}"])
