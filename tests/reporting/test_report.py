import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import polars as pl
import pytest
from plotly.offline import get_plotlyjs
from tests.reporting.page import Page, coloured, unpacked

from qanas.core.card import Card, Latency, Learning, Statistic
from qanas.core.classes import Classes
from qanas.core.errors import InputError
from qanas.core.run_folder import RunFolder, write_parquet
from qanas.reporting.models import model_table
from qanas.reporting.report import write_report
from qanas.reporting.run_data import read_run
from qanas.shipping.mistaken import mistaken_inputs
from qanas.tasks.samples import Split

EVIL = '"><script>alert("x")</script><img src=x onerror=alert(1)>'
ALL_PLOTS = ["front", "shipped", "quantization", "lives", "scatter", "errors", "progress", "importance", "parallel"]
WITHOUT_PREDICTIONS = [name for name in ALL_PLOTS if name not in ("lives", "scatter", "errors")]


FAILED_REASON = "parity: 3 steps between simulated and deployed outputs, at most 1 allowed"
TRAINED = 3
MakeRun = Callable[..., RunFolder]


def _page(run: RunFolder) -> Page:
    return Page(write_report(run).read_text("utf-8"))


def test_a_finished_run_has_every_section_and_plot(run: RunFolder) -> None:
    page = _page(run)
    assert page.plots == ALL_PLOTS
    for heading in ("Score against cost", "Shipped models", "Predicted against true", "Search progress", "Protocol"):
        assert heading in page.text
    assert "not complete" not in page.text


def test_the_headline_tells_what_came_out(run: RunFolder) -> None:
    text = _page(run).text
    assert "3 models shipped, besides the reference; 1 finalist failed." in text
    assert "60 trials measured, 14 rejected before training, 1 failed" in text
    smallest, seed = run.cards()["m0"], run.cards()["seed"]
    assert f"The smallest, m0, has {smallest.weight_bytes} bytes of weights" in text
    assert "None scores as well as the reference; the best, " in text
    assert f"{seed.weight_bytes / smallest.weight_bytes:.0f} times smaller" in text


def test_the_headline_names_the_smallest_model_that_is_as_good_as_the_seed(run: RunFolder) -> None:
    card = run.cards()["seed"].model_copy(update={"candidate": "m1", "weight_bytes": 1234})
    (run.model("m1") / "card.json").write_text(card.to_json())
    told = "The smallest that scores at least as well as the reference on validation, m1, has 1,234 bytes"
    assert told in _page(run).text


def test_plots_are_valid_for_plotly_with_every_choice(run: RunFolder) -> None:
    page = _page(run)
    for name in page.plots:
        spec = coloured(page.plot(name))
        for choice in spec["choices"] or [{"traces": {}, "layout": {}}]:
            traces = [trace | choice["traces"].get(str(place), {}) for place, trace in enumerate(spec["traces"])]
            figure = go.Figure({"data": traces, "layout": spec["layout"] | choice["layout"]})
            assert len(figure.data) == len(spec["traces"])


def test_nothing_is_loaded_from_elsewhere(run: RunFolder) -> None:
    page = _page(run)
    assert "default-src 'none'" in page.html
    assert not any(value.startswith(("http", "//")) for name in ("src", "href") for value in page.attributes(name))
    assert not {tag for tag, _ in page.elements} & {"link", "iframe", "img", "object", "embed"}
    assert "@import" not in page.html
    assert "url(" not in page.html


def test_plotly_is_there_once_and_the_page_is_small(run: RunFolder) -> None:
    path = write_report(run)
    assert unpacked(path.read_text("utf-8"), "plotly") == get_plotlyjs()
    assert path.stat().st_size < 2_500_000


def test_numbers_in_the_table_are_the_cards(run: RunFolder) -> None:
    page = _page(run)
    for card in run.cards().values():
        for name in ("weight_bytes", "packed_weight_bytes", "file_bytes", "peak_ram_bytes", "macs"):
            value = getattr(card, name)
            cells = zip(page.cells, page.titles, strict=True)
            assert any(text.strip() == f"{value:,}" and title == str(value) for text, title in cells)
        for split in ("val", "test"):
            found = card.metric("deployed", split, "mae")
            place = page.titles.index(f"mean {found.mean!r}, sd {found.std!r}, shipped {found.shipped!r}")
            assert page.cells[place].strip() == f"{found.mean:.2f} ± {found.std:.2f} ({TRAINED})"
        cost = card.metric("quantized", "val", "mae").mean - card.metric("float", "val", "mae").mean
        assert repr(cost) in page.titles


