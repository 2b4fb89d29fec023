"""The sampler that uses exactly known costs, for any study of Optuna's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.search_space import IntersectionSearchSpace
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from qanas.core.pareto import non_dominated
from qanas.core.seeds import derive_seed
from qanas.search_space.encoding import Encoding
from qanas.search_space.mutation import stepped
from qanas.search_space.space import drawn
from qanas.search_strategy.slices import Pool, most_promising

RANDOM_ONES, NEIGHBOURS, MOST_CHANGES = 120, 160, 3

Parameters = dict[str, Any]


class SizeAwareSampler(BaseSampler):
    """Models what has to be measured; objectives that are known exactly before a trial runs are computed.

    Settings that not every trial has are drawn at random, as in Optuna's other samplers of joint settings.

    Args:
        costs: computes an objective's value from a trial's parameters, by the objective's position.
        n_startup_trials: random ones before the model is used.
        seed: of all that is random; None draws one.

    >>> import optuna
    >>> optuna.logging.set_verbosity(optuna.logging.WARNING)
    >>> sampler = SizeAwareSampler({1: lambda parameters: parameters["units"] ** 2}, n_startup_trials=4, seed=0)
    >>> study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
    >>> def objective(trial):
    ...     units = trial.suggest_int("units", 1, 64, log=True)
    ...     return 1 / units + trial.suggest_float("share", 0, 1) ** 2, units**2
    >>> study.optimize(objective, n_trials=12)
    >>> len(study.best_trials) > 2
    True
    """

    def __init__(
        self, costs: Mapping[int, Callable[[Parameters], float]], n_startup_trials: int = 10, seed: int | None = None
    ) -> None:
        """Draw a seed where none is given."""
        self._costs = dict(costs)
        self._startup = n_startup_trials
        self._seed = int(np.random.default_rng(seed).integers(2**31))
        self._others = RandomSampler(seed=self._seed)
        self._shared = IntersectionSearchSpace()

    def reseed_rng(self) -> None:
        """Draw another seed, for a copy in another thread."""
        self._seed = int(np.random.default_rng().integers(2**31))
        self._others.reseed_rng()

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the settings that every finished trial has."""
        del trial
        found = self._shared.calculate(study)
        return {name: distribution for name, distribution in found.items() if not distribution.single()}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> Parameters:
        """Return the most promising of many settings; nothing, so that all are drawn at random, at first."""
        finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if not search_space or len(finished) < self._startup:
            return {}
        generator = np.random.default_rng(derive_seed(self._seed, trial.number))
        signs = np.array([1.0 if way == StudyDirection.MINIMIZE else -1.0 for way in study.directions])
        losses = np.array([found.values for found in finished], np.float64) * signs
        exact = sorted(self._costs)
        unknown = [number for number in range(len(signs)) if number not in exact]
        front = [finished[place].params for place in non_dominated(losses).tolist()]
        pool = _pool(search_space, front, generator)
        encoding = Encoding(search_space)
        costs = [[self._costs[number](parameters) * signs[number] for number in exact] for parameters in pool]
        choices = Pool(encoding.rows(pool), np.array(costs, np.float64).reshape(len(pool), -1))
        seen = Pool(encoding.rows([found.params for found in finished]), losses[:, exact])
        seed = int(generator.integers(2**31))
        return pool[most_promising(encoding.groups, seen, losses[:, unknown], choices, seed)]

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:  # noqa: ANN401 - of the distribution's type
        """Draw a setting at random."""
        return self._others.sample_independent(study, trial, param_name, param_distribution)


def _pool(
    search_space: Mapping[str, BaseDistribution], front: Sequence[Parameters], generator: np.random.Generator
) -> list[Parameters]:
    """Return settings to choose from: some of the whole space, and neighbours of the front."""
    found = [{name: drawn(found, generator) for name, found in search_space.items()} for _ in range(RANDOM_ONES)]
    names = list(search_space)
    for _ in range(NEIGHBOURS):
        parent = front[int(generator.integers(len(front)))]
        moved = generator.choice(
            len(names), min(len(names), int(generator.integers(1, MOST_CHANGES + 1))), replace=False
        )
        changed = {names[place] for place in moved.tolist()}
        found.append(
            {
                name: stepped(distribution, parent[name], generator) if name in changed else parent[name]
                for name, distribution in search_space.items()
            }
        )
    return found
