"""Search by gradient on CamVid, against exact search over tables of blocks and against SPOS: fronts, and two claims.

    python benchmarks/gradient_search.py runs/gradient --write docs/results/gradient      # goes on where it was killed
    python benchmarks/gradient_search.py /tmp/tiny --tiny --write /tmp/tiny/gradient      # minutes, tells nothing

Protocol: CamVid at 96 x 128, DeepLabv3 of width 0.5, 18 layers of 6 options (Lu et al. 2023, table I). Each arm is a
run of its own by recipe: its finalists are trained from scratch for as many epochs as all others', exported, and
scored by LiteRT on validation and test images; latencies are those of the exported files, by formula or compiler.
Gates and SPOS begin with a supernet of 2,400 steps; gates are trained for 120 steps an alpha, four alphas.
Arms: gates by MACs, by the latency of each of two devices, and by packed bytes with 4, 6 or 8 bits a block or a layer;
`exact` over block tables, by MACs and with bits by packed bytes; SPOS (`nsga2` over a supernet of as many steps) by
MACs, with as many trials as take the CPU time that gates took. Claims of Shaw et al. (ICCVW 2019) that are tested:
networks found by latency are faster at equal mIoU, though they have more MACs; those found for one device are worse on
the other. Compared are means over what each search found: of test mIoU, in brackets 95 % over the same draws of test
images, which say nothing of other trainings, and of costs; and hypervolumes of (1 - mIoU on test data, cost) below the
worst of both arms, the one's relative to the other's. Every network is trained once.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from arms import Arm, Comparison, Overrides, Pair, Record, Runs, hours_of, parser_of, protocol_of, volume_ratio

METRIC = "miou"
DEVICES = ("imx93-a55", "ethos-u55-256")

TINY: Overrides = {"task.data": "synthetic", "task.height": 32, "task.width": 48, "estimation.jobs": 1}
TINY_SPACE: Overrides = {"width": 0.25, "layers": [1, 1, 1, 1, 1, 1], "kernels": [3, 5], "expansions": [3]}
TINY_GATES: Overrides = {"strategy.steps": 4, "strategy.alphas": [0.1, 1.0], "strategy.batch_size": 4}
TINY_SUPERNET: Overrides = {"supernet.steps": 20}
LEAST_TRIALS = 20

GATES, TABLES = "camvid_gradient", "camvid_bwnas_int8"
SUPERNET: Overrides = {"supernet.steps": 2400}
SHORT: Overrides = {**SUPERNET, "strategy.steps": 120, "strategy.gate_learning_rate": 0.1}
"""A third of the recipe's steps, so that both seeds of all arms take five CPU hours; fewer steps want larger ones."""

BITS: Overrides = {"space.weight_bits": [4, 6, 8]}
BY_MACS = Arm("gates, MACs", GATES, ("macs",))
SPOS = Arm("SPOS, MACs", GATES, ("macs",), {"strategy.name": "nsga2"}, ("strategy",), after=BY_MACS.name)
"""Over a supernet that is trained as the gates' is, and with the CPU time that `BY_MACS` took."""

ARMS = (
    BY_MACS,
    *(Arm(f"gates, latency of {name}", GATES, (f"latency_ms@{name}",), after=BY_MACS.name) for name in DEVICES),
    Arm("exact, MACs", TABLES, ("macs",)),
    SPOS,
    Arm("gates, packed bytes", GATES, ("packed_weight_bytes",), BITS),
    Arm("exact, packed bytes", "camvid_bwnas_bits", ("packed_weight_bytes",), after="exact, MACs"),
    Arm(
        "gates, bits by layer",
        GATES,
        ("packed_weight_bytes",),
        {**BITS, "space.bits_per": "layer"},
        after="gates, packed bytes",
    ),
    Arm(
        "exact, bits by layer",
        "camvid_bwnas_bits",
        ("packed_weight_bytes",),
        {"table.per": "layer"},
        after="exact, packed bytes",
    ),
)


def overrides(arm: Arm, kept: Mapping[str, Record], *, epochs: int, tiny: bool) -> dict[str, Any]:
    """Return what differs from an arm's recipe beside the arm's own.

    Args:
        arm: which.
        kept: what is known of the same seed's arms, by name.
        epochs: of teachers and finalists.
        tiny: whether runs only show that everything works.
    """
    of_blocks = "bwnas" in arm.recipe
    found: dict[str, Any] = {"teacher.epochs" if of_blocks else "estimation.epochs": epochs}
    if of_blocks:
        found["finalists.start"] = "scratch"
    by_gates = arm.recipe == GATES and arm is not SPOS
    found |= SHORT if by_gates else {} if of_blocks else SUPERNET
    if tiny:
        found |= {**TINY, **(TINY_GATES if by_gates else {}), **({} if of_blocks else TINY_SUPERNET)}
        for key, value in TINY_SPACE.items():
            table = ("teacher" if key == "width" else "blocks") if of_blocks else "space"
            found[f"{table}.{key}"] = value
        found |= {"distillation.steps": 8} if of_blocks else {}
    if arm is SPOS:
        if BY_MACS.name not in kept:
            raise SystemExit(f"{SPOS.name}: has as much time as {BY_MACS.name} took: run that of this seed first")
        found |= {"strategy.trials": trials(kept[BY_MACS.name]), "supernet.held_out": 0.2}
    return found