def test_models_have_names_that_say_what_they_are(run: RunFolder) -> None:
    card = run.cards()["m0"].model_copy(update={"described": "1-4-1 units, 8 bits"})
    (run.model("m0") / "card.json").write_text(card.to_json())
    page = _page(run)
    assert any("m0" in cell and "1-4-1 units, 8 bits" in cell for cell in page.cells)
    assert "The smallest, m0 (1-4-1 units, 8 bits), has" in page.text
    assert "(synthetic data)" in page.text
    assert "The data is synthetic: scores tell nothing of real data." in page.text
    assert f"qanas pick {run.path.name}" in page.text


def test_axes_look_at_the_front_and_captions_follow_them(run: RunFolder) -> None:
    summary = json.loads(run.summary.read_text())
    run.write_summary(summary | {"metrics": {"mae": "minimize", "rmse": "minimize"}})
    trials, worst = pl.read_parquet(run.trials), pl.read_csv(run.front)["mae_quantized"].max()
    off = (pl.col("index") % 3 == 1) & ~pl.col("index").is_in(pl.read_csv(run.front)["index"].implode())
    far = pl.when(off).then(1e6).otherwise(pl.min_horizontal("mae_quantized", worst)).alias("mae_quantized")
    write_parquet(run.trials, trials.with_columns(far))
    hidden = trials.filter(off, outcome="measured").height
    assert hidden > trials.height // 20, "more than a twentieth is far off, and still not what is looked at"
    spec = _page(run).plot("front")
    low, high = spec["layout"]["yaxis"]["range"]
    front = pl.read_csv(run.front)["mae_quantized"]
    assert low < front.min() <= front.max() < high < 100  # type: ignore[operator]
    by_label = dict(zip(_labels(run), spec["choices"], strict=True))
    assert by_label.keys() >= {"MAE (quantized) against weights, bytes", "RMSE (quantized) against weights, bytes"}
    captions = {label: choice["caption"] for label, choice in by_label.items()}
    assert f"the worst {hidden} trials are left out" in captions["MAE (quantized) against weights, bytes"]
    assert captions["RMSE (quantized) against weights, bytes"] != captions["MAE (quantized) against weights, bytes"]


def _labels(run: RunFolder) -> list[str]:
    """Entries of the menu of axes."""
    html = run.report.read_text("utf-8")
    menu = html[html.index('data-menu="front"') :]
    return re.findall(r'<option value="\d+">([^<]*)</option>', menu[: menu.index("</select>")])


def test_learning_curves_and_scores_on_training_data(run: RunFolder) -> None:
    learning = Learning(losses=[9.0, 4.0, float("nan"), 2.0], train={"mae": 3.21})
    card = run.cards()["m0"].model_copy(update={"learning": learning})
    (run.model("m0") / "card.json").write_text(card.to_json())
    page = _page(run)
    (curve,) = page.plot("learning")["traces"]
    assert (curve["name"], curve["x"], curve["y"]) == ("m0", [1, 2, 3, 4], [9.0, 4.0, None, 2.0])
    assert "MAE 3.21 on training data, " in curve["text"][0]
    assert "3.21" in [cell.strip() for cell in page.cells]
    assert "MAE, train" in " ".join(page.cells)


