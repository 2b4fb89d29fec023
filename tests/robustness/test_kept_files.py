"""What a disk gives back is held against what was written: damage is made anew or told, never shipped."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import qanas
from qanas.core.errors import InputError
from qanas.core.run_folder import RunFolder, write_atomically
from qanas.core.sources import digests_of_sources
from qanas.performance_estimation.training_cache import TrainingCache
from qanas.recipe import load_plan
from qanas.shipping.shipped import verify_models
from qanas.supernet import teacher_features
from tests.robustness.small import recipe, run
from tests.workflows import blockwise_runs

Damage = Callable[[bytes], bytes]

DAMAGES: dict[str, Damage] = {
    "emptied": lambda _: b"",
    "cut": lambda content: content[: len(content) // 2],
    "flipped early": lambda content: _flipped(content, 0.1),
    "flipped late": lambda content: _flipped(content, 0.9),
    "zeros": lambda content: bytes(len(content)),
    "longer": lambda content: content + b"more",
}


def _flipped(content: bytes, share: float) -> bytes:
    place = int(share * len(content))
    return content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recipe and its finished run; only to be copied."""
    folder = tmp_path_factory.mktemp("finished")
    run(recipe(folder), folder / "out")
    return folder


@pytest.fixture
def place(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "place"))


def models(folder: Path) -> dict[str, bytes]:
    """What ships, but for the latencies and the report."""
    found = {path.relative_to(folder).as_posix(): path for path in (folder / "out/models").rglob("*")}
    return {name: path.read_bytes() for name, path in found.items() if path.is_file() and path.name != "card.json"}


@pytest.mark.parametrize(
    ("suffix", "damage"),
    [*((".json", damage) for damage in DAMAGES),
     *((suffix, damage) for suffix in (".tflite", ".safetensors", ".npz") for damage in ("cut", "flipped late"))],
)  # fmt: skip
def test_a_damaged_training_is_done_again(place: Path, suffix: str, damage: str) -> None:
    kept = next((place / "out/trainings").glob(f"*/0{suffix}"))
    shutil.rmtree(place / "out/models")
    before = kept.read_bytes()
    kept.write_bytes(DAMAGES[damage](before))
    result, _ = run(place / "r.toml", place / "out")
    assert len(result.models) == 2
    again = kept.read_bytes()
    assert again == before or suffix == ".json"  # that one has seconds in it


@pytest.mark.parametrize("name", ["model.tflite", "weights.safetensors", "predictions.npz", "firmware/README.md"])
def test_a_damaged_model_is_seen_and_made_anew(place: Path, name: str) -> None:
    before = models(place)
    path = place / "out/models/seed" / name
    path.write_bytes(_flipped(path.read_bytes(), 0.6))
    folder = RunFolder(place / "out")
    plan = load_plan(folder.recipe)
    differences = {verdict.identity: verdict.differences for verdict in verify_models(plan, folder)}
    assert differences.pop("seed")
    assert not any(differences.values())
    run(place / "r.toml", place / "out")
    assert models(place) == before


def test_another_network_in_a_models_place_is_told(place: Path) -> None:
    samples = np.random.default_rng(0).normal(size=(8, 5)).astype(np.float32)
    qanas.export(nn.Linear(5, 2), samples, place / "out/models/seed/model.tflite")
    folder = RunFolder(place / "out")
    verdicts = {verdict.identity: verdict for verdict in verify_models(load_plan(folder.recipe), folder)}
    seed = verdicts.pop("seed")
    assert not seed.runs
    assert seed.differences[-1].startswith("it can't be run: ")
    assert not any(verdict.differences for verdict in verdicts.values())


