"""What ``summary.json`` tells of a run: counts, seconds by part over all sessions, and in the end what shipped."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal

from qanas.core.run_folder import RunFolder
from qanas.planning.plan import Plan
from qanas.shipping.models import Shipment, front_rows
from qanas.shipping.trainings import Training
from qanas.workflows.search import Search

Part = Literal["finalists", "baselines"]


class Account:
    """The summary of a run, written whenever somebody may want to read it.

    Args:
        plan: of the run.
        folder: with what earlier sessions took.
        search: whose counts and times are told.
    """

    def __init__(self, plan: Plan, folder: RunFolder, search: Search) -> None:
        """Read what earlier sessions took."""
        self._plan, self._folder, self._search = plan, folder, search
        before = folder.seconds_before("seconds")
        self._seconds: dict[str, float] = {"finalists": before.get("finalists", 0.0)}
        if plan.baselines:
            self._seconds["baselines"] = before.get("baselines", 0.0)

    def took(self, part: Part, since: float) -> None:
        """Count the time from a moment of `time.monotonic` on as a part's."""
        self._seconds[part] = self._seconds.get(part, 0.0) + time.monotonic() - since

    @contextmanager
    def lasting(self, part: Part) -> Iterator[None]:
        """Count the time of what is inside where it ends early, for what it has finished stays."""
        since = time.monotonic()
        try:
            yield
        except BaseException:
            self.took(part, since)
            self.write("interrupted")
            raise

    def save(self, status: str) -> None:
        """Write what the search has found so far."""
        self._search.write_tables()
        self._folder.write_table(self._folder.front, front_rows(self._plan, self._search.front(), []))
        self.write(status)

    def write(self, status: str, **more: object) -> None:
        """Write the summary.

        Args:
            status: of the run.
            more: what is told beside counts and times.
        """
        found = self._search.summary()
        seconds = {"search": found.pop("seconds"), **self._seconds}
        found |= {"metrics": dict(self._plan.bench.task.metrics)}
        self._folder.write_summary(found | {"status": status, **more, "seconds": seconds})


def counted(shipments: Sequence[Shipment]) -> dict[str, object]:
    """Return how many models shipped, how many didn't, and why."""
    failed = [shipment for shipment in shipments if shipment.card is None]
    failures = [{"candidate": s.finalist.identity, "reason": s.failure} for s in failed]
    return {"shipped": len(shipments) - len(failed), "failed": len(failed), "failures": failures}


def cpu_seconds(trainings: Mapping[str, Sequence[Training]]) -> float:
    """Return what all trainings together took of the processor."""
    return sum(training.cpu_seconds for each in trainings.values() for training in each)