def test_scores_while_training_are_drawn(run: RunFolder) -> None:
    points = [{"epoch": e, "train_mae": 9 / e, "val_mae": 10 / e} for e in (1, 2, 3)]
    learning = Learning(losses=[9.0, 4.0, 2.0], train={"mae": 3.0}, curve=points)
    (run.model("m0") / "card.json").write_text(run.cards()["m0"].model_copy(update={"learning": learning}).to_json())
    rows = pl.read_parquet(run.trials)
    curve = [[12.0, 9.0] if outcome == "measured" else None for outcome in rows["outcome"]]
    lists = [pl.Series(f"curve_{side}_mae", curve, pl.List(pl.Float64())) for side in ("train", "val")]
    write_parquet(run.trials, rows.with_columns(lists))
    page = _page(run)
    train, val = page.plot("curves")["traces"]
    assert (train["x"], train["y"], val["y"]) == ([1, 2, 3], [9.0, 4.5, 3.0], [10.0, 5.0, 3.33333])
    dots = [trace for trace in page.plot("fit")["traces"] if trace["mode"] == "markers"]
    assert {value for trace in dots for value in trace["y"]} == {9.0}
    assert "curve" not in str(page.plot("parallel")), "it is no setting"


def test_errors_lie_over_the_true_value(run: RunFolder) -> None:
    low, high, mean = _page(run).plot("errors")["traces"]
    assert len(mean["x"]) == 8, "of forty test engines, five a bin"
    assert mean["x"] == sorted(mean["x"])
    assert all(a <= b <= c for a, b, c in zip(low["y"], mean["y"], high["y"], strict=True))


def test_classes_are_told_one_by_one(run: RunFolder) -> None:
    classes = Classes.of({"val": np.array([[8, 0, 0], [1, 3, 0], [2, 0, 0]])}, ["sound", "scratch", "dent"])
    for name in ("seed", "m0"):
        card = run.cards()[name].model_copy(update={"classes": classes})
        (run.model(name) / "card.json").write_text(card.to_json())
    page = _page(run)
    rows = {cell.strip(): place for place, cell in enumerate(page.cells)}
    dent = [cell.split() for cell in page.cells[rows["dent"] + 1 : rows["dent"] + 5]]
    never = ["never", "predicted"]
    assert dent == [["2"], ["0", *never], ["\N{EN DASH}", *never], ["0", *never]]
    assert page.cells[rows["scratch"] + 2].strip() == "0.750"
    assert "seed: recall" in page.text


def test_models_link_to_their_files(run: RunFolder) -> None:
    links = _page(run).attributes("href")
    assert len(links) == 4 * len(("model", "card", "firmware"))
    assert all((run.path / link).is_file() for link in links if "firmware" not in link)


def test_failures_are_listed_with_their_reason(run: RunFolder) -> None:
    text = _page(run).text
    assert "Not shipped: 1" in text
    assert f"m3: {FAILED_REASON}" in text


def test_failures_are_known_from_either_file(run: RunFolder) -> None:
    run.summary.unlink()
    assert f"m3: {FAILED_REASON}" in _page(run).text
    run.write_summary({"status": "done", "finalists": {"failures": [{"candidate": "m3", "reason": FAILED_REASON}]}})
    run.finalists.unlink()
    assert f"m3: {FAILED_REASON}" in _page(run).text


def test_rejection_reasons_that_differ_in_numbers_count_as_one(run: RunFolder) -> None:
    text = _page(run).text
    assert re.search(r"14 rejected, for example: peak_ram_bytes \d+ is over the limit of 4096", text)
    assert "1 failed: the loss is not finite" in text


def test_protocol_versions_and_recipe_are_told(run: RunFolder) -> None:
    text = _page(run).text
    for told in (
        "split.val",
        "all windows of the validation engines",
        "2, 5, 9, 14, 21",
        "LiteRT 2.3.0",
        "5f5f5f",
    ):
        assert told in text
    assert 'mae_quantized = "minimize"' in text


def test_a_protocol_that_differs_between_models_says_so(run: RunFolder) -> None:
    path = run.model("m1") / "card.json"
    card = Card.model_validate_json(path.read_bytes())
    path.write_text(card.model_copy(update={"protocol": card.protocol | {"cap": "none"}}).to_json())
    assert "differs between the models" in _page(run).text


@pytest.mark.parametrize("missing", ["trials.parquet", "front.csv", "finalists.csv", "summary.json", "models"])
def test_a_missing_file_is_named_and_the_rest_is_shown(run: RunFolder, missing: str) -> None:
    path = run.path / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    page = _page(run)
    assert "not complete" in page.text
    assert missing in page.text
    assert "front" in page.plots
    assert ("progress" in page.plots) == (missing != "trials.parquet")


