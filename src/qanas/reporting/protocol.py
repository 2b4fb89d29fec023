"""How runs' numbers came about: protocol, versions, reasons, and what is not the same in several runs."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qanas.core.keys import flatten
from qanas.reporting.wording import setting

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from qanas.reporting.run_data import RunData

_MOST_REASONS = 5
_DIFFERS = "differs between the models: see their cards"

_PROTOCOL = "protocol."
_UNFAIR = ("task.", "data_fingerprint", _PROTOCOL)
"""Where these differ, scores or costs are of different things."""

_INPUT = ("features", "mean_window")
_FAIR = (
    f"{_PROTOCOL}quantization",
    f"{_PROTOCOL}scored_weights",
    *(f"{place}{name}" for place in ("task.", _PROTOCOL) for name in _INPUT),
)
"""Of the protocol what belongs to the method, as settings do: what of the same samples a network is given, too."""

_LEFT_OUT = ("task.data", "source.", "objectives.")
"""Where the data lies doesn't matter, its fingerprint does; objectives are told by the comparison itself."""

_NO_PROTOCOL = ("estimation.", "trainings", "shipped_training", "shipped_because", "std", "epochs", "baseline")
"""Of a card's protocol what the recipe tells too, and what differs from model to model."""

_ABSENT = "not set"
_LONGEST = 100  # characters of a value in a sentence

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


# Several runs


@dataclass(frozen=True)
class Difference:
    """A key of the recipes, or of the protocol on the cards, that is not the same in all runs.

    Attributes:
        key: dotted.
        values: as text, one for each run.
        fair: whether runs that differ in it can be compared.
    """

    key: str
    values: tuple[str, ...]
    fair: bool

    def told(self, labels: Sequence[str]) -> str:
        """Return the difference in words; long values are cut."""
        short = [value if len(value) <= _LONGEST else f"{value[:_LONGEST]}..." for value in self.values]
        return f"{self.key} is {', '.join(f'{v} in {label}' for v, label in zip(short, labels, strict=True))}"


def differences(runs: Sequence[RunData]) -> tuple[Difference, ...]:
    """Return what is not the same in all runs, what makes comparing unfair first.

    A protocol is on the cards; a run that shipped nothing has none, which is no difference.
    """
    facts = [_facts(data) for data in runs]
    found = []
    for key in dict.fromkeys(key for kept in facts for key in kept):
        held = [data.cards or not key.startswith(_PROTOCOL) for data in runs]
        values = [kept.get(key, _ABSENT) for kept in facts]
        if len({value for value, has in zip(values, held, strict=True) if has}) > 1:
            found.append(Difference(key, tuple(values), key in _FAIR or not key.startswith(_UNFAIR)))
    return tuple(sorted(found, key=lambda difference: difference.fair))


def _facts(data: RunData) -> dict[str, str]:
    recipe = {key: value for key, value in flatten(data.recipe).items() if not key.startswith(_LEFT_OUT)}
    facts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in recipe.items()}
    notes = protocol(data) if data.cards else []
    return facts | {f"{_PROTOCOL}{key}": value for key, value in notes if not key.startswith(_NO_PROTOCOL)}
