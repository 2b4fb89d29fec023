"""What a search knows of its trials so far."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from qanas.core.measures import Measure
from qanas.core.trials import TrialRecord, front_of
from qanas.search_space.start import Proposal


def identity(proposal: Proposal) -> tuple[str, str]:
    """Return what tells a training from others: of a candidate, from the weights of a parent."""
    return proposal.candidate.key, proposal.parent


@dataclass
class KnownTrials:
    """What follows from the records so far, kept up with each: looking through all at each trial takes ever longer.

    Attributes:
        axes: of the front.
        counted: indices of trials that count.
        measured: which trainings there were, see `identity`.
        rejected: the records of rejected candidates, by key.
        attempts: rejected candidates of each index.
        front: see `front_of`.
    """

    axes: Sequence[Measure]
    counted: set[int] = field(default_factory=set)
    measured: set[tuple[str, str]] = field(default_factory=set)
    rejected: dict[str, TrialRecord] = field(default_factory=dict)
    attempts: Counter[int] = field(default_factory=Counter)
    front: list[TrialRecord] = field(default_factory=list)

    @classmethod
    def of(cls, records: Sequence[TrialRecord], axes: Sequence[Measure]) -> KnownTrials:
        """Take what was found before."""
        known = cls(axes)
        for record in records:
            known._count(record)
        known.front = front_of(records, axes)
        return known

    def add(self, record: TrialRecord) -> None:
        """Take a further record."""
        self._count(record)
        if record.outcome == "measured":  # what is dominated once stays so: the rest needs no second look
            self.front = front_of([*self.front, record], self.axes)

    def _count(self, record: TrialRecord) -> None:
        if record.outcome == "rejected":
            self.rejected[record.candidate.key] = record
            self.attempts[record.index] += 1
        else:
            self.counted.add(record.index)
            self.measured.add((record.candidate.key, str(record.origin.get("parent", ""))))
