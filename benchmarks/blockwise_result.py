"""Turn the folders of finished block-wise runs into the three files of a result: JSON, SVG, Markdown.

    python benchmarks/blockwise_result.py docs/results/qa_bwnas_camvid --title "..." \
        "INT8"=runs/camvid_s0 "INT8"=runs/camvid_s1 "4, 6 or 8 bits a block"=runs/camvid_bits_s0

A name stands for a recipe, of which there may be runs of several seeds; runs of a seed share a teacher. Controls are
shown where `blockwise_controls.py` and `pixel_controls.py` have left them. Everything is read from the runs' files;
nothing is measured here.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import matplotlib as mpl
import numpy as np
import polars as pl
from matplotlib import pyplot as plt

from blockwise_control_kinds import KINDS, TEACHER, TRAINED_ON
from blockwise_controls import controls_path
from qanas.core.card import Card, SplitName
from qanas.core.measures import Precision
from qanas.core.run_folder import SEED_ID, RunFolder

mpl.use("svg")
mpl.rcParams["svg.hashsalt"] = "qanas"

METRIC = "miou"
MARKERS = "os^Dv"
"""By seed."""

CONTROL_MARKERS = {
    "narrowed": "1",
    "random": ".",
    "four_bits": "2",
    "six_bits": "3",
    "scratch": "+",
    "narrowed_long": "4",
}

COLOURS = ("#1f6feb", "#d1570b", "#2da44e", "#8250df")
SIZES = ("weight_bytes", "packed_weight_bytes", "file_bytes", "peak_ram_bytes", "macs")
KEPT = ("config", *SIZES, "latency_ms", "parity_steps", "sha256")
FRONT = ("key", "nsr_sum", "weight_bytes", "packed_weight_bytes", "macs")


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        name: of its recipe.
        folder: of the run.
    """

    name: str
    folder: RunFolder

    @classmethod
    def of(cls, argument: str) -> Self:
        """Read ``NAME=DIR``."""
        name, path = argument.split("=", 1)
        return cls(name, RunFolder(Path(path)))

    @cached_property
    def seed(self) -> int:
        """The run's seed."""
        return int(self.folder.read_recipe()["run"]["seed"])

    @cached_property
    def cards(self) -> Mapping[str, Card]:
        """Of the teacher and of what was found."""
        return self.folder.cards()

    @property
    def teacher(self) -> Card:
        """The teacher's."""
        return self.cards[SEED_ID]

    @property
    def found(self) -> Mapping[str, Card]:
        """All but the teacher's, the smallest first."""
        found = [(identity, card) for identity, card in self.cards.items() if identity != SEED_ID]
        return dict(sorted(found, key=lambda entry: entry[1].packed_weight_bytes))

    @cached_property
    def controls(self) -> Mapping[str, Any] | None:
        """What `blockwise_controls.py` has left, or None where nobody tried."""
        return _read(controls_path(self.folder))

    @cached_property
    def pixels(self) -> Mapping[str, Any] | None:
        """What `pixel_controls.py` has left, or None where nobody tried."""
        return _read(self.folder.path / "pixels.json")

    def networks(self, kind: str, against: str) -> list[Mapping[str, Any]]:
        """Return the trainings of a control that were scored.

        Args:
            kind: of the control.
            against: the finalist that it is of; those of every finalist have the name "".
        """
        every = self.controls["networks"] if self.controls else []
        return [entry for entry in every if entry["kind"] == kind and entry["against"] == against and entry["metrics"]]

    @cached_property
    def trained_on(self) -> Mapping[str, Any] | None:
        """What the teacher gets to when it is trained on, mean over trainings; None where nobody tried."""
        found = self.networks(TRAINED_ON, "")
        if not found:
            return None
        miou = {
            precision: {s: float(np.mean([e["metrics"][precision][s][METRIC] for e in found])) for s in ("val", "test")}
            for precision in ("float", "deployed")
        }
        return {**found[0], "miou": miou, "parity_steps": max(entry["parity_steps"] for entry in found)}

    def collect(self) -> dict[str, Any]:
        """Return what the JSON holds of the run."""
        recipe = self.folder.read_recipe()
        recipe.pop("source", None)
        recipe["task"]["data"] = Path(recipe["task"]["data"]).name
        cards = {name: card.model_dump(mode="json") for name, card in self.cards.items()}
        models = {name: {key: card[key] for key in KEPT} for name, card in cards.items()}
        return {
            "name": self.name,
            "recipe": recipe,
            "protocol": dict(cards[SEED_ID]["protocol"]),
            "summary": self.folder.read_summary(),
            "front": columns_of(pl.read_csv(self.folder.front)),
            "models": {name: models[name] | {"metrics": means(card)} for name, card in self.cards.items()},
            "controls": self.controls,
            "pixels": self.pixels,
        }


