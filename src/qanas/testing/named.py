"""Contracts by name: what is behind ``module:Class`` is made and checked, in one line."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from qanas.core.errors import InputError, described, import_object, unknown
from qanas.performance_estimation.procedure import FullTraining
from qanas.testing.costs import check_cost, check_latency
from qanas.testing.estimation import check_estimator, check_procedure
from qanas.testing.executors import check_executor
from qanas.testing.growth import check_growth
from qanas.testing.operators import check_operator
from qanas.testing.spaces import check_blocks, check_space
from qanas.testing.starts import check_start
from qanas.testing.strategies import check_sampler, check_solver
from qanas.testing.tasks import check_task
from qanas.testing.trainers import check_trainer, squared_error


def _check_trainer_class(made: Callable[..., Any]) -> None:
    """Check a class whose constructor takes network, data, loss and settings, as `TorchTrainer`'s does."""
    check_trainer(lambda network, data, settings: made(network, data, squared_error, settings), loss=squared_error)


CONTRACTS: Mapping[str, Callable[..., None]] = {
    "blocks": check_blocks,
    "cost": check_cost,
    "estimator": check_estimator,
    "executor": check_executor,
    "growth": check_growth,
    "latency": check_latency,
    "operator": check_operator,
    "procedure": check_procedure,
    "sampler": check_sampler,
    "solver": check_solver,
    "space": check_space,
    "start": check_start,
    "task": check_task,
    "trainer": _check_trainer_class,
}
"""Every contract and what checks it."""

MADE_BY_THE_CHECK = ("executor", "trainer")
"""Contracts of which a class, not an object, is checked."""


QUICK = FullTraining(epochs=1, calibration_samples=16)
"""The procedure of an estimator that is given none."""


def check(kind: str, name: str, *shapes: tuple[int, ...], **arguments: Any) -> None:  # noqa: ANN401 - a class's own
    """Import a class, make an object of it, and hold that against its contract.

    >>> check("task", "qanas.testing.small:SmallTask", samples=24)

    Args:
        kind: of contract, one of `CONTRACTS`.
        name: ``module:Class``.
        shapes: of the inputs of an operator.
        arguments: of the class's constructor, and of the check itself, such as ``task`` of a space, where
            ``module:Class`` makes an object; an estimator's ``procedure``, too, by default a training of one epoch.

    Raises:
        AssertionError: which property is broken, and what was seen.
        InputError: there is no such contract or class, or it can't be made.
    """
    if kind not in CONTRACTS:
        raise InputError(unknown("contract", kind, CONTRACTS))
    checks, found = CONTRACTS[kind], _imported(name)
    own = set(list(inspect.signature(checks).parameters)[1:])
    for_check = {key: arguments.pop(key) for key in sorted(own & set(arguments)) if key not in _arguments_of(found)}
    given = {key: _made(value) for key, value in for_check.items()}
    if kind == "estimator" and "procedure" in _arguments_of(found):
        arguments["procedure"] = _made(arguments.get("procedure", QUICK))
    made = partial(found, **arguments) if kind in MADE_BY_THE_CHECK else _called(found, name, arguments)
    checks(made, *shapes, **given)


def _imported(name: str) -> Callable[..., Any]:
    if ":" not in name:
        raise InputError(f"'{name}' names no class; give module:Class")
    try:
        found: Any = import_object(name)
    except Exception as error:
        raise InputError(f"'{name}' can't be imported: {described(error, __file__)}") from error
    if not callable(found):
        raise InputError(f"'{name}' is no class; give module:Class")
    return found  # type: ignore[no-any-return]  # callable, see above


def _called(found: Callable[..., Any], name: str, arguments: Mapping[str, Any]) -> Any:  # noqa: ANN401 - any contract's
    try:
        return found(**arguments)
    except Exception as error:
        raise InputError(f"'{name}' can't be made: {described(error, __file__)}; give its arguments") from error


def _made(value: Any) -> Any:  # noqa: ANN401 - an argument of any type
    """Return an argument, made of ``module:Class`` where it names one."""
    is_name = isinstance(value, str) and value.count(":") == 1
    return _called(_imported(value), value, {}) if is_name else value


def _arguments_of(found: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(found).parameters)