def test_a_recipe_alone_is_enough(bare_run: RunFolder) -> None:
    page = _page(bare_run)
    assert page.plots == []
    assert "No trial is recorded yet" in page.text
    assert "trials.parquet or blocks/, front.csv, finalists.csv, summary.json, models/" in page.text


def test_empty_tables_are_no_error(run: RunFolder) -> None:
    for path in (run.trials, run.front, run.finalists):
        run.write_table(path, [])
    assert "lives" in _page(run).plots


def test_missing_predictions_leave_out_their_plots(run: RunFolder) -> None:
    for path in run.models.glob("*/predictions.npz"):
        path.unlink()
    assert _page(run).plots == WITHOUT_PREDICTIONS


def test_predictions_without_engines_give_a_scatter_alone(run: RunFolder) -> None:
    targets = np.linspace(0, 1, 3000)[:, None]
    for path in run.models.glob("*/predictions.npz"):
        np.savez(path, val_outputs=targets, val_targets=targets, test_outputs=targets, test_targets=targets)
    page = _page(run)
    assert page.plots == [name for name in ALL_PLOTS if name != "lives"]
    assert "1,000 of them are drawn" in page.text


def test_predictions_of_many_outputs_give_no_plot(run: RunFolder) -> None:
    for path in run.models.glob("*/predictions.npz"):
        np.savez(path, test_outputs=np.zeros((5, 3)), test_targets=np.zeros((5, 3)))
    assert _page(run).plots == WITHOUT_PREDICTIONS


def test_classes_give_a_confusion_matrix(run: RunFolder) -> None:
    """Of four samples of class 0 one is taken for class 2; the void sample counts for nothing."""
    targets, taken = np.array([0, 0, 0, 0, 1, 2, 255]), np.array([0, 0, 0, 2, 1, 1, 0])
    for path in run.models.glob("*/predictions.npz"):
        np.savez(path, test_outputs=np.eye(3, dtype=np.float32)[taken], test_targets=targets)
    page = _page(run)
    assert [name for name in page.plots if name not in WITHOUT_PREDICTIONS] == ["confusion"]
    (matrix,) = page.plot("confusion")["traces"]
    assert matrix["z"] == [[0.75, 0, 0.25], [0, 1, 0], [0, 1, 0]]
    assert matrix["text"][0][2] == "true 0, predicted 2<br>1 (25%)"
    assert go.Figure({"data": [coloured(matrix)]}).data[0].type == "heatmap"


def test_what_shipped_is_drawn_against_the_latency_on_each_device(run: RunFolder) -> None:
    for name, card in run.cards().items():
        further = {"stm32l4r5": Latency(cycles=100.0 * card.macs, ms=card.macs / 1e6, kernels="by formula")}
        told = card.model_copy(update={"latency_ms": card.latency_ms | further})
        (run.model(name) / "card.json").write_text(told.to_json())
    page = _page(run)
    spec = page.plot("shipped")
    axes = [choice["layout"]["xaxis"]["title"]["text"].removesuffix(" (log scale)") for choice in spec["choices"]]
    assert axes == ["latency on host, ms", "latency on stm32l4r5, ms", "cycles on stm32l4r5"]
    names = [trace["name"] for trace in spec["traces"]]
    place = names.index("networks, validation")
    drawn = sorted(spec["choices"][1]["traces"][str(place)]["x"])
    assert drawn == sorted(card.macs / 1e6 for name, card in run.cards().items() if name != "seed")
    assert spec["choices"][1]["caption"].endswith("Latency: by formula.")


def test_every_model_can_be_chosen(run: RunFolder) -> None:
    page = _page(run)
    labels = [value for _, attributes in page.elements if (value := attributes.get("data-menu"))]
    assert labels == ["front", "quantization", "lives", "scatter", "errors"]
    assert page.plot("lives")["layout"]["annotations"][0]["text"] == "engine 2, 140 cycles"
    assert len(page.plot("lives")["choices"]) == len(run.cards())


