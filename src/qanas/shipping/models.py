"""Shipping: the median training of each finalist, with its card."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qanas.core.c_text import identifier
from qanas.core.candidate import Value
from qanas.core.card import (
    Card,
)
from qanas.core.classes import Degenerate
from qanas.core.errors import NotBuilt, building
from qanas.core.even_spread import evenly_spread
from qanas.core.run_folder import RunFolder, digest, folder_written_atomically
from qanas.core.trials import TrialRecord
from qanas.deployment.firmware.folder import NO_PREPROCESSING, Firmware
from qanas.deployment.firmware.golden import GOLDEN_SAMPLES, GoldenVectors
from qanas.deployment.litert import LiteRTModel
from qanas.hardware.costs import SHIPPED_COSTS, costs_of
from qanas.planning.plan import Plan
from qanas.shipping.cards import Statistics, border_of, make_card, shipped_because, statistics_of
from qanas.shipping.soundness import Scores, classes_in, degenerate
from qanas.shipping.trainings import SHIPPED_SUFFIXES, Finalist, Training, training_files
from qanas.shipping.verdict import intervals_in

_KEPT = ("model.tflite", "weights.safetensors", "predictions.npz")
"""What a model's folder has of a training's files, in the order of `SHIPPED_SUFFIXES`."""

MODEL_FILES: tuple[str, ...] = (
    "model.tflite",
    "weights.safetensors",
    "predictions.npz",
    "card.json",
    "firmware/README.md",
)
"""What a shipped model consists of."""


@dataclass(frozen=True)
class Shipment:
    """What became of a finalist.

    Attributes:
        finalist: which.
        card: of the shipped model; None where it didn't ship.
        statistics: metrics over its trainings; empty where all of them failed.
        costs: known from shapes.
        failure: why it didn't ship; empty if it did.
        described: what it is, in a few words.
    """

    finalist: Finalist
    card: Card | None
    statistics: Statistics
    costs: Mapping[str, float]
    failure: str = ""
    described: str = ""

    def row(self) -> dict[str, Any]:
        """Return the finalist as a row of a table; deterministic columns only."""
        row: dict[str, Any] = {
            "candidate": self.finalist.identity,
            "key": self.finalist.candidate.key,
            "described": self.described,
            "kind": self.finalist.kind,
            "status": "shipped" if self.card is not None else "failed",
            "reason": self.failure,
        }
        if self.card is not None and self.card.degenerate is not None:
            row["degenerate"] = self.card.degenerate.told()
        row |= {cost.measure.column: self.costs.get(cost.measure.column) for cost in SHIPPED_COSTS}
        for precision, splits in self.statistics.items():
            for split, metrics in splits.items():
                for metric, statistic in metrics.items():
                    prefix = f"{metric}_{precision}_{split}"
                    row |= {
                        f"{prefix}_mean": statistic.mean,
                        f"{prefix}_std": statistic.std,
                        f"{prefix}_n": statistic.n,
                    }
        intervals = self.card.intervals if self.card is not None else None
        for split, metrics_of_split in (intervals.deployed if intervals is not None else {}).items():
            for metric, bounds in metrics_of_split.items():
                prefix = f"{metric}_deployed_{split}"
                row |= {f"{prefix}_low": bounds.low, f"{prefix}_high": bounds.high}
        return row


def median_training(plan: Plan, trainings: list[Training]) -> int:
    """Return the position of the training whose quantized validation score is the median (the better of two)."""
    metric = plan.main_metric
    losses = [metric.loss(training.metrics["quantized"]["val"][metric.name]) for training in trainings]
    # Where it is not defined, a training comes last.
    order = sorted(range(len(losses)), key=lambda position: (math.isnan(losses[position]), losses[position], position))
    return order[(len(order) - 1) // 2]


def ship(plan: Plan, folder: RunFolder, finalist: Finalist, trainings: list[Training], constant: Scores) -> Shipment:
    """Put the median training of a finalist into ``models/``, or say why it can't ship.

    A model that is there already, from the same trainings and undamaged, is left as it is.

    Args:
        plan: of the run.
        folder: of the run.
        finalist: what ships.
        trainings: of it.
        constant: what a constant answer scores: a model that is no better is told to be degenerate.
    """
    try:
        with building():  # what a user's class builds once it may refuse to build again
            blueprint = plan.bench.blueprint(finalist.candidate)
            costs = costs_of(blueprint, plan.bench.costs)
    except NotBuilt as error:
        return Shipment(finalist, None, {}, {}, f"it can't be built: {error}")
    told = finalist.described or plan.bench.describe(finalist.candidate)
    scored = [training for training in trainings if training.metrics]
    if not scored:
        return Shipment(finalist, None, {}, costs, trainings[0].failure, told)
    position = median_training(plan, scored)
    shipped = scored[position]
    statistics = statistics_of(plan, scored, position)
    if shipped.failure:
        return Shipment(finalist, None, statistics, costs, shipped.failure, told)
    card = _intact_card(plan, folder, finalist, shipped, statistics)
    if card is not None and card.degenerate != _degenerate(plan, card, constant):
        card = None
    if card is None:
        files = training_files(folder, finalist, shipped.repetition)
        contents = {name: files.content(suffix, shipped) for name, suffix in zip(_KEPT, SHIPPED_SUFFIXES, strict=True)}
        damaged = [name for name, content in contents.items() if content is None]
        if damaged:
            reason = f"{', '.join(damaged)} was damaged since it was written; run again to train it anew"
            return Shipment(finalist, None, statistics, costs, reason, told)
        intact = {name: content for name, content in contents.items() if content is not None}
        card = make_card(plan, finalist, shipped, statistics, costs, blueprint, intact["model.tflite"])
        card = _with_predictions(plan, card, shipped, intact["predictions.npz"], constant)
        card = _write_model(plan, folder, finalist, card, intact)
    return Shipment(finalist, card, statistics, costs, described=told)


def _with_predictions(plan: Plan, card: Card, shipped: Training, predictions: bytes, constant: Scores) -> Card:
    """Return a card with what follows from the predictions: intervals, classes, and whether it is a success.

    Args:
        plan: of the run.
        card: without.
        shipped: its training.
        predictions: content of the .npz file.
        constant: what a constant answer scores.
    """
    intervals = intervals_in(predictions, plan.bench.task.unit, shipped.units)
    card = card.model_copy(update={"intervals": intervals, "classes": classes_in(predictions, card.preprocessing)})
    return card.model_copy(update={"degenerate": _degenerate(plan, card, constant)})


def _degenerate(plan: Plan, card: Card, constant: Scores) -> Degenerate | None:
    metric = plan.main_metric
    return degenerate(card.classes, card.metric("deployed", "val", metric.name).shipped, metric, constant)


def _write_model(plan: Plan, folder: RunFolder, finalist: Finalist, card: Card, contents: Mapping[str, bytes]) -> Card:
    """Write a model's folder; its card has the digests of all that is in it."""
    model = contents["model.tflite"]
    written = dict(contents)
    firmware = _firmware(plan, folder, finalist, card, model)
    written |= {f"firmware/{name}": text.encode() for name, text in firmware.files().items()}
    card = card.model_copy(update={"files": {n: digest(c) for n, c in written.items() if n != "model.tflite"}})
    with folder_written_atomically(folder.model(finalist.identity)) as target:
        for name, content in {**written, "card.json": card.to_json().encode()}.items():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_bytes(content)
    return card


