"""Verification: every shipped model re-measured against its card."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from qanas.core.candidate import Candidate
from qanas.core.card import Card, SplitName
from qanas.core.errors import InputError
from qanas.core.run_folder import RunFolder
from qanas.deployment.litert import LiteRTModel
from qanas.tasks.base import Split
from qanas.workflows.plan import Plan
from qanas.workflows.shipping import MODEL_FILES, border_of

TOLERANCE = 1e-6


@dataclass(frozen=True)
class Verdict:
    """What was found of one model.

    Attributes:
        identity: its folder.
        differences: one line each; none where the card is true.
        latency_ms: measured now; printed, not judged; None where the model can't be run.
    """

    identity: str
    differences: tuple[str, ...]
    latency_ms: float | None = None


def require_same_data(plan: Plan, folder: RunFolder) -> None:
    """Refuse to verify against other data than the run's.

    Raises:
        InputError: the fingerprints differ.
    """
    before, now = folder.read_recipe().get("data_fingerprint"), plan.recipe["data_fingerprint"]
    if before != now:
        place = plan.recipe["task"].get("data", "the task")
        raise InputError(
            f"{folder.recipe}: data_fingerprint is {before}, but {place} has {now}; give the run's data back its place"
        )


def verify_models(plan: Plan, folder: RunFolder) -> Iterator[Verdict]:
    """Yield a verdict on every shipped model, as soon as it is there."""
    cards = folder.cards()
    for identity in dict.fromkeys([*cards, *_shipped(folder)]):
        missing = tuple(name for name in MODEL_FILES if not (folder.model(identity) / name).is_file())
        if missing:
            yield Verdict(identity, tuple(f"{name} is missing" for name in missing))
        else:
            yield _verify(plan, folder, identity, cards[identity])


def _shipped(folder: RunFolder) -> list[str]:
    """Return the models that were shipped, whether they are still there or not."""
    if not folder.finalists.is_file():
        return []
    try:
        table = pl.read_csv(folder.finalists, infer_schema=False)  # names made of digits alone stay as they are
        return table.filter(pl.col("status") == "shipped")["candidate"].to_list()
    except pl.exceptions.PolarsError as error:
        raise InputError(f"{folder.finalists}: the table was damaged, run again to write it anew") from error


def _verify(plan: Plan, folder: RunFolder, identity: str, card: Card) -> Verdict:
    content = (folder.model(identity) / "model.tflite").read_bytes()
    differences = []
    if len(content) != card.file_bytes:
        differences.append(f"file_bytes is {len(content)}, the card says {card.file_bytes}")
    digest = hashlib.sha256(content).hexdigest()
    if digest != card.sha256:
        differences.append(f"sha256 is {digest}, the card says {card.sha256}")
    try:
        model = LiteRTModel(content, border=border_of(card))
    except ValueError as error:
        return Verdict(identity, (*differences, str(error)))
    candidate = Candidate(**card.config)
    task, data = plan.bench.task_of(candidate), plan.bench.data_of(candidate)
    splits: tuple[tuple[SplitName, Split], ...] = (("val", data.val), ("test", data.test))
    for name, split in splits:
        measured = task.evaluate(model.predict(split.inputs), split)
        for metric, value in measured.items():
            claimed = card.metric("deployed", name, metric).shipped
            if not abs(value - claimed) <= TOLERANCE * max(1.0, abs(claimed)):
                differences.append(f"{metric} on {name} is {value:.8g}, the card says {claimed:.8g}")
    return Verdict(identity, tuple(differences), plan.bench.device.latency_ms(content))