def _read(path: Path) -> Mapping[str, Any] | None:
    found: Mapping[str, Any] | None = json.loads(path.read_text("utf-8")) if path.exists() else None
    return found


def columns_of(front: pl.DataFrame) -> dict[str, str]:
    """Return keys, scores and costs of a front by columns, a line each; what networks are is in the run's own file."""
    kept = [name for name in front.columns if name in FRONT]
    return {name: " ".join(str(value) for value in front[name]) for name in kept}


def means(card: Card) -> dict[str, dict[str, dict[str, float]]]:
    """Return all metrics by precision and split, means over the trainings, to five digits."""
    return {
        precision: {
            split: {name: round(value.mean, 5) for name, value in metrics.items()} for split, metrics in splits.items()
        }
        for precision, splits in card.metrics.items()
    }


def points(card: Card, precision: Precision, split: SplitName) -> str:
    """Return the metric in points: mean +- sd over the trainings."""
    value = card.metric(precision, split, METRIC)
    spread = f" ± {100 * value.std:.1f}" if value.n > 1 else ""
    return f"{100 * value.mean:.1f}{spread}"


def of_seeds(runs: Sequence[Run]) -> Mapping[int, list[Run]]:
    """Return the runs of each seed."""
    seeds: dict[int, list[Run]] = defaultdict(list)
    for run in sorted(runs, key=lambda run: run.seed):
        seeds[run.seed].append(run)
    return seeds


def draw(runs: Sequence[Run], path: Path, title: str) -> None:
    """Draw what every run found against its teacher, on validation and on test images."""
    figure, panels = plt.subplots(1, 2, figsize=(9.0, 4.0), layout="constrained", sharey=True)
    colours = dict(zip(dict.fromkeys(run.name for run in runs), itertools.cycle(COLOURS), strict=False))
    splits: tuple[SplitName, ...] = ("val", "test")
    for axes, split in zip(panels, splits, strict=True):
        for of_seed, marker in zip(of_seeds(runs).values(), itertools.cycle(MARKERS), strict=False):
            first = of_seed[0]
            size = first.teacher.packed_weight_bytes / 1000
            points = [(100 * first.teacher.metric("deployed", split, METRIC).mean, "k*", "teacher")]
            if first.trained_on is not None:
                points.append((100 * first.trained_on["miou"]["deployed"][split], "kx", "teacher, trained on"))
            for value, kind, label in points:
                axes.plot(size, value, kind, ms=8, label=label)
            for name in KINDS:
                entries = [e for e in first.controls["networks"] if e["kind"] == name] if first.controls else []
                found = [
                    (e["packed_weight_bytes"] / 1000, 100 * e["metrics"]["deployed"][split][METRIC]) for e in entries
                ]
                if found and name != TRAINED_ON:
                    axes.plot(*zip(*found, strict=True), CONTROL_MARKERS[name], color="0.5", ms=4, label=named(name))
            for run in of_seed:
                sizes = [card.packed_weight_bytes / 1000 for card in run.found.values()]
                scores = [100 * card.metric("deployed", split, METRIC).mean for card in run.found.values()]
                axes.plot(sizes, scores, f"{marker}-", ms=4, lw=0.8, color=colours[run.name], label=run.name)
        axes.set_title({"val": "validation", "test": "test"}[split], fontsize=10)
        axes.set_xlabel("packed weights [kB]")
        axes.grid(visible=True, alpha=0.2)
    panels[0].set_ylabel("mIoU in LiteRT [points]")
    handles = dict(zip(*reversed(panels[0].get_legend_handles_labels()), strict=True))
    panels[0].legend(handles.values(), handles.keys(), fontsize=8, frameon=False)
    figure.suptitle(title, fontsize=11)
    figure.savefig(path, metadata={"Date": None})


