"""The estimator that trains every candidate as the procedure says and scores what comes out, quantized."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from qanas.core.candidate import Candidate
from qanas.core.errors import InputError
from qanas.core.events import Losses, Watch
from qanas.core.run_folder import write_atomically
from qanas.core.trials import TrialRecord
from qanas.performance_estimation.base import Estimate, Estimator
from qanas.performance_estimation.bench import Bench
from qanas.performance_estimation.procedure import Procedure
from qanas.search_space.growth import last_weights
from qanas.search_space.start import KeptStart, Proposal, Start
from qanas.training.packed import packed


@dataclass(frozen=True)
class Training(Estimator):
    """Trains and quantizes each candidate; estimates are its validation metrics.

    Attributes:
        procedure: how.
    """

    procedure: Procedure
    _folder: Path | None = field(default=None, init=False, repr=False)

    keeps_weights: ClassVar[bool] = True
    starts: ClassVar[tuple[str, ...]] = ("scratch", "search")

    def keeping(self, folder: Path) -> Training:
        """Return the estimator that knows where the weights of trials are kept."""
        taken = copy.copy(self)
        object.__setattr__(taken, "_folder", folder)
        return taken

    def estimate(
        self, bench: Bench, proposal: Proposal, seed: int, history: Sequence[TrialRecord], watch: Watch
    ) -> Estimate:
        """Train, quantize, and score on validation data."""
        del history
        candidate = proposal.candidate
        losses = Losses(watch)
        trained = self.procedure.make(bench, candidate, proposal.start, seed, losses)
        if proposal.keep is not None:
            proposal.keep.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(proposal.keep, packed(trained.network.state_dict()))
        scores = trained.evaluate(bench.task_of(candidate), bench.data_of(candidate).val)
        return Estimate(scores, trained.train_seconds, losses.values, trained.curve)

    def finalist_start(self, bench: Bench, candidate: Candidate, kind: str) -> Start:
        """Return the weights that the candidate's last trial ended with, if asked for."""
        if kind != "search" or self._folder is None:
            return bench.start_of(candidate)
        path = last_weights(self._folder, candidate)
        if path is None:
            raise InputError(
                f"finalists.start = 'search': no weights of candidate {candidate.key} were kept, as where trials were "
                "trained before that was asked for; take 'scratch'"
            )
        return KeptStart(path)
