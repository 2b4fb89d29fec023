"""The report of a run over tables of blocks."""

import base64
import io
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import polars as pl
import pytest
from PIL import Image
from rich.console import Console
from tests.reporting.blockwise_run import (
    EFFORT,
    FINALISTS,
    NETWORKS,
    STUDENTS_SECONDS,
    chosen,
    read_json,
    table_rows,
    write_blockwise_run,
    written_now,
)
from tests.reporting.page import Page, coloured

import qanas
from qanas.core.card import SplitName
from qanas.core.errors import InputError
from qanas.core.measures import Cost, Limit
from qanas.core.run_folder import RunFolder, write_parquet
from qanas.reporting.comparison import compare_runs
from qanas.reporting.comparison_page import render_comparison, run_rows
from qanas.reporting.headline import print_models
from qanas.reporting.layer_strips import layer_strips
from qanas.reporting.report import write_report
from qanas.reporting.run_data import chosen_rows, networks_of, read_run
from qanas.reporting.views.masks import class_palette
from qanas.shipping.shipped import pick_model


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return write_blockwise_run(tmp_path / "camvid")


def _page(run: RunFolder) -> Page:
    return Page(write_report(run).read_text("utf-8"))


def test_the_headline_tells_what_the_tables_stand_for(run: RunFolder) -> None:
    text = _page(run).text
    assert "segmentation (synthetic data) · deeplabv3, block by block" in text
    assert f"the tables of 3 blocks have 72 rows, which stand for {NETWORKS:,} networks" in text
    assert "Searched deeplabv3 networks for segmentation with exact." in text
    assert "Its front by NSR sum and weights, bytes has 5 networks" in text
    assert "2 models shipped, besides the reference; 0 finalists failed." in text
    assert "mIoU" in text
    assert "MIOU" not in text


def test_what_belongs_to_sampled_runs_is_left_out(run: RunFolder) -> None:
    page = _page(run)
    for told in ("Search progress", "What mattered", "All trials", "No trial", "not complete", "trials.parquet"):
        assert told not in page.text
    assert not {"progress", "importance", "parallel"} & set(page.plots)


def test_a_run_that_has_only_started_says_what_is_missing(run: RunFolder, tmp_path: Path) -> None:
    bare = RunFolder(tmp_path / "bare")
    bare.write_recipe(run.read_recipe())
    text = _page(bare).text
    assert "not there yet: trials.parquet or blocks/, front.csv, finalists.csv, summary.json, models/" in text
    assert "No trial is recorded yet" in text


def test_tables_without_a_front_say_so(run: RunFolder) -> None:
    run.front.unlink()
    page = _page(run)
    assert "No front is there yet" in page.text
    assert "blocks" in page.plots
    assert "front" not in page.plots


def test_the_effort_of_each_stage_is_told(run: RunFolder) -> None:
    page = _page(run)
    assert page.cells[page.cells.index("tables") + 1] == "0.500"
    at = page.cells.index("finalists")
    assert page.cells[at + 1] == f"{STUDENTS_SECONDS / 60:g}", "the teacher's training is not counted twice"
    assert (
        "CPU time: teacher 10 min 0 s, features 6.0 s, distillation 1 min 30 s, tables 30 s, search 0.2 s" in page.text
    )
    assert "13 min 40 s by the clock" in page.text


def test_stages_that_early_runs_did_not_record_are_left_out(run: RunFolder) -> None:
    summary = read_json(run.summary)
    summary["effort_cpu_seconds"] = {name: EFFORT[name] for name in ("distillation", "tables")}
    del summary["finalists"]["cpu_seconds"]
    run.write_summary(summary)
    page = _page(run)
    assert not {"teacher", "search", "finalists"} & set(page.cells)
    assert "CPU time: distillation 1 min 30 s, tables 30 s;" in page.text


# Tables


def test_a_front_point_is_found_in_the_tables(run: RunFolder) -> None:
    data = read_run(run)
    assert [block.name for block in data.blocks] == ["block_1", "block_2", "block_3"]
    assert networks_of(data.blocks) == NETWORKS
    for point, row in enumerate(data.front):
        assert chosen_rows(data.blocks, row) == chosen(point)
    assert chosen_rows(data.blocks, data.front[0] | {"nsr_2": 0.123}) is None
    assert chosen_rows(data.blocks, {}) is None


def test_blocks_come_in_the_summarys_order_or_by_number(run: RunFolder) -> None:
    (run.blocks / "block_1").rename(run.blocks / "block_10")
    assert [block.name for block in read_run(run).blocks] == ["block_2", "block_3", "block_10"]
    summary = read_json(run.summary)
    summary["tables"]["blocks"] = {"block_10": {}, "block_2": {}, "block_3": {}}
    run.write_summary(summary)
    assert [block.name for block in read_run(run).blocks] == ["block_10", "block_2", "block_3"]


