"""Shipping: the median training of each finalist, with its card."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qanas.core.candidate import Value
from qanas.core.card import BorderTensor, Card, Latency, Parity, Precision, SplitName, Statistic
from qanas.core.even_spread import evenly_spread
from qanas.core.run_folder import RunFolder, folder_written_atomically
from qanas.deployment.firmware import GoldenVectors, firmware_files
from qanas.deployment.litert import LiteRTModel
from qanas.hardware.costs import SHIPPED_COSTS
from qanas.quantization.affine import Affine
from qanas.quantization.axis_order import AxisOrder, Border
from qanas.workflows.finalists import Finalist, training_files
from qanas.workflows.plan import Plan, Setup
from qanas.workflows.scheme_sweep import scheme_choice
from qanas.workflows.search import FrontPoint
from qanas.workflows.training_record import Training

PRECISIONS: tuple[Precision, ...] = ("float", "quantized", "deployed")
SPLITS: tuple[SplitName, ...] = ("val", "test")
GOLDEN_SAMPLES = 4
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
    """

    finalist: Finalist
    card: Card | None
    statistics: Mapping[Precision, Mapping[SplitName, Mapping[str, Statistic]]]
    costs: Mapping[str, float]
    failure: str = ""

    def row(self) -> dict[str, Any]:
        """Return the finalist as a row of a table; deterministic columns only."""
        row: dict[str, Any] = {
            "candidate": self.finalist.identity,
            "key": self.finalist.candidate.key,
            "status": "shipped" if self.card is not None else "failed",
            "reason": self.failure,
        }
        row |= {name: self.costs[name] for name in SHIPPED_COSTS}
        for precision, splits in self.statistics.items():
            for split, metrics in splits.items():
                for metric, statistic in metrics.items():
                    prefix = f"{metric}_{precision}_{split}"
                    row |= {
                        f"{prefix}_mean": statistic.mean,
                        f"{prefix}_std": statistic.std,
                        f"{prefix}_n": statistic.n,
                    }
        return row