def test_text_from_the_run_is_escaped(make_run: MakeRun) -> None:
    run = make_run(task={"name": EVIL, "subset": EVIL}, versions={EVIL: EVIL}, data_fingerprint=EVIL)
    evil = pl.col("optimizer").str.replace("adam", "<script>alert(2)</script>")
    write_parquet(run.trials, pl.read_parquet(run.trials).with_columns(evil))
    for path in (run.front, run.finalists):
        path.write_text(path.read_text().replace("adam", "<script>alert(2)</script>"))
    card = run.cards()["m1"].model_copy(update={"protocol": {EVIL: EVIL}})
    (run.model("m1") / "card.json").write_text(card.to_json())
    failure = {"candidate": EVIL, "reason": EVIL}
    run.write_summary({"status": EVIL, "finalists": {"failures": [failure]}})
    page = _page(run)
    assert "<script>alert" not in page.html
    assert "<img" not in page.html
    assert EVIL in page.text
    hovers = [text for trace in page.plot("front")["traces"] for text in trace.get("text", [])]
    assert any("&lt;script&gt;" in text for text in hovers)
    assert not any("<script" in text for text in hovers)


def test_the_front_plot_has_a_log_axis_a_seed_and_error_bars(run: RunFolder) -> None:
    spec = _page(run).plot("front")
    dots, line, front, seed, finalists = spec["traces"]
    assert spec["layout"]["xaxis"]["type"] == "log"
    assert len(dots["x"]) == 59
    assert line["line"]["shape"] == "hv"
    assert line["x"] == sorted(line["x"])
    assert (line["x"], line["y"]) == (front["x"], front["y"])
    assert len(seed["x"]) == 1
    card = run.cards()["m0"].metric("quantized", "val", "mae")
    assert finalists["y"][1] == pytest.approx(card.mean)
    assert finalists["error_y"]["array"][1] == pytest.approx(card.std)


def test_three_objectives_are_shown_in_pairs_and_maximised_ones_climb(make_run: MakeRun) -> None:
    objectives = {"rmse_quantized": "maximize", "peak_ram_bytes": "minimize", "macs": "minimize"}
    page = _page(make_run(objectives=objectives))
    assert "RMSE (quantized) against planned RAM, bytes" in page.text
    assert "MACs against planned RAM, bytes" in page.text
    line = page.plot("front")["traces"][1]
    assert line["y"] == sorted(line["y"])
    assert len(page.plot("front")["choices"]) > 3


def test_objectives_of_the_float_network_place_finalists_by_key(make_run: MakeRun) -> None:
    objectives = {"mae_float": "minimize", "float_weight_bytes": "minimize"}
    run = make_run(objectives=objectives)
    finalists = _page(run).plot("front")["traces"][4]
    assert finalists["x"][0] == 4 * run.cards()["m0"].weight_bytes


def test_one_objective_is_plotted_against_a_cost(make_run: MakeRun) -> None:
    page = _page(make_run(objectives={"mae_quantized": "minimize"}))
    assert page.plot("front")["layout"]["xaxis"]["title"]["text"].startswith("weights, bytes")
    assert "progress" in page.plots


def test_hypervolume_grows_and_its_reference_is_told(run: RunFolder) -> None:
    page = _page(run)
    by_trial, by_time = page.plot("progress")["traces"]
    volumes, seconds = by_trial["y"], by_time["x"]
    assert volumes == by_time["y"] == sorted(volumes)
    assert 0 < volumes[-1] <= 1
    assert by_trial["x"] == sorted(by_trial["x"])
    assert seconds == sorted(seconds)
    spent = pl.read_parquet(run.trials)["train_seconds"].sum()
    assert seconds[-1] == pytest.approx(spent / 60, abs=1e-3)
    assert page.plot("progress")["layout"]["xaxis2"]["title"]["text"] == "training, CPU minutes"
    assert "Reference point: MAE (quantized)" in page.text
    assert "by its log10" in page.text


@pytest.mark.parametrize(
    "name", ["trials.parquet", "summary.json", "importance.json", "models/m0/predictions.npz", "models/m0/card.json"]
)
def test_a_damaged_file_is_named(run: RunFolder, name: str) -> None:
    (run.path / name).write_bytes(b'a,b\n"1,2\n3,4,5,6\n')
    with pytest.raises(InputError, match=name.rpartition("/")[2]):
        write_report(run)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"recipe\.toml"):
        write_report(RunFolder(tmp_path))


