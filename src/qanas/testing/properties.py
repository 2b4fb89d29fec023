"""Properties: small named statements about a class, each of which can be broken; a contract is a list of them."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from torch import Tensor, nn

from qanas.core.candidate import Candidate, Value
from qanas.core.errors import described
from qanas.search_space.settings import Setting
from qanas.search_space.space import SearchSpace

C = TypeVar("C")
T = TypeVar("T")

Property = Callable[[C], None]
"""Looks at a case, which holds what is checked; raises AssertionError with what it saw. Its docstring's first line
says what has to be true."""


def expect(condition: object, seen: str) -> None:
    """Go on where a condition is true.

    Args:
        condition: what has to be true.
        seen: what there is instead.

    Raises:
        AssertionError: it isn't.
    """
    if not condition:
        raise AssertionError(seen)


def hold(name: str, case: C, properties: Sequence[Property[C]]) -> None:
    """Look at every property, in their order.

    Args:
        name: of what is checked.
        case: that the properties look at.
        properties: of the contract.

    Raises:
        AssertionError: one line: which property is broken first, and what was seen.
    """
    for each in properties:
        said = (each.__doc__ or each.__name__.replace("_", " ")).splitlines()[0].rstrip(".")
        try:
            each(case)
        except AssertionError as broken:
            raise AssertionError(f"{name}: broken: {said}: {_one_line(str(broken))}") from None
        except Exception as error:
            raise AssertionError(f"{name}: broken: {said}: {described(error, __file__)}") from error


def refusal(refused: type[Exception] | tuple[type[Exception], ...], do: Callable[[], object], asked: str) -> str:
    """Return how something is refused.

    Args:
        refused: the errors that are a refusal.
        do: what has to be refused.
        asked: in words.

    Raises:
        AssertionError: it isn't, or not in one line.
    """
    try:
        found = do()
    except refused as error:
        text = str(error)
        expect(text.strip(), f"{asked} is refused without a word ({type(error).__name__})")
        expect("\n" not in text.strip(), f"{asked} is refused in {len(text.splitlines())} lines")
        return text
    raise AssertionError(f"{asked} isn't refused; it gives {_one_line(repr(found))}")


def through_pickle(thing: T) -> T:
    """Return what another process gets of something."""
    copy: T = pickle.loads(pickle.dumps(thing))  # noqa: S301 - pickled a moment ago
    return copy


def difference(first: object, second: object, name: str = "it") -> str:
    """Return where two results differ, bit by bit; empty where they don't.

    Args:
        first: arrays, tensors, mappings and sequences of them, anything that can be compared.
        second: likewise.
        name: of both, for the text.
    """
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        first, second = first.detach().cpu().numpy(), second.detach().cpu().numpy()
    if isinstance(first, np.ndarray) and isinstance(second, np.ndarray):
        return _array_difference(first, second, name)
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        if list(first) != list(second):
            return f"{name} has {', '.join(map(str, first))}, then {', '.join(map(str, second))}"
        return next(filter(None, (difference(first[key], second[key], f"{name}.{key}") for key in first)), "")
    if isinstance(first, list | tuple) and isinstance(second, list | tuple):
        if len(first) != len(second):
            return f"{name} has {len(first)} entries, then {len(second)}"
        pairs = enumerate(zip(first, second, strict=True))
        return next(filter(None, (difference(a, b, f"{name}[{place}]") for place, (a, b) in pairs)), "")
    return "" if first == second or (first != first and second != second) else f"{name} is {first!r}, then {second!r}"  # noqa: PLR0124 - NaN


def _array_difference(first: NDArray[Any], second: NDArray[Any], name: str) -> str:
    """Compare arrays of any shape; ragged ones, of objects, row by row."""
    if (first.shape, first.dtype) != (second.shape, second.dtype):
        return f"{name} is {first.dtype} of shape {first.shape}, then {second.dtype} of shape {second.shape}"
    if first.dtype == object:
        return difference(list(first), list(second), name)
    if first.tobytes() == second.tobytes():
        return ""
    unequal = int(np.count_nonzero(first != second))
    return f"{name} has {unequal} of {first.size} values that differ"


def with_global_seed(seed: int, do: Any) -> Any:  # noqa: ANN401 - a function and its result
    """Return what a function gives when the global generators are in some state, and leave them as they are."""
    kept = np.random.get_state()  # noqa: NPY002 - others' use of it
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        try:
            return do()
        finally:
            np.random.set_state(kept)  # noqa: NPY002


def states(network: nn.Module) -> dict[str, NDArray[Any]]:
    """Return a copy of a network's weights and statistics by name, in their own shapes."""
    return {name: tensor.detach().cpu().numpy().copy() for name, tensor in network.state_dict().items()}


def random_samples(count: int, shape: Sequence[int], seed: int = 0) -> Tensor:
    """Return normal values, shape (count, *shape)."""
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed))


def random_candidate(space: SearchSpace, seed: int) -> Candidate:
    """Return a candidate whose free settings are drawn from their ranges."""
    generator = np.random.default_rng(seed)

    def drawn(name: str, distribution: object) -> Value:
        match distribution:
            case IntDistribution():
                return int(generator.integers(distribution.low, distribution.high + 1))
            case FloatDistribution():
                return float(generator.uniform(distribution.low, distribution.high))
            case CategoricalDistribution():
                chosen: Value = distribution.choices[int(generator.integers(len(distribution.choices)))]  # type: ignore[assignment]
                return chosen
        raise TypeError(f"{name}: no setting has a {type(distribution).__name__}")

    return space.sample(drawn)


def extremes(setting: Setting) -> tuple[Value, Value]:
    """Return the two ends of a setting's range, or its first and last option."""
    match setting.distribution:
        case IntDistribution() | FloatDistribution() as span:
            return span.low, span.high
        case CategoricalDistribution() as options:
            return options.choices[0], options.choices[-1]  # type: ignore[return-value]
    raise TypeError(f"{setting.name}: no setting has a {type(setting.distribution).__name__}")


def outside(space: SearchSpace, candidate: Candidate) -> str:
    """Return which setting of a candidate is out of its range, missing or too many; empty where none is."""
    values = {name: value for group in candidate.config.values() for name, value in group.items()}
    seen: dict[str, Value] = {}
    for setting in space.settings:
        free = setting.group in space.free
        if setting.group == "input" and not free:
            continue
        if setting.exists(seen) != (setting.name in values):
            return f"{setting.name} is {'missing' if setting.exists(seen) else 'there without its condition'}"
        if not setting.exists(seen):
            continue
        seen[setting.name] = values[setting.name]
        if free and not _covers(setting, values[setting.name]):
            return f"{setting.name} = {values[setting.name]!r} is out of its range {setting.distribution}"
        if not free and values[setting.name] != setting.reference:
            return f"{setting.name} = {values[setting.name]!r}, though {setting.group} is not searched"
    unknown = sorted(values.keys() - seen.keys())
    return f"there is no setting {unknown[0]}" if unknown else ""


def _covers(setting: Setting, value: Value) -> bool:
    try:
        return setting.distribution._contains(setting.distribution.to_internal_repr(value))
    except ValueError:
        return False


def _one_line(text: str) -> str:
    return " ".join(text.split())[:400]
