"""Latency by formula: cycles by multiply-accumulate, byte and operator, fitted to published or measured points.

On a microcontroller with all data in its SRAM, cycles follow the multiply-accumulates to some ten per cent within one
family of networks (Banbury et al. 2021); where data leave the SRAM it is off by a factor. Each device's file says what
it was fitted to, and how far off each point is.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from qanas.core.errors import InputError
from qanas.deployment.tflite_reader import read_tflite
from qanas.hardware.latency.base import Figure, LatencySource
from qanas.hardware.work import Work, work_of
from qanas.quantization.program import Program

Term = Literal["convolution", "depthwise", "dense", "recurrent", "byte", "operator"]
"""What cycles are counted for: a multiply-accumulate of a kind of kernel, a moved byte, an operator."""

Floats = NDArray[np.float64]


class Analytic(LatencySource):
    """A sum over operators.

    Attributes:
        source: where the numbers are from.
        cycles: of one of each; a kind of kernel that isn't named takes as many as ``convolution``.
    """

    method: Literal["analytic"]
    source: str = Field(min_length=1)
    cycles: Mapping[Term, Annotated[float, Field(ge=0, allow_inf_nan=False)]]

    @field_validator("cycles")
    @classmethod
    def _takes_some(cls, cycles: Mapping[Term, float]) -> Mapping[Term, float]:
        if not any(cycles.values()):
            raise ValueError("a network would take no time: give cycles of a multiply-accumulate of a convolution")
        return cycles

    @property
    def figure(self) -> Figure:
        """Cycles."""
        return "cycles"

    @property
    def additive(self) -> bool:
        """It is."""
        return True

    @property
    def overhead(self) -> float:
        """None."""
        return 0.0

    @property
    def described(self) -> str:
        """That nothing was measured."""
        return f"by formula, not measured; {self.source}"

    def of(self, contents: Sequence[bytes]) -> list[float]:
        """Return the cycles of each file.

        Raises:
            InputError: it is no .tflite file, or has an operator that nothing is known of.
        """
        return [sum(self.by_operator(read_tflite(content))) for content in contents]

    def by_operator(self, program: Program) -> list[float]:
        """Return the cycles of each operator.

        Raises:
            InputError: nothing is known of one.
        """
        try:
            return [self.of_work([work_of(operator)]) for operator in program.operators]
        except ValueError as error:
            raise InputError(str(error)) from error

    def of_work(self, works: Sequence[Work]) -> float:
        """Return the cycles of some operators' work."""
        return self.of_counts(counts(works))

    def of_counts(self, numbers: Mapping[Term, float]) -> float:
        """Return the cycles of so many of each term."""
        usual = self.cycles.get("convolution", 0.0)
        others = {"byte": 0.0, "operator": 0.0}
        return sum(n * self.cycles.get(term, others.get(term, usual)) for term, n in numbers.items())


def counts(works: Sequence[Work]) -> dict[Term, float]:
    """Return how many of each term some operators have."""
    found: dict[Term, float] = {"byte": 0.0, "operator": float(len(works))}
    for work in works:
        if work.kind == "moving":
            found["byte"] += work.moved_bytes
        else:
            found[work.kind] = found.get(work.kind, 0.0) + work.macs
    return found


def fitted(points: Sequence[tuple[Mapping[Term, float], float]], terms: Sequence[Term]) -> dict[Term, float]:
    """Return the cycles of each term that come nearest to some points: least squares of relative errors, none below 0.

    Args:
        points: how many of each term a network has, and its cycles.
        terms: that are fitted; the others' numbers are counted as convolution where they are multiply-accumulates.

    Raises:
        InputError: there are fewer points than terms.

    >>> fitted([({"convolution": 2.0, "operator": 1.0}, 9.0), ({"convolution": 1.0, "operator": 1.0}, 5.0)],
    ...        ["convolution", "operator"])
    {'convolution': 4.0, 'operator': 1.0}
    """
    if len(points) < len(terms):
        raise InputError(f"{len(points)} points can't tell {len(terms)} numbers apart; give more points or fewer terms")
    matrix = np.array([[row.get(term, 0.0) for term in terms] for row in (_merged(p, terms) for p, _ in points)])
    relative = matrix / np.array([cycles for _, cycles in points])[:, None]
    best = min((_subset(relative, chosen) for chosen in _subsets(len(terms))), key=lambda found: found[1])[0]
    return {term: float(round(value, 6)) for term, value in zip(terms, best, strict=True)}


def _merged(numbers: Mapping[Term, float], terms: Sequence[Term]) -> dict[Term, float]:
    """Return a point's numbers with the multiply-accumulates of kinds that aren't fitted among the convolutions'."""
    merged = {term: number for term, number in numbers.items() if term in terms}
    others = [n for term, n in numbers.items() if term not in terms and term not in {"byte", "operator"}]
    if "convolution" in terms:
        merged["convolution"] = merged.get("convolution", 0.0) + sum(others)
    return merged


def _subsets(count: int) -> list[tuple[int, ...]]:
    every = range(count)
    return [chosen for size in range(1, count + 1) for chosen in itertools.combinations(every, size)]


def _subset(relative: Floats, chosen: tuple[int, ...]) -> tuple[Floats, float]:
    """Return the least squares solution with all but some columns at 0, and its error; infinite below 0.

    Of so few columns, the best of all subsets without a negative number is the constrained optimum.
    """
    solution = np.zeros(relative.shape[1])
    target = np.ones(len(relative))
    solution[list(chosen)] = np.linalg.lstsq(relative[:, chosen], target, rcond=None)[0]
    error = float(np.square(relative @ solution - target).sum())
    return solution, error if (solution >= 0).all() else np.inf
