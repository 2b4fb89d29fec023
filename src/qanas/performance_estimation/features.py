"""What predictors see of a candidate: its settings and, where asked for, its costs and zero-cost proxies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qanas.core.candidate import Candidate
from qanas.core.measures import Cost
from qanas.hardware.costs import costs_of
from qanas.performance_estimation.bench import Bench
from qanas.performance_estimation.proxy_scores import ProxyName, proxies_of
from qanas.regression.gaussian_process import ColumnGroup
from qanas.search_space.encoding import Encoding, Rows

SIZES = (Cost("weight_bytes"), Cost("macs"))
"""Costs that are features."""


@dataclass(frozen=True)
class Features:
    """Rows of numbers of candidates.

    Attributes:
        costs: whether sizes are among them, as logarithms.
        proxies: that are among them, as logarithms of what is positive.
    """

    costs: bool = False
    proxies: tuple[ProxyName, ...] = ()

    def groups(self, bench: Bench) -> list[ColumnGroup]:
        """Return which columns are alike."""
        encoding = Encoding.of(bench.space)
        first = sum(entry.width for entry in encoding.columns)
        more = (len(SIZES) if self.costs else 0) + len(self.proxies)
        return [
            *encoding.groups,
            *(ColumnGroup([first + number], 1) for number in range(more)),
        ]

    def rows(self, bench: Bench, candidates: Sequence[Candidate]) -> Rows:
        """Return shape (n, columns) of n candidates."""
        settings = Encoding.of(bench.space).rows_of(candidates)
        more = np.array([self._more(bench, candidate) for candidate in candidates]).reshape(len(candidates), -1)
        return np.column_stack([settings, more])

    def _more(self, bench: Bench, candidate: Candidate) -> list[float]:
        """Return what isn't a setting; on about the scale of settings, which are from 0 to 1."""
        found: list[float] = []
        if self.costs:
            models = [model for model in bench.costs if model.measure in SIZES]
            costs = costs_of(bench.blueprint(candidate), models)
            found += [float(np.log10(max(costs[size.column], 1.0))) / 4 for size in SIZES]
        if self.proxies:
            scores = proxies_of(bench, candidate, self.proxies)
            found += [float(np.sign(value) * np.log10(1.0 + abs(value))) / 4 for value in scores.values()]
        return found
