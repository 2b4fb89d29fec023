"""The tables of `person_detection.py`, in Markdown, of as many of its pieces as are there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

Pieces = Mapping[str, Mapping[str, Any]]

METRIC = "ap50"


def written(found: Pieces, told: str) -> str:
    """Return the study's page.

    Args:
        found: figures of the pieces by name.
        told: the protocol, a line.
    """
    seconds = sum(piece.get("train_cpu_seconds") or piece.get("train_seconds", 0) for piece in found.values())
    lines = ["# Persons on a microcontroller", "", told, ""]
    for part in (_training, _schemes, _profile, _runs):
        lines += part(found)
    return "\n".join([*lines, f"CPU minutes of all trainings: {seconds / 60:.0f}.", ""])


def _table(title: str, head: Sequence[str], rows: Iterable[Sequence[object]], told: str = "") -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    said = [told, ""] if told else []
    return [f"## {title}", "", *said, *("| " + " | ".join(map(str, line)) + " |" for line in lines), ""]


def _training(found: Pieces) -> list[str]:
    """What so many epochs reach, over the repetitions."""
    trained = [piece for name, piece in found.items() if name.startswith("training-")]
    if not trained:
        return []
    columns = [(split, f"{METRIC}_{precision}") for split in ("val", "test") for precision in ("float", "quantized")]
    rows = []
    for epochs in sorted({piece["epochs"] for piece in trained}):
        own = [piece for piece in trained if piece["epochs"] == epochs]
        scores = [_spread([piece[split][name] for piece in own]) for split, name in columns]
        minutes = float(np.mean([piece["train_seconds"] for piece in own])) / 60
        rows.append([epochs, len(own), *scores, f"{minutes:.0f}"])
    head = ["epochs", "trainings", "AP50 val, FP32", "INT8", "AP50 test, FP32", "INT8", "CPU min each"]
    return _table("Training", head, rows)


def _schemes(found: Pieces) -> list[str]:
    """What every scheme makes of the trained reference."""
    if "schemes" not in found:
        return []
    schemes = {name: own for name, own in found["schemes"].items() if isinstance(own, dict) and "latency_ms" in own}
    floats = {name: f"{100 * value:.1f}" for name, value in found["schemes"]["float"].items()}
    devices = list(next(iter(schemes.values()))["latency_ms"])
    rows = [
        [name, _share(own["val"]), _share(own["test"]), *(_ms(own["latency_ms"][device]) for device in devices)]
        for name, own in schemes.items()
    ]
    told = f"FP32 on test data {floats['test']}, interval over pictures {floats['low']} to {floats['high']}. "
    told += "Latencies are by formula, of operators and their sizes: which scales they have makes no difference to it."
    return _table("Schemes", ["scheme", "AP50 val", "test", *(f"ms, {name}" for name in devices)], rows, told)


def _profile(found: Pieces) -> list[str]:
    """Which part of the network has what of its work."""
    if "profile" not in found:
        return []
    layers = found["profile"]["layers"]
    whole = max(1, sum(layer["macs"] for layer in layers))
    parts: dict[str, list[Mapping[str, Any]]] = {}
    for layer in layers:
        parts.setdefault(".".join(str(layer["part"]).split(".")[:2]), []).append(layer)
    rows = []
    for name, own in parts.items():
        macs, weights, ms = (sum(layer[key] or 0 for layer in own) for key in ("macs", "weight_bytes", "taken"))
        rows.append([name, f"{macs / 1e6:.2f}", f"{macs / whole:.0%}", weights, f"{ms:.1f}"])
    return _table("Where the time goes", ["part", "MMAC", "share", "weight bytes", "ms"], rows)


def _runs(found: Pieces) -> list[str]:
    """Every model of each run, the cheapest first; in bold which is as good by validation pictures."""
    rows = []
    for name, run in found.items():
        models = run.get("models", {})
        for model, own in sorted(models.items(), key=lambda item: item[1]["latency_ms"] or item[1]["macs"]):
            scores = [_trained(own["val"]), _trained(own["test"]), _share(own["float"])]
            apart = [_apart(*own["against_reference"][split]) for split in ("val", "test")]
            work = f"{own['macs'] / 1e6:.1f}", _ms(own["latency_ms"]), f"{own['saved']:.0%}"
            shown = f"**{own['kind']}**" if model == run["cheapest"] else own["kind"]
            rows.append([name, shown, *scores, *apart, *work, f"{own['file_bytes'] / 1e3:.0f}", own["described"]])
    head = ["run", "model", "AP50 val", "test", "test, FP32", "val: against the first reference", "test", "MMAC", "ms"]
    head += ["saved", "kB", "network"]
    told = "AP50 deployed, mean and deviation over trainings; 95 % over pictures of what shipped against what shipped. "
    told += "Bold: the cheapest of a run that validation pictures don't tell to be worse than the first reference."
    return _table("Searches and rivals", head, rows, told) if rows else []


def _trained(score: Mapping[str, float]) -> str:
    return f"{100 * score['mean']:.1f} ± {100 * score['std']:.1f}"


def _apart(low: float, high: float) -> str:
    return f"{100 * low:+.1f} to {100 * high:+.1f}"


def _share(value: float) -> str:
    return f"{100 * value:.1f}"


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _spread(values: Sequence[float]) -> str:
    mean = f"{100 * np.mean(values):.1f}"
    return f"{mean} ± {100 * np.std(values, ddof=1):.1f}" if len(values) > 1 else mean
