"""Scores that are fitted to a few retrained networks, and add up over blocks like those that are not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from qanas.core.errors import InputError
from qanas.regression.weighted_sum import WeightedSum, fits, pairs_left_out, plain_sums, ramps, tau_of_pairs

Floats = NDArray[np.float64]

FEWEST = 4
"""Networks that something can be fitted to: a pair left out, a pair to learn from."""

INNER_KNOTS = (1 / 3, 2 / 3)
"""Quantiles of a block's own scores at which a monotone function of them may bend."""

ScoreModel = Literal["ridge", "monotone"]


@dataclass(frozen=True)
class FittedScore:
    """A score of rows, fitted to retrained networks.

    Attributes:
        scores: of every row of each table, shape (rows,).
        tau: Kendall's, of networks that were left out of the fit, with what it is fitted to.
        plain_tau: of the plain sum, over the same pairs.
        told: what the run's summary says of it.
    """

    scores: tuple[Floats, ...]
    tau: float
    plain_tau: float
    told: dict[str, Any]

    @property
    def warning(self) -> str:
        """What to say where the plain sum is as good; else empty."""
        if self.tau > self.plain_tau:
            return ""
        plain = self.told["plain"]
        return (
            f"score: fitted to {self.told['networks']} retrained networks, it ranks them no better than {plain} "
            f"(Kendall's tau {self.tau:.2f}, left out of the fit, against {self.plain_tau:.2f}): take more networks or "
            f"longer trainings, or name = '{plain}'"
        )

    @classmethod
    def of(
        cls,
        plain: str,
        model: ScoreModel,
        blocks: Sequence[Floats],
        rows: Sequence[Sequence[int]],
        losses: Floats,
    ) -> FittedScore:
        """Fit to retrained networks.

        Args:
            plain: the name of the sum that is weighted.
            model: a weight a block, or a rising function of each block's score.
            blocks: the plain scores of every row of each table, shape (rows,).
            rows: of each network, a row a table.
            losses: the metric of each, less is better, NaN where its training failed: shape (networks,).

        Raises:
            InputError: too few of them have one.
        """
        there = ~np.isnan(losses)
        if there.sum() < FEWEST:
            raise InputError(
                f"score: {int(there.sum())} of {len(losses)} retrained networks have a metric, at least {FEWEST} are "
                "needed: see log.txt for what failed, or raise score.networks"
            )
        chosen, losses = np.array(rows)[there], losses[there]
        pieces = [ramps(each, _knots(each, model)) for each in blocks]
        columns = np.column_stack([each[chosen[:, place]] for place, each in enumerate(pieces)])
        found = WeightedSum.fitted(columns, losses)
        parts = np.split(found.weights, np.cumsum([each.shape[1] for each in pieces])[:-1])
        scores = tuple(each @ weights for each, weights in zip(pieces, parts, strict=True))
        tau, plain_tau = (
            tau_of_pairs(pairs_left_out(losses, learner)) for learner in (fits(columns, losses), plain_sums(columns))
        )
        told = {
            "plain": plain,
            "networks": len(losses),
            "failed": int((~there).sum()),
            "tau": tau,
            "plain_tau": plain_tau,
            "penalty": found.penalty,
            "weights": [[float(w) for w in weights] for weights in parts],
            "reversed": found.reversed,
        }
        return cls(scores, tau, plain_tau, told)


def _knots(scores: Floats, model: ScoreModel) -> Floats:
    """Return where a function of a block's scores, shape (rows,), may bend; nowhere where it is linear."""
    if model == "ridge":
        return np.array([])
    return np.unique(np.nanquantile(scores, INNER_KNOTS))
