"""How a run's numbers came about: protocol, versions, counts and reasons."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qanas.reporting.wording import setting

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qanas.reporting.run_data import RunData

_MOST_REASONS = 5
_DIFFERS = "differs between the models: see their cards"

Facts = list[tuple[str, str]]


@dataclass(frozen=True)
class Reason:
    """Why candidates were rejected or failed.

    Attributes:
        outcome: rejected, failed or interrupted.
        text: the reason, or one example where they differ in numbers alone.
        amount: of trials.
        example: whether the reasons differ in their numbers.
    """

    outcome: str
    text: str
    amount: int
    example: bool


def protocol(data: RunData) -> Facts:
    """Return the protocol of the shipped models' cards; entries that differ between them say so."""
    flat = [dict(_flat(card.protocol)) for card in (data.shipped or data.cards).values()]
    names = dict.fromkeys(name for facts in flat for name in facts)
    return [(name, _common([facts.get(name) for facts in flat])) for name in names]


def versions(data: RunData) -> Facts:
    """Return the versions that the run was made with, and the fingerprint of its data."""
    found = data.recipe.get("versions", {})
    facts = _flat(found) if isinstance(found, dict) else [("versions", str(found))]
    fingerprint = data.recipe.get("data_fingerprint")
    return facts if fingerprint is None else [*facts, ("data fingerprint", str(fingerprint))]


def reasons(data: RunData) -> list[Reason]:
    """Return the most frequent reasons of trials that were not measured, most frequent first.

    Reasons that differ in their numbers alone count as one.
    """
    groups: dict[tuple[str, str], Counter[str]] = {}
    for row in data.trials:
        outcome, text = str(row.get("outcome")), str(row.get("reason") or "no reason given")
        if outcome != "measured":
            groups.setdefault((outcome, re.sub(r"\d[\d.,_]*", "#", text)), Counter())[text] += 1
    found = [
        Reason(outcome, texts.most_common(1)[0][0], texts.total(), len(texts) > 1)
        for (outcome, _), texts in groups.items()
    ]
    return sorted(found, key=lambda reason: -reason.amount)[:_MOST_REASONS]


def _common(values: list[str | None]) -> str:
    first = values[0]
    return first if first is not None and all(value == first for value in values) else _DIFFERS


def _flat(values: Mapping[str, Any], prefix: str = "") -> Facts:
    facts: Facts = []
    for name, value in values.items():
        if isinstance(value, dict) and value:
            facts += _flat(value, f"{prefix}{name}.")
        else:
            facts.append((f"{prefix}{name}", _text(value)))
    return facts


def _text(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_text(entry) for entry in value) or "none"
    return setting(value) if not isinstance(value, dict) else "none"