def test_the_report_is_the_same_each_time(run: RunFolder) -> None:
    first = write_report(run).read_bytes()
    assert write_report(run).read_bytes() == first


def test_trials_of_early_runs_are_read_from_their_csv(run: RunFolder) -> None:
    before = _page(run).plot("front")
    rows = pl.read_parquet(run.trials).to_dicts()
    run.write_table(run.trials_csv, rows)
    run.trials.unlink()
    page = _page(run)
    assert page.plot("front") == before
    assert "not complete" not in page.text


def test_axes_of_the_front_are_the_summarys(run: RunFolder) -> None:
    """A search by predicted scores draws those; what came out stands beside it."""
    summary = json.loads(run.summary.read_text())
    named = {"predicted_mae_quantized": "minimize", "weight_bytes": "minimize"}
    run.write_summary(summary | {"front_axes": named})
    predicted = pl.col("mae_quantized").alias("predicted_mae_quantized")
    write_parquet(run.trials, pl.read_parquet(run.trials).with_columns(predicted + 1))
    pl.read_csv(run.front, schema_overrides={"key": pl.String}).with_columns(predicted + 1).write_csv(run.front)
    page = _page(run)
    assert {"front", "shipped", "progress", "parallel"} <= set(page.plots)
    spec = page.plot("front")
    assert [trace["name"].partition(" (")[0] for trace in spec["traces"]] == [
        "trials",
        "Pareto front",
        "front points",
        "reference",
        "finalists retrained, mean ± sd",
        "finalists",
    ]
    front = pl.read_csv(run.front)
    assert spec["traces"][2]["y"] == front["predicted_mae_quantized"].to_list()
    assert spec["traces"][5]["y"] == front["predicted_mae_quantized"].to_list()[:3]
    assert "Scores stand for a metric that no point was trained for" in page.text
    score = run.cards()["m0"].metric("deployed", "val", "mae")
    assert score.mean in page.plot("shipped")["traces"][0]["y"]


def test_stages_of_any_search_are_listed_without_the_papers_hours(run: RunFolder) -> None:
    summary = json.loads(run.summary.read_text())
    summary["finalists"]["cpu_seconds"] = 90.0
    run.write_summary(summary | {"effort_cpu_seconds": {"reference": 30.0, "search": 120.0, "anchors": 6.0}})
    page = _page(run)
    at = page.cells.index("reference")
    rows = [page.cells[start : start + 2] for start in range(at, at + 12, 3)]
    assert rows == [["reference", "0.500"], ["search", "2"], ["finalists", "1"], ["anchors", "0.100"]]
    assert "Lu et al." not in page.text


def test_settings_called_like_costs_are_shown_with_their_group(run: RunFolder) -> None:
    table = pl.read_parquet(run.trials)
    write_parquet(run.trials, table.with_columns(pl.col("units_1").alias("architecture.macs")))
    heads = [text.replace("<br>", " ") for text in _page(run).plot("parallel")["layout"]["xaxis"]["ticktext"]]
    assert "architecture.macs" in heads


# What quantization costs


def test_quantization_costs_are_deployed_minus_float(run: RunFolder) -> None:
    spec = _page(run).plot("quantization")
    rows = pl.read_csv(run.finalists).sort("weight_bytes").to_dicts()
    for trace, split in zip(spec["traces"], ("val", "test"), strict=True):
        assert trace["x"] == [row[f"mae_deployed_{split}_mean"] - row[f"mae_float_{split}_mean"] for row in rows]
        assert [label.split(",")[0] for label in trace["y"]] == [row["candidate"] for row in rows]
    assert any("not shipped" in label for label in spec["traces"][0]["y"])
    rmse = spec["choices"][1]["traces"]["0"]["x"]
    assert rmse == [row["rmse_deployed_val_mean"] - row["rmse_float_val_mean"] for row in rows]


def test_finalists_without_scores_say_that_their_costs_are_not_known(run: RunFolder) -> None:
    run.finalists.unlink()
    page = _page(run)
    assert "quantization" not in page.plots
    assert "finalists.csv has no float and deployed scores" in page.text