def test_a_damaged_table_is_named(run: RunFolder) -> None:
    path = next((run.blocks / "block_2").glob("*.parquet"))
    path.write_bytes(b"a,b")
    with pytest.raises(InputError, match=path.name):
        write_report(run)


def test_rows_named_in_the_front_are_taken_at_their_word(run: RunFolder) -> None:
    """Two rows of a table may have one score: only the column tells which of them is meant."""
    written_now(run)
    path = next((run.blocks / "block_2").glob("*.parquet"))
    write_parquet(path, pl.read_parquet(path).with_columns(nsr=pl.lit(0.5)))
    data = read_run(run)
    assert [chosen_rows(data.blocks, row) for row in data.front] == [chosen(point) for point in range(5)]
    assert not [name for name in data.settings(data.front[0]) if name.startswith("row_")]
    assert chosen_rows(data.blocks, data.front[0] | {"row_2": len(table_rows(1))}) is None, "of other tables"


def test_the_reports_of_early_and_of_present_runs_show_the_same(run: RunFolder) -> None:
    before = _page(run)
    written_now(run)
    after = _page(run)
    assert after.plots == before.plots
    for name in before.plots:
        assert after.plot(name) == before.plot(name)
    assert after.cells == [cell.replace("teacher", "reference") for cell in before.cells], "a stage's name alone"
    early = compare_runs([write_blockwise_run(run.path.parent / "early"), run])
    assert early.search.volumes[0] == early.search.volumes[1]


# Example images


def _images(page: Page) -> list[Image.Image]:
    sources = [attributes["src"] or "" for tag, attributes in page.elements if tag == "img"]
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    return [Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) for source in sources]


def test_masks_are_shown_in_the_classes_colours(run: RunFolder) -> None:
    page = _page(run)
    images = _images(page)
    assert len(images) == 4 * 5, "picture, truth, reference, best, smallest"
    with np.load(run.model("seed") / "predictions.npz") as stored:
        kept = dict(stored)
    colours = np.zeros((256, 3), np.uint8)
    colours[:3] = [(128, 128, 128), (128, 0, 0), (128, 64, 128)]  # sky, building, road of the literature
    for row, place in enumerate((0, 1, 3, 5)):
        picture, truth, seed = (np.asarray(image.convert("RGB")) for image in images[5 * row : 5 * row + 3])
        np.testing.assert_array_equal(picture, kept["test_pictures"][place])
        np.testing.assert_array_equal(truth, colours[kept["test_targets"][place]])
        np.testing.assert_array_equal(seed, colours[kept["test_classes"][place]])
    assert "building" in page.text
    assert page.html.count("background:#804080") == 1


def test_below_a_mask_is_its_iou_not_the_share_of_right_pixels(run: RunFolder) -> None:
    with np.load(run.model("n0") / "predictions.npz") as stored:
        kept = dict(stored)
    # A rare class that nobody finds: 97 % of the pixels are right, and that is what must not be read as success.
    kept["test_targets"] = np.zeros_like(kept["test_targets"])
    kept["test_targets"][:, :1, :3] = 2
    kept["test_classes"] = np.zeros_like(kept["test_classes"])
    for path in run.models.glob("*/predictions.npz"):
        np.savez(path, allow_pickle=False, **kept)
    text = _page(run).text
    assert "% right" not in text
    share = 1 - 3 / kept["test_targets"][0].size
    assert text.count(f"mIoU {share / 2:.3f}; missed: road") == 4 * 3


def test_a_model_that_is_best_and_smallest_is_shown_once(run: RunFolder) -> None:
    shutil.rmtree(run.model("n3"))
    assert len(_images(_page(run))) == 4 * 4


def test_the_worst_masks_are_shown(run: RunFolder) -> None:
    with np.load(run.model("n0") / "predictions.npz") as stored:
        kept = dict(stored)
    worst = {f"test_worst_{name}": kept[f"test_{name}"][:2] for name in ("classes", "targets", "pictures", "image")}
    worst["test_worst_image"] = np.array(["dark", "darker"])
    for path in run.models.glob("*/predictions.npz"):
        np.savez(path, allow_pickle=False, **kept, **worst)
    page = _page(run)
    shown = page.text[page.text.index("Where models are wrong") :]
    assert shown.index("dark") < shown.index("darker")
    assert len(_images(page)) == 4 * 5 + 3 * 2 * page.html.count('class="wrong"')


def test_without_masks_there_is_no_gallery(run: RunFolder) -> None:
    for path in run.models.glob("*/predictions.npz"):
        path.unlink()
    assert "Example images" not in _page(run).text