def trials(gates: Record) -> int:
    """Return how many networks can be scored in the CPU time that gates took, at the price of theirs."""
    effort = gates["effort_cpu_seconds"]
    networks = (effort["gates"] + effort["scores"]) / (effort["scores"] / gates["scored"])
    return max(LEAST_TRIALS, int(networks))


COMPARED = (
    ("found by latency, or by MACs", f"gates, latency of {DEVICES[0]}", "gates, MACs", f"latency_ms@{DEVICES[0]}"),
    ("found by latency, or by MACs", f"gates, latency of {DEVICES[1]}", "gates, MACs", f"latency_ms@{DEVICES[1]}"),
    ("found for it, or for the other", f"gates, latency of {DEVICES[0]}", f"gates, latency of {DEVICES[1]}",
     f"latency_ms@{DEVICES[0]}"),
    ("found for it, or for the other", f"gates, latency of {DEVICES[1]}", f"gates, latency of {DEVICES[0]}",
     f"latency_ms@{DEVICES[1]}"),
    ("gates, or exact", "gates, MACs", "exact, MACs", "macs"),
    ("gates, or SPOS", "gates, MACs", "SPOS, MACs", "macs"),
    ("exact, or SPOS", "exact, MACs", "SPOS, MACs", "macs"),
    ("bits by gates, or by tables", "gates, packed bytes", "exact, packed bytes", "packed_weight_bytes"),
    ("bits by gates, or by tables", "gates, bits by layer", "exact, bits by layer", "packed_weight_bytes"),
)  # fmt: skip
"""What is asked, one arm, the other, and the cost that both are measured by."""

UNITS = {"macs": 1e6, "packed_weight_bytes": 1e3}
TOLD = {"macs": "MMACs", "packed_weight_bytes": "packed kB", **{f"latency_ms@{name}": f"ms {name}" for name in DEVICES}}


def written(runs: Runs) -> str:
    """Return the page."""
    lines = ["# Search by gradient on CamVid", "", *_PROTOCOL, "", "## Asked", ""]
    head = ["", "one", "other", "seed", "mIoU test: one", "other", "ahead by", "cost", "one", "other"]
    lines += ["| " + " | ".join([*head, "MMACs: one", "other", "volume"]) + " |"]
    lines += ["|---|---|---|--:|--:|--:|---|---|--:|--:|--:|--:|--:|"]
    for asked, one, other, cost in COMPARED:
        for pair in Pair.of(runs, one, other):
            scores = [f"{100 * value:.1f}" for value in pair.means("test")]
            costs = [f"{value / UNITS.get(cost, 1):.4g}" for value in pair.means(cost)]
            macs = [f"{value / 1e6:.1f}" for value in pair.means("macs")]
            volume = f"{volume_ratio(pair.one, pair.other, cost):.2f}"
            cells = [asked, one, other, pair.seed, *scores, pair.ahead, TOLD.get(cost, cost), *costs, *macs, volume]
            lines.append("| " + " | ".join(cells) + " |")
    lines += ["", "## Models", ""]
    head = ["arm", "seed", "model", "mIoU val", "mIoU test", "MMACs", "kB", "packed kB", *(f"ms {n}" for n in DEVICES)]
    lines += ["| " + " | ".join(head) + " |", "|---|--:|---|" + "--:|" * (len(head) - 3)]
    for arm, seeds in runs.items():
        for seed, record in seeds.items():
            for row in record["models"]:
                figures = [f"{100 * row['val']:.1f}", f"{100 * row['test']:.1f}", f"{row['macs'] / 1e6:.1f}",
                           f"{row['weight_bytes'] / 1e3:.0f}", f"{row['packed_weight_bytes'] / 1e3:.0f}",
                           *(f"{row[f'latency_ms@{name}']:.2f}" for name in DEVICES)]  # fmt: skip
                lines.append(f"| {arm} | {seed} | {row['model']} | " + " | ".join(figures) + " |")
    lines += ["", "## CPU hours of the searches, mean over seeds", "", "| arm | stages |", "|---|---|"]
    for arm, seeds in runs.items():
        told = [f"{stage} {hours:.2f}" for stage, hours in hours_of(list(seeds.values())).items()]
        lines.append(f"| {arm} | {', '.join(told)} |")
    return "\n".join(lines) + "\n"


_PROTOCOL = protocol_of(__doc__ or "")


def main() -> None:
    """Run what is not kept yet; write what is known after each run."""
    parser = parser_of(__doc__ or "", ARMS, [0, 1])
    parser.add_argument("--epochs", type=int, default=40)
    asked = parser.parse_args()
    own = partial(overrides, epochs=1 if asked.tiny else asked.epochs, tiny=asked.tiny)
    Comparison(asked.home, asked.write, METRIC, DEVICES).all(ARMS, asked, own, written)


if __name__ == "__main__":
    main()
