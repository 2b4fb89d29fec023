"""What is not the same in several runs, and whether they can be compared fairly all the same."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qanas.core.flatten import flatten
from qanas.reporting.protocol import protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qanas.reporting.run_data import RunData

_PROTOCOL = "protocol."
_UNFAIR = ("task.", "data_fingerprint", _PROTOCOL)
"""Where these differ, scores or costs are of different things."""

_FAIR = (f"{_PROTOCOL}quantization", f"{_PROTOCOL}scored_weights")
"""Of the protocol what belongs to the method, as settings do."""

_LEFT_OUT = ("task.data", "source.", "objectives.")
"""Where the data lies doesn't matter, its fingerprint does; objectives are told by the comparison itself."""

_NO_PROTOCOL = ("estimation.", "trainings", "shipped_training", "shipped_because", "std")
"""Of a card's protocol what the recipe tells too, and what differs from model to model."""

_ABSENT = "not set"
_LONGEST = 100  # characters of a value in a sentence


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