# What mattered


def test_importance_has_a_panel_a_target_and_leaves_out_those_without_any(run: RunFolder) -> None:
    spec = _page(run).plot("importance")
    front, mae = spec["traces"]
    assert front["y"] == ["learning rate", "layers", "units 1"], "bars grow from the bottom"
    assert front["x"] == [0.2, 0.3, 0.5]
    assert mae["x"] == [0.9, 0.0, 0.1]
    assert [a["text"] for a in spec["layout"]["annotations"]] == ["reaching the front", "MAE (quantized)"]


def test_a_run_of_before_says_that_importance_is_not_there(run: RunFolder) -> None:
    run.importance.unlink()
    page = _page(run)
    assert "importance" not in page.plots
    assert "importance.json is not there" in page.text
    assert "not complete" not in page.text


def test_too_few_trials_for_importance_are_told(run: RunFolder) -> None:
    run.importance.write_text('{"trials": 7, "least_trials": 20, "targets": {}}')
    assert "Too few trials: 7 were measured, at least 20 are needed" in _page(run).text


# All trials


def test_every_measured_trial_is_a_line_across_all_axes(run: RunFolder) -> None:
    spec = _page(run).plot("parallel")
    heads = [text.replace("<br>", " ") for text in spec["layout"]["xaxis"]["ticktext"]]
    assert heads == ["layers", "units 1", "units 2", "learning rate", "optimizer", "MAE (quantized)", "weights bytes"]
    measured = pl.read_parquet(run.trials).filter(pl.col("outcome") == "measured")
    lines = [
        trace["y"][start : start + len(heads)]
        for trace in spec["traces"]
        for start in range(0, len(trace["y"]), len(heads) + 1)
    ]
    assert len(lines) == len(measured)
    for axis, column in ((5, measured["mae_quantized"]), (3, measured["learning_rate"].log10())):
        values = column.to_numpy()
        expected = np.sort((values - values.min()) / (values.max() - values.min()))
        assert sorted(line[axis] for line in lines) == pytest.approx(expected, abs=1e-4)
    assert sum(line[2] < 0 for line in lines) == measured["units_2"].null_count(), "below the axis: none"
    assert [trace["name"] for trace in spec["traces"]][-1] == "reference (1)"


def test_settings_that_never_change_and_searches_of_one_trial_are_not_drawn(run: RunFolder) -> None:
    assert "weight_bits" not in str(_page(run).plot("parallel")["layout"]["xaxis"]["ticktext"])
    write_parquet(run.trials, pl.read_parquet(run.trials).head(1))
    assert "parallel" not in _page(run).plots


def test_the_worst_engines_and_samples_are_told(run: RunFolder) -> None:
    with np.load(run.model("m0") / "predictions.npz") as stored:
        kept = dict(stored)
    kept["val_outputs"][kept["val_engine"] == 11] += 60
    kept["test_outputs"][7] = kept["test_targets"][7] - 99
    for path in run.models.glob("*/predictions.npz"):
        np.savez(path, allow_pickle=False, **kept)
    page = _page(run)
    first = page.cells.index("windows") + 1
    assert page.cells[first] == "engine 11"
    assert page.cells[first + 2].startswith("+6"), "it is told to live too long"
    worst = page.cells.index("predicted less true") + 1
    assert page.cells[worst] == "engine 8"
    assert page.cells[worst + 3].endswith("99")


def test_samples_of_wrong_classes_are_told_with_their_inputs(run: RunFolder) -> None:
    outputs = np.array([[3, 1, 0], [0, 5, 1], [1, 0, 9], [2, 1, 0]], np.float32)
    split = Split(np.arange(4 * 5 * 6, dtype=np.float32).reshape(4, 5, 6), np.array([0, 0, 0, 1]))
    kept = {"outputs": outputs, "targets": split.targets, **mistaken_inputs(outputs, split)}
    assert kept["mistaken"].tolist() == [2, 1, 3], "the surest first"
    for path in run.models.glob("*/predictions.npz"):
        np.savez(path, allow_pickle=False, **{f"test_{name}": values for name, values in kept.items()})
    for name in run.cards():
        named = run.cards()[name].model_copy(update={"preprocessing": {"classes": ["silence", "yes", "<no>"]}})
        (run.model(name) / "card.json").write_text(named.to_json())
    page = _page(run)
    first = page.cells.index("outputs apart") + 1
    assert page.cells[first : first + 5] == ["sample 2", "", "silence", "<no>", "8"]
    assert [page.cells[first + 5 * row] for row in range(3)] == ["sample 2", "sample 1", "sample 3"]
    assert page.html.count('alt="sample ') == 3 * page.html.count('class="wrong"')


