"""A whole run through the command line, and what is done with its folder afterwards."""

from __future__ import annotations

import csv
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema  # type: ignore[import-untyped]
import optuna
import polars as pl
import pytest

from qanas.core.card import card_schema

if TYPE_CHECKING:
    from tests.cli.conftest import Workplace

RUN = Path("runs") / "tiny"
UNSTABLE = {"number", "outcome", "reason", "train_seconds"}


Damage = Callable[[Path], None]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def cards(place: Workplace) -> dict[str, dict[str, Any]]:
    paths = (place.folder / RUN / "models").glob("*/card.json")
    return {path.parent.name: json.loads(path.read_text("utf-8")) for path in paths}


def contents(folder: Path, *leaving_out: str) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name not in leaving_out)
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_every_file_of_the_contract_is_there(finished_once: Workplace) -> None:
    folder = finished_once.folder / RUN
    names = ("recipe.toml", "study.db", "trials.parquet", "front.csv", "finalists.csv", "log.txt", "report.html")
    assert all((folder / name).stat().st_size > 0 for name in names)
    for identity in cards(finished_once):
        model = folder / "models" / identity
        assert all((model / name).stat().st_size > 0 for name in ("model.tflite", "weights.safetensors"))
    assert not list(folder.rglob("*.partial*"))


def test_the_counts_agree(finished_once: Workplace) -> None:
    folder = finished_once.folder / RUN
    trials = pl.read_parquet(folder / "trials.parquet")
    assert trials.filter(pl.col("outcome") != "rejected")["index"].to_list() == [0, 1, 2, 3, 4]
    assert trials["seed_network"].to_list() == [True, False, False, False, False]
    assert (trials["started_at"] <= trials["finished_at"]).all()
    assert trials["started_at"].is_sorted()
    summary = json.loads((folder / "summary.json").read_text("utf-8"))
    assert summary["status"] == "done"
    assert summary["trials"] == {"measured": 5, "rejected": 0, "failed": 0}
    assert summary["finalists"]["shipped"] == len(cards(finished_once)) >= 2
    front = rows(folder / "front.csv")
    assert 1 <= len(front) <= 5
    assert not UNSTABLE & front[0].keys()
    assert {row["candidate"] for row in front} - {""} <= cards(finished_once).keys()
    finalists = rows(folder / "finalists.csv")
    assert finalists[0]["candidate"] == "seed"
    assert all(row["status"] == "shipped" and row["mae_deployed_test_n"] == "2" for row in finalists)


def test_cards_are_valid_and_tell_how_the_numbers_came_about(finished_once: Workplace) -> None:
    found = cards(finished_once)
    assert "seed" in found
    for identity, card in found.items():
        jsonschema.validate(card, card_schema())
        assert card["candidate"] == identity
        assert card["run_seed"] == 3
        assert card["file_bytes"] == (finished_once.folder / RUN / "models" / identity / "model.tflite").stat().st_size
        assert card["metrics"]["deployed"]["test"]["mae"]["n"] == 2
        assert card["preprocessing"]["sensors"] == [1, 2, 3, 4, 5, 6]


def test_the_report_opens_offline(finished_once: Workplace) -> None:
    page = (finished_once.folder / RUN / "report.html").read_text("utf-8")
    assert "default-src 'none'" in page, "a browser would let it load something"
    assert '<script src="http' not in page
    assert all(identity in page for identity in cards(finished_once))


def test_the_same_command_again_changes_nothing_and_is_quick(finished: Workplace) -> None:
    before = contents(finished.folder, "log.txt")
    started = time.monotonic()
    outcome = finished.qanas("run", finished.recipe(), count="qanas.performance_estimation.procedure:FullTraining.make")
    assert outcome.code == 0, outcome.err
    assert time.monotonic() - started < 30
    assert not finished.calls.exists(), "something was trained again"
    after = contents(finished.folder, "log.txt")
    assert before.keys() == after.keys()
    assert [name for name in before if before[name] != after[name]] == []


def test_the_folder_is_named_after_the_recipe_or_by_out(workplace: Workplace) -> None:
    quick = {"strategy": {"trials": 1}, "estimation": {"epochs": 1}, "finalists": {"count": 1, "seeds": 1}}
    recipe = workplace.recipe(quick, name="quick.toml")
    assert workplace.qanas("run", recipe).code in (0, 1), "1: one epoch teaches no more than a constant knows"
    assert (workplace.folder / "runs" / "quick" / "report.html").is_file()
    outcome = workplace.qanas("run", recipe, "--out", "else where", "--set", "run.seed=4")
    assert outcome.code in (0, 1)
    assert (workplace.folder / "else where" / "models" / "seed" / "card.json").is_file()
    assert "else where/report.html" in outcome.out
    assert json.loads((workplace.folder / "else where/models/seed/card.json").read_text("utf-8"))["run_seed"] == 4


