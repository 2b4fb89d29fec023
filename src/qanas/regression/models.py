"""Models that predict a number from a row of numbers, by name."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from qanas.core.errors import InputError
from qanas.regression.gaussian_process import ColumnGroup, GaussianProcess
from qanas.regression.ranking import kendall_tau

Array = NDArray[np.float64]
Places = NDArray[np.intp]

ModelName = Literal["gaussian_process", "bayesian_ridge", "forest", "boosted_trees"]
MODELS: tuple[ModelName, ...] = get_args(ModelName)
OWN: tuple[ModelName, ...] = ("gaussian_process",)
"""That need no further package."""

FOLDS = 5


class Model(Protocol):
    """A fitted model."""

    def predict(self, rows: Array) -> Array:
        """Return a prediction a row, shape (m,), for rows of shape (m, columns)."""


class _Process:
    """The mean of a Gaussian process."""

    def __init__(self, process: GaussianProcess) -> None:
        self.process = process

    def predict(self, rows: Array) -> Array:
        """Return means, shape (m,), a thousand rows, shape (m, columns), at a time."""
        chunks = np.array_split(rows, max(1, len(rows) // 1000))
        return np.concatenate([self.process.predict(chunk)[0] for chunk in chunks])


def _bayesian_ridge(seed: int) -> Any:  # noqa: ANN401 - of a package without types
    from sklearn.linear_model import BayesianRidge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    del seed
    return make_pipeline(StandardScaler(), BayesianRidge())


def _forest(seed: int) -> Any:  # noqa: ANN401 - likewise
    from sklearn.ensemble import RandomForestRegressor

    return RandomForestRegressor(200, min_samples_leaf=2, max_features=0.6, random_state=seed, n_jobs=1)


def _boosted_trees(seed: int) -> Any:  # noqa: ANN401 - likewise
    from sklearn.ensemble import GradientBoostingRegressor

    return GradientBoostingRegressor(
        n_estimators=200, learning_rate=0.05, max_depth=3, subsample=0.7, max_features=0.6, random_state=seed
    )


_OF_SCIKIT_LEARN: Mapping[str, Callable[[int], Any]] = {
    "bayesian_ridge": _bayesian_ridge,
    "forest": _forest,
    "boosted_trees": _boosted_trees,
}


def require_model(name: ModelName, key: str) -> None:
    """Refuse a model whose package isn't there.

    Raises:
        InputError: names the key, and says how to install it.
    """
    if name not in OWN and importlib.util.find_spec("sklearn") is None:
        raise InputError(
            f"{key}: '{name}' needs scikit-learn; install it with: pip install 'qanas[surrogate]', or take "
            "'gaussian_process'"
        )


def fitted(name: ModelName, groups: Sequence[ColumnGroup], rows: Array, targets: Array, seed: int = 0) -> Model:
    """Return a model that was fitted; the same arguments give the same one.

    Args:
        name: of the model.
        groups: of columns, which the Gaussian process scales alike.
        rows: shape (n, columns).
        targets: shape (n,).
        seed: of what is random.
    """
    if name == "gaussian_process":
        return _Process(GaussianProcess(groups, rows, targets, seed))
    model: Model = _OF_SCIKIT_LEARN[name](seed).fit(rows, targets)
    return model


def folds(count: int, seed: int = 0) -> list[tuple[Places, Places]]:
    """Return, for each of `FOLDS` folds that are drawn at random, the places of all others and its own."""
    order = np.random.default_rng(seed).permutation(count)
    return [(np.setdiff1d(order, fold), fold) for fold in np.array_split(order, min(FOLDS, count))]


def cross_validated(
    name: ModelName, groups: Sequence[ColumnGroup], rows: Array, targets: Array, seed: int = 0
) -> Array:
    """Return predictions, shape (n,), each of a model that hadn't seen it: `FOLDS` folds, drawn at random.

    Args:
        name: of the model.
        groups: of columns.
        rows: shape (n, columns).
        targets: shape (n,).
        seed: of what is random.
    """
    predicted = np.empty(len(rows))
    for others, fold in folds(len(rows), seed):
        predicted[fold] = fitted(name, groups, rows[others], targets[others], seed).predict(rows[fold])
    return predicted


def cross_validated_tau(name: ModelName, groups: Sequence[ColumnGroup], rows: Array, targets: Array) -> float:
    """Return Kendall's tau of cross-validated predictions, of rows (n, columns), with the targets, shape (n,)."""
    return kendall_tau(cross_validated(name, groups, rows, targets), targets)