COLUMNS: Mapping[str, str] = {
    "seed": "---:",
    "network": "---",
    "bits by block": "---",
    "weight bytes": "---:",
    "packed bytes": "---:",
    "against the teacher": "---:",
    "val mIoU": "---:",
    "test mIoU": "---:",
    "against the teacher ": "---:",
    "against the teacher trained on": "---:",
    "test, FP32": "---:",
    "parity: steps": "---:",
}


def table(runs: Sequence[Run]) -> list[str]:
    """Return the shipped networks as lines of a Markdown table, each seed's teacher first."""
    lines = [f"| {' | '.join(COLUMNS)} |", f"|{'|'.join(COLUMNS.values())}|"]
    for seed, of_seed in of_seeds(runs).items():
        teacher, trained_on = of_seed[0].teacher, of_seed[0].trained_on
        lines.append(_line(seed, "teacher", teacher, teacher, trained_on))
        if trained_on is not None:
            miou = trained_on["miou"]
            sizes = [f"{trained_on[name]:,.0f}" for name in ("weight_bytes", "packed_weight_bytes")]
            gain = 100 * miou["deployed"]["test"] - _test(teacher)
            scores = [f"{100 * miou['deployed'][split]:.1f}" for split in ("val", "test")]
            rest = [*sizes, "", *scores, f"{gain:+.1f}", "", f"{100 * miou['float']['test']:.1f}"]
            rest.append(str(trained_on["parity_steps"]))
            lines.append(f"| {' | '.join([str(seed), 'teacher, trained on', '8', *rest])} |")
        for run in of_seed:
            for identity, card in run.found.items():
                lines.append(_line(seed, f"`{identity}`", card, teacher, trained_on))
    return lines


def _test(card: Card) -> float:
    return 100 * card.metric("deployed", "test", METRIC).mean


def _line(seed: int, name: str, card: Card, teacher: Card, trained_on: Mapping[str, Any] | None) -> str:
    """Return a network's line."""
    gains = ["", ""]
    if card is not teacher:
        gains[0] = f"{_test(card) - _test(teacher):+.1f}"
        if trained_on is not None:
            gains[1] = f"{_test(card) - 100 * trained_on['miou']['deployed']['test']:+.1f}"
    size = "" if card is teacher else f"{100 * (card.packed_weight_bytes / teacher.packed_weight_bytes - 1):+.0f} %"
    cells = [
        str(seed),
        name,
        bits_by_block(card),
        f"{card.weight_bytes:,}",
        f"{card.packed_weight_bytes:,}",
        size,
        points(card, "deployed", "val"),
        points(card, "deployed", "test"),
        *gains,
        points(card, "float", "test"),
        str(card.parity_steps.max),
    ]
    return f"| {' | '.join(cells)} |"


def bits_by_block(card: Card) -> str:
    """Return the bits of each block's weights, or the one that all have."""
    settings = card.config["quantization"]
    found = [str(settings[name]) for name in sorted(settings) if name.startswith("weight_bits_") and settings[name]]
    return "-".join(found) if len(set(found)) > 1 else (found or ["8"])[0]