def test_check_tells_costs_and_hours_and_creates_nothing(workplace: Workplace) -> None:
    path = workplace.recipe({"limits": {"weight_bytes": 100}})
    before = sorted(workplace.folder.rglob("*"))
    outcome = workplace.qanas("check", path)
    assert outcome.code == 0, outcome.err
    assert outcome.err == ""
    assert "reference weight_bytes" in outcome.out
    assert "over its limit" in outcome.out
    assert "with 1 jobs (estimated" in outcome.out
    assert sorted(workplace.folder.rglob("*")) == before


def test_check_agrees_with_the_run_on_the_seed_networks_costs(finished_once: Workplace) -> None:
    told = finished_once.qanas("check", finished_once.recipe()).out
    card = cards(finished_once)["seed"]
    for cost in ("weight_bytes", "file_bytes", "peak_ram_bytes", "macs"):
        assert f"reference {cost} {card[cost]:,}\n" in told


# verify


def test_verify_agrees_with_an_untouched_run(finished_once: Workplace) -> None:
    outcome = finished_once.qanas("verify", RUN)
    assert outcome.code == 0, outcome.err
    assert outcome.out.count("as its card says") == len(cards(finished_once))
    latency = outcome.out.partition("latency on host, LiteRT optimized, 1 thread, least of 60 in 20 rounds:\n")[2]
    assert latency.count(" ms") == len(cards(finished_once))


def change_model(folder: Path) -> None:
    path = folder / "model.tflite"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def shorten_model(folder: Path) -> None:
    path = folder / "model.tflite"
    path.write_bytes(path.read_bytes()[:-40])


def change_metric(folder: Path) -> None:
    path = folder / "card.json"
    card = json.loads(path.read_text("utf-8"))
    card["metrics"]["deployed"]["test"]["mae"]["shipped"] -= 0.001
    path.write_text(json.dumps(card), "utf-8")


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (change_model, "sha256"),
        (shorten_model, "file_bytes"),
        (change_metric, "mae on test"),
        (lambda folder: (folder / "model.tflite").unlink(), "model.tflite is missing"),
        (lambda folder: (folder / "card.json").unlink(), "card.json is missing"),
        (lambda folder: (folder / "weights.safetensors").unlink(), "weights.safetensors is missing"),
        (shutil.rmtree, "card.json is missing"),
    ],
)
def test_verify_sees_damage_and_the_same_run_again_mends_it(finished: Workplace, damage: Damage, expected: str) -> None:
    identity = next(name for name in cards(finished) if name != "seed")
    damage(finished.folder / RUN / "models" / identity)
    outcome = finished.qanas("verify", RUN)
    assert outcome.code == 1, outcome.err
    assert "Traceback" not in outcome.err
    lines = {line.partition(":")[0]: line for line in outcome.out.splitlines()}
    assert expected in lines[identity]
    assert "as its card says" in lines["seed"]
    assert finished.qanas("run", finished.recipe()).code == 0
    assert finished.qanas("verify", RUN).code == 0


def test_a_card_that_is_no_card(finished: Workplace) -> None:
    path = finished.folder / RUN / "models" / "seed" / "card.json"
    path.write_text('{"candidate": ', "utf-8")
    for command in ("verify", "report", "pick"):
        assert str(path.relative_to(finished.folder)) in finished.refusal(command, RUN)
    assert finished.qanas("run", finished.recipe()).code == 0
    assert finished.qanas("verify", RUN).code == 0


def test_verify_without_any_model(finished: Workplace) -> None:
    shutil.rmtree(finished.folder / RUN / "models")
    (finished.folder / RUN / "finalists.csv").unlink()
    outcome = finished.qanas("verify", RUN)
    assert outcome.code == 1
    assert "no model was shipped" in outcome.line


def test_verify_on_other_data(finished: Workplace) -> None:
    with (finished.data / "RUL_FD001.txt").open("a") as file:
        file.write("\n")
    message = finished.refusal("verify", RUN)
    assert "data_fingerprint" in message


# pick


