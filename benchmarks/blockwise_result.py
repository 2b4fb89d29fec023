"""Turn the folders of finished block-wise runs into the three files of a result: JSON, SVG, Markdown.

    python benchmarks/blockwise_result.py docs/results/qa_bwnas_camvid --title "..." \
        "from scratch"=runs/camvid_bwnas_int8 "from distilled blocks"=runs/camvid_bwnas_distilled

Runs share a teacher. Everything is read from the runs' files; nothing is measured here.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import polars as pl
from matplotlib import pyplot as plt

from qanas.core.card import Card, Precision, SplitName
from qanas.core.run_folder import SEED_ID, RunFolder

mpl.use("svg")
mpl.rcParams["svg.hashsalt"] = "qanas"

METRIC = "miou"
COLOURS = ("#1f6feb", "#d1570b", "#2da44e", "#8250df")
KEPT = ("config", "metrics", "weight_bytes", "packed_weight_bytes", "file_bytes", "peak_ram_bytes", "macs")
KEPT_TOO = ("latency_ms", "parity_steps", "sha256")


def collect(folder: RunFolder) -> dict[str, Any]:
    """Return what the JSON holds of a run."""
    recipe = folder.read_recipe()
    recipe.pop("source", None)
    recipe["task"]["data"] = Path(recipe["task"]["data"]).name
    cards = {name: card.model_dump(mode="json") for name, card in folder.cards().items()}
    return {
        "recipe": recipe,
        "protocol": dict(cards[SEED_ID]["protocol"]),
        "summary": folder.read_summary(),
        "front": columns_that_differ(pl.read_csv(folder.front)),
        "models": {name: {key: card[key] for key in (*KEPT, *KEPT_TOO)} for name, card in cards.items()},
    }


def columns_that_differ(front: pl.DataFrame) -> dict[str, str]:
    """Return a front by columns, a line each; those that are the same everywhere are the recipe's."""
    kept = [name for name in front.columns if front[name].n_unique() > 1]
    return {name: " ".join(str(value) for value in front[name]) for name in kept}


def points(card: Card, precision: Precision, split: SplitName) -> str:
    """Return the metric in points: mean +- sd over the trainings."""
    value = card.metric(precision, split, METRIC)
    spread = f" ± {100 * value.std:.1f}" if value.n > 1 else ""
    return f"{100 * value.mean:.1f}{spread}"


def draw(runs: Mapping[str, RunFolder], path: Path, title: str) -> None:
    """Draw the shipped networks of every run against the teacher, on validation and on test images."""
    figure, panels = plt.subplots(1, 2, figsize=(9.0, 4.0), layout="constrained", sharey=True)
    splits: tuple[SplitName, ...] = ("val", "test")
    for axes, split in zip(panels, splits, strict=True):
        teacher = next(iter(runs.values())).cards()[SEED_ID]
        value = teacher.metric("deployed", split, METRIC)
        axes.errorbar(teacher.weight_bytes / 1000, 100 * value.mean, 100 * value.std, fmt="k*", ms=10, label="teacher")
        axes.axhline(
            100 * teacher.metric("float", split, METRIC).mean, color="k", lw=0.6, ls=":", label="teacher, FP32"
        )
        for (name, folder), colour in zip(runs.items(), COLOURS, strict=False):
            cards = [card for identity, card in folder.cards().items() if identity != SEED_ID]
            scores = [card.metric("deployed", split, METRIC) for card in cards]
            axes.errorbar(
                [card.weight_bytes / 1000 for card in cards],
                [100 * score.mean for score in scores],
                [100 * score.std for score in scores],
                fmt="o-",
                ms=4,
                lw=0.8,
                color=colour,
                label=name,
            )
        axes.set_title({"val": "validation", "test": "test"}[split], fontsize=10)
        axes.set_xlabel("weights in the file [kB]")
        axes.grid(visible=True, alpha=0.2)
    panels[0].set_ylabel("mIoU, INT8 in LiteRT [points]")
    panels[0].legend(fontsize=8, frameon=False)
    figure.suptitle(title, fontsize=11)
    figure.savefig(path, metadata={"Date": None})


def table(runs: Mapping[str, RunFolder]) -> list[str]:
    """Return the shipped networks as lines of a Markdown table, the teacher first."""
    columns = {
        "network": "---",
        "trained": "---",
        "weight bytes": "---:",
        "packed bytes": "---:",
        "MMACs": "---:",
        "RAM bytes": "---:",
        "val mIoU, INT8 in LiteRT": "---:",
        "test mIoU, INT8 in LiteRT": "---:",
        "test mIoU, FP32": "---:",
        "parity: steps, max": "---:",
    }
    lines = [f"| {' | '.join(columns)} |", f"|{'|'.join(columns.values())}|"]
    for position, (name, folder) in enumerate(runs.items()):
        for identity, card in folder.cards().items():
            if identity == SEED_ID and position > 0:
                continue
            cells = [
                "teacher" if identity == SEED_ID else f"`{identity}`",
                "from scratch" if identity == SEED_ID else name,
                f"{card.weight_bytes:,}",
                f"{card.packed_weight_bytes:,}",
                f"{card.macs / 1e6:.1f}",
                f"{card.peak_ram_bytes:,}",
                points(card, "deployed", "val"),
                points(card, "deployed", "test"),
                points(card, "float", "test"),
                str(card.parity_steps.max),
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Write the three files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the result's path without its ending")
    parser.add_argument("runs", nargs="+", metavar="NAME=DIR")
    parser.add_argument("--title", required=True)
    arguments = parser.parse_args()
    runs = {name: RunFolder(Path(path)) for name, path in (run.split("=", 1) for run in arguments.runs)}
    result = {name: collect(folder) for name, folder in runs.items()}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    draw(runs, arguments.out.with_suffix(".svg"), arguments.title)
    effort = next(iter(result.values()))["summary"]["effort_cpu_seconds"]
    minutes = ", ".join(f"{stage} {seconds / 60:.1f}" for stage, seconds in effort.items() if seconds is not None)
    print(f"CPU minutes by stage: {minutes}\n")
    print("\n".join(table(runs)))


if __name__ == "__main__":
    main()
