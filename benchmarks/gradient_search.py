"""Search by gradient on CamVid, against exact search over tables of blocks and against SPOS: fronts, and two claims.

    python benchmarks/gradient_search.py runs/gradient --write docs/results/gradient      # goes on where it was killed
    python benchmarks/gradient_search.py /tmp/tiny --tiny --write /tmp/tiny/gradient      # minutes, tells nothing

Protocol: CamVid at 96 x 128, DeepLabv3 of width 0.5, 18 layers of 6 options (Lu et al. 2023, table I). Each arm is a
run of its own by recipe: its finalists are trained from scratch for as many epochs as all others', exported, and
scored by LiteRT on validation and test images; latencies are those of the exported files, by formula or compiler.
Arms: gates by MACs, by the latency of each of two devices, and by packed bytes with 4, 6 or 8 bits a block; `exact`
over block tables, by MACs and with bits by packed bytes; SPOS (`nsga2` over a supernet of as many steps) by MACs, with
as many trials as take the CPU time that gates took. Claims of Shaw et al. (ICCVW 2019) that are tested: networks found
by latency are faster at equal mIoU, though they have more MACs; those found for one device are worse on the other.
Both by hypervolume of (1 - mIoU on test data, latency) below the worst of both arms, relative to the other arm's, and
by a list of all models. The sign of two seeds is no interval.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

import qanas
from qanas.core.pareto import hypervolume
from qanas.core.run_folder import write_atomically
from qanas.hardware.device import Device

DEVICES = ("imx93-a55", "ethos-u55-256")
RECIPES = Path(__file__).parents[1] / "recipes"
Overrides = Mapping[str, Any]

TINY: Overrides = {"task.data": "synthetic", "task.height": 32, "task.width": 48, "estimation.jobs": 1}
TINY_SPACE: Overrides = {"width": 0.25, "layers": [1, 1, 1, 1, 1, 1], "kernels": [3, 5], "expansions": [3]}
TINY_GATES: Overrides = {"strategy.steps": 4, "strategy.alphas": [0.1, 1.0], "strategy.batch_size": 4}
TINY_SUPERNET: Overrides = {"supernet.steps": 20}
LEAST_TRIALS = 20


@dataclass(frozen=True)
class Arm:
    """One way to search.

    Attributes:
        name: of it.
        recipe: that it starts from.
        costs: objectives beside the metric.
        more: what else differs.
        equal_to: the arm whose gates' CPU time it may take.
    """

    name: str
    recipe: str
    costs: tuple[str, ...]
    more: Overrides = field(default_factory=dict)
    equal_to: str = ""

    @property
    def by_gates(self) -> bool:
        """Whether gates search."""
        return self.recipe == "camvid_gradient" and "strategy.name" not in self.more


BITS = {"space.weight_bits": [4, 6, 8]}
ARMS = (
    Arm("gates, MACs", "camvid_gradient", ("macs",)),
    *(Arm(f"gates, latency of {name}", "camvid_gradient", (f"latency_ms@{name}",)) for name in DEVICES),
    Arm("exact, MACs", "camvid_bwnas_int8", ("macs",)),
    Arm("SPOS, MACs", "camvid_gradient", ("macs",), {"strategy.name": "nsga2"}, equal_to="gates, MACs"),
    Arm("gates, packed bytes", "camvid_gradient", ("packed_weight_bytes",), BITS),
    Arm("exact, packed bytes", "camvid_bwnas_bits", ("packed_weight_bytes",)),
)


@dataclass(frozen=True)
class Benchmark:
    """Where runs lie and how large they are.

    Attributes:
        home: of all runs.
        tiny: whether they only show that everything works.
        epochs: of finalists and teachers.
    """

    home: Path
    tiny: bool
    epochs: int

    def folder(self, arm: Arm, seed: int) -> Path:
        """Return where a run lies."""
        return self.home / f"{arm.name.replace(', ', '-').replace(' ', '_')}-s{seed}"

    def summary(self, arm: Arm, seed: int) -> dict[str, Any]:
        """Return what a finished run wrote."""
        found: dict[str, Any] = json.loads((self.folder(arm, seed) / "summary.json").read_text("utf-8"))
        return found

    def recipe(self, arm: Arm, seed: int) -> Path:
        """Write the recipe of an arm: that of the repository, with other objectives and strategy."""
        text = (RECIPES / f"{arm.recipe}.toml").read_text("utf-8")
        parts = text.split("\n[")
        kept = [part for part in parts if not part.startswith("objectives]")]
        if "strategy.name" in arm.more:
            kept = [part for part in kept if not part.startswith("strategy]")]
        costs = "\n".join(f'"{cost}" = "minimize"' for cost in arm.costs)
        kept.append(f'objectives]\nmiou_quantized = "maximize"\n{costs}\n')
        path = self.home / "recipes" / f"{self.folder(arm, seed).name}.toml"
        write_atomically(path, "\n[".join(kept).encode())
        return path

    def overrides(self, arm: Arm, seed: int) -> dict[str, Any]:
        """Return what differs from the recipe."""
        found = {"run.seed": seed, "reference.tune": 0, "baselines.enabled": False, **arm.more}
        found["estimation.cache"] = str(self.home.resolve() / "trainings")  # the reference is that of all arms
        of_blocks = "bwnas" in arm.recipe
        found["teacher.epochs" if of_blocks else "estimation.epochs"] = self.epochs
        if of_blocks:
            found["finalists.start"] = "scratch"
        if self.tiny:
            found |= {**TINY, **(TINY_GATES if arm.by_gates else {}), **({} if of_blocks else TINY_SUPERNET)}
            for key, value in TINY_SPACE.items():
                table = ("teacher" if key == "width" else "blocks") if of_blocks else "space"
                found[f"{table}.{key}"] = value
            found |= {"distillation.steps": 8} if of_blocks else {}
        if arm.equal_to:
            found["strategy.trials"] = self.trials(arm, seed)
            found["supernet.held_out"] = 0.2  # as the gates' supernet was trained
        return found

    def trials(self, arm: Arm, seed: int) -> int:
        """Return how many networks can be scored in the CPU time that gates took, at the price of theirs."""
        other = next(each for each in ARMS if each.name == arm.equal_to)
        summary = self.summary(other, seed)
        effort = summary["effort_cpu_seconds"]
        scored = len({tuple(row["options"]) for row in summary["gates"]})
        networks = (effort["gates"] + effort["scores"]) / (effort["scores"] / scored)
        return max(LEAST_TRIALS, int(networks))

    def run(self, arm: Arm, seed: int) -> None:
        """Run an arm; a finished one is looked up."""
        qanas.run(self.recipe(arm, seed), self.overrides(arm, seed), self.folder(arm, seed))

    def models(self, arm: Arm, seed: int) -> list[dict[str, Any]]:
        """Return what shipped, with the latencies of the files on both devices."""
        folder = self.folder(arm, seed)
        told = pl.read_csv(folder / "finalists.csv").filter(pl.col("status") == "shipped").to_dicts()
        rows = []
        for row in told:
            content = (folder / "models" / row["candidate"] / "model.tflite").read_bytes()
            latency = {f"latency_ms@{name}": Device.named(name).figure("latency_ms", [content])[0] for name in DEVICES}
            rows.append(
                {
                    "arm": arm.name,
                    "seed": seed,
                    "model": row["candidate"],
                    "kind": row["kind"],
                    **{name: row[name] for name in ("macs", "weight_bytes", "packed_weight_bytes")},
                    **{split: row[f"miou_deployed_{split}_mean"] for split in ("val", "test")},
                    **latency,
                }
            )
        return rows


def volume(rows: Sequence[Mapping[str, Any]], cost: str, beyond: Sequence[float]) -> float:
    """Return the hypervolume of 1 - mIoU on test data and a cost, below a point of both."""
    points = np.array([[1 - row["test"], row[cost]] for row in rows if row["kind"] == "found"]).reshape(-1, 2)
    return hypervolume(points, beyond)


COMPARED = (
    ("found by latency, or by MACs", f"gates, latency of {DEVICES[0]}", "gates, MACs", f"latency_ms@{DEVICES[0]}"),
    ("found by latency, or by MACs", f"gates, latency of {DEVICES[1]}", "gates, MACs", f"latency_ms@{DEVICES[1]}"),
    ("found for it, or for the other", f"gates, latency of {DEVICES[0]}", f"gates, latency of {DEVICES[1]}",
     f"latency_ms@{DEVICES[0]}"),
    ("found for it, or for the other", f"gates, latency of {DEVICES[1]}", f"gates, latency of {DEVICES[0]}",
     f"latency_ms@{DEVICES[1]}"),
    ("gates, or exact", "gates, MACs", "exact, MACs", "macs"),
    ("gates, or SPOS", "gates, MACs", "SPOS, MACs", "macs"),
    ("bits by gates, or by tables", "gates, packed bytes", "exact, packed bytes", "packed_weight_bytes"),
)  # fmt: skip
"""What is asked, one arm, the other, and the cost that both are measured by."""


def comparisons(rows: Sequence[Mapping[str, Any]], seeds: Sequence[int]) -> list[dict[str, Any]]:
    """Return each comparison's ratios of hypervolumes, a seed each; those of arms that are not done are left out."""
    found = []
    for asked, one, other, cost in COMPARED:
        ratios = []
        for seed in seeds:
            own = [row for row in rows if row["seed"] == seed and row["arm"] in (one, other)]
            if {row["arm"] for row in own} != {one, other}:
                continue
            beyond = [max(1 - row["test"] for row in own) * 1.01, max(row[cost] for row in own) * 1.01]
            volumes = [volume([row for row in own if row["arm"] == arm], cost, beyond) for arm in (one, other)]
            ratios.append(volumes[0] / volumes[1] if volumes[1] else float("inf"))
        if ratios:
            found.append({"asked": asked, "one": one, "other": other, "cost": cost, "ratios": ratios})
    return found