def test_pick_gives_the_best_model_within_the_limit_with_the_reason(finished_once: Workplace) -> None:
    found = cards(finished_once)

    def score(name: str) -> float:
        return float(found[name]["metrics"]["deployed"]["val"]["mae"]["shipped"])

    for bound in sorted({card["weight_bytes"] for card in found.values()}):
        outcome = finished_once.qanas("pick", RUN, "--limit", f"weight_bytes={bound}")
        assert outcome.code == 0, outcome.err
        within = [name for name, card in found.items() if card["weight_bytes"] <= bound]
        best = min(within, key=lambda name: (score(name), found[name]["weight_bytes"]))
        assert outcome.out.startswith(f"{RUN}/models/{best}: best deployed validation mae")
        assert f"weight_bytes <= {bound}" in outcome.out
        assert f"of the {len(within)} of {len(found)} shipped models" in outcome.out


def test_pick_within_several_limits(finished_once: Workplace) -> None:
    smallest = min(cards(finished_once).values(), key=lambda card: int(card["weight_bytes"]))
    limits = [f"--limit={cost}={smallest[cost]}" for cost in ("weight_bytes", "macs")]
    outcome = finished_once.qanas("pick", RUN, *limits)
    assert outcome.code == 0, outcome.err
    assert f"weight_bytes <= {smallest['weight_bytes']} and macs <= " in outcome.out


def test_report_and_pick_need_the_runs_files_alone(finished: Workplace) -> None:
    page = finished.folder / RUN / "report.html"
    before = page.read_text("utf-8").replace("moved", "tiny")
    page.unlink()
    shutil.rmtree(finished.data)
    finished.recipe().unlink()
    (finished.folder / RUN).rename(finished.folder / "moved")
    outcome = finished.qanas("report", "moved")
    assert outcome.code == 0, outcome.err
    after = finished.folder / "moved" / "report.html"
    assert after.read_text("utf-8").replace("moved", "tiny") == before
    assert finished.qanas("pick", "moved").code == 0
    assert "task.data" in finished.refusal("verify", "moved")


def test_report_of_a_run_that_was_stopped_early(workplace: Workplace) -> None:
    recipe = workplace.recipe()
    killed = workplace.qanas("run", recipe, kill=("qanas.workflows.trial_store:TrialStore.tell", 2))
    assert killed.code == -9
    outcome = workplace.qanas("report", RUN)
    assert outcome.code == 0, outcome.err
    assert (workplace.folder / RUN / "report.html").is_file()
    pick = workplace.refusal("pick", RUN)
    assert "no model was shipped" in pick


# compare


def test_compare_writes_a_page_and_its_numbers(finished_once: Workplace, tmp_path: Path) -> None:
    outcome = finished_once.qanas("compare", RUN, RUN, "--out", tmp_path / "both")
    assert outcome.code == 0, outcome.err
    assert "hypervolume" in outcome.out
    assert (tmp_path / "both" / "compare.html").is_file()
    numbers = json.loads((tmp_path / "both" / "compare.json").read_text("utf-8"))
    first, second = (run["search"]["hypervolume"] for run in numbers["runs"])
    assert 0 < first == second
    named = ("--score", "mae_float", "--cost", "float_weight_bytes")
    assert finished_once.qanas("compare", RUN, RUN, *named, "--out", tmp_path / "float.html").code == 0


@pytest.mark.parametrize(
    ("args", "told"),
    [
        ([RUN], "two or more"),
        ([RUN, "nowhere"], "nowhere: no such folder"),
        ([RUN, RUN, "--score", "mea_quantized"], "did you mean 'mae_quantized'?"),
        ([RUN, RUN, "--cost", "weight_byte"], "did you mean 'weight_bytes'?"),
    ],
)
def test_compare_refuses_in_one_line(finished: Workplace, args: list[str | Path], told: str) -> None:
    assert told in finished.refusal("compare", *args)


# Other programs


def test_optuna_opens_the_study_with_its_objectives_named(finished_once: Workplace) -> None:
    """What optuna-dashboard reads: a study whose directions, names and trials are those of the run."""
    study = optuna.load_study(study_name="qanas", storage=f"sqlite:///{finished_once.folder / RUN / 'study.db'}")
    assert study.metric_names == ["mae_quantized", "weight_bytes"]
    assert [direction.name for direction in study.directions] == ["MINIMIZE", "MINIMIZE"]
    trials = pl.read_parquet(finished_once.folder / RUN / "trials.parquet")
    assert [trial.values for trial in study.trials] == [list(row) for row in trials.select(study.metric_names).rows()]
    assert [trial.params.get("layers") for trial in study.trials] == trials["layers"].to_list()