def test_metrics_that_a_card_and_its_task_do_not_share_are_told(place: Path) -> None:
    path = place / "out/models/seed/card.json"
    path.write_text(path.read_text("utf-8").replace('"accuracy":', '"other":'), "utf-8")
    folder = RunFolder(place / "out")
    seed = next(verdict for verdict in verify_models(load_plan(folder.recipe), folder) if verdict.identity == "seed")
    assert seed.runs
    assert "other on val is on the card, and no metric of the task" in seed.differences
    assert [text for text in seed.differences if text.startswith("accuracy on test is ")]


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_a_metric_that_is_no_number_is_as_its_card_says(
    place: Path, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(place / "out")
    for identity, card in folder.cards().items():
        for metrics in card.metrics["deployed"].values():
            metrics["accuracy"] = metrics["accuracy"].model_copy(update={"shipped": value})
        (folder.model(identity) / "card.json").write_text(card.to_json(), "utf-8")
    monkeypatch.setattr("qanas.shipping.shipped.metrics_of", lambda *_: {"accuracy": value})
    assert not any(verdict.differences for verdict in verify_models(load_plan(folder.recipe), folder))


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_study_is_told(place: Path, damage: str) -> None:
    path = place / "out/study.db"
    damaged = DAMAGES[damage](path.read_bytes())
    path.write_bytes(damaged)
    before = qanas.load(place / "out").trials
    try:
        result, _ = run(place / "r.toml", place / "out")
    except InputError as error:
        assert "study.db" in str(error)  # noqa: PT017 - either is right
    else:
        assert result.trials.drop("finished_at", "started_at").equals(before.drop("finished_at", "started_at"))


def test_a_record_with_another_number_is_told(place: Path) -> None:
    database = sqlite3.connect(place / "out/study.db")
    database.execute("update trial_user_attributes set value_json = replace(value_json, '0.5', '0.6')")
    database.commit()
    database.close()
    with pytest.raises(InputError, match=r"study\.db: the record of trial \d was damaged"):
        run(place / "r.toml", place / "out")


def test_what_is_no_file_of_the_run_is_told(place: Path) -> None:
    for name, make in (("front.csv", Path.mkdir), ("log.txt", os.mkfifo), ("models", Path.touch)):
        shutil.move(place / "out" / name, place / "kept")
        make(place / "out" / name)
        with pytest.raises(InputError, match=rf"{name}: this is no f.*; take it away"):
            run(place / "r.toml", place / "out")
        path = place / "out" / name
        path.rmdir() if path.is_dir() else path.unlink()
        shutil.move(place / "kept", place / "out" / name)


@pytest.mark.parametrize(
    ("changes", "objectives"),
    [((('"width", "arch', '"w", "arch'), ('["width"]', '["w"]')), {}), ((), {"macs": "minimize"})],
)
def test_trials_of_another_run_are_told(
    place: Path, changes: tuple[tuple[str, str], ...], objectives: dict[str, str]
) -> None:
    run(recipe(place / "other", *changes, objectives=objectives), place / "other/out", strategy__trials=1)
    shutil.copy(place / "other/out/study.db", place / "out/study.db")
    with pytest.raises(InputError, match=r"study\.db: .*it is of another run"):
        run(place / "r.toml", place / "out")


@pytest.mark.parametrize("version", ["v3.0.0.a", "v9.9.9.a"])
def test_a_study_of_another_version_is_told(place: Path, version: str) -> None:
    database = sqlite3.connect(place / "out/study.db")
    database.execute("update alembic_version set version_num = ?", (version,))
    database.commit()
    database.close()
    with pytest.raises(InputError, match=r"study\.db: it is of another version of Optuna"):
        run(place / "r.toml", place / "out")


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"seconds": 3}', b"\xff"])
def test_a_damaged_summary_is_made_anew(place: Path, content: bytes) -> None:
    (place / "out/summary.json").write_bytes(content)
    result, _ = run(place / "r.toml", place / "out")
    assert result.summary["status"] == "done"


def test_files_named_like_patterns_are_not_taken_for_others(place: Path) -> None:
    """A folder ``run[1]`` beside ``run1``: each has its own tables."""
    shutil.copytree(place / "out", place / "out1")
    other = place / "out[1]"
    run(place / "r.toml", other, strategy__trials=2)
    assert len(qanas.load(other).trials) == 2
    assert len(qanas.load(place / "out1").trials) == 3
    assert [path.name for path in RunFolder(other).models.iterdir()]


@pytest.mark.parametrize("name", ["exp[lr=0.1]", "a*b", "what?", "100%", "a#b", "a%20b", "stra\udcdfe", "ä ö"])
def test_a_run_folder_of_any_name(tmp_path: Path, name: str) -> None:
    path = recipe(tmp_path)
    first, _ = run(path, tmp_path / name, strategy__trials=2)
    again, _ = run(path, tmp_path / name)
    assert (len(first.trials), len(again.trials)) == (2, 3)
    assert {entry.name for entry in tmp_path.iterdir() if entry.is_dir()} == {name}


# ------------------------------------------------ the cache of trained weights


