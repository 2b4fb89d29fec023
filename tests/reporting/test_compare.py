"""Runs beside each other: hypervolumes on one scale, what is refused, and what is said to be unfair."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from io import StringIO
from itertools import product
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from rich.console import Console

from qanas.core.card import Card
from qanas.core.errors import InputError
from qanas.core.measures import Cost, Measure, Metric
from qanas.core.run_folder import RunFolder
from qanas.reporting.comparison import Comparison, Entry, Overlay, compare_runs
from qanas.reporting.comparison_page import comparison_json, print_comparison, run_rows, write_comparison
from qanas.reporting.wording import EMPTY

MakeNamed = Callable[..., RunFolder]
MAE, BYTES, R2 = Metric("mae"), Cost("weight_bytes"), Metric("r2", better="maximize")


def _entries(points: Sequence[tuple[float, ...]]) -> list[Entry]:
    return [Entry(str(place), point) for place, point in enumerate(points)]


def _overlay(*runs: Sequence[tuple[float, ...]], measures: tuple[Measure, ...] = (MAE, BYTES)) -> Overlay:
    return Overlay.of(measures, [_entries(points) for points in runs])


# Hypervolumes


def test_hypervolumes_by_hand() -> None:
    """Scales: MAE 1 to 3, bytes 10 to 50. Run one holds both ends, run two one point in the middle of the box."""
    overlay = _overlay([(1.0, 50.0), (3.0, 10.0)], [(2.0, 30.0)])
    box = 1.1**2
    ends = 1.1 * 0.1 + 0.1 * 1.1 - 0.1 * 0.1  # two strips of 0.1 along the far sides, their common corner once
    assert overlay.volumes == pytest.approx((ends / box, 0.6 * 0.6 / box))
    assert overlay.reference == pytest.approx((3.2, 54.0))
    assert [[entry.name for entry in front] for front in overlay.joint] == [["0", "1"], ["0"]]


def test_costs_over_a_decade_are_scaled_by_their_logarithm() -> None:
    overlay = _overlay([(1.0, 1000.0), (3.0, 10.0)], [(3.0, 100.0)])
    bytes_axis = overlay.axes[1]
    assert bytes_axis.log
    assert bytes_axis.scaled(100.0) == pytest.approx(0.5)
    assert overlay.reference[1] == pytest.approx(10 ** (1 + 2 * 1.1))


def test_a_maximised_score_is_better_when_larger() -> None:
    overlay = _overlay([(0.9, 20.0)], [(0.5, 20.0)], measures=(R2, BYTES))
    assert overlay.volumes[0] > overlay.volumes[1]
    assert [len(front) for front in overlay.joint] == [1, 0]
    assert overlay.axes[0].best == 0.9


def test_hypervolume_is_that_of_counted_boxes_in_three_dimensions() -> None:
    runs = [[(0.0, 4.0, 2.0), (2.0, 2.0, 0.0)], [(4.0, 0.0, 4.0), (1.0, 3.0, 1.0)]]
    overlay = _overlay(*runs, measures=(MAE, BYTES, Cost("macs")))
    steps = 44  # the scaled points lie on multiples of 1/4, the reference on 1.1: cells of 1/40
    for points, volume in zip(runs, overlay.volumes, strict=True):
        scaled = [[value / 4 for value in point] for point in points]
        centres = [(cell + 0.5) / 40 for cell in range(steps)]
        inside = sum(any(all(map(float.__le__, p, c)) for p in scaled) for c in product(centres, repeat=3))
        assert volume == pytest.approx(inside / steps**3)


def test_order_and_dominated_points_change_nothing() -> None:
    one, two = [(1.0, 40.0), (2.0, 20.0)], [(1.5, 30.0)]
    forth, back = _overlay(one, two), _overlay([*two, (1.9, 39.0)], one[::-1])
    assert forth.volumes == back.volumes[::-1]


def test_a_run_without_points_has_no_volume() -> None:
    overlay = _overlay([(1.0, 40.0)], [])
    assert overlay.volumes == (1.0, 0.0), "a lone point is the best corner"
    with pytest.raises(ValueError, match="no front"):
        _ = _overlay([], []).axes


# Runs


@pytest.fixture
def make_named(tmp_path: Path, make_run: Callable[..., RunFolder]) -> MakeNamed:
    """Write a run under a name of its own."""

    def make(name: str, **tables: Any) -> RunFolder:  # noqa: ANN401 - tables of a recipe
        return RunFolder(make_run(**tables).path.rename(tmp_path / name))

    return make


def _worsen(run: RunFolder, by: float) -> None:
    front = pl.read_csv(run.front)
    front = front.with_columns(pl.col("mae_quantized") + by, pl.col("weight_bytes") * 2)
    front.write_csv(run.front)


@pytest.fixture
def pair(make_named: MakeNamed) -> tuple[RunFolder, RunFolder]:
    one, two = make_named("one"), make_named("two")
    _worsen(two, 1.0)
    return one, two


def test_the_worse_run_has_the_smaller_hypervolume_and_no_point_on_the_joint_front(
    pair: tuple[RunFolder, RunFolder],
) -> None:
    comparison = compare_runs(pair)
    assert comparison.labels == ("one", "two")
    assert comparison.search.volumes[0] > comparison.search.volumes[1]
    assert comparison.search.joint[0] == comparison.search.fronts[0]
    assert comparison.search.joint[1] == ()
    assert comparison.unfair == []
    assert comparison.differences == ()


def test_the_same_run_twice_is_equal(run: RunFolder) -> None:
    comparison = compare_runs([run, run])
    assert comparison.search.volumes[0] == comparison.search.volumes[1]
    assert len(set(comparison.labels)) == 2
    assert comparison.deployed is not None
    assert comparison.deployed.volumes[0] == comparison.deployed.volumes[1]


def test_validation_ranks_what_was_deployed_and_test_does_not(make_named: MakeNamed) -> None:
    one, two = make_named("one"), make_named("two")
    for name in two.cards():
        path = two.model(name) / "card.json"
        content = json.loads(path.read_text("utf-8"))
        content["metrics"]["deployed"]["test"]["mae"]["mean"] = 0.001
        path.write_text(Card.model_validate(content).to_json())
    comparison = compare_runs([one, two])
    assert comparison.deployed is not None
    assert comparison.deployed.volumes[0] == comparison.deployed.volumes[1]
    shown = comparison.shipped(1)
    assert [model.test.mean for model in shown if model.test is not None] == [0.001] * len(shown)
    assert "seed" not in {model.name for model in shown}
    assert [model.cost for model in shown] == sorted(model.cost for model in shown)


FLOAT = {"mae_float": "minimize", "float_weight_bytes": "minimize"}


def test_other_objectives_are_refused_by_folder_and_name(make_named: MakeNamed) -> None:
    with pytest.raises(
        InputError, match=r"two: its front's axes are mae_float \(minimize\), float_weight_bytes"
    ) as told:
        compare_runs([make_named("one"), make_named("two", objectives=FLOAT)])
    assert "one are mae_quantized (minimize), weight_bytes (minimize)" in str(told.value)


def test_another_number_of_objectives_is_refused(make_named: MakeNamed) -> None:
    with pytest.raises(InputError, match=r"two: its front's axes are mae_quantized \(minimize\),"):
        compare_runs([make_named("one"), make_named("two", objectives={"mae_quantized": "minimize"})])


def test_a_float_and_a_quantized_run_compare_by_named_columns(make_named: MakeNamed) -> None:
    runs = [make_named("one"), make_named("two", objectives=FLOAT)]
    comparison = compare_runs(runs, "mae_quantized", "weight_bytes")
    assert comparison.chosen
    assert comparison.search.measures == (MAE, BYTES)
    assert comparison.search.volumes[0] == comparison.search.volumes[1]
    shipped = comparison.deployed
    assert shipped is not None
    assert [measure.column for measure in shipped.measures] == ["mae_deployed", "weight_bytes"]


@pytest.mark.parametrize(
    ("score", "cost", "told"),
    [
        ("mae_quantised", "weight_bytes", r"--score mae_quantised: .*did you mean 'mae_quantized'"),
        ("weight_bytes", "weight_bytes", "--score weight_bytes"),
        ("mae_quantized", "bytes", "--cost bytes"),
        ("rmse_quantized", "weight_bytes", "no run has an objective about rmse"),
        ("mae_quantized", None, "its costs are float_weight_bytes"),
        (None, "weight_bytes", "its scores are mae_float"),
    ],
)
def test_columns_that_do_not_fit_are_refused(
    make_named: MakeNamed, score: str | None, cost: str | None, told: str
) -> None:
    runs = [make_named("one"), make_named("two", objectives=FLOAT)]
    with pytest.raises(InputError, match=told):
        compare_runs(runs, score, cost)


def test_one_run_a_missing_front_and_a_missing_run_are_refused(run: RunFolder, bare_run: RunFolder) -> None:
    with pytest.raises(InputError, match="two or more"):
        compare_runs([run])
    with pytest.raises(InputError, match=r"front\.csv: no front yet"):
        compare_runs([run, bare_run])
    with pytest.raises(InputError, match="no such folder"):
        compare_runs([run, RunFolder(run.path / "nowhere")])


@pytest.mark.parametrize(
    ("tables", "key"),
    [
        ({"data_fingerprint": "sha256:00"}, "data_fingerprint is sha256:5f"),
        ({"task": {"name": "turbofan", "data": "x", "subset": "FD003", "window": 30, "rul_cap": 125.0}}, "task.subset"),
    ],
)
def test_other_data_and_tasks_are_said_to_be_unfair(make_named: MakeNamed, tables: dict[str, Any], key: str) -> None:
    comparison = compare_runs([make_named("one"), make_named("two", **tables)])
    assert len(comparison.unfair) == 1
    assert comparison.unfair[0].startswith(key)
    assert "in one" in comparison.unfair[0]
    assert "in two" in comparison.unfair[0]


def test_another_protocol_is_unfair_and_another_budget_is_told(make_named: MakeNamed) -> None:
    one, two = make_named("one"), make_named("two", strategy={"name": "random", "trials": 7})
    for name, card in two.cards().items():
        other = card.model_copy(update={"protocol": card.protocol | {"cap": "none"}})
        (two.model(name) / "card.json").write_text(other.to_json())
    comparison = compare_runs([one, two])
    assert comparison.unfair == ["protocol.cap is at 125 cycles in every split in one, none in two"]
    assert [d.key for d in comparison.differences] == ["protocol.cap", "strategy.name", "strategy.trials"]


# What is written


def _written(comparison: Comparison, out: Path) -> tuple[str, dict[str, Any]]:
    page, numbers = write_comparison(comparison, out)
    return page.read_text("utf-8"), json.loads(numbers.read_text("utf-8"))


def test_the_page_opens_offline_and_tells_the_numbers(pair: tuple[RunFolder, RunFolder], tmp_path: Path) -> None:
    comparison = compare_runs(pair)
    html, numbers = _written(comparison, tmp_path / "out")
    page = html
    assert "default-src 'none'" in page
    assert "http" not in page.replace("http-equiv", "")
    assert all(f"<td>{volume:.4f}</td>" in page for volume in comparison.search.volumes)
    assert "Reference point: 1.1 on every scaled axis" in page
    assert [found["search"]["hypervolume"] for found in numbers["runs"]] == list(comparison.search.volumes)
    assert numbers["search"][0] == {
        "objective": "mae_quantized",
        "direction": "minimize",
        "best": comparison.search.axes[0].best,
        "worst": comparison.search.axes[0].worst,
        "scale": "linear",
        "reference": comparison.search.reference[0],
    }
    assert numbers["fair"] is True
    models = numbers["runs"][0]["models"]
    card = pair[0].cards()[models[0]["name"]]
    assert models[0]["val"]["mean"] == card.metric("deployed", "val", "mae").mean


def test_out_names_the_page_or_its_folder(run: RunFolder, tmp_path: Path) -> None:
    comparison = compare_runs([run, run])
    assert write_comparison(comparison, tmp_path / "a" / "b.html")[1] == tmp_path / "a" / "b.json"
    assert write_comparison(comparison, tmp_path / "c")[0] == tmp_path / "c" / "compare.html"


def test_names_from_the_folders_are_escaped(make_named: MakeNamed, tmp_path: Path) -> None:
    evil = "<img src=x onerror=alert(1)>"
    html, _ = _written(compare_runs([make_named(evil), make_named("two")]), tmp_path)
    assert evil not in html


def test_one_and_three_objectives(make_named: MakeNamed, tmp_path: Path) -> None:
    one = {"mae_quantized": "minimize"}
    three = one | {"weight_bytes": "minimize", "macs": "minimize"}
    for name, objectives in (("one", one), ("three", three)):
        comparison = compare_runs([make_named(f"{name}{k}", objectives=objectives) for k in range(2)])
        html, numbers = _written(comparison, tmp_path / name)
        assert len(numbers["search"]) == len(objectives)
        assert ('data-menu="search"' in html) == (len(objectives) == 3)


def test_runs_that_shipped_nothing_compare_by_their_fronts(bare_run: RunFolder, run: RunFolder, tmp_path: Path) -> None:
    bare_run.front.write_bytes(run.front.read_bytes())
    comparison = compare_runs([bare_run, bare_run])
    assert comparison.deployed is None
    assert comparison_json(comparison)["deployed"] is None
    assert "None of the runs has shipped" in _written(comparison, tmp_path)[0]


def test_a_run_that_shipped_nothing_has_no_hypervolume_of_models(bare_run: RunFolder, run: RunFolder) -> None:
    bare_run.front.write_bytes(run.front.read_bytes())
    comparison = compare_runs([run, bare_run])
    shipped, bare = comparison_json(comparison)["runs"]
    assert shipped["deployed"]["hypervolume"] > 0
    assert bare["deployed"] is None
    assert [cells[-1] for cells in run_rows(comparison)[1]][1] == EMPTY


def test_the_terminal_tells_numbers_scales_and_unfairness(make_named: MakeNamed) -> None:
    comparison = compare_runs([make_named("one"), make_named("two", data_fingerprint="sha256:00")])
    console = Console(file=StringIO(), width=120)
    print_comparison(console, comparison)
    assert isinstance(console.file, StringIO)
    text = console.file.getvalue()
    assert text.count(f"{comparison.search.volumes[0]:.4f}") == 2
    assert "Reference point: 1.1" in text
    assert "not a fair comparison: data_fingerprint is" in text


def test_a_run_whose_cards_lack_the_cost_shows_its_front_alone(make_named: MakeNamed, tmp_path: Path) -> None:
    objectives = {"objectives": {"mae_quantized": "minimize", "latency_ms": "minimize"}}
    runs = [make_named(name, **objectives) for name in ("timed", "untimed")]
    for run in runs:
        run.front.write_text(run.front.read_text().replace(",macs,", ",latency_ms,", 1))
    for name, card in runs[1].cards().items():
        (runs[1].model(name) / "card.json").write_text(card.model_copy(update={"latency_ms": {}}).to_json())
    comparison = compare_runs(runs)
    assert [len(comparison.shipped(place)) > 0 for place in (0, 1)] == [True, False]
    write_comparison(comparison, tmp_path / "compared.html")