def _firmware(plan: Plan, folder: RunFolder, finalist: Finalist, card: Card, content: bytes) -> Firmware:
    """Return the firmware folder; the golden vectors are validation samples spread over the split."""
    task, val = plan.bench.task_of(finalist.candidate), plan.bench.data_of(finalist.candidate).val
    chosen = evenly_spread(len(val), GOLDEN_SAMPLES)
    inputs, _ = val.batch(chosen)
    border, front_end = border_of(card), task.front_end(card.preprocessing)
    raw = task.raw_inputs(val, chosen) if front_end is not None else ()
    model = LiteRTModel(content, border=border)
    shapes = {port.name: port.order.torch_shape(model.output_shapes[port.name][1:]) for port in border.outputs}
    return Firmware(
        name=identifier(folder.path.resolve().name, finalist.identity),
        content=content,
        border=border,
        peak_ram_bytes=card.peak_ram_bytes,
        golden=GoldenVectors.record(model, inputs, raw),
        preprocessing=card.preprocessing,
        front_end=front_end,
        back_end=task.back_end(card.preprocessing, shapes),
        warning="" if front_end is not None or card.preprocessing else f"preprocessing: {NO_PREPROCESSING}",
    )


def _intact_card(
    plan: Plan,
    folder: RunFolder,
    finalist: Finalist,
    shipped: Training,
    statistics: Statistics,
) -> Card | None:
    """Return the card of a model that was shipped before, or None where anything of it is missing or different."""
    target = folder.model(finalist.identity)
    if not all((target / name).is_file() for name in MODEL_FILES):
        return None
    try:
        card = Card.model_validate_json((target / "card.json").read_bytes())
    except ValueError:
        return None
    claimed = {p: {s: dict(metrics) for s, metrics in splits.items()} for p, splits in statistics.items()}
    # As JSON: a metric that is not defined is NaN, which equals nothing.
    same = not changed_files(target, card) and card.sha256 == shipped.sha256
    same = same and card.to_json() == card.model_copy(update={"metrics": claimed}).to_json()
    same = same and all(
        card.files.get(name) in (None, shipped.digests.get(suffix))
        for name, suffix in zip(_KEPT, SHIPPED_SUFFIXES, strict=True)
    )
    return card if same and card.protocol.get("shipped_because") == shipped_because(plan) else None