def test_a_flipped_bit_of_the_cache_is_not_trained_on(tmp_path: Path) -> None:
    network = nn.Linear(3, 2)
    path = tmp_path / "w.safetensors"
    TrainingCache.keep(path, network, 1.5)
    content = path.read_bytes()
    assert TrainingCache.load(path, nn.Linear(3, 2)) == 1.5
    for place in range(8, len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        other = nn.Linear(3, 2)
        before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
        found = TrainingCache.load(path, other)
        assert found in (None, 1.5)
        wanted = before if found is None else network.state_dict()
        assert all(torch.equal(tensor, wanted[name]) for name, tensor in other.state_dict().items())


def test_the_cache_gives_what_training_gives(tmp_path: Path) -> None:
    path = recipe(tmp_path)
    plain, _ = run(path, tmp_path / "plain")
    for name in ("filled", "used"):
        run(path, tmp_path / name, estimation__cache=str(tmp_path / "cache"))
        assert (tmp_path / name / "front.csv").read_bytes() == (tmp_path / "plain/front.csv").read_bytes()
        shipped = [(tmp_path / folder / "models/seed/model.tflite").read_bytes() for folder in ("plain", name)]
        assert shipped[0] == shipped[1]
    assert len(plain.models) == 2
    assert not [entry for entry in (tmp_path / "cache").iterdir() if entry.suffix == ".partial"]


def test_a_cache_that_cannot_be_written_costs_no_trial(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    path = recipe(tmp_path)
    result, _ = run(path, tmp_path / "out", estimation__cache=str(tmp_path / "file" / "cache"))
    assert set(result.trials["outcome"]) == {"measured"}


def test_the_cache_knows_the_users_other_files(tmp_path: Path) -> None:
    """A module that the user's class takes its layers from is a part of what was trained."""
    (tmp_path / "blocks_of_mine.py").write_text("GAIN = 1\n", "utf-8")
    path = recipe(tmp_path, ("\nclass MySpace", "\nimport blocks_of_mine\n\nclass MySpace"))
    plan = load_plan(path)
    cache = TrainingCache(tmp_path)
    facts = (plan.bench, plan.bench.reference, plan.bench.reference_start, 1, 1)
    before = cache.path(*facts)
    assert cache.path(*facts) == before
    (tmp_path / "blocks_of_mine.py").write_text("GAIN = 2\n", "utf-8")
    assert cache.path(*facts) == before, "this process has imported the former one"
    digests_of_sources.cache_clear()  # as a process has it that starts now
    assert cache.path(*facts) != before


def test_what_cannot_be_written_names_its_file(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no full device here")
    (tmp_path / ".x.partial").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as caught:
        write_atomically(tmp_path / "x", b"content")
    assert caught.value.filename == str(tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_the_room_of_a_mapped_file_is_taken_before_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a disk that is full by then ends the process by a bus error."""

    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(OSError, match="No space left") as caught:
        teacher_features._mapped(tmp_path / "border_0.npy", (4, 3))
    assert caught.value.filename == str(tmp_path / "border_0.npy")


@pytest.mark.parametrize("table", ["trial_values", "trial_user_attributes", "trial_params", "study_user_attributes"])
def test_a_damaged_row_of_the_study_is_told(place: Path, table: str) -> None:
    column = {"trial_values": "value_type", "trial_params": "distribution_json"}.get(table, "value_json")
    database = sqlite3.connect(place / "out/study.db")
    database.execute(f"update {table} set {column} = 'x' || {column}")  # noqa: S608 - a name of ours
    database.commit()
    database.close()
    with pytest.raises(InputError, match=r"study\.db"):
        run(place / "r.toml", place / "out")


@pytest.mark.slow
def test_distilled_finalists_are_the_same_with_the_cache(tmp_path: Path) -> None:
    """What they start from is a part of the key: with teacher's and blocks' weights another network comes out."""
    changes: dict[str, dict[str, Any]] = {"finalists": {"count": 2, "seeds": 1, "start": "distilled"}}
    plain = blockwise_runs.run(blockwise_runs.recipe(tmp_path, **changes), tmp_path / "plain")
    cached = {**changes, "estimation": {"cache": str(tmp_path / "cache")}}
    for name in ("filled", "used"):
        found = blockwise_runs.run(blockwise_runs.recipe(tmp_path, **cached), tmp_path / name)
        assert [shipment.finalist.identity for shipment in found.shipments] == [
            shipment.finalist.identity for shipment in plain.shipments
        ]
        for path in sorted((tmp_path / "plain").glob("models/*/model.tflite")):
            other = tmp_path / name / path.relative_to(tmp_path / "plain")
            assert other.read_bytes() == path.read_bytes()
    assert any((tmp_path / "cache").iterdir())


@pytest.mark.slow
def test_two_processes_use_one_cache(tmp_path: Path) -> None:
    path = recipe(tmp_path, estimation={"epochs": 20})  # after one epoch all is degenerate, which is code 1
    plain, _ = run(path, tmp_path / "plain")
    shared = f"estimation.cache={tmp_path / 'cache'}"
    outs = [tmp_path / name for name in ("one", "other")]
    command = [sys.executable, "-c", "from qanas.cli import main; main()", "run", str(path), "--set", shared, "--out"]
    processes = [subprocess.Popen([*command, str(out)]) for out in outs]
    assert [process.wait(600) for process in processes] == [0, 0]
    shipped = {name: (tmp_path / "plain" / "models" / name / "model.tflite").read_bytes() for name in plain.models}
    assert shipped
    for out in outs:
        assert (out / "front.csv").read_bytes() == (tmp_path / "plain" / "front.csv").read_bytes()
        assert {place.parent.name: place.read_bytes() for place in out.glob("models/*/model.tflite")} == shipped
