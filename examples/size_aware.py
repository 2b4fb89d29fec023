"""The sampler that uses exactly known costs, in a study of Optuna's own: no recipe, no network of qanas.

    python examples/size_aware.py

Two objectives: an error that has to be measured, and a number of parameters that follows from the settings.
"""

import optuna

from qanas.search_strategy.optuna_sampler import SizeAwareSampler


def parameters(settings):
    """Count the parameters of a network with two hidden layers."""
    return 64 * settings["first"] + settings["first"] * settings["second"] + 10 * settings["second"]


def objective(trial):
    """Stand in for a training."""
    first, second = trial.suggest_int("first", 1, 256, log=True), trial.suggest_int("second", 1, 256, log=True)
    rate = trial.suggest_float("rate", 1e-4, 1e-1, log=True)
    error = 1 / first + 2 / second + 0.1 * abs(rate - 0.01) / 0.01
    return error, parameters(trial.params)


if __name__ == "__main__":
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = SizeAwareSampler({1: parameters}, seed=0)
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
    study.optimize(objective, n_trials=60)
    for found in sorted(study.best_trials, key=lambda trial: trial.values[1]):
        print(f"{found.values[1]:8.0f} parameters, error {found.values[0]:.3f}, {found.params}")