def written(rows: Sequence[Mapping[str, Any]], asked: Sequence[Mapping[str, Any]], efforts: Mapping[str, Any]) -> str:
    """Return the page."""
    lines = ["# Search by gradient on CamVid", "", *_PROTOCOL, "", "## Asked", ""]
    lines += ["| | one | other | by test mIoU and | hypervolume of one / other, a seed each |", "|---|---|---|---|--:|"]
    for entry in asked:
        ratios = ", ".join(f"{ratio:.2f}" for ratio in entry["ratios"])
        lines.append(f"| {entry['asked']} | {entry['one']} | {entry['other']} | {entry['cost']} | {ratios} |")
    lines += ["", "## Models", ""]
    head = ["arm", "seed", "model", "mIoU val", "mIoU test", "MMACs", "kB", "packed kB", *(f"ms {n}" for n in DEVICES)]
    lines += ["| " + " | ".join(head) + " |", "|---|--:|---|" + "--:|" * (len(head) - 3)]
    for row in rows:
        figures = [f"{100 * row['val']:.1f}", f"{100 * row['test']:.1f}", f"{row['macs'] / 1e6:.1f}",
                   f"{row['weight_bytes'] / 1e3:.0f}", f"{row['packed_weight_bytes'] / 1e3:.0f}",
                   *(f"{row[f'latency_ms@{name}']:.2f}" for name in DEVICES)]  # fmt: skip
        lines.append(f"| {row['arm']} | {row['seed']} | {row['model']} | " + " | ".join(figures) + " |")
    lines += ["", "## CPU hours of the searches, mean over seeds", "", "| arm | stages |", "|---|---|"]
    for name, stages in efforts.items():
        lines.append(f"| {name} | {', '.join(f'{stage} {hours:.2f}' for stage, hours in stages.items())} |")
    return "\n".join(lines) + "\n"


