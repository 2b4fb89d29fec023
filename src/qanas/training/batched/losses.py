"""Each candidate's own loss, and which candidates were lost."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from qanas.training.fit import Loss


class CandidateLosses:
    """The loss of every candidate on its own batch; candidates with the same kind are computed together.

    Args:
        loss: of one candidate; one that ``torch.func.vmap`` can see through.
        kinds: of each candidate.
        device: of the outputs.
    """

    def __init__(self, loss: Loss, kinds: Sequence[str], device: torch.device) -> None:
        """Sort the candidates by kind."""
        members = {kind: [n for n, other in enumerate(kinds) if other == kind] for kind in dict.fromkeys(kinds)}
        self._parts = [
            (torch.func.vmap(partial(loss, kind)), torch.tensor(rows, device=device)) for kind, rows in members.items()
        ]
        self._order = torch.cat([rows for _, rows in self._parts]).argsort()

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of each candidate.

        Args:
            outputs: shape (candidates, samples, ...).
            targets: shape (candidates, samples, ...).

        Returns:
            Shape (candidates,).
        """
        values = [
            batched(outputs.index_select(0, rows), targets.index_select(0, rows)) for batched, rows in self._parts
        ]
        return torch.cat(values).index_select(0, self._order)


class LossRecord:
    """The losses of an epoch, gathered where they are computed.

    Args:
        candidates: how many.
        device: where.

    Attributes:
        summed: of this epoch, a sample's loss at a time, shape (candidates,).
        lost_at: the step, from 1, whose loss was the first to be NaN or infinite; 0 where none was.
        lost_loss: that loss.
    """

    def __init__(self, candidates: int, device: torch.device) -> None:
        """Nothing is lost yet."""
        self.summed = torch.zeros(candidates, dtype=torch.float64, device=device)
        self.lost_at = torch.zeros(candidates, dtype=torch.int64, device=device)
        self.lost_loss = torch.zeros(candidates, device=device)

    @property
    def state(self) -> list[Tensor]:
        """All that `note` changes."""
        return [self.summed, self.lost_at, self.lost_loss]

    def note(self, losses: Tensor, samples: int, step: Tensor) -> None:
        """Take the losses of a step.

        Args:
            losses: shape (candidates,).
            samples: in the batch.
            step: its number from 1, shape (1,).
        """
        self.summed.add_(losses.double(), alpha=samples)
        lost_now = (self.lost_at == 0) & ~torch.isfinite(losses)
        self.lost_at.copy_(torch.where(lost_now, step, self.lost_at))
        self.lost_loss.copy_(torch.where(lost_now, losses, self.lost_loss))