def changed_files(folder: Path, card: Card) -> list[str]:
    """Return the files of a shipped model that are not what its card says they are.

    Args:
        folder: of the model; its files are there.
        card: with their digests.
    """
    claimed = {"model.tflite": card.sha256, **card.files}
    return [name for name, known in claimed.items() if not _has_digest(folder / name, known)]


def _has_digest(path: Path, known: str) -> bool:
    try:
        return digest(path.read_bytes()) == known
    except OSError:
        return False


def remove_stale_models(folder: RunFolder, shipments: list[Shipment]) -> None:
    """Remove models of earlier sessions that are no finalists any more, and what a killed export left.

    What no run wrote stays: the folder may be one that had a ``models`` before.
    """
    current = {shipment.finalist.identity for shipment in shipments if shipment.card is not None}
    if folder.models.is_dir():
        for entry in folder.models.iterdir():
            if entry.name not in current and entry.is_dir() and (_is_model(entry) or _is_partial(entry)):
                shutil.rmtree(entry)


def _is_partial(entry: Path) -> bool:
    return entry.name.startswith(".") and entry.name.endswith(".partial")


def _is_model(entry: Path) -> bool:
    """Tell whether a folder is a shipped model's, damaged or not."""
    try:
        told = json.loads((entry / "card.json").read_bytes())
    except OSError:
        return False
    except ValueError:
        return (entry / "model.tflite").is_file()
    return isinstance(told, dict) and told.get("candidate") == entry.name


def front_rows(plan: Plan, front: Sequence[TrialRecord], shipments: list[Shipment]) -> list[dict[str, Value | None]]:
    """Return the rows of front.csv; deterministic columns only."""
    shipped = {s.finalist.candidate.key: s.finalist.identity for s in shipments if s.card is not None}
    rows = []
    for record in front:
        row = record.front_row()
        named = {"candidate": shipped.get(record.candidate.key), "key": row.pop("key")}
        rows.append(named | {"described": plan.bench.describe(record.candidate), **row})
    return rows