_PROTOCOL = [line for line in (__doc__ or "").split("Protocol: ")[1].splitlines() if line]


def main() -> None:
    """Run what is not done yet; write what is known after each run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("home", type=Path)
    parser.add_argument("--write", type=Path, required=True, help="of the result, without .json and .md")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--arms", nargs="+", choices=[arm.name for arm in ARMS], default=[arm.name for arm in ARMS])
    parser.add_argument("--tiny", action="store_true")
    asked = parser.parse_args()
    benchmark = Benchmark(asked.home, asked.tiny, 1 if asked.tiny else asked.epochs)
    arms = [arm for arm in ARMS if arm.name in asked.arms]
    rows: list[dict[str, Any]] = []
    hours: dict[str, list[Mapping[str, float]]] = {}
    for seed in asked.seeds:
        for arm in arms:
            benchmark.run(arm, seed)
            rows += benchmark.models(arm, seed)
            summary = benchmark.summary(arm, seed)
            effort = dict(summary["effort_cpu_seconds"])
            if arm.equal_to:
                effort |= {"scores": summary["train_cpu_seconds"], "trials": summary["trials"]["measured"]}
            hours.setdefault(arm.name, []).append(effort)
            efforts = {
                name: {
                    stage: statistics.mean(each.get(stage, 0.0) for each in known) / (1 if stage == "trials" else 3600)
                    for stage in known[0]
                }
                for name, known in hours.items()
            }
            told = comparisons(rows, asked.seeds)
            content = {"models": rows, "asked": told, "effort": efforts, "gates": summary.get("gates")}
            write_atomically(asked.write.with_suffix(".json"), (json.dumps(content, indent=1) + "\n").encode())
            write_atomically(asked.write.with_suffix(".md"), written(rows, told, efforts).encode())


if __name__ == "__main__":
    main()