CONTROL_COLUMNS: Mapping[str, str] = {
    "seed": "---:",
    "finalist": "---",
    "against": "---",
    "trainings": "---:",
    "weight bytes": "---:",
    "packed bytes": "---:",
    "val mIoU": "---:",
    "test mIoU": "---:",
    "finalist less control: val": "---:",
    "test": "---:",
    "95 % of test pictures": "---",
}


def controls_table(runs: Sequence[Run]) -> list[str]:
    """Return finalists and what they are held against as lines of a Markdown table; a difference in bold excludes 0."""
    lines = [f"| {' | '.join(CONTROL_COLUMNS)} |", f"|{'|'.join(CONTROL_COLUMNS.values())}|"]
    for run in runs:
        for entry in run.controls["comparisons"] if run.controls else []:
            kind, identity = entry["control"], entry["finalist"]
            if kind == TEACHER:
                own = _control_cells(run.networks("finalist", identity))
                lines.append(f"| {run.seed} | `{identity}` | | {' | '.join(own)} | | | |")
            networks = run.networks(kind, identity) or run.networks(kind, "")
            val, test = (entry[METRIC][split] for split in ("val", "test"))
            low, high = (100 * bound for bound in test["interval"])
            gain = f"{100 * test['difference']:+.1f}"
            told = f"**{gain}**" if low > 0 or high < 0 else gain
            cells = [*_control_cells(networks), f"{100 * val['difference']:+.1f}", told, f"{low:+.1f} to {high:+.1f}"]
            lines.append(f"| {run.seed} | | {named(kind)} | {' | '.join(cells)} |")
    return lines


def pixels_table(runs: Sequence[Run]) -> list[str]:
    """Return what pixels alone tell as lines of a Markdown table, once for all runs: they share the data."""
    lines = ["| from a pixel's brightness and place alone | val mIoU | test mIoU | 95 % |", "|---|---:|---:|---|"]
    told = next((run.pixels for run in runs if run.pixels), {})
    for name, splits in told.items():
        val, test = (splits[split][METRIC] for split in ("val", "test"))
        low, high = (100 * bound for bound in test["interval"])
        scores = [f"{100 * val['value']:.1f}", f"{100 * test['value']:.1f}", f"{low:.1f} to {high:.1f}"]
        lines.append(f"| {name.replace('_', ' ')} | {' | '.join(scores)} |")
    return lines if told else []


def named(kind: str) -> str:
    """Return a control's name for people."""
    return {TEACHER: TEACHER, **{name: name.replace("_", " ") for name in KINDS}}[kind]


def _control_cells(networks: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return trainings, bytes and scores of some networks; of several sizes the mean size."""
    sizes = [f"{np.mean([entry[name] for entry in networks]):,.0f}" for name in ("weight_bytes", "packed_weight_bytes")]
    scores = []
    for split in ("val", "test"):
        found = 100 * np.array([entry["metrics"]["deployed"][split][METRIC] for entry in networks])
        scores.append(f"{found.mean():.1f}" + (f" ± {found.std(ddof=1):.1f}" if len(found) > 1 else ""))
    return [str(len(networks)), *sizes, *scores]


def main() -> None:
    """Write the three files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the result's path without its ending")
    parser.add_argument("runs", nargs="+", metavar="NAME=DIR", type=Run.of)
    parser.add_argument("--title", required=True)
    arguments = parser.parse_args()
    runs: Sequence[Run] = arguments.runs
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    result = [run.collect() for run in runs]
    arguments.out.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    draw(runs, arguments.out.with_suffix(".svg"), arguments.title)
    for run in runs:
        effort = run.folder.read_summary()["effort_cpu_seconds"]
        minutes = ", ".join(f"{stage} {seconds / 60:.1f}" for stage, seconds in effort.items() if seconds is not None)
        print(f"{run.name}, seed {run.seed}: CPU minutes by stage: {minutes}")
    print()
    print("\n".join(table(runs)))
    if any(run.controls for run in runs):
        print()
        print("\n".join(controls_table(runs)))
    print()
    print("\n".join(pixels_table(runs)))


if __name__ == "__main__":
    main()