def median_training(setup: Setup, trainings: list[Training]) -> int:
    """Return the position of the training whose quantized validation score is the median (the lower of two)."""
    metric = setup.plan.main_metric
    scores = [training.metrics["quantized"]["val"][metric] for training in trainings]
    order = sorted(range(len(scores)), key=lambda position: (scores[position], position))
    return order[(len(order) - 1) // 2]


def ship(setup: Setup, folder: RunFolder, finalist: Finalist, trainings: list[Training]) -> Shipment:
    """Put the median training of a finalist into ``models/``, or say why it can't ship.

    A model that is there already, from the same trainings and undamaged, is left as it is.
    """
    costs = setup.problem.costs(finalist.candidate)
    scored = [training for training in trainings if training.metrics]
    if not scored:
        return Shipment(finalist, None, {}, costs, trainings[0].failure)
    position = median_training(setup, scored)
    shipped = scored[position]
    statistics = {
        precision: {
            split: {
                metric: Statistic.of([t.metrics[precision][split][metric] for t in scored], position)
                for metric in setup.plan.task.metrics
            }
            for split in SPLITS
        }
        for precision in PRECISIONS
    }
    if shipped.failure:
        return Shipment(finalist, None, statistics, costs, shipped.failure)
    card = _intact_card(setup, folder, finalist, shipped, statistics)
    if card is None:
        files = training_files(folder, finalist, shipped.seed)
        content = files.model.read_bytes()
        card = _make_card(setup, finalist, shipped, statistics, costs, content)
        with folder_written_atomically(folder.model(finalist.identity)) as target:
            shutil.copyfile(files.model, target / "model.tflite")
            shutil.copyfile(files.weights, target / "weights.safetensors")
            shutil.copyfile(files.predictions, target / "predictions.npz")
            (target / "card.json").write_text(card.to_json(), "utf-8")
            _write_firmware(setup, card, content, target / "firmware")
    return Shipment(finalist, card, statistics, costs)


def _write_firmware(setup: Setup, card: Card, content: bytes, target: Path) -> None:
    """Write the C sources; the golden vectors are validation samples spread over the split."""
    inputs = setup.problem.data.val.inputs
    chosen = evenly_spread(len(inputs), GOLDEN_SAMPLES)
    golden = GoldenVectors.record(LiteRTModel(content, border=border_of(card)), inputs[chosen])
    target.mkdir()
    for name, text in firmware_files(content, card.peak_ram_bytes, card.preprocessing, golden).items():
        (target / name).write_text(text, "utf-8")


def _intact_card(
    setup: Setup,
    folder: RunFolder,
    finalist: Finalist,
    shipped: Training,
    statistics: Mapping[Precision, Mapping[SplitName, Mapping[str, Statistic]]],
) -> Card | None:
    """Return the card of a model that was shipped before, or None where anything of it is missing or different."""
    target = folder.model(finalist.identity)
    if not all((target / name).is_file() for name in MODEL_FILES):
        return None
    try:
        card = Card.model_validate_json((target / "card.json").read_bytes())
    except ValueError:
        return None
    digest = hashlib.sha256((target / "model.tflite").read_bytes()).hexdigest()
    same = digest == card.sha256 == shipped.sha256 and card.metrics == statistics
    return card if same and card.protocol.get("shipped_because") == _shipped_because(setup.plan) else None


def _shipped_because(plan: Plan) -> str:
    return f"median of the trainings by {plan.main_metric} (quantized, validation)"


def _make_card(
    setup: Setup,
    finalist: Finalist,
    shipped: Training,
    statistics: Mapping[Precision, Mapping[SplitName, Mapping[str, Statistic]]],
    costs: Mapping[str, float],
    content: bytes,
) -> Card:
    plan, data = setup.plan, setup.problem.data
    model = LiteRTModel(content, border=setup.problem.skeleton(finalist.candidate).graph.border)
    latency = Latency(ms=plan.device.latency_ms(content), kernels=f"LiteRT {plan.device.latency.kernels}, 1 thread")
    return Card(
        candidate=finalist.identity,
        config=finalist.candidate.config,
        task=dict(plan.recipe["task"]),
        protocol=_protocol(setup, finalist, shipped, statistics),
        run_seed=plan.seed,
        sha256=shipped.sha256,
        input=_border_tensor(model.input_shape, model.input, model.border.input),
        output=_border_tensor(model.output_shape, model.output, model.border.output),
        preprocessing=dict(data.preprocessing),
        metrics={p: {s: dict(metrics) for s, metrics in splits.items()} for p, splits in statistics.items()},
        **{name: int(costs[name]) for name in SHIPPED_COSTS},  # type: ignore[arg-type]
        latency_ms={plan.device.name: latency},
        parity_steps=Parity(max=shipped.parity.max, mean=shipped.parity.mean, n_outputs=shipped.parity.n_outputs),
    )


def _protocol(
    setup: Setup,
    finalist: Finalist,
    shipped: Training,
    statistics: Mapping[Precision, Mapping[SplitName, Mapping[str, Statistic]]],
) -> dict[str, Any]:
    plan, candidate = setup.plan, finalist.candidate
    scheme = setup.problem.scheme_of(candidate, setup.problem.skeleton(candidate).graph.shapes)
    first = next(iter(statistics["deployed"]["val"].values()))
    return {
        **setup.problem.data.protocol,
        "estimation": dict(plan.recipe["estimation"]),
        **_pretrained(setup, finalist),
        "trainings": first.n,
        "shipped_training": shipped.seed,
        "shipped_because": _shipped_because(plan),
        "scored_weights": "exponential moving average over the steps, at the end of training",
        "quantization": scheme.description(),
        "scheme": plan.scheme,
        "scheme_chosen": scheme_choice(plan),
        "deployed": "LiteRT reference kernels, batch 1, states reset before every sample",
        "std": "sample standard deviation over the trainings (n - 1); 0 where n is 1",
        "weight_bytes": "every constant in the file: weights, biases and the indices of slices",
    }


def _pretrained(setup: Setup, finalist: Finalist) -> dict[str, str]:
    if setup.plan.seed_weights is None or finalist.candidate != setup.space.reference:
        return {}
    return {"pretrained": f"weights of {setup.plan.seed_weights.name}, not trained here: every training is the same"}


def _border_tensor(shape: tuple[int, ...], affine: Affine | None, order: AxisOrder) -> BorderTensor:
    if affine is None:
        raise TypeError("a shipped model has integer inputs and outputs")
    dtype, axes = f"int{affine.bits}", list(order.axes)
    return BorderTensor(shape=list(shape), dtype=dtype, scale=affine.scale, zero_point=affine.zero_point, axes=axes)


def border_of(card: Card) -> Border:
    """Return how a shipped model's input and output are stored."""
    return Border(AxisOrder(tuple(card.input.axes)), AxisOrder(tuple(card.output.axes)))


def remove_stale_models(folder: RunFolder, shipments: list[Shipment]) -> None:
    """Remove models of earlier sessions that are no finalists any more, and what a killed export left."""
    current = {shipment.finalist.identity for shipment in shipments if shipment.card is not None}
    if folder.models.is_dir():
        for entry in folder.models.iterdir():
            if entry.name not in current:
                shutil.rmtree(entry)


def front_rows(front: Sequence[FrontPoint], shipments: list[Shipment]) -> list[dict[str, Value | None]]:
    """Return the rows of front.csv; deterministic columns only."""
    shipped = {s.finalist.candidate.key: s.finalist.identity for s in shipments if s.card is not None}
    rows: list[dict[str, Value | None]] = []
    for record in front:
        row = {"candidate": shipped.get(record.candidate.key), "key": record.candidate.key}
        rows.append({**row, **{n: v for n, v in record.row().items() if n not in _UNSTABLE_COLUMNS}})
    return rows


_UNSTABLE_COLUMNS = frozenset({"number", "outcome", "reason", "train_seconds", "started_at", "finished_at", "feasible"})
