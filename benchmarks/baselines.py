"""QA-BWNAS against SPOS and FairNAS on CamVid: fronts for about equal CPU time, finalists trained alike.

    python benchmarks/baselines.py runs/baselines --write docs/results/baselines      # goes on where it was killed
    python benchmarks/baselines.py /tmp/tiny --tiny --write /tmp/tiny/baselines       # minutes, tells nothing

Protocol: CamVid at 96 x 128, DeepLabv3 of width 0.5, 18 layers of 6 options (Lu et al. 2023, table I), INT8, weight
bytes. QA-BWNAS: teacher of 40 epochs, 1,800 paths a block, tables, exact search. SPOS and FairNAS: one supernet of
whole networks, 3,600 paths, uniform or strictly fair, `nsga2` over 300 networks, each scored as quantized with batch
norms of its own. Three finalists of each run, spread over its front, are trained for 20 epochs from what their search
left: distilled blocks, or the supernet. They are scored by LiteRT on test images, once. Held against each other are
means over the finalists of a seed; their intervals are of the same draws of test images on both sides (95 %), and say
nothing of other trainings. The volume is QA-BWNAS's hypervolume of (1 - mIoU on test data, weight bytes), below the
worst of both sides, relative to the other's. What a finalist begins from is part of its method, and part of what it is
ahead by; the reference (`seed`), trained for the same 20 epochs from random weights, stands among the models. SPOS'
seeds 0 and 1 were run before statistics of batch norms got faster, its seed 2 and FairNAS' after: a trial takes 0.75 of
the time then. SPOS and FairNAS are given about three times QA-BWNAS's time, more than an equal budget.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from arms import Arm, Comparison, Overrides, Pair, Record, Runs, hours_of, parser_of, protocol_of, volume_ratio
from qanas.tasks.resampling import student_quantile

METRIC, COST = "miou", "weight_bytes"
EPOCHS, TEACHER_EPOCHS = 20, 40
FEWEST_SEEDS = 3

OWN = Arm("QA-BWNAS", "camvid_bwnas_int8", (COST,), {"teacher.epochs": TEACHER_EPOCHS})
OTHERS = (
    Arm("SPOS", "camvid_spos", (COST,)),
    Arm("FairNAS", "camvid_spos", (COST,), {"supernet.sampling": "fair"}),
)

TINY: Overrides = {
    "task.data": "synthetic", "task.height": 32, "task.width": 48, "estimation.jobs": 1, "finalists.epochs": 1,
}  # fmt: skip
TINY_BLOCKS: Overrides = {
    "teacher.epochs": 1, "teacher.width": 0.25, "blocks.layers": [1, 1, 1, 1, 1, 1], "distillation.steps": 8,
}  # fmt: skip
TINY_SUPERNET: Overrides = {
    "estimation.epochs": 1, "space.width": 0.25, "space.layers": [1, 1, 1, 1, 1, 1], "supernet.steps": 12,
    "strategy.trials": 8,
}  # fmt: skip


def written(runs: Runs) -> str:
    """Return the page."""
    lines = ["# QA-BWNAS, SPOS and FairNAS on CamVid", "", *_PROTOCOL, "", "## Against each other", ""]
    lines += [
        "| against | seed | mIoU test: QA-BWNAS | the other | ahead by | weight kB: QA-BWNAS | the other | volume |"
    ]
    lines += ["|---|--:|--:|--:|---|--:|--:|--:|"]
    for other in OTHERS:
        for pair in Pair.of(runs, OWN.name, other.name):
            scores = [f"{100 * value:.1f}" for value in pair.means("test")]
            kilobytes = [f"{value / 1e3:.0f}" for value in pair.means(COST)]
            cells = [other.name, pair.seed, *scores, pair.ahead, *kilobytes]
            volume = volume_ratio(pair.one, pair.other, COST)
            lines.append("| " + " | ".join([*cells, f"{volume:.2f}"]) + " |")
    lines += ["", *(_over_seeds(runs, other.name) for other in OTHERS)]
    lines += [
        "",
        "## Effort",
        "",
        "CPU minutes by stage, means over seeds; `trials`: networks of a supernet scored.",
        "",
    ]
    lines += ["| arm | seeds | stages | all |", "|---|--:|---|--:|"]
    for arm, seeds in runs.items():
        minutes = {stage: 60 * hours for stage, hours in hours_of(list(seeds.values())).items()}
        told = ", ".join(f"{stage} {value:.1f}" for stage, value in minutes.items() if value)
        lines.append(f"| {arm} | {len(seeds)} | {told} | {sum(minutes.values()):.1f} |")
    lines += ["", "## Models", "", "| arm | seed | model | mIoU val | test | weight kB | MMACs |"]
    lines += ["|---|--:|---|--:|--:|--:|--:|"]
    lines += [
        _row(arm, seed, row) for arm, seeds in runs.items() for seed, own in seeds.items() for row in own["models"]
    ]
    return "\n".join(lines) + "\n"


def _over_seeds(runs: Runs, other: str) -> str:
    """Return by how much QA-BWNAS is ahead of another arm over seeds: other teachers, supernets and trainings."""
    gaps = np.array([np.subtract(*pair.means("test")) for pair in Pair.of(runs, OWN.name, other)])
    if len(gaps) < FEWEST_SEEDS:
        return ""
    half = student_quantile(0.975, len(gaps) - 1) * gaps.std(ddof=1) / np.sqrt(len(gaps))
    low, middle, high = (f"{100 * (gaps.mean() + side * half):.1f}" for side in (-1, 0, 1))
    return f"- Over {len(gaps)} seeds ahead of {other} by {middle} points ({low} to {high}, Student, 95 %)."


def _row(arm: str, seed: str, row: Mapping[str, Any]) -> str:
    scores = [f"{100 * row[split]:.1f}" for split in ("val", "test")]
    cells = [arm, seed, row["model"], *scores, f"{row[COST] / 1e3:.0f}", f"{row['macs'] / 1e6:.1f}"]
    return "| " + " | ".join(cells) + " |"


_PROTOCOL = protocol_of(__doc__ or "")


def overrides(arm: Arm, _kept: Mapping[str, Record], *, tiny: bool) -> Overrides:
    """Return what differs from an arm's recipe beside the arm's own.

    Args:
        arm: which.
        tiny: whether runs only show that everything works.
    """
    small = {**TINY, **(TINY_BLOCKS if arm is OWN else TINY_SUPERNET)} if tiny else {}
    return {"finalists.epochs": EPOCHS, **small}


def main() -> None:
    """Run what is not kept yet; write what is known after each run."""
    arms = [OWN, *OTHERS]
    asked = parser_of(__doc__ or "", arms, [0, 1, 2]).parse_args()
    Comparison(asked.home, asked.write, METRIC).all(arms, asked, partial(overrides, tiny=asked.tiny), written)


if __name__ == "__main__":
    main()