def test_names_of_classes_are_escaped(run: RunFolder) -> None:
    card = run.cards()["seed"]
    evil = card.model_copy(update={"preprocessing": {"classes": ["<b>", '"x', "c"]}})
    (run.model("seed") / "card.json").write_text(evil.to_json())
    page = _page(run)
    assert "<b>" not in page.html.partition('id="examples"')[0].partition("Example images")[2]
    assert "<b>" in page.text


def test_any_number_of_classes_has_colours_of_its_own() -> None:
    names = [f"class {place}" for place in range(40)]
    palette = class_palette(names)
    assert len(np.unique(palette[:40], axis=0)) == 40
    assert palette[255].tolist() == [0, 0, 0]


# Layer by layer


def test_every_layer_is_a_bar_with_kernel_expansion_and_bits(run: RunFolder) -> None:
    chart = layer_strips(read_run(run))
    assert chart is not None
    assert len(chart.bars) == 4 + 5 + 5, "the reference's, then those of n0 and n3"
    by_name = {bar.told: bar for bar in chart.bars[4:9]}
    small = by_name["block 1, layer 1: kernel 3 x 3, expansion 3, 8 bits"]
    large = by_name["block 3, layer 2: kernel 5 x 5, expansion 9, 8 bits"]
    assert (small.text, large.text) == ("3", "5")
    assert large.height == pytest.approx(3 * small.height, abs=0.1)
    assert large.width > small.width
    assert by_name["block 2, layer 1: kernel 3 x 3, expansion 6, 4 bits"].colour != small.colour
    assert [name for name, _ in chart.legend] == ["4 bits", "8 bits"]
    assert chart.expansions == "3, 6, 9"


def test_bars_neither_overlap_nor_leave_the_chart(run: RunFolder) -> None:
    chart = layer_strips(read_run(run))
    assert chart is not None
    for bar, following in pairwise(chart.bars[4:9]):
        assert bar.x + bar.width <= following.x
    for bar in chart.bars:
        assert bar.x >= 0
        assert bar.x + bar.width <= chart.width
        assert bar.y >= 0
        assert bar.y + bar.height <= chart.height
    seeds, students = chart.bars[:4], chart.bars[4:9]
    assert seeds[1].x == students[2].x, "blocks are aligned: the second begins at the same place"


def test_networks_whose_settings_have_other_names_have_no_strip(run: RunFolder) -> None:
    for name, card in run.cards().items():
        other = card.model_copy(update={"config": {"architecture": {"units": 4}}})
        (run.model(name) / "card.json").write_text(other.to_json())
    assert "Layer by layer" not in _page(run).text


# Plots


def test_plots_of_a_blockwise_run_are_valid_for_plotly_with_every_choice(run: RunFolder) -> None:
    page = _page(run)
    assert page.plots == ["front", "shipped", "quantization", "blocks"]
    for name in page.plots:
        spec = coloured(page.plot(name))
        for choice in spec["choices"] or [{"traces": {}, "layout": {}}]:
            traces = [trace | choice["traces"].get(str(place), {}) for place, trace in enumerate(spec["traces"])]
            assert len(go.Figure({"data": traces, "layout": spec["layout"] | choice["layout"]}).data) == len(traces)


def test_the_whole_front_is_drawn_with_its_finalists(run: RunFolder) -> None:
    spec = _page(run).plot("front")
    rows = pl.read_csv(run.front).to_dicts()
    front, finalists = spec["traces"]
    assert front["x"] == [row["weight_bytes"] for row in rows]
    assert front["y"] == [row["nsr_sum"] for row in rows]
    assert finalists["y"] == [rows[point]["nsr_sum"] for point in FINALISTS]
    options = table_rows(1)[chosen(3)[1]]
    assert finalists["text"][1].startswith("n3<br>NSR sum")
    assert f"block 2: {options['options']}, {options['weight_bits']} bits" in finalists["text"][1]
    labels = [choice["traces"]["0"]["x"] for choice in spec["choices"]]
    assert [row["macs"] for row in rows] in labels
    assert [row["float_weight_bytes"] for row in rows] in labels


def test_every_row_of_a_table_is_drawn_once(run: RunFolder) -> None:
    spec = _page(run).plot("blocks")
    for block in range(3):
        rows = table_rows(block)
        dropped, four, eight, line, marked = spec["traces"][5 * block : 5 * block + 5]
        assert dropped["x"] == [row["weight_bytes"] for row in rows if not row["exact"]]
        for trace, bits in ((four, 4), (eight, 8)):
            kept = [row for row in rows if row["exact"] and row["weight_bits"] == bits]
            assert trace["x"] == [row["weight_bytes"] for row in kept]
            assert trace["y"] == pytest.approx([row["nsr"] for row in kept], rel=1e-3)
            assert [text.partition(",")[0] for text in trace["text"]] == [row["options"] for row in kept]
        exact = [row for row in rows if row["exact"]]
        best = [
            row["weight_bytes"]
            for row in exact
            if not any(other["weight_bytes"] <= row["weight_bytes"] and other["nsr"] < row["nsr"] for other in exact)
        ]
        assert set(line["x"]) == set(best)
        assert line["y"] == sorted(line["y"], reverse=True)
        assert set(marked["x"]) == {rows[chosen(point)[block]]["weight_bytes"] for point in FINALISTS}
    assert "pale ones were raced away" in _page(run).text


