"""Latency on one device from that on another and a few measurements.

Two devices take the same networks in nearly the same order; how they differ depends on the operators. Of a network with
features x (counts or one-hot codes of its operators) that takes s on the known device, the other takes

    y = m + a u + e r + x w + f(x) + noise,

where u is the part of s that is additive in the features, r the rest of it, w a correction of each feature, and f a
smooth one of how many features agree. All terms are Gaussian a priori: a Gaussian process whose kernel is their sum
(Rasmussen & Williams 2006, chapter 2), the variances by the largest evidence of the measurements.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_STEPS, _FIRST_STEP, _SHRINK = 60, 1.0, 0.7
_LOW, _HIGH = -12.0, 8.0
_PRIOR_PRECISION, _PRIOR_MEAN = 0.05, -1.0
_JITTER = 1e-8


def additive_part(features: Floats, latency: Floats) -> Floats:
    """Return the part of latencies, shape (n,), that is additive in features, shape (n, k): least squares."""
    design = np.column_stack([features, np.ones(len(features))])
    weights = np.linalg.lstsq(design, latency, rcond=None)[0]
    found: Floats = design @ weights
    return found


def _scaled(values: Floats) -> Floats:
    spread = float(values.std())
    scaled: Floats = (values - values.mean()) / (spread or 1.0)
    return scaled


@dataclass(frozen=True)
class Transfer:
    """Networks whose latency is known on one device.

    Attributes:
        features: of all of them, shape (n, k): one-hot codes of choices, or counts of operators.
        known: latency on the known device, shape (n,).
    """

    features: Floats
    known: Floats

    def predict(self, measured: Sequence[int] | NDArray[np.intp], latency: Floats) -> Floats:
        """Return the other device's latency of all networks, shape (n,).

        Args:
            measured: positions of those that were measured there, distinct.
            latency: that they take there, shape (len(measured),), in any unit.
        """
        chosen = np.asarray(measured, np.intp)
        # 1. The terms' kernels, between all networks and those measured: (n, m) each.
        terms = self._kernels(chosen)
        # 2. Their variances, and the noise's: the largest evidence of the scaled measurements.
        mean, spread = float(latency.mean()), float(latency.std()) or 1.0
        target = (latency - mean) / spread
        among = [term[chosen] for term in terms]
        variances = np.exp(_most_likely(among, target))
        # 3. The posterior mean.
        covariance = _covariance(among, variances)
        whole = np.tensordot(variances[:-1], np.stack(terms), axes=1)
        found: Floats = whole @ np.linalg.solve(covariance, target) * spread + mean
        return found

    def _kernels(self, chosen: NDArray[np.intp]) -> list[Floats]:
        centred = self.features - self.features.mean(axis=0)
        additive = additive_part(self.features, self.known)
        u, r = _scaled(additive), _scaled(self.known - additive)
        linear = centred @ centred[chosen].T
        linear /= max(float(np.square(centred).sum(axis=1).mean()), _JITTER)
        apart = np.abs(self.features[:, None] - self.features[None, chosen]).sum(axis=-1) / 2
        return [
            np.ones((len(self.known), len(chosen))),
            np.outer(u, u[chosen]),
            np.outer(r, r[chosen]),
            linear,
            np.exp(-apart / 2),
        ]


def _covariance(terms: Sequence[Floats], variances: Floats) -> Floats:
    """Return the measurements' covariance, shape (m, m); the last variance is the noise's."""
    whole: Floats = np.tensordot(variances[:-1], np.stack(terms), axes=1)
    whole += (variances[-1] + _JITTER) * np.eye(len(whole))
    return whole


def _most_likely(terms: Sequence[Floats], target: Floats) -> Floats:
    """Return the logarithms of the variances with the largest evidence, a weak prior on them included.

    By a search along one of them at a time, its steps ever smaller: few numbers, cheap to try, and no derivative.
    """

    def loss(logs: Floats) -> float:
        try:
            lower = np.linalg.cholesky(_covariance(terms, np.exp(logs)))
        except np.linalg.LinAlgError:
            return np.inf
        whitened = np.linalg.solve(lower, target)
        prior = _PRIOR_PRECISION * np.square(logs - _PRIOR_MEAN).sum() / 2
        return float(whitened @ whitened / 2 + np.log(np.diag(lower)).sum() + prior)

    best = np.full(len(terms) + 1, _PRIOR_MEAN)
    lowest, step = loss(best), _FIRST_STEP
    for _ in range(_STEPS):
        better = False
        for place in range(len(best)):
            for sign in (1, -1):
                tried = best.copy()
                tried[place] = np.clip(tried[place] + sign * step, _LOW, _HIGH)
                found = loss(tried)
                if found < lowest:
                    best, lowest, better = tried, found, True
        step = step if better else step * _SHRINK
    return best