def test_of_runs_without_predictions_no_mistakes_are_told(run: RunFolder) -> None:
    for path in run.models.glob("*/predictions.npz"):
        path.unlink()
    assert "Where models are wrong" not in _page(run).text


def _with_metrics(run: RunFolder, name: str, held: Statistic) -> None:
    card = run.cards()[name]
    metrics = {
        precision: {split: dict.fromkeys(metrics, held) for split, metrics in splits.items()}
        for precision, splits in card.metrics.items()
    }
    (run.model(name) / "card.json").write_text(card.model_copy(update={"metrics": metrics}).to_json())


@pytest.mark.parametrize("name", ["seed", "m0"])
def test_scores_that_are_not_defined_leave_gaps(run: RunFolder, name: str) -> None:
    _with_metrics(run, name, Statistic.of([float("nan"), 1.0], 0))
    page = _page(run)
    assert page.plots == ALL_PLOTS
    assert None in [value for trace in page.plot("shipped")["traces"] for value in trace["y"]]
    assert "+not finite" not in page.text


def test_small_numbers_are_not_0(run: RunFolder) -> None:
    _with_metrics(run, "m0", Statistic.of([3.1e-5, 3.3e-5], 0))
    verdict = {"metric": "mae", "best": "seed", "difference_from_best": {"m0": {"val": [0.0021, 0.0043]}}}
    run.write_summary(run.read_summary() | {"verdict": verdict})
    cells = {column.title: column.cells[1].text for column in model_table(read_run(run)).columns}
    assert cells["MAE, validation"] == "0.0000320 ± 0.0000014 (2)"
    assert cells["from the best, validation"] == "+0.0021 to +0.0043"


def test_a_folder_whose_name_is_no_utf_8_is_told(run: RunFolder) -> None:
    recipe = run.read_recipe()
    run.write_recipe(recipe | {"task": {**recipe["task"], "data": os.fsdecode(b"/data/caf\xe9")}})
    assert "/data/caf?" in _page(run).text


@pytest.mark.parametrize("kept", [0, 10, 0.5, 0.999])
def test_predictions_that_were_cut_off_are_named(run: RunFolder, kept: float) -> None:
    path = run.model("m0") / "predictions.npz"
    content = path.read_bytes()
    path.write_bytes(content[: int(kept if kept > 1 else kept * len(content))])
    with pytest.raises(InputError, match=r"m0/predictions\.npz: .*; it was damaged, run again to write it anew"):
        _page(run)


@pytest.mark.parametrize("name", ["summary", "importance"])
def test_a_file_that_holds_no_table_is_named(run: RunFolder, name: str) -> None:
    path: Path = getattr(run, name)
    path.write_text("[]")
    with pytest.raises(InputError, match=rf"{name}\.json: it holds no table; "):
        _page(run)


def test_names_of_classes_are_no_tags_on_axes(run: RunFolder) -> None:
    for name, card in run.cards().items():
        told = card.model_copy(update={"preprocessing": {"classes": ["<b>", "b"]}})
        (run.model(name) / "card.json").write_text(told.to_json())
        np.savez(run.model(name) / "predictions.npz", test_confusion=np.array([[3, 1], [0, 2]]))
    assert _page(run).plot("confusion")["traces"][0]["x"] == ["&lt;b&gt;", "b"]


def test_the_next_commands_can_be_typed_as_they_stand(run: RunFolder) -> None:
    named = RunFolder(run.path.rename(run.path.with_name("my run")))
    assert "qanas pick 'my run' names one" in _page(named).text