def test_large_tables_are_thinned(run: RunFolder) -> None:
    path = next((run.blocks / "block_1").glob("*.parquet"))
    table = pl.read_parquet(path)
    write_parquet(path, pl.concat([table] * 200))
    page = _page(run)
    dropped = page.plot("blocks")["traces"][0]["x"]
    assert 600 <= len(dropped) <= 1200
    assert "at most 1,200 a block are drawn" in page.text


def test_shipped_networks_stand_beside_the_reference_in_both_precisions(run: RunFolder) -> None:
    spec = _page(run).plot("shipped")
    cards = run.cards()
    networks, reference, tested, _ = spec["traces"]
    assert networks["x"] == [cards[name].weight_bytes for name in cards if name != "seed"]
    splits: tuple[tuple[Any, SplitName], ...] = ((networks, "val"), (tested, "test"))
    for trace, split in splits:
        found = [cards[name].metric("deployed", split, "miou") for name in cards if name != "seed"]
        assert trace["y"] == [score.mean for score in found]
        assert trace["error_y"]["array"] == [score.std for score in found]
    assert reference["x"] == [60_000, 236_000]
    assert reference["text"][1].startswith("reference, FP32")
    assert "mIoU 0.46" in reference["text"][0]


def test_early_runs_show_the_reference_as_it_ships_alone(run: RunFolder) -> None:
    summary = read_json(run.summary)
    del summary["teacher"]
    run.write_summary(summary)
    assert _page(run).plot("shipped")["traces"][1]["x"] == [60_000]


# Several runs, and one model


def test_blockwise_runs_are_compared_by_noise_and_as_shipped(tmp_path: Path) -> None:
    runs = [write_blockwise_run(tmp_path / name) for name in ("one", "two")]
    comparison = compare_runs(runs)
    assert [axis.column for axis in comparison.search.measures] == ["nsr_sum", "weight_bytes"]
    assert comparison.shipped_axes == ("miou", "weight_bytes")
    assert len(comparison.shipped(0)) == len(FINALISTS)
    rows = dict(zip(run_rows(comparison)[0], run_rows(comparison)[1][0], strict=True))
    assert rows["space"] == "deeplabv3"
    assert rows["networks in the tables"] == f"{NETWORKS:,}"
    assert rows["CPU up to the front"] == "12 min 6 s"
    assert "trials measured" not in rows
    page = render_comparison(comparison)
    assert "across references only roughly" in page
    assert "each point trained once" not in page


def test_columns_of_blockwise_runs_can_be_named(tmp_path: Path) -> None:
    runs = [write_blockwise_run(tmp_path / name) for name in ("one", "two")]
    comparison = compare_runs(runs, score="nsr_2", cost="macs")
    assert [axis.column for axis in comparison.search.measures] == ["nsr_2", "macs"]
    assert [axis.column for axis in compare_runs(runs, cost="macs").search.measures] == ["nsr_sum", "macs"]
    with pytest.raises(InputError, match="--score miou_quantized: unknown score of all runs"):
        compare_runs(runs, score="miou_quantized")


def test_a_blockwise_and_a_sampled_run_are_refused_in_one_line(
    tmp_path: Path, make_run: Callable[..., RunFolder]
) -> None:
    blockwise, sampled = write_blockwise_run(tmp_path / "one"), make_run()
    for runs in ([blockwise, sampled], [sampled, blockwise]):
        with pytest.raises(InputError, match="their fronts have no score in common") as told:
            compare_runs(runs)
        assert "\n" not in str(told.value)
        assert all(axis in str(told.value) for axis in ("nsr_sum (minimize)", "mae_quantized (minimize)"))


def test_a_blockwise_run_is_loaded_and_picked_from(run: RunFolder) -> None:
    result = qanas.load(run.path)
    assert (result.front.height, result.trials.height, list(result.models)) == (5, 0, ["seed", "n3", "n0"])
    best = pick_model(run, [])
    assert best.identity == "n0"
    assert "best deployed validation miou" in best.reason
    bound = run.cards()["n3"].weight_bytes
    assert pick_model(run, [Limit(Cost("weight_bytes"), bound)]).identity == "n3"


def test_the_terminal_prints_a_blockwise_run(run: RunFolder) -> None:
    console = Console(file=io.StringIO(), width=160)
    print_models(console, run)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert f"which stand for {NETWORKS:,} networks" in text
    assert "No trial" not in text
